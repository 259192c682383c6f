#include "node/command.h"

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
