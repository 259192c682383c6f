/* cmd_wait.c - waiting until followers have what this connection wrote. What a node acknowledges is synced on its
 * disk, so that WAIT promises here what WAITAOF does in Redis. */
#include "node/cmd_key.h"
#include "node/command.h"
#include "node/core_parts.h"
#include "node/shard.h"

/* Other members whose disks have everything up to @index. */
static int64_t count_of(const struct eval *eval, uint64_t index)
{
    const struct core *core = eval->core;
    int64_t count = 0;
    for (uint32_t i = 0; i < core->peers.count; i++) {
        const uint64_t id = core->peers.list[i].identity.node_id;
        count += replica_match(eval->shard->replica, id) >= index;
    }
    return count;
}

/* True: the wait is over, @count members have it. */
static bool is_over(struct eval *eval, int64_t wanted, int64_t timeout_ms, int64_t *count)
{
    struct session *session = eval->session;
    struct session_acks *acks = &session->acks;
    const struct batches *batches = &eval->shard->batches;
    const uint64_t applied = store_applied_index(eval->shard->store);
    if (eval->whole != NULL) { /* In a transaction nothing waits. */
        *count = count_of(eval, applied);
        return true;
    }
    if (!acks->is_begun) {
        *acks = (struct session_acks){
            .is_begun = true,
            .batch = batches->open->number - (batches_open_empty(batches) ? 1 : 0),
            .until_ms = timeout_ms > 0 ? eval->core->now_ms + (uint64_t)timeout_ms : UINT64_MAX,
        };
    }
    /* What this connection wrote so far is applied then, also what it wrote through another leader. */
    if (acks->index == 0 && batches->retired_number >= acks->batch) acks->index = applied;
    *count = acks->index > 0 ? count_of(eval, acks->index) : 0;
    if (acks->index > 0 && *count >= wanted) return true;
    if (eval->core->now_ms >= acks->until_ms) return true;
    eval->waits = true;
    return false;
}

static bool parse_timeout(struct eval *eval, uint32_t at, int64_t *timeout_ms)
{
    if (!slice_int64(eval->args[at], timeout_ms)) {
        eval_error(eval, "ERR timeout is not an integer or out of range");
    } else if (*timeout_ms < 0) {
        eval_error(eval, "ERR timeout is negative");
    } else if (*timeout_ms > INT64_MAX - (int64_t)eval->core->wall_ms) {
        eval_error(eval, "ERR timeout is out of range");
    } else {
        return true;
    }
    return false;
}

void cmd_wait(struct eval *eval)
{
    int64_t wanted = 0;
    int64_t timeout_ms = 0;
    int64_t count = 0;
    if (!eval_int(eval, 1, &wanted) || !parse_timeout(eval, 2, &timeout_ms)) return;
    if (is_over(eval, wanted, timeout_ms, &count)) resp_put_int(eval->out, count);
}

void cmd_waitaof(struct eval *eval)
{
    int64_t local = 0;
    int64_t wanted = 0;
    int64_t timeout_ms = 0;
    int64_t count = 0;
    if (!eval_int(eval, 1, &local)) return;
    if (local < 0 || local > 1) {
        eval_error(eval, "ERR value is out of range, value must between 0 and 1");
        return;
    }
    if (!eval_int(eval, 2, &wanted)) return;
    if (wanted < 0) {
        eval_error(eval, "ERR value is out of range, must be positive");
        return;
    }
    if (!parse_timeout(eval, 3, &timeout_ms)) return;
    if (!is_over(eval, wanted, timeout_ms, &count)) return;
    /* Here it is: nothing is applied before it is synced on this node's own disk. */
    resp_put_array(eval->out, 2);
    resp_put_int(eval->out, 1);
    resp_put_int(eval->out, count);
}
