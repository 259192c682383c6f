#include "node/identity.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define IDENTITY_MAGIC 0x79746E6564496B76u /* "vkIdenty" */
#define PEERS_MAGIC 0x7372656570566Bu
#define IDENTITY_VERSION 3u
#define PEERS_VERSION 2u
#define IDENTITY_FILE_MAX (64u * KIB)
#define FRAME_HEADER_SIZE 16u
#define FRAME_CHECKSUM_SIZE 8u
#define PEER_ROW_SIZE 32u
#define PEER_ROW_OLD_SIZE 24u /* of version 1 */
#define FOLDER "shard-0000"

enum flag {
    FLAG_BEGUN = 1,
    FLAG_UNFINISHED = 2,
    FLAG_ACCEPTED = 4,
    FLAG_OUTDATED = 8,
};

static void seal(struct buf *out)
{
    put_u32(out->data + 12, (uint32_t)(out->size + FRAME_CHECKSUM_SIZE));
    buf_u64(out, hash64(out->data, out->size));
}

static void begin(struct buf *out, uint64_t magic, uint32_t version)
{
    buf_u64(out, magic);
    buf_u32(out, version);
    buf_u32(out, 0);
}

/* Verifies the frame of a whole file; @body: what is between its header and its checksum. */
static enum err open_frame(struct slice bytes, uint64_t magic, uint32_t newest, uint32_t *version,
                           struct slice *body)
{
    const uint64_t frame = FRAME_HEADER_SIZE + FRAME_CHECKSUM_SIZE;
    if (bytes.size < frame || bytes.size > IDENTITY_FILE_MAX) return ERR_CORRUPT;
    const uint64_t covered = bytes.size - FRAME_CHECKSUM_SIZE;
    if (get_u64(bytes.data) != magic) return ERR_CORRUPT;
    if (get_u32(bytes.data + 12) != bytes.size) return ERR_CORRUPT;
    if (get_u64(bytes.data + covered) != hash64(bytes.data, covered)) return ERR_CORRUPT;
    *version = get_u32(bytes.data + 8);
    if (*version > newest) return ERR_NEWER;
    if (*version == 0) return ERR_CORRUPT;
    *body = slice_of(bytes.data + FRAME_HEADER_SIZE, bytes.size - frame);
    return OK;
}

static void say_refused(const char *name, enum err err, char *message)
{
    (void)snprintf(message, 512, "file %s: %s; %s", name, err_name(err),
                   err == ERR_NEWER ? "nothing was changed: start the newer program that wrote it"
                                    : ADVICE_DAMAGED);
}

static bool read_text(struct reader *reader, char *text, uint64_t size)
{
    const struct slice bytes = reader_sized(reader);
    if (reader->bad || bytes.size >= size) return false;
    memcpy(text, bytes.data, bytes.size);
    text[bytes.size] = 0;
    return true;
}

static uint32_t flags_of(uint32_t version)
{
    if (version == 1) return FLAG_BEGUN;
    if (version == 2) return FLAG_BEGUN | FLAG_UNFINISHED;
    return FLAG_BEGUN | FLAG_UNFINISHED | FLAG_ACCEPTED | FLAG_OUTDATED;
}

/* The start that is announced, and those before it. */
static bool read_starts(struct reader *reader, struct identity *identity)
{
    const uint32_t count = reader_u32(reader);
    const uint32_t zero = reader_u32(reader);
    if (reader->bad || zero != 0 || count == 0 || count > PEER_STARTS_MAX + 1) return false;
    identity->start_id = reader_u64(reader);
    identity->past_count = count - 1;
    for (uint32_t i = 0; i < identity->past_count; i++) identity->past[i] = reader_u64(reader);
    return !reader->bad;
}

