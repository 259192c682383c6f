/* Tests of node/restore.c and node/rescue.c: a new cluster from a backup, and from what one node has (F50). */
#include "node/restore.h"

#include "node/rescue.h"
#include "raft/replica.h"
#include "storage/base/hash.h"
#include "storage/quarantine.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

#define KEYS 400 /* a multiple of 50 */

static struct fixture f; /* too big for the stack */
static struct sim_disk shelf;
static struct sim_disk target;
static struct config config;
static struct restore restore;
static struct backup backup;
static char message[512];

static void fill(void)
{
    struct buf lines = {0};
    for (int i = 0; i < KEYS; i++) {
        buf_printf(&lines, "SET key:%d %0200d%s\r\n", i, i, i % 7 == 0 ? " PX 100000000" : "");
        if (i % 50 != 49) continue; /* one entry for each of them would be slow */
        (void)fixture_ask(&f, 0, lines.data, lines.size);
        lines.size = 0;
    }
    buf_close(&lines);
    EXPECT_TEXT(fixture_say(&f, "DEL key:3"), ":1\r\n");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":399\r\n");
}

/* Value, revision and expiry of all keys, as one hash. */
static uint64_t contents(void)
{
    struct buf lines = {0};
    uint64_t hash = 0;
    for (int i = 0; i < KEYS; i++) buf_printf(&lines, "KV.GET key:%d\r\n", i);
    (void)fixture_ask(&f, 0, lines.data, lines.size);
    buf_close(&lines);
    const struct buf *out = &f.clients[0].out;
    for (uint64_t at = 0; at < out->size;) {
        const uint8_t *end = memchr(out->data + at, '\n', out->size - at);
        EXPECT_TRUE(end != NULL);
        const uint64_t size = (uint64_t)(end - out->data) + 1 - at;
        /* What is left of 100,000 s is less by the time that passed. */
        const bool is_ttl = size == 11 && memcmp(out->data + at, ":9999", 5) == 0;
        hash = hash64_seeded(out->data + at, is_ttl ? 5 : size, hash);
        at += size;
    }
    return hash;
}

static uint64_t revision_of_key(const char *key)
{
    char line[64];
    (void)snprintf(line, sizeof line, "KV.GET %s", key);
    const char *reply = fixture_say(&f, line);
    const char *at = strchr(reply, ':');
    EXPECT_TRUE(at != NULL);
    return strtoull(at + 1, NULL, 10);
}

/* All of a sealed file. */
static void read_file(struct store *store, const struct log_file *file, struct buf *out)
{
    struct store_piece piece = {0};
    struct slice bytes;
    EXPECT_EQ(store_piece_begin(store, &piece, file->file_id, 0, file->used), OK);
    sim_disk_settle(&f.disk);
    EXPECT_EQ(store_piece_take(store, &piece, &bytes), OK);
    buf_append(out, bytes.data, bytes.size);
    store_piece_close(store, &piece);
}

/* A backup of the node in @f, on the shelf. */
static void save(void)
{
    struct store *store = core_store(f.core);
    struct buf bytes = {0};
    struct buf encoded = {0};
    struct manifest manifest = {0};
    struct backup writer;
    const char *wrong = NULL;
    const uint64_t index = store_applied_index(store);
    for (int i = 0; i < 1000 && !store_seal_upto(store, index); i++) fixture_run(&f, 1);
    EXPECT_TRUE(store_base(store).index >= index);
    store_ship_manifest(store, &encoded);
    EXPECT_EQ(manifest_decode(buf_slice(&encoded), &manifest, &wrong), OK);
    sim_disk_init(&shelf, 3);
    backup_init(&writer, &shelf.disk, -1);
    backup_put_header(&writer,
                      &(struct backup_header){.backup_id = 99, .storage_id = manifest.cluster_id},
                      &bytes);
    for (uint32_t i = 0; i < manifest.file_count; i++) {
        const struct log_file *file = &manifest.files[i];
        struct buf data = {0};
        read_file(store, file, &data);
        backup_put_piece(&writer, file->file_id, 0, buf_slice(&data), &bytes);
        buf_close(&data);
    }
    backup_put_end(&writer, &manifest, &bytes);
    sim_disk_put(&shelf, "backup", buf_slice(&bytes));
    backup_close(&writer);
    manifest_close(&manifest);
    buf_close(&encoded);
    buf_close(&bytes);
}

