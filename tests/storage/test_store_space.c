/* Tests of storage/store_compact*.c and store_space.c: how much space the files take, how much is written for that, and
 * who else needs files. (F05: what was written elsewhere; F10: what cannot be read; F11: a full disk.) */
#include "tests/storage/store_model.h"

#include "storage/store_ship.h"
#include "storage/store_space.h"
#include "storage/table.h"

static struct model model; /* too big for the stack */

static struct store_compaction figures(void)
{
    return store_compaction(model.store);
}

#define SPACE_KEYS 4000u
#define SPACE_VALUE 256u
#define SPACE_SEGMENT (128u * 1024u)

static uint32_t space_keys; /* from which random ones are taken */

static void space_start(uint64_t seed)
{
    space_keys = SPACE_KEYS;
    model_init(&model, seed);
    model.config.segment_size = SPACE_SEGMENT;
    model.config.retention_size = 2 * SPACE_SEGMENT;
    model.config.tail_size = SPACE_SEGMENT;
    model.config.compaction_rate = 64u * 1024u;
    model_bootstrap(&model);
}

/* One entry of @count effects of @kind on keys from @first on, or random ones. */
static void space_write(uint8_t kind, uint32_t first, uint32_t count, bool is_random)
{
    uint8_t value[SPACE_VALUE];
    char key[40];
    struct buf payload = {0};
    buf_u32(&payload, count);
    buf_u32(&payload, 0);
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t number = is_random ? prng_below(&model.prng, space_keys) : first + i;
        (void)snprintf(key, sizeof key, "key:%027llu", (unsigned long long)number);
        for (uint32_t j = 0; j < sizeof value; j++) value[j] = (uint8_t)prng_next(&model.prng);
        struct effect effect = {.kind = kind, .key = slice_text(key)};
        if (kind == EFFECT_PUT) effect.value = slice_of(value, sizeof value);
        if (kind == EFFECT_EXPIRE_AT) effect.expiry_ms = 1 + prng_next(&model.prng) % 1000000;
        effect_encode(&effect, &payload);
    }
    model_add(&model, RECORD_COMMAND, buf_slice(&payload));
    buf_close(&payload);
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    EXPECT_EQ(store_flush_wait(model.store), OK);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
}

/* What a loop does while writes go on: some turns, and what the disk gets done meanwhile. */
static void space_turns(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (i % 4 == 0) model.now_ms++; /* So the log is hardly ever idle, and needs no marks. */
        store_turn(model.store, model.now_ms);
        (void)sim_disk_step(&model.disk);
    }
}

static uint64_t space_live(void)
{
    return keydir_count(store_keys(model.store)) * (EFFECT_HEADER_SIZE + 31 + SPACE_VALUE + 1);
}

/* The keys by their revision and place, whose values are all there. */
static void space_verify(void)
{
    struct keydir_cursor cursor;
    struct keydir *keys = store_keys(model.store);
    const struct slice none = slice_of(NULL, 0);
    for (const struct keydir_entry *entry = keydir_seek(keys, none, &cursor); entry != NULL;
         entry = keydir_next(&cursor)) {
        struct slice value;
        EXPECT_EQ(store_value(model.store, entry, &value), OK);
        EXPECT_EQ(value.size, SPACE_VALUE);
    }
}

static void space_restart(void)
{
    const uint64_t applied = store_applied_index(model.store);
    const uint64_t hash = keydir_hash(store_keys(model.store));
    store_close(model.store);
    model_open(&model);
    EXPECT_EQ(store_apply(model.store, applied), OK);
    EXPECT_EQ(keydir_hash(store_keys(model.store)), hash);
    space_verify();
}

