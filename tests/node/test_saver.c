/* Tests of node/saver.c and the commands over it: KV.INDEX and KV.BACKUP. */
#include "node/saver.h"

#include "storage/backup.h"
#include "tests/node/core_fixture.h"
#include "tests/test.h"

static struct fixture f; /* too big for the stack */

static void fill(int keys)
{
    char line[256];
    for (int i = 0; i < keys; i++) {
        (void)snprintf(line, sizeof line, "SET key:%d %0200d", i, i);
        EXPECT_TEXT(fixture_say(&f, line), "+OK\r\n");
    }
}

/* The integer behind a field of the reply to BEGIN, which is a flat array. */
static int64_t field(const char *reply, const char *name)
{
    char want[64];
    (void)snprintf(want, sizeof want, "%s\r\n:", name);
    const char *at = strstr(reply, want);
    EXPECT_TRUE(at != NULL);
    return strtoll(at + strlen(want), NULL, 10);
}

/* The manifest in the reply to BEGIN. */
static void manifest_of(struct manifest *manifest)
{
    const struct fixture_client *client = fixture_client(&f, 0);
    const char *wrong = NULL;
    const uint8_t *at = memmem(client->out.data, client->out.size, "\r\nmanifest\r\n$", 13);
    EXPECT_TRUE(at != NULL);
    char *end = NULL;
    const uint64_t size = strtoull((const char *)at + 13, &end, 10);
    EXPECT_EQ(manifest_decode(slice_of(end + 2, size), manifest, &wrong), OK);
}

static const char *begin_backup(void)
{
    char line[64];
    const char *index = fixture_say(&f, "KV.INDEX");
    EXPECT_EQ(index[0], ':');
    (void)snprintf(line, sizeof line, "KV.BACKUP BEGIN %lld", strtoll(index + 1, NULL, 10));
    const char *reply = fixture_say(&f, line);
    for (int i = 0; i < 50 && reply[0] == 0; i++) {
        fixture_run(&f, 20);
        buf_u8(&f.clients[0].out, 0);
        f.clients[0].out.size--;
        reply = (const char *)f.clients[0].out.data;
    }
    return reply;
}

TEST(saver, a_backup_is_the_sealed_files_up_to_what_was_acknowledged)
{
    struct manifest manifest = {0};
    char line[128];
    fixture_open_sized(&f, 64 * KIB);
    fill(500);
    const char *reply = begin_backup();
    const int64_t id = field(reply, "id");
    const int64_t size = field(reply, "size");
    EXPECT_TRUE(strstr(reply, "\r\nnode\r\n$5\r\nalone\r\n") != NULL);
    manifest_of(&manifest);
    EXPECT_TRUE(manifest.file_count >= 2);
    EXPECT_EQ(manifest_files_size(&manifest), size);
    EXPECT_TRUE(manifest.base_index >= 500);
    /* Whole files, piece by piece, are those on the disk. */
    for (uint32_t i = 0; i < manifest.file_count; i++) {
        const struct log_file *file = &manifest.files[i];
        char name[SEGMENT_NAME_SIZE];
        segment_name(name, "shard-0000", file->number);
        for (uint64_t at = 0; at < file->used; at += 10000) {
            const uint64_t part = file->used - at < 10000 ? file->used - at : 10000;
            (void)snprintf(line, sizeof line, "KV.BACKUP READ %lld %016llx %llu 10000",
                           (long long)id, (unsigned long long)file->file_id,
                           (unsigned long long)at);
            const char *got = fixture_say(&f, line);
            EXPECT_EQ(got[0], '$');
            char *data = NULL;
            EXPECT_EQ(strtoull(got + 1, &data, 10), part);
            EXPECT_BYTES(data + 2, sim_disk_file(&f.disk, name).data + at, part);
        }
    }
    (void)snprintf(line, sizeof line, "KV.BACKUP END %lld", (long long)id);
    EXPECT_TEXT(fixture_say(&f, line), "+OK\r\n");
    EXPECT_TRUE(strncmp(fixture_say(&f, line), "-NOBACKUP ", 10) == 0);
    manifest_close(&manifest);
    fixture_close(&f);
}

