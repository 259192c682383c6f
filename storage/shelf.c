#include "storage/shelf.h"

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/effect.h"
#include "storage/log_index.h"

void shelf_close(struct shelf *shelf)
{
    for (uint32_t i = 0; i < shelf->count; i++) mem_free(shelf->files[i]);
    mem_free(shelf->files);
    mem_free(shelf->order);
    *shelf = (struct shelf){0};
}

/* Position of the first file whose number is not below @number. */
static uint32_t position_of(const struct shelf *shelf, uint32_t number)
{
    uint32_t low = 0;
    uint32_t high = shelf->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (shelf->files[middle]->file.number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct shelf_file *shelf_find(struct shelf *shelf, uint32_t number)
{
    struct shelf_file *recent = shelf->recent;
    if (recent != NULL && recent->file.number == number) return recent;
    const uint32_t at = position_of(shelf, number);
    if (at == shelf->count || shelf->files[at]->file.number != number) return NULL;
    shelf->recent = shelf->files[at];
    return shelf->recent;
}

struct shelf_file *shelf_add_aside(struct shelf *shelf, const struct log_file *file)
{
    const uint32_t at = position_of(shelf, file->number);
    CHECK(file->number > 0);
    if (at < shelf->count) CHECK(shelf->files[at]->file.number != file->number);
    shelf->files = log_index_grow(shelf->files, shelf->count, &shelf->capacity,
                                  sizeof(struct shelf_file *));
    memmove(&shelf->files[at + 1], &shelf->files[at],
            (shelf->count - at) * sizeof(struct shelf_file *));
    shelf->count++;
    struct shelf_file *added = mem_alloc(sizeof *added);
    *added = (struct shelf_file){.file = *file, .handle = -1};
    shelf->files[at] = added;
    return added;
}

struct shelf_file *shelf_add(struct shelf *shelf, const struct log_file *file)
{
    struct shelf_file *added = shelf_add_aside(shelf, file);
    if (file->first_index > file->last_index) return added;
    shelf->order = log_index_grow(shelf->order, shelf->order_count, &shelf->order_capacity,
                                  sizeof(struct shelf_file *));
    shelf->order[shelf->order_count++] = added;
    return added;
}

struct shelf_file *shelf_of_index(const struct shelf *shelf, uint64_t index)
{
    uint32_t low = 0; /* the first file that reaches @index */
    uint32_t high = shelf->order_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (shelf->order[middle]->file.last_index < index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == shelf->order_count || shelf->order[low]->file.first_index > index) return NULL;
    return shelf->order[low];
}

void shelf_replace(struct shelf *shelf, const uint32_t *numbers, uint32_t count,
                   struct shelf_file *table)
{
    uint32_t kept = 0;
    bool is_placed = table == NULL;
    for (uint32_t at = 0; at < shelf->order_count; at++) {
        struct shelf_file *file = shelf->order[at];
        bool is_replaced = false;
        for (uint32_t i = 0; i < count; i++) {
            if (file->file.number == numbers[i]) is_replaced = true;
        }
        if (!is_replaced) {
            shelf->order[kept++] = file;
        } else if (!is_placed) {
            shelf->order[kept++] = table;
            is_placed = true;
        }
    }
    CHECK(is_placed);
    shelf->order_count = kept;
}

void shelf_drop(struct shelf *shelf, struct shelf_file *file)
{
    const uint32_t at = position_of(shelf, file->file.number);
    CHECK(at < shelf->count);
    CHECK(shelf->files[at] == file);
    shelf->count--;
    memmove(&shelf->files[at], &shelf->files[at + 1],
            (shelf->count - at) * sizeof(struct shelf_file *));
    if (shelf->recent == file) shelf->recent = NULL;
    mem_free(file);
}

/* ---- what lives ----------------------------------------------------------------------------------- */

static bool stands_for(const struct shelf_file *file, uint64_t index)
{
    return index >= file->file.first_index && index <= file->file.last_index;
}

static uint64_t expiry_size(uint64_t key_size)
{
    return align_up(EFFECT_HEADER_SIZE + key_size, 8);
}

/* An effect that set the expiry of a key is not in force any more. It counted only if it lies in another file
 * than the put: in the same one, compaction makes one item of both. */
static void expiry_dead(struct shelf *shelf, const struct shelf_file *put, uint64_t revision,
                        uint64_t key_size)
{
    const uint64_t index = revision_index(revision);
    if (stands_for(put, index)) return;
    struct shelf_file *file = shelf_of_index(shelf, index);
    if (file != NULL) shelf_live_take(file, expiry_size(key_size));
}

void shelf_dead(struct shelf *shelf, const struct keydir_dead *dead, uint64_t key_size)
{
    if (dead->size == 0) return;
    struct shelf_file *put = shelf_find(shelf, dead->file);
    CHECK(put != NULL);
    shelf_live_take(put, dead->size);
    expiry_dead(shelf, put, dead->revision, key_size);
}

void shelf_expiry(struct shelf *shelf, struct shelf_file *file, const struct keydir_info *before)
{
    const struct shelf_file *put = shelf_find(shelf, before->place.file);
    CHECK(put != NULL);
    expiry_dead(shelf, put, before->revision, before->key.size);
    if (put != file) shelf_live_add(file, expiry_size(before->key.size));
}

void shelf_flush(struct shelf *shelf)
{
    for (uint32_t i = 0; i < shelf->count; i++) shelf->files[i]->live = 0;
}

uint64_t shelf_live(const struct shelf *shelf)
{
    uint64_t live = 0;
    for (uint32_t i = 0; i < shelf->count; i++) {
        const struct shelf_file *file = shelf->files[i];
        const bool counts = file->state == SHELF_GROWING || file->state == SHELF_SEALED;
        if (counts) live += file->live;
    }
    return live;
}

void shelf_check(const struct shelf *shelf)
{
    for (uint32_t i = 1; i < shelf->count; i++) {
        CHECK(shelf->files[i - 1]->file.number < shelf->files[i]->file.number);
    }
    uint64_t last_index = 0;
    for (uint32_t i = 0; i < shelf->order_count; i++) {
        const struct log_file *file = &shelf->order[i]->file;
        CHECK(file->first_index > last_index);
        CHECK(file->last_index + 1 >= file->first_index);
        last_index = file->last_index;
    }
}