TEST(store_space, random_overwrites_take_twice_what_lives_and_little_more_is_written)
{
    uint64_t worst = 0;
    space_start(1);
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    for (uint32_t i = 0; i < 2000; i++) {
        space_write(EFFECT_PUT, 0, 50, true);
        space_turns(30);
        const uint64_t bound = 2 * space_live() + model.config.retention_size + 3 * SPACE_SEGMENT;
        const uint64_t used = store_stats(model.store).disk_size;
        if (i > 200 && used > worst) worst = used;
        if (i > 200) EXPECT_LE(used, bound);
    }
    const struct store_compaction end = figures();
    char amplification[24];
    store_amplification(&end, amplification);
    print_message("live %llu, most on disk %llu, %llu jobs, write amplification %s\n",
                  (unsigned long long)space_live(), (unsigned long long)worst,
                  (unsigned long long)end.jobs, amplification);
    EXPECT_LE(end.total_written * 10, end.user_written * 25);
    EXPECT_LT(20, end.jobs);
    EXPECT_LE(end.live, space_live() + space_live() / 50);
    space_restart();
    /* What was counted along the way is what a start counts. */
    EXPECT_LE(end.live, store_compaction(model.store).live + space_live() / 50);
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, deletes_go_once_nothing_is_left_that_they_hide)
{
    space_start(2);
    /* Keys that stay for ever, then others that come and go above them. */
    for (uint32_t i = 0; i < 2000; i += 50) space_write(EFFECT_PUT, 100000 + i, 50, false);
    for (uint32_t i = 0; i < 600; i++) {
        space_write(EFFECT_PUT, 200000 + 20 * i, 20, false);
        space_turns(10);
        if (i >= 40) space_write(EFFECT_DELETE, 200000 + 20 * (i - 40), 20, false);
        space_turns(10);
    }
    space_turns(2000);
    const uint64_t used = store_stats(model.store).disk_size;
    EXPECT_EQ(keydir_count(store_keys(model.store)), 2000 + 800);
    print_message("live %llu, on disk %llu\n", (unsigned long long)space_live(),
                  (unsigned long long)used);
    EXPECT_LE(used, 2 * space_live() + model.config.retention_size + 3 * SPACE_SEGMENT);
    space_restart();
    EXPECT_EQ(keydir_count(store_keys(model.store)), 2000 + 800);
    /* All of them deleted: in the end there is hardly anything. */
    for (uint32_t i = 0; i < 2000; i += 50) space_write(EFFECT_DELETE, 100000 + i, 50, false);
    for (uint32_t i = 0; i < 800; i += 20)
        space_write(EFFECT_DELETE, 200000 + 11200 + i, 20, false);
    EXPECT_EQ(keydir_count(store_keys(model.store)), 0);
    for (uint32_t i = 0; i < 400; i++) {
        space_write(EFFECT_PUT, 1, 20, false);
        space_turns(20);
    }
    space_turns(2000);
    EXPECT_LE(store_stats(model.store).disk_size,
              model.config.retention_size + 3 * SPACE_SEGMENT + 20 * 400);
    space_restart();
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, changes_of_expiry_do_not_pile_up)
{
    space_start(3);
    for (uint32_t i = 0; i < 1000; i += 50) space_write(EFFECT_PUT, i, 50, false);
    for (uint32_t i = 0; i < 1500; i++) {
        space_write(EFFECT_EXPIRE_AT, i * 50 % 1000, 50, false);
        space_turns(15);
    }
    space_turns(2000);
    const uint64_t used = store_stats(model.store).disk_size;
    print_message("live %llu, on disk %llu\n", (unsigned long long)space_live(),
                  (unsigned long long)used);
    EXPECT_LE(used, 2 * space_live() + model.config.retention_size + 3 * SPACE_SEGMENT);
    space_restart();
    EXPECT_EQ(keydir_expiring(store_keys(model.store)), 1000);
    store_close(model.store);
    model_close(&model);
}

static void space_flush(void)
{
    struct buf payload = {0};
    const struct effect flush = {.kind = EFFECT_FLUSH};
    buf_u32(&payload, 1);
    buf_u32(&payload, 0);
    effect_encode(&flush, &payload);
    model_add(&model, RECORD_COMMAND, buf_slice(&payload));
    buf_close(&payload);
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    EXPECT_EQ(store_flush_wait(model.store), OK);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
}

