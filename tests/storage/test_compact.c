/* Tests of storage/compact.c and storage/keyset.c: what is worth compacting. */
#include "tests/test.h"

#include <stdio.h>

#include "storage/base/limits.h"
#include "storage/compact.h"
#include "storage/keyset.h"

#define SIZE (32u * MIB)

static const struct compact_limits usual = {.target_size = SIZE};
static const struct compact_limits forced = {.target_size = SIZE, .is_forced = true};

/* A full segment of which @percent lives. */
static struct compact_file segment(uint64_t percent)
{
    return (struct compact_file){
        .used = SIZE,
        .hint_size = SIZE / 5,
        .items = SIZE / 320,
        .live = SIZE / 100 * percent,
    };
}

static struct compact_file table(uint64_t percent)
{
    struct compact_file file = segment(percent);
    file.is_table = true;
    return file;
}

TEST(compact, nothing_is_done_below_the_bound)
{
    struct compact_run run;
    const struct compact_file files[] = {table(90), segment(70), segment(60), segment(80)};
    EXPECT_FALSE(compact_choose(files, 0, &usual, &run));
    EXPECT_FALSE(compact_choose(files, 4, &usual, &run));
    EXPECT_FALSE(compact_figures(files, 4).is_over);
    EXPECT_TRUE(compact_choose(files, 4, &forced, &run));
    EXPECT_EQ(run.begin, 2);
    /* Little garbage of little data is left alone. */
    struct compact_file small = segment(10);
    small.used = SIZE / 4;
    small.live = SIZE / 40;
    EXPECT_TRUE(compact_figures(&small, 1).is_over);
    EXPECT_FALSE(compact_choose(&small, 1, &usual, &run));
}

TEST(compact, the_worst_file_goes_first_with_its_neighbours)
{
    struct compact_run run;
    const struct compact_file files[] = {table(95), segment(40), segment(20), segment(35),
                                         segment(90)};
    EXPECT_TRUE(compact_choose(files, 5, &usual, &run));
    EXPECT_EQ(run.begin, 1);
    EXPECT_EQ(run.count, 3);
    EXPECT_FALSE(run.checks_deletes);
    /* Never more than a table of the usual size. */
    const struct compact_file full[] = {segment(45), segment(40), segment(45), segment(45)};
    EXPECT_TRUE(compact_choose(full, 4, &usual, &run));
    EXPECT_EQ(run.count, 2);
}

TEST(compact, files_of_which_nothing_is_left_go_at_any_time)
{
    struct compact_run run;
    const struct compact_file files[] = {table(95), segment(95), segment(0), segment(95)};
    EXPECT_TRUE(compact_choose(files, 4, &usual, &run));
    EXPECT_EQ(run.begin, 2);
    EXPECT_EQ(run.count, 1);
}

TEST(compact, a_file_that_cannot_be_read_is_no_part_of_a_run)
{
    struct compact_run run;
    struct compact_file files[] = {segment(40), segment(10), segment(30)};
    files[1].is_blocked = true;
    EXPECT_TRUE(compact_choose(files, 3, &usual, &run));
    EXPECT_EQ(run.begin, 2);
    EXPECT_EQ(run.count, 1);
    files[0].is_blocked = true;
    files[2].is_blocked = true;
    EXPECT_FALSE(compact_choose(files, 3, &forced, &run));
}

TEST(compact, a_table_of_what_lives_has_no_garbage)
{
    struct compact_run run;
    /* Small effects: the words beside the items are no garbage. */
    struct compact_file file = table(0);
    file.items = SIZE / 56;
    file.live = file.items * 48;
    EXPECT_EQ(compact_garbage(&file, 0), 0);
    EXPECT_FALSE(compact_choose(&file, 1, &forced, &run));
    file.is_table = false;
    EXPECT_LT(SIZE / 10, compact_garbage(&file, 0));
}

TEST(compact, deletes_are_checked_when_that_is_worth_it)
{
    struct compact_run run;
    struct compact_file files[] = {table(90), segment(20), segment(20)};
    files[1].deletes = SIZE / 5;
    EXPECT_TRUE(compact_choose(files, 3, &forced, &run));
    EXPECT_EQ(run.begin, 1);
    EXPECT_TRUE(run.checks_deletes);
    /* Hardly any: they stay, unread. */
    files[1].deletes = SIZE / 5 / 64;
    EXPECT_TRUE(compact_choose(files, 3, &forced, &run));
    EXPECT_FALSE(run.checks_deletes);
    /* In the oldest file nothing is left that they could hide: they are garbage and need no check. */
    struct compact_file oldest = segment(0);
    oldest.deletes = SIZE / 2;
    EXPECT_EQ(compact_garbage(&oldest, 0), SIZE);
    EXPECT_TRUE(compact_choose(&oldest, 1, &usual, &run));
    EXPECT_FALSE(run.checks_deletes);
    /* A table whose deletes were found to be needed is left alone. */
    struct compact_file exact[] = {table(99), table(10)};
    exact[1].deletes = SIZE / 10 * 8;
    EXPECT_LT(SIZE / 2, compact_garbage(exact, 1));
    exact[1].deletes_are_exact = true;
    EXPECT_LT(compact_garbage(exact, 1), SIZE / 8);
}

TEST(compact, many_small_files_are_joined)
{
    struct compact_file files[64];
    struct compact_run run;
    for (uint32_t i = 0; i < 64; i++) {
        files[i] = (struct compact_file){
            .used = 65536, .hint_size = 100, .items = 10, .live = 65536};
    }
    EXPECT_FALSE(compact_choose(files, 10, &usual, &run));
    EXPECT_TRUE(compact_choose(files, 64, &usual, &run));
    EXPECT_EQ(run.count, COMPACT_RUN_MAX);
}

TEST(keyset, has_what_was_added_and_knows_the_marks)
{
    struct keyset set = {0};
    char name[32];
    EXPECT_FALSE(keyset_has(&set, slice_text("a")));
    EXPECT_FALSE(keyset_marked(&set, slice_text("a")));
    keyset_mark(&set, slice_text("a"));
    for (uint32_t i = 0; i < 5000; i++) {
        (void)snprintf(name, sizeof name, "key %u", i);
        keyset_add(&set, slice_text(name));
        if (i % 2 == 0) keyset_add(&set, slice_text(name));
        if (i % 3 == 0) keyset_mark(&set, slice_text(name));
    }
    EXPECT_EQ(set.count, 5000);
    for (uint32_t i = 0; i < 10000; i++) {
        (void)snprintf(name, sizeof name, "key %u", i);
        if (i >= 5000) keyset_mark(&set, slice_text(name));
        EXPECT_EQ(keyset_has(&set, slice_text(name)), i < 5000);
        EXPECT_EQ(keyset_marked(&set, slice_text(name)), i < 5000 && i % 3 == 0);
    }
    EXPECT_EQ(set.count, 5000);
    keyset_close(&set);
}
