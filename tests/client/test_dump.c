/* Tests of kvctl dump: what it says of whole files, and that it goes on behind what is damaged. */
#include "client/ctl_dump.h"

#include <stdio.h>
#include <stdlib.h>

#include "node/identity.h"
#include "storage/ballot.h"
#include "storage/hint.h"
#include "storage/manifest.h"
#include "storage/table.h"
#include "tests/storage/store_model.h"

static struct model model; /* too big for the stack */
static char *text;
static uint64_t bad_count;
static uint64_t size_told; /* in place of the file's own; 0: none */

/* Dumps a file of the disk into @text. */
static void dump(const char *name, bool json)
{
    struct disk *disk = &model.disk.disk;
    struct ctl_dump dump = {.disk = disk, .path = name, .json = json, .values = true};
    const char *slash = strrchr(name, '/');
    size_t size = 0;
    free(text);
    text = NULL;
    EXPECT_EQ(disk->open(disk->context, name, false, &dump.file), OK);
    EXPECT_EQ(disk->size(disk->context, dump.file, &dump.size), OK);
    if (size_told > 0) dump.size = size_told;
    FILE *kept = stdout;
    stdout = open_memstream(&text, &size);
    EXPECT_TRUE(stdout != NULL);
    ctl_dump_file(&dump, slash != NULL ? slash + 1 : name);
    (void)fclose(stdout);
    stdout = kept;
    disk->close(disk->context, dump.file);
    /* The model's configurations are none, which is said and does not count here. */
    bad_count = dump.bad_count;
    for (const char *at = text; (at = strstr(at, "this is no configuration")) != NULL; at++) {
        bad_count--;
    }
}

static bool is_model_change(const char *line)
{
    const char *end = strchr(line, '\n');
    const char *found = strstr(line, "this is no configuration");
    return found != NULL && end != NULL && found < end;
}

