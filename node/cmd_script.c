/* cmd_script.c - EVAL, EVALSHA and SCRIPT for the scripts of lock libraries.
 *
 * There is no Lua here. The scripts that these libraries send are known by the SHA-1 of their text, and what each of
 * them does is done natively, at one moment and in one entry like any command. Everything else is refused. */
#include "node/cmd_lock.h"
#include "node/eval_nested.h"
#include "node/shard.h"
#include "node/subcommand.h"
#include "storage/base/check.h"
#include "storage/base/limits.h"
#include "storage/base/sha1.h"

/* What the scripts do; "own" is a key whose value is the first argument. */
enum op {
    OP_DELETE_OWN,  /* every own key goes: how many */
    OP_DELETE_TELL, /* the same of one key; -1 when it does not exist */
    OP_EXPIRE_OWN,  /* an own key gets so many milliseconds: 1, else 0 */
    OP_EXTEND_OWN, /* the same, added to what it had if the third argument is 0; only if it had any */
    OP_EXPIRE_OR_SET, /* the same; a key that does not exist is set */
    OP_SET_ABSENT,    /* all keys, if none exists, for so many milliseconds: how many */
    OP_SET_OWN,       /* all keys again, if all are own: how many */
    OP_SET_OWN_OR_NEW, /* a key if it is own, or if it does not exist and the third argument is yes: OK */
    OP_SET_NEW,        /* a key if it does not exist: OK */
    OP_VALUE_AND_TTL, /* both of a key */
    OP_OBTAIN,        /* all keys, if none exists or all begin as the first argument does: OK */
    OP_REFRESH_ALL,   /* all keys get so many milliseconds if all are own: OK */
    OP_DELETE_ALL,    /* all keys go if all are own: OK */
    OP_SHORTEST_TTL,  /* of all keys if all are own; 0 when none has any */
    OP_TTL_OWN,       /* of an own key; -3 of any other */
    OP_TTL_LEFT,      /* the same; 0 of any other, and when it has none */
    OP_COUNT,
};

static const struct {
    bool is_many; /* takes any number of keys, else one */
    bool is_read;
    bool adds; /* may add keys */
    uint8_t arg_count;
} ops[OP_COUNT] = {
    [OP_DELETE_OWN] = {true, false, false, 1},    [OP_DELETE_TELL] = {false, false, false, 1},
    [OP_EXPIRE_OWN] = {false, false, false, 2},   [OP_EXTEND_OWN] = {false, false, false, 3},
    [OP_EXPIRE_OR_SET] = {false, false, true, 2}, [OP_SET_ABSENT] = {true, false, true, 2},
    [OP_SET_OWN] = {true, false, true, 2},        [OP_SET_OWN_OR_NEW] = {false, false, true, 3},
    [OP_SET_NEW] = {false, false, true, 2},       [OP_VALUE_AND_TTL] = {false, true, false, 0},
    [OP_OBTAIN] = {true, false, true, 3},         [OP_REFRESH_ALL] = {true, false, false, 2},
    [OP_DELETE_ALL] = {true, false, false, 1},    [OP_SHORTEST_TTL] = {true, true, false, 1},
    [OP_TTL_OWN] = {false, true, false, 1},       [OP_TTL_LEFT] = {false, true, false, 1},
};

