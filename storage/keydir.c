#include "storage/keydir.h"

#include <stddef.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/btree.h"
#include "storage/effect.h"
#include "storage/hashdir.h"
#include "storage/keydir_entry.h"
#include "storage/keysort.h"
#include "storage/reserved.h"
#include "storage/slab.h"

/* An update leaves at most this much of an allocation unused before it makes a smaller one. */
#define SLACK_MAX 4u
#define RANDOM_TRIES 32u
#define PLACE_UNIT 8u
#define BURY_NODES 128u        /* of a tree in one step, */
#define BURY_SEGMENTS 16u      /* of the table, */
#define BURY_REGIONS 1u        /* and of the slab */
#define CLEAR_NOW_SIZE MIB     /* So much memory is given back at once. */
#define MEMORY_STEP (2u * MIB) /* Memory comes in steps of up to half of this: slab.h. */

/* What was cleared and is not given back yet. */
struct grave {
    struct hashdir dir;
    struct btree by_key;
    struct btree by_expiry;
    struct slab slab;
    struct btree_node *below; /* In the tree that is being freed: see btree_close_some. */
    struct grave *next;
};

struct keydir {
    struct grave *graves;
    struct hashdir dir;
    struct btree by_key;
    struct btree by_expiry; /* Only the entries that have an expiry. */
    struct slab slab;       /* Holds the entries. */
    bool is_loading;        /* Between the begin and the end of a bulk load. */
    uint64_t hash;          /* keydir_hash. */
    struct keydir_reserved reserved;
    bool is_rehashing;
    uint64_t rehash_cursor; /* As of keydir_scan: entries before it are in the sum. */
    uint64_t rehash_sum;
};

struct keydir *keydir_create(uint64_t hash_seed)
{
    struct keydir *keydir = mem_zero(sizeof *keydir);
    slab_init(&keydir->slab);
    hashdir_init(&keydir->dir, &keydir->slab, hash_seed);
    btree_init(&keydir->by_key, &keydir->slab, BTREE_BY_KEY);
    btree_init(&keydir->by_expiry, &keydir->slab, BTREE_BY_EXPIRY);
    return keydir;
}

static void close_all(struct keydir *keydir)
{
    hashdir_close(&keydir->dir);
    btree_close(&keydir->by_key);
    btree_close(&keydir->by_expiry);
    slab_close(&keydir->slab);
}

static uint64_t own_memory(const struct keydir *keydir)
{
    return keydir->dir.memory + keydir->by_key.memory + keydir->by_expiry.memory +
           keydir->slab.memory;
}

static uint64_t grave_memory(const struct grave *grave)
{
    return sizeof *grave + grave->dir.memory + grave->by_key.memory + grave->by_expiry.memory +
           grave->slab.memory;
}

/* False: all of it is given back. */
static bool grave_step(struct grave *grave)
{
    if (hashdir_close_some(&grave->dir, BURY_SEGMENTS)) return true;
    if (btree_close_some(&grave->by_key, &grave->below, BURY_NODES)) return true;
    if (btree_close_some(&grave->by_expiry, &grave->below, BURY_NODES)) return true;
    return slab_close_some(&grave->slab, BURY_REGIONS);
}

bool keydir_bury(struct keydir *keydir, uint32_t steps)
{
    for (uint32_t i = 0; i < steps && keydir->graves != NULL; i++) {
        struct grave *grave = keydir->graves;
        if (grave_step(grave)) continue;
        keydir->graves = grave->next;
        mem_free(grave);
    }
    return keydir->graves != NULL;
}

void keydir_destroy(struct keydir *keydir)
{
    if (keydir == NULL) return;
    while (keydir_bury(keydir, UINT32_MAX)) {}
    close_all(keydir);
    mem_free(keydir);
}

