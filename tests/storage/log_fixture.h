/* log_fixture.h - a log on a virtual disk, beside a model of what it must hold.
 *
 * The model knows three states: what was appended, what the group under way will make durable, and
 * what is durable. After a crash the log must be exactly one of the last two, whole. */
#ifndef KV_TESTS_STORAGE_LOG_FIXTURE_H
#define KV_TESTS_STORAGE_LOG_FIXTURE_H

#include "storage/base/limits.h"
#include "storage/recover.h"
#include "tests/sim/sim_disk.h"
#include "tests/test.h"

#define MODEL_ENTRIES_MAX 4096u
#define FIXTURE_FOLDER "shard-0003"

struct model {
    uint64_t last;
    uint32_t term[MODEL_ENTRIES_MAX]; /* [index] */
    uint32_t size[MODEL_ENTRIES_MAX]; /* of the payload */
};

struct fixture {
    struct sim_disk disk;
    struct log_config config;
    struct recover_start start;
    struct log log;
    bool is_open;
    struct buf message;
    struct model now;
    struct model under_way;
    struct model durable;
    uint64_t now_ms;
};

static inline void fixture_init(struct fixture *fixture, uint64_t seed)
{
    memset(fixture, 0, sizeof *fixture);
    sim_disk_init(&fixture->disk, seed);
    fixture->config = (struct log_config){
        .disk = &fixture->disk.disk,
        .folder = FIXTURE_FOLDER,
        .shard = 3,
        .cluster_id = 77,
        .node_id = 5,
        .random_seed = seed,
        .segment_size = 64 * KIB,
        .tail_size = 32 * KIB,
    };
    fixture->start.load_number = UINT32_MAX;
    fixture->now_ms = 1000;
}

static inline enum err fixture_try_open(struct fixture *fixture)
{
    buf_close(&fixture->message);
    fixture->config.random_seed++;
    const enum err err = recover_log(&fixture->log, &fixture->config, &fixture->start,
                                     &fixture->message);
    buf_u8(&fixture->message, 0);
    fixture->is_open = err == OK;
    return err;
}

static inline const char *fixture_message(const struct fixture *fixture)
{
    return (const char *)fixture->message.data;
}

static inline void fixture_open(struct fixture *fixture)
{
    const enum err err = fixture_try_open(fixture);
    if (err != OK) print_error("%s\n", fixture_message(fixture));
    EXPECT_EQ(err, OK);
}

static inline void fixture_close(struct fixture *fixture)
{
    if (fixture->is_open) log_close(&fixture->log);
    fixture->is_open = false;
}

static inline void fixture_end(struct fixture *fixture)
{
    fixture_close(fixture);
    sim_disk_crash(&fixture->disk);
    sim_disk_close(&fixture->disk);
    buf_close(&fixture->message);
}

/* A power cut. */
static inline void fixture_crash(struct fixture *fixture)
{
    sim_disk_stop(&fixture->disk, true);
    fixture_close(fixture);
    sim_disk_crash(&fixture->disk);
}

/* What entry @index of @term is, whoever asks. Sometimes with whole sectors of zeros in it. */
static inline void fixture_record(uint64_t index, uint64_t term, uint32_t size, struct buf *out)
{
    struct prng prng = prng_seed(index * 1000003 + term);
    struct buf payload = {0};
    uint8_t *at = buf_extend(&payload, size + 1);
    const bool zeros = prng_below(&prng, 8) == 0;
    for (uint32_t i = 0; i < size; i++) at[i] = zeros ? 0 : (uint8_t)prng_next(&prng);
    const struct record record = {
        .index = index,
        .term = term,
        .stamp_ms = index * 10 + term,
        .type = index % 50 == 1 ? RECORD_CHANGE : RECORD_COMMAND,
        .shard = 3,
        .payload = slice_of(payload.data, size),
    };
    record_encode(&record, out);
    buf_close(&payload);
}

static inline void fixture_append(struct fixture *fixture, uint32_t term, uint32_t size)
{
    struct model *model = &fixture->now;
    struct buf bytes = {0};
    model->last++;
    CHECK(model->last < MODEL_ENTRIES_MAX);
    model->term[model->last] = term;
    model->size[model->last] = size;
    fixture_record(model->last, term, size, &bytes);
    log_append(&fixture->log, buf_slice(&bytes));
    buf_close(&bytes);
}

static inline void fixture_cut(struct fixture *fixture, uint64_t index)
{
    log_cut(&fixture->log, index);
    fixture->now.last = index - 1;
}

/* Call when the log may have submitted something: the model follows. */
static inline void fixture_follow(struct fixture *fixture, uint64_t offset_before, bool was_writing)
{
    const struct log *log = &fixture->log;
    if (was_writing && (!log->write_pending || log->write_op.offset != offset_before)) {
        fixture->durable = fixture->under_way;
    }
    if (!log->write_pending) return;
    fixture->under_way = fixture->now;
    fixture->under_way.last = log->written_index;
}

static inline void fixture_flush(struct fixture *fixture)
{
    if (fixture->log.write_pending) return;
    log_flush(&fixture->log);
    fixture_follow(fixture, 0, false);
}

static inline void fixture_turn(struct fixture *fixture, uint64_t ms)
{
    const bool writing = fixture->log.write_pending;
    fixture->now_ms += ms;
    log_turn(&fixture->log, fixture->now_ms);
    if (!writing) fixture_follow(fixture, 0, false);
}

