#include "tests/storage/crash_world.h"
#include "storage/store_ship.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/check.h"
#include "storage/base/mem.h"
#include "storage/compress.h"
#include "storage/effect.h"
#include "storage/store_space.h"
#include "tests/test.h"

#define TURNS_MAX 20000u

struct key {
    bool exists;
    struct buf value;
    uint64_t expiry_ms;
    uint64_t revision;
};

/* The keys as they follow from a history. */
struct reference {
    struct key keys[WORLD_KEYS];
};

const char *world_verdict_name(enum world_verdict verdict)
{
    static const char *const names[] = {"right", "refused", "damaged", "wrong"};
    return names[verdict];
}

bool world_long(void)
{
    return getenv("KV_TEST_LONG") != NULL;
}

uint64_t world_stride(uint64_t usual)
{
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
    const uint64_t slow = 11;
#else
    const uint64_t slow = 1;
#endif
    return world_long() ? 1 : usual * slow;
}

/* ---- entries --------------------------------------------------------------------------------------- */

static void key_name(uint64_t i, char name[32])
{
    (void)snprintf(name, 32, "key-%02u%.*s", (unsigned)i, i % 4 == 3 ? 20 : 0,
                   "--------------------");
}

static uint64_t value_size(const struct world *world, struct prng *prng)
{
    static const uint32_t sizes[] = {0, 8, 63, 64, 200, 500, 900};
    const uint64_t scale = world->value_scale > 0 ? world->value_scale : 1;
    const uint64_t size = sizes[prng_below(prng, sizeof sizes / sizeof sizes[0])];
    return size > 64 ? (size + prng_below(prng, 8)) * scale : size;
}

/* No sector of it is zeros, so that nothing written looks as if it had not been. */
static void random_bytes(struct prng *prng, uint8_t *at, uint64_t size)
{
    for (uint64_t i = 0; i < size; i += 8) {
        uint8_t eight[8];
        put_u64(eight, prng_next(prng) | UINT64_C(0x0101010101010101));
        memcpy(at + i, eight, size - i < 8 ? size - i : 8);
    }
}

static void add_effect(const struct world *world, struct prng *prng, struct buf *body)
{
    char name[32];
    key_name(prng_below(prng, WORLD_KEYS), name);
    struct effect effect = {.kind = EFFECT_PUT, .key = slice_text(name)};
    const uint64_t dice = prng_below(prng, 100);
    if (dice < 12) effect.kind = EFFECT_DELETE;
    if (dice < 4) effect.flags = EFFECT_FLAG_EXPIRED;
    if (dice >= 12 && dice < 24) effect.kind = EFFECT_EXPIRE_AT;
    if (dice == 24) effect = (struct effect){.kind = EFFECT_FLUSH};
    if (effect.kind == EFFECT_EXPIRE_AT || (effect.kind == EFFECT_PUT && dice > 80)) {
        effect.expiry_ms = 1 + prng_below(prng, 1000000);
    }
    uint8_t *bytes = NULL;
    if (effect.kind == EFFECT_PUT) {
        const uint64_t size = value_size(world, prng);
        bytes = mem_alloc(size + 1);
        random_bytes(prng, bytes, size);
        effect.value = slice_of(bytes, size);
    }
    struct buf packed = {0};
    if (world->packs && effect.value.size > 64 && dice % 2 == 0) {
        /* Half of it says always the same, so it can be packed; no sector of zeros comes of it. */
        memset(bytes, 'r', effect.value.size / 2);
        if (compress_pack(effect.value, &packed)) {
            effect.value = buf_slice(&packed);
            effect.flags |= EFFECT_FLAG_LZ4;
        }
    }
    effect_encode(&effect, body);
    buf_close(&packed);
    mem_free(bytes);
}