void keydir_clear(struct keydir *keydir)
{
    keydir->hash = 0;
    keydir->rehash_sum = 0; /* Wherever its cursor stands, nothing is before it. */
    keydir->reserved = (struct keydir_reserved){0};
    if (keydir->is_loading) {
        /* Nobody is served meanwhile, and a log may have many of these. */
        close_all(keydir);
        hashdir_init(&keydir->dir, &keydir->slab, keydir->dir.seed);
        return;
    }
    if (own_memory(keydir) <= CLEAR_NOW_SIZE) {
        /* Neither may thousands in a row, of which each leaves little, gather what is to be given back. */
        close_all(keydir);
        hashdir_init(&keydir->dir, &keydir->slab, keydir->dir.seed);
        btree_init(&keydir->by_key, &keydir->slab, BTREE_BY_KEY);
        btree_init(&keydir->by_expiry, &keydir->slab, BTREE_BY_EXPIRY);
        return;
    }
    struct grave *grave = mem_alloc(sizeof *grave);
    *grave = (struct grave){.dir = keydir->dir,
                            .by_key = keydir->by_key,
                            .by_expiry = keydir->by_expiry,
                            .next = keydir->graves};
    slab_move(&grave->slab, &keydir->slab);
    grave->dir.slab = &grave->slab;
    grave->by_key.slab = &grave->slab;
    grave->by_expiry.slab = &grave->slab;
    keydir->graves = grave;
    hashdir_init(&keydir->dir, &keydir->slab, grave->dir.seed);
    btree_init(&keydir->by_key, &keydir->slab, BTREE_BY_KEY);
    btree_init(&keydir->by_expiry, &keydir->slab, BTREE_BY_EXPIRY);
}

uint64_t keydir_count(const struct keydir *keydir)
{
    return keydir->dir.count;
}

uint64_t keydir_visible(const struct keydir *keydir)
{
    return keydir->dir.count - keydir->reserved.count;
}

struct keydir_reserved keydir_reserved(const struct keydir *keydir)
{
    return keydir->reserved;
}

uint64_t keydir_memory(const struct keydir *keydir)
{
    uint64_t memory = sizeof *keydir + own_memory(keydir);
    for (const struct grave *grave = keydir->graves; grave != NULL; grave = grave->next) {
        memory += grave_memory(grave);
    }
    return memory;
}

uint64_t keydir_used(const struct keydir *keydir)
{
    return sizeof *keydir + keydir->dir.memory + keydir->by_key.memory + keydir->by_expiry.memory +
           keydir->slab.used;
}

bool keydir_full(const struct keydir *keydir, uint64_t max)
{
    if (slab_full(&keydir->slab)) return true;
    if (max == 0) return false;
    return keydir_used(keydir) >= max || keydir_memory(keydir) >= max + max / 2 + MEMORY_STEP;
}

uint64_t keydir_cost(const struct keydir *keydir, uint64_t key_size, uint64_t value_size,
                     bool has_expiry)
{
    const uint64_t count = keydir_count(keydir);
    const uint64_t tables = keydir->dir.memory + keydir->by_key.memory;
    const uint64_t expiring = keydir->by_expiry.count;
    const uint64_t inline_size = value_size <= VALUE_INLINE_MAX ? value_size : 0;
    uint64_t cost = align_up(keydir_entry_size(key_size, inline_size, has_expiry),
                             KEYDIR_ENTRY_UNIT);
    if (count > 0) cost += tables / count;
    if (has_expiry && expiring > 0) cost += keydir->by_expiry.memory / expiring;
    return cost;
}

uint64_t keydir_expiring(const struct keydir *keydir)
{
    return keydir->by_expiry.count;
}

const struct keydir_entry *keydir_find(const struct keydir *keydir, struct slice key)
{
    const uint32_t *slot = hashdir_find(&keydir->dir, hashdir_hash(&keydir->dir, key), key);
    return slot != NULL ? slab_at(&keydir->slab, *slot) : NULL;
}

