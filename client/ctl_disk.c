/* kvctl disk, compact, check: where the space of each node goes, how it comes back, whether all nodes hold the same. */
#include "client/ctl.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#define MUCH_BYTES (1u << 20) /* written, from which on a ratio means something */
#define NODES_MAX 64u
#define NAME_SIZE 64u
#define ADDRESS_SIZE 264u
#define POLL_MS 100
#define SILENT_MS 60000    /* without any progress a compaction is given up on */
#define CHECK_MS 600000    /* the longest that a comparison is waited for */
#define CHECK_TRIES_MAX 5u /* one that was under way already may not have counted anew */

/* ---- nodes ----------------------------------------------------------------------------------- */

struct nodes {
    struct {
        char name[NAME_SIZE];
        char client[ADDRESS_SIZE];
        bool is_down;
    } list[NODES_MAX];
    size_t count;
};

/* All members, or the one that is named. */
static enum ctl_exit find_nodes(struct ctl *ctl, const struct ctl_args *args, struct nodes *nodes)
{
    struct kv_cluster cluster;
    const char *wanted = args->count > 0 ? args->words[0].data : NULL;
    nodes->count = 0;
    const enum kv_err err = kv_status(ctl->kv, &cluster);
    if (err != KV_OK) return ctl_failed(ctl, err);
    for (size_t i = 0; i < cluster.node_count && nodes->count < NODES_MAX; i++) {
        const struct kv_node *node = &cluster.nodes[i];
        if (wanted != NULL && strcmp(wanted, node->name) != 0) continue;
        (void)snprintf(nodes->list[nodes->count].name, NAME_SIZE, "%s", node->name);
        (void)snprintf(nodes->list[nodes->count].client, ADDRESS_SIZE, "%s", node->client);
        nodes->list[nodes->count].is_down = strcmp(node->role, "down") == 0;
        nodes->count++;
    }
    if (nodes->count > 0) return CTL_DONE;
    return ctl_complain(ctl, CTL_REFUSED, "not_found", "no member has this name");
}

/* A connection to one node and no other; NULL: it was complained about. */
static struct kv *connect_node(const struct ctl *ctl, const char *name, const char *address)
{
    struct kv_options settings;
    struct kv *kv = NULL;
    kv_options_init(&settings);
    settings.nodes = address;
    settings.timeout_ms = ctl->timeout_ms;
    enum kv_err err = address[0] != 0 ? kv_connect(&settings, &kv) : KV_ERR_REFUSED;
    if (err == KV_OK) err = kv_stay(kv, address);
    if (err == KV_OK) return kv;
    (void)ctl_complain(ctl, CTL_NO_ANSWER, kv_err_name(err), "%s: %s", name,
                       kv != NULL ? kv_message(kv) : "its client address is not known");
    kv_close(kv);
    return NULL;
}

static enum ctl_exit ask(const struct ctl *ctl, struct kv *kv, const char *name, const char *word,
                         const char *second, const struct kv_reply **reply)
{
    const struct kv_bytes args[] = {kv_text(word), kv_text(second != NULL ? second : "")};
    const enum kv_err err = kv_command(kv, KV_READ, args, second != NULL ? 2 : 1, reply);
    if (err == KV_OK) return CTL_DONE;
    return ctl_complain(ctl, ctl_exit_of(err), kv_err_name(err), "%s: %s", name, kv_message(kv));
}

/* ---- replies --------------------------------------------------------------------------------- */

/* Text of a server for a terminal. */
static void put_text(const char *bytes, int width)
{
    (void)printf("%*s", width > (int)strlen(bytes) ? width - (int)strlen(bytes) : 0, "");
    ctl_put_text(kv_text(bytes), true);
}

static bool is_list(const struct kv_reply *reply)
{
    return reply->type == KV_ARRAY || reply->type == KV_SET;
}

/* ---- disk ------------------------------------------------------------------------------------ */

