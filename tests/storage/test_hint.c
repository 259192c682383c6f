/* Tests of storage/hint.c: a hint gives back what was added, for its own segment only. */
#include "tests/test.h"

#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "storage/base/prng.h"
#include "storage/effect.h"
#include "storage/hint.h"
#include "tests/sim/sim_disk.h"

static const struct hint_segment segment = {
    .cluster_id = 0xc1, .file_id = 0xf1, .used_size = 8192, .chain_end = {5, 6}};

/* The i-th entry of a made-up hint: keys and values of all sizes, every kind. */
static struct hint_entry entry_of(uint32_t i, const uint8_t *bytes)
{
    struct prng prng = prng_seed(i);
    struct hint_entry entry = {
        .kind = (uint8_t)(1 + prng_below(&prng, 4)),
        .flags = (uint8_t)prng_below(&prng, 4),
        .offset = 4096 + 8 * i,
        .revision = revision_of(i + 2, i % 7),
        .expiry_ms = prng_below(&prng, 2) * prng_next(&prng),
    };
    if (entry.kind != EFFECT_FLUSH) {
        const bool long_key = prng_below(&prng, 50) == 0;
        entry.key = slice_of(bytes, 1 + prng_below(&prng, long_key ? KEY_SIZE_MAX : 40));
    }
    if (entry.kind == EFFECT_PUT) {
        entry.value_size = (uint32_t)prng_below(&prng, 2 * VALUE_INLINE_MAX);
        entry.value = slice_of(bytes + 100, entry.value_size);
    }
    return entry;
}

static struct buf make(uint32_t count, const uint8_t *bytes)
{
    struct hint hint;
    hint_init(&hint, segment.file_id);
    for (uint32_t i = 0; i < count; i++) {
        const struct hint_entry entry = entry_of(i, bytes);
        hint_add(&hint, &entry);
    }
    const struct slice file = hint_finish(&hint, &segment);
    struct buf out = {0};
    buf_append(&out, file.data, file.size);
    hint_close(&hint);
    return out;
}

static uint8_t *random_bytes(uint64_t size)
{
    struct prng prng = prng_seed(99);
    uint8_t *bytes = mem_alloc(size);
    for (uint64_t i = 0; i < size; i++) bytes[i] = (uint8_t)prng_next(&prng);
    return bytes;
}

static void expect_entry(const struct hint_entry *read, const struct hint_entry *wanted)
{
    EXPECT_EQ(read->kind, wanted->kind);
    EXPECT_EQ(read->flags, wanted->flags);
    EXPECT_EQ(read->offset, wanted->offset);
    EXPECT_EQ(read->revision, wanted->revision);
    EXPECT_EQ(read->expiry_ms, wanted->expiry_ms);
    EXPECT_EQ(read->value_size, wanted->value_size);
    EXPECT_TRUE(slice_equal(read->key, wanted->key));
    const bool is_inline = wanted->value_size <= VALUE_INLINE_MAX &&
                           (wanted->flags & EFFECT_FLAG_LZ4) == 0;
    if (!is_inline) EXPECT_EQ(read->value.size, 0);
    if (is_inline) {
        EXPECT_TRUE(slice_equal(read->value, wanted->value));
    }
}

/* Reads the hint to its end and compares with what was added. */
static enum err read_all(struct sim_disk *disk, const struct hint_segment *wanted, uint32_t count,
                         const uint8_t *bytes, uint32_t *read_count)
{
    struct hint_reader reader;
    *read_count = 0;
    enum err err = hint_reader_open(&reader, &disk->disk, "1.idx", wanted);
    if (err != OK) return err;
    struct hint_entry entry;
    while ((err = hint_reader_next(&reader, &entry)) == OK) {
        EXPECT_LT(*read_count, count);
        const struct hint_entry expected = entry_of(*read_count, bytes);
        expect_entry(&entry, &expected);
        ++*read_count;
    }
    hint_reader_close(&reader);
    return err;
}

TEST(hint, what_was_added_is_read_in_order)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    struct sim_disk disk;
    sim_disk_init(&disk, 1);
    const uint32_t counts[] = {0, 1, 2, 100, 5000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct buf file = make(counts[i], bytes);
        if (counts[i] == 5000) EXPECT_LT(5 * HINT_CHUNK_SIZE, file.size);
        sim_disk_put(&disk, "1.idx", buf_slice(&file));
        buf_close(&file);
        uint32_t count;
        EXPECT_EQ(read_all(&disk, &segment, counts[i], bytes, &count), ERR_NOT_FOUND);
        EXPECT_EQ(count, counts[i]);
    }
    sim_disk_close(&disk);
    mem_free(bytes);
}

