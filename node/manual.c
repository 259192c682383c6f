#include "node/manual.h"

#define LOCAL "Local: answered by the node that was asked, about itself or about this connection."
#define MAP "Local: answered by the node that was asked, once it knows a leader."
#define READ "Linearizable read: sees every write that was acknowledged before it began."
#define READ_ALL "Linearizable read, of all keys at one moment."
#define READ_HERE                                                                                  \
    "Linearizable read, at one moment; any node answers from its own disk, once it has what was "  \
    "acknowledged before."
#define WRITE                                                                                      \
    "Linearizable write: acknowledged when a majority of the nodes has it on disk; all of it or "  \
    "nothing happens."
#define LEADER "Asks the node that leads; changes no key."
#define TELLS "Fire and forget: told to who listens at that moment, and never again."

struct note {
    const char *name;
    const char *guarantee; /* NULL: that of its kind */
    const char *differs;   /* NULL: not at all */
};

#define SIZES "Keys of up to 64 KiB and values of up to the option max-value. "
#define SCRIPTS                                                                                    \
    "Only the scripts of lock libraries, known by the SHA1 of their texts (docs/locks.md): there " \
    "is no Lua."
#define ONE_DB "There is one database. "

/* In the order of their names. */
static const struct note notes[] = {
    {"append", NULL, "A value beyond the option max-value is refused with TOOBIG."},
    {"asking", NULL, "Has no effect: slots do not move."},
    {"auth", NULL, "There are no users yet but default, which has no password."},
    {"config", NULL,
     "GET and SET only. Options are those of this node and those of Redis that clients ask for; "
     "what SET changes is forgotten when the node stops."},
    {"copy", NULL, ONE_DB "DB 0 is the only one that is taken."},
    {"dbsize", NULL,
     "In a transaction only if it writes nothing. A key that was set with a time that is past is "
     "not counted."},
    {"del", NULL, "At most 32768 keys in one command, else TOOBIG."},
    {"discard", "Local: what was queued is forgotten.", NULL},
    {"eval", NULL, SCRIPTS},
    {"eval_ro", NULL, SCRIPTS},
    {"evalsha", NULL, SCRIPTS},
    {"evalsha_ro", NULL, SCRIPTS},
    {"exec",
     "Linearizable and isolated: all commands happen at one moment, in one entry of the log, or "
     "none; a watched key that changed makes it null.",
     "At most 32768 changes and 15 MiB, else TOOBIG. It holds on any node and across a change of "
     "leader."},
    {"flushall", NULL, "Takes constant time with ASYNC and with SYNC."},
    {"flushdb", NULL, "The same as FLUSHALL."},
    {"incrbyfloat", NULL, "Computed by the node that leads; the result is what is replicated."},
    {"info", NULL, "Sections of this node, also Raft; of Redis' fields those that mean something."},
    {"keys", NULL,
     "In any order, all of one moment, and never holds up others. In a transaction only if it "
     "writes nothing."},
    {"kv.check", LEADER, NULL},
    {"kv.lock",
     "Linearizable write; who waits gets it in order of arrival. Tokens grow over all locks and "
     "all leaders.",
     NULL},
    {"kv.once",
     "Linearizable write; happens once, however often it is sent, within the option "
     "once-retention.",
     NULL},
    {"kv.range",
     READ_HERE
     " When what it needs is lost while it is told (a flush, retention) COMPACTED stands in the "
     "place of the first element that is missing, and null in those of the others.",
     NULL},
    {"kv.transfer", LEADER, NULL},
    {"kv.txn",
     "Linearizable and isolated: the conditions and all commands belong to one moment and one "
     "entry of the log.",
     NULL},
    {"kv.watch",
     "Every change in order, none twice and none left out; a transaction is one message; it can "
     "be resumed on any node from a revision that is still kept.",
     NULL},
    {"memory", NULL,
     "USAGE only: what the key takes in the index, with its value when that is at most 63 bytes."},
    {"move", NULL, ONE_DB "It is refused always."},
    {"mset", NULL, "At most 32768 keys and 15 MiB in one command, else TOOBIG."},
    {"msetnx", NULL, "At most 32768 keys and 15 MiB in one command, else TOOBIG."},
    {"multi", "Local: commands are queued on this node.",
     "A subcommand that does not exist is refused by EXEC, not when it is queued."},
    {"object", NULL,
     "ENCODING goes by the value alone, REFCOUNT is 1, IDLETIME and FREQ are refused: nothing "
     "tracks them."},
    {"psubscribe", TELLS, NULL},
    {"publish", TELLS,
     "Goes to all nodes; the answer counts who listens on this one. In a transaction it goes out "
     "once that is committed, and counts who listened before."},
    {"pubsub", NULL, "Tells of this node alone."},
    {"randomkey", NULL, "In a transaction only if it writes nothing."},
    {"readonly", NULL, "Reads stay linearizable after it."},
    {"scan", NULL,
     "A key that is there all the time is seen exactly once; a cursor holds on every node and "
     "across restarts. Looks at 1000 keys at most in one call."},
    {"script", NULL, "LOAD takes the scripts that are known, FLUSH forgets nothing."},
    {"select", NULL, ONE_DB "0 is the only one that is taken."},
    {"set", NULL,
     SIZES "IFEQ is also Valkey's, IFNE IFDEQ IFDNE are those of Redis 8.4, IFREV is our own: the "
           "key's revision as KV.GET tells it."},
    {"setrange", NULL, "A value beyond the option max-value is refused with TOOBIG."},
    {"subscribe", TELLS, NULL},
    {"swapdb", NULL, ONE_DB "It is refused, but for 0 with 0."},
    {"touch", NULL, "Counts as EXISTS does: nothing tracks when keys were used."},
    {"wait", LEADER,
     "Counts followers that have synced, not only received; it may wait for others' writes, too."},
    {"waitaof", LEADER, "The first number is always 1."},
    {"watch", "The key's revision is taken at one moment, as a linearizable read would.",
     "Holds across a change of leader. At most 10000 keys in one connection."},
};

