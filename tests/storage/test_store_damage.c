/* Tests of storage/store*.c on disks that are damaged, foreign or full. */
#include "tests/storage/store_model.h"

static struct model model; /* too big for the stack */

static void fill(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        model_append(&model);
        if (i % 9 == 0) model_settle(&model);
    }
    model_settle(&model);
    model_idle(&model);
}

static void begin(uint32_t count)
{
    model_init(&model, 21);
    model_bootstrap(&model);
    fill(count);
}

static void end(void)
{
    if (model.store != NULL) store_close(model.store);
    model_close(&model);
}

static void close_store(void)
{
    store_close(model.store);
    model.store = NULL;
}

/* A start must refuse with @wanted, name @file, and change nothing on the disk. */
static void expect_refused(enum err wanted, const char *file)
{
    const uint64_t changes = model.disk.change_count;
    const enum err err = model_try_open(&model);
    if (err != wanted) print_error("%s: %s\n", err_name(err), model.message);
    EXPECT_EQ(err, wanted);
    EXPECT_TRUE(strstr(model.message, file) != NULL);
    EXPECT_TRUE(strchr(model.message, '\n') == NULL);
    EXPECT_EQ(model.disk.change_count, changes);
}

/* A start must go well, name @file, know of the damage, and have every key. */
static void expect_damaged(const char *file)
{
    const enum err err = model_try_open(&model);
    if (err != OK) print_error("%s: %s\n", err_name(err), model.message);
    EXPECT_EQ(err, OK);
    EXPECT_TRUE(strstr(model.message, file) != NULL);
    EXPECT_TRUE(strchr(model.message, '\n') == NULL);
    EXPECT_TRUE(damage_has(store_damage(model.store), 1));
    EXPECT_EQ(store_last_index(model.store), model.last_index);
    EXPECT_TRUE(store_first_index(model.store) > 1);
    close_store();
}

TEST(store_damage, every_flipped_bit_of_a_manifest_is_refused)
{
    begin(300);
    EXPECT_LT(2, store_base(model.store).index);
    close_store();
    const uint64_t size = sim_disk_file(&model.disk, "shard-0000/MANIFEST").size;
    for (uint64_t bit = 0; bit < 8 * size; bit++) {
        sim_disk_flip(&model.disk, "shard-0000/MANIFEST", bit);
        expect_refused(ERR_CORRUPT, "shard-0000/MANIFEST");
        sim_disk_flip(&model.disk, "shard-0000/MANIFEST", bit);
    }
    sim_disk_truncate(&model.disk, "shard-0000/MANIFEST", size - 8);
    expect_refused(ERR_CORRUPT, "shard-0000/MANIFEST");
    sim_disk_truncate(&model.disk, "shard-0000/MANIFEST", 0);
    expect_refused(ERR_CORRUPT, "shard-0000/MANIFEST");
    end();
}

TEST(store_damage, f10_a_disk_that_cannot_be_read_is_refused_or_known_to_be_damaged)
{
    begin(300);
    close_store();
    const char *files[] = {"shard-0000/MANIFEST", "shard-0000/00000001.log"};
    memcpy(model.disk.read_error, files[0], strlen(files[0]) + 1);
    expect_refused(ERR_IO, files[0]);
    /* F10: of a sealed file the hint tells the keys. */
    memcpy(model.disk.read_error, files[1], strlen(files[1]) + 1);
    expect_damaged(files[1]);
    model.disk.read_error[0] = 0;
    model_open(&model);
    model_adopt(&model, model.last_index);
    model_compare(&model);
    end();
}

TEST(store_damage, a_folder_of_another_cluster_shard_or_node_is_refused)
{
    begin(300);
    close_store();
    model.config.cluster_id++;
    expect_refused(ERR_FOREIGN, "shard-0000/");
    model.config.cluster_id--;
    model.config.shard++;
    expect_refused(ERR_FOREIGN, "shard-0000/");
    model.config.shard--;
    model.config.node_id++;
    expect_refused(ERR_FOREIGN, "shard-0000/");
    model.config.node_id--;
    model_open(&model);
    end();
}