void keydir_warm(const struct keydir *keydir, const struct slice *keys, uint32_t count)
{
    uint64_t hashes[KEYDIR_WARM_MAX];
    CHECK(count <= KEYDIR_WARM_MAX);
    for (uint32_t i = 0; i < count; i++) hashes[i] = hashdir_hash(&keydir->dir, keys[i]);
    hashdir_warm(&keydir->dir, hashes, count);
}

static struct place entry_place(const struct keydir_entry *entry)
{
    return (struct place){.file = entry->file, .offset = entry->offset * PLACE_UNIT};
}

struct keydir_info keydir_info(const struct keydir_entry *entry)
{
    const struct slice key = keydir_entry_key(entry);
    const bool is_inline = keydir_entry_inline(entry);
    return (struct keydir_info){
        .key = key,
        .revision = entry->revision,
        .expiry_ms = keydir_entry_expiry(entry),
        .value_size = entry->value_size,
        .place = entry_place(entry),
        .is_compressed = entry->is_compressed,
        .is_inline = is_inline,
        .inline_value = is_inline ? slice_of(key.data + key.size, entry->value_size)
                                  : slice_of(NULL, 0),
    };
}

uint64_t keydir_size_on_disk(const struct keydir_info *info)
{
    return align_up(EFFECT_HEADER_SIZE + info->key.size + info->value_size, PLACE_UNIT);
}

/* ---- state hash ------------------------------------------------------------------------------ */

/* A bijection in which every bit of @value changes about half of the result's. */
static inline uint64_t mix(uint64_t value)
{
    value = (value ^ value >> 32) * 0xD6E8FEB86659FD93u;
    value = (value ^ value >> 32) * 0xD6E8FEB86659FD93u;
    return value ^ value >> 32;
}

/* What @entry adds to the state hash. @key_hash: hash64 of its key. Changes are made all the time, so this is
 * a chain of bijections instead of one hash over all: entries that differ in one part never agree. */
static uint64_t digest(const struct keydir_entry *entry, uint64_t key_hash)
{
    const uint64_t flags = entry->is_compressed ? KEYDIR_COMPRESSED : 0;
    uint64_t sum = mix(key_hash ^ entry->revision);
    sum = mix(sum ^ keydir_entry_expiry(entry));
    sum = mix(sum ^ (flags << 32 | entry->value_size));
    if (!keydir_entry_inline(entry)) return sum;
    const struct slice key = keydir_entry_key(entry);
    return mix(sum ^ hash64(key.data + key.size, entry->value_size));
}

static uint64_t digest_key(struct slice key)
{
    return hash64(key.data, key.size);
}

/* After the entry at @hash of the table changed what it adds by @difference. */
static void digest_changed(struct keydir *keydir, uint64_t hash, uint64_t difference)
{
    keydir->hash += difference;
    if (keydir->is_rehashing && hash >> (64 - HASHDIR_CURSOR_BITS) < keydir->rehash_cursor) {
        keydir->rehash_sum += difference;
    }
}

uint64_t keydir_hash(const struct keydir *keydir)
{
    return keydir->hash;
}

void keydir_rehash_begin(struct keydir *keydir)
{
    keydir->is_rehashing = true;
    keydir->rehash_cursor = 0;
    keydir->rehash_sum = 0;
}

static void rehash_visit(void *context, const struct keydir_entry *entry)
{
    struct keydir *keydir = context;
    keydir->rehash_sum += digest(entry, digest_key(keydir_entry_key(entry)));
}

bool keydir_rehash(struct keydir *keydir, uint64_t count, uint64_t *hash)
{
    CHECK(keydir->is_rehashing);
    keydir->rehash_cursor = hashdir_scan(&keydir->dir, keydir->rehash_cursor, count, rehash_visit,
                                         keydir);
    if (keydir->rehash_cursor != 0) return false;
    keydir->is_rehashing = false;
    *hash = keydir->rehash_sum;
    return true;
}

/* ---- change ---------------------------------------------------------------------------------- */

