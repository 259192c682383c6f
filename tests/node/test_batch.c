#include "node/batch.h"

#include <stdio.h>

#include "tests/test.h"

static void put(struct batches *batches, const char *key, const char *value)
{
    batches_add(
        batches,
        &(struct effect){.kind = EFFECT_PUT, .key = slice_text(key), .value = slice_text(value)});
}

static void launch(struct batches *batches, uint64_t index)
{
    (void)batches_seal(batches);
    batches_launch(batches, index);
    batches_check(batches);
}

TEST(batch, newest_effect_in_flight_hides_older_ones)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "k", "one");
    launch(&batches, 7);
    put(&batches, "k", "two");
    struct batch_hit hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(hit.is_flying);
    EXPECT_TRUE(slice_equal(hit.value, slice_text("two")));
    EXPECT_EQ(hit.number, 2);
    EXPECT_FALSE(batches_find(&batches, slice_text("other")).is_flying);
    EXPECT_TRUE(batches_retire(&batches, 7));
    EXPECT_EQ(batches.retired_number, 1);
    hit = batches_find(&batches, slice_text("k"));
    EXPECT_EQ(hit.number, 2);
    launch(&batches, 8);
    EXPECT_FALSE(batches_retire(&batches, 7));
    EXPECT_TRUE(batches_retire(&batches, 8));
    EXPECT_FALSE(batches_find(&batches, slice_text("k")).is_flying);
    batches_close(&batches);
}

TEST(batch, expiry_alone_keeps_the_value)
{
    struct batches batches;
    batches_init(&batches);
    batches_add(&batches,
                &(struct effect){.kind = EFFECT_EXPIRE_AT, .expiry_ms = 5, .key = slice_text("k")});
    struct batch_hit hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(hit.is_flying);
    EXPECT_TRUE(hit.is_expiry_only);
    EXPECT_EQ(hit.expiry_ms, 5);
    put(&batches, "j", "value");
    batches_add(&batches,
                &(struct effect){.kind = EFFECT_EXPIRE_AT, .expiry_ms = 9, .key = slice_text("j")});
    hit = batches_find(&batches, slice_text("j"));
    EXPECT_FALSE(hit.is_expiry_only);
    EXPECT_EQ(hit.expiry_ms, 9);
    EXPECT_TRUE(slice_equal(hit.value, slice_text("value")));
    batches_add(&batches, &(struct effect){.kind = EFFECT_DELETE, .key = slice_text("j")});
    EXPECT_FALSE(batches_find(&batches, slice_text("j")).exists);
    batches_close(&batches);
}

TEST(batch, flush_hides_everything_before_it)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "k", "one");
    launch(&batches, 3);
    batches_add(&batches, &(struct effect){.kind = EFFECT_FLUSH});
    EXPECT_TRUE(batches_find(&batches, slice_text("k")).is_hidden);
    EXPECT_TRUE(batches_find(&batches, slice_text("only in the keydir")).is_hidden);
    put(&batches, "k", "two");
    EXPECT_TRUE(batches_find(&batches, slice_text("k")).is_flying);
    launch(&batches, 4);
    EXPECT_TRUE(batches_retire(&batches, 4));
    EXPECT_FALSE(batches_find(&batches, slice_text("other")).is_hidden);
    batches_check(&batches);
    batches_close(&batches);
}

TEST(batch, dropping_forgets_all_and_goes_on_counting)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "a", "1");
    launch(&batches, 3);
    put(&batches, "b", "2");
    batches_drop(&batches);
    batches_check(&batches);
    EXPECT_EQ(batches.retired_number, 2);
    EXPECT_EQ(batches.open->number, 3);
    EXPECT_FALSE(batches_find(&batches, slice_text("a")).is_flying);
    EXPECT_FALSE(batches_find(&batches, slice_text("b")).is_flying);
    batches_close(&batches);
}

TEST(batch, table_grows_and_keeps_the_order_of_a_key)
{
    struct batches batches;
    char key[16];
    batches_init(&batches);
    put(&batches, "k", "old");
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(key, sizeof key, "key%d", i);
        put(&batches, key, "v");
    }
    put(&batches, "k", "new");
    for (int i = 5000; i < 20000; i++) {
        (void)snprintf(key, sizeof key, "key%d", i);
        put(&batches, key, "v");
    }
    EXPECT_TRUE(slice_equal(batches_find(&batches, slice_text("k")).value, slice_text("new")));
    EXPECT_TRUE(batches_find(&batches, slice_text("key17")).is_flying);
    launch(&batches, 2);
    EXPECT_TRUE(batches_retire(&batches, 2));
    EXPECT_EQ(batches.node_count, 0);
    batches_close(&batches);
}
