/* Tests of node/identity.c: whose directory it is, in all versions of the file. */
#include "node/identity.h"

#include <stdio.h>

#include "storage/base/hash.h"
#include "tests/sim/sim_disk.h"
#include "tests/test.h"

static struct sim_disk disk;
static struct config config;
static char message[512];

static void begin(const char *name)
{
    sim_disk_init(&disk, 3);
    config_defaults(&config, name);
    EXPECT_EQ(config_set(&config, "cluster", "a=h1:1,b=h2:2,c=h3:3", message), OK);
    EXPECT_EQ(config_finish(&config, message), OK);
}

static void end(void)
{
    sim_disk_crash(&disk);
    sim_disk_close(&disk);
}

static enum err open_again(struct identity *identity)
{
    return identity_open(&config, &disk.disk, 99, identity, message);
}

TEST(identity, a_new_directory_remembers_who_it_is)
{
    struct identity first;
    struct identity second;
    begin("b");
    EXPECT_EQ(open_again(&first), OK);
    EXPECT_TRUE(first.is_new);
    EXPECT_EQ(first.incarnation, 1);
    EXPECT_EQ(first.storage_id, first.cluster_id);
    EXPECT_EQ(first.member_count, 3);
    EXPECT_EQ(first.node_id, first.members[1].id);
    EXPECT_EQ(identity_begin(&disk.disk, &first), OK);
    first.is_accepted = true;
    EXPECT_EQ(identity_save(&disk.disk, &first), OK);
    EXPECT_EQ(open_again(&second), OK);
    EXPECT_FALSE(second.is_new);
    EXPECT_TRUE(second.is_begun);
    EXPECT_FALSE(second.is_accepted);
    EXPECT_EQ(second.incarnation, 2);
    EXPECT_EQ(second.cluster_id, first.cluster_id);
    EXPECT_EQ(second.storage_id, first.storage_id);
    EXPECT_EQ(second.directory_id, first.directory_id);
    EXPECT_TEXT(second.members[2].address, "h3:3");
    (void)snprintf(config.name, sizeof config.name, "a");
    EXPECT_EQ(open_again(&second), ERR_FOREIGN);
    end();
}

/* F47: what nobody has accepted is announced again, so that a copy which is refused never gets ahead. */
TEST(identity, f47_a_start_is_another_one_only_when_the_one_before_was_accepted)
{
    struct identity first;
    struct identity next;
    begin("b");
    EXPECT_EQ(open_again(&first), OK);
    EXPECT_TRUE(first.start_id != 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(identity_open(&config, &disk.disk, 1000 + (uint64_t)i, &next, message), OK);
        EXPECT_EQ(identity_save(&disk.disk, &next), OK);
        EXPECT_EQ(next.incarnation, 1);
        EXPECT_EQ(next.start_id, first.start_id);
        EXPECT_EQ(next.past_count, 0);
    }
    uint64_t starts[25] = {0};
    starts[1] = first.start_id;
    for (uint64_t i = 2; i < 25; i++) {
        next.is_accepted = true;
        EXPECT_EQ(identity_save(&disk.disk, &next), OK);
        EXPECT_EQ(identity_open(&config, &disk.disk, 1000 + i, &next, message), OK);
        EXPECT_EQ(next.incarnation, i);
        EXPECT_FALSE(next.is_accepted);
        starts[i] = next.start_id;
        EXPECT_TRUE(starts[i] != starts[i - 1]);
        EXPECT_EQ(next.past_count, i - 1 < PEER_STARTS_MAX ? i - 1 : PEER_STARTS_MAX);
        for (uint32_t k = 0; k < next.past_count; k++) {
            EXPECT_EQ(next.past[k], starts[i - 1 - k]);
        }
    }
    /* Two copies of one directory do not become the same start. */
    next.is_accepted = true;
    EXPECT_EQ(identity_save(&disk.disk, &next), OK);
    struct identity other;
    EXPECT_EQ(identity_open(&config, &disk.disk, 5, &next, message), OK);
    EXPECT_EQ(identity_open(&config, &disk.disk, 6, &other, message), OK);
    EXPECT_EQ(next.incarnation, other.incarnation);
    EXPECT_TRUE(next.start_id != other.start_id);
    end();
}

TEST(identity, a_node_alone_counts_every_start)
{
    struct identity identity;
    begin("b");
    config.member_count = 0;
    EXPECT_EQ(open_again(&identity), OK);
    EXPECT_EQ(open_again(&identity), OK);
    EXPECT_EQ(identity.incarnation, 2);
    end();
}

