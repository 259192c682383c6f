#include "node/syntax.h"

#include <string.h>

#define DEPTH_MAX 8u

/* While a text is read every group is a ONEOF whose children are its alternatives, each a BLOCK; a group that is
 * closed becomes as simple as it can be. */
struct reader_state {
    struct syntax *syntax;
    const char *at;
    uint8_t groups[DEPTH_MAX];
    uint32_t depth;
    uint8_t block;      /* The alternative that is being read. */
    struct slice token; /* Read, and not yet known whether a value follows. */
    bool repeats;       /* The dots were read: only the end of the group may follow. */
    bool failed;
};

static uint8_t add(struct reader_state *state, uint8_t parent, enum syntax_kind kind)
{
    struct syntax *syntax = state->syntax;
    if (syntax->count == SYNTAX_NODES_MAX) {
        state->failed = true;
        return 0;
    }
    const uint8_t at = (uint8_t)syntax->count++;
    syntax->nodes[at] = (struct syntax_node){.kind = kind, .parent = parent};
    uint8_t *link = &syntax->nodes[parent].first;
    while (*link != 0) link = &syntax->nodes[*link].next;
    if (at != 0) *link = at;
    return at;
}

static void flush_token(struct reader_state *state)
{
    if (state->token.size == 0) return;
    const uint8_t at = add(state, state->block, SYNTAX_TOKEN);
    state->syntax->nodes[at].token = state->token;
    state->token.size = 0;
}

/* The node becomes what its only child is. */
static void absorb(struct syntax *syntax, uint8_t at)
{
    struct syntax_node *node = &syntax->nodes[at];
    const struct syntax_node child = syntax->nodes[node->first];
    node->kind = child.kind;
    node->name = child.name;
    node->token = child.token;
    node->is_optional = node->is_optional || child.is_optional;
    node->is_multiple = node->is_multiple || child.is_multiple;
    node->first = child.first;
    for (uint8_t i = node->first; i != 0; i = syntax->nodes[i].next) syntax->nodes[i].parent = at;
}

static bool same(const struct syntax_node *a, const struct syntax_node *b)
{
    return a->kind == b->kind && slice_equal(a->name, b->name) && slice_equal(a->token, b->token) &&
           a->first == 0 && b->first == 0;
}

/* `key value [key value ...]` is one block that may be repeated: what stands before the group and is the same goes. */
static bool merge_before(struct syntax *syntax, uint8_t group, uint8_t alternative)
{
    const uint8_t parent = syntax->nodes[group].parent;
    const uint32_t count = syntax_children(syntax, alternative);
    const uint32_t before = syntax_children(syntax, parent) - 1;
    if (count == 0 || before < count) return false;
    uint8_t *link = &syntax->nodes[parent].first;
    for (uint32_t i = 0; i < before - count; i++) link = &syntax->nodes[*link].next;
    uint8_t mine = syntax->nodes[alternative].first;
    /* `GET key [key ...]`: the word stands before the first one. */
    if (count == 1) syntax->nodes[mine].token = syntax->nodes[*link].token;
    for (uint8_t i = *link; mine != 0; i = syntax->nodes[i].next) {
        if (!same(&syntax->nodes[i], &syntax->nodes[mine])) return false;
        mine = syntax->nodes[mine].next;
    }
    *link = group;
    return true;
}

static void repeat(struct reader_state *state, uint8_t group)
{
    struct syntax *syntax = state->syntax;
    uint8_t last = syntax->nodes[state->block].first;
    if (last == 0 || state->depth == 1) {
        state->failed = true;
        return;
    }
    if (syntax->nodes[group].first == state->block && merge_before(syntax, group, state->block)) {
        syntax->nodes[group].is_optional = false;
        syntax->nodes[group].is_multiple = true;
        return;
    }
    while (syntax->nodes[last].next != 0) last = syntax->nodes[last].next;
    syntax->nodes[last].is_multiple = true;
}

static void close_group(struct reader_state *state)
{
    struct syntax *syntax = state->syntax;
    const uint8_t group = state->groups[state->depth - 1];
    flush_token(state);
    if (state->failed) return;
    if (state->repeats) repeat(state, group);
    state->repeats = false;
    for (uint8_t i = syntax->nodes[group].first; i != 0; i = syntax->nodes[i].next) {
        const uint32_t count = syntax_children(syntax, i);
        if (count == 0 && state->depth > 1) state->failed = true;
        if (count == 1) absorb(syntax, i);
    }
    if (syntax_children(syntax, group) == 1) absorb(syntax, group);
    state->depth--;
    state->block = syntax->nodes[group].parent;
}