static enum err decode_body(struct slice body, uint32_t version, struct identity *identity)
{
    struct reader reader = reader_of(body);
    identity->cluster_id = reader_u64(&reader);
    identity->node_id = reader_u64(&reader);
    identity->directory_id = reader_u64(&reader);
    identity->incarnation = reader_u64(&reader);
    const uint32_t flags = reader_u32(&reader);
    identity->is_begun = (flags & FLAG_BEGUN) != 0;
    identity->is_unfinished = (flags & FLAG_UNFINISHED) != 0;
    identity->is_accepted = (flags & FLAG_ACCEPTED) != 0;
    identity->is_outdated = (flags & FLAG_OUTDATED) != 0;
    identity->member_count = reader_u32(&reader);
    if (flags > flags_of(version)) return ERR_CORRUPT;
    identity->storage_id = version == 1 ? identity->cluster_id : reader_u64(&reader);
    if (reader.bad || identity->member_count > PEERS_MAX + 1) return ERR_CORRUPT;
    for (uint32_t i = 0; i < identity->member_count; i++) {
        struct identity_member *member = &identity->members[i];
        member->id = reader_u64(&reader);
        if (!read_text(&reader, member->name, sizeof member->name)) return ERR_CORRUPT;
        if (!read_text(&reader, member->address, sizeof member->address)) return ERR_CORRUPT;
    }
    if (!read_text(&reader, identity->name, sizeof identity->name)) return ERR_CORRUPT;
    if (version > 2 && !read_starts(&reader, identity)) return ERR_CORRUPT;
    return reader.bad || reader.at != reader.end ? ERR_CORRUPT : OK;
}

enum err identity_decode(struct slice bytes, struct identity *identity)
{
    uint32_t version = 0;
    struct slice body;
    *identity = (struct identity){0};
    const enum err err = open_frame(bytes, IDENTITY_MAGIC, IDENTITY_VERSION, &version, &body);
    return err == OK ? decode_body(body, version, identity) : err;
}

static void encode(const struct identity *identity, struct buf *out)
{
    uint32_t flags = 0;
    if (identity->is_begun) flags |= FLAG_BEGUN;
    if (identity->is_unfinished) flags |= FLAG_UNFINISHED;
    if (identity->is_accepted) flags |= FLAG_ACCEPTED;
    if (identity->is_outdated) flags |= FLAG_OUTDATED;
    begin(out, IDENTITY_MAGIC, IDENTITY_VERSION);
    buf_u64(out, identity->cluster_id);
    buf_u64(out, identity->node_id);
    buf_u64(out, identity->directory_id);
    buf_u64(out, identity->incarnation);
    buf_u32(out, flags);
    buf_u32(out, identity->member_count);
    buf_u64(out, identity->storage_id);
    for (uint32_t i = 0; i < identity->member_count; i++) {
        buf_u64(out, identity->members[i].id);
        buf_sized(out, slice_text(identity->members[i].name));
        buf_sized(out, slice_text(identity->members[i].address));
    }
    buf_sized(out, slice_text(identity->name));
    buf_u32(out, identity->past_count + 1);
    buf_u32(out, 0);
    buf_u64(out, identity->start_id);
    for (uint32_t i = 0; i < identity->past_count; i++) buf_u64(out, identity->past[i]);
    seal(out);
}

static uint64_t non_zero(uint64_t id)
{
    id &= INT64_MAX; /* Fits every client's integers. */
    return id != 0 ? id : 1;
}

static void add_member(struct identity *identity, const struct config *config, uint64_t origin,
                       const char *name, const char *address)
{
    struct buf text = {0};
    struct identity_member *member = &identity->members[identity->member_count++];
    buf_sized(&text, slice_text(config->cluster_token));
    buf_sized(&text, slice_text(name));
    buf_sized(&text, slice_text(address));
    member->id = non_zero(hash64_seeded(text.data, text.size, origin));
    (void)snprintf(member->name, sizeof member->name, "%s", name);
    (void)snprintf(member->address, sizeof member->address, "%s", address);
    if (strcmp(name, config->name) == 0) identity->node_id = member->id;
    identity->cluster_id = hash64_seeded(text.data, text.size, identity->cluster_id);
    buf_close(&text);
}

