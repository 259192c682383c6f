/* kvctl backup verify and restore: work on files alone. */
#include "client/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl_files.h"
#include "node/restore.h"

struct source {
    struct ctl_files files;
    disk_file file;
    struct backup backup;
};

static void source_close(struct source *source)
{
    backup_close(&source->backup);
    if (source->file >= 0) source->files.disk.close(source->files.disk.context, source->file);
}

static enum ctl_exit damaged(const struct ctl *ctl, const char *path, uint64_t file,
                             uint64_t offset, enum err err, const char *wrong)
{
    char where[48] = "";
    if (file != 0) (void)snprintf(where, sizeof where, "file %016" PRIx64 " in it: ", file);
    return ctl_complain(ctl, CTL_REFUSED, err == ERR_NEWER ? "newer" : "damaged",
                        "%s: %soffset %" PRIu64 ": %s", path, where, offset, wrong);
}

/* Opens the backup at @path and reads its frame. */
static enum ctl_exit source_open(const struct ctl *ctl, struct source *source, const char *path)
{
    const char *wrong = NULL;
    uint64_t size = 0;
    uint64_t at = 0;
    ctl_files_here(&source->files);
    struct disk *disk = &source->files.disk;
    source->file = -1;
    backup_init(&source->backup, disk, -1);
    enum err err = disk->open(disk->context, path, false, &source->file);
    if (err == OK) err = disk->size(disk->context, source->file, &size);
    if (err != OK) {
        return ctl_complain(ctl, CTL_REFUSED, "file", "%s: cannot be read: %s", path,
                            err_name(err));
    }
    source->backup.file = source->file;
    err = backup_load(&source->backup, size, &wrong, &at);
    return err == OK ? CTL_DONE : damaged(ctl, path, 0, at, err, wrong);
}

/* ---- verify ---------------------------------------------------------------------------------- */

static void time_text(uint64_t ms, char text[40])
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm moment;
    if (gmtime_r(&seconds, &moment) == NULL ||
        strftime(text, 40, "%Y-%m-%d %H:%M:%S UTC", &moment) == 0) {
        (void)snprintf(text, 40, "%" PRIu64 " ms", ms);
    }
}

static void tell(const struct ctl *ctl, const char *path, const struct backup *backup,
                 const struct backup_facts *facts)
{
    char size[CTL_SIZE_TEXT];
    char made[40];
    char id[20];
    if (!ctl->json) {
        time_text(backup->header.made_ms, made);
        (void)printf("%s: sound; cluster %016" PRIx64 ", made %s, up to index %" PRIu64
                     " (revision %" PRIu64 "), %" PRIu64 " key%s, %u file%s, %s\n",
                     path, backup->header.cluster_id, made, facts->index, facts->revision,
                     facts->keys, facts->keys == 1 ? "" : "s", facts->files,
                     facts->files == 1 ? "" : "s", ctl_size_text(backup->size, size));
        return;
    }
    ctl_json_begin();
    ctl_json_text("file", path);
    (void)snprintf(id, sizeof id, "%016" PRIx64, backup->header.cluster_id);
    ctl_json_text("cluster", id);
    (void)snprintf(id, sizeof id, "%016" PRIx64, backup->header.backup_id);
    ctl_json_text("backup", id);
    ctl_json_uint("made_ms", backup->header.made_ms);
    ctl_json_uint("index", facts->index);
    ctl_json_uint("revision", facts->revision);
    ctl_json_uint("stamp_ms", facts->stamp_ms);
    ctl_json_uint("keys", facts->keys);
    ctl_json_uint("files", facts->files);
    ctl_json_uint("bytes", backup->size);
    ctl_json_end();
    (void)fputc('\n', stdout);
}

enum ctl_exit ctl_backup_verify(struct ctl *ctl, const struct ctl_args *args)
{
    const char *path = args->words[0].data;
    const char *wrong = NULL;
    struct source source;
    struct backup_facts facts;
    uint64_t file = 0;
    uint64_t offset = 0;
    enum ctl_exit exit = source_open(ctl, &source, path);
    if (exit == CTL_DONE) {
        const enum err err = backup_verify(&source.backup, &facts, &wrong, &file, &offset);
        if (err != OK) exit = damaged(ctl, path, file, offset, err, wrong);
    }
    if (exit == CTL_DONE) tell(ctl, path, &source.backup, &facts);
    source_close(&source);
    return exit;
}

/* ---- restore --------------------------------------------------------------------------------- */

static bool random_number(uint64_t *number)
{
    while (getrandom(number, sizeof *number, 0) != (ssize_t)sizeof *number) {
        if (errno != EINTR) return false;
    }
    return true;
}

