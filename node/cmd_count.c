/* cmd_count.c - commands on values that are numbers. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/cmd_string.h"
#include "node/command.h"
#include "storage/base/check.h"

/* Redis reads and writes numbers with a point as long double, in as many characters. */
#define NUMBER_SIZE_MAX (5u * 1024u)

static void add_to(struct eval *eval, int64_t delta)
{
    char text[24];
    int64_t value = 0;
    struct slice old;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists) {
        if (!eval_value(eval, &item, &old)) return;
        if (!slice_int64(old, &value)) {
            eval_error(eval, "ERR value is not an integer or out of range");
            return;
        }
    }
    if (__builtin_add_overflow(value, delta, &value)) {
        eval_error(eval, "ERR increment or decrement would overflow");
        return;
    }
    const int size = snprintf(text, sizeof text, "%" PRId64, value);
    CHECK(size > 0);
    eval_put(eval, eval->args[1], slice_of(text, (uint64_t)size), item.expiry_ms, &item);
    resp_put_int(eval->out, value);
}

void cmd_incr(struct eval *eval)
{
    add_to(eval, 1);
}

void cmd_decr(struct eval *eval)
{
    add_to(eval, -1);
}

void cmd_incrby(struct eval *eval)
{
    int64_t delta = 0;
    if (eval_int(eval, 2, &delta)) add_to(eval, delta);
}

void cmd_decrby(struct eval *eval)
{
    int64_t delta = 0;
    if (!eval_int(eval, 2, &delta)) return;
    if (delta == INT64_MIN) {
        eval_error(eval, "ERR decrement would overflow");
        return;
    }
    add_to(eval, -delta);
}

/* ---- with a point --------------------------------------------------------------------------------------- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Everything that strtold takes but white space before it, and what is no number or none that it can hold. */
static bool parse_float(struct slice bytes, long double *value)
{
    char text[NUMBER_SIZE_MAX];
    char *end = NULL;
    if (bytes.size == 0 || bytes.size >= sizeof text || is_space(bytes.data[0])) return false;
    memcpy(text, bytes.data, bytes.size);
    text[bytes.size] = 0;
    errno = 0;
    *value = strtold(text, &end);
    if ((uint64_t)(end - text) != bytes.size || isnan(*value)) return false;
    return errno != ERANGE || (!isinf(*value) && *value != 0.0L);
}

/* 17 digits behind the point at most, without zeros at the end. */
static uint64_t print_float(long double value, char *text, uint64_t size)
{
    const int printed = snprintf(text, size, "%.17Lf", value);
    CHECK(printed > 0);
    CHECK((uint64_t)printed < size);
    uint64_t end = (uint64_t)printed;
    if (memchr(text, '.', end) != NULL) {
        while (text[end - 1] == '0') end--;
        if (text[end - 1] == '.') end--;
    }
    if (end == 2 && text[0] == '-' && text[1] == '0') {
        text[0] = '0';
        end = 1;
    }
    return end;
}

void cmd_incrbyfloat(struct eval *eval)
{
    char text[NUMBER_SIZE_MAX];
    long double value = 0;
    long double delta = 0;
    struct slice old;
    struct item item = eval_find(eval, eval->args[1]);
    if (item.exists && !eval_value(eval, &item, &old)) return;
    if ((item.exists && !parse_float(old, &value)) || !parse_float(eval->args[2], &delta)) {
        eval_error(eval, "ERR value is not a valid float");
        return;
    }
    value += delta;
    if (isnan(value) || isinf(value)) {
        eval_error(eval, "ERR increment would produce NaN or Infinity");
        return;
    }
    const struct slice sum = slice_of(text, print_float(value, text, sizeof text));
    eval_put(eval, eval->args[1], sum, item.expiry_ms, &item);
    resp_put_bulk(eval->out, sum);
}
