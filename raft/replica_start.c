/* From the disk into the library; what is done once per process or per start. */
#include <stdio.h>

#include "raft/replica_state.h"
#include "storage/base/mem.h"

#define MESSAGE_SIZE 256u
/* Entries before the base are handed over only so that peers that are a little behind need no base:
 * 40 bytes each while the library starts. */
#define TRAILING_MAX 262144u

/* ---- the library's memory ------------------------------------------------------------------------ */

/* The library runs on the allocator that cannot fail: its paths for lack of memory leave state half
 * changed and were never tested by us. */
static void *heap_get(void *data, size_t size)
{
    (void)data;
    return mem_alloc(size);
}
static void *heap_zero(void *data, size_t count, size_t size)
{
    (void)data;
    CHECK(size == 0 || count <= SIZE_MAX / size);
    return mem_zero(count * size);
}
static void *heap_resize(void *data, void *pointer, size_t size)
{
    (void)data;
    return mem_resize(pointer, size);
}
static void heap_give(void *data, void *pointer)
{
    *(bool *)data = true;
    mem_free(pointer);
}
/* Only the library's own storage, which is not used, asks for aligned memory. */
static void *heap_get_aligned(void *data, size_t alignment, size_t size)
{
    (void)data;
    (void)alignment;
    (void)size;
    return NULL;
}
static void heap_give_aligned(void *data, size_t alignment, void *pointer)
{
    (void)data;
    (void)alignment;
    (void)pointer;
}

/* Does the library free the configuration of a RAFT_CONFIGURATION that it does not need? 0.22.1
 * does; its successor of the same version number and soname leaves it to the caller. */
static bool frees_configuration(bool *was_freed)
{
    struct raft raft;
    struct raft_event event;
    struct raft_update update;
    memset(&raft, 0, sizeof raft);
    memset(&event, 0, sizeof event);
    memset(&update, 0, sizeof update);
    if (raft_init(&raft, NULL, NULL, 1, "self-test") != 0) return false;
    raft.tracer = NULL;
    raft_seed(&raft, 1);
    event.type = RAFT_START;
    event.start.start_index = 1;
    const bool is_started = raft_step(&raft, &event, &update) == 0;

    memset(&event, 0, sizeof event);
    memset(&update, 0, sizeof update);
    event.type = RAFT_CONFIGURATION;
    event.configuration.index = 9;
    raft_configuration_init(&event.configuration.conf);
    bool is_freed = false;
    if (is_started &&
        raft_configuration_add(&event.configuration.conf, 1, "self-test", RAFT_VOTER) == 0) {
        *was_freed = false;
        is_freed = raft_step(&raft, &event, &update) == 0 && *was_freed;
        if (!is_freed) raft_configuration_close(&event.configuration.conf);
    }
    raft_close(&raft, NULL);
    return is_freed;
}

enum err replica_self_test(void)
{
    static bool was_freed;
    static struct raft_heap heap = {&was_freed,  heap_get,         heap_give,        heap_zero,
                                    heap_resize, heap_get_aligned, heap_give_aligned};
    raft_heap_set(&heap);
    return frees_configuration(&was_freed) ? OK : ERR_NEWER;
}

/* ---- configurations ------------------------------------------------------------------------------ */

void replica_encode_bootstrap(const struct replica_member *voters, uint32_t count, uint16_t shard,
                              struct buf *record)
{
    struct guard_configuration configuration = {.count = count};
    struct buf payload = {0};
    CHECK(count > 0);
    CHECK(count <= GUARD_MEMBERS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        configuration.members[i] = (struct guard_member){
            .id = voters[i].id, .address = voters[i].address, .role = GUARD_VOTER};
    }
    guard_encode_configuration(&configuration, &payload);
    CHECK(guard_decode_configuration(buf_slice(&payload), &configuration) == OK);
    record_encode(&(struct record){.index = 1,
                                   .term = 1,
                                   .type = RECORD_CHANGE,
                                   .shard = shard,
                                   .payload = buf_slice(&payload)},
                  record);
    buf_close(&payload);
}

void replica_configuration(const struct guard_configuration *from, struct raft_configuration *to)
{
    raft_configuration_init(to);
    for (uint32_t i = 0; i < from->count; i++) {
        const struct guard_member *member = &from->members[i];
        CHECK(raft_configuration_add(to, member->id, member->address, member->role) == 0);
    }
}

/* ---- start --------------------------------------------------------------------------------------- */

static uint32_t digits(uint64_t number)
{
    uint32_t count = 1;
    for (; number >= 10; number /= 10) count++;
    return count;
}

/* B21: the library prints its start into 64 bytes; longer numbers abort the process. */
static bool is_printable(uint64_t term, uint64_t first, uint64_t last)
{
    const uint64_t count = last + 1 - first;
    return digits(count) + digits(first) + digits(last) + 2 * digits(term) <= 48;
}

static uint64_t start_index(const struct store *store)
{
    const uint64_t base = store_base(store).index;
    const uint64_t first = store_first_index(store);
    return base > TRAILING_MAX && first < base - TRAILING_MAX ? base - TRAILING_MAX : first;
}

/* The types of entries: the library wants to know the changes, and their payload. Those up to
 * the base do not matter, the base's own configuration does. */