TEST(store_space, a_flush_stays_while_an_older_file_does)
{
    space_start(10);
    model.config.retention_size = 0;
    space_restart();
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    space_flush();
    /* The oldest file stays, since its hint cannot be read; others are compacted meanwhile, that of the flush too. */
    (void)snprintf(model.disk.read_error, sizeof model.disk.read_error, "shard-0000/00000001.idx");
    for (uint32_t i = 0; i < 400; i++) {
        space_write(EFFECT_PUT, 1000 + i % 50 * 50, 50, false);
        space_turns(30);
    }
    EXPECT_LT(5, figures().jobs);
    EXPECT_LT(0, figures().given_up);
    EXPECT_TRUE(sim_disk_exists(&model.disk, "shard-0000/00000001.log"));
    EXPECT_FALSE(sim_disk_exists(&model.disk, "shard-0000/00000010.log"));
    EXPECT_FALSE(sim_disk_exists(&model.disk, "shard-0000/00000012.log"));
    model.disk.read_error[0] = 0;
    space_restart();
    EXPECT_EQ(keydir_count(store_keys(model.store)), 2500);
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, a_flush_gives_everything_back)
{
    space_start(4);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < SPACE_KEYS; i += 50) {
            space_write(EFFECT_PUT, i, 50, false);
            space_turns(5);
        }
        space_flush();
        /* Nobody has to write for it: what is beyond the window goes by itself. */
        model.now_ms += 2000;
        model_idle(&model);
        EXPECT_LE(store_stats(model.store).disk_size,
                  model.config.retention_size + 3 * SPACE_SEGMENT);
        space_restart();
        EXPECT_EQ(keydir_count(store_keys(model.store)), 0);
    }
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, forced_it_gives_back_all_that_it_can)
{
    space_start(5);
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    for (uint32_t i = 0; i < 25; i++) space_write(EFFECT_PUT, 0, 50, true);
    model_idle(&model);
    EXPECT_EQ(figures().jobs, 0);
    EXPECT_LT(SPACE_SEGMENT / 2, figures().garbage);
    store_compact(model.store);
    EXPECT_TRUE(figures().is_forced);
    model_idle(&model);
    EXPECT_FALSE(figures().is_forced);
    EXPECT_LT(0, figures().jobs);
    EXPECT_LT(0, figures().bytes_freed);
    EXPECT_LE(figures().garbage, space_live() / 16);
    space_restart();
    store_close(model.store);
    model_close(&model);
}

/* ---- who else needs files ------------------------------------------------------------------------- */

struct ids {
    uint64_t list[256];
    uint32_t count;
};

static void note_sealed(void *context, const struct store_file *file)
{
    struct ids *ids = context;
    if (file->state == STORE_FILE_SEALED && ids->count < 256)
        ids->list[ids->count++] = file->file_id;
}

/* Reads the first bytes of a file as a peer would. */
static enum err file_read(uint64_t id)
{
    struct store_piece piece = {0};
    struct slice bytes;
    enum err err = store_piece_begin(model.store, &piece, id, 0, 4096);
    while (err == OK && !piece.is_done && sim_disk_step(&model.disk)) continue;
    if (err == OK) err = store_piece_take(model.store, &piece, &bytes);
    store_piece_close(model.store, &piece);
    return err;
}

