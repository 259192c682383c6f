/* Runs the tests that registered themselves, in the order of the file, through cmocka. */
#include "tests/test.h"

#include <stdio.h>
#include <stdlib.h>

static struct test_case *first;
static struct test_case *last;

void test_register(struct test_case *test)
{
    if (last == NULL) {
        first = test;
    } else {
        last->next = test;
    }
    last = test;
}

static void run(void **state)
{
    const struct test_case *test = *state;
    test->function();
}

static int wanted(const char *name, int argc, char **argv)
{
    if (argc < 2) return 1;
    for (int i = 1; i < argc; i++) {
        if (strstr(name, argv[i]) != NULL) return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    size_t count = 0;
    size_t size = 0;
    for (struct test_case *test = first; test != NULL; test = test->next) size++;
    struct CMUnitTest *tests = calloc(size + 1, sizeof *tests);
    if (tests == NULL) return 2;
    for (struct test_case *test = first; test != NULL; test = test->next) {
        if (!wanted(test->name, argc, argv)) continue;
        tests[count++] = (struct CMUnitTest){test->name, run, NULL, NULL, test};
    }
    if (count == 0) {
        fprintf(stderr, "no test has such a name\n");
        free(tests);
        return 2;
    }
    const int failed = _cmocka_run_group_tests("tests", tests, count, NULL, NULL);
    free(tests);
    return failed != 0;
}
