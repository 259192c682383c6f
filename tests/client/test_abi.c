/* What a compiled program knows of libkvclient. When one of these changes, programs have to be compiled again: then the
 * soname does too (SOVERSION in CMakeLists.txt). Structs with struct_size may grow at their end: their first version is
 * what is fixed. */
#include "client/kv.h"

#include "tests/test.h"

#define AT(type, field, offset) EXPECT_EQ(offsetof(type, field), (offset))

TEST(abi, numbers_of_results_stay)
{
    EXPECT_EQ(KV_OK, 0);
    EXPECT_EQ(KV_ERR_NOT_FOUND, 1);
    EXPECT_EQ(KV_ERR_CONDITION, 2);
    EXPECT_EQ(KV_ERR_INVALID, 3);
    EXPECT_EQ(KV_ERR_FAILED, 4);
    EXPECT_EQ(KV_ERR_REFUSED, 5);
    EXPECT_EQ(KV_ERR_TIMEOUT, 6);
    EXPECT_EQ(KV_ERR_UNKNOWN, 7);
    EXPECT_EQ(KV_ERR_NOMEM, 8);
    EXPECT_EQ(KV_ERR_CANCELLED, 9);
    EXPECT_EQ(KV_ERR_COMPACTED, 10);
    EXPECT_EQ(KV_SET, 8);
    EXPECT_EQ(KV_FEED_ENDED, 3);
    EXPECT_EQ(KV_EVENT_EXPIRY, 4);
}

TEST(abi, structs_keep_their_sizes)
{
    if (sizeof(void *) != 8) return;
    EXPECT_EQ(sizeof(struct kv_bytes), 16);
    EXPECT_EQ(sizeof(struct kv_value), 32);
    EXPECT_EQ(sizeof(struct kv_entry), 48);
    EXPECT_EQ(sizeof(struct kv_reply), 56);
    EXPECT_EQ(sizeof(struct kv_cluster), 32);
    EXPECT_EQ(sizeof(struct kv_node), 104);
    EXPECT_EQ(sizeof(struct kv_words), 24);
    EXPECT_EQ(sizeof(struct kv_condition), 48);
    EXPECT_EQ(sizeof(struct kv_event), 96);
    EXPECT_EQ(sizeof(struct kv_allocator), 16);
}

TEST(abi, options_grow_at_their_end_only)
{
    if (sizeof(void *) != 8) return;
    AT(struct kv_options, nodes, 8);
    AT(struct kv_options, timeout_ms, 16);
    AT(struct kv_options, connect_timeout_ms, 24);
    AT(struct kv_options, reply_size_max, 32);
    AT(struct kv_options, allocator, 40);
    AT(struct kv_options, once, 56);
    AT(struct kv_set_options, if_revision, 24);
    AT(struct kv_scan_options, keys_only, 68);
    AT(struct kv_txn, otherwise_count, 48);
    AT(struct kv_callback, id, 32);
    AT(struct kv_feed_options, silence_ms, 96);
    AT(struct kv_result, op, 80);
    AT(struct kv_feed_news, oldest_revision, 48);
}

/* A program built when the options ended before `once`. */
TEST(abi, shorter_options_of_an_older_program_are_taken)
{
    union {
        struct kv_options options;
        unsigned char bytes[sizeof(struct kv_options)];
    } memory;
    struct kv_options *options = &memory.options;
    struct kv *kv = NULL;
    memset(&memory, 0xff, sizeof memory);
    kv_options_init_sized(options, offsetof(struct kv_options, once));
    EXPECT_EQ(memory.bytes[offsetof(struct kv_options, once)], 0xff); /* It was not written. */
    options->nodes = "127.0.0.1:1";
    options->timeout_ms = 50;
    EXPECT_EQ(kv_connect(options, &kv), KV_ERR_REFUSED);
    kv_close(kv);
    options->struct_size = 8;
    EXPECT_EQ(kv_connect(options, &kv), KV_ERR_INVALID);
    EXPECT_TRUE(kv_message(kv)[0] != 0);
    kv_close(kv);
}
