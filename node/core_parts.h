/* core_parts.h - the inside of the core, shared by core.c, router.c, identity.c and the commands only. */
#ifndef KV_NODE_CORE_PARTS_H
#define KV_NODE_CORE_PARTS_H

#include "node/core.h"
#include "node/feed.h"
#include "node/identity.h"
#include "node/pubsub.h"
#include "node/locks.h"
#include "node/readindex.h"
#include "node/saver.h"
#include "node/session.h"
#include "node/shard.h"
#include "node/stream.h"
#include "raft/peer.h"
#include "storage/latency.h"

/* How much of the queue to a peer commands and replies on their way may take: the rest is for what nodes tell each
 * other, and a queue that is full breaks the connection (router.c). */
#define CORE_FORWARD_SHARE_SIZE (16u * MIB)
/* A big reply counts as this much of it, since others pass it on the way. What is held in memory has a bound of its
 * own. */
#define CORE_REPLY_SHARE_SIZE (1u * MIB)
#define CORE_REPLIES_SIZE_MAX (2u * FORWARD_REPLY_SIZE_MAX)
#define CORE_TABLE_SIZE 4096u /* chains of the session and proxy tables */

/* What commands and messages may do in one turn beside the usual, in units of some 250 ns (core.turn_work): then each
 * session runs one command, messages wait, and the next turn comes. */
#define CORE_TURN_WORK_MAX 4096u

struct command;

struct core_stats {
    uint64_t connections_total, connections_refused, commands_total, errors_total, forwarded_total;
    uint64_t forwarded_in_total, uncertain_total, parked_total, protocol_errors_total;
    uint64_t bytes_in_total, bytes_out_total, output_limit_closed, idle_closed, paused_total;
    uint64_t links_refused, turns_total;
};

/* How fast some counters grow: means since the look before, a second ago or more. */
struct core_rates {
    uint64_t at_ms;
    uint64_t commands, bytes_in, bytes_out; /* the counters then */
    uint64_t commands_s, bytes_in_s, bytes_out_s;
};

/* What was last said about a node: the same is said again only after a minute. */
struct core_said {
    uint64_t text; /* its hash; 0: nothing was said */
    uint64_t ms;
};

enum core_stage { CORE_RUNNING, CORE_HANDING_OVER, CORE_DRAINING, CORE_CLOSING, CORE_STOPPED };

struct core {
    struct config *config;
    uint64_t connection_room; /* for clients, as far as the machine goes */
    struct disk *disk;
    struct net *net;
    uint64_t seed;
    struct identity identity;
    struct peers peers;
    struct shard shard;
    struct saver saver;
    struct readindex readindex;
    struct feeds feeds;
    struct pubsub pubsub;
    /* Whom those who listen to +switch-master take for the leader; 0: nobody yet. */
    uint64_t leader_told;
    struct locks locks;
    bool started;
    bool peers_unsaved; /* what is known of the others is not on the disk as it is */
    int failed;         /* exit code */
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t started_ms;
    char run_id[41];

    struct list sessions;   /* all clients, by session.all */
    struct list proxies;    /* sessions of other nodes that we serve as leader, by session.all */
    struct list ready;      /* have input to look at, by session.ready */
    struct list dirty;      /* have released replies, by session.dirty */
    struct list waiting;    /* have waits, by session.waiting */
    struct list forwarding; /* have unanswered forwards, by session.waiting */
    struct list
        hogs; /* hold much of held_size, by session.hog, in the order in which they began to */
    struct list holding; /* have messages that wait for the end of a reply, by push.holding */
    uint64_t held_size;  /* bytes of clients' commands, taken and not answered */
    uint64_t txn_size;   /* bytes that transactions hold which are not carried out yet */
    uint64_t session_count;
    uint64_t proxy_count;
    uint32_t stream_count; /* commands that are carried out in slices, */
    struct stream
        *parked[STREAM_PARKED_MAX]; /* and pages of ranges that may be gone on with; NULL */
    uint64_t next_session_id;
    struct session *session_table[CORE_TABLE_SIZE]; /* by id; chains by table_next */
    struct session *proxy_table[CORE_TABLE_SIZE];   /* by origin node and session */
    uint64_t proxy_load
        [PEERS_MAX]; /* Bytes of replies on their way to each peer's clients, in this turn. */
    uint64_t proxy_held[PEERS_MAX]; /* The same, big replies counted in full. */
    bool replies_held;              /* Replies of proxies wait until a big one has left. */
    uint64_t forward_heard_ms;      /* Last answer of a leader to anything that was forwarded. */
    uint64_t forward_losses;        /* Times that a connection to another node broke. */
    uint32_t warm_left;             /* Commands to run before it is worth looking ahead again. */
    uint64_t turn_work;   /* What commands did in this turn that costs more than they look like. */
    uint64_t turn_served; /* Commands run in this turn, those that take long as several. */
    bool more;            /* A session has more to do than one turn allows. */
    uint64_t stranger_log_ms;              /* When a refused stranger was last logged, */
    struct core_said stranger_said;        /* and what; */
    struct core_said link_said[PEERS_MAX]; /* the same of members, as in peers, who dial us, */
    struct core_said dial_said[PEERS_MAX]; /* and whom we dial. */
    uint64_t tick_ms;                      /* Next look at timeouts. */