static const struct note *find_note(const struct command *command)
{
    for (uint32_t i = 0; i < sizeof notes / sizeof notes[0]; i++) {
        if (slice_equal(slice_text(notes[i].name), slice_text(command->name))) return &notes[i];
    }
    return NULL;
}

const char *manual_guarantee(const struct command *command)
{
    const struct note *note = find_note(command);
    const uint32_t flags = command->flags;
    if (note != NULL && note->guarantee != NULL) return note->guarantee;
    if ((flags & CMD_WRITE) != 0) return WRITE;
    if ((flags & CMD_HERE) != 0) return READ_HERE;
    if ((flags & CMD_READ) != 0) return (flags & CMD_APPLIED) != 0 ? READ_ALL : READ;
    return (flags & CMD_TOPOLOGY) != 0 ? MAP : LOCAL;
}

const char *manual_differs(const struct command *command)
{
    const struct note *note = find_note(command);
    return note == NULL ? NULL : note->differs;
}

const char *manual_errors(const struct command *command)
{
    const uint32_t flags = command->flags;
    if (slice_equal(slice_text(command->name), slice_text("exec"))) {
        return "EXECABORT CLUSTERDOWN MOVED UNCERTAIN TOOBIG NOSPACE OOM";
    }
    if ((flags & CMD_WRITE) != 0) {
        if ((flags & CMD_FREES) != 0) return "CLUSTERDOWN MOVED UNCERTAIN TOOBIG";
        if ((flags & CMD_EXPIRY) != 0) return "CLUSTERDOWN MOVED UNCERTAIN NOSPACE";
        return "CLUSTERDOWN MOVED UNCERTAIN TOOBIG NOSPACE OOM";
    }
    if ((flags & CMD_STREAM) != 0) return "CLUSTERDOWN COMPACTED TRYAGAIN";
    if (slice_equal(slice_text(command->name), slice_text("kv.watch"))) {
        return "CLUSTERDOWN COMPACTED TOOBIG TRYAGAIN";
    }
    if ((flags & CMD_READ) != 0) return "CLUSTERDOWN MOVED TRYAGAIN";
    return (flags & CMD_TOPOLOGY) != 0 ? "CLUSTERDOWN" : "";
}

