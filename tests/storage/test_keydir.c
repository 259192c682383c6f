/* The keydir against a plain sorted array: every function must answer the same. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/keydir.h"

/* ---- the reference --------------------------------------------------------------------------- */

enum { MODEL_KEY_MAX = 96, MODEL_MAX = 8192 };

struct row {
    uint8_t key[MODEL_KEY_MAX];
    uint64_t key_size;
    uint8_t value[VALUE_INLINE_MAX];
    uint32_t value_size;
    bool is_compressed;
    uint64_t revision;
    uint64_t expiry_ms;
    struct place place;
};

struct model {
    struct row *row[MODEL_MAX]; /* In the order of keys. */
    uint32_t count;
    uint32_t expiring;
};

static struct slice row_key(const struct row *row)
{
    return slice_of(row->key, row->key_size);
}

/* The number of rows before @key. */
static uint32_t model_find(const struct model *model, struct slice key, bool *found)
{
    uint32_t low = 0;
    uint32_t high = model->count;
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (slice_compare(row_key(model->row[middle]), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *found = low < model->count && slice_equal(row_key(model->row[low]), key);
    return low;
}

static void model_expiry(struct model *model, struct row *row, uint64_t expiry_ms)
{
    model->expiring -= row->expiry_ms > 0;
    row->expiry_ms = expiry_ms;
    model->expiring += expiry_ms > 0;
}

static struct keydir_dead row_dead(const struct row *row)
{
    const uint64_t size = 32 + row->key_size + row->value_size;
    return (struct keydir_dead){.file = row->place.file, .size = (uint32_t)((size + 7) / 8 * 8)};
}

/* Returns what the put before this one took, which is garbage now. */
static struct keydir_dead model_put(struct model *model, struct slice key, struct slice value,
                                    bool is_compressed, uint64_t revision, uint64_t expiry_ms,
                                    struct place place)
{
    bool found = false;
    const uint32_t at = model_find(model, key, &found);
    if (!found) {
        EXPECT_LT(model->count, MODEL_MAX);
        memmove(model->row + at + 1, model->row + at, (model->count - at) * sizeof model->row[0]);
        model->row[at] = mem_zero(sizeof(struct row));
        model->count++;
        memcpy(model->row[at]->key, key.data, key.size);
        model->row[at]->key_size = key.size;
    }
    struct row *row = model->row[at];
    const struct keydir_dead dead = found ? row_dead(row) : (struct keydir_dead){0};
    row->value_size = (uint32_t)value.size;
    row->is_compressed = is_compressed;
    if (value.size > 0 && value.size <= VALUE_INLINE_MAX) {
        memcpy(row->value, value.data, value.size);
    }
    row->revision = revision;
    row->place = place;
    model_expiry(model, row, expiry_ms);
    return dead;
}

static bool model_remove(struct model *model, struct slice key, struct keydir_dead *dead)
{
    bool found = false;
    const uint32_t at = model_find(model, key, &found);
    *dead = found ? row_dead(model->row[at]) : (struct keydir_dead){0};
    if (!found) return false;
    model_expiry(model, model->row[at], 0);
    mem_free(model->row[at]);
    model->count--;
    memmove(model->row + at, model->row + at + 1, (model->count - at) * sizeof model->row[0]);
    return true;
}

static void model_clear(struct model *model)
{
    for (uint32_t i = 0; i < model->count; i++) mem_free(model->row[i]);
    model->count = 0;
    model->expiring = 0;
}

/* ---- comparing ------------------------------------------------------------------------------- */

static void expect_row(const struct keydir_entry *entry, const struct row *row)
{
    EXPECT_TRUE((entry == NULL) == (row == NULL));
    if (row == NULL || entry == NULL) return;
    const struct keydir_info info = keydir_info(entry);
    EXPECT_TRUE(slice_equal(info.key, row_key(row)));
    EXPECT_EQ(info.revision, row->revision);
    EXPECT_EQ(info.expiry_ms, row->expiry_ms);
    EXPECT_EQ(info.value_size, row->value_size);
    EXPECT_EQ(info.place.file, row->place.file);
    EXPECT_EQ(info.place.offset, row->place.offset);
    EXPECT_EQ(info.is_compressed, row->is_compressed);
    EXPECT_EQ(info.is_inline, row->value_size <= VALUE_INLINE_MAX && !row->is_compressed);
    EXPECT_EQ(keydir_size_on_disk(&info), row_dead(row).size);
    if (info.is_inline) {
        EXPECT_TRUE(slice_equal(info.inline_value, slice_of(row->value, row->value_size)));
    } else {
        EXPECT_EQ(info.inline_value.size, 0);
    }
}

/* A few steps in both directions from @key. */
static void expect_around(const struct keydir *keydir, const struct model *model, struct slice key,
                          uint32_t steps)
{
    struct keydir_cursor cursor;
    bool found = false;
    uint32_t at = key.size > 0 ? model_find(model, key, &found) : 0;
    const struct keydir_entry *entry = keydir_seek(keydir, key, &cursor);
    for (uint32_t i = 0; i <= steps; i++, at++) {
        expect_row(entry, at < model->count ? model->row[at] : NULL);
        if (entry == NULL) break;
        entry = keydir_next(&cursor);
    }
    at = key.size > 0 ? model_find(model, key, &found) : model->count;
    entry = keydir_seek_last(keydir, key, &cursor);
    for (uint32_t i = 0; i <= steps; i++, at--) {
        expect_row(entry, at > 0 ? model->row[at - 1] : NULL);
        if (entry == NULL) break;
        entry = keydir_previous(&cursor);
    }
}

static int row_order(const void *a, const void *b)
{
    const struct row *left = *(const struct row *const *)a;
    const struct row *right = *(const struct row *const *)b;
    if (left->expiry_ms != right->expiry_ms) return left->expiry_ms < right->expiry_ms ? -1 : 1;
    return slice_compare(row_key(left), row_key(right));
}

static void expect_expired(const struct keydir *keydir, const struct model *model, uint64_t now_ms)
{
    struct row **due = mem_alloc((model->count + 1u) * sizeof *due);
    struct keydir_cursor cursor;
    uint32_t count = 0;
    uint64_t first = 0;
    for (uint32_t i = 0; i < model->count; i++) {
        const uint64_t expiry = model->row[i]->expiry_ms;
        if (expiry > 0 && (first == 0 || expiry < first)) first = expiry;
        if (expiry > 0 && expiry <= now_ms) due[count++] = model->row[i];
    }
    qsort(due, count, sizeof *due, row_order);
    const struct keydir_entry *entry = keydir_expired(keydir, now_ms, &cursor);
    for (uint32_t i = 0; i < count; i++) {
        expect_row(entry, due[i]);
        entry = keydir_expired_next(&cursor, now_ms);
    }
    EXPECT_TRUE(entry == NULL);
    EXPECT_EQ(keydir_expiry_first(keydir), first);
    EXPECT_EQ(keydir_expiring(keydir), model->expiring);
    mem_free(due);
}

struct seen {
    const struct model *model;
    uint8_t *times; /* By place in the model. */
    uint64_t count;
    uint64_t seed;
    uint64_t low; /* Every position visited must be at or above. */
};

static void see(void *context, const struct keydir_entry *entry)
{
    struct seen *seen = context;
    bool found = false;
    const struct keydir_info info = keydir_info(entry);
    const uint32_t at = model_find(seen->model, info.key, &found);
    EXPECT_TRUE(found);
    EXPECT_LE(seen->low, hash64_seeded(info.key.data, info.key.size, seen->seed) >> 16);
    seen->times[at]++;
    seen->count++;
}

/* A whole scan sees every row once; the part from any cursor on sees just what lies behind it. */
static void expect_scan(const struct keydir *keydir, const struct model *model, uint64_t seed,
                        uint64_t step, uint64_t from)
{
    struct seen seen = {.model = model, .seed = seed, .low = from};
    seen.times = mem_zero(model->count + 1u);
    uint64_t cursor = from;
    uint64_t rounds = 0;
    do {
        const uint64_t before = seen.count;
        seen.low = cursor;
        cursor = keydir_scan(keydir, cursor, step, see, &seen);
        EXPECT_TRUE(cursor == 0 || cursor > seen.low);
        EXPECT_TRUE(cursor == 0 || seen.count - before >= step);
        EXPECT_TRUE(cursor >> 48 == 0);
        rounds++;
    } while (cursor != 0 && rounds < 1000000);
    EXPECT_EQ(cursor, 0);
    for (uint32_t i = 0; i < model->count; i++) {
        const struct row *row = model->row[i];
        const bool due = hash64_seeded(row->key, row->key_size, seed) >> 16 >= from;
        EXPECT_EQ(seen.times[i], due ? 1 : 0);
    }
    mem_free(seen.times);
}

/* ---- random operations ----------------------------------------------------------------------- */

struct mix {
    uint64_t seed;
    uint32_t operations;
    uint32_t keys;   /* Different ones. */
    uint32_t styles; /* Ways to write a key. */
    bool is_bulk;
};

/* Keys that share much, little or nothing; some are the beginning of others. */
static struct slice mix_key(const struct mix *mix, struct prng *prng, uint8_t *bytes)
{
    const uint64_t number = prng_below(prng, mix->keys);
    const uint64_t style = number % mix->styles;
    int size = 0;
    if (style == 0) size = snprintf((char *)bytes, MODEL_KEY_MAX, "key:%012u", (unsigned)number);
    if (style == 1) size = snprintf((char *)bytes, MODEL_KEY_MAX, "%x", (unsigned)number);
    if (style == 2) {
        const uint64_t scattered = number * 0x9E3779B97F4A7C15u;
        size = (int)(1 + number % 11);
        for (int i = 0; i < size; i++) bytes[i] = (uint8_t)(scattered >> 8 * (i % 8));
    }
    if (style == 3) {
        size = (int)(1 + number % 90); /* Nothing but their length tells these apart. */
        memset(bytes, number % 2 == 0 ? 0 : 0xFF, (size_t)size);
    }
    return slice_of(bytes, (uint64_t)size);
}

static void mix_step(const struct mix *mix, struct prng *prng, struct keydir *keydir,
                     struct model *model, uint32_t step)
{
    uint8_t bytes[MODEL_KEY_MAX];
    uint8_t value[VALUE_INLINE_MAX + 8];
    const struct slice key = mix_key(mix, prng, bytes);
    const uint64_t expiry = prng_below(prng, 3) == 0 ? 1 + prng_below(prng, 1ull << (1 + step % 50))
                                                     : 0;
    /* Waves of growing and shrinking, so that nodes merge and tables grow in all states. */
    const uint64_t put_share = step / 8192 % 2 == 0 ? 60 : 15;
    const uint64_t dice = prng_below(prng, 100);
    bool found = false;
    struct keydir_dead dead = {.file = 1, .size = 1};
    struct keydir_dead wanted;
    if (dice < put_share) {
        const uint64_t size = prng_below(prng, sizeof value + 1);
        const bool is_compressed = prng_below(prng, 4) == 0;
        for (uint64_t i = 0; i < size; i++) value[i] = (uint8_t)prng_next(prng);
        const struct place place = {.file = step, .offset = (uint32_t)prng_next(prng) & ~7u};
        keydir_put(keydir, key, slice_of(value, size), is_compressed ? KEYDIR_COMPRESSED : 0,
                   step + 1ull, expiry, place, &dead);
        wanted = model_put(model, key, slice_of(value, size), is_compressed, step + 1ull, expiry,
                           place);
        EXPECT_EQ(dead.file, wanted.file);
        EXPECT_EQ(dead.size, wanted.size);
    } else if (dice < 80) {
        EXPECT_EQ(keydir_remove(keydir, key, &dead), model_remove(model, key, &wanted));
        EXPECT_EQ(dead.file, wanted.file);
        EXPECT_EQ(dead.size, wanted.size);
    } else if (dice < 90) {
        const uint32_t at = model_find(model, key, &found);
        EXPECT_EQ(keydir_expire(keydir, key, step + 1ull, expiry), found);
        if (found) {
            model->row[at]->revision = step + 1ull;
            model_expiry(model, model->row[at], expiry);
        }
    } else {
        const uint32_t at = model_find(model, key, &found);
        expect_row(keydir_find(keydir, key), found ? model->row[at] : NULL);
        if (!mix->is_bulk) expect_around(keydir, model, key, 3);
    }
    EXPECT_EQ(keydir_count(keydir), model->count);
    if (!mix->is_bulk) EXPECT_EQ(keydir_expiring(keydir), model->expiring);
}

/* A move happens only from where the entry says that it is. */
static void mix_move(const struct mix *mix, struct prng *prng, struct keydir *keydir,
                     struct model *model)
{
    uint8_t bytes[MODEL_KEY_MAX];
    const struct slice key = mix_key(mix, prng, bytes);
    const struct place to = {.file = (uint32_t)prng_next(prng), .offset = 8};
    bool found = false;
    const uint32_t at = model_find(model, key, &found);
    struct place from = found ? model->row[at]->place : (struct place){0};
    from.file ^= 1;
    EXPECT_FALSE(keydir_move(keydir, key, from, to));
    from.file ^= 1;
    from.offset ^= 8;
    EXPECT_FALSE(keydir_move(keydir, key, from, to));
    from.offset ^= 8;
    EXPECT_EQ(keydir_move(keydir, key, from, to), found);
    if (!found) return;
    model->row[at]->place = to;
    expect_row(keydir_find(keydir, key), model->row[at]);
}

/* Another keydir that gets the same keys in another order, with other places, has the same hash. */
static void expect_hash(const struct keydir *keydir, const struct model *model)
{
    struct keydir *other = keydir_create(77);
    for (uint32_t i = model->count; i > 0; i--) {
        const struct row *row = model->row[i - 1];
        const struct slice value = slice_of(row->value, row->value_size);
        keydir_put(other, row_key(row), value, row->is_compressed ? KEYDIR_COMPRESSED : 0,
                   row->revision, row->expiry_ms, (struct place){0}, NULL);
    }
    EXPECT_EQ(keydir_hash(other), keydir_hash(keydir));
    keydir_destroy(other);
}

static void run_mix(struct mix mix)
{
    static struct model model;
    struct prng prng = prng_seed(mix.seed);
    struct keydir *keydir = keydir_create(mix.seed);
    uint64_t hash = 0;
    keydir_rehash_begin(keydir);
    for (uint32_t step = 0; step < mix.operations; step++) {
        mix_step(&mix, &prng, keydir, &model, step);
        mix_move(&mix, &prng, keydir, &model);
        if (step % 5 == 0 && keydir_rehash(keydir, 1 + step % 9, &hash)) {
            EXPECT_EQ(hash, keydir_hash(keydir));
            keydir_rehash_begin(keydir);
        }
        if (step % 1777 == 0) {
            keydir_check(keydir);
            expect_expired(keydir, &model, prng_below(&prng, 1ull << prng_below(&prng, 51)));
            expect_scan(keydir, &model, mix.seed, 1 + prng_below(&prng, 40), 0);
            expect_scan(keydir, &model, mix.seed, 7, prng_next(&prng) >> 16);
            expect_around(keydir, &model, slice_of(NULL, 0), MODEL_MAX);
            expect_hash(keydir, &model);
        }
        if (step % 50021 == 50020) {
            keydir_clear(keydir);
            model_clear(&model);
            keydir_check(keydir);
        }
    }
    keydir_check(keydir);
    model_clear(&model);
    keydir_destroy(keydir);
}

/* The same operations during a bulk load, which begins with some keys. */
static void run_bulk(struct mix mix)
{
    static struct model model;
    struct prng prng = prng_seed(mix.seed);
    struct keydir *keydir = keydir_create(mix.seed);
    mix.is_bulk = true;
    for (uint32_t round = 0; round < 4; round++) {
        keydir_bulk_begin(keydir);
        for (uint32_t step = 0; step < mix.operations; step++) {
            mix_step(&mix, &prng, keydir, &model, step);
            mix_move(&mix, &prng, keydir, &model);
            if (round == 2 && step == mix.operations / 4) {
                keydir_clear(keydir);
                model_clear(&model);
            }
        }
        keydir_bulk_end(keydir);
        keydir_check(keydir);
        EXPECT_EQ(keydir_expiring(keydir), model.expiring);
        expect_expired(keydir, &model, prng_below(&prng, 1ull << prng_below(&prng, 51)));
        expect_around(keydir, &model, slice_of(NULL, 0), MODEL_MAX);
        expect_hash(keydir, &model);
    }
    model_clear(&model);
    keydir_destroy(keydir);
}

TEST(keydir, bulk_load_ends_like_single_changes)
{
    run_bulk((struct mix){.seed = 3, .operations = 0, .keys = 10, .styles = 1});
    run_bulk((struct mix){.seed = 4, .operations = 9000, .keys = 8000, .styles = 4});
    run_bulk((struct mix){.seed = 5, .operations = 20000, .keys = 5000, .styles = 1});
    run_bulk((struct mix){.seed = 6, .operations = 300, .keys = 200, .styles = 4});
}

TEST(keydir, agrees_with_a_sorted_array_of_similar_keys)
{
    run_mix((struct mix){.seed = 1, .operations = 120000, .keys = 4000, .styles = 1});
}

TEST(keydir, agrees_with_a_sorted_array_of_all_kinds_of_keys)
{
    run_mix((struct mix){.seed = 0xABCDEF, .operations = 90000, .keys = 8000, .styles = 4});
}

TEST(keydir, agrees_with_a_sorted_array_of_a_few_keys)
{
    for (uint64_t seed = 2; seed < 8; seed++) {
        run_mix((struct mix){.seed = seed, .operations = 6000, .keys = 150, .styles = 4});
    }
}

/* ---- single promises ------------------------------------------------------------------------- */

static struct slice numbered(char *text, uint64_t number)
{
    (void)snprintf(text, 32, "key:%012llu", (unsigned long long)number);
    return slice_text(text);
}

TEST(keydir, empty_one_answers_nothing)
{
    struct keydir_cursor cursor;
    struct keydir *keydir = keydir_create(7);
    const struct slice key = slice_text("k");
    const struct slice none = slice_of(NULL, 0);
    keydir_check(keydir);
    EXPECT_EQ(keydir_count(keydir), 0);
    EXPECT_TRUE(keydir_find(keydir, key) == NULL);
    EXPECT_FALSE(keydir_remove(keydir, key, NULL));
    EXPECT_FALSE(keydir_expire(keydir, key, 1, 1));
    EXPECT_TRUE(keydir_seek(keydir, none, &cursor) == NULL);
    EXPECT_TRUE(keydir_next(&cursor) == NULL);
    EXPECT_TRUE(keydir_seek(keydir, key, &cursor) == NULL);
    EXPECT_TRUE(keydir_seek_last(keydir, none, &cursor) == NULL);
    EXPECT_TRUE(keydir_previous(&cursor) == NULL);
    EXPECT_TRUE(keydir_seek_last(keydir, key, &cursor) == NULL);
    EXPECT_TRUE(keydir_expired(keydir, UINT64_MAX, &cursor) == NULL);
    EXPECT_EQ(keydir_expiry_first(keydir), 0);
    EXPECT_TRUE(keydir_random(keydir, 5) == NULL);
    EXPECT_EQ(keydir_scan(keydir, 0, 10, NULL, NULL), 0);
    keydir_destroy(keydir);
}

TEST(keydir, keys_and_values_of_extreme_sizes)
{
    struct keydir *keydir = keydir_create(7);
    uint8_t *bytes = mem_alloc(KEY_SIZE_MAX);
    const struct place place = {.file = UINT32_MAX, .offset = UINT32_MAX - 7};
    memset(bytes, 'x', KEY_SIZE_MAX);
    for (uint64_t size = KEY_SIZE_MAX; size > 0; size = size > 200 ? size - 77 : size - 1) {
        const struct slice value = {.data = NULL, .size = VALUE_SIZE_MAX};
        keydir_put(keydir, slice_of(bytes, size), value, 0, UINT64_MAX, UINT64_MAX, place, NULL);
    }
    keydir_check(keydir);
    for (uint64_t size = KEY_SIZE_MAX; size > 0; size = size > 200 ? size - 77 : size - 1) {
        const struct keydir_entry *entry = keydir_find(keydir, slice_of(bytes, size));
        EXPECT_TRUE(entry != NULL);
        const struct keydir_info info = keydir_info(entry);
        EXPECT_EQ(info.key.size, size);
        EXPECT_EQ(info.value_size, VALUE_SIZE_MAX);
        EXPECT_EQ(info.expiry_ms, UINT64_MAX);
        EXPECT_EQ(info.revision, UINT64_MAX);
        EXPECT_EQ(info.place.offset, UINT32_MAX - 7);
        EXPECT_FALSE(info.is_inline);
        EXPECT_TRUE(keydir_remove(keydir, slice_of(bytes, size), NULL));
    }
    EXPECT_EQ(keydir_count(keydir), 0);
    keydir_check(keydir);
    mem_free(bytes);
    keydir_destroy(keydir);
}

TEST(keydir, arguments_may_borrow_from_the_entry_that_changes)
{
    struct keydir *keydir = keydir_create(9);
    const char *text = "a value of forty-three bytes, kept in place";
    keydir_put(keydir, slice_text("the key"), slice_text(text), 0, 1, 0, (struct place){0}, NULL);
    for (uint64_t i = 0; i < 60; i++) {
        /* The expiry comes and goes: the key moves within the entry or the entry moves. */
        const struct keydir_info info = keydir_info(keydir_find(keydir, slice_text("the key")));
        const uint64_t cut = i % 5;
        EXPECT_TRUE(slice_equal(info.inline_value, slice_text(text)));
        keydir_put(keydir, info.key, slice_of(info.inline_value.data + cut, 3), 0, i, i % 3 * 1000,
                   info.place, NULL);
        const struct keydir_info after = keydir_info(keydir_find(keydir, slice_text("the key")));
        EXPECT_TRUE(slice_equal(after.inline_value, slice_of(text + cut, 3)));
        EXPECT_TRUE(keydir_expire(keydir, after.key, i, i % 2));
        keydir_put(keydir, keydir_info(keydir_find(keydir, slice_text("the key"))).key,
                   slice_text(text), 0, i, i % 4, info.place, NULL);
        keydir_check(keydir);
    }
    const struct keydir_info info = keydir_info(keydir_find(keydir, slice_text("the key")));
    EXPECT_TRUE(keydir_remove(keydir, info.key, NULL));
    EXPECT_EQ(keydir_count(keydir), 0);
    keydir_destroy(keydir);
}

TEST(keydir, overwriting_in_place_keeps_the_entry_where_it_is)
{
    struct keydir *keydir = keydir_create(9);
    char text[32];
    for (uint64_t i = 0; i < 1000; i++) {
        keydir_put(keydir, numbered(text, i), slice_text("12345678"), 0, i, 0, (struct place){0},
                   NULL);
    }
    const uint64_t memory = keydir_memory(keydir);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct keydir_entry *before = keydir_find(keydir, numbered(text, i));
        keydir_put(keydir, numbered(text, i), slice_text("87654321"), 0, i, 0, (struct place){0},
                   NULL);
        keydir_put(keydir, numbered(text, i), slice_text("1"), 0, i, 0, (struct place){0}, NULL);
        keydir_put(keydir, numbered(text, i), slice_text("18273645"), 0, i, 0, (struct place){0},
                   NULL);
        EXPECT_TRUE(keydir_find(keydir, numbered(text, i)) == before);
    }
    EXPECT_EQ(keydir_memory(keydir), memory);
    keydir_check(keydir);
    keydir_destroy(keydir);
}

TEST(keydir, memory_follows_the_keys)
{
    const uint64_t used = mem_used();
    struct keydir *keydir = keydir_create(3);
    const uint64_t empty = keydir_memory(keydir);
    const uint64_t count = 20000;
    char text[32];
    for (uint64_t i = 0; i < count; i++) {
        keydir_put(keydir, numbered(text, i * 7919 % count), slice_text("v"), 0, i, i % 2,
                   (struct place){0}, NULL);
    }
    EXPECT_LT(count * 40, keydir_memory(keydir));
    EXPECT_LT(keydir_memory(keydir), count * 130);
    for (uint64_t i = 0; i < count; i++)
        EXPECT_TRUE(keydir_remove(keydir, numbered(text, i), NULL));
    keydir_check(keydir);
    keydir_clear(keydir);
    EXPECT_FALSE(keydir_bury(keydir, UINT32_MAX));
    EXPECT_EQ(keydir_memory(keydir), empty);
    keydir_destroy(keydir);
    EXPECT_EQ(mem_used(), used);
}

/* In constant time: all of it is still there, but counts as left over, and goes little by little. */
/* As many clients that do nothing but FLUSHALL make it. */
TEST(keydir, clearing_little_again_and_again_leaves_nothing)
{
    struct keydir *keydir = keydir_create(1);
    uint64_t memory = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        keydir_put(keydir, slice_text("key"), slice_text("value"), 0, i + 1, i + 2,
                   (struct place){.file = 1, .offset = 4096}, NULL);
        if (i == 0) memory = keydir_memory(keydir);
        EXPECT_EQ(keydir_memory(keydir), memory);
        keydir_clear(keydir);
        EXPECT_EQ(keydir_count(keydir), 0);
        EXPECT_EQ(keydir_hash(keydir), 0);
        EXPECT_FALSE(keydir_bury(keydir, 1));
    }
    keydir_destroy(keydir);
}

