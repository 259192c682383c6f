/* store_model.h - a store on a virtual disk beside what it ought to contain.
 *
 * The reference is the list of records that were appended, and the keys that follow from the applied
 * ones. Void versions of records (cut) are kept as well: a crash can bring those back whose cut had not
 * reached the disk. */
#ifndef KV_TESTS_STORE_MODEL_H
#define KV_TESTS_STORE_MODEL_H

#include "tests/test.h"

#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"
#include "storage/effect.h"
#include "storage/store.h"
#include "storage/store_ship.h"
#include "tests/sim/sim_disk.h"

#define MODEL_KEYS 48u
#define MODEL_ENTRIES_MAX 20000u
#define MODEL_SEGMENT_SIZE (64u * 1024u)

struct model_key {
    bool exists;
    struct buf value;
    uint64_t expiry_ms;
    uint64_t revision;
};

struct model_entry {
    struct buf record;
    struct model_entry *older; /* the version that this one replaced */
};

struct model {
    struct sim_disk disk;
    struct store_config config;
    struct store *store;
    struct prng prng;
    uint64_t now_ms;
    uint64_t term;
    struct model_entry *entries[MODEL_ENTRIES_MAX + 1]; /* by index */
    uint64_t last_index;
    uint64_t applied_index;
    struct model_key keys[MODEL_KEYS];
    char message[512];
};

static inline void model_key_name(uint32_t i, char *name)
{
    /* Some keys are long, so that keys matter for sizes too. */
    (void)snprintf(name, 400, "key-%02u%.*s", i, i % 8 == 7 ? 300 : 0,
                   "----------------------------------------------------------------------------"
                   "----------------------------------------------------------------------------"
                   "----------------------------------------------------------------------------"
                   "----------------------------------------------------------------------------");
}

/* ---- the reference -------------------------------------------------------------------------------- */

static inline void model_keys_clear(struct model *model)
{
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        buf_close(&model->keys[i].value);
        model->keys[i] = (struct model_key){0};
    }
}

static inline void model_apply_effect(struct model *model, const struct effect *effect,
                                      uint64_t revision)
{
    if (effect->kind == EFFECT_FLUSH) {
        model_keys_clear(model);
        return;
    }
    struct model_key *key =
        &model->keys[10 * (effect->key.data[4] - '0') + effect->key.data[5] - '0'];
    if (effect->kind == EFFECT_PUT) {
        key->value.size = 0;
        if ((effect->flags & EFFECT_FLAG_LZ4) != 0) {
            CHECK(compress_unpack(effect->value, &key->value) == OK);
        } else {
            buf_append(&key->value, effect->value.data, effect->value.size);
        }
        key->exists = true;
        key->expiry_ms = effect->expiry_ms;
        key->revision = revision;
    } else if (effect->kind == EFFECT_DELETE) {
        key->exists = false;
    } else if (key->exists) {
        key->expiry_ms = effect->expiry_ms;
        key->revision = revision;
    }
}

static inline void model_apply(struct model *model, uint64_t index)
{
    while (model->applied_index < index) {
        const struct slice bytes = buf_slice(&model->entries[++model->applied_index]->record);
        struct record record;
        uint64_t size;
        CHECK(record_decode(bytes, &record, &size) == OK);
        CHECK(record.index == model->applied_index);
        if (record.type != RECORD_COMMAND) continue;
        struct slice body = record.payload;
        const uint32_t count = get_u32(body.data);
        body = slice_of(body.data + 8, body.size - 8);
        for (uint32_t i = 0; i < count; i++) {
            struct effect effect;
            CHECK(effect_decode(body, &effect, &size) == OK);
            model_apply_effect(model, &effect, revision_of(record.index, i));
            body = slice_of(body.data + size, body.size - size);
        }
    }
}

/* ---- making entries ------------------------------------------------------------------------------- */