static const struct script {
    const char *sha;
    enum op op;
} scripts[] = {
    /* redis-py: release, extend, reacquire */
    {"c3f8721cbb97f72bc19e972846bd7aaf91901658", OP_DELETE_OWN},
    {"a4e8783852e6b949f9ef3a97212805108459a890", OP_EXTEND_OWN},
    {"1cac51482acf5858da00f6d685d68f886cd6b6b2", OP_EXPIRE_OWN},
    /* redlock-py */
    {"4e92fdc63815b3a0a2dd1c1df3694de73607c88d", OP_DELETE_OWN},
    /* node-redlock 5: acquire, extend, release */
    {"96da70f7716f27d278a5218544df37fd8b0a5e4c", OP_SET_ABSENT},
    {"aed6f382e410db8ba7926d4e5e9aab410bf2a78a", OP_SET_OWN},
    {"e4612211c9f8f51c257e26e056b0a654b3187242", OP_DELETE_OWN},
    /* node-redlock 4 */
    {"e5a322e2634ef59a516e8ea150cb085afafee684", OP_SET_ABSENT},
    {"d01fb69e6ecc8bad3ca9bacba9f4f9e96862313f", OP_SET_ABSENT},
    {"ce46f80993d5dac20dd066eb301a4e37994bdbed", OP_SET_OWN},
    {"1d48b4c6fea2cdadc46b3346de5c2eaf121c7bb3", OP_SET_OWN},
    {"0f0f23b9048b36752b5be114f357ba083449f908", OP_DELETE_OWN},
    {"517e7ed95f00c0c4a209c6a7afcc6ab797d30b85", OP_DELETE_OWN},
    /* node-redlock 3 */
    {"862f31bf38e9b63ce28d6e9e5143551bb34ef981", OP_SET_NEW},
    {"a7aba3bc5d6e99b3003da8b9d80a63b9f4092ecf", OP_EXPIRE_OWN},
    {"cf0e94b2e9ffc7e04395cf88f7583fc309985910", OP_DELETE_OWN},
    {"b70c2384248f88e6b75b9f89241a180f856ad852", OP_DELETE_OWN},
    /* redsync: release (two versions), extend (two versions), extend or set again */
    {"e950836ed1e694540c503ef9972b8de518044d3b", OP_DELETE_TELL},
    {"00583931c4e4d483f6233879c133c71ed5393f9d", OP_DELETE_OWN},
    {"d75bb8b5bd13532ddedd17762e772346e39b321e", OP_EXPIRE_OWN},
    {"53692746b44cae854b8dfa32b177218bbe40baee", OP_EXPIRE_OWN},
    {"b6b55c439e02c6f52ffb8be7ec8c0d0ac816ea79", OP_EXPIRE_OR_SET},
    /* redlock-rb: unlock, lock, insight (two versions each) */
    {"8e4905cee18e7c3188d10f2b8b170e403baed34f", OP_DELETE_OWN},
    {"963db4d9f0ccfdb859098be0b29f8b41dc02ed97", OP_DELETE_OWN},
    {"ceb2b2062e40c51a2b3963fd078bc71f11bdc65c", OP_SET_OWN_OR_NEW},
    {"a90bf4be8a6e440e3cc24540eb2f9ff1e16fbcc3", OP_SET_OWN_OR_NEW},
    {"78d2ca48a6dc9ef6892059792a3a0c5237733d64", OP_VALUE_AND_TTL},
    {"cd1ae9bb543136ebc0a80a277cd59a7cec83b296", OP_VALUE_AND_TTL},
    /* redislock for Go: obtain (two versions), refresh, release (two versions), TTL (two versions) */
    {"eb0c00d98f6f33b4262419a509002884540f30be", OP_OBTAIN},
    {"52ea3e09e6f54c2d8407710e32616177dbe4f761", OP_OBTAIN},
    {"5a22d7e8431313862816d4416b5e46dd70fc340d", OP_REFRESH_ALL},
    {"9470c810040e272ee6c579d8d4331aaf6332a7b1", OP_DELETE_ALL},
    {"55632241e5850a99ab58c2d532ddc863b196b2ba", OP_DELETE_ALL},
    {"66e1084c2d842a7e8c271925aae90219fac4e129", OP_SHORTEST_TTL},
    /* redislock for Go up to 0.9, one key: obtain, TTL */
    {"80a1b5f2cfccec3b7119ba7721d2127682b691a7", OP_OBTAIN},
    {"6484da7d58920897fdc22b7f9afd1a3d47524ea8", OP_TTL_OWN},
    /* pottery (Redlock): acquired, extend, release */
    {"f5f7bd3a3aa4a63c507c1155c5ea1219b350d992", OP_TTL_LEFT},
    {"ba015a80261b616e7a62d35df0b8e3edbe6c9414", OP_EXPIRE_OWN},
    {"a4aada0b36710970eedaaaeec4a6b7d8c78c4f80", OP_DELETE_OWN},
    /* redis-semaphore (Mutex, RedlockMutex): refresh, release */
    {"594683e49a64ebaf975caf5f8079a1d097c438f1", OP_EXPIRE_OWN},
    {"7157921a7cc7cfba979acf6d63f073151df17d12", OP_DELETE_OWN},
    /* The comparison and deletion that Redis' own documentation shows, in the usual spellings. */
    {"ae3671744a5dbb24ea37ef607b8b10ac7856d43e", OP_DELETE_OWN},
    {"f4984e94dda5d9bba88c7bdb1a61c5508d8bfd9c", OP_DELETE_OWN},
    {"65b1dfc04a9fdd6d5ac7138caa2670a83d0b0d4b", OP_DELETE_OWN},
    {"5c2c05e52d07eddd6ec6e66247847f559a0d6f45", OP_DELETE_OWN},
    {"aa702d532e2e7227d29218df233d0376d0ab6fa6", OP_DELETE_OWN},
    {"1c5dec11abebfc80b60bee81956d31315c3f1d49", OP_DELETE_OWN},
    {"a787ed9c419385f232049847fe223bdbc62d36fb", OP_DELETE_OWN},
    {"70cd03947da479746bb064166dc0e368ede0c2cf", OP_DELETE_OWN},
    {"0344ac6c34d319fa9f3a3b62f1117979f7554ef9", OP_DELETE_OWN},
    {"3f61f99c361b945be026b178c4f936257f8d039f", OP_DELETE_OWN},
    {"001af810a34ff925bb35a02c538788163da8301d", OP_DELETE_OWN},
    {"8c1c1562ab69d29b97099d51ae43f4e8dce7549b", OP_DELETE_OWN},
    {"93899a0ff743cd1ae09e3b7f293cec06c1f2994e", OP_DELETE_OWN},
    {"1a7d4dd74ab0b1f26dda16b3f0c21fd2168f24b6", OP_DELETE_OWN},
    {"901f0bb966129a60cf2cc7eb5be41f64a9533cf3", OP_DELETE_OWN},
    {"0c3dfc4c8068be6231e053d7d108bc88b93a90ad", OP_DELETE_OWN},
    {"df70bd5cf0f636f3ceedc6932106a0b8c8e67e31", OP_DELETE_OWN},
    {"39e43d20f26487bafdec8a4eba8dd52337cc1156", OP_DELETE_OWN},
    {"2c91972418b8f636fa096c69db9b838e10fb568b", OP_DELETE_OWN},
    {"95ea953f27e393718bb1f1c82804d68e12b20326", OP_DELETE_OWN},
    {"e9f69f2beb755be68b5e456ee2ce9aadfbc4ebf4", OP_DELETE_OWN},
    {"a27a553734affdcee06c09ab628e828b2ebc9e54", OP_DELETE_OWN},
    {"f9409185e4896021177e66db262293db90725b0f", OP_DELETE_OWN},
    {"d7d3a0c23b2b6d06cc97f156b08d2a7c90eb1309", OP_DELETE_OWN},
    {"6bb4316b6f6f39a2e19e6408432d4fc36e80bbd4", OP_DELETE_OWN},
    {"e4922a95d0d34b474742a54fc2d2f94bd0db7ff8", OP_DELETE_OWN},
    {"5cd51dc990159ad7a7fb7299f78ee92607b3044f", OP_DELETE_OWN},
    {"18b2a577dbe847b16bebde190d69a1613d68e60e", OP_DELETE_OWN},
    {"c8ae2a409d45ce88172d9f58af7a86ed6deb6dd5", OP_DELETE_OWN},
    {"129e2b369b6da4a617df8eab5fbf85aa5f15bfeb", OP_DELETE_OWN},
    {"d02e481a9c91ceec59c5822a58a49d5d5d7ac80b", OP_DELETE_OWN},
    {"035ce69b66b25aed898da14b0e02cd7181aceff1", OP_DELETE_OWN},
    {"80b419e5966bd8dc467271c2050daea731987c44", OP_DELETE_OWN},
    {"2b8c4c62fed1d8a69a8ba8688fb442714852981c", OP_DELETE_OWN},
    {"555ae88d64422380857ce90472746df4d78162c6", OP_DELETE_OWN},
    {"8091f59b94813b9bf8cf95fee29f67e568611ede", OP_DELETE_OWN},
    {"3a2c68d6d48f2842ceba2446019ccf0ffd5e1710", OP_DELETE_OWN},
    {"b14f0c65ae4c7cdd300af575a508d53fafedd4a8", OP_DELETE_OWN},
    {"f187135daebe0e32a5499f441e4d8a3a63b498a0", OP_DELETE_OWN},
    {"5dfce33393c83c41f23f21cf103e61e70edb2663", OP_DELETE_OWN},
    {"647c65a442733a1aa440f99908d249d13b4d6c4a", OP_DELETE_OWN},
    {"194f3902b2dd08557818d09fc2e7682d91480e53", OP_DELETE_OWN},
    {"9d761e4bd99899f491ddaaabca66dfdde355ef99", OP_DELETE_OWN},
    {"055cb262da348e353740d0f5440da029d9923c39", OP_DELETE_OWN},
    {"5c252c1a0eaeeb4522fbbb982baba4e74ddfcd0d", OP_DELETE_OWN},
    {"d2e30fb3adbb8caebc46169aa5e8f67e181bbc53", OP_DELETE_OWN},
    {"0e90b016933b2fde3f7e47975f6d983eab4023d1", OP_DELETE_OWN},
    {"af1644ab136dfb7522d2bf07f72198b147df253f", OP_DELETE_OWN},
    {"ab9aed4eced09f53ace1ef762aded009490747f2", OP_DELETE_OWN},
    {"7726c7be95e2a0ed082ec1da1e26b562f5c8903f", OP_DELETE_OWN},
    {"373e85b19820c9b666decaeae73c4bb6f5a45d7c", OP_DELETE_OWN},
    {"023222ead01b1f18a963153b20c9b49d97016965", OP_DELETE_OWN},
    {"2bd77e1015f4768568fdd0483334b7a5222a1280", OP_DELETE_OWN},
    {"20ec07b087138f63e1c864f9ae36353d26583bd5", OP_DELETE_OWN},
    {"5de2090a793a555b07590519da2ace234832bcdf", OP_DELETE_OWN},
    {"384f7324b7b2a2a5a2a38e041c8c4b45fb3f042d", OP_DELETE_OWN},
    {"ce9eea7ead57aba50d54f34c4e173493266edc12", OP_DELETE_OWN},
    {"85add319efde334c0e63dc504847425b4a4179bf", OP_DELETE_OWN},
    {"738143faf3155206ce53f7c47ff0d21f0c5ba16c", OP_DELETE_OWN},
    {"d220654d7721ae520b15ed0e24a4cc97024efa08", OP_DELETE_OWN},
    {"98d07eae46e582323cc7e3d062e0ab66ee7426aa", OP_DELETE_OWN},
    {"e9b478387d9b08487f964382baf8443e7bd1aeb5", OP_DELETE_OWN},
    {"b5057568e1084e66ea79144cb90d0e960146f943", OP_DELETE_OWN},
    {"da95be954b5f97a6e356d2e2ca00971f840385bb", OP_DELETE_OWN},
    {"cf972413788d8931d54c9f61cb33b747d51d82e6", OP_DELETE_OWN},
    {"f434ebe87767b39ce7b0d24b3b396311702d8a22", OP_DELETE_OWN},
    {"87915a6a74110b748053245d9bcabbd424f2c11f", OP_DELETE_OWN},
    {"4b9bfea267e26f16abdf5f8ed5d35487b0be74cd", OP_DELETE_OWN},
    {"013976d92eab7585a652ddbf0f4ae3746f38b191", OP_DELETE_OWN},
    {"e04ea1352c46ae16a15753d4960bee821bf3b3fa", OP_DELETE_OWN},
    {"8ddffa0e0a11ec7ba22f860a8f550079aabc4fd5", OP_DELETE_OWN},
    {"aefc6bbfaac1ed02c135d12b12c8c42cdfb36af4", OP_DELETE_OWN},
    {"c7634f8c5c1d9ef2d68e601354a9a81a4d03bb5d", OP_DELETE_OWN},
    {"1bcb8c3663cae091e829456cef6493f9aca11902", OP_DELETE_OWN},
    {"daf86bbf8740dd3ca86733367a016364b2110627", OP_DELETE_OWN},
    {"f879ae8a06adc51d1d14216548022b09a9d788eb", OP_DELETE_OWN},
    {"8075b56eeeb8090314d8f2a36978c6cdda5705da", OP_DELETE_OWN},
    {"cccbec3a7d869123f611e1ad97f165225e1e4602", OP_DELETE_OWN},
};