TEST(store_damage, a_missing_or_foreign_hint_is_made_again)
{
    begin(900);
    close_store();
    struct buf first = {0};
    struct buf second = {0};
    struct slice file = sim_disk_file(&model.disk, "shard-0000/00000001.idx");
    buf_append(&first, file.data, file.size);
    file = sim_disk_file(&model.disk, "shard-0000/00000002.idx");
    buf_append(&second, file.data, file.size);
    EXPECT_LT(1000, first.size);
    for (uint32_t i = 0; i < 4; i++) {
        const char *name = "shard-0000/00000001.idx";
        if (i == 0) EXPECT_TRUE(sim_disk_drop(&model.disk, name));
        if (i == 1) sim_disk_put(&model.disk, name, buf_slice(&second));
        if (i == 2) sim_disk_truncate(&model.disk, name, first.size / 2);
        if (i == 3) sim_disk_flip(&model.disk, name, first.size * 8 - 1);
        model_open(&model);
        EXPECT_TEXT(model.message, "");
        EXPECT_TRUE(slice_equal(sim_disk_file(&model.disk, name), buf_slice(&first)));
        model_adopt(&model, model.last_index);
        model_compare(&model);
        close_store();
    }
    /* A full disk cannot take the hint: that does not matter. */
    EXPECT_TRUE(sim_disk_drop(&model.disk, "shard-0000/00000001.idx"));
    model.disk.capacity = 0;
    model_open(&model);
    model_adopt(&model, model.last_index);
    model_compare(&model);
    buf_close(&first);
    buf_close(&second);
    end();
}

TEST(store_damage, every_flipped_bit_of_a_hint_is_harmless)
{
    begin(300);
    model.config.retention_size = 0;
    close_store();
    struct buf hint = {0};
    const struct slice file = sim_disk_file(&model.disk, "shard-0000/00000001.idx");
    buf_append(&hint, file.data, file.size);
    struct prng prng = prng_seed(1);
    for (uint32_t i = 0; i < 300; i++) {
        sim_disk_flip(&model.disk, "shard-0000/00000001.idx", prng_below(&prng, 8 * hint.size));
        model_open(&model);
        model_adopt(&model, model.last_index);
        model_compare(&model);
        close_store();
        EXPECT_TRUE(
            slice_equal(sim_disk_file(&model.disk, "shard-0000/00000001.idx"), buf_slice(&hint)));
    }
    buf_close(&hint);
    end();
}

TEST(store_damage, a_sealed_file_that_is_missing_is_known_by_its_hint_or_refused)
{
    begin(900);
    close_store();
    struct sim_image image;
    sim_disk_save(&model.disk, &image);
    EXPECT_TRUE(sim_disk_drop(&model.disk, "shard-0000/00000001.log"));
    expect_damaged("shard-0000/00000001.log");
    EXPECT_TRUE(sim_disk_drop(&model.disk, "shard-0000/00000001.idx"));
    expect_refused(ERR_CORRUPT, "shard-0000/00000001.log");

    /* Without its hint a file is read as a whole, so any damage shows at the start. */
    struct prng prng = prng_seed(1);
    for (uint32_t i = 0; i < 40; i++) {
        sim_disk_restore(&model.disk, &image);
        EXPECT_TRUE(sim_disk_drop(&model.disk, "shard-0000/00000001.idx"));
        sim_disk_flip(&model.disk, "shard-0000/00000001.log", prng_below(&prng, 8 * 40000));
        const enum err err = model_try_open(&model);
        if (err == OK) { /* The padding of a group or of the header. */
            model_adopt(&model, model.last_index);
            model_compare(&model);
            close_store();
            continue;
        }
        EXPECT_TRUE(err == ERR_CORRUPT || err == ERR_NEWER || err == ERR_FOREIGN);
        EXPECT_TRUE(strstr(model.message, "shard-0000/00000001.log") != NULL);
    }
    sim_disk_restore(&model.disk, &image);
    model_open(&model);
    sim_image_close(&image);
    end();
}

