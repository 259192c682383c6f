/* cmd_disk.c - KV.DISK and KV.COMPACT: where the space of this node goes, and how it comes back. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "storage/store_space.h"

static void put_field(struct eval *eval, const char *name, const char *value)
{
    resp_put_text(eval->out, name);
    resp_put_text(eval->out, value);
}

static void put_number(struct eval *eval, const char *name, uint64_t value)
{
    resp_put_text(eval->out, name);
    resp_put_int(eval->out, (int64_t)value);
}

static const char *state_name(enum store_file_state state)
{
    switch (state) {
    case STORE_FILE_ACTIVE: return "active";
    case STORE_FILE_SEALED: return "sealed";
    case STORE_FILE_MAKING: return "making";
    case STORE_FILE_RETIRED: return "retired";
    case STORE_FILE_SPARE: return "spare";
    }
    UNREACHABLE();
}

struct listing {
    struct eval *eval;
    bool is_counting; /* The length of an array comes before it. */
    uint64_t count;
};

static void list_file(void *context, const struct store_file *file)
{
    struct listing *listing = context;
    struct eval *eval = listing->eval;
    char id[20];
    listing->count++;
    if (listing->is_counting) return;
    (void)snprintf(id, sizeof id, "%016" PRIx64, file->file_id);
    resp_put_map(eval->out, 13, eval->protocol);
    put_number(eval, "number", file->number);
    put_field(eval, "id", id);
    put_field(eval, "kind", file->is_table ? "table" : "segment");
    put_field(eval, "state", state_name(file->state));
    put_number(eval, "size", file->size);
    put_number(eval, "used", file->used);
    put_number(eval, "hint", file->hint_size);
    put_number(eval, "live", file->live);
    put_number(eval, "dead", file->used > file->live ? file->used - file->live : 0);
    put_number(eval, "first", file->first_index);
    put_number(eval, "last", file->last_index);
    put_number(eval, "window", file->is_in_window);
    put_number(eval, "damaged", file->is_damaged);
}

void cmd_kv_disk(struct eval *eval)
{
    struct core *core = eval->core;
    struct store *store = eval->shard->store;
    const struct store_compaction compaction = store_compaction(store);
    uint64_t available = 0;
    if (core->disk->space(core->disk->context, &available) != OK) available = 0;
    char amplification[24];
    store_amplification(&compaction, amplification);
    resp_put_map(eval->out, 15, eval->protocol);
    put_field(eval, "node", core->identity.name);
    put_number(eval, "disk_bytes", store_stats(store).disk_size);
    put_number(eval, "free_bytes", available);
    put_number(eval, "live", compaction.live);
    put_number(eval, "garbage", compaction.garbage);
    put_number(eval, "compacting", compaction.is_running);
    put_number(eval, "forced", compaction.is_forced);
    put_number(eval, "jobs", compaction.jobs);
    put_number(eval, "bytes_read", compaction.bytes_read);
    put_number(eval, "bytes_written", compaction.bytes_written);
    put_number(eval, "bytes_freed", compaction.bytes_freed);
    put_number(eval, "total_written", compaction.total_written);
    put_number(eval, "user_written", compaction.user_written);
    put_field(eval, "write_amplification", amplification);
    resp_put_text(eval->out, "files");
    struct listing listing = {.eval = eval, .is_counting = true};
    store_files(store, list_file, &listing);
    resp_put_array(eval->out, listing.count);
    listing.is_counting = false;
    store_files(store, list_file, &listing);
}

void cmd_kv_compact(struct eval *eval)
{
    store_compact(eval->shard->store);
    eval_ok(eval);
}
