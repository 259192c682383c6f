#include "storage/tail.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"

void tail_init(struct tail *tail, uint64_t size_max)
{
    *tail = (struct tail){.size_max = size_max};
}

static struct tail_image *image_at(const struct tail *tail, uint32_t position)
{
    return &tail->images[(tail->start + position) & (tail->capacity - 1)];
}

static void evict_oldest(struct tail *tail)
{
    struct tail_image *image = image_at(tail, 0);
    tail->size -= image->bytes.capacity;
    buf_close(&image->bytes);
    tail->start = (tail->start + 1) & (tail->capacity - 1);
    tail->count--;
}

void tail_close(struct tail *tail)
{
    while (tail->count > 0) evict_oldest(tail);
    CHECK(tail->size == 0);
    mem_free(tail->images);
    *tail = (struct tail){0};
}

static void grow(struct tail *tail)
{
    const uint32_t capacity = tail->capacity > 0 ? tail->capacity * 2 : 16;
    struct tail_image *images = mem_alloc(capacity * sizeof *images);
    for (uint32_t i = 0; i < tail->count; i++) images[i] = *image_at(tail, i);
    mem_free(tail->images);
    tail->images = images;
    tail->capacity = capacity;
    tail->start = 0;
}

static bool is_before(uint32_t file, uint32_t offset, const struct tail_image *image)
{
    return file < image->file || (file == image->file && offset < image->offset);
}

struct slice tail_add(struct tail *tail, uint32_t file, uint32_t offset, struct buf *bytes)
{
    CHECK(bytes->size > 0);
    if (tail->count > 0) {
        const struct tail_image *newest = image_at(tail, tail->count - 1);
        CHECK(!is_before(file, offset, newest));
        CHECK(newest->file != file || newest->offset + newest->bytes.size <= offset);
    }
    while (tail->count > 0 && tail->size + bytes->capacity > tail->size_max) evict_oldest(tail);
    if (tail->count == tail->capacity) grow(tail);
    struct tail_image *image = image_at(tail, tail->count);
    *image = (struct tail_image){.file = file, .offset = offset, .bytes = *bytes};
    tail->count++;
    tail->size += bytes->capacity;
    *bytes = (struct buf){0};
    return buf_slice(&image->bytes);
}

struct slice tail_find(const struct tail *tail, uint32_t file, uint32_t offset, uint64_t size)
{
    /* The last image that does not begin behind the place. */
    uint32_t low = 0;
    uint32_t high = tail->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (is_before(file, offset, image_at(tail, middle))) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (low == 0) return (struct slice){0};
    const struct tail_image *image = image_at(tail, low - 1);
    const uint64_t begin = offset - image->offset;
    if (image->file != file || begin > image->bytes.size) return (struct slice){0};
    if (size > image->bytes.size - begin) return (struct slice){0};
    return slice_of(image->bytes.data + begin, size);
}

void tail_check(const struct tail *tail)
{
    CHECK(tail->count <= tail->capacity);
    CHECK(tail->count <= 1 || tail->size <= tail->size_max);
    if (tail->count > 0) CHECK(image_at(tail, 0)->bytes.size > 0);
}