    struct list links; /* of struct core_link */
    uint32_t link_count;

    enum core_stage stage;
    uint64_t stage_ms; /* End of this stage at the latest. */
    struct core_stats stats;
    struct core_rates rates;
    struct latency rounds; /* Processor time of the host's rounds; short ones count together. */
};

/* An incoming connection of a peer. */
struct core_link {
    struct link link; /* first: the host knows only this */
    struct list all;
    void *connection;
    uint64_t opened_ms;
    uint64_t welcomed; /* the id of our start that its node was told */
};

/* core_session.c, core_client.c */
void core_serve_clients(struct core *core); /* parses and runs what is ready */
void core_flush_clients(struct core *core); /* sends what is released */
uint64_t core_connections_max(const struct core *core);
void core_reconfigured(struct core *core); /* the configuration was changed: it is in force */
void core_tick_clients(struct core *core); /* timeouts */
struct session *core_find_session(struct core *core, uint64_t id);
/* Large values of a write are packed before it is evaluated. False: more of that in the next turn. */
bool core_prepare(struct core *core, struct session *session, const struct command *command,
                  const struct slice *args, uint32_t count);
/* core_peer.c */
void core_tick_links(struct core *core);
void core_tick_rates(struct core *core);
void core_link_free(struct core *core, struct core_link *link);
bool core_has_link(const struct core *core, uint64_t node_id); /* its connection to us is open */

/* Goes on under a new incarnation, as after a restart: no frame of before is taken any more. Errors of the disk. */
enum err core_renew(struct core *core);
/* Saves the identity, on a full disk with the log's reserve. Errors of the disk. */
enum err core_save_identity(struct core *core);
/* Lets the next frames say which start this is. */
void core_announce_start(struct core *core);
/* Breaks our connections to the others, so that they hear who we are again. */
void core_greet_again(struct core *core);
/* Who refuses this node, or did so, and why, for people; empty: nobody. Returns how many do. */
uint32_t core_describe_refusal(const struct core *core, char *text, uint64_t size);
void core_log(struct core *core, int level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void core_mark_ready(struct core *core, struct session *session);
void core_mark_dirty(struct core *core, struct session *session);
void core_track_waits(struct core *core, struct session *session);
void core_close_session(struct core *core, struct session *session); /* at once; frees it */
/* core_face.c */
#define CORE_NODE_ID_SIZE                                                                          \
    41u /* 40 hexadecimal digits, the same on every node and as long as it is a member */
void core_node_id(const struct core *core, uint64_t node_id, char *text);
void core_reply_error(struct session *session, const char *text);
void core_unknown_command(struct core *core, struct session *session, const struct slice *args,
                          uint32_t count);
/* The client is told where the leader is, MOVED or REDIRECT, instead of being served through this node. */
bool core_sends_away(const struct session *session, const struct peer *leader);
void core_reply_elsewhere(struct session *session, const struct command *command,
                          const struct slice *args, uint32_t count, const struct peer *leader);
/* We lead, or are connected to who does. */
bool core_has_leader(struct core *core);
/* The command is about the topology, which is not known just now. */
bool core_wants_leader(struct core *core, const struct session *session,
                       const struct command *command, const struct slice *args, uint32_t count);
/* A read that this node answers although it does not lead, once core_read_state says that it may. */
bool core_reads_here(const struct session *session, const struct command *command);
enum readindex_state core_read_state(struct core *core, struct session *session);
const struct peer *
core_leader_peer(struct core *core); /* NULL: we lead, or nobody that we can reach */
uint64_t core_leader_id(const struct core *core);
const char *core_node_name(const struct core *core, uint64_t node_id); /* "" when unknown */

#endif
