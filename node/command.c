/* command.c - the command table. Adding a command: one row here, one function in a cmd_*.c. Rows are in the order of
 * their names, which the look-up and a test rely on. */
#include "node/command.h"

#include "node/cmd_face.h"
#include "node/cmd_key.h"
#include "node/cmd_string.h"
#include "node/cmd_push.h"
#include "node/cmd_lock.h"
#include "node/cmd_txn.h"
#include "node/txn.h"

#define LOCAL (CMD_LOCAL | CMD_FAST)
#define READ (CMD_READ | CMD_FAST)
#define WRITE (CMD_WRITE | CMD_FAST)
#define FREES (CMD_WRITE | CMD_FREES | CMD_FAST)
#define SLOW(flags) ((flags) & ~CMD_FAST)
#define EXPIRY (CMD_WRITE | CMD_EXPIRY | CMD_FAST)
#define LONG (CMD_READ | CMD_LEADER | CMD_BLOCKS)
#define WALK (CMD_READ | CMD_APPLIED)

static const struct command table[] = {
    {"append", 3, WRITE, 1, 1, 1, cmd_append, "string", "2.0.0", "O(n) of the value",
     "Appends to a value; sets the key when it is not there", "APPEND key value"},
    {"asking", 1, LOCAL, 0, 0, 0, cmd_asking, "cluster", "3.0.0", "O(1)",
     "Taken and without effect: slots do not move here", "ASKING"},
    {"auth", -2, LOCAL, 0, 0, 0, cmd_auth, "connection", "1.0.0", "O(1)",
     "Names a user; this version only has the user default without a password",
     "AUTH [username] password"},
    {"client", -2, LOCAL | CMD_PARTS, 0, 0, 0, cmd_client, "connection", "2.4.0",
     "O(1), LIST and KILL O(n)",
     "About connections: CAPA GETNAME GETREDIR HELP ID INFO KILL LIST NO-EVICT NO-TOUCH REPLY "
     "SETINFO SETNAME TRACKING TRACKINGINFO",
     "CLIENT subcommand [argument ...]"},
    {"cluster", -2, ((LOCAL | CMD_TOPOLOGY) & ~CMD_FAST) | CMD_PARTS, 0, 0, 0, cmd_cluster,
     "cluster", "3.0.0", "O(n) members; keys of a slot: O(n) keys",
     "The topology for Redis Cluster clients: COUNTKEYSINSLOT GETKEYSINSLOT HELP INFO KEYSLOT "
     "LINKS "
     "MYID MYSHARDID NODES REPLICAS SHARDS SLOTS",
     "CLUSTER subcommand [argument ...]"},
    {"command", -1, SLOW(LOCAL) | CMD_PARTS, 0, 0, 0, cmd_command, "server", "2.8.13",
     "O(n) commands", "Describes the commands: COUNT DOCS GETKEYS GETKEYSANDFLAGS HELP INFO LIST",
     "COMMAND [subcommand [argument ...]]"},
    {"config", -2, LOCAL | CMD_PARTS, 0, 0, 0, cmd_config, "server", "2.0.0", "O(n) options",
     "Shows the options and limits of this node that match patterns, or changes options until it "
     "ends",
     "CONFIG GET pattern [pattern ...] | SET option value [option value ...]"},
    {"copy", -3, CMD_WRITE, 1, 2, 1, cmd_copy, "generic", "6.2.0", "O(n) of the value",
     "Sets a key to the value of another one, its expiry included",
     "COPY source destination [DB destination-db] [REPLACE]"},
    {"dbsize", 1, WALK | CMD_FAST, 0, 0, 0, cmd_dbsize, "server", "1.0.0", "O(1)",
     "Counts the keys", "DBSIZE"},
    {"decr", 2, WRITE, 1, 1, 1, cmd_decr, "string", "1.0.0", "O(1)",
     "Subtracts one from an integer value", "DECR key"},
    {"decrby", 3, WRITE, 1, 1, 1, cmd_decrby, "string", "1.0.0", "O(1)",
     "Subtracts a number from an integer value", "DECRBY key decrement"},
    {"del", -2, SLOW(FREES), 1, -1, 1, cmd_del, "generic", "1.0.0", "O(n) keys", "Deletes keys",
     "DEL key [key ...]"},
    {"delex", -2, FREES, 1, 1, 1, cmd_delex, "string", "8.4.0", "O(n) of the value",
     "Deletes a key if its value, or the digest of it, is (or is not) the one given",
     "DELEX key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]"},
    {"delifeq", 3, FREES, 1, 1, 1, cmd_delifeq, "string", "9.0.0", "O(n) of the value",
     "Deletes a key if its value is the one given", "DELIFEQ key value"},
    {"digest", 2, READ, 1, 1, 1, cmd_digest, "string", "8.4.0", "O(n) of the value",
     "Answers the XXH3 digest of a value, as 16 hexadecimal digits", "DIGEST key"},
    {"discard", 1, LOCAL, 0, 0, 0, cmd_discard, "transactions", "2.0.0", "O(n) commands queued",
     "Forgets the transaction that MULTI began, and the watched keys", "DISCARD"},
    {"echo", 2, LOCAL, 0, 0, 0, cmd_echo, "connection", "1.0.0", "O(1)", "Answers its argument",
     "ECHO message"},
    {"eval", -3, CMD_WRITE | CMD_FREES | CMD_EXPIRY, 0, 0, 0, cmd_eval, "scripting", "2.6.0",
     "O(n) keys", "Carries out a script of a lock library; others are not supported",
     "EVAL script numkeys [key ...] [arg ...]"},
    {"eval_ro", -3, CMD_READ, 0, 0, 0, cmd_eval_ro, "scripting", "7.0.0", "O(n) keys",
     "The same for a script that only reads", "EVAL_RO script numkeys [key ...] [arg ...]"},
    {"evalsha", -3, CMD_WRITE | CMD_FREES | CMD_EXPIRY, 0, 0, 0, cmd_evalsha, "scripting", "2.6.0",
     "O(n) keys", "Carries out a script of a lock library by the SHA1 of its text",
     "EVALSHA sha1 numkeys [key ...] [arg ...]"},
    {"evalsha_ro", -3, CMD_READ, 0, 0, 0, cmd_evalsha_ro, "scripting", "7.0.0", "O(n) keys",
     "The same for a script that only reads", "EVALSHA_RO sha1 numkeys [key ...] [arg ...]"},
    {"exec", 1, LOCAL & ~CMD_FAST, 0, 0, 0, cmd_exec, "transactions", "1.2.0",
     "that of the commands queued",
     "Carries out what was queued since MULTI, all at one moment, or nothing if a watched key "
     "changed",
     "EXEC"},
    {"exists", -2, READ, 1, -1, 1, cmd_exists, "generic", "1.0.0", "O(n) keys",
     "Counts how many of the keys exist", "EXISTS key [key ...]"},
    {"expire", -3, EXPIRY, 1, 1, 1, cmd_expire, "generic", "1.0.0", "O(1)",
     "Sets the time to live of a key in seconds", "EXPIRE key seconds [NX | XX | GT | LT]"},
    {"expireat", -3, EXPIRY, 1, 1, 1, cmd_expireat, "generic", "1.2.0", "O(1)",
     "Sets the moment at which a key expires, in seconds since the epoch",
     "EXPIREAT key unix-time-seconds [NX | XX | GT | LT]"},
    {"expiretime", 2, READ, 1, 1, 1, cmd_expiretime, "generic", "7.0.0", "O(1)",
     "The moment at which a key expires, in seconds since the epoch; -1: never, -2: no such key",
     "EXPIRETIME key"},
    {"flushall", -1, SLOW(FREES), 0, 0, 0, cmd_flushall, "server", "1.0.0",
     "O(n) keys on each node", "Deletes every key", "FLUSHALL [ASYNC | SYNC]"},
    {"flushdb", -1, SLOW(FREES), 0, 0, 0, cmd_flushall, "server", "1.0.0", "O(n) keys on each node",
     "Deletes every key: there is one database", "FLUSHDB [ASYNC | SYNC]"},
    {"get", 2, READ, 1, 1, 1, cmd_get, "string", "1.0.0", "O(1)", "Answers the value of a key",
     "GET key"},
    {"getdel", 2, FREES, 1, 1, 1, cmd_getdel, "string", "6.2.0", "O(1)",
     "Answers the value of a key and deletes the key", "GETDEL key"},
    {"getex", -2, EXPIRY, 1, 1, 1, cmd_getex, "string", "6.2.0", "O(1)",
     "Answers the value of a key and sets or takes its time to live",
     "GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT "
     "unix-time-milliseconds | PERSIST]"},
    {"getrange", 4, CMD_READ, 1, 1, 1, cmd_getrange, "string", "2.4.0", "O(n) of the value",
     "Answers a part of a value; negative places count from its end", "GETRANGE key start end"},
    {"getset", 3, WRITE, 1, 1, 1, cmd_getset, "string", "1.0.0", "O(1)",
     "Sets a value and answers the one before", "GETSET key value"},
    {"hello", -1, LOCAL, 0, 0, 0, cmd_hello, "connection", "6.0.0", "O(1)",
     "Chooses the protocol version and introduces both sides",
     "HELLO [protover [AUTH username password] [SETNAME clientname]]"},
    {"incr", 2, WRITE, 1, 1, 1, cmd_incr, "string", "1.0.0", "O(1)", "Adds one to an integer value",
     "INCR key"},
    {"incrby", 3, WRITE, 1, 1, 1, cmd_incrby, "string", "1.0.0", "O(1)",
     "Adds a number to an integer value", "INCRBY key increment"},
    {"incrbyfloat", 3, WRITE, 1, 1, 1, cmd_incrbyfloat, "string", "2.6.0", "O(1)",
     "Adds a number with a point to a value", "INCRBYFLOAT key increment"},
    {"info", -1, LOCAL & ~CMD_FAST, 0, 0, 0, cmd_info, "server", "1.0.0", "O(1)",
     "State and figures of this node", "INFO [section [section ...]]"},
    {"keys", 2, WALK | CMD_HERE | CMD_STREAM, 0, 0, 0, cmd_keys, "generic", "1.0.0", "O(n) keys",
     "Lists the keys that match a pattern", "KEYS pattern"},
    {"kv.backup", -3, CMD_LOCAL | CMD_ALONE, 0, 0, 0, cmd_kv_backup, "kv", "0.1.0",
     "O(size of a piece)",
     "Gives the sealed files of this node, once they reach an index, piece by piece",
     "KV.BACKUP BEGIN index | READ id file offset size | END id"},
    {"kv.check", -1, CMD_READ | CMD_ALONE, 0, 0, 0, cmd_kv_check, "kv", "0.1.0",
     "O(n) keys, in slices",
     "Tells of the newest comparison of the nodes' states; START begins one", "KV.CHECK [START]"},
    {"kv.compact", 1, CMD_LOCAL, 0, 0, 0, cmd_kv_compact, "kv", "0.1.0", "O(n) files",
     "Lets this node give back all space that it can; goes on in the background: KV.DISK tells",
     "KV.COMPACT"},
    {"kv.disk", 1, LOCAL & ~CMD_FAST, 0, 0, 0, cmd_kv_disk, "kv", "0.1.0", "O(n) files",
     "Files of this node, what lives in them, and figures of compaction", "KV.DISK"},
    {"kv.get", -2, READ | CMD_APPLIED | CMD_HERE | CMD_STREAM, 1, 1, 1, cmd_kv_get, "kv", "0.1.0",
     "O(1); AT: O(n) changes since the revision",
     "Answers value, revision and remaining milliseconds (-1: for ever) of a key, now or at a "
     "revision that is still kept",
     "KV.GET key [AT revision]"},
    {"kv.history", -2, READ | CMD_APPLIED | CMD_HERE | CMD_STREAM | CMD_ALONE, 1, 1, 1,
     cmd_kv_history, "kv", "0.1.0", "O(n) entries that are kept",
     "What became of a key, the newest first: revision, put, delete, expired, expire-change or "
     "flush, value, expiry",
     "KV.HISTORY key [COUNT count]"},
    {"kv.index", 1, WALK | CMD_FAST, 0, 0, 0, cmd_kv_index, "kv", "0.1.0", "O(1)",
     "The log index up to which everything acknowledged so far lies", "KV.INDEX"},
    {"kv.leader", 1, LOCAL, 0, 0, 0, cmd_kv_leader, "kv", "0.1.0", "O(1)",
     "Name and client address of the leader that this node knows", "KV.LEADER"},
    {"kv.lock", -4, WRITE | CMD_BLOCKS, 1, 1, 1, cmd_kv_lock, "kv", "0.1.0", "O(1)",
     "Takes a lock: the key gets the owner as its value and expires after so many milliseconds; "
     "answers a fencing token larger than all before it, or null when the lock is another's",
     "KV.LOCK name ttl owner [WAIT milliseconds]"},
    {"kv.members", 1, LOCAL, 0, 0, 0, cmd_kv_members, "kv", "0.1.0", "O(n) members",
     "The members: name, id, peer address, client address, role, whether connected", "KV.MEMBERS"},
    {"kv.once", -4, CMD_WRITE | CMD_FREES | CMD_EXPIRY, 0, 0, 0, cmd_kv_once, "kv", "0.1.0",
     "that of the command",
     "Carries a command out once, however often it is sent under this sequence of the client, and "
     "answers the same each time",
     "KV.ONCE client-id sequence command [argument ...]"},
    {"kv.range", -3, WALK | CMD_HERE | CMD_STREAM, 0, 0, 0, cmd_kv_range, "kv", "0.1.0",
     "O(log n + range); AT: and the changes since the revision",
     "Keys from <= key < to in order, with values and revisions, all at one revision; an empty to "
     "is the end",
     "KV.RANGE from to [LIMIT count] [REVERSE] [KEYS | COUNT] [AT revision] [REVISION]"},
    {"kv.renew", 4, EXPIRY, 1, 1, 1, cmd_kv_renew, "kv", "0.1.0", "O(1)",
     "Lets a lock expire so many milliseconds from now; 0 when it is not the owner's any more",
     "KV.RENEW name ttl owner"},
    {"kv.status", 1, LOCAL, 0, 0, 0, cmd_kv_status, "kv", "0.1.0", "O(1)",
     "State of this node as fields and values", "KV.STATUS"},
    {"kv.transfer", -1, CMD_READ | CMD_ALONE, 0, 0, 0, cmd_kv_transfer, "kv", "0.1.0", "O(1)",
     "Asks the leader to hand leadership to a member, or to the one that is furthest",
     "KV.TRANSFER [name]"},
    {"kv.txn", -3, CMD_WRITE | CMD_FREES | CMD_EXPIRY, 0, 0, 0, cmd_kv_txn, "kv", "0.1.0",
     "that of its commands",
     "If all conditions hold carries out the THEN commands, else the ELSE commands, all at one "
     "moment",
     "KV.TXN [IF count condition ...] [THEN count operation ...] [ELSE count operation ...], where "
     "condition is VALUE key (= | != | < | >) value, REVISION key (= | != | < | >) revision, "
     "EXISTS "
     "key or ABSENT key, and operation is numargs command [argument ...]"},
    {"kv.unlock", 3, FREES, 1, 1, 1, cmd_kv_unlock, "kv", "0.1.0", "O(1)",
     "Gives a lock back; 0 when it was not the owner's any more", "KV.UNLOCK name owner"},
    {"kv.unwatch", 2, LOCAL | CMD_ALONE, 0, 0, 0, cmd_kv_unwatch, "kv", "0.1.0", "O(1)",
     "Ends a change feed of this connection", "KV.UNWATCH id"},
    {"kv.watch", -3, (LOCAL & ~CMD_FAST) | CMD_ALONE, 0, 0, 0, cmd_kv_watch, "kv", "0.1.0",
     "O(1); then O(n) changes",
     "Tells every change of keys from now on or from a revision on, in order, each transaction in "
     "one message",
     "KV.WATCH (PREFIX prefix | KEY key | RANGE from to) [FROM revision] [PREV] [PROGRESS "
     "milliseconds]"},
    {"memory", -2, CMD_READ | CMD_PARTS, 2, 2, 1, cmd_memory, "server", "4.0.0", "O(1)",
     "Memory that a key takes", "MEMORY USAGE key [SAMPLES count]"},
    {"mget", -2, READ, 1, -1, 1, cmd_mget, "string", "1.0.0", "O(n) keys",
     "Answers the values of keys, all of one moment", "MGET key [key ...]"},
    {"move", 3, WRITE, 1, 1, 1, cmd_move, "generic", "1.0.0", "O(1)",
     "Refused: there is one database", "MOVE key db"},
    {"mset", -3, CMD_WRITE, 1, -1, 2, cmd_mset, "string", "1.0.1", "O(n) keys",
     "Sets keys, all at one moment", "MSET key value [key value ...]"},
    {"msetnx", -3, CMD_WRITE, 1, -1, 2, cmd_msetnx, "string", "1.0.1", "O(n) keys",
     "Sets keys, all at one moment, if none of them exists", "MSETNX key value [key value ...]"},
    {"multi", 1, LOCAL, 0, 0, 0, cmd_multi, "transactions", "1.2.0", "O(1)",
     "Begins a transaction: commands are queued up to EXEC", "MULTI"},
    {"object", -2, CMD_READ | CMD_PARTS, 2, 2, 1, cmd_object, "generic", "2.2.3", "O(1)",
     "How Redis would keep a value",
     "OBJECT ENCODING key | REFCOUNT key | FREQ key | IDLETIME key"},
    {"persist", 2, EXPIRY, 1, 1, 1, cmd_persist, "generic", "2.2.0", "O(1)",
     "Takes the time to live from a key", "PERSIST key"},
    {"pexpire", -3, EXPIRY, 1, 1, 1, cmd_pexpire, "generic", "2.6.0", "O(1)",
     "Sets the time to live of a key in milliseconds",
     "PEXPIRE key milliseconds [NX | XX | GT | LT]"},
    {"pexpireat", -3, EXPIRY, 1, 1, 1, cmd_pexpireat, "generic", "2.6.0", "O(1)",
     "Sets the moment at which a key expires, in milliseconds since the epoch",
     "PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]"},
    {"pexpiretime", 2, READ, 1, 1, 1, cmd_pexpiretime, "generic", "7.0.0", "O(1)",
     "The moment at which a key expires, in milliseconds since the epoch; -1: never, -2: no such "
     "key",
     "PEXPIRETIME key"},
    {"ping", -1, LOCAL, 0, 0, 0, cmd_ping, "connection", "1.0.0", "O(1)",
     "Answers PONG, or its argument", "PING [message]"},
    {"psetex", 4, CMD_WRITE, 1, 1, 1, cmd_psetex, "string", "2.6.0", "O(1)",
     "Sets a value and its time to live in milliseconds", "PSETEX key milliseconds value"},
    {"psubscribe", -2, (LOCAL & ~CMD_FAST) | CMD_ALONE, 0, 0, 0, cmd_psubscribe, "pubsub", "2.0.0",
     "O(n) patterns", "Listens to the channels that match patterns",
     "PSUBSCRIBE pattern [pattern ...]"},
    {"pttl", 2, READ, 1, 1, 1, cmd_pttl, "generic", "2.6.0", "O(1)",
     "Remaining milliseconds of a key; -1: for ever, -2: no such key", "PTTL key"},
    {"publish", 3, LOCAL, 0, 0, 0, cmd_publish, "pubsub", "2.0.0",
     "O(n+m) subscribers of the channel and patterns of all clients",
     "Sends a message to who listens now, on all nodes; answers how many got it on this node",
     "PUBLISH channel message"},
    {"pubsub", -2, (LOCAL & ~CMD_FAST) | CMD_PARTS, 0, 0, 0, cmd_pubsub, "pubsub", "2.8.0",
     "O(n) channels", "Who listens to what on this node: CHANNELS NUMPAT NUMSUB",
     "PUBSUB subcommand [argument ...]"},
    {"punsubscribe", -1, (LOCAL & ~CMD_FAST) | CMD_ALONE, 0, 0, 0, cmd_punsubscribe, "pubsub",
     "2.0.0", "O(n) patterns", "Listens no more to patterns, or to none at all",
     "PUNSUBSCRIBE [pattern [pattern ...]]"},
    {"quit", -1, LOCAL, 0, 0, 0, cmd_quit, "connection", "1.0.0", "O(1)", "Closes the connection",
     "QUIT"},
    {"randomkey", 1, WALK, 0, 0, 0, cmd_randomkey, "generic", "1.0.0", "O(1)", "Answers any key",
     "RANDOMKEY"},
    {"readonly", 1, LOCAL, 0, 0, 0, cmd_readonly, "cluster", "3.0.0", "O(1)",
     "Lets a node that does not lead answer reads of this connection, linearizable ones all the "
     "same",
     "READONLY"},
    {"readwrite", 1, LOCAL, 0, 0, 0, cmd_readwrite, "cluster", "3.0.0", "O(1)",
     "The opposite of READONLY", "READWRITE"},
    {"rename", 3, CMD_WRITE, 1, 2, 1, cmd_rename, "generic", "1.0.0", "O(n) of the value",
     "Gives a key another name; a key of that name is replaced", "RENAME key newkey"},
    {"renamenx", 3, WRITE, 1, 2, 1, cmd_renamenx, "generic", "1.0.0", "O(n) of the value",
     "Gives a key another name that no key has", "RENAMENX key newkey"},
    {"reset", 1, LOCAL, 0, 0, 0, cmd_reset, "connection", "6.2.0", "O(1)",
     "Puts the connection back to its first state", "RESET"},
    {"role", 1, LOCAL, 0, 0, 0, cmd_role, "server", "2.8.12", "O(n) members",
     "The part that this node plays", "ROLE"},
    {"scan", -2, WALK, 0, 0, 0, cmd_scan, "generic", "2.8.0", "O(1) a call, O(n) in all",
     "Walks over the keys; a key that is there all the time is seen exactly once",
     "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]"},
    {"script", -2, LOCAL | CMD_PARTS, 0, 0, 0, cmd_script, "scripting", "2.6.0", "O(n) arguments",
     "Tells which scripts are known: EXISTS FLUSH KILL LOAD", "SCRIPT subcommand [argument ...]"},
    {"select", 2, LOCAL, 0, 0, 0, cmd_select, "connection", "1.0.0", "O(1)",
     "Chooses the database: there is only 0", "SELECT index"},
    {"sentinel", -2, ((LOCAL | CMD_TOPOLOGY) & ~CMD_FAST) | CMD_PARTS, 0, 0, 0, cmd_sentinel,
     "sentinel", "2.8.4", "O(n) members",
     "Where the leader is, for Sentinel clients: CKQUORUM GET-MASTER-ADDR-BY-NAME HELP MASTER "
     "MASTERS MYID REPLICAS SENTINELS",
     "SENTINEL subcommand [argument ...]"},
    {"set", -3, CMD_WRITE, 1, 1, 1, cmd_set, "string", "1.0.0", "O(1)", "Sets the value of a key",
     "SET key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest | IFREV "
     "revision] [GET] [EX seconds | PX milliseconds | EXAT seconds "
     "| PXAT "
     "milliseconds | KEEPTTL]"},
    {"setex", 4, CMD_WRITE, 1, 1, 1, cmd_setex, "string", "2.0.0", "O(1)",
     "Sets a value and its time to live in seconds", "SETEX key seconds value"},
    {"setnx", 3, WRITE, 1, 1, 1, cmd_setnx, "string", "1.0.0", "O(1)",
     "Sets the value of a key that does not exist", "SETNX key value"},
    {"setrange", 4, CMD_WRITE, 1, 1, 1, cmd_setrange, "string", "2.2.0", "O(n) of the value",
     "Overwrites a part of a value, which grows with zeros as needed", "SETRANGE key offset value"},
    {"strlen", 2, READ, 1, 1, 1, cmd_strlen, "string", "2.2.0", "O(1)",
     "Answers the length of a value", "STRLEN key"},
    {"subscribe", -2, (LOCAL & ~CMD_FAST) | CMD_ALONE, 0, 0, 0, cmd_subscribe, "pubsub", "2.0.0",
     "O(n) channels", "Listens to channels", "SUBSCRIBE channel [channel ...]"},
    {"substr", 4, CMD_READ, 1, 1, 1, cmd_getrange, "string", "1.0.0", "O(n) of the value",
     "Answers a part of a value: the old name of GETRANGE", "SUBSTR key start end"},
    {"swapdb", 3, LOCAL, 0, 0, 0, cmd_swapdb, "server", "4.0.0", "O(1)",
     "Swaps databases: there is only 0", "SWAPDB index1 index2"},
    {"time", 1, LOCAL, 0, 0, 0, cmd_time, "server", "2.6.0", "O(1)",
     "The clock of this node: seconds and microseconds", "TIME"},
    {"touch", -2, READ, 1, -1, 1, cmd_exists, "generic", "3.2.1", "O(n) keys",
     "Counts how many of the keys exist", "TOUCH key [key ...]"},
    {"ttl", 2, READ, 1, 1, 1, cmd_ttl, "generic", "1.0.0", "O(1)",
     "Remaining seconds of a key; -1: for ever, -2: no such key", "TTL key"},
    {"type", 2, READ, 1, 1, 1, cmd_type, "generic", "1.0.0", "O(1)",
     "Answers string, or none when the key does not exist", "TYPE key"},
    {"unlink", -2, FREES, 1, -1, 1, cmd_del, "generic", "4.0.0", "O(n) keys", "Deletes keys",
     "UNLINK key [key ...]"},
    {"unsubscribe", -1, (LOCAL & ~CMD_FAST) | CMD_ALONE, 0, 0, 0, cmd_unsubscribe, "pubsub",
     "2.0.0", "O(n) channels", "Listens no more to channels, or to none at all",
     "UNSUBSCRIBE [channel [channel ...]]"},
    {"unwatch", 1, LOCAL, 0, 0, 0, cmd_unwatch, "transactions", "2.2.0", "O(n) keys watched",
     "Forgets the watched keys", "UNWATCH"},
    {"wait", 3, LONG, 0, 0, 0, cmd_wait, "generic", "3.0.0", "O(1)",
     "Waits until followers have synced what this connection wrote; answers how many have",
     "WAIT numreplicas timeout"},
    {"waitaof", 4, LONG, 0, 0, 0, cmd_waitaof, "generic", "7.2.0", "O(1)",
     "The same, with the node that leads counted apart", "WAITAOF numlocal numreplicas timeout"},
    {"watch", -2, READ | CMD_LEADER | CMD_ALONE, 1, -1, 1, cmd_watch, "transactions", "2.2.0",
     "O(n) keys", "EXEC will carry out nothing if one of the keys changes until then",
     "WATCH key [key ...]"},
};

