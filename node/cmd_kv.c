/* cmd_kv.c - our own commands: revisions, ordered ranges, and the cluster as kvctl and libkvclient see it. */
#include <inttypes.h>
#include <stdio.h>

#include "node/command.h"
#include "node/core_parts.h"
#include "node/eval_nested.h"
#include "node/status.h"
#include "storage/base/check.h"

/* ---- keys --------------------------------------------------------------------------------------------------- */

void cmd_kv_get(struct eval *eval)
{
    struct slice value;
    uint64_t revision = 0;
    if (eval->count > 2) {
        eval_error(eval, "ERR AT is not possible in a transaction");
        return;
    }
    struct item item = eval_find(eval, eval->args[1]);
    if (!item.exists) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    if (!eval_revision(eval, &item, &revision)) return;
    if (!eval_value(eval, &item, &value)) return;
    resp_put_array(eval->out, 3);
    eval_reply(eval, value);
    resp_put_int(eval->out, (int64_t)revision);
    resp_put_int(eval->out, eval_ttl(eval, item.expiry_ms));
}

void cmd_kv_history(struct eval *eval)
{
    eval_error(eval, "ERR KV.HISTORY cannot be part of another command");
}

struct range {
    struct eval *eval;
    struct slice from;
    struct slice to;
    uint64_t limit;
    bool reverse;
    bool keys_only;
    struct buf out;
    uint64_t count;
    uint64_t bytes_max;
};

static bool range_options(struct eval *eval, struct range *range)
{
    for (uint32_t i = 3; i < eval->count; i++) {
        uint64_t limit = 0;
        if (slice_equal_fold(eval->args[i], "limit") && i + 1 < eval->count) {
            if (!eval_uint(eval, ++i, &limit)) return false;
            if (limit > 0) range->limit = limit;
        } else if (slice_equal_fold(eval->args[i], "reverse")) {
            range->reverse = true;
        } else if (slice_equal_fold(eval->args[i], "keys")) {
            range->keys_only = true;
        } else if (slice_equal_fold(eval->args[i], "at") ||
                   slice_equal_fold(eval->args[i], "count") ||
                   slice_equal_fold(eval->args[i], "revision")) {
            eval_error(eval, "ERR AT, COUNT and REVISION are not possible in a transaction");
            return false;
        } else {
            eval_syntax_error(eval);
            return false;
        }
    }
    return true;
}

static bool range_add(struct range *range, const struct keydir_entry *entry)
{
    const struct keydir_info info = keydir_info(entry);
    struct slice value;
    if (info.expiry_ms != 0 && info.expiry_ms <= range->eval->gone_ms) {
        eval_note_expired(range->eval, &info);
        return true;
    }
    range->count++;
    if (range->keys_only) {
        resp_put_bulk(&range->out, info.key);
        return true;
    }
    if (!eval_entry_value(range->eval, entry, &value)) return eval_wants_more(range->eval);
    if (range->eval->waits) return true; /* It goes on only to ask for what else is missing. */
    resp_put_array(&range->out, 3);
    resp_put_bulk(&range->out, info.key);
    resp_put_bulk(&range->out, value);
    resp_put_int(&range->out, (int64_t)info.revision);
    return true;
}

static bool range_walk(struct range *range)
{
    struct keydir_cursor cursor;
    const struct keydir *keys = store_keys(range->eval->shard->store);
    const struct keydir_entry *entry = range->reverse ? keydir_seek_last(keys, range->to, &cursor)
                                                      : keydir_seek(keys, range->from, &cursor);
    while (entry != NULL && range->count < range->limit) {
        const struct slice key = keydir_info(entry).key;
        if (range->reverse && slice_compare(key, range->from) < 0) break;
        if (!range->reverse && range->to.size > 0 && slice_compare(key, range->to) >= 0) break;
        if (!eval_may_walk(range->eval, 1) || !range_add(range, entry)) return false;
        if (range->out.size > range->bytes_max) {
            eval_error(range->eval, "TOOBIG the reply would be too long: ask with a smaller LIMIT");
            return false;
        }
        entry = range->reverse ? keydir_previous(&cursor) : keydir_next(&cursor);
    }
    return true;
}

void cmd_kv_range(struct eval *eval)
{
    struct range range = {.eval = eval,
                          .from = eval->args[1],
                          .to = eval->args[2],
                          .limit = UINT64_MAX,
                          .bytes_max = eval->shard->config->output_limit_size};
    if (!range_options(eval, &range)) return;
    if (range_walk(&range)) {
        resp_put_array(eval->out, range.count);
        buf_append(eval->out, range.out.data, range.out.size);
    }
    buf_close(&range.out);
}

