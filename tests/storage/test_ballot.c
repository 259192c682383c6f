#include "storage/ballot.h"

#include "storage/base/hash.h"
#include "tests/sim/sim_disk.h"
#include "tests/test.h"

#define CLUSTER 11u
#define NODE 22u

/* What can have become of one copy. */
enum copy { COPY_OK, COPY_ZERO, COPY_TORN, COPY_ROTTEN, COPY_STALE, COPY_KINDS };

static const struct ballot saved = {.version = 8, .term = 4, .voted_for = 2};
static const struct ballot stale = {.version = 7, .term = 3, .voted_for = 1};

static void make_copy(uint8_t *copy, enum copy kind, uint64_t seed)
{
    ballot_encode(kind == COPY_STALE ? &stale : &saved, CLUSTER, NODE, copy);
    if (kind == COPY_ZERO) memset(copy, 0, BALLOT_COPY_SIZE);
    if (kind == COPY_TORN) memset(copy, 0, 32 + seed % 32); /* the beginning is missing */
    if (kind == COPY_ROTTEN) copy[seed % 64] ^= (uint8_t)(1u << seed % 8);
}

TEST(ballot, u9_every_pair_of_copies_gives_the_newest_good_one_or_is_refused)
{
    uint8_t file[BALLOT_FILE_SIZE];
    for (uint32_t pair = 0; pair < COPY_KINDS * COPY_KINDS; pair++) {
        const enum copy a = pair / COPY_KINDS;
        const enum copy b = pair % COPY_KINDS;
        make_copy(file, a, pair);
        make_copy(file + BALLOT_COPY_SIZE, b, pair + 13);
        struct ballot ballot = {0};
        uint32_t repair = 99;
        const enum err err = ballot_pick(slice_of(file, sizeof file), CLUSTER, NODE, &ballot,
                                         &repair);
        const bool a_good = a == COPY_OK || a == COPY_STALE;
        const bool b_good = b == COPY_OK || b == COPY_STALE;
        if (!a_good && !b_good) {
            EXPECT_EQ(err, ERR_CORRUPT);
            continue;
        }
        EXPECT_EQ(err, OK);
        const struct ballot *want = a == COPY_OK || b == COPY_OK ? &saved : &stale;
        EXPECT_EQ(ballot.version, want->version);
        EXPECT_EQ(ballot.term, want->term);
        EXPECT_EQ(ballot.voted_for, want->voted_for);
        const uint32_t bad = a != b ? (a == COPY_OK || (a == COPY_STALE && !b_good) ? 1 : 0)
                                    : BALLOT_COPIES;
        EXPECT_EQ(repair, bad);
    }
}