static inline void model_random_effect(struct model *model, struct buf *body)
{
    static uint8_t bytes[20000];
    char name[400];
    struct prng *prng = &model->prng;
    model_key_name((uint32_t)prng_below(prng, MODEL_KEYS), name);
    struct effect effect = {.kind = EFFECT_PUT, .key = slice_text(name)};
    const uint64_t dice = prng_below(prng, 100);
    if (dice < 10) effect.kind = EFFECT_DELETE;
    if (dice < 3) effect.flags = EFFECT_FLAG_EXPIRED;
    if (dice >= 10 && dice < 20) effect.kind = EFFECT_EXPIRE_AT;
    if (dice == 20 && prng_below(prng, 8) == 0) {
        effect = (struct effect){.kind = EFFECT_FLUSH};
    }
    if (effect.kind == EFFECT_PUT || effect.kind == EFFECT_EXPIRE_AT) {
        effect.expiry_ms = prng_below(prng, 3) == 0 ? 1 + prng_below(prng, 1000000) : 0;
    }
    if (effect.kind == EFFECT_PUT) {
        const uint64_t sizes[] = {64, 64, 200, 3000, 3000, sizeof bytes};
        const uint64_t size = prng_below(prng, sizes[dice % 6 == 5 && dice > 90 ? 5 : dice % 5]);
        memset(bytes, (int)prng_below(prng, 256), size);
        for (uint64_t i = 0; i + 8 < size; i += 64) put_u64(bytes + i, prng_next(prng));
        effect.value = slice_of(bytes, size);
    }
    struct buf packed = {0};
    if (effect.value.size > 0 && dice % 2 == 0 && compress_pack(effect.value, &packed)) {
        effect.flags = EFFECT_FLAG_LZ4;
        effect.value = buf_slice(&packed);
    }
    effect_encode(&effect, body);
    buf_close(&packed);
}

static inline void model_add(struct model *model, uint8_t type, struct slice payload)
{
    const uint64_t index = ++model->last_index;
    CHECK(index <= MODEL_ENTRIES_MAX);
    struct model_entry *entry = mem_zero(sizeof *entry);
    const struct record record = {
        .index = index,
        .term = model->term,
        .stamp_ms = 1000000 + index,
        .type = type,
        .shard = model->config.shard,
        .payload = payload,
    };
    record_encode(&record, &entry->record);
    entry->older = model->entries[index];
    model->entries[index] = entry;
}

/* Appends one more entry to reference and store. */
static inline void model_append(struct model *model)
{
    struct buf payload = {0};
    const uint64_t dice = prng_below(&model->prng, 40);
    uint8_t type = RECORD_COMMAND;
    if (dice == 0) type = RECORD_BARRIER;
    if (dice == 1) {
        type = RECORD_CHANGE;
        buf_printf(&payload, "configuration of index %llu",
                   (unsigned long long)model->last_index + 1);
    }
    if (type == RECORD_COMMAND) {
        const uint32_t count = (uint32_t)prng_below(&model->prng, 5);
        buf_u32(&payload, count);
        buf_u32(&payload, 0);
        for (uint32_t i = 0; i < count; i++) model_random_effect(model, &payload);
    }
    model_add(model, type, buf_slice(&payload));
    buf_close(&payload);
    store_append(model->store, buf_slice(&model->entries[model->last_index]->record));
}

/* Cuts from @index on, as a leader of a higher term would make us do. */
static inline void model_cut(struct model *model, uint64_t index)
{
    model->term++;
    store_save_ballot(model->store, model->term, 0);
    store_cut(model->store, index);
    model->last_index = index - 1;
}

/* ---- life ----------------------------------------------------------------------------------------- */

/* Fills @model; the store is not open yet. It is too big for the stack of a test: make it static. */
static inline void model_init(struct model *model, uint64_t seed)
{
    memset(model, 0, sizeof *model);
    sim_disk_init(&model->disk, seed);
    model->prng = prng_seed(seed ^ 0x5eed);
    model->config = (struct store_config){
        .disk = &model->disk.disk,
        .folder = "shard-0000",
        .shard = 0,
        .cluster_id = 0xc1,
        .node_id = 0x101,
        .hash_seed = 42,
        .random_seed = seed + 1000,
        .segment_size = MODEL_SEGMENT_SIZE,
        .retention_size = 3 * MODEL_SEGMENT_SIZE,
        .tail_size = MODEL_SEGMENT_SIZE,
    };
}

