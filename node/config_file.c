/* config_file.c - the file of --config, line by line. */
#include <stdio.h>
#include <string.h>

#include "node/config.h"

#define LINE_SIZE_MAX 4096u

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct slice trim(struct slice text)
{
    while (text.size > 0 && is_space(text.data[0])) text = slice_of(text.data + 1, text.size - 1);
    while (text.size > 0 && is_space(text.data[text.size - 1])) text.size--;
    return text;
}

static struct slice without_comment(struct slice line)
{
    for (uint64_t i = 0; i < line.size; i++) {
        if (line.data[i] != '#') continue;
        if (i == 0 || is_space(line.data[i - 1])) return slice_of(line.data, i);
    }
    return line;
}

/* @set_on: for each option the line that set it, or 0. */
static enum err set_line(struct config *config, struct slice line, uint32_t number,
                         uint32_t *set_on, char *message)
{
    line = trim(without_comment(line));
    if (line.size == 0) return OK;
    const uint8_t *equals = memchr(line.data, '=', line.size);
    if (equals == NULL || line.size > LINE_SIZE_MAX) {
        (void)snprintf(message, CONFIG_MESSAGE_SIZE, "%s",
                       equals == NULL ? "this is not 'name = value'" : "the line is too long");
        return ERR_INVALID;
    }
    const struct slice name = trim(slice_of(line.data, (uint64_t)(equals - line.data)));
    const struct slice value = trim(
        slice_of(equals + 1, (uint64_t)(line.data + line.size - equals) - 1));
    const uint32_t at = config_find(name);
    const struct config_option *option = config_option(at);
    if (option != NULL && slice_equal(name, slice_text(option->name)) && set_on[at] != 0) {
        (void)snprintf(message, CONFIG_MESSAGE_SIZE, "%s was set on line %u already", option->name,
                       set_on[at]);
        return ERR_INVALID;
    }
    const enum err err = config_set_slice(config, name, value, message);
    if (err == OK) set_on[at] = number;
    return err;
}

enum err config_set_file(struct config *config, struct slice text, char *message)
{
    uint32_t set_on[CONFIG_OPTIONS_MAX] = {0};
    for (uint32_t number = 1; text.size > 0; number++) {
        const uint8_t *end = memchr(text.data, '\n', text.size);
        const uint64_t size = end != NULL ? (uint64_t)(end - text.data) : text.size;
        char line_message[CONFIG_MESSAGE_SIZE];
        const enum err err = set_line(config, slice_of(text.data, size), number, set_on,
                                      line_message);
        if (err != OK) {
            (void)snprintf(message, CONFIG_MESSAGE_SIZE, "line %u: %.240s", number, line_message);
            return err;
        }
        const uint64_t taken = end != NULL ? size + 1 : size;
        text = slice_of(text.data + taken, text.size - taken);
    }
    return OK;
}