TEST(saver, what_is_not_there_is_refused)
{
    struct manifest manifest = {0};
    char line[128];
    fixture_open_sized(&f, 64 * KIB);
    fill(3);
    const int64_t id = field(begin_backup(), "id");
    manifest_of(&manifest);
    const unsigned long long file = manifest.files[0].file_id;
    const unsigned long long used = manifest.files[0].used;
    const struct {
        const char *format;
        unsigned long long id, file, offset, size;
        const char *reply;
    } cases[] = {
        {"%llu %016llx %llu %llu", (unsigned long long)id + 1, file, 0, 10, "-NOBACKUP "},
        {"%llu %016llx %llu %llu", (unsigned long long)id, file + 1, 0, 10, "-NOBACKUP "},
        {"%llu %016llx %llu %llu", (unsigned long long)id, file, used, 10, "-NOBACKUP "},
        {"%llu %016llx %llu %llu", (unsigned long long)id, file, 0, 0, "-ERR a piece "},
        {"%llu %016llx %llu %llu", (unsigned long long)id, file, 0, 1048577, "-ERR a piece "},
        {"%llu %017llx %llu %llu", (unsigned long long)id, file, 0, 1, "-ERR a file is named "},
        {"-%llu %016llx %llu %llu", (unsigned long long)id, file, 0, 1, "-ERR value is out "},
        {"%llu %016llx -%llu %llu", (unsigned long long)id, file, 7, 1, "-ERR value is out "},
        {"%llu %016llx %llu %llu", (unsigned long long)id, file, used - 5, 10, "$5\r\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char rest[100];
        (void)snprintf(rest, sizeof rest, cases[i].format, cases[i].id, cases[i].file,
                       cases[i].offset, cases[i].size);
        (void)snprintf(line, sizeof line, "KV.BACKUP READ %s", rest);
        const char *reply = fixture_say(&f, line);
        EXPECT_EQ(strncmp(reply, cases[i].reply, strlen(cases[i].reply)), 0);
    }
    EXPECT_TEXT(fixture_say(&f, "KV.BACKUP START 1"), "-ERR syntax error\r\n");
    EXPECT_TEXT(fixture_say(&f, "KV.BACKUP BEGIN 1 2"), "-ERR syntax error\r\n");
    /* An index that nobody has: no answer, and then a refusal. */
    EXPECT_TEXT(fixture_say(&f, "KV.BACKUP BEGIN 999999999"), "");
    fixture_run(&f, SAVER_SEAL_MS + 200);
    buf_u8(&f.clients[0].out, 0);
    EXPECT_EQ(strncmp((const char *)f.clients[0].out.data, "-ERR this node could not", 24), 0);
    manifest_close(&manifest);
    fixture_close(&f);
}

TEST(saver, backups_are_few_and_end_by_themselves)
{
    fixture_open_sized(&f, 64 * KIB);
    fill(3);
    for (uint32_t i = 0; i < SAVER_BACKUPS_MAX; i++) (void)field(begin_backup(), "id");
    EXPECT_EQ(strncmp(begin_backup(), "-ERR this node serves as many", 29), 0);
    fixture_run(&f, SAVER_IDLE_MS + 200);
    (void)field(begin_backup(), "id");
    fixture_close(&f);
}

TEST(saver, a_read_under_way_at_the_stop_and_one_nobody_fetches)
{
    struct manifest manifest = {0};
    char line[128];
    fixture_open_sized(&f, 64 * KIB);
    fill(300);
    const int64_t id = field(begin_backup(), "id");
    manifest_of(&manifest);
    const unsigned long long file = manifest.files[0].file_id;
    /* The client of the first read is gone before its answer: another one reads something else. */
    (void)snprintf(line, sizeof line, "KV.BACKUP READ %lld %016llx 0 5000\r\n", (long long)id,
                   file);
    struct fixture_client *gone = fixture_client(&f, 1);
    core_client_bytes(f.core, gone->session, (const uint8_t *)line, strlen(line));
    f.disk.latency_min = f.disk.latency_max = 5;
    core_turn(f.core, ++f.now_ms, ++f.wall_ms);
    core_client_closed(f.core, gone->session);
    gone->session = NULL;
    (void)snprintf(line, sizeof line, "KV.BACKUP READ %lld %016llx 4096 100", (long long)id, file);
    const char *reply = fixture_say(&f, line);
    if (reply[0] == 0) {
        fixture_run(&f, 1500);
        reply = (const char *)f.clients[0].out.data;
    }
    EXPECT_EQ(strncmp(reply, "$100\r\n", 6), 0);
    /* And one that the stop finds under way. */
    (void)snprintf(line, sizeof line, "KV.BACKUP READ %lld %016llx 0 5000\r\n", (long long)id,
                   file);
    struct fixture_client *last = fixture_client(&f, 2);
    core_client_bytes(f.core, last->session, (const uint8_t *)line, strlen(line));
    core_turn(f.core, ++f.now_ms, ++f.wall_ms);
    manifest_close(&manifest);
    fixture_close(&f);
}