TEST(identity, members_find_the_same_ids_and_an_origin_gives_others)
{
    struct identity a;
    struct identity b;
    struct identity restored;
    begin("a");
    EXPECT_EQ(identity_make(&config, 0, 1, &a, message), OK);
    (void)snprintf(config.name, sizeof config.name, "b");
    EXPECT_EQ(identity_make(&config, 0, 2, &b, message), OK);
    EXPECT_EQ(a.cluster_id, b.cluster_id);
    EXPECT_EQ(a.members[1].id, b.node_id);
    EXPECT_TRUE(a.directory_id != b.directory_id);
    EXPECT_EQ(identity_make(&config, 77, 2, &restored, message), OK);
    EXPECT_TRUE(restored.cluster_id != b.cluster_id);
    for (int i = 0; i < 3; i++) EXPECT_TRUE(restored.members[i].id != b.members[i].id);
    (void)snprintf(config.name, sizeof config.name, "stranger");
    EXPECT_EQ(identity_make(&config, 0, 2, &b, message), ERR_INVALID);
    EXPECT_TRUE(strstr(message, "stranger") != NULL);
    end();
}

/* The bytes of version 1, in which the cluster id was the storage id, or of version 2, which had no starts. */
static void put_version(struct buf *out, uint32_t version)
{
    buf_u64(out, 0x79746E6564496B76u);
    buf_u32(out, version);
    buf_u32(out, 0);
    buf_u64(out, 0x1111); /* cluster */
    buf_u64(out, 0x2222); /* node */
    buf_u64(out, 0x3333); /* directory */
    buf_u64(out, 7);      /* incarnation */
    buf_u32(out, 1);      /* begun */
    buf_u32(out, 1);
    if (version == 2) buf_u64(out, 0x4444); /* storage */
    buf_u64(out, 0x2222);
    buf_sized(out, slice_text("old"));
    buf_sized(out, slice_text("host:7"));
    buf_sized(out, slice_text("old"));
    put_u32(out->data + 12, (uint32_t)(out->size + 8));
    buf_u64(out, hash64(out->data, out->size));
}

static void read_old(uint32_t version)
{
    struct identity identity;
    struct buf bytes = {0};
    const uint64_t storage_id = version == 1 ? 0x1111 : 0x4444;
    begin("a");
    (void)snprintf(config.name, sizeof config.name, "old");
    put_version(&bytes, version);
    sim_disk_put(&disk, "identity", buf_slice(&bytes));
    EXPECT_EQ(open_again(&identity), OK);
    EXPECT_EQ(identity.cluster_id, 0x1111);
    EXPECT_EQ(identity.storage_id, storage_id);
    EXPECT_EQ(identity.node_id, 0x2222);
    EXPECT_EQ(identity.incarnation, 8);
    EXPECT_TRUE(identity.is_begun);
    EXPECT_TRUE(identity.start_id != 0);
    EXPECT_EQ(identity.past_count, 0); /* The start before had no id. */
    const uint64_t start_id = identity.start_id;
    identity.is_accepted = true;
    EXPECT_EQ(identity_save(&disk.disk, &identity), OK);
    EXPECT_EQ(get_u32(sim_disk_file(&disk, "identity").data + 8), 3);
    EXPECT_EQ(open_again(&identity), OK);
    EXPECT_EQ(identity.storage_id, storage_id);
    EXPECT_EQ(identity.incarnation, 9);
    EXPECT_EQ(identity.past_count, 1);
    EXPECT_EQ(identity.past[0], start_id);
    buf_close(&bytes);
    end();
}

TEST(identity, versions_1_and_2_are_read_and_become_version_3)
{
    read_old(1);
    read_old(2);
}

/* What nobody else wrote: an impossible count of starts, or bytes behind them. */
TEST(identity, impossible_starts_are_damage)
{
    struct identity identity;
    struct buf bytes = {0};
    begin("b");
    EXPECT_EQ(open_again(&identity), OK);
    const struct slice file = sim_disk_file(&disk, "identity");
    buf_append(&bytes, file.data, file.size);
    const uint64_t count = bytes.size - 8 - 8 - 8; /* checksum, one start, count and zero */
    static const uint32_t wrong[] = {0, 2, 18, UINT32_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        put_u32(bytes.data + count, wrong[i]);
        put_u64(bytes.data + bytes.size - 8, hash64(bytes.data, bytes.size - 8));
        EXPECT_EQ(identity_decode(buf_slice(&bytes), &identity), ERR_CORRUPT);
    }
    put_u32(bytes.data + count, 1);
    put_u64(bytes.data + bytes.size - 8, hash64(bytes.data, bytes.size - 8));
    EXPECT_EQ(identity_decode(buf_slice(&bytes), &identity), OK);
    buf_close(&bytes);
    end();
}