/* What an entry is to hold. The slices may borrow from the very entry that is overwritten. */
struct content {
    struct slice key;
    struct slice value; /* data is not read when it is not inline. */
    bool is_compressed;
    uint64_t revision;
    uint64_t expiry_ms;
    struct place place;
};

static uint64_t content_inline_size(const struct content *content)
{
    const bool is_inline = content->value.size <= VALUE_INLINE_MAX && !content->is_compressed;
    return is_inline ? content->value.size : 0;
}

static uint64_t content_units(const struct content *content)
{
    const uint64_t size = keydir_entry_size(content->key.size, content_inline_size(content),
                                            content->expiry_ms > 0);
    return align_up(size, KEYDIR_ENTRY_UNIT) / KEYDIR_ENTRY_UNIT;
}

/* The part of @content whose size is always the same. */
static void entry_fix(struct keydir_entry *entry, const struct content *content)
{
    entry->revision = content->revision;
    entry->file = content->place.file;
    entry->offset = (content->place.offset / PLACE_UNIT) & 0x1FFFFFFFu;
    entry->is_compressed = content->is_compressed;
    entry->value_size = content->value.size & 0xFFFFFFFu;
}

static void entry_fill(struct keydir_entry *entry, uint64_t units, const struct content *content)
{
    uint8_t value[VALUE_INLINE_MAX];
    const uint64_t inline_size = content_inline_size(content);
    if (inline_size > 0) memcpy(value, content->value.data, inline_size);
    entry_fix(entry, content);
    entry->has_expiry = content->expiry_ms > 0;
    entry->slack = (units - content_units(content)) & 0xFu;
    entry->key_last = (uint16_t)(content->key.size - 1);
    uint8_t *at = entry->bytes + 8u * entry->has_expiry;
    /* The key first: the expiry may take the place where it stood so far. */
    if (at != content->key.data) memmove(at, content->key.data, content->key.size);
    if (entry->has_expiry) put_u64(entry->bytes, content->expiry_ms);
    if (inline_size > 0) memcpy(at + content->key.size, value, inline_size);
}

static uint32_t entry_create(struct keydir *keydir, const struct content *content)
{
    const uint64_t units = content_units(content);
    const uint32_t ref = slab_alloc(&keydir->slab, units * KEYDIR_ENTRY_UNIT);
    entry_fill(slab_at(&keydir->slab, ref), units, content);
    return ref;
}

static void entry_free(struct keydir *keydir, uint32_t ref)
{
    slab_free(&keydir->slab, ref, keydir_entry_capacity(slab_at(&keydir->slab, ref)));
}

/* The most frequent change: a longer value takes the place of another one. True: done, nothing had to move. */
static bool update_fixed(struct keydir_entry *entry, const struct content *content)
{
    if (content_inline_size(content) > 0) return false;
    if (keydir_entry_inline(entry) && entry->value_size > 0) return false;
    if (keydir_entry_expiry(entry) != content->expiry_ms) return false;
    entry_fix(entry, content);
    return true;
}

/* Lets the entry in @slot hold @content, in another allocation if this one does not suit. */
static void update_all(struct keydir *keydir, uint32_t *slot, const struct content *content)
{
    const uint32_t before = *slot;
    struct keydir_entry *entry = slab_at(&keydir->slab, before);
    const uint64_t old_units = keydir_entry_capacity(entry) / KEYDIR_ENTRY_UNIT;
    const uint64_t units = content_units(content);
    const uint64_t old_expiry = keydir_entry_expiry(entry);
    const bool same_expiry = old_expiry == content->expiry_ms;
    const bool is_ordered = !keydir->is_loading;
    if (is_ordered && old_expiry > 0 && !same_expiry) btree_remove(&keydir->by_expiry, before);
    if (units <= old_units && old_units - units <= SLACK_MAX) {
        entry_fill(entry, old_units, content);
    } else {
        *slot = entry_create(keydir, content);
        if (is_ordered) btree_replace(&keydir->by_key, before, *slot);
        if (is_ordered && old_expiry > 0 && same_expiry) {
            btree_replace(&keydir->by_expiry, before, *slot);
        }
    }
    if (is_ordered && content->expiry_ms > 0 && !same_expiry) {
        btree_insert(&keydir->by_expiry, *slot);
    }
    if (*slot != before) entry_free(keydir, before);
}

