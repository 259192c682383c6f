/* Tests of storage/store_value.c: values at once or in the background, and what a disk that lies does to them. */
#include "tests/storage/store_model.h"

#include "storage/store_value.h"

static struct model model; /* too big for the stack */

/* A store whose memory holds no values, with one key of @size bytes of value, packed if @is_packed. */
static const struct keydir_entry *begin(uint64_t size, bool is_packed, uint8_t **value)
{
    struct buf body = {0};
    struct buf packed = {0};
    model_init(&model, 7);
    model.config.tail_size = 0;
    model_bootstrap(&model);
    *value = mem_alloc(size);
    for (uint64_t i = 0; i < size; i++) {
        (*value)[i] = is_packed ? (uint8_t)(i / 100) : (uint8_t)prng_next(&model.prng);
    }
    struct effect effect = {
        .kind = EFFECT_PUT, .key = slice_text("key-00"), .value = slice_of(*value, size)};
    if (is_packed) {
        EXPECT_TRUE(compress_pack(effect.value, &packed));
        effect.flags = EFFECT_FLAG_LZ4;
        effect.value = buf_slice(&packed);
    }
    buf_u32(&body, 1);
    buf_u32(&body, 0);
    effect_encode(&effect, &body);
    model_add(&model, RECORD_COMMAND, buf_slice(&body));
    store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
    model_settle(&model);
    /* The newest group stays in memory: another one takes its place. */
    for (uint32_t i = 0; i < 3; i++) {
        model_add(&model, RECORD_BARRIER, (struct slice){0});
        store_append(model.store, buf_slice(&model.entries[model.last_index]->record));
        model_settle(&model);
    }
    EXPECT_EQ(store_apply(model.store, model.last_index), OK);
    buf_close(&packed);
    buf_close(&body);
    return keydir_find(store_keys(model.store), slice_text("key-00"));
}

static void end(uint8_t *value)
{
    mem_free(value);
    store_close(model.store);
    model_close(&model);
}

static void expect_stored(struct slice stored, bool is_packed, const uint8_t *value, uint64_t size)
{
    struct buf raw = {0};
    if (is_packed) {
        EXPECT_EQ(compress_unpack(stored, &raw), OK);
        stored = buf_slice(&raw);
    }
    EXPECT_TRUE(slice_equal(stored, slice_of(value, size)));
    buf_close(&raw);
}

TEST(store_value, cached_values_are_there_at_once_and_others_are_read)
{
    for (uint32_t i = 0; i < 2; i++) {
        const bool is_packed = i == 1;
        const uint64_t size = 5000;
        uint8_t *value;
        struct slice stored;
        struct store_read read = {0};
        const struct keydir_entry *entry = begin(size, is_packed, &value);
        EXPECT_EQ(keydir_info(entry).is_compressed, is_packed);
        EXPECT_EQ(store_value_now(model.store, entry, &stored), OK);
        expect_stored(stored, is_packed, value, size);

        model.disk.cold_percent = 100;
        EXPECT_EQ(store_value_now(model.store, entry, &stored), ERR_AGAIN);
        store_read_begin(model.store, entry, &read);
        EXPECT_FALSE(read.is_done);
        sim_disk_settle(&model.disk);
        EXPECT_TRUE(read.is_done);
        EXPECT_EQ(store_read_value(&read, &stored), OK);
        expect_stored(stored, is_packed, value, size);
        EXPECT_EQ(store_read_value(&read, &stored), OK);
        store_read_close(&read);
        /* Who can wait needs no such thing. */
        EXPECT_EQ(store_value(model.store, entry, &stored), OK);
        EXPECT_TRUE(slice_equal(stored, slice_of(value, size)));
        end(value);
    }
}

TEST(store_value, a_large_value_is_never_copied_in_a_turn)
{
    uint8_t *value;
    struct slice stored;
    struct store_read read = {0};
    const struct keydir_entry *entry = begin(STORE_READ_NOW_MAX, false, &value);
    EXPECT_EQ(store_value_now(model.store, entry, &stored), ERR_AGAIN);
    store_read_begin(model.store, entry, &read);
    sim_disk_settle(&model.disk);
    EXPECT_EQ(store_read_value(&read, &stored), OK);
    expect_stored(stored, false, value, STORE_READ_NOW_MAX);
    store_read_close(&read);
    end(value);
}

TEST(store_value, damage_is_found_in_the_background_too)
{
    uint8_t *value;
    struct slice stored;
    const struct keydir_entry *entry = begin(4000, true, &value);
    const struct keydir_info info = keydir_info(entry);
    char file[64];
    (void)snprintf(file, sizeof file, "shard-0000/%08u.log", info.place.file);
    model.disk.cold_percent = 100;
    for (uint64_t bit = 0; bit < 8 * (EFFECT_HEADER_SIZE + info.key.size + info.value_size);
         bit += 5) {
        struct store_read read = {0};
        sim_disk_flip(&model.disk, file, 8 * info.place.offset + bit);
        store_read_begin(model.store, entry, &read);
        sim_disk_settle(&model.disk);
        EXPECT_EQ(store_read_value(&read, &stored), ERR_CORRUPT);
        EXPECT_EQ(store_read_value(&read, &stored), ERR_CORRUPT);
        store_read_close(&read);
        sim_disk_flip(&model.disk, file, 8 * info.place.offset + bit);
    }
    struct store_read read = {0};
    memcpy(model.disk.read_error, file, strlen(file) + 1);
    store_read_begin(model.store, entry, &read);
    sim_disk_settle(&model.disk);
    EXPECT_EQ(store_read_value(&read, &stored), ERR_IO);
    store_read_close(&read);
    model.disk.read_error[0] = 0;
    end(value);
}

TEST(store_value, closing_waits_for_what_is_being_read)
{
    uint8_t *value;
    struct slice stored;
    struct store_read reads[3] = {0};
    const struct keydir_entry *entry = begin(3000, false, &value);
    for (uint32_t i = 0; i < 3; i++) store_read_begin(model.store, entry, &reads[i]);
    store_close(model.store);
    for (uint32_t i = 0; i < 3; i++) {
        EXPECT_TRUE(reads[i].is_done);
        EXPECT_EQ(store_read_value(&reads[i], &stored), OK);
        store_read_close(&reads[i]);
    }
    model_open(&model);
    end(value);
}
