#include "storage/slab.h"

#include <stdbool.h>
#include <stddef.h>

#include "storage/base/bytes.h"
#include "storage/base/check.h"
#include "storage/base/mem.h"

/* The free slots of a chunk, and the free chunks of a region, are linked through themselves. */
struct link {
    struct link *next;
};

struct slab_region {
    struct list list;
    uint8_t *chunks; /* The first one, aligned to its size. */
    struct link *free;
    uint32_t count; /* Chunks. */
    uint32_t fresh; /* Chunks never used so far: the last ones. */
    uint32_t used;
};

/* At the start of every chunk in use. */
struct chunk {
    struct list list; /* In partial when it has room, else by itself. */
    struct slab_region *region;
    struct link *free;
    uint16_t size; /* Of a slot, in bytes. */
    uint16_t used; /* Slots. */
    uint16_t end;  /* Where the slots begin that were never used so far. */
};

struct large {
    struct list list;
    uint8_t bytes[];
};

STATIC_CHECK(SLAB_CHUNK_SIZE <= UINT16_MAX, "offsets within a chunk fit in 16 bits");
STATIC_CHECK(sizeof(struct chunk) % SLAB_UNIT == 0, "the slots of a chunk are aligned");

/* Bytes to allocate for a region of @count chunks: its header, and one chunk more for what is lost
 * before the first one by alignment. */
static uint64_t region_size(uint32_t count)
{
    return sizeof(struct slab_region) + (count + 1ull) * SLAB_CHUNK_SIZE;
}

void slab_init(struct slab *slab)
{
    *slab = (struct slab){.region_chunks = SLAB_REGION_CHUNKS_MIN};
    for (uint32_t i = 0; i < SLAB_SMALL_MAX / SLAB_UNIT; i++) list_init(&slab->partial[i]);
    list_init(&slab->regions);
    list_init(&slab->larges);
}

void slab_close(struct slab *slab)
{
    while (!list_empty(&slab->regions)) {
        struct slab_region *region = LIST_ITEM(slab->regions.next, struct slab_region, list);
        list_remove(&region->list);
        mem_free(region);
    }
    while (!list_empty(&slab->larges)) {
        struct large *large = LIST_ITEM(slab->larges.next, struct large, list);
        list_remove(&large->list);
        mem_free(large);
    }
    slab_init(slab);
}

/* ---- regions --------------------------------------------------------------------------------- */

static struct slab_region *region_create(struct slab *slab)
{
    const uint32_t count = slab->region_chunks - 1;
    const uint64_t size = region_size(count);
    struct slab_region *region = mem_alloc(size);
    const uintptr_t first = align_up((uintptr_t)(region + 1), SLAB_CHUNK_SIZE);
    *region = (struct slab_region){.count = count, .fresh = count};
    region->chunks = (uint8_t *)region + (first - (uintptr_t)region);
    CHECK(first + (uint64_t)count * SLAB_CHUNK_SIZE <= (uintptr_t)region + size);
    list_init(&region->list);
    list_append(slab->regions.next, &region->list); /* Before the first: it has room. */
    slab->memory += size;
    if (slab->region_chunks < SLAB_REGION_CHUNKS_MAX) slab->region_chunks *= 2;
    return region;
}

static void region_free(struct slab *slab, struct slab_region *region)
{
    list_remove(&region->list);
    slab->memory -= region_size(region->count);
    mem_free(region);
}

static struct chunk *chunk_take(struct slab *slab, uint16_t size)
{
    struct slab_region *region = LIST_ITEM(slab->regions.next, struct slab_region, list);
    struct chunk *chunk = NULL;
    if (list_empty(&slab->regions) || region->used == region->count) region = region_create(slab);
    if (region == slab->spare) slab->spare = NULL;
    if (region->free != NULL) {
        chunk = (void *)region->free;
        region->free = region->free->next;
    } else {
        CHECK(region->fresh > 0);
        chunk = (void *)(region->chunks +
                         (region->count - region->fresh) * (uint64_t)SLAB_CHUNK_SIZE);
        region->fresh--;
    }
    region->used++;
    if (region->used == region->count) {
        list_remove(&region->list);
        list_append(&slab->regions, &region->list);
    }
    *chunk = (struct chunk){.region = region, .size = size, .end = sizeof *chunk};
    list_init(&chunk->list);
    list_append(&slab->partial[size / SLAB_UNIT - 1], &chunk->list);
    return chunk;
}