static const char *const file_numbers[] = {"number", "size",  "used", "hint",   "live",
                                           "dead",   "first", "last", "window", "damaged"};
static const char *const node_numbers[] = {
    "disk_bytes", "free_bytes", "live",          "garbage",     "compacting",    "forced",
    "jobs",       "bytes_read", "bytes_written", "bytes_freed", "total_written", "user_written"};

static void put_disk_json(const char *name, const struct kv_reply *disk)
{
    const struct kv_reply *files = ctl_field(disk, "files");
    ctl_json_begin();
    ctl_json_text("node", name);
    for (size_t i = 0; i < sizeof node_numbers / sizeof node_numbers[0]; i++) {
        ctl_json_uint(node_numbers[i], ctl_field_number(disk, node_numbers[i]));
    }
    ctl_json_decimal("write_amplification", ctl_field_text(disk, "write_amplification"));
    ctl_json_list_begin("files");
    for (size_t i = 0; is_list(files) && i < files->count; i++) {
        const struct kv_reply *file = &files->items[i];
        ctl_json_begin();
        ctl_json_text("id", ctl_field_text(file, "id"));
        ctl_json_text("kind", ctl_field_text(file, "kind"));
        ctl_json_text("state", ctl_field_text(file, "state"));
        for (size_t k = 0; k < sizeof file_numbers / sizeof file_numbers[0]; k++) {
            ctl_json_uint(file_numbers[k], ctl_field_number(file, file_numbers[k]));
        }
        ctl_json_end();
    }
    ctl_json_list_end();
    ctl_json_end();
    (void)fputc('\n', stdout);
}

static unsigned percent(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (unsigned)(100.0 * (double)part / (double)whole + 0.5) : 0;
}

static void put_sizes(const uint64_t *sizes, size_t count)
{
    char size[CTL_SIZE_TEXT];
    for (size_t i = 0; i < count; i++) (void)printf("  %10s", ctl_size_text(sizes[i], size));
}

/* A node may have more files than a table has rows: columns of fixed width. */
static void put_file(const struct kv_reply *file)
{
    const uint64_t used = ctl_field_number(file, "used");
    const uint64_t dead = ctl_field_number(file, "dead");
    const uint64_t first = ctl_field_number(file, "first");
    const uint64_t last = ctl_field_number(file, "last");
    const uint64_t sizes[] = {ctl_field_number(file, "size"), used, ctl_field_number(file, "live"),
                              dead};
    (void)printf("%8" PRIu64 "  ", ctl_field_number(file, "number"));
    put_text(ctl_field_text(file, "kind"), 7);
    (void)fputs("  ", stdout);
    put_text(ctl_field_text(file, "state"), 7);
    put_sizes(sizes, 4);
    (void)printf("   %3u%%", percent(dead, used));
    if (first <= last && last > 0) {
        (void)printf("  %" PRIu64 "-%" PRIu64, first, last);
    } else {
        (void)fputs("  -", stdout);
    }
    if (ctl_field_number(file, "window") != 0) (void)fputs("  window", stdout);
    if (ctl_field_number(file, "damaged") != 0) (void)fputs("  DAMAGED", stdout);
    (void)fputc('\n', stdout);
}