static const struct script *find_script(struct slice sha)
{
    for (uint32_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++) {
        if (slice_equal_fold(sha, scripts[i].sha)) return &scripts[i];
    }
    return NULL;
}

/* ---- running one ---------------------------------------------------------------------------------------- */

struct run {
    struct eval *eval;
    enum op op;
    const struct slice *keys;
    const struct slice *args;
    uint32_t key_count;
    uint32_t arg_count;
    int64_t ms; /* the second argument, or the third of OP_OBTAIN */
};

enum own { OWN_ABSENT, OWN_OTHER, OWN_YES };

/* What is known of a key: is it there, and does its value begin with (or equal) @value? False: not now. */
static bool look(struct run *run, uint32_t at, struct slice value, bool is_prefix, enum own *own,
                 struct item *item)
{
    struct slice found;
    *item = eval_find(run->eval, run->keys[at]);
    *own = OWN_ABSENT;
    if (!item->exists) return true;
    if (!eval_value(run->eval, item, &found)) return false;
    if (is_prefix && found.size > value.size) found.size = value.size;
    *own = slice_equal(found, value) ? OWN_YES : OWN_OTHER;
    return true;
}

/* How many keys are there, and how many own. False: not now, or an error was replied. */
static bool count_all(struct run *run, struct slice value, bool is_prefix, uint32_t *present,
                      uint32_t *owned)
{
    bool ok = true;
    *present = 0;
    *owned = 0;
    for (uint32_t i = 0; i < run->key_count; i++) {
        struct item item;
        enum own own;
        if (look(run, i, value, is_prefix, &own, &item)) {
            *present += own != OWN_ABSENT;
            *owned += own == OWN_YES;
        } else {
            ok = false;
            if (!run->eval->waits || !eval_wants_more(run->eval)) return false;
        }
    }
    return ok;
}