TEST(store_space, pinned_files_stay_until_they_are_too_much)
{
    space_start(6);
    space_keys = 4 * SPACE_KEYS;
    for (uint32_t i = 0; i < space_keys; i += 50) space_write(EFFECT_PUT, i, 50, false);
    for (uint32_t i = 0; i < 300; i++) {
        space_write(EFFECT_PUT, 0, 50, true);
        space_turns(20);
    }
    struct ids ids = {0};
    store_files(model.store, note_sealed, &ids);
    const uint64_t pin = store_pin(model.store);
    const uint64_t later = store_pin(model.store);
    EXPECT_TRUE(store_pinned(model.store, pin));
    store_unpin(model.store, later);
    EXPECT_FALSE(store_pinned(model.store, later));
    const uint64_t jobs = figures().jobs;
    uint64_t jobs_seen = 0;
    while (store_pinned(model.store, pin)) {
        space_write(EFFECT_PUT, 0, 50, true);
        space_turns(20);
        if (!store_pinned(model.store, pin)) break;
        for (uint32_t i = 0; i < ids.count; i++) EXPECT_EQ(file_read(ids.list[i]), OK);
        jobs_seen = figures().jobs - jobs;
    }
    EXPECT_LT(1, jobs_seen);
    /* So much was kept for it that its owner has to begin anew. */
    space_turns(200);
    uint32_t gone = 0;
    for (uint32_t i = 0; i < ids.count; i++) gone += file_read(ids.list[i]) == ERR_NOT_FOUND;
    EXPECT_LT(1, gone);
    store_unpin(model.store, pin);
    store_unpin(model.store, 0);
    for (uint32_t i = 0; i < STORE_PINS_MAX; i++) EXPECT_LT(0, store_pin(model.store));
    EXPECT_EQ(store_pin(model.store), 0);
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, f10_what_cannot_be_read_is_left_where_it_is)
{
    space_start(7);
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    model_idle(&model);
    (void)snprintf(model.disk.read_error, sizeof model.disk.read_error, "shard-0000/00000002.log");
    for (uint32_t i = 0; i < 300; i++) {
        space_write(EFFECT_PUT, 0, 50, true);
        space_turns(20);
        /* Nobody else has what cannot be read either. */
        struct mend *mend = store_mend(model.store);
        for (uint32_t j = 0; j < mend->count; j++) mend->wants[j].state = MEND_NOWHERE;
    }
    EXPECT_LT(0, figures().given_up);
    EXPECT_LT(0, figures().jobs);
    EXPECT_TRUE(sim_disk_exists(&model.disk, "shard-0000/00000002.log"));
    EXPECT_TRUE(damage_has(store_damage(model.store), 2));
    model.disk.read_error[0] = 0;
    space_restart();
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, f11_a_full_disk_ends_a_job_and_not_the_store)
{
    space_start(8);
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    model.config.compaction_rate = 0;
    store_close(model.store);
    model_open(&model);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    for (uint32_t i = 0; i < 100; i++) {
        space_write(EFFECT_PUT, 0, 50, true);
        space_turns(10);
    }
    space_turns(100);
    EXPECT_EQ(figures().jobs, 0);
    /* No room for a table: the job is given up, and what it made is gone again. */
    model.disk.capacity = sim_disk_used(&model.disk) + 16384;
    store_compact(model.store);
    for (uint32_t i = 0; i < 3000; i++) space_turns(1);
    EXPECT_LT(0, figures().given_up);
    EXPECT_LE(sim_disk_used(&model.disk), model.disk.capacity);
    model.disk.capacity = UINT64_MAX;
    store_compact(model.store);
    model_idle(&model);
    EXPECT_LT(0, figures().jobs);
    space_restart();
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, a_sealed_file_gives_back_what_a_crash_left_of_it)
{
    static const char name[] = "shard-0000/00000001.log";
    space_start(9);
    for (uint32_t i = 0; i < SPACE_KEYS; i += 50) space_write(EFFECT_PUT, i, 50, false);
    model_idle(&model);
    const uint64_t used = sim_disk_file(&model.disk, name).size;
    EXPECT_LT(used, SPACE_SEGMENT);
    store_close(model.store);
    sim_disk_truncate(&model.disk, name, SPACE_SEGMENT);
    model_open(&model);
    model_idle(&model);
    EXPECT_EQ(sim_disk_file(&model.disk, name).size, used);
    store_close(model.store);
    model_close(&model);
}

TEST(store_space, f11_a_full_disk_is_emptied_by_what_is_deleted)
{
    space_start(11);
    store_close(model.store);
    model.config.reserve_size = 2 * SPACE_SEGMENT;
    model_open(&model);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    model_idle(&model);
    for (uint32_t i = 0; i < 4 * SPACE_KEYS; i += 50) {
        space_write(EFFECT_PUT, i, 50, false);
        space_turns(10);
    }
    model_idle(&model);
    model.disk.capacity = sim_disk_used(&model.disk);
    const uint64_t before = sim_disk_used(&model.disk);
    space_flush();
    for (uint32_t i = 0; i < 20; i++) {
        model.now_ms += 1000;
        space_turns(200);
    }
    print_message("%llu of %llu, %llu jobs, %llu given up\n",
                  (unsigned long long)sim_disk_used(&model.disk), (unsigned long long)before,
                  (unsigned long long)figures().jobs, (unsigned long long)figures().given_up);
    EXPECT_LT(sim_disk_used(&model.disk), before / 2);
    EXPECT_FALSE(store_nospace(model.store));
    model.disk.capacity = UINT64_MAX;
    space_restart();
    EXPECT_EQ(keydir_count(store_keys(model.store)), 0);
    store_close(model.store);
    model_close(&model);
}

/* ---- F05: an effect in the place of another --------------------------------------------------------- */

#define PLACE_KEYS 100u
#define PLACE_VALUE                                                                                \
    441u /* An item of a table takes a sector then, so that blocks have items in the same places. */

static struct slice place_key(uint32_t i)
{
    static char key[40];
    (void)snprintf(key, sizeof key, "key:%027u", i);
    return slice_text(key);
}

static struct slice place_value(uint32_t i)
{
    static uint8_t value[PLACE_VALUE];
    struct prng prng = prng_seed(i);
    for (uint32_t j = 0; j < sizeof value; j++) value[j] = (uint8_t)prng_next(&prng);
    return slice_of(value, sizeof value);
}

static struct keydir_info place_info(uint32_t i)
{
    return keydir_info(keydir_find(store_keys(model.store), place_key(i)));
}