void world_record(const struct world *world, uint64_t index, uint64_t term, struct buf *out)
{
    struct prng prng = prng_seed(index * 1000003 + term);
    struct record record = {
        .index = index,
        .term = term,
        .stamp_ms = 1000000 + index,
        .type = RECORD_COMMAND,
        .shard = world->config.shard,
    };
    struct buf payload = {0};
    if (index % 29 == 1) {
        record.type = RECORD_CHANGE;
        buf_printf(&payload, "configuration %llu of term %llu", (unsigned long long)index,
                   (unsigned long long)term);
    } else if (index % 31 == 9) {
        record.type = RECORD_BARRIER;
    } else {
        const uint32_t count = 1 + (uint32_t)prng_below(&prng, 3);
        buf_u32(&payload, count);
        buf_u32(&payload, 0);
        for (uint32_t i = 0; i < count; i++) add_effect(world, &prng, &payload);
    }
    record.payload = buf_slice(&payload);
    record_encode(&record, out);
    buf_close(&payload);
}

/* ---- the reference --------------------------------------------------------------------------------- */

static void reference_clear(struct reference *reference)
{
    for (uint32_t i = 0; i < WORLD_KEYS; i++) {
        buf_close(&reference->keys[i].value);
        reference->keys[i] = (struct key){0};
    }
}

static void reference_effect(struct reference *reference, const struct effect *effect,
                             uint64_t revision)
{
    if (effect->kind == EFFECT_FLUSH) {
        reference_clear(reference);
        return;
    }
    const uint8_t *digits = effect->key.data + 4;
    struct key *key = &reference->keys[10 * (digits[0] - '0') + digits[1] - '0'];
    if (effect->kind == EFFECT_PUT) {
        key->value.size = 0;
        if ((effect->flags & EFFECT_FLAG_LZ4) != 0) {
            CHECK(compress_unpack(effect->value, &key->value) == OK);
        } else {
            buf_append(&key->value, effect->value.data, effect->value.size);
        }
        key->exists = true;
    } else if (effect->kind == EFFECT_DELETE) {
        key->exists = false;
    }
    if (!key->exists) return;
    key->expiry_ms = effect->expiry_ms;
    key->revision = revision;
}

static void reference_fill(const struct world *world, const struct world_history *history,
                           uint64_t last, struct reference *reference)
{
    struct buf bytes = {0};
    for (uint64_t index = 1; index <= last; index++) {
        struct record record;
        uint64_t size;
        bytes.size = 0;
        world_record(world, index, history->term[index], &bytes);
        CHECK(record_decode(buf_slice(&bytes), &record, &size) == OK);
        if (record.type != RECORD_COMMAND) continue;
        struct effect_walk walk;
        struct effect effect;
        effect_walk_open(&walk, record.payload);
        while (effect_walk_next(&walk, &effect) == OK) {
            reference_effect(reference, &effect, revision_of(index, walk.ordinal));
        }
    }
    buf_close(&bytes);
}

/* ---- life ------------------------------------------------------------------------------------------ */

void world_init(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    sim_disk_init(&world->disk, seed);
    world->now_ms = 1000;
    world->config = (struct store_config){
        .disk = &world->disk.disk,
        .folder = WORLD_FOLDER,
        .cluster_id = WORLD_CLUSTER,
        .node_id = WORLD_NODE,
        .hash_seed = WORLD_SEED,
        .random_seed = seed + 1000,
        .segment_size = WORLD_SEGMENT_SIZE,
        .tail_size = WORLD_SEGMENT_SIZE,
        .compaction_rate = 1u << 30,
    };
}

void world_end(struct world *world)
{
    if (world->store != NULL) store_close(world->store);
    world->store = NULL;
    sim_disk_close(&world->disk);
}

enum err world_open(struct world *world)
{
    CHECK(world->store == NULL);
    world->config.random_seed++; /* As a host would: never the same file ids twice. */
    world->message[0] = 0;
    const enum err err = store_open(&world->config, &world->store, world->message,
                                    sizeof world->message);
    if (err != OK) world->store = NULL;
    return err;
}