TEST(hint, several_at_a_time_are_the_same)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    struct sim_disk disk;
    struct hint_reader reader;
    sim_disk_init(&disk, 1);
    struct buf file = make(5000, bytes);
    sim_disk_put(&disk, "1.idx", buf_slice(&file));
    buf_close(&file);
    for (uint32_t max = 1; max <= 17; max += 8) {
        struct hint_entry entries[17];
        uint32_t count = 0;
        uint32_t sum = 0;
        enum err err;
        EXPECT_EQ(hint_reader_open(&reader, &disk.disk, "1.idx", &segment), OK);
        while ((err = hint_reader_some(&reader, entries, max, &count)) == OK) {
            EXPECT_TRUE(count > 0 && count <= max);
            for (uint32_t i = 0; i < count; i++) {
                const struct hint_entry wanted = entry_of(sum++, bytes);
                expect_entry(&entries[i], &wanted);
            }
        }
        hint_reader_close(&reader);
        EXPECT_EQ(err, ERR_NOT_FOUND);
        EXPECT_EQ(sum, 5000);
    }
    sim_disk_close(&disk);
    mem_free(bytes);
}

TEST(hint, of_another_segment_is_not_used)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    struct sim_disk disk;
    sim_disk_init(&disk, 1);
    uint32_t count;
    EXPECT_EQ(read_all(&disk, &segment, 10, bytes, &count), ERR_NOT_FOUND);
    struct buf file = make(10, bytes);
    sim_disk_put(&disk, "1.idx", buf_slice(&file));
    buf_close(&file);
    EXPECT_EQ(read_all(&disk, &segment, 10, bytes, &count), ERR_NOT_FOUND);
    EXPECT_EQ(count, 10);
    struct hint_segment other = segment;
    other.cluster_id++;
    EXPECT_EQ(read_all(&disk, &other, 10, bytes, &count), ERR_FOREIGN);
    other = segment;
    other.file_id++;
    EXPECT_EQ(read_all(&disk, &other, 10, bytes, &count), ERR_FOREIGN);
    other = segment;
    other.used_size += 4096;
    EXPECT_EQ(read_all(&disk, &other, 10, bytes, &count), ERR_FOREIGN);
    other = segment;
    other.chain_end.high++;
    EXPECT_EQ(read_all(&disk, &other, 10, bytes, &count), ERR_FOREIGN);
    sim_disk_close(&disk);
    mem_free(bytes);
}

TEST(hint, every_truncation_and_flipped_bit_is_found)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    struct sim_disk disk;
    sim_disk_init(&disk, 1);
    struct buf file = make(12, bytes);
    EXPECT_LT(file.size, 4096);
    uint32_t count;
    for (uint64_t bit = 0; bit < 8 * file.size; bit++) {
        sim_disk_put(&disk, "1.idx", buf_slice(&file));
        sim_disk_flip(&disk, "1.idx", bit);
        EXPECT_EQ(read_all(&disk, &segment, 12, bytes, &count), ERR_CORRUPT);
        EXPECT_EQ(count, 0); /* all are in one chunk, which is verified first */
    }
    for (uint64_t size = 0; size < file.size; size++) {
        sim_disk_put(&disk, "1.idx", slice_of(file.data, size));
        EXPECT_EQ(read_all(&disk, &segment, 12, bytes, &count), ERR_CORRUPT);
    }
    buf_u8(&file, 0);
    sim_disk_put(&disk, "1.idx", buf_slice(&file));
    EXPECT_EQ(read_all(&disk, &segment, 12, bytes, &count), ERR_CORRUPT);
    buf_close(&file);
    sim_disk_close(&disk);
    mem_free(bytes);
}

TEST(hint, a_bad_chunk_is_found_before_its_entries_are_given)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    struct sim_disk disk;
    sim_disk_init(&disk, 1);
    struct buf file = make(3000, bytes);
    struct prng prng = prng_seed(3);
    for (int i = 0; i < 30; i++) {
        const uint64_t bit = prng_below(&prng, 8 * file.size);
        sim_disk_put(&disk, "1.idx", buf_slice(&file));
        sim_disk_flip(&disk, "1.idx", bit);
        uint32_t count; /* read_all compares every entry that was given */
        EXPECT_EQ(read_all(&disk, &segment, 3000, bytes, &count), ERR_CORRUPT);
        EXPECT_LT(count, 3000);
    }
    /* The same chunk at another place is not the chunk that belongs there. */
    const uint64_t first = get_u32(file.data + HINT_HEADER_SIZE + 8);
    struct buf swapped = {0};
    buf_append(&swapped, file.data, HINT_HEADER_SIZE);
    const uint8_t *second = file.data + HINT_HEADER_SIZE + first;
    const uint64_t second_size = get_u32(second + 8);
    buf_append(&swapped, second, second_size);
    buf_append(&swapped, file.data + HINT_HEADER_SIZE, first);
    const uint64_t done = HINT_HEADER_SIZE + first + second_size;
    buf_append(&swapped, file.data + done, file.size - done);
    sim_disk_put(&disk, "1.idx", buf_slice(&swapped));
    uint32_t count;
    EXPECT_EQ(read_all(&disk, &segment, 3000, bytes, &count), ERR_CORRUPT);
    EXPECT_EQ(count, 0);
    buf_close(&swapped);
    buf_close(&file);
    sim_disk_close(&disk);
    mem_free(bytes);
}