static void chunk_give(struct slab *slab, struct chunk *chunk)
{
    struct slab_region *region = chunk->region;
    struct link *link = (void *)chunk;
    list_remove(&chunk->list);
    link->next = region->free;
    region->free = link;
    if (region->used == region->count) {
        list_remove(&region->list);
        list_append(slab->regions.next, &region->list);
    }
    region->used--;
    if (region->used > 0) return;
    if (slab->spare != NULL) region_free(slab, slab->spare);
    slab->spare = region;
}

/* ---- use ------------------------------------------------------------------------------------- */

static void *alloc_large(struct slab *slab, uint64_t size)
{
    struct large *large = mem_alloc(sizeof *large + size);
    slab->memory += sizeof *large + size;
    list_init(&large->list);
    list_append(&slab->larges, &large->list);
    return large->bytes;
}

static bool chunk_full(const struct chunk *chunk)
{
    return chunk->free == NULL && chunk->end + chunk->size > (int)SLAB_CHUNK_SIZE;
}

void *slab_alloc(struct slab *slab, uint64_t size)
{
    CHECK(size > 0);
    CHECK(size % SLAB_UNIT == 0);
    slab->used += size;
    if (size > SLAB_SMALL_MAX) return alloc_large(slab, size);
    struct list *partial = &slab->partial[size / SLAB_UNIT - 1];
    struct chunk *chunk = list_empty(partial) ? chunk_take(slab, (uint16_t)size)
                                              : LIST_ITEM(partial->next, struct chunk, list);
    void *slot = chunk->free;
    if (slot != NULL) {
        chunk->free = chunk->free->next;
    } else {
        slot = (uint8_t *)chunk + chunk->end;
        chunk->end = (uint16_t)(chunk->end + size);
    }
    chunk->used++;
    if (chunk_full(chunk)) list_remove(&chunk->list);
    return slot;
}

void slab_free(struct slab *slab, void *pointer, uint64_t size)
{
    CHECK(size <= slab->used);
    slab->used -= size;
    if (size > SLAB_SMALL_MAX) {
        struct large *large = LIST_ITEM(pointer, struct large, bytes);
        list_remove(&large->list);
        slab->memory -= sizeof *large + size;
        mem_free(large);
        return;
    }
    struct chunk *chunk = (void *)((uint8_t *)pointer - (uintptr_t)pointer % SLAB_CHUNK_SIZE);
    struct link *link = pointer;
    CHECK(chunk->size == size);
    CHECK(chunk->used > 0);
    if (chunk_full(chunk)) list_append(&slab->partial[size / SLAB_UNIT - 1], &chunk->list);
    link->next = chunk->free;
    chunk->free = link;
    chunk->used--;
    if (chunk->used == 0) chunk_give(slab, chunk);
}

/* ---- check ----------------------------------------------------------------------------------- */

void slab_check(const struct slab *slab)
{
    bool full = false;
    uint64_t memory = 0;
    for (const struct list *at = slab->regions.next; at != &slab->regions; at = at->next) {
        const struct slab_region *region = LIST_ITEM(at, struct slab_region, list);
        CHECK(region->used <= region->count);
        if (full) CHECK(region->used == region->count);
        full = region->used == region->count;
        CHECK((region->used == 0) == (region == slab->spare));
        uint32_t free = region->fresh;
        for (const struct link *link = region->free; link != NULL; link = link->next) free++;
        CHECK(free + region->used == region->count);
        memory += region_size(region->count);
    }
    for (uint32_t i = 0; i < SLAB_SMALL_MAX / SLAB_UNIT; i++) {
        const struct list *partial = &slab->partial[i];
        for (const struct list *at = partial->next; at != partial; at = at->next) {
            const struct chunk *chunk = LIST_ITEM(at, struct chunk, list);
            CHECK(chunk->size == (i + 1) * SLAB_UNIT);
            CHECK(!chunk_full(chunk));
            CHECK(chunk->used > 0);
            uint32_t slots = chunk->used;
            for (const struct link *link = chunk->free; link != NULL; link = link->next) slots++;
            CHECK(sizeof *chunk + slots * chunk->size == chunk->end);
        }
    }
    CHECK(memory <= slab->memory);
    if (list_empty(&slab->larges)) CHECK(memory == slab->memory);
    CHECK(slab->used <= slab->memory);
}
