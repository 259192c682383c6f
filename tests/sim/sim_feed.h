/* sim_feed.h - clients that watch keys through all faults, and what they must see.
 *
 * Each keeps one feed, on any node, goes away now and then and begins again on another node behind the last message.
 * check_feed.c holds every message, while it comes, against the committed log: exactly the changes of its range, in
 * order, none twice, none left out, what one command did in one message. When retention was faster the feed must be
 * told, and goes on behind the gap. */
#ifndef KV_TESTS_SIM_SIM_FEED_H
#define KV_TESTS_SIM_SIM_FEED_H

#include <stdbool.h>
#include <stdint.h>

#include "client/resp.h"
#include "storage/base/bytes.h"
#include "storage/base/prng.h"

struct sim;
struct sim_conn;

#define SIM_FEED_CLIENTS 3u

struct sim_feed_client {
    const char *from;  /* keys from here, included, */
    const char *to;    /* to there, not included; empty: the end */
    const char *words; /* of KV.WATCH */
    uint32_t protocol;
    struct sim_conn *conn;
    uint32_t node;
    uint64_t step;
    bool is_watching; /* KV.WATCH was answered on this connection */
    bool has_position;
    uint64_t position; /* everything up to this revision was told */
    uint64_t offset;   /* in check_past.changes: changes before it are told */
    struct buf in;
};

struct sim_feeds {
    struct sim_feed_client clients[SIM_FEED_CLIENTS];
    struct prng prng; /* its own */
    bool is_final;    /* nobody goes away any more */
    uint64_t target;  /* index up to which all must be told in the end */
    uint64_t messages, changes, resumes, gone, previous;
};

void sim_feed_init(struct sim *sim);
void sim_feed_close(struct sim *sim);
void sim_feed_start(struct sim *sim);
void sim_feed_step(struct sim *sim, uint32_t client, uint64_t step);
void sim_feed_bytes(struct sim *sim, uint32_t client, struct slice bytes);
void sim_feed_lost(struct sim *sim, uint32_t client);
/* From now on all catch up with what is committed now. */
void sim_feed_finish(struct sim *sim);
bool sim_feed_finished(struct sim *sim);

/* check_feed.c: a message with changes, the last of which has @revision; a mark that says that there are none up to
 * @revision. Fail the run when that is not so. */
void check_feed_events(struct sim *sim, struct sim_feed_client *client, uint64_t revision,
                       const struct resp_node *rows);
void check_feed_mark(struct sim *sim, struct sim_feed_client *client, uint64_t revision);

#endif
