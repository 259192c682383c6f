/* Any bytes as a file of options: refused with a line, or taken and then readable back. */
#include <stddef.h>
#include <stdint.h>

#include "node/config.h"
#include "storage/base/check.h"

static void check_option(const struct config *config, const struct config_option *option)
{
    static struct config again;
    char message[CONFIG_MESSAGE_SIZE];
    struct buf text = {0};
    again = *config;
    config_get(config, option->name, &text);
    buf_u8(&text, 0);
    const enum err err = config_set(&again, option->name, (const char *)text.data, message);
    CHECK(err == OK);
    buf_close(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config config;
    char message[CONFIG_MESSAGE_SIZE];
    config_defaults(&config, "fuzz");
    message[0] = 0;
    if (config_set_file(&config, slice_of(data, size), message) != OK) {
        CHECK(message[0] != 0);
        CHECK(strlen(message) < sizeof message);
        return 0;
    }
    for (uint32_t i = 0; config_option(i) != NULL; i++) check_option(&config, config_option(i));
    if (config_finish(&config, message) != OK) {
        CHECK(message[0] != 0);
        return 0;
    }
    return 0;
}
