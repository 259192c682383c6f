/* ctl_txn.c - kvctl txn: conditions and commands from the standard input, carried out at one moment (KV.TXN).
 *
 *   if                              each section once, in this order, all but one may be missing
 *     value KEY = VALUE             =, !=, < or >
 *     revision KEY = REVISION       the same; 0: there is no such key
 *     exists KEY
 *     absent KEY
 *   then                            if all conditions hold
 *     set KEY VALUE                 any command about keys that KV.TXN takes
 *   else                            if not
 *     get KEY
 *   end                             or the end of the input
 *
 * Words are quoted as in `kvctl shell`; empty lines and those that begin with # mean nothing. */
#include "client/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ARGS_MAX 100000u
#define DEPTH_MAX 8u

enum section { SECTION_NONE, SECTION_IF, SECTION_THEN, SECTION_ELSE, SECTION_END };
static const char *const section_names[] = {
    [SECTION_IF] = "if", [SECTION_THEN] = "then", [SECTION_ELSE] = "else", [SECTION_END] = "end"};

struct txn_text {
    const struct ctl *ctl;
    unsigned long line;
    enum section section;
    struct kv_bytes
        *args; /* KV.TXN and what follows; the counts of sections are filled in at last */
    size_t count;
    size_t capacity;
    size_t counts[SECTION_END];     /* of lines in each section */
    size_t count_args[SECTION_END]; /* where these counts stand; 0: no such section */
    char **memory;                  /* what args lie in */
    size_t memory_count;
    size_t memory_capacity;
};

/* Always false. */
static bool wrong(const struct txn_text *text, size_t column, const char *what)
{
    (void)ctl_complain(text->ctl, CTL_USAGE, "syntax", "line %lu, column %zu: %s", text->line,
                       column, what);
    return false;
}

static bool no_memory(const struct txn_text *text)
{
    (void)ctl_complain(text->ctl, CTL_USAGE, "too_big", "line %lu: the transaction is too long",
                       text->line);
    return false;
}

static bool keep(struct txn_text *text, char *memory)
{
    if (text->memory_count == text->memory_capacity) {
        const size_t capacity = text->memory_capacity * 2 + 64;
        char **list = realloc(text->memory, capacity * sizeof *list);
        if (list == NULL) {
            free(memory);
            return no_memory(text);
        }
        text->memory = list;
        text->memory_capacity = capacity;
    }
    text->memory[text->memory_count++] = memory;
    return true;
}

static bool add(struct txn_text *text, struct kv_bytes arg)
{
    if (text->count == ARGS_MAX) return no_memory(text);
    if (text->count == text->capacity) {
        const size_t capacity = text->capacity * 2 + 256;
        struct kv_bytes *args = realloc(text->args, capacity * sizeof *args);
        if (args == NULL) return no_memory(text);
        text->args = args;
        text->capacity = capacity;
    }
    text->args[text->count++] = arg;
    return true;
}

static bool add_number(struct txn_text *text, size_t number)
{
    char *digits = malloc(24);
    if (digits == NULL) return no_memory(text);
    (void)snprintf(digits, 24, "%zu", number);
    return keep(text, digits) && add(text, kv_text(digits));
}

/* ---- reading ------------------------------------------------------------------------------------------ */

static bool begin_section(struct txn_text *text, enum section section)
{
    if (section <= text->section) {
        return wrong(text, 1, "sections are if, then, else and end, each once, in this order");
    }
    text->section = section;
    if (section == SECTION_END) return true;
    if (!add(text, kv_text(section_names[section]))) return false;
    text->count_args[section] = text->count;
    return add(text, kv_text("0"));
}

static bool is_operator(const char *text)
{
    return strcmp(text, "=") == 0 || strcmp(text, "!=") == 0 || strcmp(text, "<") == 0 ||
           strcmp(text, ">") == 0;
}

static bool check_condition(const struct txn_text *text, const struct kv_bytes *words, size_t count,
                            const size_t *columns)
{
    int64_t revision = 0;
    const bool is_value = strcasecmp(words[0].data, "value") == 0;
    const bool is_revision = strcasecmp(words[0].data, "revision") == 0;
    const bool is_existence = strcasecmp(words[0].data, "exists") == 0 ||
                              strcasecmp(words[0].data, "absent") == 0;
    if (!is_value && !is_revision && !is_existence) {
        return wrong(text, columns[0], "value, revision, exists or absent is expected");
    }
    if (is_existence) {
        if (count == 2) return true;
        return wrong(text, columns[count > 2 ? 2 : 0], "exists and absent take one key");
    }
    if (count >= 3 && !is_operator(words[2].data)) {
        return wrong(text, columns[2], "=, !=, < or > is expected");
    }
    if (count != 4) {
        return wrong(text, columns[count > 4 ? 4 : 0],
                     "a key, one of = != < > and what to compare with are expected");
    }
    if (is_revision && !ctl_number(words[3], 0, INT64_MAX, &revision)) {
        return wrong(text, columns[3], "a revision is expected");
    }
    return true;
}

static bool take_line(struct txn_text *text, const char *line)
{
    static struct kv_bytes words[CTL_WORDS_MAX];
    static size_t columns[CTL_WORDS_MAX];
    char *memory = NULL;
    const int size = ctl_split_columns(line, words, columns, &memory);
    if (memory != NULL && !keep(text, memory)) return false;
    if (size < 0)
        return wrong(text, columns[0], "a quote is not closed, or there are too many words");
    const size_t count = (size_t)size;
    const char *first = count > 0 ? words[0].data : "#";
    if (first[0] == '#') return true;
    for (int section = SECTION_IF; section <= SECTION_END && count == 1; section++) {
        if (strcasecmp(first, section_names[section]) == 0) {
            return begin_section(text, (enum section)section);
        }
    }
    if (text->section == SECTION_NONE)
        return wrong(text, columns[0], "if, then or else is expected");
    if (text->section == SECTION_IF && !check_condition(text, words, count, columns)) return false;
    if (text->section != SECTION_IF && !add_number(text, count)) return false;
    for (size_t i = 0; i < count; i++) {
        if (!add(text, words[i])) return false;
    }
    text->counts[text->section]++;
    return true;
}

