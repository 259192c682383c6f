/* cmd_check.c - KV.CHECK: the newest comparison of the nodes' states, and beginning one. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"

static const char *result_of(const struct audit_round *round)
{
    if (round->number == 0) return "none";
    if (round->is_running) return "running";
    if (round->different > 0) return "different";
    return round->unanswered > 0 ? "incomplete" : "equal";
}

static const char *result_of_node(const struct audit_round *round, const struct audit_answer *one)
{
    if (!one->is_here) return round->is_running && one->is_asked ? "running" : "silent";
    if (one->recount == AUDIT_WRONG) return "different";
    if (!one->is_known) return "unknown";
    if (round->is_running) return "answered";
    const uint64_t expected = round->has_majority ? round->hash
                                                  : round->answers[round->count - 1].hash;
    return one->hash == expected ? "equal" : "different";
}

static void put_node(struct eval *eval, const struct audit_round *round,
                     const struct audit_answer *one)
{
    static const char *const recounts[] = {"none", "right", "wrong"};
    char hash[20] = "";
    if (one->is_known) (void)snprintf(hash, sizeof hash, "%016" PRIx64, one->hash);
    resp_put_array(eval->out, 4);
    resp_put_text(eval->out, core_node_name(eval->core, one->node_id));
    resp_put_text(eval->out, result_of_node(round, one));
    resp_put_text(eval->out, hash);
    resp_put_text(eval->out, recounts[one->recount]);
}

/* KV.CHECK [START]: with START a comparison begins, with a recount on every node, unless one is running. Either way
 * the reply tells of the newest one: number, index, result ("running" until it is over), and for each node its name,
 * result, state hash and recount. */
void cmd_kv_check(struct eval *eval)
{
    struct shard *shard = eval->shard;
    const struct audit_round *round = &shard->audit.round;
    if (eval->count > 2 || (eval->count == 2 && !slice_equal_fold(eval->args[1], "start"))) {
        eval_error(eval, "ERR syntax error: KV.CHECK [START]");
        return;
    }
    if (eval->count == 2) (void)audit_begin(shard, true, eval->core->now_ms);
    eval->is_free = true;
    resp_put_map(eval->out, 4, eval->protocol);
    resp_put_text(eval->out, "round");
    resp_put_int(eval->out, (int64_t)round->number);
    resp_put_text(eval->out, "index");
    resp_put_int(eval->out, (int64_t)round->index);
    resp_put_text(eval->out, "result");
    resp_put_text(eval->out, result_of(round));
    resp_put_text(eval->out, "nodes");
    resp_put_array(eval->out, round->count);
    for (uint32_t i = 0; i < round->count; i++) put_node(eval, round, &round->answers[i]);
}