TEST(ballot, rotten_copy_does_not_forget_a_vote)
{
    uint8_t file[BALLOT_FILE_SIZE];
    ballot_encode(&saved, CLUSTER, NODE, file);
    ballot_encode(&saved, CLUSTER, NODE, file + BALLOT_COPY_SIZE);
    for (uint64_t bit = 0; bit < UINT64_C(8) * BALLOT_FILE_SIZE; bit++) {
        struct ballot ballot = {0};
        uint32_t repair = 0;
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(ballot_pick(slice_of(file, sizeof file), CLUSTER, NODE, &ballot, &repair), OK);
        EXPECT_EQ(ballot.version, 8);
        EXPECT_EQ(ballot.term, 4);
        EXPECT_EQ(ballot.voted_for, 2);
        file[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

TEST(ballot, contradictions_foreign_and_newer_files_are_refused)
{
    uint8_t file[BALLOT_FILE_SIZE];
    struct ballot ballot;
    uint32_t repair;
    const struct slice bytes = slice_of(file, sizeof file);
    const struct ballot other_vote = {.version = 8, .term = 4, .voted_for = 3};
    const struct ballot term_falls = {.version = 9, .term = 3, .voted_for = 0};
    ballot_encode(&saved, CLUSTER, NODE, file);
    ballot_encode(&other_vote, CLUSTER, NODE, file + BALLOT_COPY_SIZE);
    EXPECT_EQ(ballot_pick(bytes, CLUSTER, NODE, &ballot, &repair), ERR_CORRUPT);
    ballot_encode(&term_falls, CLUSTER, NODE, file + BALLOT_COPY_SIZE);
    EXPECT_EQ(ballot_pick(bytes, CLUSTER, NODE, &ballot, &repair), ERR_CORRUPT);
    ballot_encode(&saved, CLUSTER, NODE + 1, file + BALLOT_COPY_SIZE);
    EXPECT_EQ(ballot_pick(bytes, CLUSTER, NODE, &ballot, &repair), ERR_FOREIGN);
    ballot_encode(&saved, CLUSTER + 1, NODE, file + BALLOT_COPY_SIZE);
    EXPECT_EQ(ballot_pick(bytes, CLUSTER, NODE, &ballot, &repair), ERR_FOREIGN);
    ballot_encode(&saved, CLUSTER, NODE, file + BALLOT_COPY_SIZE);
    put_u32(file + 8, 2); /* a later format, with its checksum */
    put_u64(file + 56, hash64(file, 56));
    EXPECT_EQ(ballot_pick(bytes, CLUSTER, NODE, &ballot, &repair), ERR_NEWER);
    EXPECT_EQ(ballot_pick(slice_of(file, 100), CLUSTER, NODE, &ballot, &repair), ERR_CORRUPT);
}

static struct sim_disk sim;
static struct ballot_file file;
static struct buf message;

static enum err reopen(void)
{
    buf_close(&message);
    const enum err err = ballot_open(&file, &sim.disk, "s", CLUSTER, NODE, &message);
    buf_u8(&message, 0);
    return err;
}

static const char *said(void)
{
    return (const char *)message.data;
}

static void begin(uint64_t seed)
{
    sim_disk_init(&sim, seed);
    EXPECT_EQ(sim.disk.make_folder(sim.disk.context, "s"), OK);
    EXPECT_EQ(reopen(), OK);
}

static void end(void)
{
    ballot_close(&file);
    sim_disk_crash(&sim);
    sim_disk_close(&sim);
    buf_close(&message);
}

TEST(ballot, saved_vote_survives_and_an_absent_one_is_blank)
{
    begin(1);
    EXPECT_EQ(file.ballot.version, 0);
    EXPECT_EQ(file.ballot.term, 0);
    EXPECT_EQ(ballot_save(&file, 3, 0), OK);
    EXPECT_EQ(ballot_save(&file, 3, 9), OK);
    EXPECT_EQ(ballot_save(&file, 5, 0), OK);
    ballot_close(&file);
    sim_disk_crash(&sim);
    EXPECT_EQ(reopen(), OK);
    EXPECT_EQ(file.ballot.version, 3);
    EXPECT_EQ(file.ballot.term, 5);
    EXPECT_EQ(file.ballot.voted_for, 0);
    end();
}

TEST(ballot, power_cut_at_each_change_leaves_the_old_or_the_new_vote)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        for (uint64_t stop = 1;; stop++) {
            begin(seed);
            sim_disk_stop_after(&sim, stop);
            uint64_t acted = 0; /* term of the last save that came back */
            for (uint64_t term = 1; term <= 3; term++) {
                EXPECT_EQ(ballot_save(&file, term, term + 100), OK);
                if (!sim_disk_stopped(&sim)) acted = term;
            }
            const bool stopped = sim_disk_stopped(&sim);
            ballot_close(&file);
            sim_disk_crash(&sim);
            EXPECT_EQ(reopen(), OK);
            EXPECT_TRUE(file.ballot.term == acted || file.ballot.term == acted + 1);
            if (file.ballot.term > 0) EXPECT_EQ(file.ballot.voted_for, file.ballot.term + 100);
            /* Once opened, one copy is enough. */
            if (file.ballot.term > 0) {
                const uint64_t term = file.ballot.term;
                ballot_close(&file);
                sim_disk_crash(&sim);
                sim_disk_flip(&sim, "s/vote", seed % 2 * BALLOT_COPY_SIZE * 8 + 200);
                EXPECT_EQ(reopen(), OK);
                EXPECT_EQ(file.ballot.term, term);
            }
            end();
            if (!stopped) break;
        }
    }
}

TEST(ballot, repair_writes_the_bad_copy_only)
{
    begin(1);
    EXPECT_EQ(ballot_save(&file, 3, 7), OK);
    ballot_close(&file);
    sim_disk_flip(&sim, "s/vote", 300);
    const uint64_t changes = sim.change_count;
    EXPECT_EQ(reopen(), OK);
    EXPECT_EQ(sim.change_count, changes + 1);
    ballot_close(&file);
    sim_disk_crash(&sim);
    sim_disk_flip(&sim, "s/vote", BALLOT_COPY_SIZE * 8 + 300);
    EXPECT_EQ(reopen(), OK);
    EXPECT_EQ(file.ballot.voted_for, 7);
    end();
}

TEST(ballot, damaged_foreign_and_old_files_are_refused_with_advice)
{
    begin(1);
    EXPECT_EQ(ballot_against_log(&file, 0, &message), OK);
    buf_close(&message);
    EXPECT_EQ(ballot_against_log(&file, 1, &message), ERR_CORRUPT);
    buf_u8(&message, 0);
    EXPECT_TRUE(strstr(said(), "s/vote: missing") != NULL);
    EXPECT_EQ(ballot_save(&file, 3, 7), OK);
    buf_close(&message);
    EXPECT_EQ(ballot_against_log(&file, 3, &message), OK);
    EXPECT_EQ(ballot_against_log(&file, 4, &message), ERR_CORRUPT);
    buf_u8(&message, 0);
    EXPECT_TRUE(strstr(said(), "older than term 4") != NULL);
    ballot_close(&file);
    sim_disk_flip(&sim, "s/vote", 300);
    sim_disk_flip(&sim, "s/vote", BALLOT_COPY_SIZE * 8 + 300);
    const uint64_t changes = sim.change_count;
    EXPECT_EQ(reopen(), ERR_CORRUPT);
    EXPECT_TRUE(strstr(said(), "A damaged node") != NULL);
    sim_disk_flip(&sim, "s/vote", 300);
    EXPECT_EQ(reopen(), OK);
    ballot_close(&file);
    EXPECT_EQ(sim.change_count, changes + 1);
    buf_close(&message);
    EXPECT_EQ(ballot_open(&file, &sim.disk, "s", CLUSTER, NODE + 1, &message), ERR_FOREIGN);
    sim_disk_truncate(&sim, "s/vote", 100);
    EXPECT_EQ(reopen(), ERR_CORRUPT);
    end();
}
