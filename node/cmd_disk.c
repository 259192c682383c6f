/* cmd_disk.c - KV.DISK and KV.COMPACT: where the space of this node goes, and how it comes back. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "storage/store_space.h"

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
    eval_field_int(eval, "number", file->number);
    eval_field(eval, "id", id);
    eval_field(eval, "kind", file->is_table ? "table" : "segment");
    eval_field(eval, "state", state_name(file->state));
    eval_field_int(eval, "size", file->size);
    eval_field_int(eval, "used", file->used);
    eval_field_int(eval, "hint", file->hint_size);
    eval_field_int(eval, "live", file->live);
    eval_field_int(eval, "dead", file->used > file->live ? file->used - file->live : 0);
    eval_field_int(eval, "first", file->first_index);
    eval_field_int(eval, "last", file->last_index);
    eval_field_int(eval, "window", file->is_in_window);
    eval_field_int(eval, "damaged", file->is_damaged);
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
    eval_field(eval, "node", core->identity.name);
    eval_field_int(eval, "disk_bytes", store_stats(store).disk_size);
    eval_field_int(eval, "free_bytes", available);
    eval_field_int(eval, "live", compaction.live);
    eval_field_int(eval, "garbage", compaction.garbage);
    eval_field_int(eval, "compacting", compaction.is_running);
    eval_field_int(eval, "forced", compaction.is_forced);
    eval_field_int(eval, "jobs", compaction.jobs);
    eval_field_int(eval, "bytes_read", compaction.bytes_read);
    eval_field_int(eval, "bytes_written", compaction.bytes_written);
    eval_field_int(eval, "bytes_freed", compaction.bytes_freed);
    eval_field_int(eval, "total_written", compaction.total_written);
    eval_field_int(eval, "user_written", compaction.user_written);
    eval_field(eval, "write_amplification", amplification);
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