static enum err place_read(uint32_t i)
{
    struct slice value;
    const struct keydir_entry *entry = keydir_find(store_keys(model.store), place_key(i));
    EXPECT_TRUE(entry != NULL);
    const enum err err = store_value(model.store, entry, &value);
    if (err == OK) EXPECT_TRUE(slice_equal(value, place_value(i)));
    return err;
}

/* What another node would give. */
static void place_give(void)
{
    struct mend *mend = store_mend(model.store);
    for (uint32_t i = 0; i < mend->count; i++) {
        struct mend_want *want = &mend->wants[i];
        for (uint32_t k = 0; want->state == MEND_OPEN && k < PLACE_KEYS; k++) {
            if (!slice_equal(buf_slice(&want->key), place_key(k))) continue;
            EXPECT_EQ(want->revision, place_info(k).revision);
            mend_give(mend, want, place_value(k), false);
        }
    }
}

/* The block with the value of @victim becomes a copy of another one of its file, with some other value in the same
 * place. What comes of it: an error, and with the help of others all values again. */
static void misdirect(uint32_t victim)
{
    const struct place place = place_info(victim).place;
    uint32_t other = 0;
    for (; other < PLACE_KEYS; other++) {
        const struct place found = place_info(other).place;
        const bool fits = found.file == place.file &&
                          found.offset % SEGMENT_BLOCK_SIZE == place.offset % SEGMENT_BLOCK_SIZE;
        if (fits && found.offset != place.offset) break;
    }
    EXPECT_LT(other, PLACE_KEYS);
    char name[SEGMENT_NAME_SIZE];
    segment_name(name, "shard-0000", place.file);
    if (!sim_disk_exists(&model.disk, name)) table_name(name, "shard-0000", place.file);
    const uint64_t from = place_info(other).place.offset / SEGMENT_BLOCK_SIZE * SEGMENT_BLOCK_SIZE;
    const uint64_t to = place.offset / SEGMENT_BLOCK_SIZE * SEGMENT_BLOCK_SIZE;
    uint8_t block[SEGMENT_BLOCK_SIZE];
    memcpy(block, sim_disk_file(&model.disk, name).data + from, sizeof block);
    sim_disk_spoil(&model.disk, name, to, slice_of(block, sizeof block));
    EXPECT_EQ(place_read(victim), ERR_CORRUPT);
    EXPECT_TRUE(damage_has(store_damage(model.store), place.file));
    const uint64_t given = store_mend(model.store)->given_total;
    for (uint32_t i = 0; i < 20000 && store_damage(model.store)->count > 0; i++) {
        model.now_ms++;
        store_turn(model.store, model.now_ms);
        (void)sim_disk_step(&model.disk);
        place_give();
    }
    EXPECT_EQ(store_damage(model.store)->count, 0);
    EXPECT_LT(given, store_mend(model.store)->given_total);
    EXPECT_NE(place_info(victim).place.file, place.file);
    for (uint32_t i = 0; i < PLACE_KEYS; i++) EXPECT_EQ(place_read(i), OK);
}

TEST(store_space, f05_an_effect_in_the_place_of_another_is_not_compacted_as_that)
{
    space_start(12);
    store_close(model.store);
    model.config.compaction_rate = 0; /* Only what is damaged is compacted. */
    model.config.retention_size = 0;
    model.config.tail_size = 0;
    model_open(&model);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    for (uint32_t i = 0; i < PLACE_KEYS; i++) {
        struct buf payload = {0};
        const struct effect effect = {
            .kind = EFFECT_PUT, .key = place_key(i), .value = place_value(i)};
        buf_u64(&payload, 1);
        effect_encode(&effect, &payload);
        model_add(&model, RECORD_COMMAND, buf_slice(&payload));
        buf_close(&payload);
        store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
        EXPECT_EQ(store_flush_wait(model.store), OK);
        EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    }
    model_idle(&model);
    misdirect(3); /* in a segment, */
    EXPECT_LT(0, figures().jobs);
    misdirect(3); /* then in the table that came of it */
    const uint64_t hash = keydir_hash(store_keys(model.store));
    store_close(model.store);
    model_open(&model);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    EXPECT_EQ(keydir_hash(store_keys(model.store)), hash);
    for (uint32_t i = 0; i < PLACE_KEYS; i++) EXPECT_EQ(place_read(i), OK);
    store_close(model.store);
    model_close(&model);
}