/* Completes one operation of the disk. */
static inline bool fixture_step(struct fixture *fixture)
{
    const bool writing = fixture->log.write_pending;
    const bool stopped = sim_disk_stopped(&fixture->disk);
    const bool stepped = sim_disk_step(&fixture->disk);
    /* What completes after the stop, or with it, was never really acknowledged. */
    if (stopped || sim_disk_stopped(&fixture->disk)) return stepped;
    if (writing && !fixture->log.write_pending) fixture->durable = fixture->under_way;
    return stepped;
}

/* Everything that was appended becomes durable. */
static inline void fixture_sync(struct fixture *fixture)
{
    for (int i = 0; i < 1000; i++) {
        fixture_flush(fixture);
        if (!fixture_step(fixture) && fixture->log.images_count == 0) break;
    }
}

static inline bool fixture_is_state(const struct fixture *fixture, const struct model *model)
{
    const struct log *log = &fixture->log;
    if (log->last_index != model->last) return false;
    for (uint64_t i = log->first_index; i <= model->last; i++) {
        if (log_term_at(log, i) != model->term[i]) return false;
    }
    return true;
}

/* The log holds the entries of @fixture->now, byte for byte, by every way to read them. */
static inline void fixture_verify(struct fixture *fixture)
{
    struct log *log = &fixture->log;
    const struct model *model = &fixture->now;
    log_check(log);
    EXPECT_EQ(log->last_index, model->last);
    EXPECT_TRUE(fixture_is_state(fixture, model));
    struct buf want = {0};
    for (uint64_t i = log->first_index; i <= model->last; i++) {
        struct place place;
        struct slice bytes;
        const uint64_t start = want.size;
        EXPECT_EQ(log_entry(log, i, &place, &bytes), OK);
        fixture_record(i, model->term[i], model->size[i], &want);
        EXPECT_EQ(bytes.size, want.size - start);
        EXPECT_BYTES(bytes.data, want.data + start, bytes.size);
        uint64_t change_index = 0;
        struct slice payload;
        const uint64_t change = i - (i + 49) % 50;
        if (change < log->first_index) continue;
        EXPECT_TRUE(log_change_at(log, i, &change_index, &payload));
        EXPECT_EQ(change_index, change);
    }
    struct buf got = {0};
    for (uint64_t i = log->first_index; i <= model->last;) {
        uint32_t count = 0;
        const uint64_t before = got.size;
        EXPECT_EQ(log_read(log, i, model->last, 5000, &got, &count), OK);
        EXPECT_TRUE(count > 0);
        EXPECT_TRUE(count == 1 || got.size - before <= 5000);
        i += count;
    }
    EXPECT_EQ(got.size, want.size);
    if (want.size > 0) EXPECT_BYTES(got.data, want.data, want.size);
    buf_close(&want);
    buf_close(&got);
}

/* After a crash: opens the log, which must be whole as of the last or the last but one group. */
static inline void fixture_reopen(struct fixture *fixture)
{
    fixture_open(fixture);
    if (fixture_is_state(fixture, &fixture->under_way)) {
        fixture->now = fixture->under_way;
    } else {
        if (!fixture_is_state(fixture, &fixture->durable)) {
            print_error("last %llu, durable %llu, under way %llu\n",
                        (unsigned long long)fixture->log.last_index,
                        (unsigned long long)fixture->durable.last,
                        (unsigned long long)fixture->under_way.last);
        }
        EXPECT_TRUE(fixture_is_state(fixture, &fixture->durable));
        fixture->now = fixture->durable;
    }
    fixture->durable = fixture->now;
    fixture->under_way = fixture->now;
    EXPECT_EQ(fixture->log.persisted_index, fixture->log.last_index);
    fixture_verify(fixture);
}

/* Opens and expects a refusal that says @word and leaves the disk as it is. */
static inline void fixture_refused(struct fixture *fixture, enum err want, const char *word)
{
    const uint64_t changes = fixture->disk.change_count;
    const enum err err = fixture_try_open(fixture);
    const char *said = fixture_message(fixture);
    if (err != want || strstr(said, word) == NULL) print_error("%s: %s\n", err_name(err), said);
    EXPECT_EQ(err, want);
    if (strstr(said, word) == NULL) fail_msg("\"%s\" does not say \"%s\"", said, word);
    EXPECT_TRUE(strstr(said, "nothing was changed") != NULL);
    EXPECT_EQ(fixture->disk.change_count, changes);
}

/* One synced group of @count entries. */
static inline void fixture_group(struct fixture *fixture, uint32_t term, uint32_t count,
                                 uint32_t size)
{
    for (uint32_t i = 0; i < count; i++) fixture_append(fixture, term, size);
    fixture_sync(fixture);
}

/* Time enough for a mark, and for a spare. */
static inline void fixture_idle(struct fixture *fixture)
{
    fixture_turn(fixture, 1);
    fixture_turn(fixture, LOG_MARK_DELAY_MS);
    while (fixture_step(fixture)) continue;
}

/* The process dies; everything that was written is on the disk. */
static inline void fixture_kill(struct fixture *fixture)
{
    sim_disk_settle(&fixture->disk);
    fixture->log.stopped = true;
    fixture_close(fixture);
    sim_disk_crash(&fixture->disk);
}

#endif