static void update(struct keydir *keydir, uint64_t hash, uint32_t *slot, struct content *content)
{
    struct keydir_entry *entry = slab_at(&keydir->slab, *slot);
    content->key = keydir_entry_key(entry); /* The same bytes, and surely ours. */
    const uint64_t key_hash = digest_key(content->key);
    const uint64_t old_digest = digest(entry, key_hash);
    if (!update_fixed(entry, content)) update_all(keydir, slot, content);
    digest_changed(keydir, hash, digest(slab_at(&keydir->slab, *slot), key_hash) - old_digest);
}

static void tell_dead(struct keydir_dead *dead, const struct keydir_entry *entry)
{
    if (dead == NULL) return;
    const struct keydir_info info = keydir_info(entry);
    *dead = (struct keydir_dead){
        .file = entry->file,
        .size = (uint32_t)keydir_size_on_disk(&info),
        .revision = entry->revision,
    };
}

/* An entry of the server's own comes (1) or goes (-1). */
static void count_reserved(struct keydir *keydir, const struct keydir_entry *entry, int sign)
{
    const bool is_new = sign > 0;
    keydir->reserved.count += is_new ? 1 : UINT64_MAX;
    keydir->reserved.size += is_new ? entry->value_size : 0 - (uint64_t)entry->value_size;
}

void keydir_put(struct keydir *keydir, struct slice key, struct slice value, uint32_t flags,
                uint64_t revision, uint64_t expiry_ms, struct place place, struct keydir_dead *dead)
{
    CHECK(key.size > 0);
    CHECK(key.size <= KEY_SIZE_MAX);
    CHECK(value.size <= VALUE_SIZE_MAX);
    CHECK(place.offset % PLACE_UNIT == 0);
    CHECK((flags & ~KEYDIR_FLAGS) == 0);
    struct content content = {.key = key,
                              .value = value,
                              .is_compressed = (flags & KEYDIR_COMPRESSED) != 0,
                              .revision = revision,
                              .expiry_ms = expiry_ms,
                              .place = place};
    if (dead != NULL) *dead = (struct keydir_dead){0};
    const uint64_t hash = hashdir_hash(&keydir->dir, key);
    uint32_t *slot = hashdir_find(&keydir->dir, hash, key);
    if (slot != NULL) {
        tell_dead(dead, slab_at(&keydir->slab, *slot));
        const bool is_reserved = reserved_key(key); /* It may borrow from the entry. */
        if (is_reserved) count_reserved(keydir, slab_at(&keydir->slab, *slot), -1);
        update(keydir, hash, slot, &content);
        if (is_reserved) count_reserved(keydir, slab_at(&keydir->slab, *slot), 1);
        return;
    }
    const uint32_t ref = entry_create(keydir, &content);
    hashdir_insert(&keydir->dir, hash, ref);
    digest_changed(keydir, hash, digest(slab_at(&keydir->slab, ref), digest_key(key)));
    if (reserved_key(key)) count_reserved(keydir, slab_at(&keydir->slab, ref), 1);
    if (keydir->is_loading) return;
    btree_insert(&keydir->by_key, ref);
    if (expiry_ms > 0) btree_insert(&keydir->by_expiry, ref);
}