void world_close(struct world *world)
{
    store_close(world->store);
    world->store = NULL;
}

void world_crash(struct world *world, bool power)
{
    sim_disk_stop(&world->disk, power);
    if (world->store != NULL) world_close(world);
    sim_disk_crash(&world->disk);
}

static bool is_damage(enum err err)
{
    return err == ERR_CORRUPT || err == ERR_IO || err == ERR_NEWER || err == ERR_FOREIGN;
}

/* ---- doing ----------------------------------------------------------------------------------------- */

bool world_note(struct world *world)
{
    if (sim_disk_stopped(&world->disk)) return false;
    store_check(world->store);
    const uint64_t persisted = store_persisted_index(world->store);
    CHECK(persisted <= world->now.last);
    world->durable = persisted;
    return true;
}

static void append(struct world *world)
{
    const uint64_t index = ++world->now.last;
    CHECK(index <= WORLD_ENTRIES_MAX);
    world->now.term[index] = (uint32_t)world->ballot.term;
    struct buf bytes = {0};
    world_record(world, index, world->ballot.term, &bytes);
    store_append(world->store, buf_slice(&bytes));
    buf_close(&bytes);
}

bool world_bootstrap(struct world *world)
{
    struct buf bytes = {0};
    world->voting = (struct world_ballot){.term = 1};
    world->now.last = 1;
    world->now.term[1] = 1;
    world_record(world, 1, 1, &bytes);
    const enum err err = store_bootstrap(world->store, buf_slice(&bytes));
    buf_close(&bytes);
    if (sim_disk_stopped(&world->disk) || err != OK) return false;
    world->ballot = world->voting;
    return world_note(world);
}

bool world_vote(struct world *world, uint64_t term, uint64_t vote)
{
    world->voting = (struct world_ballot){.term = term, .vote = vote};
    store_save_ballot(world->store, term, vote);
    if (sim_disk_stopped(&world->disk)) return false;
    world->ballot = world->voting;
    return true;
}

bool world_group(struct world *world, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) append(world);
    const enum err err = store_flush_wait(world->store);
    if (!world_note(world)) return false;
    EXPECT_TRUE(err == OK || err == ERR_NOSPACE);
    if (err == OK) EXPECT_EQ(world->durable, world->now.last);
    return true;
}

bool world_cut(struct world *world, uint64_t index)
{
    if (!world_vote(world, world->ballot.term + 1, 0)) return false;
    CHECK(index > store_applied_index(world->store));
    world->old = world->now;
    world->now.last = index - 1;
    if (world->durable >= index) world->durable = index - 1;
    store_cut(world->store, index);
    return world_group(world, 1);
}

bool world_apply(struct world *world)
{
    const uint64_t index = store_persisted_index(world->store);
    const enum err err = store_apply(world->store, index);
    if (!world_note(world) || is_damage(err)) return false;
    EXPECT_EQ(err, OK);
    return true;
}

bool world_idle(struct world *world)
{
    for (uint32_t i = 0; i < TURNS_MAX; i++) {
        store_turn(world->store, world->now_ms);
        if (!world_note(world)) return false;
        const bool moved = sim_disk_step(&world->disk);
        if (!world_note(world)) return false;
        const uint64_t deadline = store_deadline(world->store);
        if (!moved && deadline == UINT64_MAX) return true;
        if (!moved && deadline > world->now_ms) world->now_ms = deadline;
        if (world->patience > 0 && i >= world->patience) return true;
    }
    fail_msg("the store never comes to rest");
    return false;
}

/* Three groups of a block fill a file. */
static bool groups(struct world *world, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        if (!world_group(world, 1 + i % 3) || !world_apply(world)) return false;
        if (i % 3 == 1 && !world_idle(world)) return false;
    }
    return true;
}

