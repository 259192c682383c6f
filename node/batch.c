#include "node/batch.h"

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/reserved.h"

#define BUCKET_COUNT_MIN 1024u
#define SPARE_BUFFER_MAX (4u * MIB)

struct batch_node {
    uint64_t hash;
    struct batch *batch;
    uint64_t offset;         /* Of the effect in the batch's record. */
    struct batch_node *next; /* In the bucket, or in the free list. */
    struct batch_node **at;  /* What points to it, in the bucket or the node before it. */
    struct batch_node *batch_next;
    /* Who has the key's value: the node itself, or, when it changes the expiry alone, an older one, which is gone once
     * its batch is retired. NULL: the keydir. */
    const struct batch_node *value;
    uint64_t value_number;   /* Its batch. */
    uint64_t era;            /* Hidden when a FLUSH began another one. */
    uint64_t touched_before; /* What the key's place in batches.touched held. */
    uint32_t ordinal;        /* Among the effects of its batch. */
    bool is_reserved;        /* Its key is the server's own. */
};

static struct batch *batch_create(struct batches *batches, uint64_t number)
{
    struct batch *batch = batches->spare;
    if (batch != NULL) {
        batches->spare = NULL;
    } else {
        batch = mem_zero(sizeof *batch);
    }
    list_init(&batch->link);
    batch->number = number;
    batch->index = 0;
    batch->effect_count = 0;
    batch->nodes = NULL;
    batch->record.size = 0;
    memset(buf_extend(&batch->record, RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE), 0,
           RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE);
    return batch;
}

static void batch_free(struct batches *batches, struct batch *batch)
{
    batch->is_stub = false;
    if (batches->spare == NULL && batch->record.capacity <= SPARE_BUFFER_MAX) {
        batches->spare = batch;
        return;
    }
    buf_close(&batch->record);
    buf_close(&batch->stub);
    mem_free(batch);
}

void batches_init(struct batches *batches)
{
    *batches = (struct batches){.bucket_count = BUCKET_COUNT_MIN};
    list_init(&batches->flying);
    batches->buckets = mem_zero(BUCKET_COUNT_MIN * sizeof(struct batch_node *));
    batches->touched = mem_zero(BATCH_TOUCHED_COUNT * sizeof(uint64_t));
    batches->open = batch_create(batches, 1);
}

static void bucket_unlink(struct batches *batches, struct batch_node *node)
{
    /* Without a search: thousands of changes of one key may be in flight, and the oldest is the last of its bucket. */
    *node->at = node->next;
    if (node->next != NULL) node->next->at = node->at;
    batches->node_count--;
}

/* The first node of @batch leaves the view. */
static void release_node(struct batches *batches, struct batch *batch)
{
    struct batch_node *node = batch->nodes;
    batch->nodes = node->batch_next;
    bucket_unlink(batches, node);
    batches->reserved_count -= node->is_reserved;
    node->next = batches->free_nodes;
    batches->free_nodes = node;
}

static void batch_release(struct batches *batches, struct batch *batch)
{
    while (batch->nodes != NULL) release_node(batches, batch);
    if (batches->flush_number == batch->number) batches->flush_number = 0;
    batch_free(batches, batch);
}

void batches_close(struct batches *batches)
{
    batches_drop(batches);
    batch_release(batches, batches->open);
    if (batches->spare != NULL) {
        buf_close(&batches->spare->record);
        buf_close(&batches->spare->stub);
        mem_free(batches->spare);
    }
    while (batches->free_nodes != NULL) {
        struct batch_node *next = batches->free_nodes->next;
        mem_free(batches->free_nodes);
        batches->free_nodes = next;
    }
    mem_free(batches->buckets);
    mem_free(batches->touched);
    *batches = (struct batches){0};
}

static struct effect node_effect(const struct batch_node *node)
{
    struct effect effect = {0};
    uint64_t size = 0;
    const struct buf *record = &node->batch->record;
    const struct slice bytes = slice_of(record->data + node->offset, record->size - node->offset);
    if (node->batch->is_stub) return effect_head(bytes);
    CHECK(effect_decode_trusted(bytes, &effect, &size) == OK);
    return effect;
}

/* The newest effect of @key in flight that no FLUSH hid; NULL: there is none. */
static const struct batch_node *newest(const struct batches *batches, struct slice key,
                                       uint64_t hash, struct effect *effect)
{
    const struct batch_node *node = batches->buckets[hash & (batches->bucket_count - 1)];
    /* Newest first: behind one that a FLUSH hid there are only such. */
    for (; node != NULL && node->era == batches->era; node = node->next) {
        if (node->hash != hash) continue;
        *effect = node_effect(node);
        if (slice_equal(effect->key, key)) return node;
    }
    return NULL;
}

