#include "tests/sim/sim_image.h"

#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"

#define BLOCK_SIZE 4096u

/* ---- files ---------------------------------------------------------------------------------------- */

static void file_free(struct sim_file *file)
{
    mem_free(file->data);
    mem_free(file->dirty);
    mem_free(file);
}

void sim_image_grow(struct sim_file *file, uint64_t size)
{
    if (size <= file->capacity) return;
    const uint64_t capacity = align_up(size, BLOCK_SIZE);
    uint8_t *data = mem_zero(capacity);
    if (file->used > 0) memcpy(data, file->data, file->used);
    mem_free(file->data);
    file->data = data;
    file->capacity = capacity;
}

void sim_image_cut(struct sim_file *file, uint64_t size)
{
    CHECK(size <= file->size);
    if (size < file->used) {
        memset(file->data + size, 0, file->used - size);
        file->used = size;
    }
    file->size = size;
}

static struct sim_file *file_copy(const struct sim_file *file)
{
    struct sim_file *copy = mem_copy(file, sizeof *file);
    copy->data = mem_zero(file->capacity);
    if (file->used > 0) memcpy(copy->data, file->data, file->used);
    copy->dirty = mem_copy(file->dirty, file->dirty_count * sizeof *file->dirty);
    copy->dirty_capacity = file->dirty_count;
    copy->open_count = 0;
    copy->twin = NULL;
    copy->next = NULL;
    return copy;
}

void sim_image_synced(struct sim_file *file)
{
    file->dirty_count = 0;
    file->size_durable = file->size;
}

/* Remembers what sector @number held, unless it is dirty already. Recent ones are found first. */
static void file_dirty(struct sim_file *file, uint64_t number)
{
    for (uint32_t i = file->dirty_count; i > 0 && file->dirty_count < 64; i--) {
        if (file->dirty[i - 1].number == number) return;
    }
    if (file->dirty_count == file->dirty_capacity) {
        file->dirty_capacity = file->dirty_capacity * 2 + 16;
        file->dirty = mem_resize(file->dirty, file->dirty_capacity * sizeof *file->dirty);
    }
    struct sim_sector *sector = &file->dirty[file->dirty_count++];
    sector->number = number;
    memset(sector->old, 0, sizeof sector->old);
    const uint64_t start = number * SIM_DISK_SECTOR_SIZE;
    if (start < file->capacity) memcpy(sector->old, file->data + start, SIM_DISK_SECTOR_SIZE);
}

/* Writes within the sectors that @keep has marked; NULL: all of them. */
void sim_image_write(struct sim_file *file, uint64_t offset, struct slice data, const uint8_t *keep)
{
    if (data.size == 0) return;
    const uint64_t end = offset + data.size;
    sim_image_grow(file, end);
    if (end > file->size) file->size = end;
    const uint64_t first = offset / SIM_DISK_SECTOR_SIZE;
    for (uint64_t number = first; number * SIM_DISK_SECTOR_SIZE < end; number++) {
        if (keep != NULL && keep[number - first] == 0) continue;
        const uint64_t start = number * SIM_DISK_SECTOR_SIZE;
        const uint64_t from = start > offset ? start : offset;
        const uint64_t sector_end = start + SIM_DISK_SECTOR_SIZE;
        const uint64_t to = sector_end < end ? sector_end : end;
        file_dirty(file, number);
        memcpy(file->data + from, data.data + (from - offset), to - from);
        if (to > file->used) file->used = to;
    }
}

/* ---- images --------------------------------------------------------------------------------------- */

struct sim_file *sim_image_find(const struct sim_image *image, const char *name)
{
    for (struct sim_file *file = image->files; file != NULL; file = file->next) {
        if (file->is_linked && strcmp(file->name, name) == 0) return file;
    }
    return NULL;
}

struct sim_file *sim_image_add(struct sim_image *image, const char *name)
{
    struct sim_file *file = mem_zero(sizeof *file);
    CHECK(strlen(name) <= SIM_DISK_NAME_MAX);
    memcpy(file->name, name, strlen(name) + 1);
    file->is_linked = true;
    struct sim_file **place = &image->files;
    while (*place != NULL) place = &(*place)->next;
    *place = file;
    return file;
}