static void set_ttl(struct run *run, uint32_t at, const struct item *item, int64_t ms)
{
    struct eval *eval = run->eval;
    if (ms <= 0) {
        eval_delete(eval, run->keys[at], item);
    } else {
        eval_expire(eval, run->keys[at], eval->now_ms + (uint64_t)ms, item);
    }
}

static void put(struct run *run, uint32_t at)
{
    struct eval *eval = run->eval;
    const struct item item = eval_find(eval, run->keys[at]);
    if (run->ms > 0) {
        eval_put(eval, run->keys[at], run->args[0], eval->now_ms + (uint64_t)run->ms, &item);
    } else if (item.exists) {
        eval_delete(eval, run->keys[at], &item);
    }
}

static void put_all(struct run *run)
{
    for (uint32_t i = 0; i < run->key_count; i++) put(run, i);
}

static void delete_own(struct run *run)
{
    struct eval *eval = run->eval;
    uint32_t present = 0;
    uint32_t owned = 0;
    int64_t count = 0;
    if (!count_all(run, run->args[0], false, &present, &owned)) return;
    for (uint32_t i = 0; i < run->key_count; i++) {
        struct item item;
        enum own own;
        CHECK(look(run, i, run->args[0], false, &own, &item));
        if (own != OWN_YES) continue;
        eval_delete(eval, run->keys[i], &item);
        count++;
    }
    const bool is_missing = run->op == OP_DELETE_TELL && present == 0;
    resp_put_int(eval->out, is_missing ? -1 : count);
}