static void load(void)
{
    disk_file file = -1;
    uint64_t size = 0;
    uint64_t at = 0;
    const char *wrong = NULL;
    EXPECT_EQ(shelf.disk.open(shelf.disk.context, "backup", false, &file), OK);
    EXPECT_EQ(shelf.disk.size(shelf.disk.context, file, &size), OK);
    backup_init(&backup, &shelf.disk, file);
    EXPECT_EQ(backup_load(&backup, size, &wrong, &at), OK);
}

static void begin(void)
{
    fixture_open_sized(&f, 64 * KIB);
    EXPECT_EQ(replica_self_test(), OK);
    fill();
    config_defaults(&config, "new");
    EXPECT_EQ(config_finish(&config, message), OK);
    config.segment_size = 64 * KIB;
    sim_disk_init(&target, 4);
}

static enum err restore_all(void)
{
    enum err err = restore_begin(&restore, &target.disk, &backup, &config, 1234, message);
    while (err == OK) err = restore_step(&restore, message);
    if (err == ERR_NOT_FOUND) err = restore_finish(&restore, message);
    restore_close(&restore);
    if (err != OK && getenv("VERBOSE") != NULL) fprintf(stderr, "restore: %s\n", message);
    return err;
}

static void stop_node(void)
{
    core_destroy(f.core);
    sim_disk_crash(&f.disk);
    for (int i = 0; i < 8; i++) f.clients[i].session = NULL;
}

/* The node that is running goes, the one on @disk comes. */
static void switch_to(struct sim_disk *disk, const char *name)
{
    stop_node();
    sim_disk_close(&f.disk);
    sim_disk_crash(disk);
    /* The disk's functions know their own address. */
    sim_disk_init(&f.disk, 8);
    struct sim_image image = {0};
    sim_disk_save(disk, &image);
    sim_disk_restore(&f.disk, &image);
    sim_image_close(&image);
    (void)snprintf(f.config.name, sizeof f.config.name, "%s", name);
    fixture_start(&f);
}

static void end(void)
{
    backup_close(&backup);
    sim_disk_crash(&shelf);
    sim_disk_close(&shelf);
    sim_disk_crash(&target);
    sim_disk_close(&target);
    fixture_close(&f);
}

TEST(restore, a_new_node_has_everything_and_its_revisions_go_on)
{
    struct identity identity;
    begin();
    save();
    load();
    const uint64_t before = contents();
    const uint64_t newest = revision_of_key("key:399");
    EXPECT_EQ(identity_read(&f.disk.disk, &identity, message), OK);
    const uint64_t old_cluster = identity.cluster_id;
    const uint64_t old_node = identity.node_id;
    EXPECT_EQ(restore_all(), OK);
    EXPECT_EQ(identity_read(&target.disk, &identity, message), OK);
    EXPECT_EQ(identity.storage_id, old_cluster);
    EXPECT_TRUE(identity.cluster_id != old_cluster);
    EXPECT_TRUE(identity.node_id != old_node);
    EXPECT_FALSE(sim_disk_exists(&target, "RESTORING"));
    switch_to(&target, "new");
    EXPECT_EQ(contents(), before);
    EXPECT_TEXT(fixture_say(&f, "SET key:0 again"), "+OK\r\n");
    EXPECT_TRUE(revision_of_key("key:0") > newest);
    struct replica_member members[4];
    EXPECT_EQ(replica_members(core_replica(f.core), members, 4), 1);
    EXPECT_EQ(members[0].id, identity.node_id);
    const uint64_t after = contents();
    stop_node();
    fixture_start(&f);
    EXPECT_EQ(contents(), after);
    end();
}

TEST(restore, all_members_of_the_new_cluster_get_the_same_log)
{
    struct identity ids[3];
    struct sim_disk disks[3];
    const char *names[3] = {"a", "b", "c"};
    struct buf first = {0};
    begin();
    save();
    load();
    EXPECT_EQ(config_set(&config, "cluster", "a=h1:1,b=h2:2,c=h3:3", message), OK);
    for (uint32_t i = 0; i < 3; i++) {
        struct store *store = NULL;
        struct buf record = {0};
        uint32_t count = 0;
        sim_disk_init(&disks[i], i);
        (void)snprintf(config.name, sizeof config.name, "%s", names[i]);
        EXPECT_EQ(restore_begin(&restore, &disks[i].disk, &backup, &config, 77 + i, message), OK);
        enum err err;
        while ((err = restore_step(&restore, message)) == OK) {}
        EXPECT_EQ(err, ERR_NOT_FOUND);
        EXPECT_EQ(restore_finish(&restore, message), OK);
        struct store_config store_config = restore.store_config;
        restore_close(&restore);
        EXPECT_EQ(identity_read(&disks[i].disk, &ids[i], message), OK);
        EXPECT_EQ(ids[i].cluster_id, ids[0].cluster_id);
        EXPECT_EQ(ids[i].node_id, ids[0].members[i].id);
        EXPECT_TRUE(i == 0 || ids[i].directory_id != ids[0].directory_id);
        store_config.random_seed += 100;
        EXPECT_EQ(store_open(&store_config, &store, message, sizeof message), OK);
        const uint64_t last = store_last_index(store);
        EXPECT_EQ(last, backup.base_index + 1);
        EXPECT_EQ(store_read(store, last, last, MIB, &record, &count), OK);
        if (i == 0) buf_append(&first, record.data, record.size);
        EXPECT_TRUE(slice_equal(buf_slice(&record), buf_slice(&first)));
        EXPECT_EQ(store_term(store), store_term_at(store, last));
        EXPECT_EQ(store_voted_for(store), 0);
        buf_close(&record);
        store_close(store);
        sim_disk_crash(&disks[i]);
        sim_disk_close(&disks[i]);
    }
    buf_close(&first);
    end();
}

