/* stream_parts.h - the inside of streams, shared by stream.c and stream_history.c only. */
#ifndef KV_NODE_STREAM_PARTS_H
#define KV_NODE_STREAM_PARTS_H

#include "node/command.h"
#include "node/core_parts.h"
#include "node/stream.h"
#include "storage/store_past.h"

enum stream_kind { STREAM_RANGE, STREAM_KEYS, STREAM_POINT, STREAM_HISTORY };

enum stream_stage {
    STREAM_WAIT,     /* For what was acknowledged before to be applied here. */
    STREAM_OPEN,     /* For room for another view. */
    STREAM_COUNT,    /* The range is counted, */
    STREAM_ELEMENTS, /* and sent. */
    STREAM_REST,     /* Elements are missing: an error stands in their place. */
    STREAM_LOG,      /* A history: the log is read backwards. */
};

struct stream {
    enum stream_kind kind;
    enum stream_stage stage;
    struct core *core;
    bool is_parked;     /* It belongs to no session: struct core has it, */
    uint64_t parked_ms; /* since then. */
    /* What was asked for. */
    struct buf from; /* Also the key of a point or a history, */
    struct buf to;
    struct buf pattern; /* and what KEYS looks for; is_every: all. */
    bool is_every;
    bool has_slot; /* Only keys of this slot. */
    uint32_t slot;
    bool is_reverse;
    bool keys_only;
    bool count_only;
    bool tells_revision;
    bool has_at;
    uint64_t at; /* revision */
    uint64_t limit;
    uint64_t revision; /* that is shown */
    uint64_t since_ms; /* when it began to wait for room */
    uint32_t restarts;
    struct store_past *view;
    bool is_blocked;     /* a value is on its way */
    bool has_begun;      /* a part of the range was sent */
    uint64_t count;      /* elements of the range, once it is counted */
    uint64_t done;       /* elements that were sent */
    struct buf gathered; /* a reply that is not sent before it is complete */
    /* A history. */
    struct store_records records;
    uint64_t epoch;     /* of the store that they were asked of, as in struct fetches */
    uint64_t next;      /* entry to look at */
    bool is_log_opened; /* What the keydir knows was looked at. */
    bool has_below;     /* Some changes in that entry were told: all from this one on. */
    uint32_t below;
};

/* What came of a slice. */
enum stream_result {
    STREAM_MORE,  /* It goes on in a later turn: the slice is over, or something is being read. */
    STREAM_DONE,  /* The reply is complete. */
    STREAM_AGAIN, /* Go on at once with another stage. */
};

/* The stage STREAM_LOG. */
enum stream_result stream_history(struct stream *stream, struct eval *eval, int64_t *budget);
/* The reply is one error. */
enum stream_result stream_error(struct eval *eval, const char *text);
enum stream_result stream_compacted(struct stream *stream, struct eval *eval);

#endif