static void expire_own(struct run *run)
{
    struct item item;
    enum own own;
    struct eval *eval = run->eval;
    if (!look(run, 0, run->args[0], false, &own, &item)) return;
    int64_t ms = run->ms;
    if (own == OWN_ABSENT && run->op == OP_EXPIRE_OR_SET && ms > 0) {
        put(run, 0);
        own = OWN_YES;
    } else if (own == OWN_YES) {
        if (run->op == OP_EXTEND_OWN) {
            const int64_t left = eval_ttl(eval, item.expiry_ms);
            if (left < 0) own = OWN_OTHER; /* It never ends: nothing to extend. */
            if (slice_equal(run->args[2], slice_text("0"))) ms += left;
        }
        if (own == OWN_YES) set_ttl(run, 0, &item, ms);
    }
    resp_put_int(eval->out, own == OWN_YES ? 1 : 0);
}

static void set_all(struct run *run)
{
    uint32_t present = 0;
    uint32_t owned = 0;
    struct eval *eval = run->eval;
    if (!count_all(run, run->args[0], false, &present, &owned)) return;
    bool holds = run->op == OP_SET_OWN ? owned == run->key_count : present == 0;
    if (run->op == OP_SET_OWN_OR_NEW) {
        const bool may_be_new = slice_equal(run->args[2], slice_text("yes"));
        holds = owned == 1 || (present == 0 && may_be_new);
    }
    if (holds && run->ms <= 0) {
        eval_error(eval, "ERR invalid expire time in 'set' command");
        return;
    }
    if (holds) put_all(run);
    if (run->op == OP_SET_ABSENT || run->op == OP_SET_OWN) {
        resp_put_int(eval->out, holds ? run->key_count : 0);
    } else if (holds) {
        eval_ok(eval);
    } else {
        resp_put_null(eval->out, eval->protocol);
    }
}

