/* manual_page.c - docs/commands.md, out of the command table and manual.c. */
#include <inttypes.h>

#include "node/manual.h"
#include "node/subcommand.h"
#include "node/txn.h"
#include "storage/base/limits.h"

static const struct {
    const char *group;
    const char *title;
    const char *text;
} groups[] = {
    {"string", "Strings", "A value is a string of bytes; numbers are their decimal text."},
    {"generic", "Keys", "For every key, whatever it holds."},
    {"transactions", "Transactions",
     "Queued on the node that the client talks to, then carried out at one moment, over any keys. "
     "`KV.TXN` needs one round trip and knows revisions."},
    {"scripting", "Scripts",
     "There is no Lua. The scripts of lock libraries are known by their SHA1 and carried out as "
     "commands are; any other one gives an error."},
    {"kv", "Commands of FlashKV",
     "What Redis has no command for. A revision is a number that grows with every change and that "
     "all nodes agree on."},
    {"pubsub", "Channels",
     "Fire and forget, as in Redis: who does not listen at that moment never hears of it. "
     "`KV.WATCH` "
     "leaves nothing out."},
    {"connection", "Connection", "Answered by the node that the client talks to."},
    {"server", "Server", "About the node that the client talks to, unless it says keys."},
    {"cluster", "Redis Cluster",
     "What clients of a Redis Cluster ask on the listener `cluster-client`."},
    {"sentinel", "Redis Sentinel", "What clients ask who find a leader through Redis Sentinel."},
};
#define GROUPS ((uint32_t)(sizeof groups / sizeof groups[0]))

static void put_upper(struct buf *out, const char *text)
{
    for (; *text != 0; text++) {
        buf_u8(out, (uint8_t)(*text >= 'a' && *text <= 'z' ? *text - 32 : *text));
    }
}

/* In words of prose: backticks around each. */
static void put_codes(struct buf *out, const char *words)
{
    buf_text(out, "`");
    for (; *words != 0; words++) {
        if (*words == ' ') {
            buf_text(out, "`, `");
        } else {
            buf_u8(out, (uint8_t)*words);
        }
    }
    buf_text(out, "`");
}

static void put_subcommands(struct buf *out, const struct command *command)
{
    const struct subcommand *part = NULL;
    if (subcommand_has(command)) buf_text(out, "| subcommand | |\n| --- | --- |\n");
    for (uint32_t at = 0; (part = subcommand_at(command, at)) != NULL; at++) {
        if ((part->flags & SUBCOMMAND_REFUSED) != 0) continue;
        buf_text(out, "| `");
        for (const char *byte = part->syntax; *byte != 0; byte++) {
            if (*byte == '|') buf_text(out, "\\"); /* It would end the column. */
            buf_u8(out, (uint8_t)*byte);
        }
        buf_printf(out, "` | %s |\n", part->summary);
    }
    if (subcommand_has(command)) buf_text(out, "\n");
}

static void put_command(struct buf *out, const struct command *command)
{
    const char *differs = manual_differs(command);
    const char *errors = manual_errors(command);
    buf_text(out, "### ");
    put_upper(out, command->name);
    buf_printf(out, "\n\n    %s\n\n%s.\n\n", command->syntax, command->summary);
    put_subcommands(out, command);
    buf_printf(out, "- Since %s %s. Complexity: %s.\n- %s\n", manual_origin(command),
               command->since, command->complexity, manual_guarantee(command));
    if (differs != NULL) buf_printf(out, "- Unlike Redis: %s\n", differs);
    if (errors[0] != 0) {
        buf_text(out, "- Errors: ");
        put_codes(out, errors);
        buf_text(out, ".\n");
    }
    if ((command->flags & CMD_ALONE) != 0) buf_text(out, "- Not within a transaction.\n");
    buf_text(out, "\n");
}

static void put_start(struct buf *out)
{
    buf_text(
        out,
        "# Commands\n\n"
        "Made by `kvnode --commands` from the table of commands; `tests/run tidy` fails when it "
        "is not what the table says. `COMMAND DOCS` answers\n"
        "the same, from any node. Replies and errors are those of Redis 7.2, "
        "in RESP2 and RESP3; [differences.md](differences.md) lists what is not.\n"
        "In a syntax UPPER CASE is typed as it stands (in any case), `[ ]` may be left out, `|` "
        "stands between alternatives, `...` repeats.\n\n");
}