static void open_group(struct reader_state *state, bool is_optional)
{
    flush_token(state);
    if (state->depth == DEPTH_MAX) state->failed = true;
    if (state->failed) return;
    const uint8_t group = add(state, state->block, SYNTAX_ONEOF);
    state->syntax->nodes[group].is_optional = is_optional;
    state->groups[state->depth++] = group;
    state->block = add(state, group, SYNTAX_BLOCK);
}

static bool is_word(char byte)
{
    return byte != 0 && strchr(" []()|,", byte) == NULL;
}

static void take_word(struct reader_state *state)
{
    const char *begin = state->at;
    while (is_word(*state->at)) state->at++;
    const struct slice word = slice_of(begin, (uint64_t)(state->at - begin));
    if (slice_equal(word, slice_text("..."))) {
        flush_token(state);
        state->repeats = true;
    } else if (*begin >= 'A' && *begin <= 'Z') {
        flush_token(state);
        state->token = word;
    } else {
        const uint8_t at = add(state, state->block, SYNTAX_VALUE);
        state->syntax->nodes[at].name = word;
        state->syntax->nodes[at].token = state->token;
        state->token.size = 0;
    }
}

bool syntax_parse(const char *text, struct syntax *syntax)
{
    struct reader_state state = {.syntax = syntax, .at = text};
    syntax->count = 0;
    while (is_word(*state.at)) state.at++; /* The name. */
    (void)add(&state, 0, SYNTAX_BLOCK);
    open_group(&state, false);
    while (*state.at != 0 && *state.at != ',' && !state.failed) {
        const char byte = *state.at;
        if (is_word(byte)) {
            if (state.repeats) return false;
            take_word(&state);
            continue;
        }
        state.at++;
        if (byte == ' ') continue;
        if (state.repeats && byte != ']' && byte != ')') return false;
        if (byte == '[' || byte == '(') {
            open_group(&state, byte == '[');
        } else if (byte == '|') {
            flush_token(&state);
            state.block = add(&state, state.groups[state.depth - 1], SYNTAX_BLOCK);
        } else if (state.depth > 1) {
            close_group(&state);
        } else {
            return false;
        }
    }
    if (state.failed || state.depth != 1) return false;
    close_group(&state);
    /* The root holds one group: its arguments are the root's own, unless they are alternatives or a single one. */
    const struct syntax_node *only = &syntax->nodes[1];
    if (!state.failed && only->kind == SYNTAX_BLOCK && !only->is_optional && !only->is_multiple) {
        absorb(syntax, 0);
    }
    return !state.failed;
}

uint32_t syntax_children(const struct syntax *syntax, uint32_t at)
{
    uint32_t count = 0;
    for (uint8_t i = syntax->nodes[at].first; i != 0; i = syntax->nodes[i].next) count++;
    return count;
}

uint32_t syntax_next(const struct syntax *syntax, uint32_t at)
{
    if (syntax->nodes[at].first != 0) return syntax->nodes[at].first;
    while (at != 0 && syntax->nodes[at].next == 0) at = syntax->nodes[at].parent;
    return at == 0 ? 0 : syntax->nodes[at].next;
}

static bool is_one_of(struct slice name, const char *const *words)
{
    for (uint32_t i = 0; words[i] != NULL; i++) {
        if (slice_equal(name, slice_text(words[i]))) return true;
    }
    return false;
}

const char *syntax_type(const struct syntax_node *node)
{
    static const char *const keys[] = {"key", "newkey", "source", "destination", NULL};
    static const char *const integers[] = {
        "seconds", "milliseconds", "count",          "cursor",  "decrement", "end",
        "index",   "index1",       "index2",         "numkeys", "numlocal",  "numreplicas",
        "offset",  "revision",     "sequence",       "size",    "start",     "timeout",
        "ttl",     "id",           "destination-db", "db",      NULL};
    static const char *const times[] = {"unix-time-seconds", "unix-time-milliseconds", NULL};
    if (node->kind == SYNTAX_TOKEN) return "pure-token";
    if (node->kind == SYNTAX_ONEOF) return "oneof";
    if (node->kind == SYNTAX_BLOCK) return "block";
    if (is_one_of(node->name, keys)) return "key";
    if (is_one_of(node->name, integers)) return "integer";
    if (is_one_of(node->name, times)) return "unix-time";
    return slice_equal(node->name, slice_text("pattern")) ? "pattern" : "string";
}
