#include "client/ctl.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LINE_WIDTH 80u

/* ---- text ------------------------------------------------------------------------------------ */

/* Bytes of the UTF-8 character at the start of @size bytes, 0 when there is none. Overlong forms, surrogates and
 * what lies above U+10FFFF are none. */
static size_t utf8_size(const uint8_t *at, size_t size)
{
    uint32_t code = at[0];
    size_t count = 1;
    if (code < 0x80) return 1;
    if (code >= 0xc2 && code <= 0xdf) count = 2;
    if (code >= 0xe0 && code <= 0xef) count = 3;
    if (code >= 0xf0 && code <= 0xf4) count = 4;
    if (count == 1 || count > size) return 0;
    code &= 0x7fu >> count;
    for (size_t i = 1; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3fu);
    }
    if (count == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) return 0;
    if (count == 4 && (code < 0x10000 || code > 0x10ffff)) return 0;
    return count;
}

static bool is_utf8(struct kv_bytes bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    while (left > 0) {
        const size_t size = utf8_size(at, left);
        if (size == 0) return false;
        at += size;
        left -= size;
    }
    return true;
}

/* A byte that a terminal might take for a command. U+0080 to U+009F are such, too, in two bytes. */
static bool is_control(const uint8_t *at, size_t size)
{
    return at[0] < ' ' || at[0] == 127 || (size == 2 && at[0] == 0xc2 && at[1] < 0xa0);
}

static bool is_readable(struct kv_bytes bytes, bool one_line)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    while (left > 0) {
        const size_t size = utf8_size(at, left);
        if (size == 0) return false;
        if (is_control(at, size) && (one_line || (*at != '\n' && *at != '\t'))) return false;
        at += size;
        left -= size;
    }
    return true;
}

static void put_escaped(struct kv_bytes bytes)
{
    const uint8_t *at = bytes.data;
    size_t left = bytes.size;
    while (left > 0) {
        const size_t size = utf8_size(at, left);
        if (*at == '\\') {
            (void)fputs("\\\\", stdout);
        } else if (*at == '\n') {
            (void)fputs("\\n", stdout);
        } else if (*at == '\t') {
            (void)fputs("\\t", stdout);
        } else if (*at == '\r') {
            (void)fputs("\\r", stdout);
        } else if (size == 0) {
            (void)printf("\\x%02x", *at);
        } else if (is_control(at, size)) {
            for (size_t i = 0; i < size; i++) (void)printf("\\x%02x", at[i]);
        } else {
            (void)fwrite(at, 1, size, stdout);
        }
        at += size > 0 ? size : 1;
        left -= size > 0 ? size : 1;
    }
}

void ctl_put_text(struct kv_bytes bytes, bool one_line)
{
    if (is_readable(bytes, one_line)) {
        (void)fwrite(bytes.data != NULL ? bytes.data : "", 1, bytes.size, stdout);
    } else {
        put_escaped(bytes);
    }
}