TEST(restore, what_cannot_be_restored_is_refused)
{
    begin();
    save();
    load();
    EXPECT_EQ(config_set(&config, "cluster", "a=h1:1,b=h2:2", message), OK);
    EXPECT_EQ(restore_all(), ERR_INVALID); /* we are not in it */
    EXPECT_FALSE(sim_disk_exists(&target, "RESTORING"));
    (void)snprintf(config.name, sizeof config.name, "a");
    target.capacity = 40 * KIB;
    EXPECT_EQ(restore_all(), ERR_NOSPACE);
    target.capacity = UINT64_MAX;
    EXPECT_EQ(restore_all(), OK);
    EXPECT_EQ(restore_all(), ERR_EXISTS);
    EXPECT_TRUE(strstr(message, "holds a node already") != NULL);
    end();
}

TEST(restore, a_crash_at_any_write_leaves_what_no_node_starts_on_or_a_whole_one)
{
    struct identity identity;
    bool is_over = false;
    uint32_t refused = 0;
    begin();
    save();
    load();
    for (uint64_t n = 1; !is_over; n++) {
        sim_disk_crash(&target);
        sim_disk_wipe(&target);
        sim_disk_stop_after(&target, n);
        const enum err err = restore_all();
        is_over = !sim_disk_stopped(&target);
        if (is_over) EXPECT_EQ(err, OK);
        sim_disk_crash(&target);
        struct config started = config;
        if (!sim_disk_exists(&target, "identity")) {
            /* Nothing was begun, or a start sees that. */
            const bool begun = sim_disk_exists(&target, "RESTORING");
            if (begun) {
                EXPECT_EQ(identity_open(&started, &target.disk, 5, &identity, message),
                          ERR_CORRUPT);
                EXPECT_TRUE(strstr(message, "restore again") != NULL);
                refused++;
            }
            EXPECT_EQ(restore_all(), OK);
        }
        EXPECT_EQ(identity_open(&started, &target.disk, 5, &identity, message), OK);
        EXPECT_TRUE(identity.is_begun);
    }
    EXPECT_TRUE(refused > 10);
    switch_to(&target, "new");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":399\r\n");
    end();
}

/* ---- recovery by force ----------------------------------------------------------------------------- */

TEST(rescue, F50_the_last_node_goes_on_alone_with_all_that_it_had)
{
    struct rescue rescue;
    struct identity before;
    struct identity after;
    begin();
    const uint64_t had = contents();
    const uint64_t newest = revision_of_key("key:399");
    EXPECT_EQ(identity_read(&f.disk.disk, &before, message), OK);
    stop_node();
    EXPECT_EQ(rescue_open(&rescue, &f.disk.disk, 3, message), OK);
    EXPECT_TRUE(rescue.last_index > 8);
    EXPECT_EQ(rescue.members, 1);
    EXPECT_EQ(rescue.voters, 1);
    EXPECT_FALSE(rescue.is_repeated);
    EXPECT_EQ(rescue_run(&rescue, 17, message), OK);
    rescue_close(&rescue);
    EXPECT_EQ(identity_read(&f.disk.disk, &after, message), OK);
    EXPECT_TRUE(after.cluster_id != before.cluster_id);
    EXPECT_EQ(after.storage_id, before.storage_id);
    EXPECT_EQ(after.node_id, before.node_id);
    EXPECT_EQ(after.directory_id, before.directory_id);
    EXPECT_FALSE(after.is_unfinished);
    fixture_start(&f);
    EXPECT_EQ(contents(), had);
    EXPECT_TEXT(fixture_say(&f, "SET key:0 again"), "+OK\r\n");
    EXPECT_TRUE(revision_of_key("key:0") > newest);
    sim_disk_init(&shelf, 1);
    end();
}

