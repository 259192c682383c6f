/* test.h - a thin layer over cmocka: a test registers itself where it is written.
 *
 *   TEST(log, torn_tail_is_cut_at_last_valid_record) { ... EXPECT_EQ(a, b); }
 *
 * Each tests/<folder>/test_<module>.c becomes a program of its own together with test_main.c. Its arguments are
 * parts of names: only tests whose name contains one of them run. */
#ifndef KV_TESTS_TEST_H
#define KV_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct test_case {
    const char *name;
    void (*function)(void);
    struct test_case *next;
};
void test_register(struct test_case *test);

#define TEST(suite, title)                                                                         \
    static void test_##suite##_##title(void);                                                      \
    __attribute__((constructor)) static void test_add_##suite##_##title(void)                      \
    {                                                                                              \
        static struct test_case test = {#suite "." #title, test_##suite##_##title, NULL};          \
        test_register(&test);                                                                      \
    }                                                                                              \
    static void test_##suite##_##title(void)

#define EXPECT_TRUE(value) assert_true(value)
#define EXPECT_FALSE(value) assert_false(value)
#define EXPECT_EQ(a, b) assert_int_equal((a), (b))
#define EXPECT_NE(a, b) assert_int_not_equal((a), (b))
#define EXPECT_LT(a, b) assert_true((a) < (b))
#define EXPECT_LE(a, b) assert_true((a) <= (b))
#define EXPECT_TEXT(a, b) assert_string_equal((a), (b))
#define EXPECT_BYTES(a, b, size) assert_memory_equal((a), (b), (size))

#endif
