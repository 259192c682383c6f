/* A checker that never complains proves nothing: each rule is shown a history that breaks it. */
#include "tests/sim/check_linear.h"

#include "storage/base/prng.h"
#include "tests/test.h"

static struct check_op list[CHECK_LINEAR_OPS_MAX];
static uint32_t count;

static void begin(void)
{
    memset(list, 0, sizeof list);
    count = 0;
}

static struct check_op *add(enum check_kind kind, uint64_t asked, uint64_t answered)
{
    struct check_op *op = &list[count++];
    op->kind = kind;
    op->asked = asked;
    op->answered = answered;
    op->is_known = answered != UINT64_MAX;
    op->before = UINT32_MAX;
    return op;
}
static struct check_op *set(uint64_t value, uint64_t asked, uint64_t answered)
{
    struct check_op *op = add(CHECK_KIND_SET, asked, answered);
    op->argument = (struct check_value){.exists = true, .content = value};
    return op;
}
static struct check_op *get(uint64_t value, uint64_t asked, uint64_t answered)
{
    struct check_op *op = add(CHECK_KIND_GET, asked, answered);
    op->reply = (struct check_value){.exists = value != 0, .content = value};
    return op;
}
static enum check_verdict verdict(void)
{
    return check_linear(list, count);
}

TEST(check_linear, reads_between_writes_see_either_and_never_the_older_again)
{
    begin();
    set(1, 1, 2);
    set(2, 3, 10);
    get(1, 4, 5);
    get(2, 6, 7);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(1, 8, 9);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, a_stale_read_is_found)
{
    begin();
    set(1, 1, 2);
    set(2, 3, 4);
    get(1, 5, 6);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, a_lost_write_is_found)
{
    begin();
    set(1, 1, 2);
    get(0, 3, 4);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, an_unknown_write_may_happen_late_or_never_but_not_twice)
{
    begin();
    set(1, 1, 2);
    set(2, 3, UINT64_MAX);
    get(1, 4, 5);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(2, 6, 7);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    set(3, 8, 9);
    get(2, 10, 11);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, a_flush_deletes_once_while_it_was_asked)
{
    begin();
    set(1, 1, 2);
    add(CHECK_KIND_FLUSH, 3, 8);
    get(1, 4, 5);
    get(0, 6, 7);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(1, 9, 10);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
    begin();
    set(1, 1, 2);
    add(CHECK_KIND_FLUSH, 3, UINT64_MAX);
    add(CHECK_KIND_FLUSH, 4, UINT64_MAX);
    get(1, 5, 6);
    get(0, 7, 8);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    begin();
    set(1, 1, 2);
    add(CHECK_KIND_FLUSH, 3, 4);
    get(1, 5, 6);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, an_unknown_write_cannot_happen_before_it_was_asked)
{
    begin();
    get(2, 1, 2);
    set(2, 3, UINT64_MAX);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, increments_are_counted_once)
{
    begin();
    add(CHECK_KIND_INCREMENT, 1, 10)->number = 2;
    add(CHECK_KIND_INCREMENT, 2, 9)->number = 1;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    add(CHECK_KIND_INCREMENT, 11, UINT64_MAX);
    get(3, 12, 13);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(4, 14, 15); /* The unknown one was done twice. */
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, conditional_sets_and_deletes_answer_what_was_there)
{
    begin();
    struct check_op *op = add(CHECK_KIND_SET_NEW, 1, 2);
    op->argument = (struct check_value){.exists = true, .content = 5};
    op->number = 1;
    op = add(CHECK_KIND_SET_NEW, 3, 4);
    op->argument = (struct check_value){.exists = true, .content = 6};
    op = add(CHECK_KIND_SET_GET, 5, 6);
    op->argument = (struct check_value){.exists = true, .content = 7};
    op->reply = (struct check_value){.exists = true, .content = 5};
    add(CHECK_KIND_DELETE, 7, 8)->number = 1;
    op = add(CHECK_KIND_SET_EXISTING, 9, 10);
    op->argument = (struct check_value){.exists = true, .content = 8};
    add(CHECK_KIND_DELETE, 11, 12)->number = 0;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    list[count - 1].number = 1;
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, what_is_appended_is_hashed_piece_by_piece)
{
    begin();
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const pieces[] = {"ab", "c", "def"};
        struct check_op *op = add(CHECK_KIND_APPEND, 1 + 2 * i, 2 + 2 * i);
        op->argument.content = check_linear_hash(0, slice_text(pieces[i]));
        op->argument.size = strlen(pieces[i]);
        op->number = i == 0 ? 2 : i == 1 ? 3 : 6;
    }
    struct check_op *op = get(check_linear_hash(0, slice_text("abcdef")), 20, 21);
    op->reply.size = 6;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    op->reply.content = check_linear_hash(0, slice_text("abdefc"));
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, an_expiring_value_vanishes_once_and_stays_away)
{
    begin();
    set(1, 1, 2)->argument.expires = true;
    get(1, 3, 4);
    get(0, 5, 6);
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(1, 7, 8);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
    list[0].argument.expires = false;
    count--;
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

TEST(check_linear, expiry_can_be_given_and_taken)
{
    begin();
    set(1, 1, 2);
    add(CHECK_KIND_PERSIST, 3, 4)->number = 0;
    add(CHECK_KIND_EXPIRE, 5, 6)->number = 1;
    add(CHECK_KIND_PERSIST, 7, 8)->number = 1;
    struct check_op *op = add(CHECK_KIND_GET_DELETE, 9, 10);
    op->reply = (struct check_value){.exists = true, .content = 1};
    add(CHECK_KIND_EXPIRE, 11, 12)->number = 0;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    op->reply.exists = false; /* Vanished although it was made to stay. */
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
    list[3].number = 0; /* It vanished before. */
    EXPECT_EQ(verdict(), CHECK_LINEAR);
}

TEST(check_linear, commands_of_one_pipeline_keep_their_order)
{
    begin();
    set(1, 1, 10);
    get(0, 2, 11)->before = 0;
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
    list[1].before = UINT32_MAX;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
}

TEST(check_linear, many_unknown_increments_are_decided)
{
    begin();
    for (uint64_t i = 0; i < 60; i++) add(CHECK_KIND_INCREMENT, 1 + i, UINT64_MAX);
    get(60, 100, 101);
    set(5, 102, 103);
    add(CHECK_KIND_INCREMENT, 104, 105)->number = 6;
    EXPECT_EQ(verdict(), CHECK_LINEAR);
    get(61, 106, 107);
    EXPECT_EQ(verdict(), CHECK_NOT_LINEAR);
}

/* Random histories made from a real order are accepted; with one answer bent they mostly are not. */
TEST(check_linear, random_histories_are_judged_as_they_were_made)
{
    struct prng prng = prng_seed(7);
    uint32_t refused = 0;
    for (uint32_t round = 0; round < 200; round++) {
        uint64_t value = 0;
        begin();
        for (uint64_t i = 0; i < 100; i++) {
            /* The point of effect is 100 * i; the answer may come after those of others. */
            const uint64_t asked = 100 * i + 1000 - prng_below(&prng, 150) * 2 + 1;
            const uint64_t answered = 100 * i + 1000 + prng_below(&prng, 150) * 2;
            const uint64_t unique = i * 10000;
            if (prng_below(&prng, 2) == 0) {
                value = i + 1;
                (void)set(value, asked * 100000 + unique, answered * 100000 + unique + 1);
            } else {
                (void)get(value, asked * 100000 + unique, answered * 100000 + unique + 1);
            }
            if (prng_below(&prng, 30) == 0) {
                list[count - 1].is_known = false;
                list[count - 1].answered = UINT64_MAX;
            }
        }
        EXPECT_EQ(verdict(), CHECK_LINEAR);
        for (uint32_t i = 90; i < 100; i++) {
            if (list[i].kind == CHECK_KIND_GET) list[i].reply.content = 1;
            if (list[i].kind == CHECK_KIND_GET) list[i].reply.exists = true;
        }
        refused += verdict() == CHECK_NOT_LINEAR;
    }
    EXPECT_TRUE(refused > 180);
}
