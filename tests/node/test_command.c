#include "node/command.h"
#include "node/txn.h"

#include "tests/test.h"

TEST(command, rows_are_in_the_order_of_their_names)
{
    for (uint32_t i = 1; i < command_count(); i++) {
        EXPECT_LT(strcmp(command_at(i - 1)->name, command_at(i)->name), 0);
    }
    EXPECT_TRUE(command_at(command_count()) == NULL);
}

TEST(command, is_found_by_its_name_in_any_case)
{
    for (uint32_t i = 0; i < command_count(); i++) {
        char upper[32] = "";
        for (size_t at = 0; command_at(i)->name[at] != 0; at++) {
            const char byte = command_at(i)->name[at];
            upper[at] = byte >= 'a' && byte <= 'z' ? (char)(byte - 32) : byte;
        }
        EXPECT_TRUE(command_find(slice_text(upper)) == command_at(i));
        EXPECT_TRUE(command_find(slice_of(upper, strlen(upper) - 1)) != command_at(i));
        EXPECT_TRUE(command_find(slice_of(upper, strlen(upper) + 1)) ==
                    NULL); /* with its zero byte */
    }
    EXPECT_TRUE(command_find(slice_text("")) == NULL);
    EXPECT_TRUE(command_find(slice_text("zzz")) == NULL);
}

TEST(command, rows_are_whole)
{
    for (uint32_t i = 0; i < command_count(); i++) {
        const struct command *command = command_at(i);
        EXPECT_TRUE(command->function != NULL);
        EXPECT_TRUE(command->summary[0] != 0 && command->syntax[0] != 0 && command->group[0] != 0);
        const uint8_t kinds = command->flags & (CMD_LOCAL | CMD_READ | CMD_WRITE);
        EXPECT_TRUE(kinds == CMD_LOCAL || kinds == CMD_READ || kinds == CMD_WRITE);
        if (command->key_first > 0) EXPECT_TRUE(command->key_step > 0);
        if (kinds == CMD_LOCAL) EXPECT_EQ(command->key_first, 0);
    }
}

TEST(command, arity_is_redis)
{
    EXPECT_TRUE(command_arity_fits(command_find(slice_text("get")), 2));
    EXPECT_FALSE(command_arity_fits(command_find(slice_text("get")), 3));
    EXPECT_TRUE(command_arity_fits(command_find(slice_text("set")), 5));
    EXPECT_FALSE(command_arity_fits(command_find(slice_text("set")), 2));
}

TEST(command, the_last_one_is_found_again_and_only_it)
{
    const struct command *set = command_find(slice_text("set"));
    const struct command *get = command_find(slice_text("GET"));
    CHECK(set != NULL && get != NULL && set != get);
    EXPECT_TRUE(command_find_again(slice_text("SeT"), set) == set);
    EXPECT_TRUE(command_find_again(slice_text("get"), set) == get);
    EXPECT_TRUE(command_find_again(slice_text("get"), NULL) == get);
    /* Names that begin alike are others. */
    EXPECT_TRUE(command_find_again(slice_text("setex"), set) == command_find(slice_text("setex")));
    EXPECT_TRUE(command_find_again(slice_text("se"), set) == NULL);
    EXPECT_TRUE(command_find_again(slice_text(""), set) == NULL);
    /* Between nodes there are some that nobody else can name, whatever was asked before. */
    const struct command *hidden = command_find(slice_text(TXN_EXEC_WRITE));
    CHECK(hidden != NULL);
    EXPECT_TRUE(command_find_again(slice_text(TXN_EXEC_WRITE), hidden) == hidden);
    char other_case[32] = "";
    for (uint32_t i = 0; TXN_EXEC_WRITE[i] != 0; i++) {
        const char letter = TXN_EXEC_WRITE[i];
        other_case[i] = (char)(letter >= 'a' && letter <= 'z' ? letter - 32 : letter);
    }
    EXPECT_TRUE(command_find_again(slice_text(other_case), hidden) == NULL);
}
