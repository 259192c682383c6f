#include "node/identity.h"

#include <inttypes.h>
#include <stdio.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/base/mem.h"

#define IDENTITY_MAGIC 0x79746E6564496B76u /* "vkIdenty" */
#define PEERS_MAGIC 0x7372656570566Bu
#define IDENTITY_VERSION 1u
#define IDENTITY_FILE_MAX (64u * KIB)

static void seal(struct buf *out)
{
    put_u32(out->data + 12, (uint32_t)(out->size + 8));
    buf_u64(out, hash64(out->data, out->size));
}

static void begin(struct buf *out, uint64_t magic)
{
    buf_u64(out, magic);
    buf_u32(out, IDENTITY_VERSION);
    buf_u32(out, 0);
}

/* The whole file, its frame verified. ERR_NOT_FOUND: there is none. */
static enum err read_file(struct disk *disk, const char *name, uint64_t magic, struct buf *bytes,
                          char *message)
{
    disk_file file = -1;
    uint64_t size = 0;
    enum err err = disk->open(disk->context, name, false, &file);
    if (err != OK) return err;
    err = disk->size(disk->context, file, &size);
    if (err == OK && (size < 24 || size > IDENTITY_FILE_MAX)) err = ERR_CORRUPT;
    if (err == OK) err = disk->read(disk->context, file, 0, buf_extend(bytes, size), size);
    disk->close(disk->context, file);
    if (err == OK && get_u64(bytes->data) != magic) err = ERR_CORRUPT;
    if (err == OK && get_u32(bytes->data + 12) != size) err = ERR_CORRUPT;
    if (err == OK && get_u64(bytes->data + size - 8) != hash64(bytes->data, size - 8)) {
        err = ERR_CORRUPT;
    }
    if (err == OK && get_u32(bytes->data + 8) > IDENTITY_VERSION) err = ERR_NEWER;
    if (err == OK) {
        bytes->size -= 8;
        return OK;
    }
    (void)snprintf(message, 512, "file %s: %s; %s", name, err_name(err),
                   err == ERR_NEWER ? "nothing was changed: start the newer program that wrote it"
                                    : ADVICE_DAMAGED);
    return err;
}

static bool read_text(struct reader *reader, char *text, uint64_t size)
{
    const struct slice bytes = reader_sized(reader);
    if (reader->bad || bytes.size >= size) return false;
    memcpy(text, bytes.data, bytes.size);
    text[bytes.size] = 0;
    return true;
}

static enum err decode(struct slice bytes, struct identity *identity)
{
    struct reader reader = reader_of(bytes);
    (void)reader_bytes(&reader, 16);
    identity->cluster_id = reader_u64(&reader);
    identity->node_id = reader_u64(&reader);
    identity->directory_id = reader_u64(&reader);
    identity->incarnation = reader_u64(&reader);
    const uint32_t begun = reader_u32(&reader);
    identity->is_begun = begun == 1;
    identity->member_count = reader_u32(&reader);
    if (begun > 1) return ERR_CORRUPT;
    if (reader.bad || identity->member_count > PEERS_MAX + 1) return ERR_CORRUPT;
    for (uint32_t i = 0; i < identity->member_count; i++) {
        struct identity_member *member = &identity->members[i];
        member->id = reader_u64(&reader);
        if (!read_text(&reader, member->name, sizeof member->name)) return ERR_CORRUPT;
        if (!read_text(&reader, member->address, sizeof member->address)) return ERR_CORRUPT;
    }
    if (!read_text(&reader, identity->name, sizeof identity->name)) return ERR_CORRUPT;
    return reader.bad || reader.at != reader.end ? ERR_CORRUPT : OK;
}

static void encode(const struct identity *identity, struct buf *out)
{
    begin(out, IDENTITY_MAGIC);
    buf_u64(out, identity->cluster_id);
    buf_u64(out, identity->node_id);
    buf_u64(out, identity->directory_id);
    buf_u64(out, identity->incarnation);
    buf_u32(out, identity->is_begun ? 1 : 0);
    buf_u32(out, identity->member_count);
    for (uint32_t i = 0; i < identity->member_count; i++) {
        buf_u64(out, identity->members[i].id);
        buf_sized(out, slice_text(identity->members[i].name));
        buf_sized(out, slice_text(identity->members[i].address));
    }
    buf_sized(out, slice_text(identity->name));
    seal(out);
}

static uint64_t non_zero(uint64_t id)
{
    id &= INT64_MAX; /* Fits every client's integers. */
    return id != 0 ? id : 1;
}