const char *manual_origin(const struct command *command)
{
    const struct slice name = slice_text(command->name);
    if (name.size > 3 && slice_equal(slice_of(command->name, 3), slice_text("kv."))) {
        return "FlashKV";
    }
    return slice_equal(name, slice_text("delifeq")) ? "Valkey" : "Redis";
}

/* ---- what there is not ----------------------------------------------------------------------------------- */

static const struct manual_family families[] = {
    {"Lists", "lists are not supported, values are strings only",
     "blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush lpushx "
     "lrange lrem lset ltrim rpop rpoplpush rpush rpushx"},
    {"Hashes", "hashes are not supported, values are strings only",
     "hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby hincrbyfloat "
     "hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl hrandfield hscan hset "
     "hsetex hsetnx hstrlen httl hvals"},
    {"Sets", "sets are not supported, values are strings only",
     "sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers smismember "
     "smove spop srandmember srem sscan sunion sunionstore"},
    {"Sorted sets", "sorted sets are not supported, values are strings only",
     "bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter zintercard "
     "zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange zrangebylex "
     "zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank zremrangebyscore "
     "zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore zunion zunionstore"},
    {"Streams", "streams are not supported, KV.WATCH tells changes of keys in order",
     "xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup "
     "xrevrange xsetid xtrim"},
    {"Places", "places are not supported, values are strings only",
     "geoadd geodist geohash geopos georadius georadius_ro georadiusbymember georadiusbymember_ro "
     "geosearch geosearchstore"},
    {"HyperLogLogs", "HyperLogLogs are not supported", "pfadd pfcount pfdebug pfmerge pfselftest"},
    {"Bits of values", "commands on bits are not supported, GETRANGE and SETRANGE work on bytes",
     "bitcount bitfield bitfield_ro bitop bitpos getbit setbit"},
    {"Common parts of values", "values are not compared with each other", "lcs"},
    {"Sorting", "there is nothing to sort, values are strings only", "sort sort_ro"},
    {"Scripts", "scripts and functions are not supported, KV.TXN has conditions and operations",
     "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script"},
    {"Channels of shards", "there is one shard, SUBSCRIBE and PUBLISH do the same",
     "spublish ssubscribe sunsubscribe"},
    {"Copies of keys", "keys are not moved between servers by commands, kvctl backup saves all",
     "dump migrate restore restore-asking"},
    {"Users", "there are no users yet", "acl"},
    {"Saving", "nothing is to be saved, what is acknowledged is on disk; kvctl backup makes copies",
     "bgrewriteaof bgsave lastsave save"},
    {"Replication of Redis",
     "the nodes replicate by themselves, kvctl leader transfer lets another lead",
     "failover psync replconf replicaof slaveof sync"},
    {"The server itself", "the node is run by its options and signals, see INFO and CONFIG GET",
     "debug latency lolwut module monitor shutdown slowlog"},
};

const struct manual_family *manual_family_at(uint32_t at)
{
    return at < sizeof families / sizeof families[0] ? &families[at] : NULL;
}

static uint8_t fold(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

/* Whether one of the words of @names is @name. */
static bool names_hold(const char *names, struct slice name)
{
    for (const char *begin = names; *begin != 0;) {
        uint64_t size = 0;
        while (begin[size] != 0 && begin[size] != ' ') size++;
        if (size == name.size) {
            uint64_t i = 0;
            while (i < size && fold(name.data[i]) == (uint8_t)begin[i]) i++;
            if (i == size) return true;
        }
        begin += size + (begin[size] == ' ');
    }
    return false;
}

const char *manual_missing(struct slice name)
{
    for (uint32_t i = 0; name.size > 0 && manual_family_at(i) != NULL; i++) {
        if (names_hold(families[i].names, name)) return families[i].reason;
    }
    return NULL;
}