/* What EXEC becomes on its way to the leader: see txn.h. Nobody can list them. */
#define PARTS(name, flags)                                                                         \
    {                                                                                              \
        name, -3, (flags) | CMD_ALONE, 0, 0, 0, cmd_exec_parts, "", "", "", "", ""                 \
    }
static const struct command hidden[] = {
    PARTS(TXN_EXEC_READ, CMD_READ | CMD_LEADER),
    PARTS(TXN_EXEC_WALK, CMD_READ | CMD_LEADER | CMD_APPLIED),
    PARTS(TXN_EXEC_WRITE, CMD_WRITE | CMD_FREES | CMD_EXPIRY),
    {TXN_PUBLISH, -3, CMD_LOCAL | CMD_ALONE, 0, 0, 0, cmd_publish_all, "", "", "", "", ""},
};

#define HIDDEN_COUNT ((uint32_t)(sizeof hidden / sizeof hidden[0]))

uint32_t command_count(void)
{
    return (uint32_t)(sizeof table / sizeof table[0]);
}

const struct command *command_at(uint32_t at)
{
    return at < command_count() ? &table[at] : NULL;
}

static int compare_fold(struct slice name, const char *text)
{
    for (uint64_t i = 0; i < name.size; i++) {
        uint8_t byte = name.data[i];
        if (byte >= 'A' && byte <= 'Z') byte = (uint8_t)(byte + 32);
        if (text[i] == 0) return 1;
        if (byte != (uint8_t)text[i]) return byte < (uint8_t)text[i] ? -1 : 1;
    }
    return text[name.size] == 0 ? 0 : -1;
}

const struct command *command_find(struct slice name)
{
    uint32_t low = 0;
    uint32_t high = command_count();
    for (uint32_t i = 0; name.size > 0 && name.data[0] == '\r' && i < HIDDEN_COUNT; i++) {
        if (slice_equal(name, slice_text(hidden[i].name))) return &hidden[i];
    }
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        const int order = compare_fold(name, table[middle].name);
        if (order == 0) return &table[middle];
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

const struct command *command_find_again(struct slice name, const struct command *guess)
{
    /* The hidden ones are looked for as they are written. */
    const bool is_visible = guess != NULL && guess->name[0] != '\r';
    if (is_visible && compare_fold(name, guess->name) == 0) return guess;
    return command_find(name);
}

bool command_arity_fits(const struct command *command, uint32_t count)
{
    if (command->arity >= 0) return count == (uint32_t)command->arity;
    return count >= (uint32_t)-command->arity;
}