struct batch_hit batches_find(const struct batches *batches, struct slice key)
{
    struct batch_hit hit = {0};
    struct effect effect;
    if (batches->node_count == 0 && batches->flush_number == 0) return hit;
    const struct batch_node *node = newest(batches, key, hash64(key.data, key.size), &effect);
    if (node == NULL) {
        hit.is_hidden = batches->flush_number != 0;
        hit.number = batches->flush_number;
        return hit;
    }
    hit.is_flying = true;
    hit.number = node->batch->number;
    hit.index = node->batch->index;
    hit.ordinal = node->ordinal;
    hit.expiry_ms = effect.expiry_ms;
    hit.exists = effect.kind != EFFECT_DELETE;
    hit.is_expiry_only = node->value == NULL || node->value_number <= batches->retired_number;
    if (hit.is_expiry_only) return hit;
    if (node->value != node) effect = node_effect(node->value);
    hit.value = effect.value;
    hit.is_absent = node->value->batch->is_stub;
    hit.is_packed = (effect.flags & EFFECT_FLAG_LZ4) != 0;
    return hit;
}

static void buckets_grow(struct batches *batches)
{
    const uint32_t count = batches->bucket_count * 2;
    struct batch_node **buckets = mem_zero(count * sizeof *buckets);
    for (uint32_t i = 0; i < batches->bucket_count; i++) {
        /* Two passes keep the order within a chain: newest first. */
        struct batch_node **low = &buckets[i];
        struct batch_node **high = &buckets[i + batches->bucket_count];
        for (struct batch_node *node = batches->buckets[i]; node != NULL; node = node->next) {
            struct batch_node ***tail = (node->hash & batches->bucket_count) != 0 ? &high : &low;
            **tail = node;
            node->at = *tail;
            *tail = &node->next;
        }
        *low = NULL;
        *high = NULL;
    }
    mem_free(batches->buckets);
    batches->buckets = buckets;
    batches->bucket_count = count;
}

static uint64_t *touched_at(const struct batches *batches, uint64_t hash)
{
    return &batches->touched[(hash >> 32) % BATCH_TOUCHED_COUNT];
}

/* Says of @node, which is not in its bucket yet, who has the value of its key. */
static void find_value(const struct batches *batches, struct batch_node *node,
                       const struct effect *effect)
{
    struct effect older;
    node->value = node;
    node->value_number = node->batch->number;
    if (effect->kind != EFFECT_EXPIRE_AT) return;
    const struct batch_node *before = newest(batches, effect->key, node->hash, &older);
    node->value = before != NULL ? before->value : NULL;
    node->value_number = before != NULL ? before->value_number : 0;
}

/* The effect at @offset of the open batch's record becomes the newest of its key. */
static void view_add(struct batches *batches, const struct effect *effect, uint64_t offset)
{
    struct batch *batch = batches->open;
    struct batch_node *node = batches->free_nodes;
    if (node != NULL) {
        batches->free_nodes = node->next;
    } else {
        node = mem_alloc(sizeof *node);
    }
    if (batches->node_count >= batches->bucket_count) buckets_grow(batches);
    const uint64_t hash = hash64(effect->key.data, effect->key.size);
    struct batch_node **bucket = &batches->buckets[hash & (batches->bucket_count - 1)];
    uint64_t *touched = touched_at(batches, hash);
    *node = (struct batch_node){.hash = hash,
                                .batch = batch,
                                .offset = offset,
                                .next = *bucket,
                                .at = bucket,
                                .batch_next = batch->nodes,
                                .era = batches->era,
                                .touched_before = *touched,
                                .ordinal = batch->effect_count - 1,
                                .is_reserved = reserved_key(effect->key)};
    batches->reserved_count += node->is_reserved;
    find_value(batches, node, effect);
    if (node->next != NULL) node->next->at = &node->next;
    *bucket = node;
    *touched = ++batches->change_count;
    batch->nodes = node;
    batches->node_count++;
}

void batches_add(struct batches *batches, const struct effect *effect)
{
    struct batch *batch = batches->open;
    CHECK(batch->effect_count < BATCH_EFFECTS_MAX);
    CHECK(batch->record.size + effect_size(effect) <= RECORD_SIZE_MAX);
    const uint64_t offset = batch->record.size;
    effect_encode(effect, &batch->record);
    batch->effect_count++;
    if (effect->kind == EFFECT_FLUSH) {
        /* It hides every effect in flight before it. */
        batches->era++;
        batches->flush_number = batch->number;
        batches->flush_change = ++batches->change_count;
        return;
    }
    view_add(batches, effect, offset);
}

void batches_add_built(struct batches *batches, const struct effect *effect, struct buf *built)
{
    struct batch *batch = batches->open;
    const uint64_t offset = RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE;
    const uint64_t size = offset + effect_size(effect);
    CHECK(batch->effect_count == 0);
    CHECK(effect->kind == EFFECT_PUT);
    CHECK(built->size == BATCH_BUILT_SIZE + effect->key.size + effect->value.size);
    CHECK(size <= RECORD_SIZE_MAX);
    (void)buf_reserve(built, size - built->size);
    built->size = size;
    memcpy(built->data, batch->record.data, offset);
    /* They may have moved. */
    struct effect there = *effect;
    there.key.data = built->data + BATCH_BUILT_SIZE;
    there.value.data = there.key.data + there.key.size;
    effect_finish(&there, built->data + offset);
    buf_close(&batch->record);
    batch->record = *built;
    *built = (struct buf){0};
    batch->effect_count = 1;
    view_add(batches, &there, offset);
}