TEST(keydir, clear_leaves_memory_that_is_given_back_in_slices)
{
    const uint64_t used = mem_used();
    struct keydir *keydir = keydir_create(3);
    const uint64_t empty = keydir_used(keydir);
    char text[32];
    for (uint64_t i = 0; i < 20000; i++) {
        keydir_put(keydir, numbered(text, i), slice_text("v"), 0, i, i % 2, (struct place){0},
                   NULL);
    }
    const uint64_t full = keydir_memory(keydir);
    keydir_clear(keydir);
    EXPECT_EQ(keydir_count(keydir), 0);
    EXPECT_TRUE(keydir_find(keydir, numbered(text, 7)) == NULL);
    EXPECT_LT(full - 1, keydir_memory(keydir));
    EXPECT_EQ(keydir_used(keydir), empty);
    keydir_put(keydir, slice_text("new"), slice_text("value"), 0, 1, 0, (struct place){0}, NULL);
    uint64_t before = keydir_memory(keydir);
    uint32_t steps = 1;
    for (; keydir_bury(keydir, 1); steps++) {
        EXPECT_LT(keydir_memory(keydir), before + 1);
        EXPECT_LT(before - keydir_memory(keydir), 2 * 1024 * 1024);
        before = keydir_memory(keydir);
    }
    EXPECT_LT(10, steps);
    EXPECT_LT(keydir_memory(keydir), full / 4);
    keydir_check(keydir);
    for (uint64_t i = 0; i < 40000; i++) {
        keydir_put(keydir, numbered(text, i), slice_text("v"), 0, i, 0, (struct place){0}, NULL);
        if (i % 20000 == 19999) keydir_clear(keydir);
    }
    EXPECT_TRUE(keydir_bury(keydir, 1));
    keydir_destroy(keydir); /* What is left goes with it. */
    EXPECT_EQ(mem_used(), used);
}

