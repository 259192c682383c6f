#include "node/subcommand.h"

#include <stdio.h>

#include "storage/base/check.h"

#define ADMIN SUBCOMMAND_ADMIN
#define KEY SUBCOMMAND_KEY
#define REFUSED SUBCOMMAND_REFUSED

/* What clients that know several shards do with a command: Redis' words. */
#define VARIES "nondeterministic_output"
#define ORDER_VARIES "nondeterministic_output_order"
#define EVERY_NODE "request_policy:all_nodes response_policy:all_succeeded"

#define HELP(container, since)                                                                     \
    {                                                                                              \
        container, "help", 2, 0, since, "", "HELP", "This text"                                    \
    }

/* By container and name, in order. */
static const struct subcommand table[] = {
    {"client", "capa", -3, 0, "8.0.0", "", "CAPA capability [capability ...]",
     "What the client can do: with redirect this node answers REDIRECT"},
    {"client", "getname", 2, 0, "2.6.9", "", "GETNAME", "The name of this connection"},
    {"client", "getredir", 2, 0, "6.0.0", "", "GETREDIR", "-1: there is no client side caching"},
    HELP("client", "5.0.0"),
    {"client", "id", 2, 0, "5.0.0", "", "ID", "The number of this connection on this node"},
    {"client", "info", 2, 0, "6.2.0", VARIES, "INFO", "What CLIENT LIST says of this connection"},
    {"client", "kill", -3, ADMIN, "2.4.0", "",
     "KILL address | [ID client-id] [TYPE type] [ADDR address] [LADDR address] [USER name] "
     "[SKIPME yes-or-no]",
     "Closes connections of this node"},
    {"client", "list", -2, ADMIN, "2.4.0", VARIES, "LIST [TYPE type] [ID client-id ...]",
     "The connections of this node"},
    {"client", "no-evict", 3, ADMIN, "7.0.0", "", "NO-EVICT ON | OFF",
     "Taken: nothing is ever evicted"},
    {"client", "no-touch", 3, 0, "7.2.0", "", "NO-TOUCH ON | OFF", "Taken: reads leave no trace"},
    {"client", "reply", 3, 0, "3.2.0", "", "REPLY ON | OFF | SKIP", "Whether replies are sent"},
    {"client", "setinfo", 4, 0, "7.2.0", EVERY_NODE, "SETINFO attribute value",
     "Keeps LIB-NAME or LIB-VER of the client, for CLIENT LIST"},
    {"client", "setname", 3, 0, "2.6.9", EVERY_NODE, "SETNAME name", "Names this connection"},
    {"client", "tracking", -3, 0, "6.0.0", "", "TRACKING OFF",
     "Taken when OFF: there is no client side caching"},
    {"client", "trackinginfo", 2, 0, "6.2.0", "", "TRACKINGINFO", "That tracking is off"},

    {"cluster", "addslots", -3, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "addslotsrange", -4, REFUSED, "7.0.0", "", "", ""},
    {"cluster", "bumpepoch", 2, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "count-failure-reports", 3, ADMIN, "3.0.0", VARIES, "COUNT-FAILURE-REPORTS node-id",
     "0: nodes are not reported, leaders are elected"},
    {"cluster", "countkeysinslot", 3, 0, "3.0.0", "", "COUNTKEYSINSLOT slot",
     "How many keys there are in a slot"},
    {"cluster", "delslots", -3, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "delslotsrange", -4, REFUSED, "7.0.0", "", "", ""},
    {"cluster", "failover", -2, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "flushslots", 2, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "forget", 3, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "getkeysinslot", 4, 0, "3.0.0", VARIES, "GETKEYSINSLOT slot count",
     "Keys that are in a slot"},
    HELP("cluster", "5.0.0"),
    {"cluster", "info", 2, 0, "3.0.0", VARIES, "INFO", "State of the cluster as this node sees it"},
    {"cluster", "keyslot", 3, 0, "3.0.0", "", "KEYSLOT key", "The slot of a key"},
    {"cluster", "links", 2, 0, "7.0.0", VARIES, "LINKS", "Connections between nodes: none is told"},
    {"cluster", "meet", -4, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "myid", 2, 0, "3.0.0", "", "MYID", "The id of this node"},
    {"cluster", "myshardid", 2, 0, "7.2.0", VARIES, "MYSHARDID", "The id of the only shard"},
    {"cluster", "nodes", 2, 0, "3.0.0", VARIES, "NODES", "The members, one line each"},
    {"cluster", "replicas", 3, ADMIN, "5.0.0", VARIES, "REPLICAS node-id",
     "The members that follow a leader"},
    {"cluster", "replicate", 3, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "reset", -2, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "saveconfig", 2, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "set-config-epoch", 3, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "setslot", -4, REFUSED, "3.0.0", "", "", ""},
    {"cluster", "shards", 2, 0, "7.0.0", VARIES, "SHARDS", "The members, as shards"},
    {"cluster", "slaves", 3, ADMIN, "3.0.0", VARIES, "SLAVES node-id",
     "The members that follow a leader: the old name of REPLICAS"},
    {"cluster", "slots", 2, 0, "3.0.0", VARIES, "SLOTS", "The members, by ranges of slots"},

    {"command", "count", 2, 0, "2.8.13", "", "COUNT", "How many commands there are"},
    {"command", "docs", -2, 0, "7.0.0", ORDER_VARIES, "DOCS [command ...]",
     "What commands do, guarantee and take, and where they are not as in Redis"},
    {"command", "getkeys", -3, 0, "2.8.13", "", "GETKEYS command [argument ...]",
     "The keys among the arguments of a command"},
    {"command", "getkeysandflags", -3, 0, "7.0.0", "", "GETKEYSANDFLAGS command [argument ...]",
     "The same, and what becomes of them"},
    HELP("command", "5.0.0"),
    {"command", "info", -2, 0, "2.8.13", ORDER_VARIES, "INFO [command ...]", "Details of commands"},
    {"command", "list", -2, 0, "7.0.0", ORDER_VARIES,
     "LIST [FILTERBY (MODULE name | ACLCAT category | PATTERN pattern)]", "Names of commands"},

    {"config", "get", -3, ADMIN, "2.0.0", "", "GET pattern [pattern ...]",
     "The options and limits of this node that match"},
    HELP("config", "5.0.0"),
    {"config", "set", -4, ADMIN, "2.0.0", EVERY_NODE, "SET option value [option value ...]",
     "Changes options of this node until it ends; all of them or none"},

    HELP("memory", "4.0.0"),
    {"memory", "usage", -3, KEY, "4.0.0", "", "USAGE key [SAMPLES count]",
     "Bytes of memory that a key takes in the index"},

    {"object", "encoding", 3, KEY, "2.2.3", VARIES, "ENCODING key",
     "int, embstr or raw: as Redis would keep the value"},
    {"object", "freq", 3, KEY, "4.0.0", VARIES, "FREQ key", "An error: it is not tracked"},
    HELP("object", "6.2.0"),
    {"object", "idletime", 3, KEY, "2.2.3", VARIES, "IDLETIME key", "An error: it is not tracked"},
    {"object", "refcount", 3, KEY, "2.2.3", VARIES, "REFCOUNT key", "1"},

    {"pubsub", "channels", -2, 0, "2.8.0", "", "CHANNELS [pattern]",
     "The channels of this node that somebody listens to"},
    HELP("pubsub", "6.2.0"),
    {"pubsub", "numpat", 2, 0, "2.8.0", "", "NUMPAT",
     "How many patterns clients of this node listen to"},
    {"pubsub", "numsub", -2, 0, "2.8.0", "", "NUMSUB [channel ...]",
     "How many clients of this node listen to each channel"},
    {"pubsub", "shardchannels", -2, 0, "7.0.0", "", "SHARDCHANNELS [pattern]",
     "Nothing: there are no shard channels"},
    {"pubsub", "shardnumsub", -2, 0, "7.0.0", "", "SHARDNUMSUB [channel ...]",
     "0 for each: there are no shard channels"},

    {"script", "exists", -3, 0, "2.6.0",
     "request_policy:all_shards response_policy:agg_logical_and", "EXISTS sha1 [sha1 ...]",
     "Which scripts are known"},
    {"script", "flush", -2, 0, "2.6.0", EVERY_NODE, "FLUSH [ASYNC | SYNC]",
     "Taken: there is nothing that could be forgotten"},
    HELP("script", "5.0.0"),
    {"script", "kill", 2, 0, "2.6.0", "request_policy:all_shards response_policy:one_succeeded",
     "KILL", "An error: no script is ever under way"},
    {"script", "load", 3, 0, "2.6.0", EVERY_NODE, "LOAD script",
     "The SHA1 of a script that is known; others are refused"},

    {"sentinel", "ckquorum", 3, ADMIN, "2.8.4", "", "CKQUORUM master-name",
     "Whether a majority of the nodes is connected to this one"},
    {"sentinel", "config", -4, REFUSED, "6.2.0", "", "", ""},
    {"sentinel", "failover", 3, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "flushconfig", 2, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "get-master-addr-by-name", 3, ADMIN, "2.8.4", "",
     "GET-MASTER-ADDR-BY-NAME master-name", "Client address of the leader: host and port"},
    HELP("sentinel", "6.2.0"),
    {"sentinel", "master", 3, ADMIN, "2.8.4", "", "MASTER master-name",
     "What is known of the leader"},
    {"sentinel", "masters", 2, ADMIN, "2.8.4", "", "MASTERS", "The same, of the only master"},
    {"sentinel", "monitor", 6, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "myid", 2, ADMIN, "6.2.0", "", "MYID", "The id of this node"},
    {"sentinel", "remove", 3, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "replicas", 3, ADMIN, "5.0.0", "", "REPLICAS master-name",
     "The members that follow the leader"},
    {"sentinel", "reset", 3, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "sentinels", 3, ADMIN, "2.8.4", "", "SENTINELS master-name",
     "The other nodes, each of which is a Sentinel"},
    {"sentinel", "set", -5, REFUSED, "2.8.4", "", "", ""},
    {"sentinel", "slaves", 3, ADMIN, "2.8.0", "", "SLAVES master-name",
     "The members that follow the leader: the old name of REPLICAS"},
};
#define ROWS ((uint32_t)(sizeof table / sizeof table[0]))