/* A node of three, whose two others are gone: it never starts a round of its own before, and does after. */
TEST(rescue, F50_a_node_of_three_leads_alone_afterwards_and_a_crash_at_any_write_is_run_again)
{
    struct sim_image image = {0};
    struct identity identity;
    struct rescue rescue;
    bool is_over = false;
    uint32_t unfinished = 0;
    begin();
    save();
    load();
    EXPECT_EQ(config_set(&config, "cluster", "new=h1:1,b=h2:2,c=h3:3", message), OK);
    EXPECT_EQ(restore_all(), OK);
    sim_disk_crash(&target);
    sim_disk_save(&target, &image);
    for (uint64_t n = 1; !is_over; n++) {
        sim_disk_restore(&target, &image);
        sim_disk_stop_after(&target, n);
        EXPECT_EQ(rescue_open(&rescue, &target.disk, n, message), OK);
        EXPECT_EQ(rescue.voters, 3);
        const enum err err = rescue_run(&rescue, n, message);
        rescue_close(&rescue);
        is_over = !sim_disk_stopped(&target);
        if (is_over) EXPECT_EQ(err, OK);
        sim_disk_crash(&target);
        EXPECT_EQ(identity_read(&target.disk, &identity, message), OK);
        const bool is_new = identity.cluster_id != restore.identity.cluster_id;
        EXPECT_TRUE(is_new || !identity.is_unfinished);
        if (!identity.is_unfinished) continue;
        unfinished++;
        const uint64_t cluster = identity.cluster_id;
        EXPECT_EQ(identity_open(&config, &target.disk, 5, &identity, message), ERR_CORRUPT);
        EXPECT_EQ(rescue_open(&rescue, &target.disk, 99, message), OK);
        EXPECT_TRUE(rescue.is_repeated);
        EXPECT_EQ(rescue_run(&rescue, 100, message), OK);
        rescue_close(&rescue);
        EXPECT_EQ(identity_open(&config, &target.disk, 5, &identity, message), OK);
        EXPECT_EQ(identity.cluster_id, cluster);
    }
    EXPECT_TRUE(unfinished > 3);
    sim_image_close(&image);
    switch_to(&target, "new");
    EXPECT_TEXT(fixture_say(&f, "DBSIZE"), ":399\r\n");
    EXPECT_TEXT(fixture_say(&f, "SET more of"), "+OK\r\n");
    end();
}

TEST(rescue, a_node_in_quarantine_is_not_the_one_to_go_on_with)
{
    struct rescue rescue;
    struct identity identity;
    struct quarantine quarantine = {.stage = QUARANTINE_RECOVERING, .aside = 3};
    begin();
    stop_node();
    EXPECT_EQ(identity_read(&f.disk.disk, &identity, message), OK);
    damage_fault_set(&quarantine.fault, DAMAGE_LOG, "shard-0000/00000001.log", 8192, "it rotted");
    EXPECT_EQ(quarantine_save(&quarantine, &f.disk.disk, "shard-0000", identity.storage_id,
                              identity.node_id),
              OK);
    EXPECT_EQ(rescue_open(&rescue, &f.disk.disk, 1, message), ERR_INVALID);
    EXPECT_TRUE(strstr(message, "quarantine") != NULL);
    EXPECT_TRUE(strstr(message, "aside-3") != NULL);
    rescue_close(&rescue);
    EXPECT_EQ(quarantine_lift(&quarantine, &f.disk.disk, "shard-0000"), OK);
    fixture_start(&f);
    sim_disk_init(&shelf, 1);
    end();
}

TEST(rescue, nothing_to_recover_is_said)
{
    struct rescue rescue;
    begin();
    EXPECT_EQ(rescue_open(&rescue, &target.disk, 1, message), ERR_NOT_FOUND);
    EXPECT_TRUE(strstr(message, "no node") != NULL);
    rescue_close(&rescue);
    struct identity identity;
    EXPECT_EQ(identity_open(&config, &target.disk, 5, &identity, message), OK);
    EXPECT_EQ(rescue_open(&rescue, &target.disk, 1, message), ERR_NOT_FOUND);
    EXPECT_TRUE(strstr(message, "never held") != NULL);
    rescue_close(&rescue);
    sim_disk_init(&shelf, 1);
    end();
}