TEST(identity, every_flipped_bit_is_damage_and_a_later_version_is_newer)
{
    struct identity identity;
    struct buf bytes = {0};
    begin("a");
    put_version(&bytes, 1);
    for (uint64_t bit = 0; bit < bytes.size * 8; bit++) {
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(identity_decode(buf_slice(&bytes), &identity), ERR_CORRUPT);
        bytes.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (uint64_t size = 0; size < bytes.size; size++) {
        EXPECT_EQ(identity_decode(slice_of(bytes.data, size), &identity), ERR_CORRUPT);
    }
    EXPECT_EQ(identity_decode(buf_slice(&bytes), &identity), OK);
    put_u32(bytes.data + 8, 4);
    put_u64(bytes.data + bytes.size - 8, hash64(bytes.data, bytes.size - 8));
    EXPECT_EQ(identity_decode(buf_slice(&bytes), &identity), ERR_NEWER);
    sim_disk_put(&disk, "identity", buf_slice(&bytes));
    EXPECT_EQ(open_again(&identity), ERR_NEWER);
    EXPECT_TRUE(strstr(message, "start the newer program") != NULL);
    buf_close(&bytes);
    end();
}

TEST(identity, an_unfinished_recovery_is_not_started)
{
    struct identity identity;
    begin("a");
    EXPECT_EQ(open_again(&identity), OK);
    identity.is_unfinished = true;
    identity.cluster_id = 5;
    EXPECT_EQ(identity_save(&disk.disk, &identity), OK);
    EXPECT_EQ(open_again(&identity), ERR_CORRUPT);
    EXPECT_TRUE(strstr(message, "kvnode recover") != NULL);
    EXPECT_EQ(identity_read(&disk.disk, &identity, message), OK);
    EXPECT_TRUE(identity.is_unfinished);
    EXPECT_EQ(identity.cluster_id, 5);
    EXPECT_TRUE(identity.storage_id != 5);
    end();
}

TEST(identity, the_rows_of_peers)
{
    struct peers peers;
    struct peer_identity row;
    const struct peer_identity self = {.node_id = 1};
    begin("a");
    peers_init(&peers, &self, 1, 1);
    EXPECT_EQ(peers_add(&peers, 2, "b", "h2:2"), OK);
    EXPECT_EQ(peers_add(&peers, 3, "c", "h3:3"), OK);
    EXPECT_EQ(identity_load_peers(&disk.disk, &peers, message), OK); /* there is none */
    peers.list[1].identity.directory_id = 33;
    peers.list[1].identity.incarnation = 4;
    peers.list[1].identity.start_id = 44;
    EXPECT_EQ(identity_save_peers(&disk.disk, &peers), OK);
    const struct slice bytes = sim_disk_file(&disk, "peers");
    EXPECT_EQ(identity_decode_peer(bytes, 1, &row), OK);
    EXPECT_EQ(row.node_id, 3);
    EXPECT_EQ(row.directory_id, 33);
    EXPECT_EQ(row.start_id, 44);
    EXPECT_EQ(identity_decode_peer(bytes, 2, &row), ERR_NOT_FOUND);
    peers.list[1].identity.incarnation = 0;
    EXPECT_EQ(identity_load_peers(&disk.disk, &peers, message), OK);
    EXPECT_EQ(peers.list[1].identity.incarnation, 4);
    EXPECT_EQ(peers.list[1].identity.start_id, 44);
    sim_disk_flip(&disk, "peers", 200);
    EXPECT_EQ(identity_load_peers(&disk.disk, &peers, message), ERR_CORRUPT);
    EXPECT_TRUE(strstr(message, "file peers") != NULL);
    peers_close(&peers);
    end();
}

TEST(identity, peers_of_version_1_have_no_start_ids)
{
    struct peers peers;
    struct buf bytes = {0};
    const struct peer_identity self = {.node_id = 1};
    begin("a");
    buf_u64(&bytes, 0x7372656570566Bu);
    buf_u32(&bytes, 1);
    buf_u32(&bytes, 16 + 2 * 24 + 8);
    for (uint64_t id = 2; id <= 3; id++) {
        buf_u64(&bytes, id);
        buf_u64(&bytes, 10 * id);
        buf_u64(&bytes, 100 * id);
    }
    buf_u64(&bytes, hash64(bytes.data, bytes.size));
    sim_disk_put(&disk, "peers", buf_slice(&bytes));
    peers_init(&peers, &self, 1, 1);
    EXPECT_EQ(peers_add(&peers, 2, "b", "h2:2"), OK);
    EXPECT_EQ(peers_add(&peers, 3, "c", "h3:3"), OK);
    EXPECT_EQ(identity_load_peers(&disk.disk, &peers, message), OK);
    EXPECT_EQ(peers.list[1].identity.directory_id, 30);
    EXPECT_EQ(peers.list[1].identity.incarnation, 300);
    EXPECT_EQ(peers.list[1].identity.start_id, 0);
    EXPECT_EQ(identity_save_peers(&disk.disk, &peers), OK);
    EXPECT_EQ(get_u32(sim_disk_file(&disk, "peers").data + 8), 2);
    EXPECT_EQ(identity_load_peers(&disk.disk, &peers, message), OK);
    EXPECT_EQ(peers.list[0].identity.incarnation, 200);
    peers_close(&peers);
    buf_close(&bytes);
    end();
}
