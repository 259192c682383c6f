/* Tests of storage/backup.c: what is written is read again, and every flipped bit and every cut is noticed. */
#include "storage/backup.h"
#include "storage/store_ship.h"

#include "storage/base/hash.h"
#include "tests/storage/store_model.h"

#define NAME "backup"
#define PIECE 5000u

static struct model model; /* too big for the stack */
static struct sim_disk shelf;
static struct backup writer;
static struct buf bytes;
static struct manifest manifest;

/* A replica with some sealed files, its manifest in @manifest. */
static void begin(uint32_t entries)
{
    struct buf encoded = {0};
    const char *wrong = NULL;
    model_init(&model, 21);
    model_bootstrap(&model);
    for (uint32_t i = 0; i < entries; i++) {
        model_append(&model);
        if (i % 7 == 0) model_settle(&model);
    }
    model_settle(&model);
    EXPECT_TRUE(model.applied_index >= entries / 2);
    for (int i = 0; i < 200 && !store_seal_upto(model.store, model.applied_index); i++) {
        store_turn(model.store, ++model.now_ms);
        sim_disk_settle(&model.disk);
    }
    EXPECT_EQ(store_base(model.store).index, model.applied_index);
    store_ship_manifest(model.store, &encoded);
    EXPECT_EQ(manifest_decode(buf_slice(&encoded), &manifest, &wrong), OK);
    buf_close(&encoded);
    sim_disk_init(&shelf, 1);
}

static void put_file(uint32_t at)
{
    const struct log_file *file = &manifest.files[at];
    for (uint64_t offset = 0; offset < file->used;) {
        struct buf data = {0};
        const uint64_t left = file->used - offset;
        EXPECT_EQ(
            model_ship_read(&model, file->file_id, offset, left < PIECE ? left : PIECE, &data), OK);
        backup_put_piece(&writer, file->file_id, offset, buf_slice(&data), &bytes);
        offset += data.size;
        buf_close(&data);
    }
}

static void write_all(void)
{
    const struct backup_header header = {.backup_id = 7,
                                         .storage_id = manifest.cluster_id,
                                         .cluster_id = 8,
                                         .node_id = 9,
                                         .made_ms = 10};
    backup_init(&writer, &shelf.disk, -1);
    backup_put_header(&writer, &header, &bytes);
    for (uint32_t i = 0; i < manifest.file_count; i++) put_file(i);
    backup_put_end(&writer, &manifest, &bytes);
    EXPECT_EQ(writer.size, bytes.size);
}

static void end(void)
{
    backup_close(&writer);
    buf_close(&bytes);
    manifest_close(&manifest);
    sim_disk_crash(&shelf);
    sim_disk_close(&shelf);
    store_close(model.store);
    model_close(&model);
}

/* Loads and verifies what lies on the shelf. */
static enum err verify(struct backup_facts *facts, uint64_t *file, uint64_t *offset)
{
    struct backup backup;
    disk_file handle = -1;
    uint64_t size = 0;
    const char *wrong = NULL;
    *file = 0;
    EXPECT_EQ(shelf.disk.open(shelf.disk.context, NAME, false, &handle), OK);
    EXPECT_EQ(shelf.disk.size(shelf.disk.context, handle, &size), OK);
    backup_init(&backup, &shelf.disk, handle);
    enum err err = backup_load(&backup, size, &wrong, offset);
    if (err == OK) err = backup_verify(&backup, facts, &wrong, file, offset);
    EXPECT_TRUE(wrong != NULL);
    backup_close(&backup);
    shelf.disk.close(shelf.disk.context, handle);
    return err;
}

TEST(backup, what_was_written_is_verified_and_counted)
{
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    begin(400);
    write_all();
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), OK);
    EXPECT_EQ(facts.index, model.applied_index);
    EXPECT_EQ(facts.keys, keydir_count(store_keys(model.store)));
    EXPECT_EQ(facts.files, manifest.file_count);
    EXPECT_EQ(facts.files_size, manifest_files_size(&manifest));
    EXPECT_EQ(facts.revision, facts.index * 65536 + 65535);
    end();
}