bool keydir_expire(struct keydir *keydir, struct slice key, uint64_t revision, uint64_t expiry_ms)
{
    const uint64_t hash = hashdir_hash(&keydir->dir, key);
    uint32_t *slot = hashdir_find(&keydir->dir, hash, key);
    if (slot == NULL) return false;
    const struct keydir_info info = keydir_info(slab_at(&keydir->slab, *slot));
    struct content content = {.value = slice_of(info.inline_value.data, info.value_size),
                              .is_compressed = info.is_compressed,
                              .key = info.key,
                              .revision = revision,
                              .expiry_ms = expiry_ms,
                              .place = info.place};
    update(keydir, hash, slot, &content);
    return true;
}

bool keydir_remove(struct keydir *keydir, struct slice key, struct keydir_dead *dead)
{
    const uint64_t hash = hashdir_hash(&keydir->dir, key);
    uint32_t *slot = hashdir_find(&keydir->dir, hash, key);
    if (dead != NULL) *dead = (struct keydir_dead){0};
    if (slot == NULL) return false;
    const uint32_t ref = *slot;
    const struct keydir_entry *entry = slab_at(&keydir->slab, ref);
    tell_dead(dead, entry);
    digest_changed(keydir, hash, 0 - digest(entry, digest_key(key)));
    if (reserved_key(key)) count_reserved(keydir, entry, -1);
    hashdir_remove(&keydir->dir, hash, slot);
    if (!keydir->is_loading) btree_remove(&keydir->by_key, ref);
    if (!keydir->is_loading && entry->has_expiry) btree_remove(&keydir->by_expiry, ref);
    entry_free(keydir, ref); /* The last step: @key may borrow from it. */
    return true;
}

bool keydir_move(struct keydir *keydir, struct slice key, struct place from, struct place to)
{
    CHECK(to.offset % PLACE_UNIT == 0);
    uint32_t *slot = hashdir_find(&keydir->dir, hashdir_hash(&keydir->dir, key), key);
    if (slot == NULL) return false;
    struct keydir_entry *entry = slab_at(&keydir->slab, *slot);
    const struct place place = entry_place(entry);
    if (place.file != from.file || place.offset != from.offset) return false;
    entry->file = to.file;
    entry->offset = (to.offset / PLACE_UNIT) & 0x1FFFFFFFu;
    return true;
}

void keydir_bulk_begin(struct keydir *keydir)
{
    CHECK(!keydir->is_loading);
    keydir->is_loading = true;
    btree_close(&keydir->by_key);
    btree_close(&keydir->by_expiry);
}

static void build(struct btree *tree, uint32_t *refs, uint64_t count)
{
    keysort_run(tree->slab, tree->order, refs, count);
    btree_build(tree, refs, count);
}

void keydir_bulk_end(struct keydir *keydir)
{
    CHECK(keydir->is_loading);
    keydir->is_loading = false;
    const uint64_t count = keydir_count(keydir);
    uint32_t *refs = mem_alloc((count + 1) * sizeof *refs);
    hashdir_list(&keydir->dir, refs);
    struct buf expiring = {0}; /* uint32_t */
    for (uint64_t i = 0; i < count; i++) {
        const struct keydir_entry *entry = slab_at(&keydir->slab, refs[i]);
        if (entry->has_expiry) buf_u32(&expiring, refs[i]);
    }
    build(&keydir->by_expiry, (uint32_t *)(void *)expiring.data, expiring.size / sizeof *refs);
    buf_close(&expiring);
    build(&keydir->by_key, refs, count);
    mem_free(refs);
}

/* ---- order ----------------------------------------------------------------------------------- */

const struct keydir_entry *keydir_seek(const struct keydir *keydir, struct slice from,
                                       struct keydir_cursor *cursor)
{
    CHECK(!keydir->is_loading);
    if (from.size == 0) return btree_first(&keydir->by_key, cursor);
    return btree_seek(&keydir->by_key, from, cursor);
}

const struct keydir_entry *keydir_next(struct keydir_cursor *cursor)
{
    return btree_next(cursor);
}