void ctl_put_wrapped(const char *text, size_t column, size_t indent)
{
    bool is_first = true;
    while (*text != 0) {
        /* [--rev R] stays together. */
        const size_t group = text[0] == '[' ? strcspn(text, "]") : 0;
        const size_t size = group + strcspn(text + group, " ");
        if (!is_first && column + 1 + size > LINE_WIDTH) {
            (void)printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (!is_first) {
            (void)fputc(' ', stdout);
            column++;
        }
        (void)fwrite(text, 1, size, stdout);
        column += size;
        text += size + strspn(text + size, " ");
        is_first = false;
    }
    (void)fputc('\n', stdout);
}

const char *ctl_size_text(uint64_t bytes, char text[CTL_SIZE_TEXT])
{
    static const char units[] = "KMGTPE";
    double number = (double)bytes;
    size_t unit = 0;
    if (bytes < 1024) {
        (void)snprintf(text, CTL_SIZE_TEXT, "%" PRIu64 " B", bytes);
        return text;
    }
    for (number /= 1024; number >= 1024 && unit < 5; unit++) number /= 1024;
    (void)snprintf(text, CTL_SIZE_TEXT, "%.1f %ciB", number, units[unit]);
    return text;
}

/* ---- progress -------------------------------------------------------------------------------- */

#define REASON_MS 300 /* for the question why there was no answer */
#define PROGRESS_TERMINAL_MS 200
#define PROGRESS_LINE_MS 5000

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void ctl_progress_begin(struct ctl_progress *progress, const struct ctl *ctl, const char *what)
{
    const char *terminal = getenv("TERM");
    *progress = (struct ctl_progress){.what = what, .begin_ms = now_ms(), .is_silent = ctl->json};
    progress->shown_ms = progress->begin_ms;
    progress->is_terminal = isatty(STDERR_FILENO) == 1 && terminal != NULL &&
                            strcmp(terminal, "dumb") != 0;
}

void ctl_progress_show(struct ctl_progress *progress, uint64_t done, uint64_t total)
{
    char done_text[CTL_SIZE_TEXT];
    char total_text[CTL_SIZE_TEXT];
    char rate_text[CTL_SIZE_TEXT];
    const int64_t now = now_ms();
    const int64_t wait = progress->is_terminal ? PROGRESS_TERMINAL_MS : PROGRESS_LINE_MS;
    if (progress->is_silent || now - progress->shown_ms < wait) return;
    progress->shown_ms = now;
    const uint64_t rate = done * 1000 / (uint64_t)(now - progress->begin_ms + 1);
    (void)fprintf(stderr, "%s%s: %s of %s, %u %%, %s/s%s", progress->is_terminal ? "\r" : "",
                  progress->what, ctl_size_text(done, done_text), ctl_size_text(total, total_text),
                  total > 0 ? (unsigned)(100.0 * (double)done / (double)total) : 100u,
                  ctl_size_text(rate, rate_text), progress->is_terminal ? "\033[K" : "\n");
    progress->is_shown = true;
}

void ctl_progress_end(struct ctl_progress *progress)
{
    if (progress->is_shown && progress->is_terminal) (void)fputs("\r\033[K", stderr);
    progress->is_shown = false;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void put_json_string(FILE *file, struct kv_bytes bytes)
{
    const uint8_t *at = bytes.data;
    (void)fputc('"', file);
    for (size_t i = 0; i < bytes.size; i++) {
        switch (at[i]) {
        case '"':
        case '\\': (void)fprintf(file, "\\%c", at[i]); break;
        case '\n': (void)fputs("\\n", file); break;
        case '\t': (void)fputs("\\t", file); break;
        case '\r': (void)fputs("\\r", file); break;
        default:
            if (at[i] < ' ' || at[i] == 127) {
                (void)fprintf(file, "\\u%04x", at[i]);
            } else {
                (void)fputc(at[i], file);
            }
        }
    }
    (void)fputc('"', file);
}

static void put_base64(struct kv_bytes bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.size; i += 3) {
        const size_t left = bytes.size - i;
        uint32_t group = (uint32_t)at[i] << 16;
        if (left > 1) group |= (uint32_t)at[i + 1] << 8;
        if (left > 2) group |= at[i + 2];
        (void)fputc(digits[group >> 18], stdout);
        (void)fputc(digits[group >> 12 & 63], stdout);
        (void)fputc(left > 1 ? digits[group >> 6 & 63] : '=', stdout);
        (void)fputc(left > 2 ? digits[group & 63] : '=', stdout);
    }
}

static bool comma;  /* a field or an object was written before, on this level */
static int objects; /* that are open */

static void put_name(const char *name)
{
    (void)printf("%s\"%s\":", comma ? "," : "", name);
    comma = true;
}

void ctl_json_begin(void)
{
    (void)fputs(comma ? ",{" : "{", stdout);
    comma = false;
    objects++;
}

void ctl_json_end(void)
{
    (void)fputc('}', stdout);
    objects--;
    comma = objects > 0; /* The next one outside of any stands on a line of its own. */
}

void ctl_json_bytes(const char *name, struct kv_bytes bytes)
{
    if (is_utf8(bytes)) {
        put_name(name);
        put_json_string(stdout, bytes);
        return;
    }
    (void)printf("%s\"%s_base64\":\"", comma ? "," : "", name);
    put_base64(bytes);
    (void)fputc('"', stdout);
    comma = true;
}

void ctl_json_text(const char *name, const char *text)
{
    put_name(name);
    put_json_string(stdout, kv_text(text));
}

void ctl_json_uint(const char *name, uint64_t number)
{
    put_name(name);
    (void)printf("%" PRIu64, number);
}

void ctl_json_decimal(const char *name, const char *text)
{
    const size_t whole = strspn(text, "0123456789");
    const size_t size = strlen(text);
    const bool has_part = text[whole] == '.' &&
                          strspn(text + whole + 1, "0123456789") == size - whole - 1;
    const bool is_plain = whole > 0 && (whole == 1 || text[0] != '0');
    put_name(name);
    (void)fputs(is_plain && (whole == size || (has_part && size > whole + 1)) ? text : "null",
                stdout);
}

void ctl_json_int(const char *name, int64_t number)
{
    put_name(name);
    (void)printf("%" PRId64, number);
}

void ctl_json_true(const char *name)
{
    put_name(name);
    (void)fputs("true", stdout);
}

void ctl_json_bool(const char *name, bool value)
{
    put_name(name);
    (void)fputs(value ? "true" : "false", stdout);
}

void ctl_json_list_begin(const char *name)
{
    put_name(name);
    (void)fputc('[', stdout);
    comma = false;
}

void ctl_json_list_end(void)
{
    (void)fputc(']', stdout);
    comma = true;
}

/* ---- errors ---------------------------------------------------------------------------------- */

enum ctl_exit ctl_exit_of(enum kv_err err)
{
    switch (err) {
    case KV_OK: return CTL_DONE;
    case KV_ERR_INVALID: return CTL_USAGE;
    case KV_ERR_REFUSED:
    case KV_ERR_TIMEOUT: return CTL_NO_ANSWER;
    case KV_ERR_UNKNOWN: return CTL_UNKNOWN;
    default: return CTL_REFUSED;
    }
}

enum ctl_exit ctl_complain(const struct ctl *ctl, enum ctl_exit exit, const char *code,
                           const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(message, sizeof message, format, args);
    va_end(args);
    (void)fflush(stdout); /* In order, when both go to one place. */
    /* A server's words are not trusted either: no control bytes for the terminal, no broken JSON. */
    for (char *at = message; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 127) *at = ' ';
    }
    for (char *at = message; !is_utf8(kv_text(message)) && *at != 0; at++) {
        if ((unsigned char)*at > 127) *at = '?';
    }
    if (ctl->json) {
        (void)fprintf(stderr, "{\"error\":{\"code\":\"%s\",\"message\":", code);
        put_json_string(stderr, kv_text(message));
        (void)fputs("}}\n", stderr);
    } else {
        (void)fprintf(stderr, "kvctl: %s\n", message);
    }
    return exit;
}