static inline void model_close(struct model *model)
{
    for (uint64_t i = 0; i <= MODEL_ENTRIES_MAX; i++) {
        while (model->entries[i] != NULL) {
            struct model_entry *entry = model->entries[i];
            model->entries[i] = entry->older;
            buf_close(&entry->record);
            mem_free(entry);
        }
    }
    model_keys_clear(model);
    sim_disk_close(&model->disk);
}

static inline enum err model_try_open(struct model *model)
{
    model->config.random_seed++; /* As a host would: never the same file ids twice. */
    return store_open(&model->config, &model->store, model->message, sizeof model->message);
}

static inline void model_open(struct model *model)
{
    const enum err err = model_try_open(model);
    if (err != OK) print_error("store_open: %s: %s\n", err_name(err), model->message);
    EXPECT_EQ(err, OK);
    store_check(model->store);
}

/* A blank store becomes the first member. */
static inline void model_bootstrap(struct model *model)
{
    model_open(model);
    EXPECT_TRUE(store_blank(model->store));
    model->term = 1;
    model_add(model, RECORD_CHANGE, slice_text("the first configuration"));
    EXPECT_EQ(store_bootstrap(model->store, buf_slice(&model->entries[1]->record)), OK);
    EXPECT_FALSE(store_blank(model->store));
    EXPECT_EQ(store_persisted_index(model->store), 1);
}

/* Makes everything durable, applies all of it. */
static inline void model_settle(struct model *model)
{
    EXPECT_EQ(store_flush_wait(model->store), OK);
    EXPECT_EQ(store_persisted_index(model->store), model->last_index);
    EXPECT_EQ(store_apply(model->store, model->last_index), OK);
    model_apply(model, model->last_index);
}

/* Turns until the store has nothing more to do. */
static inline void model_idle(struct model *model)
{
    for (uint32_t i = 0; i < 10000; i++) {
        store_turn(model->store, model->now_ms);
        store_check(model->store);
        const bool moved = sim_disk_step(&model->disk);
        const uint64_t deadline = store_deadline(model->store);
        if (!moved && deadline == UINT64_MAX) return;
        if (!moved && deadline > model->now_ms) model->now_ms = deadline;
    }
    fail_msg("the store never comes to rest");
}

/* ---- comparing ------------------------------------------------------------------------------------ */

static inline void model_compare(struct model *model)
{
    struct store *store = model->store;
    EXPECT_EQ(store_applied_index(store), model->applied_index);
    uint64_t count = 0;
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &model->keys[i];
        char name[400];
        model_key_name(i, name);
        const struct keydir_entry *entry = keydir_find(store_keys(store), slice_text(name));
        EXPECT_EQ(entry != NULL, key->exists);
        if (entry == NULL) continue;
        count++;
        const struct keydir_info info = keydir_info(entry);
        EXPECT_EQ(info.revision, key->revision);
        EXPECT_EQ(info.expiry_ms, key->expiry_ms);
        if (!info.is_compressed) EXPECT_EQ(info.value_size, key->value.size);
        struct slice value;
        EXPECT_EQ(store_value(store, entry, &value), OK);
        EXPECT_TRUE(slice_equal(value, buf_slice(&key->value)));
    }
    EXPECT_EQ(keydir_count(store_keys(store)), count);
}