static void add_member(struct identity *identity, const struct config *config, const char *name,
                       const char *address)
{
    struct buf text = {0};
    struct identity_member *member = &identity->members[identity->member_count++];
    buf_sized(&text, slice_text(config->cluster_token));
    buf_sized(&text, slice_text(name));
    buf_sized(&text, slice_text(address));
    member->id = non_zero(hash64(text.data, text.size));
    (void)snprintf(member->name, sizeof member->name, "%s", name);
    (void)snprintf(member->address, sizeof member->address, "%s", address);
    if (strcmp(name, config->name) == 0) identity->node_id = member->id;
    identity->cluster_id = hash64_seeded(text.data, text.size, identity->cluster_id);
    buf_close(&text);
}

/* The first start in an empty directory. */
static enum err make(const struct config *config, struct disk *disk, uint64_t random,
                     struct identity *identity, char *message)
{
    struct buf names = {0};
    const enum err err = disk->list(disk->context, "shard-0000", &names);
    const bool is_used = err == OK && names.size > 0;
    buf_close(&names);
    if (err != OK && err != ERR_NOT_FOUND) return err;
    if (is_used) {
        (void)snprintf(
            message, 512,
            "file identity is missing but folder shard-0000 is not empty; put the file back from a "
            "copy; " ADVICE_DAMAGED);
        return ERR_CORRUPT;
    }
    if (config->member_count == 0) {
        add_member(identity, config, config->name, config->advertise_peer);
    }
    for (uint32_t i = 0; i < config->member_count; i++) {
        add_member(identity, config, config->members[i].name, config->members[i].address);
    }
    if (identity->node_id == 0) {
        (void)snprintf(
            message, 512,
            "option cluster does not list this node's name %s: it must name every first member",
            config->name);
        return ERR_INVALID;
    }
    identity->cluster_id = non_zero(identity->cluster_id);
    identity->directory_id = non_zero(random);
    identity->is_new = true;
    (void)snprintf(identity->name, sizeof identity->name, "%s", config->name);
    return OK;
}

enum err identity_open(const struct config *config, struct disk *disk, uint64_t random,
                       struct identity *identity, char *message)
{
    struct buf bytes = {0};
    *identity = (struct identity){0};
    message[0] = 0;
    enum err err = read_file(disk, "identity", IDENTITY_MAGIC, &bytes, message);
    if (err == ERR_NOT_FOUND) {
        err = make(config, disk, random, identity, message);
    } else if (err == OK) {
        err = decode(buf_slice(&bytes), identity);
        if (err != OK) (void)snprintf(message, 512, "file identity: %s", err_name(err));
    }
    buf_close(&bytes);
    if (err == OK && strcmp(identity->name, config->name) != 0) {
        (void)snprintf(message, 512,
                       "this data directory belongs to node %s (id %016" PRIx64
                       "), not to %s: check the options name and data",
                       identity->name, identity->node_id, config->name);
        err = ERR_FOREIGN;
    }
    if (err == OK) identity->incarnation++;
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
    const enum err err = disk->replace(disk->context, "identity", buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}

enum err identity_begin(struct disk *disk, struct identity *identity)
{
    struct buf bytes = {0};
    identity->is_begun = true;
    encode(identity, &bytes);
    const enum err err = disk->replace(disk->context, "identity", buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}

enum err identity_load_peers(struct disk *disk, struct peers *peers, char *message)
{
    struct buf bytes = {0};
    const enum err err = read_file(disk, "peers", PEERS_MAGIC, &bytes, message);
    if (err == OK) {
        struct reader reader = reader_of(buf_slice(&bytes));
        (void)reader_bytes(&reader, 16);
        while (reader.at < reader.end && !reader.bad) {
            struct peer *peer = peers_find(peers, reader_u64(&reader));
            const uint64_t directory_id = reader_u64(&reader);
            const uint64_t incarnation = reader_u64(&reader);
            if (peer == NULL || reader.bad) continue;
            peer->identity.directory_id = directory_id;
            peer->identity.incarnation = incarnation;
        }
    }
    buf_close(&bytes);
    return err == ERR_NOT_FOUND ? OK : err;
}

enum err identity_save_peers(struct disk *disk, const struct peers *peers)
{
    struct buf bytes = {0};
    begin(&bytes, PEERS_MAGIC);
    for (uint32_t i = 0; i < peers->count; i++) {
        buf_u64(&bytes, peers->list[i].identity.node_id);
        buf_u64(&bytes, peers->list[i].identity.directory_id);
        buf_u64(&bytes, peers->list[i].identity.incarnation);
    }
    seal(&bytes);
    const enum err err = disk->replace(disk->context, "peers", buf_slice(&bytes));
    buf_close(&bytes);
    return err;
}