enum err identity_make(const struct config *config, uint64_t origin, uint64_t random,
                       struct identity *identity, char *message)
{
    *identity = (struct identity){.cluster_id = origin};
    if (config->member_count == 0) {
        add_member(identity, config, origin, config->name, config->advertise_peer);
    }
    for (uint32_t i = 0; i < config->member_count; i++) {
        add_member(identity, config, origin, config->members[i].name, config->members[i].address);
    }
    if (identity->node_id == 0) {
        (void)snprintf(
            message, 512,
            "option cluster does not list this node's name %s: it must name every first member",
            config->name);
        return ERR_INVALID;
    }
    identity->cluster_id = non_zero(identity->cluster_id);
    identity->storage_id = identity->cluster_id;
    identity->directory_id = non_zero(random);
    (void)snprintf(identity->name, sizeof identity->name, "%s", config->name);
    return OK;
}

static bool is_restoring(struct disk *disk)
{
    disk_file file = -1;
    if (disk->open(disk->context, IDENTITY_RESTORING_FILE, false, &file) != OK) return false;
    disk->close(disk->context, file);
    return true;
}

/* The first start in an empty directory. */
static enum err make(const struct config *config, struct disk *disk, uint64_t random,
                     struct identity *identity, char *message)
{
    struct buf names = {0};
    enum err err = disk->list(disk->context, FOLDER, &names);
    const bool is_used = err == OK && names.size > 0;
    buf_close(&names);
    if (err != OK && err != ERR_NOT_FOUND) return err;
    if (is_used && !is_restoring(disk)) {
        (void)snprintf(
            message, 512,
            "file identity is missing but folder shard-0000 is not empty; put the file back from a "
            "copy; " ADVICE_DAMAGED);
        return ERR_CORRUPT;
    }
    if (is_restoring(disk)) {
        (void)snprintf(message, 512,
                       "a backup was being restored here, and that was not finished: run kvctl "
                       "backup restore again");
        return ERR_CORRUPT;
    }
    err = identity_make(config, 0, random, identity, message);
    identity->is_new = err == OK;
    return err;
}

void identity_renew(struct identity *identity, uint64_t random)
{
    /* A start without an id is one of an earlier version of the file: peers know of its count alone. */
    if (identity->start_id != 0) {
        memmove(identity->past + 1, identity->past,
                (PEER_STARTS_MAX - 1) * sizeof identity->past[0]);
        identity->past[0] = identity->start_id;
        if (identity->past_count < PEER_STARTS_MAX) identity->past_count++;
    }
    identity->incarnation++;
    uint8_t number[8];
    put_u64(number, identity->incarnation);
    identity->start_id = non_zero(hash64_seeded(number, sizeof number, random));
    identity->is_accepted = false;
}

enum err identity_read(struct disk *disk, struct identity *identity, char *message)
{
    struct buf bytes = {0};
    message[0] = 0;
    enum err err = disk_read_whole(disk, IDENTITY_FILE, IDENTITY_FILE_MAX, &bytes);
    if (err == OK) err = identity_decode(buf_slice(&bytes), identity);
    buf_close(&bytes);
    if (err != OK && err != ERR_NOT_FOUND) say_refused(IDENTITY_FILE, err, message);
    return err;
}