TEST(store_damage, a_damaged_value_is_an_error_and_never_a_value)
{
    begin(900);
    model.config.tail_size = 0;
    model.config.retention_size = 0;
    model_restart(&model);
    uint32_t damaged = 0;
    for (uint32_t i = 0; i < MODEL_KEYS; i++) {
        char name[400];
        model_key_name(i, name);
        const struct keydir_entry *entry = keydir_find(store_keys(model.store), slice_text(name));
        if (entry == NULL) continue;
        const struct keydir_info info = keydir_info(entry);
        if (info.is_inline) continue;
        char file[64];
        (void)snprintf(file, sizeof file, "shard-0000/%08u.log", info.place.file);
        const uint64_t size = EFFECT_HEADER_SIZE + info.key.size + info.value_size;
        /* Another bit of the effect for every key: checksum, sizes, key and value. */
        const uint64_t bit = 8 * info.place.offset + i * 7919 % (8 * size);
        struct slice value;
        EXPECT_EQ(store_value(model.store, entry, &value), OK);
        sim_disk_flip(&model.disk, file, bit);
        const enum err err = store_value(model.store, entry, &value);
        if (store_base(model.store).index >= revision_index(info.revision)) {
            EXPECT_EQ(err, ERR_CORRUPT);
            damaged++;
        }
        sim_disk_flip(&model.disk, file, bit);
        EXPECT_EQ(store_value(model.store, entry, &value), OK);
        memcpy(model.disk.read_error, file, strlen(file) + 1);
        if (store_base(model.store).index >= revision_index(info.revision)) {
            EXPECT_EQ(store_value(model.store, entry, &value), ERR_IO);
        }
        model.disk.read_error[0] = 0;
    }
    EXPECT_LT(10, damaged);
    model_compare(&model);
    end();
}

TEST(store_damage, the_value_of_another_key_is_not_given)
{
    begin(10);
    struct buf body = {0};
    uint8_t bytes[100] = {0};
    buf_u64(&body, 2);
    for (uint32_t i = 0; i < 2; i++) {
        char name[400];
        model_key_name(i, name);
        const struct effect effect = {
            .kind = EFFECT_PUT, .key = slice_text(name), .value = slice_of(bytes, sizeof bytes)};
        effect_encode(&effect, &body);
    }
    model_add(&model, RECORD_COMMAND, buf_slice(&body));
    buf_close(&body);
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    model_settle(&model);
    /* An index that points to the wrong place, by a bug or a flipped bit in memory. */
    struct keydir *keys = store_keys(model.store);
    const struct keydir_info other = keydir_info(keydir_find(keys, slice_text("key-01")));
    keydir_put(keys, slice_text("key-00"), slice_of(NULL, sizeof bytes), 0, other.revision, 0,
               other.place, NULL);
    struct slice value;
    EXPECT_EQ(store_value(model.store, keydir_find(keys, slice_text("key-01")), &value), OK);
    EXPECT_EQ(store_value(model.store, keydir_find(keys, slice_text("key-00")), &value),
              ERR_CORRUPT);
    end();
}

TEST(store_damage, an_entry_that_cannot_be_read_back_stops_apply)
{
    begin(100);
    model.config.tail_size = 0;
    close_store();
    model_open(&model);
    for (uint32_t i = 0; i < 60; i++) {
        model_append(&model);
        EXPECT_EQ(store_flush_wait(model.store), OK);
    }
    model_idle(&model);
    /* The newest file with a group in it holds entries that are not applied. */
    char newest[64] = "";
    struct buf names = {0};
    sim_disk_names(&model.disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        if (strstr(name, ".log") == NULL) continue;
        if (sim_disk_file(&model.disk, name).data[4096] != 0) {
            memcpy(newest, name, strlen(name) + 1);
        }
    }
    buf_close(&names);
    memcpy(model.disk.read_error, newest, strlen(newest) + 1);
    EXPECT_EQ(store_apply(model.store, model.last_index), ERR_IO);
    model.disk.read_error[0] = 0;
    store_check(model.store);
    EXPECT_LT(store_applied_index(model.store), model.last_index);
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    model_apply(&model, model.last_index);
    model_compare(&model);
    end();
}

