/* cluster.h - replicas in one process: virtual disks, time in steps of a millisecond, and frames
 * that are carried one by one from the queues of one node to the links of another, where a test
 * may lose, repeat or delay them. */
#ifndef KV_TESTS_RAFT_CLUSTER_H
#define KV_TESTS_RAFT_CLUSTER_H

#include "tests/test.h"

#include <stdio.h>

#include "raft/replica_state.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"
#include "storage/effect.h"
#include "tests/sim/sim_disk.h"

#define CLUSTER_NODES_MAX 5u
#define CLUSTER_ID UINT64_C(4711)
#define CLUSTER_TOKEN UINT64_C(1147)
#define CLUSTER_ELECTION_MS 300u
#define CLUSTER_HEARTBEAT_MS 50u
#define CLUSTER_TERMS_MAX 4096u
#define CLUSTER_ENTRIES_MAX 65536u

struct packet {
    uint64_t due;
    uint64_t order;
    uint32_t from; /* places in nodes */
    uint32_t to;
    struct buf bytes;
    struct packet *next;
};

struct node {
    struct sim_disk disk;
    struct store *store;
    struct peers peers;
    struct replica *replica;
    struct link links[CLUSTER_NODES_MAX];
    bool is_up;
    bool is_frozen;
    bool is_voter; /* of the first configuration */
    uint64_t incarnation;
    uint32_t guards;
    bool has_lost;    /* it knows that it lost what it had acknowledged */
    uint64_t checked; /* committed entries up to here were compared */
    uint64_t restarts;
};

struct cluster {
    struct node nodes[CLUSTER_NODES_MAX];
    uint32_t count;
    uint64_t now;
    uint64_t order;
    struct prng prng;
    struct packet *packets;                         /* by due, then order */
    bool cut[CLUSTER_NODES_MAX][CLUSTER_NODES_MAX]; /* [from][to] */
    uint32_t drop_percent;
    uint32_t repeat_percent;
    uint64_t delay_min;
    uint64_t delay_max;
    uint64_t rate; /* bytes that one node sends to another in a millisecond; 0: all at once */
    uint64_t segment_size;
    uint64_t retention_size;
    uint64_t scrub_rate;
    /* Sees every frame before it is queued; false: it is lost. */
    bool (*filter)(struct cluster *cluster, uint32_t from, uint32_t to,
                   const struct wire_frame *frame);
    uint64_t seen[256];                    /* frames carried, by type */
    uint64_t leader_of[CLUSTER_TERMS_MAX]; /* node id that led a term */
    uint64_t committed;                    /* highest index in hashes */
    uint64_t hashes[CLUSTER_ENTRIES_MAX];  /* of committed records */
    uint64_t installs;
    enum err last_error; /* of a replica_receive */
};

static inline uint64_t cluster_id(uint32_t place)
{
    return place + 1;
}

/* @voters of the @count nodes are the first configuration; the others start blank. */
struct cluster *cluster_make(uint32_t count, uint32_t voters, uint64_t seed);
struct cluster *cluster_start(uint32_t count, uint32_t voters, uint64_t seed);
void cluster_end(struct cluster *cluster);
void cluster_up(struct cluster *cluster, uint32_t place);
/* @power: what was not synced may be lost; otherwise an orderly end. */
void cluster_down(struct cluster *cluster, uint32_t place, bool power);
void cluster_connect(struct cluster *cluster, uint32_t from, uint32_t to);
void cluster_run(struct cluster *cluster, uint64_t ms);
void cluster_tick(struct cluster *cluster);
void cluster_turn(struct cluster *cluster, uint32_t place);
void cluster_collect(struct cluster *cluster, uint32_t from);
/* Hands @bytes to the link of @to that belongs to @from, and the frame in it to the replica. */
enum err cluster_deliver(struct cluster *cluster, uint32_t from, uint32_t to, struct slice bytes);
/* Place of the leader of the highest term, or count. */
uint32_t cluster_leader(const struct cluster *cluster);
bool cluster_has_ready(const struct cluster *cluster);
/* Runs until a leader is ready and returns its place. */
uint32_t cluster_elect(struct cluster *cluster);
/* A write of @size bytes of value to one of a few keys. */
enum err cluster_submit(struct cluster *cluster, uint32_t place, uint64_t size, uint64_t *index);
/* Writes @count entries through the leader and runs until they are applied there. */
void cluster_write(struct cluster *cluster, uint32_t leader, uint32_t count, uint64_t size);
/* Runs until all nodes that are up have applied the same, for at most @ms. */
bool cluster_converge(struct cluster *cluster, uint64_t ms);
void cluster_isolate(struct cluster *cluster, uint32_t place, bool is_cut);
/* The newest configuration of @place with node @other in @role (GUARD_NO_MEMBER: without it). */
enum err cluster_change(struct cluster *cluster, uint32_t place, uint32_t other,
                        enum guard_role role);

#endif