TEST(keydir, state_hash_tells_states_apart)
{
    struct keydir *keydir = keydir_create(3);
    const struct place place = {.file = 4, .offset = 4096};
    const struct slice key = slice_text("key");
    const struct slice long_value = slice_of(NULL, VALUE_INLINE_MAX + 1);
    uint64_t seen[9];
    EXPECT_EQ(keydir_hash(keydir), 0);
    keydir_put(keydir, key, slice_text("one"), 0, 7, 0, place, NULL);
    seen[0] = keydir_hash(keydir);
    keydir_put(keydir, key, slice_text("two"), 0, 7, 0, place, NULL);
    seen[1] = keydir_hash(keydir);
    keydir_put(keydir, key, slice_text("two"), 0, 8, 0, place, NULL);
    seen[2] = keydir_hash(keydir);
    EXPECT_TRUE(keydir_expire(keydir, key, 8, 5));
    seen[3] = keydir_hash(keydir);
    keydir_put(keydir, key, long_value, 0, 8, 5, place, NULL);
    seen[4] = keydir_hash(keydir);
    keydir_put(keydir, key, slice_of(NULL, VALUE_INLINE_MAX + 2), 0, 8, 5, place, NULL);
    seen[5] = keydir_hash(keydir);
    keydir_put(keydir, key, long_value, KEYDIR_COMPRESSED, 8, 5, place, NULL);
    seen[6] = keydir_hash(keydir);
    EXPECT_TRUE(keydir_move(keydir, key, place, (struct place){.file = 5, .offset = 8}));
    EXPECT_EQ(keydir_hash(keydir), seen[6]);
    keydir_put(keydir, slice_text("kez"), slice_text(""), 0, 9, 0, place, NULL);
    seen[7] = keydir_hash(keydir);
    EXPECT_TRUE(keydir_remove(keydir, key, NULL));
    seen[8] = keydir_hash(keydir);
    for (uint32_t i = 0; i < 9; i++) {
        EXPECT_NE(seen[i], 0);
        for (uint32_t k = 0; k < i; k++) EXPECT_TRUE(seen[i] != seen[k]);
    }
    EXPECT_TRUE(keydir_remove(keydir, slice_text("kez"), NULL));
    EXPECT_EQ(keydir_hash(keydir), 0);
    keydir_destroy(keydir);
}