static void put_disk_text(const struct ctl *ctl, const char *name, const struct kv_reply *disk)
{
    const struct kv_reply *files = ctl_field(disk, "files");
    uint64_t sums[4] = {0};
    char size[5][CTL_SIZE_TEXT];
    (void)printf("%s%s%s\n", ctl->colour ? "\033[1m" : "", name, ctl->colour ? "\033[0m" : "");
    (void)puts("  NUMBER     KIND    STATE        SIZE        USED        LIVE        DEAD  DEAD%  "
               "ENTRIES");
    for (size_t i = 0; is_list(files) && i < files->count; i++) {
        const struct kv_reply *file = &files->items[i];
        put_file(file);
        sums[0] += ctl_field_number(file, "size");
        sums[1] += ctl_field_number(file, "used");
        sums[2] += ctl_field_number(file, "live");
        sums[3] += ctl_field_number(file, "dead");
    }
    (void)printf("%26s", "together");
    put_sizes(sums, 4);
    (void)printf("   %3u%%\n", percent(sums[3], sums[1]));
    /* The first few writes are mostly padding: that ratio would only frighten. */
    const bool is_much = ctl_field_number(disk, "total_written") >= MUCH_BYTES;
    (void)printf("on disk %s, free %s; %s could be given back%s; since its start %s given back, "
                 "%s written%s%s%s\n",
                 ctl_size_text(ctl_field_number(disk, "disk_bytes"), size[0]),
                 ctl_size_text(ctl_field_number(disk, "free_bytes"), size[1]),
                 ctl_size_text(ctl_field_number(disk, "garbage"), size[2]),
                 ctl_field_number(disk, "compacting") != 0 ? ", compacting now" : "",
                 ctl_size_text(ctl_field_number(disk, "bytes_freed"), size[3]),
                 ctl_size_text(ctl_field_number(disk, "total_written"), size[4]),
                 is_much ? " (" : "", is_much ? ctl_field_text(disk, "write_amplification") : "",
                 is_much ? " for each byte of keys and values)" : "");
}

enum ctl_exit ctl_disk(struct ctl *ctl, const struct ctl_args *args)
{
    static struct nodes nodes; /* too big for the stack */
    enum ctl_exit exit = find_nodes(ctl, args, &nodes);
    if (exit != CTL_DONE) return exit;
    for (size_t i = 0; i < nodes.count; i++) {
        const struct kv_reply *reply = NULL;
        const char *name = nodes.list[i].name;
        struct kv *kv = connect_node(ctl, name, nodes.list[i].client);
        enum ctl_exit result = CTL_NO_ANSWER;
        if (kv != NULL) result = ask(ctl, kv, name, "KV.DISK", NULL, &reply);
        if (result == CTL_DONE) {
            if (ctl->json) {
                put_disk_json(name, reply);
            } else {
                if (i > 0) (void)fputc('\n', stdout);
                put_disk_text(ctl, name, reply);
            }
        }
        kv_close(kv);
        if (exit == CTL_DONE) exit = result;
    }
    return exit;
}

/* ---- compact --------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    (void)nanosleep(&pause, NULL);
}

struct compacted {
    uint64_t freed; /* since the node was started */
    uint64_t kept;
};

/* Garbage in files that compaction leaves alone, since peers that lag may ask for their entries. */
static uint64_t kept_garbage(const struct kv_reply *disk)
{
    const struct kv_reply *files = ctl_field(disk, "files");
    uint64_t kept = 0;
    for (size_t i = 0; is_list(files) && i < files->count; i++) {
        const struct kv_reply *file = &files->items[i];
        if (ctl_field_number(file, "window") > 0) kept += ctl_field_number(file, "dead");
    }
    return kept;
}

/* Asks until the node is done. */
static enum ctl_exit wait_compacted(struct ctl *ctl, struct kv *kv, const char *name,
                                    struct ctl_progress *progress, struct compacted *result)
{
    const struct kv_reply *disk = NULL;
    uint64_t moved_before = 0;
    uint64_t most = 0;
    int64_t moved_ms = now_ms();
    for (;;) {
        const enum ctl_exit exit = ask(ctl, kv, name, "KV.DISK", NULL, &disk);
        if (exit != CTL_DONE) return exit;
        result->freed = ctl_field_number(disk, "bytes_freed");
        result->kept = kept_garbage(disk);
        if (ctl_field_number(disk, "forced") == 0) return CTL_DONE;
        const uint64_t garbage = ctl_field_number(disk, "garbage");
        if (garbage > most) most = garbage;
        ctl_progress_show(progress, most - garbage, most);
        const uint64_t moved = ctl_field_number(disk, "bytes_read") +
                               ctl_field_number(disk, "bytes_written") +
                               ctl_field_number(disk, "jobs") + result->freed;
        if (moved != moved_before) moved_ms = now_ms();
        moved_before = moved;
        if (now_ms() - moved_ms > SILENT_MS) {
            ctl_progress_end(progress);
            return ctl_complain(ctl, CTL_NO_ANSWER, "timeout",
                                "%s: no progress for %d s: its disk may be full; it goes on by "
                                "itself when it can",
                                name, SILENT_MS / 1000);
        }
        pause_ms(POLL_MS);
    }
}

