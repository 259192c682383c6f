/* cmd_backup.c - KV.INDEX and KV.BACKUP: what kvctl backup save is made of. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "storage/base/check.h"

/* The newest entry that the leader has applied. As a linearizable read: everything that was acknowledged before this
 * command came is in the log up to there. */
void cmd_kv_index(struct eval *eval)
{
    resp_put_int(eval->out, (int64_t)store_applied_index(eval->shard->store));
}

/* File ids have 64 bits, which no integer of the protocol has: 16 hexadecimal digits. */
static bool file_at(struct eval *eval, uint32_t at, uint64_t *file_id)
{
    const struct slice text = eval->args[at];
    *file_id = 0;
    for (uint64_t i = 0; i < text.size; i++) {
        const uint8_t byte = text.data[i];
        const bool digit = byte >= '0' && byte <= '9';
        const bool letter = byte >= 'a' && byte <= 'f';
        if (text.size != 16 || (!digit && !letter)) break;
        *file_id = *file_id << 4 | (uint64_t)(digit ? byte - '0' : byte - 'a' + 10);
        if (i == 15) return true;
    }
    eval_error(eval, "ERR a file is named by its id: 16 hexadecimal digits");
    return false;
}

static void put_hex(struct eval *eval, const char *name, uint64_t number)
{
    char text[20];
    (void)snprintf(text, sizeof text, "%016" PRIx64, number);
    resp_put_text(eval->out, name);
    resp_put_text(eval->out, text);
}

static void put_number(struct eval *eval, const char *name, uint64_t number)
{
    resp_put_text(eval->out, name);
    resp_put_int(eval->out, (int64_t)number);
}

static void put_begun(struct eval *eval, const struct saver_backup *backup)
{
    const struct core *core = eval->core;
    resp_put_map(eval->out, 8, eval->protocol);
    put_number(eval, "id", backup->id);
    resp_put_text(eval->out, "node");
    resp_put_text(eval->out, core->identity.name);
    put_hex(eval, "node_id", core->identity.node_id);
    put_hex(eval, "cluster_id", core->identity.cluster_id);
    put_number(eval, "index", backup->manifest.base_index);
    put_number(eval, "stamp", backup->manifest.stamp_ms);
    put_number(eval, "size", manifest_files_size(&backup->manifest));
    resp_put_text(eval->out, "manifest");
    resp_put_bulk(eval->out, buf_slice(&backup->bytes));
}

static void backup_begin(struct eval *eval)
{
    struct core *core = eval->core;
    const struct saver_backup *backup = NULL;
    uint64_t index = 0;
    if (!eval_uint(eval, 2, &index)) return;
    if (replica_installing(eval->shard->replica) || core_quarantined(core)) {
        eval_error(eval, "ERR this node is not whole, it receives what it lacks: ask another one");
        return;
    }
    const enum err err = saver_begin(&core->saver, eval->shard->store, eval->session->id, index,
                                     core->now_ms, &backup);
    switch (err) {
    case OK: put_begun(eval, backup); return;
    case ERR_AGAIN: eval->is_later = true; return;
    case ERR_FULL:
        eval_error(eval, "ERR this node serves as many backups as it can: ask another one, or "
                         "later");
        return;
    default:
        eval_error(eval, "ERR this node could not seal its log up to that index in time: its disk "
                         "is full, or it lags behind");
    }
}

static void backup_read(struct eval *eval)
{
    struct core *core = eval->core;
    struct slice data;
    uint64_t id = 0;
    uint64_t file_id = 0;
    uint64_t offset = 0;
    uint64_t size = 0;
    if (!eval_uint(eval, 2, &id) || !file_at(eval, 3, &file_id)) return;
    if (!eval_uint(eval, 4, &offset) || !eval_uint(eval, 5, &size)) return;
    if (size == 0 || size > SAVER_READ_SIZE_MAX) {
        eval_error(eval, "ERR a piece has 1 to 1048576 bytes");
        return;
    }
    const enum err err = saver_read(&core->saver, eval->shard->store, id, file_id, offset, size,
                                    core->now_ms, &data);
    switch (err) {
    case OK: resp_put_bulk(eval->out, data); return;
    case ERR_AGAIN: eval->is_later = true; return;
    case ERR_NOT_FOUND:
        eval_error(eval, "NOBACKUP there is no such backup or file: it ended, or its files could "
                         "not be kept any longer; begin again");
        return;
    default: {
        char text[128];
        (void)snprintf(text, sizeof text, "ERR a file of this node cannot be read: %s",
                       err_name(err));
        eval_error(eval, text);
    }
    }
}

void cmd_kv_backup(struct eval *eval)
{
    struct core *core = eval->core;
    const struct slice what = eval->args[1];
    uint64_t id = 0;
    if (slice_equal_fold(what, "begin") && eval->count == 3) {
        backup_begin(eval);
    } else if (slice_equal_fold(what, "read") && eval->count == 6) {
        backup_read(eval);
    } else if (slice_equal_fold(what, "end") && eval->count == 3) {
        if (!eval_uint(eval, 2, &id)) return;
        if (saver_end(&core->saver, eval->shard->store, id) == OK) {
            eval_ok(eval);
        } else {
            eval_error(eval, "NOBACKUP there is no such backup: it has ended");
        }
    } else {
        eval_syntax_error(eval);
    }
}