/* Every readable entry is the reference's; older ones are not readable; terms and changes agree. */
static inline void model_compare_log(struct model *model)
{
    struct store *store = model->store;
    const uint64_t first = store_first_index(store);
    EXPECT_EQ(store_last_index(store), model->last_index);
    EXPECT_LE(first, store_base(store).index + 1);
    struct buf out = {0};
    uint32_t count = 0;
    EXPECT_EQ(store_read(store, first - 1, first - 1, 1, &out, &count), ERR_NOT_FOUND);
    for (uint64_t index = first; index <= model->last_index; index += count) {
        out.size = 0;
        EXPECT_EQ(store_read(store, index, model->last_index, 8192, &out, &count), OK);
        EXPECT_TRUE(count > 0);
        struct slice rest = buf_slice(&out);
        for (uint32_t i = 0; i < count; i++) {
            const struct buf *record = &model->entries[index + i]->record;
            EXPECT_TRUE(slice_equal(slice_of(rest.data, record->size), buf_slice(record)));
            EXPECT_EQ(store_term_at(store, index + i), get_u64(record->data + 24));
            rest = slice_of(rest.data + record->size, rest.size - record->size);
        }
        EXPECT_EQ(rest.size, 0);
    }
    buf_close(&out);
    const struct store_base base = store_base(store);
    if (base.index > 0) {
        EXPECT_EQ(base.term, get_u64(model->entries[base.index]->record.data + 24));
        EXPECT_EQ(store_term_at(store, base.index), base.term);
    }
    for (uint64_t index = first; index <= model->last_index; index++) {
        uint64_t wanted = index;
        while (model->entries[wanted]->record.data[40] != RECORD_CHANGE) wanted--;
        uint64_t change_index = 0;
        struct slice payload;
        /* Before the base only changes that the loaded entries hold are known. */
        if (index < base.index && wanted < first) continue;
        EXPECT_TRUE(store_change_at(store, index, &change_index, &payload));
        EXPECT_EQ(change_index, wanted);
        const struct buf *record = &model->entries[wanted]->record;
        const uint64_t size = get_u32(record->data + 12);
        EXPECT_TRUE(slice_equal(payload, slice_of(record->data + RECORD_HEADER_SIZE, size)));
    }
}

/* ---- restarts ------------------------------------------------------------------------------------- */

/* After a crash: the log must hold the first @durable entries as they were; behind them it may hold more,
 * in any version whose cut was not durable. The reference becomes what is there. */
static inline void model_adopt(struct model *model, uint64_t durable)
{
    struct store *store = model->store;
    const uint64_t last = store_last_index(store);
    EXPECT_LE(durable, last);
    EXPECT_EQ(store_persisted_index(store), last);
    struct buf out = {0};
    for (uint64_t index = store_first_index(store); index <= last; index++) {
        out.size = 0;
        uint32_t count;
        EXPECT_EQ(store_read(store, index, index, 1, &out, &count), OK);
        struct model_entry *entry = model->entries[index];
        CHECK(entry != NULL);
        if (index <= durable) {
            EXPECT_TRUE(slice_equal(buf_slice(&entry->record), buf_slice(&out)));
            continue;
        }
        struct model_entry *found = entry;
        while (found != NULL && !slice_equal(buf_slice(&found->record), buf_slice(&out))) {
            found = found->older;
        }
        CHECK(found != NULL);                  /* What is on the disk was appended once. */
        const struct buf swap = entry->record; /* the version on disk becomes the newest */
        entry->record = found->record;
        found->record = swap;
    }
    buf_close(&out);
    model->last_index = last;
    /* Keys start again from the base. */
    model_keys_clear(model);
    model->applied_index = 0;
    model_apply(model, store_applied_index(store));
    EXPECT_LE(model->term, store_term(store));
    model->term = store_term(store);
}

static inline void model_restart(struct model *model)
{
    const uint64_t last = model->last_index;
    store_close(model->store);
    model->store = NULL;
    model_open(model);
    EXPECT_TRUE(model->disk.full_count > 0 || store_last_index(model->store) == last);
    model_adopt(model, store_last_index(model->store));
    model_compare(model);
}

static inline void model_crash(struct model *model, bool power)
{
    const uint64_t durable = store_persisted_index(model->store);
    sim_disk_stop(&model->disk, power);
    store_close(model->store);
    model->store = NULL;
    sim_disk_crash(&model->disk);
    model_open(model);
    model_adopt(model, durable);
    model_compare(model);
}

/* Appends up to @size bytes of the sealed file @file_id from @offset on to @out. */
static inline enum err model_ship_read(struct model *model, uint64_t file_id, uint64_t offset,
                                       uint64_t size, struct buf *out)
{
    struct slice bytes;
    struct store_piece piece = {0};
    enum err err = store_piece_begin(model->store, &piece, file_id, offset, size);
    if (err != OK) return err;
    sim_disk_settle(&model->disk);
    err = store_piece_take(model->store, &piece, &bytes);
    if (err == OK) buf_append(out, bytes.data, bytes.size);
    store_piece_close(model->store, &piece);
    return err;
}

#endif