/* Frees files that no name and no handle leads to any more. */
void sim_image_sweep(struct sim_image *image)
{
    struct sim_file **place = &image->files;
    while (*place != NULL) {
        struct sim_file *file = *place;
        if (file->is_linked || file->is_removing || file->open_count > 0) {
            place = &file->next;
            continue;
        }
        *place = file->next;
        file_free(file);
    }
}

void sim_image_copy(const struct sim_image *from, struct sim_image *to)
{
    *to = (struct sim_image){0};
    struct sim_file **place = &to->files;
    for (struct sim_file *file = from->files; file != NULL; file = file->next) {
        file->twin = NULL;
        if (!file->is_linked && !file->is_removing) continue;
        file->twin = *place = file_copy(file);
        place = &(*place)->next;
    }
    struct sim_folder **folder_place = &to->folders;
    for (const struct sim_folder *folder = from->folders; folder != NULL; folder = folder->next) {
        *folder_place = mem_copy(folder, sizeof *folder);
        (*folder_place)->next = NULL;
        folder_place = &(*folder_place)->next;
    }
}

void sim_image_close(struct sim_image *image)
{
    while (image->files != NULL) {
        struct sim_file *next = image->files->next;
        file_free(image->files);
        image->files = next;
    }
    while (image->folders != NULL) {
        struct sim_folder *next = image->folders->next;
        mem_free(image->folders);
        image->folders = next;
    }
}

/* Bytes of @name that name its folder; 0: the root. */
uint64_t sim_image_folder_size(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash == NULL ? 0 : (uint64_t)(slash - name);
}

static bool folder_same(const char *a, const char *b)
{
    const uint64_t size = sim_image_folder_size(a);
    return size == sim_image_folder_size(b) && memcmp(a, b, size) == 0;
}

bool sim_image_has_folder(const struct sim_image *image, const char *name, uint64_t size)
{
    if (size == 0 || (size == 1 && name[0] == '.')) return true;
    for (const struct sim_folder *folder = image->folders; folder != NULL; folder = folder->next) {
        if (strlen(folder->name) == size && memcmp(folder->name, name, size) == 0) return true;
    }
    return false;
}

/* The sync of a folder makes what was removed from it before surely gone. */
void sim_image_folder_synced(struct sim_image *image, const char *name)
{
    for (struct sim_file *file = image->files; file != NULL; file = file->next) {
        if (file->is_removing && folder_same(file->name, name)) file->is_removing = false;
    }
}

uint64_t sim_image_used(const struct sim_image *image)
{
    uint64_t used = 0;
    for (const struct sim_file *file = image->files; file != NULL; file = file->next) {
        /* What is removed and not open takes no space, even if a power cut may bring it back. */
        if (!file->is_linked && file->open_count == 0) continue;
        used += align_up(file->size, BLOCK_SIZE);
    }
    return used;
}

/* Gives @file the name @name in place of whatever had it. */
void sim_image_link(struct sim_image *image, struct sim_file *file, const char *name)
{
    struct sim_file *old = sim_image_find(image, name);
    if (old != NULL && old != file) old->is_linked = false;
    memcpy(file->name, name, strlen(name) + 1);
    file->is_linked = true;
    sim_image_folder_synced(image, name);
}

static int name_compare(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Appends the names of the files in @folder (NULL: of all), sorted; without the folder if given. */
void sim_image_names(const struct sim_image *image, const char *folder, struct buf *names)
{
    uint64_t count = 0;
    for (const struct sim_file *file = image->files; file != NULL; file = file->next) count++;
    const char **list = mem_alloc((count + 1) * sizeof *list);
    const uint64_t size = folder == NULL || strcmp(folder, ".") == 0 ? 0 : strlen(folder);
    count = 0;
    for (const struct sim_file *file = image->files; file != NULL; file = file->next) {
        if (!file->is_linked) continue;
        if (folder != NULL && sim_image_folder_size(file->name) != size) continue;
        if (folder != NULL && memcmp(file->name, folder, size) != 0) continue;
        list[count++] = size > 0 ? file->name + size + 1 : file->name;
    }
    qsort(list, count, sizeof *list, name_compare);
    for (uint64_t i = 0; i < count; i++) buf_append(names, list[i], strlen(list[i]) + 1);
    mem_free(list);
}