bool world_lagging(struct world *world)
{
    if (world_open(world) != OK || !world_bootstrap(world)) return false;
    if (!world_vote(world, 2, 0) || !world_vote(world, 2, WORLD_NODE)) return false;
    return groups(world, 0, 4);
}

bool world_small(struct world *world)
{
    if (!world_lagging(world) || !groups(world, 4, 10) || !world_idle(world)) return false;
    if (world->compacts) {
        /* All that may become a table does; what comes behind it is sealed and stays as it is. */
        store_compact(world->store);
        if (!world_idle(world) || !groups(world, 10, 14) || !world_idle(world)) return false;
    }
    /* A cut in the middle of what is not applied; then a full file that cannot be sealed. */
    if (!world_group(world, 3) || !world_cut(world, world->now.last - 1)) return false;
    if (!world_vote(world, world->ballot.term, 0x202)) return false;
    for (uint32_t i = 0; i < 3; i++) {
        if (!world_group(world, 1)) return false;
    }
    return world_idle(world) && world_group(world, 2);
}

/* One piece of what is wanted. ERR_NOT_FOUND: nothing more. */
static enum err install_piece(struct world *world, struct world *source, uint64_t piece)
{
    uint64_t file_id;
    uint64_t offset;
    uint64_t size;
    enum err err = store_install_wait(world->store);
    if (err != OK) return err;
    if (!store_install_want(world->store, &file_id, &offset, &size)) return ERR_NOT_FOUND;
    struct store_piece data = {0};
    struct slice bytes;
    if (size > piece) size = piece;
    CHECK(store_piece_begin(source->store, &data, file_id, offset, size) == OK);
    source->disk.disk.wait(source->disk.disk.context, &data.op);
    CHECK(store_piece_take(source->store, &data, &bytes) == OK);
    err = store_install_chunk(world->store, file_id, offset, bytes);
    store_piece_close(source->store, &data);
    return err;
}

bool world_install(struct world *world, struct world *source, uint64_t piece)
{
    struct buf manifest = {0};
    store_ship_manifest(source->store, &manifest);
    enum err err = store_install_begin(world->store, buf_slice(&manifest));
    buf_close(&manifest);
    if (err != OK || !world_note(world)) return false;
    while (err == OK) {
        err = install_piece(world, source, piece);
        if (!world_note(world)) return false;
        if (err == OK || err == ERR_NOT_FOUND) continue;
        store_install_abort(world->store);
        return false;
    }
    /* From here on it is the one or the other. */
    world->old = world->now;
    world->now = source->now;
    world->now.last = store_base(source->store).index;
    if (store_install_finish(world->store) != OK) return false;
    if (sim_disk_stopped(&world->disk)) return false;
    world->durable = world->now.last;
    world_close(world);
    return true;
}

/* ---- judging --------------------------------------------------------------------------------------- */

static enum world_verdict say(struct world *world, enum world_verdict verdict, const char *what,
                              uint64_t number)
{
    (void)snprintf(world->wrong, sizeof world->wrong, "%s %llu", what, (unsigned long long)number);
    return verdict;
}

static enum world_verdict worse(enum world_verdict a, enum world_verdict b)
{
    return a > b ? a : b;
}

/* A refusal names a file of ours, in one line. */
static enum world_verdict judge_refusal(struct world *world, enum err err)
{
    const char *line = world->message;
    const bool named = strstr(line, WORLD_FOLDER "/") != NULL ||
                       strncmp(line, WORLD_FOLDER ":", strlen(WORLD_FOLDER) + 1) == 0;
    if (!named) return say(world, WORLD_WRONG, "a refusal that names no file, error", err);
    if (strchr(line, '\n') != NULL) return say(world, WORLD_WRONG, "more than one line", err);
    (void)snprintf(world->wrong, sizeof world->wrong, "%.250s", line);
    return WORLD_REFUSED;
}