TEST(hint, a_large_one_grows_without_being_copied)
{
    /* As many entries as a file of 8 MiB could hold if all of it were effects without values. */
    const uint64_t source_size = 8u * MIB;
    const uint64_t effect_size = EFFECT_HEADER_SIZE + 8;
    struct hint hint;
    hint_init(&hint, segment.file_id);
    hint_expect(&hint, source_size);
    const uint8_t *place = NULL;
    uint64_t copies = 0;
    for (uint64_t i = 0; i < source_size / effect_size; i++) {
        const struct hint_entry entry = {.kind = EFFECT_DELETE,
                                         .offset = (uint32_t)(8 * i),
                                         .revision = revision_of(i + 2, 0),
                                         .key = slice_of(&i, sizeof i)};
        hint_add(&hint, &entry);
        const bool is_large = hint.bytes.size > HINT_LARGE_SIZE + 2 * HINT_CHUNK_SIZE;
        if (is_large && place != NULL && hint.bytes.data != place) copies++;
        if (is_large) place = hint.bytes.data;
    }
    EXPECT_EQ(copies, 0);
    EXPECT_LT(6 * MIB, hint.bytes.size);
    EXPECT_LT(hint.bytes.capacity, source_size + source_size / 8);
    /* One that stays small takes little. */
    hint_close(&hint);
    hint_init(&hint, segment.file_id);
    hint_expect(&hint, source_size);
    const struct hint_entry one = {.kind = EFFECT_FLUSH, .revision = revision_of(2, 0)};
    hint_add(&hint, &one);
    EXPECT_LT(hint.bytes.capacity, HINT_CHUNK_SIZE);
    hint_close(&hint);
}

TEST(hint, what_was_taken_back_never_was)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1024);
    const uint32_t keeps[] = {0, 1, 99, 700};
    for (size_t i = 0; i < sizeof keeps / sizeof *keeps; i++) {
        struct buf wanted = make(1000, bytes);
        struct hint hint;
        hint_init(&hint, segment.file_id);
        struct hint_mark mark = hint_mark(&hint);
        for (uint32_t j = 0; j < 1500; j++) {
            if (j == keeps[i]) mark = hint_mark(&hint);
            const struct hint_entry entry = entry_of(j, bytes);
            hint_add(&hint, &entry);
        }
        /* Chunks were completed since the mark, which then are open again. */
        EXPECT_LT(mark.size + 2 * HINT_CHUNK_SIZE, hint.bytes.size);
        hint_rollback(&hint, &mark);
        for (uint32_t j = keeps[i]; j < 1000; j++) {
            const struct hint_entry entry = entry_of(j, bytes);
            hint_add(&hint, &entry);
        }
        EXPECT_TRUE(slice_equal(hint_finish(&hint, &segment), buf_slice(&wanted)));
        hint_close(&hint);
        buf_close(&wanted);
    }
    mem_free(bytes);
}

TEST(hint, names_are_recognized)
{
    char name[HINT_NAME_SIZE];
    hint_name(name, "shard-0000", 42);
    EXPECT_TEXT(name, "shard-0000/00000042.idx");
    EXPECT_EQ(hint_number("00000042.idx"), 42);
    EXPECT_EQ(hint_number("99999999.idx"), 99999999);
    const char *others[] = {
        "",         "0000042.idx", "00000042.log", "00000042.idx.tmp", "0000004a.idx",
        "00000042", "MANIFEST"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        EXPECT_EQ(hint_number(others[i]), 0);
    }
}

TEST(hint, is_read_in_pieces_as_in_one)
{
    uint8_t *bytes = random_bytes(KEY_SIZE_MAX + 1000);
    struct buf file = make(20000, bytes);
    struct hint_reader reader;
    struct hint_entry entry;
    uint64_t size = file.size < HINT_PIECE_SIZE ? file.size : HINT_PIECE_SIZE;
    uint32_t pieces = 1;
    EXPECT_LT(2 * HINT_PIECE_SIZE, file.size);
    EXPECT_EQ(hint_reader_begin(&reader, &segment, file.size, slice_of(file.data, size)), OK);
    for (uint32_t i = 0; i < 20000; i++) {
        enum err err = hint_reader_next(&reader, &entry);
        if (err == ERR_AGAIN) {
            const uint64_t rest = file.size - reader.offset;
            size = rest < HINT_PIECE_SIZE ? rest : HINT_PIECE_SIZE;
            hint_reader_feed(&reader, slice_of(file.data + reader.offset, size));
            pieces++;
            err = hint_reader_next(&reader, &entry);
        }
        EXPECT_EQ(err, OK);
        const struct hint_entry wanted = entry_of(i, bytes);
        expect_entry(&entry, &wanted);
    }
    EXPECT_EQ(hint_reader_next(&reader, &entry), ERR_NOT_FOUND);
    EXPECT_LT(2, pieces);
    hint_reader_close(&reader);
    /* A piece without the whole header, and one of another segment. */
    EXPECT_EQ(hint_reader_begin(&reader, &segment, file.size, slice_of(file.data, 79)),
              ERR_CORRUPT);
    struct hint_segment other = segment;
    other.file_id++;
    EXPECT_EQ(hint_reader_begin(&reader, &other, file.size, slice_of(file.data, 4096)),
              ERR_FOREIGN);
    buf_close(&file);
    mem_free(bytes);
}