static enum err mark_changes(const struct replica *replica, uint64_t first, uint64_t last,
                             struct raft_entry *entries)
{
    uint64_t index = 0;
    struct slice payload;
    const uint64_t base = store_base(replica->store).index;
    uint64_t below = last;
    while (store_change_at(replica->store, below, &index, &payload) && index >= first &&
           index > base) {
        struct guard_configuration configuration;
        if (guard_decode_configuration(payload, &configuration) != OK) return ERR_CORRUPT;
        void *copy = raft_malloc(payload.size);
        memcpy(copy, payload.data, payload.size);
        entries[index - first].type = RAFT_CHANGE;
        entries[index - first].buf = (struct raft_buffer){copy, payload.size};
        below = index - 1;
    }
    return OK;
}

static struct raft_entry *load_entries(const struct replica *replica, uint64_t first, uint64_t last,
                                       enum err *err)
{
    const uint64_t count = last + 1 - first;
    struct raft_entry *entries = raft_calloc(count, sizeof *entries);
    CHECK(entries != NULL);
    for (uint64_t i = 0; i < count; i++) {
        entries[i].term = store_term_at(replica->store, first + i);
        entries[i].type = RAFT_COMMAND;
        if (entries[i].term == 0) *err = ERR_CORRUPT;
    }
    if (*err == OK) *err = mark_changes(replica, first, last, entries);
    return entries;
}

static enum err load_metadata(const struct store_base *base,
                              struct raft_snapshot_metadata *metadata)
{
    struct guard_configuration configuration;
    if (guard_decode_configuration(base->change, &configuration) != OK) return ERR_CORRUPT;
    metadata->index = base->index;
    metadata->term = base->term;
    metadata->configuration_index = base->change_index;
    replica_configuration(&configuration, &metadata->configuration);
    return OK;
}

/* W5: see guard_w05_new_term. */
static enum err renew_term(struct replica *replica)
{
    struct guard_configuration newest;
    struct slice payload;
    uint64_t index = 0;
    if (!store_change_at(replica->store, store_last_index(replica->store), &index, &payload)) {
        return OK;
    }
    if (guard_decode_configuration(payload, &newest) != OK) return ERR_CORRUPT;
    if (guard_w05_new_term(replica->config.guards, &newest, replica->config.id)) {
        store_save_ballot(replica->store, store_term(replica->store) + 1, replica->config.id);
    }
    return OK;
}

static void init_library(struct replica *replica)
{
    struct raft *raft = &replica->raft;
    memset(raft, 0, sizeof *raft); /* raft_init leaves fields as they are */
    CHECK(raft_init(raft, NULL, NULL, replica->config.id, replica->address) == 0);
    /* The default tracer formats every line, even when nobody reads it, into static memory. */
    raft->tracer = NULL;
    raft_seed(raft, replica->config.random_seed);
    raft_set_election_timeout(raft, (unsigned)replica->config.election_timeout_ms);
    raft_set_heartbeat_timeout(raft, (unsigned)replica->config.heartbeat_ms);
    /* When the offer was lost, or given up after our base moved on, it is only repeated after this. A
     * repetition while the other side is busy is dropped there. */
    raft_set_install_snapshot_timeout(raft, 10 * (unsigned)replica->config.election_timeout_ms);
    raft_set_pre_vote(raft, true);
    raft_set_max_inflight_entries(raft, APPEND_ENTRIES_MAX);
}

/* Frees what the library only read. */
static void free_entries(struct raft_entry *entries, uint64_t count, bool array_too)
{
    for (uint64_t i = 0; entries != NULL && i < count; i++) raft_free(entries[i].buf.base);
    if (array_too) raft_free(entries);
}

static enum err refuse(char *message, const char *why)
{
    snprintf(message, MESSAGE_SIZE, "the log cannot be given to the consensus library: %s", why);
    return ERR_CORRUPT;
}

enum err replica_start(struct replica *replica, char *message)
{
    struct store *store = replica->store;
    message[0] = 0;
    if (renew_term(replica) != OK) return refuse(message, "its configuration is malformed");
    const struct store_base base = store_base(store);
    const uint64_t last = store_last_index(store);
    const uint64_t first = start_index(store);
    const uint64_t count = last >= first ? last + 1 - first : 0;
    if (count > UINT32_MAX || !is_printable(store_term(store), first, last)) {
        return refuse(message, "its numbers are too large");
    }

    enum err err = OK;
    struct raft_snapshot_metadata metadata = {0};
    struct raft_event event;
    memset(&event, 0, sizeof event);
    event.type = RAFT_START;
    struct raft_entry *entries = count > 0 ? load_entries(replica, first, last, &err) : NULL;
    if (err == OK && base.index > 0) err = load_metadata(&base, &metadata);
    if (err != OK) {
        free_entries(entries, count, true);
        return refuse(message, "an entry has no term, or a configuration is malformed");
    }
    /* The library frees the array itself when it refuses; the payloads stay ours: copies of the
     * pointers are needed to free them in that case. */
    struct raft_entry *copies = mem_copy(entries, count * sizeof *entries);
    init_library(replica);
    event.start.term = store_term(store);
    event.start.voted_for = store_voted_for(store);
    event.start.metadata = base.index > 0 ? &metadata : NULL;
    event.start.start_index = first;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)count;
    const int rv = replica_step(replica, &event, &(struct replica_source){0});
    free_entries(copies, count, false);
    mem_free(copies);
    if (rv != 0) {
        snprintf(message, MESSAGE_SIZE, "the consensus library refused the log: %s",
                 raft_strerror(rv));
        return ERR_CORRUPT;
    }
    raft_free(entries);
    return OK;
}