/* Manifests carry it: the formula must not change from one version to the next. */
TEST(keydir, state_hash_is_the_one_of_the_first_version)
{
    struct keydir *keydir = keydir_create(3);
    const struct place place = {.file = 4, .offset = 4096};
    keydir_put(keydir, slice_text("key"), slice_text("value"), 0, 65536, 0, place, NULL);
    EXPECT_EQ(keydir_hash(keydir), 0x6B98091E1B8683BCull);
    keydir_put(keydir, slice_text("long"), slice_of(NULL, 1000), KEYDIR_COMPRESSED, 65537,
               1700000000000, place, NULL);
    EXPECT_EQ(keydir_hash(keydir), 0x8359F454D5294FDAull);
    keydir_destroy(keydir);
}

TEST(keydir, rehash_counts_changes_in_between)
{
    struct keydir *keydir = keydir_create(3);
    char text[32];
    uint64_t hash = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        keydir_put(keydir, numbered(text, i), slice_text("v"), 0, i, 0, (struct place){0}, NULL);
    }
    keydir_rehash_begin(keydir);
    uint64_t steps = 0;
    while (!keydir_rehash(keydir, 10, &hash)) {
        const uint64_t i = steps++ * 7;
        keydir_put(keydir, numbered(text, i), slice_text("w"), 0, i + 1, 0, (struct place){0},
                   NULL);
        (void)keydir_remove(keydir, numbered(text, i + 3), NULL);
        EXPECT_EQ(keydir_expire(keydir, numbered(text, i), i + 2, 9), true);
    }
    EXPECT_LT(3, steps);
    EXPECT_EQ(hash, keydir_hash(keydir));
    keydir_rehash_begin(keydir);
    EXPECT_FALSE(keydir_rehash(keydir, 10, &hash));
    keydir_clear(keydir);
    while (!keydir_rehash(keydir, 10, &hash)) continue;
    EXPECT_EQ(hash, 0);
    keydir_destroy(keydir);
}