static void value_and_ttl(struct run *run)
{
    struct slice value;
    struct eval *eval = run->eval;
    struct item item = eval_find(eval, run->keys[0]);
    if (item.exists && !eval_value(eval, &item, &value)) return;
    resp_put_array(eval->out, 2);
    if (item.exists) {
        resp_put_bulk(eval->out, value);
    } else {
        resp_put_null(eval->out, eval->protocol);
    }
    resp_put_int(eval->out, item.exists ? eval_ttl(eval, item.expiry_ms) : -2);
}

static void ttl_own(struct run *run)
{
    struct item item;
    enum own own;
    struct eval *eval = run->eval;
    if (!look(run, 0, run->args[0], false, &own, &item)) return;
    int64_t ttl = run->op == OP_TTL_OWN ? -3 : 0;
    if (own == OWN_YES) ttl = eval_ttl(eval, item.expiry_ms);
    if (run->op == OP_TTL_LEFT && ttl < 0) ttl = 0;
    resp_put_int(eval->out, ttl);
}

/* Those that take all keys or none: OK or nil. */
static void all_or_none(struct run *run)
{
    int64_t size = 0;
    uint32_t present = 0;
    uint32_t owned = 0;
    int64_t shortest = 0;
    struct eval *eval = run->eval;
    struct slice value = run->args[0];
    const bool is_obtain = run->op == OP_OBTAIN;
    if (is_obtain && !slice_int64(run->args[1], &size)) size = (int64_t)value.size;
    if (is_obtain && size >= 0 && (uint64_t)size < value.size) value.size = (uint64_t)size;
    /* Of no bytes nothing but an empty value is made. */
    if (!count_all(run, value, is_obtain && value.size > 0, &present, &owned)) return;
    if (owned != run->key_count && !(is_obtain && present == 0)) {
        resp_put_null(eval->out, eval->protocol);
        return;
    }
    for (uint32_t i = 0; i < run->key_count; i++) {
        const struct item item = eval_find(eval, run->keys[i]);
        if (is_obtain) {
            put(run, i);
        } else if (run->op == OP_REFRESH_ALL && item.exists) {
            set_ttl(run, i, &item, run->ms);
        } else if (run->op == OP_DELETE_ALL && item.exists) {
            eval_delete(eval, run->keys[i], &item);
        } else if (run->op == OP_SHORTEST_TTL) {
            const int64_t ttl = eval_ttl(eval, item.expiry_ms);
            if (ttl > 0 && (shortest == 0 || ttl < shortest)) shortest = ttl;
        }
    }
    if (run->op == OP_SHORTEST_TTL) {
        resp_put_int(eval->out, shortest);
    } else {
        eval_ok(eval);
    }
}