static enum ctl_exit compact_node(struct ctl *ctl, const char *name, const char *address)
{
    const struct kv_reply *reply = NULL;
    struct ctl_progress progress;
    char size[CTL_SIZE_TEXT];
    uint64_t before = 0;
    struct compacted result = {0};
    struct kv *kv = connect_node(ctl, name, address);
    if (kv == NULL) return CTL_NO_ANSWER;
    enum ctl_exit exit = ask(ctl, kv, name, "KV.DISK", NULL, &reply);
    if (exit == CTL_DONE) {
        before = ctl_field_number(reply, "bytes_freed");
        exit = ask(ctl, kv, name, "KV.COMPACT", NULL, &reply);
    }
    if (exit == CTL_DONE) {
        ctl_progress_begin(&progress, ctl, "compacting");
        exit = wait_compacted(ctl, kv, name, &progress, &result);
        ctl_progress_end(&progress);
    }
    kv_close(kv);
    if (exit != CTL_DONE) return exit;
    const uint64_t freed = result.freed > before ? result.freed - before : 0;
    if (ctl->json) {
        ctl_json_begin();
        ctl_json_text("node", name);
        ctl_json_uint("bytes_freed", freed);
        ctl_json_uint("bytes_kept", result.kept);
        ctl_json_end();
        (void)fputc('\n', stdout);
    } else {
        (void)printf("%s: %s given back", name, ctl_size_text(freed, size));
        if (result.kept > 0) {
            (void)printf("; %s of garbage stays in the newest files: the option retention keeps "
                         "them, for nodes that lag, until so much more was written",
                         ctl_size_text(result.kept, size));
        }
        (void)fputc('\n', stdout);
    }
    return CTL_DONE;
}

enum ctl_exit ctl_compact(struct ctl *ctl, const struct ctl_args *args)
{
    static struct nodes nodes; /* too big for the stack */
    enum ctl_exit exit = find_nodes(ctl, args, &nodes);
    if (exit != CTL_DONE) return exit;
    /* One after the other: each costs its node some of the disk's time. */
    for (size_t i = 0; i < nodes.count; i++) {
        const enum ctl_exit result = compact_node(ctl, nodes.list[i].name, nodes.list[i].client);
        if (exit == CTL_DONE) exit = result;
    }
    return exit;
}

/* ---- check ----------------------------------------------------------------------------------- */

/* The nodes of a round; each is an array of name, result, hash, recount. */
static const char *node_text(const struct kv_reply *node, size_t at)
{
    if (!is_list(node) || node->count <= at || node->items[at].type != KV_STRING) return "";
    return node->items[at].data;
}

/* Was every key counted anew on every node that answered? */
static bool is_recounted(const struct kv_reply *round)
{
    const struct kv_reply *nodes = ctl_field(round, "nodes");
    for (size_t i = 0; is_list(nodes) && i < nodes->count; i++) {
        const struct kv_reply *node = &nodes->items[i];
        if (strcmp(node_text(node, 1), "silent") == 0) continue;
        if (strcmp(node_text(node, 3), "none") == 0) return false;
    }
    return true;
}

