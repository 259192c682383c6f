/* recover_walk.h - one unsealed file at a start: its groups, and what follows the last intact one. */
#ifndef KV_STORAGE_RECOVER_WALK_H
#define KV_STORAGE_RECOVER_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/base/bytes.h"
#include "storage/disk.h"
#include "storage/segment.h"

/* What follows the last intact group of a file. */
enum rest {
    REST_CLEAN,    /* zeros, or the end of the file */
    REST_TORN,     /* a group of which whole sectors are missing, or that has no header */
    REST_SUSPECT,  /* a group that is all there and yet wrong */
    REST_DAMAGED,  /* a valid group header behind it proves that it was once durable */
    REST_FOLLOWED, /* so does something behind it that is damaged itself */
};

/* One unsealed file, as its bytes are. */
struct recover_file {
    uint32_t number;
    disk_file handle;
    struct segment_header header;
    uint32_t groups;      /* intact, linked, from the start */
    uint64_t end;         /* offset behind the last of them */
    uint64_t last_offset; /* of the last of them */
    uint64_t last_link;   /* what it links to */
    uint64_t last_chain;  /* its chain, low half */
    uint64_t first_link;  /* what the first of them links to */
    uint64_t last_index;  /* of the log, as the last of them says */
    bool last_is_mark;
    enum rest rest;
    uint64_t rest_size; /* up to the last byte that is not zero */
    bool rest_has_link; /* the torn group's header is intact and links to: */
    uint64_t rest_link;
    uint64_t proof_offset; /* REST_DAMAGED, REST_FOLLOWED: of the group behind, */
    uint64_t proof_index;  /* REST_DAMAGED: and the durable index that it states */
};

/* Fills in what the bytes of @file, from its header on, say. Its own header is known. */
void recover_walk(struct recover_file *file, struct slice bytes);

#endif