static void put_guarantees(struct buf *out)
{
    buf_text(
        out,
        "## What holds for all\n\n"
        "- A **write** is acknowledged when a majority of the nodes has it on disk. All that one "
        "command changes is one entry of the log: all of it or nothing.\n"
        "- A **linearizable read** sees every write that was acknowledged before it began, "
        "whichever "
        "nodes the two went to. With the option `reads` = `local` it is a look at the\n"
        "  node's own state, which may be old.\n"
        "- On the listener `client` **any node takes any command**; what the leader has to do is "
        "forwarded. On the listener `cluster-client` a node that does not\n"
        "  lead answers `MOVED`.\n"
        "- **Local** commands are answered by the node that was asked and need no leader.\n\n"
        "| error | meaning | did it happen? |\n| --- | --- | --- |\n"
        "| `ERR` | the command is wrong, or does not fit the value | no |\n"
        "| `CLUSTERDOWN` | no leader was found within the option `park` | no |\n"
        "| `TRYAGAIN` | the node has as many watches or listeners as it takes, or the connection "
        "to the leader broke before a read was answered | no |\n"
        "| `MOVED` | another node leads (only on the listener `cluster-client`) | no |\n"
        "| `UNCERTAIN` | leadership was lost between taking the write and committing it | nobody "
        "knows |\n"
        "| `TOOBIG` | a key, a value, a command or a transaction beyond a limit, which it names | "
        "no "
        "|\n"
        "| `NOSPACE` | the disk is full; deletes, expiry and reads go on | no |\n"
        "| `OOM` | the index has reached the option `max-index-memory`; deletes and reads go on | "
        "no "
        "|\n"
        "| `EXECABORT` | a command could not be queued, `EXEC` did nothing | no |\n"
        "| `COMPACTED` | the revision asked for is not kept any more; the error names the oldest | "
        "no "
        "|\n\n");
}

static void put_limits(struct buf *out)
{
    buf_printf(out,
               "## Limits\n\n"
               "`CONFIG GET` tells those that are options, and `limit-*` those that are not.\n\n"
               "| what | limit |\n| --- | --- |\n"
               "| key | 1 to %u bytes |\n"
               "| value | the option `max-value` (8mb), at most %u MiB |\n"
               "| arguments of a command | %u, together %u MiB |\n"
               "| changes of one command or transaction | %u, together %u MiB |\n"
               "| commands of one connection without a reply | %u; more are read later |\n"
               "| connections | the option `max-connections` (10000) |\n"
               "| replies that one client leaves unread | the option `output-limit` (64mb) |\n"
               "| commands of all clients without a reply | the option `max-inflight` (64mb) |\n"
               "| a message and its channel | %u KiB |\n"
               "| subscriptions of one connection | %u |\n"
               "| revisions kept | as many as the option `retention` (256mb) of log holds |\n\n",
               KEY_SIZE_MAX, VALUE_SIZE_MAX / MIB, COMMAND_ARGS_MAX, REQUEST_SIZE_MAX / MIB,
               COMMAND_EFFECTS_MAX, COMMAND_SIZE_MAX / MIB, SESSION_PIPELINE_MAX,
               PUBLISH_SIZE_MAX / KIB, PUBSUB_SESSION_MAX);
}

/* Whether @name, which ends at a space or zero, is a command here. */
static bool is_here(const char *name, uint64_t *size)
{
    *size = 0;
    while (name[*size] != 0 && name[*size] != ' ') (*size)++;
    return command_find(slice_of(name, *size)) != NULL;
}

static void put_missing(struct buf *out)
{
    buf_text(
        out,
        "## What is not supported\n\n"
        "Values are strings. There are no lists, hashes, sets, sorted sets and streams, and no "
        "Lua. These commands of Redis give\n"
        "`ERR unknown command '...', with args beginning with: ...` as in Redis, and then the "
        "reason:\n\n"
        "| | commands | reason |\n| --- | --- | --- |\n");
    for (uint32_t i = 0; manual_family_at(i) != NULL; i++) {
        const struct manual_family *family = manual_family_at(i);
        struct buf names = {0};
        for (const char *at = family->names; *at != 0;) {
            uint64_t size = 0;
            if (!is_here(at, &size)) {
                if (names.size > 0) buf_text(&names, " ");
                for (uint64_t k = 0; k < size; k++) {
                    const char byte = at[k];
                    buf_u8(&names, (uint8_t)(byte >= 'a' && byte <= 'z' ? byte - 32 : byte));
                }
            }
            at += size + (at[size] == ' ');
        }
        if (names.size > 0) {
            buf_printf(out, "| %s | `%.*s` | %s |\n", family->title, (int)names.size,
                       (const char *)names.data, family->reason);
        }
        buf_close(&names);
    }
}

static bool group_is_known(const char *group)
{
    for (uint32_t i = 0; i < GROUPS; i++) {
        if (slice_equal(slice_text(groups[i].group), slice_text(group))) return true;
    }
    return false;
}

void manual_page(struct buf *out)
{
    put_start(out);
    put_guarantees(out);
    put_limits(out);
    for (uint32_t i = 0; i <= GROUPS; i++) {
        bool is_begun = false;
        for (uint32_t at = 0; at < command_count(); at++) {
            const struct command *command = command_at(at);
            const bool fits = i == GROUPS ? !group_is_known(command->group)
                                          : slice_equal(slice_text(groups[i].group),
                                                        slice_text(command->group));
            if (!fits) continue;
            if (!is_begun && i == GROUPS) buf_text(out, "## Others\n\n");
            if (!is_begun && i < GROUPS) {
                buf_printf(out, "## %s\n\n%s\n\n", groups[i].title, groups[i].text);
            }
            is_begun = true;
            put_command(out, command);
        }
    }
    put_missing(out);
}