/* Nodes wait for a leader, some of them longer than we do: then the reason of a silence is asked for. */
static bool is_leaderless(const struct ctl *ctl, enum kv_err err)
{
    const char *name = NULL;
    const char *client = NULL;
    if (err != KV_ERR_TIMEOUT) return false;
    kv_set_timeout(ctl->kv, REASON_MS);
    const bool is = kv_leader(ctl->kv, &name, &client) == KV_ERR_NOT_FOUND;
    kv_set_timeout(ctl->kv, ctl->timeout_ms);
    return is;
}

enum ctl_exit ctl_failed(const struct ctl *ctl, enum kv_err err)
{
    char message[512];
    (void)snprintf(message, sizeof message, "%s", kv_message(ctl->kv));
    if (is_leaderless(ctl, err)) {
        return ctl_complain(ctl, ctl_exit_of(err), kv_err_name(err),
                            "there is no leader, which takes a majority of the nodes; %s", message);
    }
    return ctl_complain(ctl, ctl_exit_of(err), kv_err_name(err), "%s", message);
}

/* ---- tables ---------------------------------------------------------------------------------- */

void ctl_table_head(struct ctl_table *table, const char *const *names, size_t columns)
{
    table->columns = columns;
    table->rows = 0;
    ctl_table_row(table);
    for (size_t i = 0; i < columns; i++) ctl_table_cell(table, i, CTL_BOLD, "%s", names[i]);
}

void ctl_table_row(struct ctl_table *table)
{
    if (table->rows == CTL_ROWS_MAX) table->rows--; /* More members than a cluster can have. */
    memset(table->cells[table->rows], 0, sizeof table->cells[0]);
    table->rows++;
}

void ctl_table_cell(struct ctl_table *table, size_t column, enum ctl_colour colour,
                    const char *format, ...)
{
    struct ctl_cell *cell = &table->cells[table->rows - 1][column];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(cell->text, sizeof cell->text, format, args);
    va_end(args);
    cell->colour = colour;
    for (char *at = cell->text; *at != 0; at++) {
        if ((unsigned char)*at < ' ' || *at == 127) *at = '?';
    }
}

static void put_cell(const struct ctl_cell *cell, size_t width, bool right, bool last, bool colour)
{
    static const char *const codes[] = {"", "\033[1m", "\033[32m", "\033[33m", "\033[31m"};
    const size_t size = strlen(cell->text);
    const int gap = (int)(width > size ? width - size : 0);
    const bool painted = colour && cell->colour != CTL_PLAIN;
    (void)printf("%*s%s%s%s", right ? gap : 0, "", painted ? codes[cell->colour] : "", cell->text,
                 painted ? "\033[0m" : "");
    if (!last) (void)printf("%*s", (right ? 0 : gap) + 2, "");
}

void ctl_table_print(const struct ctl_table *table, bool colour)
{
    size_t widths[CTL_COLUMNS_MAX] = {0};
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns; i++) {
            const size_t size = strlen(table->cells[row][i].text);
            if (size > widths[i]) widths[i] = size;
        }
    }
    for (size_t row = 0; row < table->rows; row++) {
        for (size_t i = 0; i < table->columns; i++) {
            put_cell(&table->cells[row][i], widths[i], (table->right >> i & 1) != 0,
                     i + 1 == table->columns, colour);
        }
        (void)fputc('\n', stdout);
    }
}