TEST(backup, a_file_reads_the_same_at_any_place_and_size)
{
    struct prng prng = prng_seed(5);
    struct buf whole = {0};
    begin(300);
    write_all();
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(shelf.disk.open(shelf.disk.context, NAME, false, &writer.file), OK);
    const struct log_file *file = &manifest.files[0];
    const disk_file handle = backup_handle(&writer, file->file_id);
    EXPECT_EQ(backup_handle(&writer, 12345), -1);
    EXPECT_EQ(backup_file_size(&writer, file->file_id), file->used);
    EXPECT_EQ(model_ship_read(&model, file->file_id, 0, file->used, &whole), OK);
    uint8_t *got = mem_alloc(file->used);
    uint64_t at = 0;
    for (int i = 0; i < 500; i++) {
        const uint64_t offset = prng_below(&prng, file->used);
        const uint64_t size = prng_below(&prng, file->used - offset + 1);
        EXPECT_EQ(backup_read(&writer, handle, offset, got, size, &at), OK);
        EXPECT_BYTES(got, whole.data + offset, size);
    }
    EXPECT_EQ(backup_read(&writer, handle, file->used, got, 1, &at), ERR_CORRUPT);
    EXPECT_EQ(backup_read(&writer, handle + 1000, 0, got, 1, &at), ERR_NOT_FOUND);
    mem_free(got);
    buf_close(&whole);
    end();
}

TEST(backup, every_flipped_byte_is_noticed)
{
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    struct prng prng = prng_seed(9);
    begin(60);
    write_all();
    /* Every bit of the frame, and of the data one in each stretch of 61 bytes. */
    for (uint64_t at = 0; at < bytes.size; at++) {
        const bool frame = at < 200 || at + 200 > bytes.size;
        if (!frame && at % 61 != 0) continue;
        for (uint32_t bit = 0; bit < (frame ? 8 : 1); bit++) {
            const uint32_t flipped = frame ? bit : (uint32_t)prng_below(&prng, 8);
            bytes.data[at] ^= (uint8_t)(1u << flipped);
            sim_disk_put(&shelf, NAME, buf_slice(&bytes));
            EXPECT_EQ(verify(&facts, &file, &offset), ERR_CORRUPT);
            bytes.data[at] ^= (uint8_t)(1u << flipped);
        }
    }
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), OK);
    end();
}

TEST(backup, every_cut_is_noticed)
{
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    begin(60);
    write_all();
    for (uint64_t size = 0; size < bytes.size; size += size < 300 ? 1 : 97) {
        sim_disk_put(&shelf, NAME, slice_of(bytes.data, size));
        EXPECT_EQ(verify(&facts, &file, &offset), ERR_CORRUPT);
    }
    buf_u64(&bytes, 0);
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), ERR_CORRUPT);
    end();
}

TEST(backup, a_later_version_is_newer_and_not_damage)
{
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    begin(60);
    write_all();
    put_u32(bytes.data + 8, BACKUP_VERSION + 1);
    put_u64(bytes.data + 56, hash64(bytes.data, 56));
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), ERR_NEWER);
    end();
}

TEST(backup, what_an_interrupted_save_left_in_it_does_no_harm_and_is_verified_too)
{
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    const struct backup_header header = {.backup_id = 7, .storage_id = 0};
    begin(400);
    EXPECT_TRUE(manifest.file_count >= 2);
    struct backup_header ours = header;
    ours.storage_id = manifest.cluster_id;
    backup_init(&writer, &shelf.disk, -1);
    backup_put_header(&writer, &ours, &bytes);
    const uint64_t stray = bytes.size + BACKUP_PIECE_HEADER_SIZE;
    backup_put_piece(&writer, 4711, 0, slice_text("of a file that is gone"), &bytes);
    /* The beginning of a file, wrong, and then the file as it is. */
    backup_put_piece(&writer, manifest.files[0].file_id, 0, slice_text("damaged"), &bytes);
    for (uint32_t i = 0; i < manifest.file_count; i++) put_file(i);
    backup_put_end(&writer, &manifest, &bytes);
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), OK);
    EXPECT_EQ(facts.keys, keydir_count(store_keys(model.store)));
    bytes.data[stray] ^= 1;
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(verify(&facts, &file, &offset), ERR_CORRUPT);
    EXPECT_EQ(offset, stray);
    end();
}

TEST(backup, a_damaged_file_of_the_source_is_named_while_the_backup_is_written)
{
    const char *wrong = NULL;
    uint64_t offset = 0;
    const struct backup_header header = {.backup_id = 7, .storage_id = 1};
    char name[SEGMENT_NAME_SIZE];
    begin(400);
    const struct log_file *second = &manifest.files[1];
    segment_name(name, model.config.folder, second->number);
    sim_disk_flip(&model.disk, name, (4096 + 100) * 8);
    backup_init(&writer, &shelf.disk, -1);
    backup_put_header(&writer, &header, &bytes);
    put_file(0);
    put_file(1);
    sim_disk_put(&shelf, NAME, buf_slice(&bytes));
    EXPECT_EQ(shelf.disk.open(shelf.disk.context, NAME, false, &writer.file), OK);
    EXPECT_EQ(backup_verify_file(&writer, &manifest, 0, &wrong, &offset), OK);
    EXPECT_EQ(backup_verify_file(&writer, &manifest, 1, &wrong, &offset), ERR_CORRUPT);
    EXPECT_EQ(offset, 4096);
    end();
}