/* ---- the cluster ---------------------------------------------------------------------------------------------- */

void cmd_kv_status(struct eval *eval)
{
    struct status status;
    status_of(eval->core, &status);
    resp_put_map(eval->out, 15, eval->protocol);
    eval_field(eval, "name", status.name);
    eval_field(eval, "id", status.id);
    eval_field(eval, "role", status.role);
    eval_field(eval, "leader", status.leader);
    eval_field_int(eval, "term", status.term);
    eval_field_int(eval, "committed", status.committed);
    eval_field_int(eval, "applied", status.applied);
    eval_field_int(eval, "last", status.last);
    eval_field_int(eval, "keys", status.keys);
    eval_field_int(eval, "disk_bytes", status.disk_size);
    eval_field(eval, "version", status.version);
    eval_field(eval, "health", status.health);
    eval_field(eval, "client", status.client);
    eval_field(eval, "peer", status.peer);
    eval_field(eval, "cluster", status.cluster);
}

void cmd_kv_leader(struct eval *eval)
{
    const struct core *core = eval->core;
    const uint64_t leader = core_leader_id(core);
    const struct peer *peer = peers_find(&eval->core->peers, leader);
    if (leader == 0 || (leader != core->identity.node_id && peer == NULL)) {
        resp_put_null_array(eval->out, eval->protocol);
        return;
    }
    resp_put_array(eval->out, 2);
    resp_put_text(eval->out, core_node_name(core, leader));
    resp_put_text(eval->out,
                  peer != NULL ? peer->identity.client_address : core->peers.self.client_address);
}

static void put_row(struct eval *eval, const struct peer_identity *identity, bool is_voter,
                    bool is_connected)
{
    char id[20];
    (void)snprintf(id, sizeof id, "%016" PRIx64, identity->node_id);
    resp_put_array(eval->out, 6);
    resp_put_text(eval->out, identity->name);
    resp_put_text(eval->out, id);
    resp_put_text(eval->out, identity->peer_address);
    resp_put_text(eval->out, identity->client_address);
    resp_put_text(eval->out, is_voter ? "voter" : "learner");
    resp_put_int(eval->out, is_connected ? 1 : 0);
}

void cmd_kv_members(struct eval *eval)
{
    struct core *core = eval->core;
    struct replica_member members[PEERS_MAX + 1];
    uint32_t count = replica_members(core->shard.replica, members, PEERS_MAX + 1);
    /* Without a log, as in a quarantine, the members are those of the beginning. */
    for (uint32_t i = 0; count == 0 && i < core->identity.member_count; i++) {
        const struct identity_member *first = &core->identity.members[i];
        members[i] = (struct replica_member){
            .id = first->id, .address = first->address, .is_voter = true};
    }
    if (count == 0) count = core->identity.member_count;
    resp_put_array(eval->out, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *peer = peers_find(&core->peers, members[i].id);
        struct peer_identity stranger = {.node_id = members[i].id};
        if (members[i].id == core->identity.node_id) {
            put_row(eval, &core->peers.self, members[i].is_voter, true);
        } else if (peer != NULL) {
            put_row(eval, &peer->identity, members[i].is_voter, peer->is_connected);
        } else {
            (void)snprintf(stranger.peer_address, sizeof stranger.peer_address, "%s",
                           members[i].address);
            put_row(eval, &stranger, members[i].is_voter, false);
        }
    }
}

void cmd_kv_transfer(struct eval *eval)
{
    struct core *core = eval->core;
    uint64_t target = 0;
    if (eval->count > 2) {
        eval_error(eval, "ERR wrong number of arguments for 'kv.transfer' command");
        return;
    }
    if (eval->count == 2) {
        for (uint32_t i = 0; i < core->peers.count; i++) {
            const struct peer_identity *identity = &core->peers.list[i].identity;
            if (slice_equal(eval->args[1], slice_text(identity->name))) target = identity->node_id;
        }
        if (slice_equal(eval->args[1], slice_text(core->identity.name))) {
            eval_ok(eval); /* It leads already. */
            return;
        }
        if (target == 0) {
            eval_error(eval, "ERR no member has this name");
            return;
        }
    } else if (core->peers.count == 0) {
        eval_error(eval, "ERR there is no other member");
        return;
    }
    shard_want_transfer(eval->shard, target, core->now_ms);
    /* Who waited for a read round would, more often than not, be told that leadership was lost and nothing happened,
     * and a follower would ask the next leader to hand over as well. */
    eval->is_free = true;
    eval_ok(eval);
}