const struct keydir_entry *keydir_seek_last(const struct keydir *keydir, struct slice before,
                                            struct keydir_cursor *cursor)
{
    CHECK(!keydir->is_loading);
    if (before.size == 0) return btree_last(&keydir->by_key, cursor);
    return btree_seek_before(&keydir->by_key, before, cursor);
}

const struct keydir_entry *keydir_previous(struct keydir_cursor *cursor)
{
    return btree_previous(cursor);
}

uint64_t keydir_scan(const struct keydir *keydir, uint64_t cursor, uint64_t count,
                     void (*visit)(void *context, const struct keydir_entry *entry), void *context)
{
    return hashdir_scan(&keydir->dir, cursor, count, visit, context);
}

static const struct keydir_entry *until(const struct keydir_entry *entry, uint64_t now_ms)
{
    return entry != NULL && keydir_entry_expiry(entry) <= now_ms ? entry : NULL;
}

const struct keydir_entry *keydir_expired(const struct keydir *keydir, uint64_t now_ms,
                                          struct keydir_cursor *cursor)
{
    return until(btree_first(&keydir->by_expiry, cursor), now_ms);
}

const struct keydir_entry *keydir_expired_next(struct keydir_cursor *cursor, uint64_t now_ms)
{
    return until(btree_next(cursor), now_ms);
}

uint64_t keydir_expiry_first(const struct keydir *keydir)
{
    struct keydir_cursor cursor;
    const struct keydir_entry *entry = btree_first(&keydir->by_expiry, &cursor);
    return entry != NULL ? keydir_entry_expiry(entry) : 0;
}

const struct keydir_entry *keydir_random(const struct keydir *keydir, uint64_t random)
{
    struct prng prng = prng_seed(random);
    if (keydir_count(keydir) == 0) return NULL;
    /* A slot by chance is fair but may be empty. After many removals most are: then the tree, which
     * is less fair, ends the search. */
    for (uint32_t i = 0; i < RANDOM_TRIES; i++) {
        const struct keydir_entry *entry = hashdir_sample(&keydir->dir, prng_next(&prng));
        if (entry != NULL) return entry;
    }
    return btree_random(&keydir->by_key, prng_next(&prng));
}

/* ---- check ----------------------------------------------------------------------------------- */

void keydir_check(const struct keydir *keydir)
{
    struct keydir_cursor cursor;
    uint64_t expiring = 0;
    uint64_t size = 0;
    uint64_t hash = 0;
    struct keydir_reserved reserved = {0};
    hashdir_check(&keydir->dir);
    btree_check(&keydir->by_key);
    btree_check(&keydir->by_expiry);
    slab_check(&keydir->slab);
    CHECK(keydir->by_key.count == keydir->dir.count);
    for (const struct keydir_entry *entry = btree_first(&keydir->by_key, &cursor); entry != NULL;
         entry = btree_next(&cursor)) {
        CHECK(keydir_find(keydir, keydir_entry_key(entry)) == entry);
        CHECK(entry->slack <= SLACK_MAX);
        if (entry->has_expiry) CHECK(keydir_entry_expiry(entry) > 0);
        expiring += entry->has_expiry;
        size += keydir_entry_capacity(entry);
        hash += digest(entry, digest_key(keydir_entry_key(entry)));
        reserved.count += reserved_key(keydir_entry_key(entry));
        reserved.size += reserved_key(keydir_entry_key(entry)) ? entry->value_size : 0;
    }
    CHECK(reserved.count == keydir->reserved.count);
    CHECK(reserved.size == keydir->reserved.size);
    CHECK(hash == keydir->hash);
    CHECK(expiring == keydir->by_expiry.count);
    size += keydir->dir.further_count * sizeof(struct hashdir_further);
    CHECK(size == keydir->slab.used);
    for (const struct keydir_entry *entry = btree_first(&keydir->by_expiry, &cursor); entry != NULL;
         entry = btree_next(&cursor)) {
        CHECK(keydir_find(keydir, keydir_entry_key(entry)) == entry);
    }
}