static bool is_blank(const char *line)
{
    const char first = line[strspn(line, " \t\r\n")];
    return first == 0 || first == '#';
}

static bool read_text(struct txn_text *text)
{
    char *line = NULL;
    size_t capacity = 0;
    bool ok = add(text, kv_text("KV.TXN"));
    while (ok && text->section != SECTION_END && getline(&line, &capacity, stdin) >= 0) {
        text->line++;
        ok = take_line(text, line);
    }
    /* In the shell the next command follows. Elsewhere nobody would notice that it was not read. */
    while (ok && text->section == SECTION_END && !text->ctl->in_shell &&
           getline(&line, &capacity, stdin) >= 0) {
        text->line++;
        ok = is_blank(line) ||
             wrong(text, strspn(line, " \t") + 1,
                   "nothing may follow end: one transaction is read, and none was sent");
    }
    free(line);
    if (ok && text->count == 1) {
        if (text->line == 0) text->line = 1; /* There is not even a first line. */
        ok = wrong(text, 1, "if, then or else is expected");
    }
    for (int section = SECTION_IF; ok && section < SECTION_END; section++) {
        const size_t at = text->count_args[section];
        if (at == 0) continue;
        ok = add_number(text, text->counts[section]);
        if (ok) text->args[at] = text->args[--text->count];
    }
    return ok;
}

/* ---- the reply ---------------------------------------------------------------------------------------- */

static void put_json(const struct kv_reply *reply)
{
    const struct kv_bytes bytes = kv_bytes_of(reply->data, reply->size);
    ctl_json_begin();
    switch (reply->type) {
    case KV_STRING: ctl_json_bytes("value", bytes); break;
    case KV_INTEGER: ctl_json_int("integer", reply->integer); break;
    case KV_ERROR: ctl_json_text("error", reply->data); break;
    default: ctl_json_true("null"); break;
    }
    ctl_json_end();
}

static void put_plain(const struct kv_reply *reply)
{
    switch (reply->type) {
    case KV_STRING: ctl_put_text(kv_bytes_of(reply->data, reply->size), true); break;
    case KV_INTEGER: (void)printf("%" PRId64, reply->integer); break;
    case KV_ERROR: (void)printf("(error) %s", reply->data); break;
    default: (void)printf("(nil)"); break;
    }
}

/* One reply; of a list its elements, one behind the other, lists within it too. */
static void put_reply(const struct ctl *ctl, const struct kv_reply *reply)
{
    struct level {
        const struct kv_reply *next;
        size_t left;
    } levels[DEPTH_MAX] = {{reply, 1}};
    size_t depth = 1;
    bool is_first = true;
    while (depth > 0) {
        struct level *level = &levels[depth - 1];
        if (level->left == 0) {
            depth--;
            if (ctl->json && depth > 0) {
                ctl_json_list_end();
                ctl_json_end();
            }
            continue;
        }
        const struct kv_reply *element = level->next++;
        level->left--;
        if ((element->type == KV_ARRAY || element->type == KV_MAP) && depth < DEPTH_MAX) {
            if (ctl->json) {
                ctl_json_begin();
                ctl_json_list_begin("list");
            }
            levels[depth++] = (struct level){element->items, element->count};
            continue;
        }
        if (ctl->json) {
            put_json(element);
        } else {
            if (!is_first) (void)fputc(' ', stdout);
            put_plain(element);
            is_first = false;
        }
    }
}

static enum ctl_exit put_result(const struct ctl *ctl, const struct kv_reply *reply)
{
    if (reply->type != KV_ARRAY || reply->count != 2 || reply->items[1].type != KV_ARRAY) {
        return ctl_complain(ctl, CTL_REFUSED, "error", "the reply to KV.TXN is none");
    }
    const bool is_done = reply->items[0].integer == 1;
    const struct kv_reply *replies = &reply->items[1];
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_bool("succeeded", is_done);
        ctl_json_list_begin("replies");
    } else {
        (void)puts(is_done ? "succeeded" : "a condition does not hold");
    }
    for (size_t i = 0; i < replies->count; i++) {
        put_reply(ctl, &replies->items[i]);
        if (!ctl->json) (void)fputc('\n', stdout);
    }
    if (ctl->json) {
        ctl_json_list_end();
        ctl_json_end();
        (void)fputc('\n', stdout);
    }
    return is_done ? CTL_DONE : CTL_REFUSED;
}

enum ctl_exit ctl_txn(struct ctl *ctl, const struct ctl_args *args)
{
    struct txn_text text = {.ctl = ctl};
    const struct kv_reply *reply = NULL;
    enum ctl_exit exit = CTL_USAGE;
    (void)args;
    if (read_text(&text)) {
        const enum kv_err err = kv_command(ctl->kv, KV_WRITE, text.args, text.count, &reply);
        exit = err == KV_OK ? put_result(ctl, reply) : ctl_failed(ctl, err);
    }
    for (size_t i = 0; i < text.memory_count; i++) free(text.memory[i]);
    free(text.memory);
    free(text.args);
    return exit;
}