struct batches_mark batches_mark(const struct batches *batches)
{
    const struct batch *batch = batches->open;
    return (struct batches_mark){.number = batch->number,
                                 .size = batch->record.size,
                                 .effect_count = batch->effect_count,
                                 .flush_number = batches->flush_number,
                                 .era = batches->era,
                                 .flush_change = batches->flush_change};
}

void batches_rollback(struct batches *batches, const struct batches_mark *mark)
{
    struct batch *batch = batches->open;
    CHECK(mark->number == batch->number);
    CHECK(mark->effect_count <= batch->effect_count);
    CHECK(mark->size <= batch->record.size);
    /* Newest first, so that what a key's place held before the first of them is there again. */
    while (batch->nodes != NULL && batch->nodes->offset >= mark->size) {
        *touched_at(batches, batch->nodes->hash) = batch->nodes->touched_before;
        release_node(batches, batch);
    }
    batch->record.size = mark->size;
    batch->effect_count = mark->effect_count;
    batches->flush_number = mark->flush_number;
    batches->era = mark->era;
    batches->flush_change = mark->flush_change;
}

bool batches_touched(const struct batches *batches, struct slice key, uint64_t since, bool existed)
{
    if (existed && batches->flush_change > since) return true;
    return *touched_at(batches, hash64(key.data, key.size)) > since;
}

static void reserved_of(const struct batch *batch, struct buf *keys)
{
    for (const struct batch_node *node = batch->nodes; node != NULL; node = node->batch_next) {
        if (node->is_reserved) buf_sized(keys, node_effect(node).key);
    }
}

void batches_reserved(const struct batches *batches, struct buf *keys)
{
    if (batches->reserved_count == 0) return;
    for (const struct list *at = batches->flying.next; at != &batches->flying; at = at->next) {
        reserved_of(LIST_ITEM(at, const struct batch, link), keys);
    }
    reserved_of(batches->open, keys);
}

struct buf *batches_seal(struct batches *batches, bool *is_given)
{
    struct batch *batch = batches->open;
    CHECK(batch->effect_count > 0);
    put_u32(batch->record.data + RECORD_HEADER_SIZE, batch->effect_count);
    *is_given = batch->effect_count == 1 && batch->record.size >= LOG_TAKE_SIZE;
    if (*is_given) {
        const uint64_t offset = RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE;
        const struct effect effect = effect_head(
            slice_of(batch->record.data + offset, batch->record.size - offset));
        batch->stub.size = 0;
        buf_append(&batch->stub, batch->record.data, BATCH_BUILT_SIZE + effect.key.size);
    }
    batch->size = batch->record.size;
    return &batch->record;
}

void batches_launch(struct batches *batches, uint64_t index)
{
    struct batch *batch = batches->open;
    CHECK(index > 0);
    batch->index = index;
    if (batch->record.data == NULL) { /* The log took it. */
        batch->record = batch->stub;
        batch->stub = (struct buf){0};
        batch->is_stub = true;
    }
    list_append(&batches->flying, &batch->link);
    batches->flying_count++;
    batches->flying_size += batch->size;
    batches->open = batch_create(batches, batch->number + 1);
}

static void retire_first(struct batches *batches)
{
    struct batch *batch = LIST_ITEM(batches->flying.next, struct batch, link);
    list_remove(&batch->link);
    batches->flying_count--;
    batches->flying_size -= batch->size;
    batches->retired_number = batch->number;
    batch_release(batches, batch);
}

bool batches_retire(struct batches *batches, uint64_t applied)
{
    bool any = false;
    while (!list_empty(&batches->flying)) {
        if (LIST_ITEM(batches->flying.next, struct batch, link)->index > applied) break;
        retire_first(batches);
        any = true;
    }
    return any;
}

void batches_drop(struct batches *batches)
{
    while (!list_empty(&batches->flying)) retire_first(batches);
    if (batches_open_empty(batches)) return;
    const uint64_t number = batches->open->number;
    batch_release(batches, batches->open);
    batches->retired_number = number;
    batches->open = batch_create(batches, number + 1);
}

void batches_check(const struct batches *batches)
{
    uint64_t count = 0;
    uint64_t size = 0;
    uint64_t number = batches->retired_number;
    uint64_t index = 0;
    for (const struct list *at = batches->flying.next; at != &batches->flying; at = at->next) {
        const struct batch *batch = LIST_ITEM(at, const struct batch, link);
        CHECK(batch->number == number + 1);
        CHECK(batch->index > index);
        number = batch->number;
        index = batch->index;
        size += batch->size;
        count++;
    }
    CHECK(batches->open->number == number + 1);
    CHECK(count == batches->flying_count);
    CHECK(size == batches->flying_size);
    CHECK(batches->flush_number <= batches->open->number);
}