/* ---- the commands --------------------------------------------------------------------------------------- */

#define UNSUPPORTED                                                                                \
    "ERR scripts are not supported: only those of lock libraries are known, by their SHA1 (see "   \
    "docs/locks.md); KV.TXN does several things at one moment"

static bool read_count(struct eval *eval, struct run *run)
{
    int64_t count = 0;
    if (!eval_int(eval, 2, &count)) return false;
    if (count > (int64_t)eval->count - 3) {
        eval_error(eval, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    if (count < 0) {
        eval_error(eval, "ERR Number of keys can't be negative");
        return false;
    }
    run->key_count = (uint32_t)count;
    run->keys = eval->args + 3;
    run->args = run->keys + count;
    run->arg_count = eval->count - 3 - run->key_count;
    return true;
}

static bool arguments_fit(struct eval *eval, struct run *run)
{
    const bool is_count = ops[run->op].is_many ? run->key_count >= 1 : run->key_count == 1;
    if (!is_count || run->arg_count < ops[run->op].arg_count) {
        eval_error(eval, "ERR the script takes other numbers of keys and arguments");
        return false;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < run->key_count; i++) {
        if (!eval_key_fits(eval, run->keys[i])) return false;
        bytes += run->keys[i].size + EFFECT_HEADER_SIZE + 16;
        if (ops[run->op].adds) bytes += run->args[0].size;
    }
    if (!eval_room(eval, run->key_count, bytes)) return false;
    if (ops[run->op].adds && !eval_value_fits(eval, run->args[0].size)) return false;
    const uint32_t at = run->op == OP_OBTAIN ? 2 : 1;
    if (ops[run->op].arg_count <= at) return true;
    if (slice_int64(run->args[at], &run->ms) && run->ms <= INT64_MAX / 4 && run->ms > INT64_MIN) {
        return true;
    }
    eval_error(eval, "ERR value is not an integer or out of range");
    return false;
}

static void run_script(struct eval *eval, const struct script *script, bool reads_only)
{
    struct run run = {.eval = eval, .op = script->op};
    if (!read_count(eval, &run) || !arguments_fit(eval, &run)) return;
    if (reads_only && !ops[run.op].is_read) {
        eval_error(eval, "ERR Write commands are not allowed from read-only scripts.");
        return;
    }
    const uint32_t flags = CMD_WRITE | (ops[run.op].adds ? 0 : CMD_FREES | CMD_EXPIRY);
    const char *refusal = ops[run.op].is_read ? NULL : shard_refusal(eval->shard, flags);
    if (refusal != NULL) {
        eval_error(eval, refusal);
        return;
    }
    switch (run.op) {
    case OP_DELETE_OWN:
    case OP_DELETE_TELL: delete_own(&run); break;
    case OP_EXPIRE_OWN:
    case OP_EXTEND_OWN:
    case OP_EXPIRE_OR_SET: expire_own(&run); break;
    case OP_SET_ABSENT:
    case OP_SET_OWN:
    case OP_SET_NEW:
    case OP_SET_OWN_OR_NEW: set_all(&run); break;
    case OP_VALUE_AND_TTL: value_and_ttl(&run); break;
    case OP_TTL_OWN:
    case OP_TTL_LEFT: ttl_own(&run); break;
    default: all_or_none(&run); break;
    }
}

static void eval_text(struct eval *eval, bool reads_only)
{
    char sha[SHA1_TEXT_SIZE + 1];
    struct run run = {0};
    const struct script *script = NULL;
    if (eval->args[1].size <= 16 * KIB) { /* None that is known is as long. */
        sha1_text(eval->args[1], sha);
        script = find_script(slice_text(sha));
    }
    if (script != NULL) {
        run_script(eval, script, reads_only);
    } else if (read_count(eval, &run)) {
        eval_error(eval, UNSUPPORTED);
    }
}

static void eval_sha(struct eval *eval, bool reads_only)
{
    struct run run = {0};
    const struct script *script = find_script(eval->args[1]);
    if (script != NULL) {
        run_script(eval, script, reads_only);
    } else if (read_count(eval, &run)) {
        eval_error(eval, "NOSCRIPT No matching script. Please use EVAL.");
    }
}

void cmd_eval(struct eval *eval)
{
    eval_text(eval, false);
}

void cmd_eval_ro(struct eval *eval)
{
    eval_text(eval, true);
}

void cmd_evalsha(struct eval *eval)
{
    eval_sha(eval, false);
}

void cmd_evalsha_ro(struct eval *eval)
{
    eval_sha(eval, true);
}

bool cmd_is_script(const struct command *command)
{
    return command->function == cmd_eval || command->function == cmd_evalsha ||
           command->function == cmd_eval_ro || command->function == cmd_evalsha_ro;
}

static void script_load(struct eval *eval)
{
    char sha[SHA1_TEXT_SIZE + 1] = "";
    if (eval->args[2].size <= 16 * KIB) sha1_text(eval->args[2], sha);
    if (find_script(slice_text(sha)) != NULL) {
        resp_put_text(eval->out, sha);
    } else {
        eval_error(eval, UNSUPPORTED);
    }
}

void cmd_script(struct eval *eval)
{
    const struct slice name = eval->args[1];
    if (slice_equal_fold(name, "help")) {
        subcommand_help(eval);
    } else if (slice_equal_fold(name, "load")) {
        script_load(eval);
    } else if (slice_equal_fold(name, "exists")) {
        resp_put_array(eval->out, eval->count - 2);
        for (uint32_t i = 2; i < eval->count; i++) {
            resp_put_int(eval->out, find_script(eval->args[i]) != NULL);
        }
    } else if (slice_equal_fold(name, "kill")) {
        eval_error(eval, "NOTBUSY No scripts in execution right now.");
    } else if (eval->count == 2 ||
               (eval->count == 3 && (slice_equal_fold(eval->args[2], "sync") ||
                                     slice_equal_fold(eval->args[2], "async")))) {
        eval_ok(eval); /* FLUSH: there is nothing that could be forgotten. */
    } else {
        eval_error(eval, "ERR SCRIPT FLUSH only support SYNC|ASYNC option");
    }
}