TEST(store_damage, a_full_disk_refuses_gently_and_recovers)
{
    begin(200);
    model.disk.capacity = sim_disk_used(&model.disk);
    uint32_t accepted = 0;
    while (!store_nospace(model.store)) {
        model_append(&model);
        store_flush(model.store);
        sim_disk_settle(&model.disk);
        const uint64_t persisted = store_persisted_index(model.store);
        EXPECT_EQ(store_apply(model.store, persisted), OK);
        model_apply(&model, persisted);
        model.now_ms += 20;
        store_turn(model.store, model.now_ms);
        sim_disk_settle(&model.disk);
        store_check(model.store);
        EXPECT_LT(accepted++, 1000);
    }
    model_compare(&model);
    /* Votes can still be cast: their file is there already. */
    store_save_ballot(model.store, ++model.term, 3);
    /* What is pending stays pending. It is not lost: it is just not durable yet. */
    for (uint32_t i = 0; i < 60; i++) model_append(&model);
    EXPECT_EQ(store_flush_wait(model.store), ERR_NOSPACE);
    EXPECT_LT(store_persisted_index(model.store), model.last_index);
    for (uint32_t i = 0; i < 10; i++) {
        model.now_ms += 500;
        store_turn(model.store, model.now_ms);
        sim_disk_settle(&model.disk);
        store_check(model.store);
        EXPECT_TRUE(store_nospace(model.store));
    }
    EXPECT_LT(store_deadline(model.store), model.now_ms + 1001);
    const uint64_t base = store_base(model.store).index;
    model.disk.capacity = UINT64_MAX;
    const uint64_t start = model.now_ms;
    for (uint32_t i = 0; i < 100; i++) {
        model.now_ms += 20;
        store_flush(model.store);
        store_turn(model.store, model.now_ms);
        sim_disk_settle(&model.disk);
        if (!store_nospace(model.store)) break;
    }
    EXPECT_FALSE(store_nospace(model.store));
    EXPECT_LE(model.now_ms - start, 1100);
    model_settle(&model);
    model.now_ms += 1000;
    model_idle(&model);
    model_compare(&model);
    EXPECT_LT(base, store_base(model.store).index);
    model_restart(&model);
    model_compare_log(&model);
    end();
}

TEST(store_damage, sealing_on_a_full_disk_is_tried_again)
{
    begin(100);
    for (uint32_t i = 0; i < 200; i++) {
        model_append(&model);
        EXPECT_EQ(store_flush_wait(model.store), OK);
    }
    model_idle(&model);
    const uint64_t base = store_base(model.store).index;
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    model_apply(&model, model.last_index);
    model.disk.capacity = 0;
    for (uint32_t i = 0; i < 20; i++) {
        store_turn(model.store, model.now_ms);
        sim_disk_settle(&model.disk);
        store_check(model.store);
        const uint64_t deadline = store_deadline(model.store);
        EXPECT_LE(deadline, model.now_ms + 1000);
        if (deadline > model.now_ms) model.now_ms = deadline;
    }
    EXPECT_EQ(store_base(model.store).index, base);
    EXPECT_LT(9000, model.now_ms); /* it did not spin */
    model.disk.capacity = UINT64_MAX;
    model_idle(&model);
    EXPECT_LT(base, store_base(model.store).index);
    model_compare(&model);
    model_restart(&model);
    end();
}

/* The first segment that is full holds entry 1 alone: a base at index 1 must not be. */
TEST(store_damage, there_is_never_a_base_at_index_1)
{
    model_init(&model, 31);
    model.config.segment_size = 16384;
    model_bootstrap(&model);
    static uint8_t big[60000];
    struct buf body = {0};
    buf_u64(&body, 1);
    const struct effect effect = {
        .kind = EFFECT_PUT, .key = slice_text("key-01"), .value = slice_of(big, sizeof big)};
    effect_encode(&effect, &body);
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_EQ(store_flush_wait(model.store), OK);
        model_idle(&model); /* comes to rest although a segment could be sealed, but for the rule */
        EXPECT_NE(store_base(model.store).index, 1);
        model_settle(&model);
        model_idle(&model);
        EXPECT_NE(store_base(model.store).index, 1);
        model_add(&model, RECORD_COMMAND, buf_slice(&body));
        store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    }
    buf_close(&body);
    model_settle(&model);
    model_idle(&model);
    EXPECT_LT(2, store_base(model.store).index);
    model_compare(&model);
    model_restart(&model);
    end();
}
