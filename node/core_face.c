/* core_face.c - what depends on the kind of client: when it is sent to the leader instead of being served, and when a
 * node that does not lead reads for it. */
#include <inttypes.h>
#include <stdio.h>

#include "client/slot.h"
#include "node/cmd_face.h"
#include "node/cmd_lock.h"
#include "node/cmd_txn.h"
#include "node/core_parts.h"
#include "node/manual.h"

void core_reply_error(struct session *session, const char *text)
{
    resp_put_error(&session->out, text);
    session_add_wait(session, (struct session_wait){0});
}

void core_unknown_command(struct core *core, struct session *session, const struct slice *args,
                          uint32_t count)
{
    struct buf text = {0};
    const struct slice name = args[0];
    const int name_size = name.size < 128 ? (int)name.size : 128;
    core->stats.errors_total++;
    buf_printf(&text, "ERR unknown command '%.*s', with args beginning with: ", name_size,
               (const char *)name.data);
    for (uint32_t i = 1; i < count && text.size < 256; i++) {
        const int size = args[i].size < 128 ? (int)args[i].size : 128;
        buf_printf(&text, "'%.*s' ", size, (const char *)args[i].data);
    }
    /* Clients look at how it begins. */
    if (manual_missing(name) != NULL) buf_printf(&text, "(%s)", manual_missing(name));
    buf_u8(&text, 0);
    core_reply_error(session, (const char *)text.data);
    buf_close(&text);
}

/* ---- elsewhere ------------------------------------------------------------------------------------------ */

static const char *address_for(const struct session *session, const struct peer *leader)
{
    const bool is_cluster = session->face == CORE_FACE_CLUSTER;
    return is_cluster ? leader->identity.cluster_client_address : leader->identity.client_address;
}

bool core_sends_away(const struct session *session, const struct peer *leader)
{
    if (session_is_proxy(session) || address_for(session, leader)[0] == 0) return false;
    return session->face == CORE_FACE_CLUSTER || session->redirects;
}

/* The slot that a MOVED names is that of the command's first key, 0 without keys. */
void core_reply_elsewhere(struct session *session, const struct command *command,
                          const struct slice *args, uint32_t count, const struct peer *leader)
{
    char text[ADDRESS_SIZE_MAX + 64];
    uint32_t slot = 0;
    if (command->key_first > 0 && (uint32_t)command->key_first < count) {
        slot = slot_of_key(args[command->key_first]);
    } else if (cmd_is_script(command) && count > 3 && !slice_equal(args[2], slice_text("0"))) {
        slot = slot_of_key(args[3]);
    } else if (command->function == cmd_exec_parts && count > 1 && args[1].size > 0) {
        slot = slot_of_key(args[1]);
    }
    if (session->face == CORE_FACE_CLUSTER) {
        (void)snprintf(text, sizeof text, "MOVED %u %s", slot, address_for(session, leader));
    } else {
        (void)snprintf(text, sizeof text, "REDIRECT %s", address_for(session, leader));
    }
    core_reply_error(session, text);
}

bool core_has_leader(struct core *core)
{
    const struct peer *leader = peers_find(&core->peers, core_leader_id(core));
    if (replica_role(core->shard.replica) == REPLICA_LEADER) return true;
    /* Whoever was killed is gone long before the others elect another one: nobody is sent to it meanwhile. */
    return leader != NULL && leader->is_known && leader->is_connected;
}

bool core_wants_leader(struct core *core, const struct session *session,
                       const struct command *command, const struct slice *args, uint32_t count)
{
    static const char *const maps[] = {"slots", "shards", "nodes", "info", "replicas", "slaves"};
    static const char *const masters[] = {
        "get-master-addr-by-name", "masters", "master", "replicas", "slaves", "ckquorum"};
    const bool is_cluster = command->function == cmd_cluster;
    const char *const *list = is_cluster ? maps : masters;
    const uint32_t all = is_cluster ? sizeof maps / sizeof maps[0]
                                    : sizeof masters / sizeof masters[0];
    if (count < 2 || core_has_leader(core)) return false;
    if (is_cluster && session->face != CORE_FACE_CLUSTER) return false;
    for (uint32_t i = 0; i < all; i++) {
        if (slice_equal_fold(args[1], list[i])) return true;
    }
    return false;
}

void core_node_id(const struct core *core, uint64_t node_id, char *text)
{
    (void)snprintf(text, CORE_NODE_ID_SIZE, "%016" PRIx64 "%016" PRIx64 "%08x",
                   core->identity.cluster_id, node_id, 0u);
}

/* ---- reads of nodes that do not lead ---------------------------------------------------------------------- */

bool core_reads_here(const struct session *session, const struct command *command)
{
    const uint32_t never = CMD_LEADER | CMD_ALONE;
    if (session_is_proxy(session)) return false;
    if ((command->flags & CMD_HERE) != 0) return true;
    if (!session->is_readonly || (command->flags & CMD_READ) == 0) return false;
    return (session->face == CORE_FACE_CLUSTER || session->redirects) &&
           (command->flags & never) == 0;
}

enum readindex_state core_read_state(struct core *core, struct session *session)
{
    const uint64_t applied = store_applied_index(core->shard.store);
    const bool is_begun = session->reads.ticket != 0;
    /* Reads in one pipeline, which had all arrived before the index was asked for, share it. */
    if (!is_begun && session->indexed_size > 0 && applied >= session->indexed) return READINDEX_OK;
    if (!is_begun) session->indexed_size = session_input(session);
    session->indexed = UINT64_MAX;
    const enum readindex_state state = readindex_ready(core, &session->reads);
    if (state == READINDEX_OK) session->indexed = applied;
    if (state == READINDEX_FAILED) session->indexed_size = 0;
    return state;
}