static uint32_t first_of(const struct command *command)
{
    uint32_t at = 0;
    if ((command->flags & CMD_PARTS) == 0) return ROWS; /* as most, every time they come */
    while (at < ROWS && strcmp(table[at].container, command->name) != 0) at++;
    return at;
}

bool subcommand_has(const struct command *command)
{
    return first_of(command) < ROWS;
}

const struct subcommand *subcommand_at(const struct command *command, uint32_t at)
{
    const uint32_t first = first_of(command);
    if (at >= ROWS - first || strcmp(table[first + at].container, command->name) != 0) return NULL;
    return &table[first + at];
}

const struct subcommand *subcommand_find(const struct command *command, struct slice name)
{
    const struct subcommand *row = NULL;
    for (uint32_t at = 0; (row = subcommand_at(command, at)) != NULL; at++) {
        if (slice_equal_fold(name, row->name)) return row;
    }
    return NULL;
}

static void put_upper(char *to, const char *text)
{
    for (; *text != 0; text++) {
        *to++ = (char)(*text >= 'a' && *text <= 'z' ? *text - 32 : *text);
    }
    *to = 0;
}

const char *subcommand_refusal(const struct command *command, const struct slice *args,
                               uint32_t count, char *text, uint64_t size)
{
    char upper[16];
    if (count < 2 || !subcommand_has(command)) return NULL;
    const struct subcommand *row = subcommand_find(command, args[1]);
    if (row == NULL) {
        CHECK(strlen(command->name) < sizeof upper);
        put_upper(upper, command->name);
        (void)snprintf(text, size, "ERR unknown subcommand '%.*s'. Try %s HELP.",
                       args[1].size < 64 ? (int)args[1].size : 64, (const char *)args[1].data,
                       upper);
        return text;
    }
    const bool fits = row->arity >= 0 ? count == (uint32_t)row->arity
                                      : count >= (uint32_t)-row->arity;
    if (fits) return NULL;
    (void)snprintf(text, size, "ERR wrong number of arguments for '%s|%s' command", row->container,
                   row->name);
    return text;
}

void subcommand_help(struct eval *eval)
{
    const struct subcommand *row = NULL;
    char text[256];
    char upper[16];
    uint32_t count = 0;
    for (uint32_t at = 0; (row = subcommand_at(eval->command, at)) != NULL; at++) {
        count += (row->flags & SUBCOMMAND_REFUSED) == 0;
    }
    put_upper(upper, eval->command->name);
    resp_put_array(eval->out, 1 + 2 * count);
    (void)snprintf(text, sizeof text, "%s <subcommand> [<argument> ...]. Subcommands are:", upper);
    resp_put_simple(eval->out, text);
    for (uint32_t at = 0; (row = subcommand_at(eval->command, at)) != NULL; at++) {
        if ((row->flags & SUBCOMMAND_REFUSED) != 0) continue;
        resp_put_simple(eval->out, row->syntax);
        (void)snprintf(text, sizeof text, "    %s.", row->summary);
        resp_put_simple(eval->out, text);
    }
}