/* The history that the store went on with, NULL: neither. */
static const struct world_history *judge_history(const struct world *world)
{
    const struct world_history *both[] = {&world->now, &world->old};
    const uint64_t last = store_last_index(world->store);
    for (uint32_t i = 0; i < 2; i++) {
        uint64_t index = store_first_index(world->store);
        if (last > both[i]->last) continue;
        while (index <= last && store_term_at(world->store, index) == both[i]->term[index]) index++;
        if (index > last) return both[i];
    }
    return NULL;
}

static enum world_verdict judge_entries(struct world *world, const struct world_history *history)
{
    enum world_verdict verdict = WORLD_RIGHT;
    struct buf got = {0};
    struct buf want = {0};
    const uint64_t last = store_last_index(world->store);
    for (uint64_t index = store_first_index(world->store); index <= last; index++) {
        uint32_t count = 0;
        got.size = want.size = 0;
        const enum err err = store_read(world->store, index, index, 1, &got, &count);
        world_record(world, index, history->term[index], &want);
        if (is_damage(err)) {
            verdict = say(world, WORLD_DAMAGED, "unreadable entry", index);
        } else if (err != OK || !slice_equal(buf_slice(&got), buf_slice(&want))) {
            verdict = say(world, WORLD_WRONG, "another entry", index);
            break;
        }
    }
    buf_close(&got);
    buf_close(&want);
    return verdict;
}

static enum world_verdict judge_key(struct world *world, uint64_t i, const struct key *want)
{
    char name[32];
    key_name(i, name);
    const struct keydir_entry *entry = keydir_find(store_keys(world->store), slice_text(name));
    if ((entry != NULL) != want->exists) return say(world, WORLD_WRONG, "existence of key", i);
    if (entry == NULL) return WORLD_RIGHT;
    const struct keydir_info info = keydir_info(entry);
    if (info.revision != want->revision) return say(world, WORLD_WRONG, "revision of key", i);
    if (info.expiry_ms != want->expiry_ms) return say(world, WORLD_WRONG, "expiry of key", i);
    struct slice value;
    const enum err err = store_value(world->store, entry, &value);
    if (is_damage(err)) return say(world, WORLD_DAMAGED, "unreadable key", i);
    if (err != OK || !slice_equal(value, buf_slice(&want->value)))
        return say(world, WORLD_WRONG, "value of key", i);
    return WORLD_RIGHT;
}

static enum world_verdict judge_keys(struct world *world, const struct world_history *history)
{
    const uint64_t last = store_last_index(world->store);
    const enum err err = store_apply(world->store, last);
    if (is_damage(err)) return say(world, WORLD_DAMAGED, "apply", last);
    if (err != OK) return say(world, WORLD_WRONG, "apply", last);
    struct reference reference = {0};
    reference_fill(world, history, last, &reference);
    enum world_verdict verdict = WORLD_RIGHT;
    uint64_t count = 0;
    for (uint32_t i = 0; i < WORLD_KEYS; i++) {
        verdict = worse(verdict, judge_key(world, i, &reference.keys[i]));
        count += reference.keys[i].exists;
    }
    if (keydir_count(store_keys(world->store)) != count) {
        verdict = say(world, WORLD_WRONG, "count of keys", count);
    }
    reference_clear(&reference);
    return verdict;
}

/* The configuration at the end of the log. */
static enum world_verdict judge_change(struct world *world, const struct world_history *history)
{
    const uint64_t last = store_last_index(world->store);
    if (last == 0) return WORLD_RIGHT;
    const uint64_t wanted = last - (last - 1) % 29;
    uint64_t index = 0;
    struct slice payload;
    if (!store_change_at(world->store, last, &index, &payload) || index != wanted)
        return say(world, WORLD_WRONG, "configuration of index", index);
    struct buf record = {0};
    world_record(world, index, history->term[index], &record);
    const uint64_t size = get_u32(record.data + 12);
    const bool same = slice_equal(payload, slice_of(record.data + RECORD_HEADER_SIZE, size));
    buf_close(&record);
    return same ? WORLD_RIGHT : say(world, WORLD_WRONG, "bytes of the configuration of", index);
}