enum err identity_open(const struct config *config, struct disk *disk, uint64_t random,
                       struct identity *identity, char *message)
{
    *identity = (struct identity){0};
    enum err err = identity_read(disk, identity, message);
    if (err == ERR_NOT_FOUND) err = make(config, disk, random, identity, message);
    if (err == OK && strcmp(identity->name, config->name) != 0) {
        (void)snprintf(message, 512,
                       "this data directory belongs to %s (id %016" PRIx64
                       "), not to %s: check the options name and data",
                       identity->name, identity->node_id, config->name);
        err = ERR_FOREIGN;
    }
    if (err == OK && identity->is_unfinished) {
        (void)snprintf(message, 512,
                       "file identity: a recovery by force was begun here and not finished; "
                       "nothing was changed: run kvnode recover again");
        err = ERR_CORRUPT;
    }
    /* Nobody has heard of the last start, or everybody refused it: it is still the same one. */
    const bool is_next = identity->is_accepted || identity->start_id == 0 ||
                         identity->member_count < 2;
    if (err == OK && is_next) identity_renew(identity, random);
    /* A new directory gets its identity before anything else is made in it; an old one is not touched until all
     * that is in it was found to be sound. */
    if (err == OK && identity->is_new) err = identity_save(disk, identity);
    if (err != OK && message[0] == 0) {
        (void)snprintf(message, 512, "file identity: %s", err_name(err));
    }
    return err;
}

enum err identity_save(struct disk *disk, const struct identity *identity)
{
    struct buf bytes = {0};
    encode(identity, &bytes);
    const enum err err = disk->replace(disk->context, IDENTITY_FILE, buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}

enum err identity_begin(struct disk *disk, struct identity *identity)
{
    struct buf bytes = {0};
    identity->is_begun = true;
    encode(identity, &bytes);
    const enum err err = disk->replace(disk->context, IDENTITY_FILE, buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}

enum err identity_decode_peer(struct slice bytes, uint32_t at, struct peer_identity *peer)
{
    uint32_t version = 0;
    struct slice body;
    const enum err err = open_frame(bytes, PEERS_MAGIC, PEERS_VERSION, &version, &body);
    if (err != OK) return err;
    const uint64_t row_size = version == 1 ? PEER_ROW_OLD_SIZE : PEER_ROW_SIZE;
    if (body.size % row_size != 0) return ERR_CORRUPT;
    if (at >= body.size / row_size) return ERR_NOT_FOUND;
    const uint8_t *row = body.data + at * row_size;
    peer->node_id = get_u64(row);
    peer->directory_id = get_u64(row + 8);
    peer->incarnation = get_u64(row + 16);
    peer->start_id = version == 1 ? 0 : get_u64(row + 24);
    return OK;
}

enum err identity_load_peers(struct disk *disk, struct peers *peers, char *message)
{
    struct buf bytes = {0};
    struct peer_identity row = {0};
    enum err err = disk_read_whole(disk, IDENTITY_PEERS_FILE, IDENTITY_FILE_MAX, &bytes);
    if (err == ERR_NOT_FOUND) return OK;
    for (uint32_t i = 0; err == OK; i++) {
        err = identity_decode_peer(buf_slice(&bytes), i, &row);
        struct peer *peer = err == OK ? peers_find(peers, row.node_id) : NULL;
        if (peer == NULL) continue;
        peer->identity.directory_id = row.directory_id;
        peer->identity.incarnation = row.incarnation;
        peer->identity.start_id = row.start_id;
    }
    buf_close(&bytes);
    if (err == ERR_NOT_FOUND) return OK;
    say_refused(IDENTITY_PEERS_FILE, err, message);
    return err;
}

enum err identity_save_peers(struct disk *disk, const struct peers *peers)
{
    struct buf bytes = {0};
    begin(&bytes, PEERS_MAGIC, PEERS_VERSION);
    for (uint32_t i = 0; i < peers->count; i++) {
        buf_u64(&bytes, peers->list[i].identity.node_id);
        buf_u64(&bytes, peers->list[i].identity.directory_id);
        buf_u64(&bytes, peers->list[i].identity.incarnation);
        buf_u64(&bytes, peers->list[i].identity.start_id);
    }
    seal(&bytes);
    const enum err err = disk->replace(disk->context, IDENTITY_PEERS_FILE, buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}