/* Begins a comparison and waits for its end. */
static enum ctl_exit run_check(struct ctl *ctl, const struct kv_reply **round)
{
    const int64_t end_ms = now_ms() + CHECK_MS;
    enum ctl_exit exit = ask(ctl, ctl->kv, "check", "KV.CHECK", "START", round);
    uint64_t begun = exit == CTL_DONE ? ctl_field_number(*round, "round") : 0;
    uint32_t tries = 1;
    while (exit == CTL_DONE) {
        const bool is_over = strcmp(ctl_field_text(*round, "result"), "running") != 0;
        if (ctl_field_number(*round, "round") != begun || begun == 0) {
            return ctl_complain(ctl, CTL_NO_ANSWER, "no_leader",
                                "the leader changed while the nodes were compared: try again");
        }
        if (is_over && (is_recounted(*round) || tries == CHECK_TRIES_MAX)) return CTL_DONE;
        if (now_ms() >= end_ms) {
            return ctl_complain(ctl, CTL_NO_ANSWER, "timeout",
                                "the comparison did not end within %d s", CHECK_MS / 1000);
        }
        pause_ms(POLL_MS);
        exit = ask(ctl, ctl->kv, "check", "KV.CHECK", is_over ? "START" : NULL, round);
        if (is_over) {
            tries++;
            begun = exit == CTL_DONE ? ctl_field_number(*round, "round") : 0;
        }
    }
    return exit;
}

static void put_check_json(const struct kv_reply *round)
{
    const struct kv_reply *nodes = ctl_field(round, "nodes");
    ctl_json_begin();
    ctl_json_text("result", ctl_field_text(round, "result"));
    ctl_json_uint("index", ctl_field_number(round, "index"));
    ctl_json_list_begin("nodes");
    for (size_t i = 0; is_list(nodes) && i < nodes->count; i++) {
        const struct kv_reply *node = &nodes->items[i];
        ctl_json_begin();
        ctl_json_text("name", node_text(node, 0));
        ctl_json_text("result", node_text(node, 1));
        ctl_json_text("state_hash", node_text(node, 2));
        ctl_json_text("recount", node_text(node, 3));
        ctl_json_end();
    }
    ctl_json_list_end();
    ctl_json_end();
    (void)fputc('\n', stdout);
}

static void put_check_text(const struct ctl *ctl, const struct kv_reply *round)
{
    static const char *const names[] = {"NAME", "RESULT", "STATE HASH", "RECOUNT"};
    static struct ctl_table table;
    const struct kv_reply *nodes = ctl_field(round, "nodes");
    ctl_table_head(&table, names, sizeof names / sizeof names[0]);
    for (size_t i = 0; is_list(nodes) && i < nodes->count; i++) {
        const struct kv_reply *node = &nodes->items[i];
        const bool is_equal = strcmp(node_text(node, 1), "equal") == 0;
        const bool is_different = strcmp(node_text(node, 1), "different") == 0;
        ctl_table_row(&table);
        ctl_table_cell(&table, 0, CTL_PLAIN, "%s", node_text(node, 0));
        ctl_table_cell(&table, 1,
                       is_equal       ? CTL_GREEN
                       : is_different ? CTL_RED
                                      : CTL_YELLOW,
                       "%s", node_text(node, 1));
        ctl_table_cell(&table, 2, CTL_PLAIN, "%s", node_text(node, 2));
        ctl_table_cell(&table, 3, CTL_PLAIN, "%s", node_text(node, 3));
    }
    (void)printf("%s at index %" PRIu64 "\n", ctl_field_text(round, "result"),
                 ctl_field_number(round, "index"));
    ctl_table_print(&table, ctl->colour);
}

enum ctl_exit ctl_check(struct ctl *ctl, const struct ctl_args *args)
{
    const struct kv_reply *round = NULL;
    (void)args;
    const enum ctl_exit exit = run_check(ctl, &round);
    if (exit != CTL_DONE) return exit;
    if (ctl->json) {
        put_check_json(round);
    } else {
        put_check_text(ctl, round);
    }
    if (strcmp(ctl_field_text(round, "result"), "equal") == 0) return CTL_DONE;
    return strcmp(ctl_field_text(round, "result"), "different") == 0 ? CTL_REFUSED : CTL_NO_ANSWER;
}