/* How often a line of @kind is there. */
static uint32_t lines(const char *kind)
{
    char want[64];
    uint32_t count = 0;
    (void)snprintf(want, sizeof want, " %s", kind);
    for (const char *line = text; line != NULL && *line != 0;) {
        const char *at = strchr(line, '@');
        const char *space = at != NULL ? strchr(at, ' ') : NULL;
        const size_t size = strlen(want);
        if (space != NULL && strncmp(space, want, size) == 0 &&
            (space[size] == ' ' || space[size] == '\n') && !is_model_change(line)) {
            count++;
        }
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    return count;
}

static void begin(uint32_t entries)
{
    model_init(&model, 31);
    model_bootstrap(&model);
    for (uint32_t i = 0; i < entries; i++) {
        model_append(&model);
        if (i % 5 == 0) model_settle(&model);
    }
    model_settle(&model);
    model_idle(&model);
}

static void end(void)
{
    free(text);
    text = NULL;
    if (model.store != NULL) store_close(model.store);
    model.store = NULL;
    model_close(&model);
}

/* The file of the model's segment @number. */
static const char *segment(uint32_t number)
{
    static char name[SEGMENT_NAME_SIZE];
    segment_name(name, model.config.folder, number);
    return name;
}

/* Offset of the first line of @kind behind @after. */
static uint64_t offset_of(const char *kind, uint64_t after)
{
    char want[64];
    (void)snprintf(want, sizeof want, " %s", kind);
    for (const char *line = text; line != NULL && *line != 0;) {
        const char *at = strchr(line, '@');
        const uint64_t offset = at != NULL ? strtoull(at + 1, NULL, 10) : 0;
        const char *space = at != NULL ? strchr(at, ' ') : NULL;
        if (space != NULL && offset > after && strncmp(space, want, strlen(want)) == 0 &&
            !is_model_change(line)) {
            return offset;
        }
        line = strchr(line, '\n');
        if (line != NULL) line++;
    }
    return 0;
}

TEST(dump, a_segment_group_by_group)
{
    begin(100);
    dump(segment(1), false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("DAMAGED"), 0);
    EXPECT_EQ(lines("segment"), 1);
    EXPECT_EQ(lines("end"), 1);
    EXPECT_TRUE(lines("group") > 10);
    EXPECT_TRUE(lines("put") > 20);
    EXPECT_TRUE(lines("change") > 0);
    EXPECT_TRUE(strstr(text, " index=1 term=1 ") != NULL);
    uint32_t marks = 0;
    for (uint32_t i = 1; i < 9; i++) {
        if (!sim_disk_exists(&model.disk, segment(i))) continue;
        dump(segment(i), false);
        EXPECT_EQ(bad_count, 0);
        marks += lines("mark");
    }
    EXPECT_TRUE(marks > 0);
    end();
}

TEST(dump, behind_a_damaged_group_it_goes_on)
{
    begin(100);
    dump(segment(1), false);
    const uint32_t groups = lines("group");
    const uint32_t puts = lines("put");
    const uint64_t hit = offset_of("group", 20000);
    EXPECT_TRUE(hit > 0);
    /* In its records. */
    sim_disk_flip(&model.disk, segment(1), (hit + 70) * 8);
    dump(segment(1), false);
    EXPECT_TRUE(bad_count >= 1);
    EXPECT_EQ(lines("DAMAGED"), bad_count);
    EXPECT_EQ(offset_of("DAMAGED", 0), hit);
    EXPECT_EQ(lines("group"), groups);
    EXPECT_TRUE(lines("put") < puts);
    EXPECT_TRUE(lines("put") > puts / 2);
    /* In its header, too: the group is gone, and the one behind it is not. */
    sim_disk_flip(&model.disk, segment(1), (hit + 16) * 8);
    dump(segment(1), false);
    EXPECT_EQ(offset_of("DAMAGED", 0), hit);
    EXPECT_TRUE(strstr(text, "although a sound one follows") != NULL);
    EXPECT_TRUE(offset_of("group", hit) > hit);
    EXPECT_EQ(lines("group"), groups - 1);
    end();
}

TEST(dump, a_damaged_header_a_cut_and_a_group_of_another_place)
{
    begin(60);
    dump(segment(1), false);
    const uint32_t groups = lines("group");
    sim_disk_flip(&model.disk, segment(1), 20 * 8);
    dump(segment(1), false);
    EXPECT_TRUE(strstr(text, "the header is damaged") != NULL);
    EXPECT_EQ(lines("group"), groups);
    sim_disk_flip(&model.disk, segment(1), 20 * 8);
    /* Written over by an older group of the same file. */
    struct buf copy = {0};
    const struct slice file = sim_disk_file(&model.disk, segment(1));
    buf_append(&copy, file.data, file.size);
    memcpy(copy.data + 12288, copy.data + 4096, 4096);
    store_close(model.store);
    model.store = NULL;
    sim_disk_put(&model.disk, segment(1), buf_slice(&copy));
    dump(segment(1), false);
    EXPECT_EQ(offset_of("DAMAGED", 0), 12288);
    for (uint64_t size = 0; size < 20000; size += 611) {
        sim_disk_put(&model.disk, segment(1), slice_of(copy.data, size));
        dump(segment(1), false);
        EXPECT_TRUE(size % 4096 == 0 || bad_count > 0);
    }
    buf_close(&copy);
    end();
}

/* Two puts and an expiry, in two groups. */
static void put_table(const char *name)
{
    struct table table;
    struct buf bytes = {0};
    struct buf effect = {0};
    uint8_t block[SEGMENT_BLOCK_SIZE];
    uint64_t offset = 0;
    const struct log_file file = {.number = 7, .file_id = 77, .first_index = 3, .last_index = 9};
    table_init(&table, 1, 2, 0, &file);
    table_header(&table, 65536, block);
    buf_append(&bytes, block, sizeof block);
    for (uint64_t i = 0; i < 4; i++) {
        const struct effect put = {.kind = EFFECT_PUT,
                                   .key = slice_text(i == 0 ? "a\nb" : "key"),
                                   .value = slice_text("value"),
                                   .expiry_ms = i};
        effect.size = 0;
        effect_encode(&put, &effect);
        table_add(&table, revision_of(3 + i, 1), &put, buf_slice(&effect));
        if (i % 2 == 0) continue;
        const struct slice group = table_seal(&table, &offset);
        EXPECT_EQ(offset, bytes.size);
        buf_append(&bytes, group.data, group.size);
        table_next(&table);
    }
    table_close(&table);
    sim_disk_put(&model.disk, name, buf_slice(&bytes));
    buf_close(&bytes);
    buf_close(&effect);
}

TEST(dump, a_table_with_its_revisions)
{
    begin(10);
    put_table("00000007.tab");
    dump("00000007.tab", false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("table"), 1);
    EXPECT_EQ(lines("group"), 2);
    EXPECT_EQ(lines("put"), 4);
    EXPECT_TRUE(strstr(text, "put key=\"a\\nb\" revision=196609 bytes=5") != NULL);
    EXPECT_TRUE(strstr(text, "revision=393217") != NULL);
    EXPECT_TRUE(strstr(text, "value=\"value\"") != NULL);
    /* The same as JSON: one object a line. */
    dump("00000007.tab", true);
    EXPECT_TRUE(strstr(text, "\"kind\":\"put\",\"key\":\"a\\nb\",\"revision\":196609") != NULL);
    sim_disk_flip(&model.disk, "00000007.tab", (4096 + 120) * 8);
    dump("00000007.tab", false);
    EXPECT_TRUE(bad_count > 0);
    EXPECT_EQ(lines("group"), 2);
    EXPECT_TRUE(strstr(text, "revision=393217") != NULL);
    end();
}

TEST(dump, a_hint_chunk_by_chunk)
{
    struct hint hint;
    const struct hint_segment owner = {.cluster_id = 1, .file_id = 2, .used_size = 4096};
    char key[32];
    begin(10);
    hint_init(&hint, owner.file_id);
    for (uint32_t i = 0; i < 4000; i++) {
        (void)snprintf(key, sizeof key, "key:%u", i);
        const struct hint_entry entry = {.kind = EFFECT_PUT,
                                         .offset = 8 * i,
                                         .value_size = 1000,
                                         .revision = i,
                                         .key = slice_text(key)};
        hint_add(&hint, &entry);
    }
    const struct slice bytes = hint_finish(&hint, &owner);
    sim_disk_put(&model.disk, "00000001.idx", bytes);
    dump("00000001.idx", false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("put"), 4000);
    const uint32_t chunks = lines("chunk");
    EXPECT_TRUE(chunks >= 2);
    /* The first chunk is damaged: the others are still there. */
    sim_disk_flip(&model.disk, "00000001.idx", 300 * 8);
    dump("00000001.idx", false);
    EXPECT_EQ(offset_of("DAMAGED", 0), 80);
    EXPECT_EQ(lines("chunk"), chunks - 1);
    EXPECT_TRUE(lines("put") > 1000);
    EXPECT_TRUE(lines("put") < 4000);
    sim_disk_flip(&model.disk, "00000001.idx", 30 * 8);
    dump("00000001.idx", false);
    EXPECT_TRUE(strstr(text, "the header is damaged") != NULL);
    for (uint64_t size = 0; size < bytes.size; size += 997) {
        sim_disk_put(&model.disk, "00000001.idx", slice_of(bytes.data, size));
        dump("00000001.idx", false);
        EXPECT_TRUE(bad_count > 0);
    }
    hint_close(&hint);
    end();
}

/* No more memory is asked for than a hint can need. */
TEST(dump, a_hint_of_a_size_that_no_hint_has)
{
    static const uint8_t zeros[200];
    begin(10);
    sim_disk_put(&model.disk, "00000001.idx", slice_of(zeros, sizeof zeros));
    size_told = UINT64_C(1) << 40;
    dump("00000001.idx", false);
    size_told = 0;
    EXPECT_EQ(bad_count, 1);
    EXPECT_TRUE(strstr(text, "a size that it cannot have") != NULL);
    end();
}

TEST(dump, a_manifest_also_with_a_wrong_checksum)
{
    char name[192];
    begin(400);
    (void)snprintf(name, sizeof name, "%s/MANIFEST", model.config.folder);
    dump(name, false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("manifest"), 1);
    const uint32_t files = lines("segment") + lines("table");
    EXPECT_TRUE(files > 0);
    sim_disk_flip(&model.disk, name, 56 * 8);
    dump(name, false);
    EXPECT_EQ(bad_count, 1);
    EXPECT_TRUE(strstr(text, "its checksum is wrong") != NULL);
    EXPECT_EQ(lines("segment") + lines("table"), files);
    end();
}

TEST(dump, vote_identity_and_what_it_does_not_know)
{
    struct config config;
    struct identity identity;
    char message[512];
    char name[192];
    begin(10);
    (void)snprintf(name, sizeof name, "%s/vote", model.config.folder);
    dump(name, false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("vote"), 2);
    sim_disk_flip(&model.disk, name, 24 * 8);
    dump(name, false);
    EXPECT_EQ(bad_count, 1);
    EXPECT_EQ(lines("vote"), 2);

    (void)snprintf(name, sizeof name, "%s/expected", model.config.folder);
    dump(name, false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_EQ(lines("expected"), 2);
    sim_disk_flip(&model.disk, name, 40 * 8);
    dump(name, false);
    EXPECT_EQ(bad_count, 1);

    config_defaults(&config, "me");
    EXPECT_EQ(config_finish(&config, message), OK);
    EXPECT_EQ(identity_make(&config, 0, 5, &identity, message), OK);
    EXPECT_EQ(identity_save(&model.disk.disk, &identity), OK);
    dump("identity", false);
    EXPECT_EQ(bad_count, 0);
    EXPECT_TRUE(strstr(text, "name=\"me\"") != NULL);
    EXPECT_EQ(lines("member"), 1);
    sim_disk_flip(&model.disk, "identity", 40 * 8);
    dump("identity", false);
    EXPECT_EQ(bad_count, 1);
    EXPECT_EQ(lines("identity"), 1);

    sim_disk_put(&model.disk, "strange", slice_text("what is this?"));
    dump("strange", false);
    EXPECT_EQ(bad_count, 1);
    end();
}