static enum ctl_exit read_config(const struct ctl *ctl, const struct ctl_args *args,
                                 struct config *config)
{
    static const struct {
        enum ctl_option option;
        const char *name;
    } taken[] = {{CTL_NAME, "name"},
                 {CTL_CLUSTER, "cluster"},
                 {CTL_TOKEN, "cluster-token"},
                 {CTL_PEER, "peer"}};
    char message[CONFIG_MESSAGE_SIZE];
    if (args->options[CTL_DATA].data == NULL || args->options[CTL_NAME].data == NULL) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "backup restore needs --data and --name");
    }
    config_defaults(config, "");
    enum err err = OK;
    for (size_t i = 0; i < sizeof taken / sizeof taken[0] && err == OK; i++) {
        const char *value = args->options[taken[i].option].data;
        if (value != NULL) err = config_set(config, taken[i].name, value, message);
    }
    if (err == OK) err = config_finish(config, message);
    return err == OK ? CTL_DONE : ctl_complain(ctl, CTL_USAGE, "usage", "%s", message);
}

static enum ctl_exit run_restore(struct ctl *ctl, struct source *source, struct ctl_files *target,
                                 const struct config *config, struct restore *restore)
{
    char message[RESTORE_MESSAGE_SIZE] = "";
    struct ctl_progress progress;
    uint64_t random = 0;
    if (!random_number(&random)) {
        return ctl_complain(ctl, CTL_REFUSED, "random", "no random number: %s", strerror(errno));
    }
    ctl_progress_begin(&progress, ctl, "restoring");
    enum err err = restore_begin(restore, &target->disk, &source->backup, config, random, message);
    while (err == OK) {
        err = restore_step(restore, message);
        ctl_progress_show(&progress, restore->done_size, restore->file_size);
    }
    if (err == ERR_NOT_FOUND) err = restore_finish(restore, message);
    ctl_progress_end(&progress);
    if (err == OK) return CTL_DONE;
    return ctl_complain(ctl, err == ERR_INVALID ? CTL_USAGE : CTL_REFUSED, err_name(err), "%s",
                        message);
}

static void tell_restored(const struct ctl *ctl, const char *data, const struct restore *restore)
{
    const struct identity *identity = &restore->identity;
    const uint64_t index = restore->manifest.base_index;
    char id[20];
    (void)snprintf(id, sizeof id, "%016" PRIx64, identity->cluster_id);
    if (!ctl->json) {
        (void)printf("%s: %s of the new cluster %s, %u member%s; revisions go on behind "
                     "%" PRIu64 "\nstart it with: kvnode --name %s --data %s",
                     data, identity->name, id, identity->member_count,
                     identity->member_count == 1 ? "" : "s", index * 65536 + 65535, identity->name,
                     data);
        for (uint32_t i = 0; i < identity->member_count; i++) {
            const struct identity_member *member = &identity->members[i];
            if (member->id == identity->node_id) (void)printf(" --peer %s ...\n", member->address);
        }
        return;
    }
    ctl_json_begin();
    ctl_json_text("data", data);
    ctl_json_text("cluster", id);
    ctl_json_text("name", identity->name);
    (void)snprintf(id, sizeof id, "%016" PRIx64, identity->node_id);
    ctl_json_text("id", id);
    ctl_json_uint("members", identity->member_count);
    ctl_json_uint("index", index);
    ctl_json_uint("revision", index * 65536 + 65535);
    ctl_json_end();
    (void)fputc('\n', stdout);
}

enum ctl_exit ctl_backup_restore(struct ctl *ctl, const struct ctl_args *args)
{
    static struct config config; /* too big for the stack, as the next one */
    static struct restore restore;
    const char *data = args->options[CTL_DATA].data;
    char message[512] = "";
    struct source source;
    struct ctl_files target;
    bool is_restoring = false;
    bool is_empty = false;
    enum ctl_exit exit = read_config(ctl, args, &config);
    if (exit != CTL_DONE) return exit;
    exit = source_open(ctl, &source, args->words[0].data);
    if (exit != CTL_DONE) {
        source_close(&source);
        return exit;
    }
    const enum err err = ctl_files_open(&target, data, &is_restoring, &is_empty, message);
    if (err != OK) {
        exit = ctl_complain(ctl, CTL_REFUSED, err_name(err), "%s", message);
    } else if (!is_empty && !is_restoring) {
        exit = ctl_complain(ctl, CTL_REFUSED, "exists",
                            "%s is not empty: nothing was changed, choose another directory", data);
    } else {
        restore = (struct restore){0};
        exit = run_restore(ctl, &source, &target, &config, &restore);
        if (exit == CTL_DONE) tell_restored(ctl, data, &restore);
        restore_close(&restore);
    }
    ctl_files_close(&target);
    source_close(&source);
    return exit;
}
