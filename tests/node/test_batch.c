#include "node/batch.h"

#include <stdio.h>

#include "storage/base/limits.h"
#include "storage/base/mem.h"
#include "tests/test.h"

static void put(struct batches *batches, const char *key, const char *value)
{
    batches_add(
        batches,
        &(struct effect){.kind = EFFECT_PUT, .key = slice_text(key), .value = slice_text(value)});
}

static void launch(struct batches *batches, uint64_t index)
{
    bool is_given = false;
    (void)batches_seal(batches, &is_given);
    EXPECT_FALSE(is_given);
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

static void expire(struct batches *batches, const char *key, uint64_t expiry_ms)
{
    batches_add(
        batches,
        &(struct effect){.kind = EFFECT_EXPIRE_AT, .expiry_ms = expiry_ms, .key = slice_text(key)});
}

TEST(batch, expiry_knows_the_value_as_long_as_that_is_in_flight)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "k", "value");
    launch(&batches, 2);
    expire(&batches, "k", 5);
    launch(&batches, 3);
    expire(&batches, "k", 6);
    struct batches_mark mark = batches_mark(&batches);
    put(&batches, "k", "newer");
    expire(&batches, "k", 7);
    struct batch_hit hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(slice_equal(hit.value, slice_text("newer")));
    EXPECT_EQ(hit.expiry_ms, 7);
    batches_rollback(&batches, &mark);
    hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(slice_equal(hit.value, slice_text("value")));
    EXPECT_EQ(hit.expiry_ms, 6);
    /* The put is applied: the index has the value now, and others may take the memory. */
    EXPECT_TRUE(batches_retire(&batches, 2));
    for (int i = 0; i < 100; i++) put(&batches, "another", "another");
    hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(hit.is_flying);
    EXPECT_TRUE(hit.is_expiry_only);
    EXPECT_EQ(hit.expiry_ms, 6);
    expire(&batches, "k", 8);
    launch(&batches, 4);
    EXPECT_TRUE(batches_retire(&batches, 3));
    hit = batches_find(&batches, slice_text("k"));
    EXPECT_TRUE(hit.is_expiry_only);
    EXPECT_EQ(hit.expiry_ms, 8);
    /* Behind a FLUSH there is another life of the key. */
    batches_add(&batches, &(struct effect){.kind = EFFECT_FLUSH});
    EXPECT_TRUE(batches_find(&batches, slice_text("k")).is_hidden);
    put(&batches, "k", "second");
    expire(&batches, "k", 9);
    hit = batches_find(&batches, slice_text("k"));
    EXPECT_FALSE(hit.is_expiry_only);
    EXPECT_TRUE(slice_equal(hit.value, slice_text("second")));
    batches_close(&batches);
}

/* What each change costs does not grow with those of the same key that are in flight: here they would cost minutes. */
TEST(batch, very_many_changes_of_one_key)
{
    struct batches batches;
    batches_init(&batches);
    uint64_t index = 1;
    for (int i = 0; i < 40; i++) {
        put(&batches, "hot", "value");
        for (int j = 0; j < 10000; j++) {
            expire(&batches, "hot", (uint64_t)j + 1);
            EXPECT_EQ(batches_find(&batches, slice_text("hot")).expiry_ms, j + 1);
        }
        launch(&batches, ++index);
    }
    EXPECT_TRUE(slice_equal(batches_find(&batches, slice_text("hot")).value, slice_text("value")));
    for (uint64_t applied = 2; applied <= index; applied++) {
        EXPECT_TRUE(batches_retire(&batches, applied));
        batches_check(&batches);
    }
    EXPECT_EQ(batches.node_count, 0);
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

TEST(batch, large_value_is_laid_out_and_given_away)
{
    struct batches batches;
    struct buf built = {0};
    struct buf copied = {0};
    bool is_given = false;
    const struct slice key = slice_text("large");
    uint8_t *value = mem_zero(5 * MIB);
    for (uint32_t i = 0; i < 5 * MIB; i++) value[i] = (uint8_t)(i * 7 + i / 1000);
    const struct effect effect = {.kind = EFFECT_PUT,
                                  .expiry_ms = 77,
                                  .previous_revision = 5,
                                  .key = key,
                                  .value = slice_of(value, 5 * MIB - 3)};
    batches_init(&batches);
    (void)buf_extend(&built, BATCH_BUILT_SIZE);
    buf_append(&built, key.data, key.size);
    buf_append(&built, effect.value.data, effect.value.size);
    batches_add_built(&batches, &effect, &built);
    EXPECT_TRUE(built.data == NULL);
    /* The same bytes as if it had been copied. */
    effect_encode(&effect, &copied);
    const struct buf *record = batches_seal(&batches, &is_given);
    EXPECT_TRUE(is_given);
    const uint64_t before = RECORD_HEADER_SIZE + EFFECT_BODY_HEADER_SIZE;
    EXPECT_TRUE(
        slice_equal(buf_slice(&copied), slice_of(record->data + before, record->size - before)));
    struct batch_hit hit = batches_find(&batches, key);
    EXPECT_FALSE(hit.is_absent);
    EXPECT_TRUE(slice_equal(hit.value, effect.value));

    const uint64_t size = record->size;
    buf_close(&batches.open->record); /* As the log does that takes it. */
    batches_launch(&batches, 9);
    batches_check(&batches);
    EXPECT_EQ(batches.flying_size, size);
    hit = batches_find(&batches, key);
    EXPECT_TRUE(hit.is_flying && hit.exists && hit.is_absent);
    EXPECT_EQ(hit.expiry_ms, 77);
    EXPECT_FALSE(batches_find(&batches, slice_text("larger")).is_flying);
    put(&batches, "large", "small");
    EXPECT_TRUE(slice_equal(batches_find(&batches, key).value, slice_text("small")));
    EXPECT_TRUE(batches_retire(&batches, 9));
    EXPECT_EQ(batches.flying_size, 0);
    launch(&batches, 10);
    EXPECT_TRUE(batches_retire(&batches, 10));
    batches_close(&batches);
    buf_close(&copied);
    mem_free(value);
}

static void erase(struct batches *batches, const char *key)
{
    batches_add(batches, &(struct effect){.kind = EFFECT_DELETE, .key = slice_text(key)});
}

static void expect_flying(const struct batches *batches, const char *key, const char *value)
{
    const struct batch_hit hit = batches_find(batches, slice_text(key));
    EXPECT_TRUE(hit.is_flying);
    EXPECT_TRUE(hit.exists);
    EXPECT_TRUE(slice_equal(hit.value, slice_text(value)));
}

TEST(batch, rollback_undoes_what_was_added_since_the_mark)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "flying", "1");
    launch(&batches, 7);
    put(&batches, "open", "2");
    put(&batches, "both", "3");
    const uint64_t size = batches_open_size(&batches);
    const uint64_t since = batches.change_count;
    const struct batches_mark mark = batches_mark(&batches);
    put(&batches, "flying", "x");
    erase(&batches, "open");
    put(&batches, "new", "y");
    put(&batches, "both", "z");
    erase(&batches, "both");
    EXPECT_TRUE(batches_touched(&batches, slice_text("flying"), since, true));
    batches_rollback(&batches, &mark);
    batches_check(&batches);
    expect_flying(&batches, "flying", "1");
    expect_flying(&batches, "open", "2");
    expect_flying(&batches, "both", "3");
    EXPECT_FALSE(batches_find(&batches, slice_text("new")).is_flying);
    EXPECT_EQ(batches_open_size(&batches), size);
    EXPECT_EQ(batches.open->effect_count, 2);
    EXPECT_EQ(batches.node_count, 3);
    EXPECT_FALSE(batches_touched(&batches, slice_text("flying"), since, true));
    EXPECT_FALSE(batches_touched(&batches, slice_text("both"), since, true));
    put(&batches, "new", "again");
    launch(&batches, 8);
    EXPECT_TRUE(batches_retire(&batches, 8));
    EXPECT_EQ(batches.node_count, 0);
    batches_close(&batches);
}

