/* core_prepare.c - which values of a command are made ready before it is evaluated (prepare.h). */
#include "node/cmd_string.h"
#include "node/core_parts.h"
#include "storage/base/limits.h"

/* The argument that becomes the value of the key args[1]; 0: there is none, or there are several. */
static uint32_t value_arg(const struct command *command)
{
    if (command->function == cmd_setex || command->function == cmd_psetex) return 3;
    const bool is_set = command->function == cmd_set || command->function == cmd_setnx ||
                        command->function == cmd_getset;
    return is_set ? 2 : 0;
}

bool core_prepare(struct core *core, struct session *session, const struct command *command,
                  const struct slice *args, uint32_t count)
{
    struct shard *shard = &core->shard;
    const struct prepare_rules rules = {.pack_above = core->config->compress_above_size,
                                        .value_arg = value_arg(command)};
    if ((command->flags & CMD_WRITE) == 0 || command->key_first == 0) return true;
    const bool is_stored = rules.value_arg != 0 || command->function == cmd_mset ||
                           command->function == cmd_msetnx;
    if (!is_stored) return true; /* What it is given is not what becomes a value. */
    if (args[1].size > KEY_SIZE_MAX) return true; /* It is refused anyway. */
    for (uint32_t i = 1; i < count; i++) {
        if (args[i].size > core->config->max_value_size) return true;
        if (args[i].size > PREPARE_ABOVE && rules.value_arg != 0 && i != rules.value_arg)
            return true;
    }
    if (prepare_values(&session->prepare, &rules, args, count, &shard->prepare_left)) return true;
    core->more = true;
    return false;
}