static bool ballot_is(const struct world *world, const struct world_ballot *ballot)
{
    return store_term(world->store) == ballot->term &&
           store_voted_for(world->store) == ballot->vote;
}

enum world_verdict world_judge(struct world *world)
{
    world->wrong[0] = 0;
    const enum err err = world_open(world);
    return err != OK ? judge_refusal(world, err) : world_judge_store(world);
}

enum world_verdict world_judge_store(struct world *world)
{
    store_check(world->store);
    const uint64_t last = store_last_index(world->store);
    if (last < world->durable)
        return say(world, WORLD_WRONG, "acknowledged entries are gone behind", last);
    if (store_persisted_index(world->store) != last)
        return say(world, WORLD_WRONG, "not all is durable behind", last);
    if (!ballot_is(world, &world->ballot) && !ballot_is(world, &world->voting))
        return say(world, WORLD_WRONG, "another vote in term", store_term(world->store));
    const struct world_history *history = judge_history(world);
    if (history == NULL) return say(world, WORLD_WRONG, "another history up to", last);
    enum world_verdict verdict = judge_entries(world, history);
    if (store_damage(world->store)->count > 0) {
        verdict = worse(verdict, say(world, WORLD_DAMAGED, "a damaged file, of which there are",
                                     store_damage(world->store)->count));
    }
    verdict = worse(verdict, judge_keys(world, history));
    return worse(verdict, judge_change(world, history));
}

void world_adopt(struct world *world)
{
    const struct world_history *history = judge_history(world);
    CHECK(history != NULL);
    if (history != &world->now) world->now = *history;
    world->now.last = store_last_index(world->store);
    world->old = world->now;
    world->durable = world->now.last;
    world->ballot.term = store_term(world->store);
    world->ballot.vote = store_voted_for(world->store);
    world->voting = world->ballot;
}

static void expect_verdict_right(struct world *world, const char *why)
{
    const enum world_verdict verdict = world_judge(world);
    if (verdict == WORLD_RIGHT) return;
    fail_msg("%s: %s: %s (message: %s)", why, world_verdict_name(verdict), world->wrong,
             world->message);
}

void world_expect_right(struct world *world, const char *why)
{
    expect_verdict_right(world, why);
    world_adopt(world);
    if (world->now.last == 0) {
        EXPECT_TRUE(store_blank(world->store));
        EXPECT_TRUE(world_bootstrap(world));
    }
    EXPECT_TRUE(world_group(world, 2));
    EXPECT_TRUE(world_apply(world));
    EXPECT_TRUE(world_idle(world));
    world_close(world);
    expect_verdict_right(world, why);
    world_adopt(world);
}

void world_dump(struct world *world, struct buf *out)
{
    buf_printf(out, "term %llu vote %llu last %llu applied %llu\n",
               (unsigned long long)store_term(world->store),
               (unsigned long long)store_voted_for(world->store),
               (unsigned long long)store_last_index(world->store),
               (unsigned long long)store_applied_index(world->store));
    for (uint64_t i = 0; i < WORLD_KEYS; i++) {
        char name[32];
        key_name(i, name);
        const struct keydir_entry *entry = keydir_find(store_keys(world->store), slice_text(name));
        if (entry == NULL) continue;
        const struct keydir_info info = keydir_info(entry);
        struct slice value;
        CHECK(store_value(world->store, entry, &value) == OK);
        buf_printf(out, "%s revision %llu expiry %llu size %llu value ", name,
                   (unsigned long long)info.revision, (unsigned long long)info.expiry_ms,
                   (unsigned long long)value.size);
        for (uint64_t at = 0; at < value.size; at++) buf_printf(out, "%02x", value.data[at]);
        if (value.size == 0) buf_u8(out, '-');
        buf_u8(out, '\n');
    }
}