TEST(batch, rollback_to_an_empty_batch)
{
    struct batches batches;
    batches_init(&batches);
    const struct batches_mark mark = batches_mark(&batches);
    for (int i = 0; i < 5000; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        put(&batches, key, "v");
    }
    batches_rollback(&batches, &mark);
    EXPECT_TRUE(batches_open_empty(&batches));
    EXPECT_EQ(batches.node_count, 0);
    batches_check(&batches);
    batches_close(&batches);
}

TEST(batch, rollback_of_a_flush_shows_again_what_it_hid)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "old", "0");
    batches_add(&batches, &(struct effect){.kind = EFFECT_FLUSH});
    put(&batches, "flying", "1");
    launch(&batches, 3);
    put(&batches, "open", "2");
    const uint64_t since = batches.change_count;
    const struct batches_mark mark = batches_mark(&batches);
    put(&batches, "flying", "x");
    batches_add(&batches, &(struct effect){.kind = EFFECT_FLUSH});
    EXPECT_TRUE(batches_find(&batches, slice_text("flying")).is_hidden);
    EXPECT_EQ(batches_find(&batches, slice_text("open")).number, 2);
    put(&batches, "open", "y");
    batches_add(&batches, &(struct effect){.kind = EFFECT_FLUSH});
    put(&batches, "last", "z");
    EXPECT_TRUE(batches_touched(&batches, slice_text("anything"), since, true));
    EXPECT_FALSE(batches_touched(&batches, slice_text("anything"), since, false));
    batches_rollback(&batches, &mark);
    batches_check(&batches);
    expect_flying(&batches, "flying", "1");
    expect_flying(&batches, "open", "2");
    EXPECT_TRUE(batches_find(&batches, slice_text("old")).is_hidden);
    EXPECT_EQ(batches_find(&batches, slice_text("old")).number, 1);
    EXPECT_FALSE(batches_touched(&batches, slice_text("anything"), since, true));
    launch(&batches, 4);
    EXPECT_TRUE(batches_retire(&batches, 4));
    EXPECT_EQ(batches.flush_number, 0);
    EXPECT_FALSE(batches_find(&batches, slice_text("old")).is_hidden);
    batches_close(&batches);
}

TEST(batch, touched_tells_what_changed_since)
{
    struct batches batches;
    batches_init(&batches);
    put(&batches, "a", "1");
    const uint64_t since = batches.change_count;
    put(&batches, "b", "2");
    EXPECT_FALSE(batches_touched(&batches, slice_text("a"), since, true));
    EXPECT_TRUE(batches_touched(&batches, slice_text("b"), since, true));
    erase(&batches, "a");
    EXPECT_TRUE(batches_touched(&batches, slice_text("a"), since, true));
    launch(&batches, 3);
    EXPECT_TRUE(batches_retire(&batches, 3));
    EXPECT_TRUE(batches_touched(&batches, slice_text("a"), since, true));
    EXPECT_FALSE(batches_touched(&batches, slice_text("a"), batches.change_count, true));
    batches_close(&batches);
}
