/* kvctl dump: a file of a data directory, or a backup, in readable form, also when it is damaged. */
#include "client/ctl_dump.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "client/ctl.h"
#include "client/ctl_files.h"

/* ---- lines ----------------------------------------------------------------------------------- */

void ctl_dump_begin(struct ctl_dump *dump, unsigned depth, uint64_t offset, const char *kind)
{
    if (!dump->json) {
        (void)printf("%*s@%" PRIu64 " %s", (int)(2 * depth), "", offset, kind);
        return;
    }
    ctl_json_begin();
    ctl_json_text("file", dump->path);
    ctl_json_uint("offset", offset);
    ctl_json_text("kind", kind);
}

void ctl_dump_number(struct ctl_dump *dump, const char *name, uint64_t number)
{
    if (dump->json) {
        ctl_json_uint(name, number);
    } else {
        (void)printf(" %s=%" PRIu64, name, number);
    }
}

void ctl_dump_hex(struct ctl_dump *dump, const char *name, uint64_t number)
{
    char text[20];
    (void)snprintf(text, sizeof text, "%016" PRIx64, number);
    ctl_dump_text(dump, name, text);
}

void ctl_dump_text(struct ctl_dump *dump, const char *name, const char *text)
{
    if (dump->json) {
        ctl_json_text(name, text);
    } else {
        (void)printf(" %s=%s", name, text);
    }
}

void ctl_dump_bytes(struct ctl_dump *dump, const char *name, struct slice bytes, uint64_t most)
{
    const bool is_cut = bytes.size > most;
    const struct kv_bytes shown = kv_bytes_of(bytes.data, is_cut ? most : bytes.size);
    if (dump->json) {
        ctl_json_bytes(name, shown);
        return;
    }
    (void)printf(" %s=\"", name);
    ctl_put_text(shown, true);
    (void)fputs(is_cut ? "\"..." : "\"", stdout);
}

void ctl_dump_time(struct ctl_dump *dump, const char *name, uint64_t ms)
{
    char text[40] = "";
    const time_t seconds = (time_t)(ms / 1000 < INT32_MAX ? ms / 1000 : 0);
    struct tm moment;
    if (dump->json) {
        ctl_json_uint(name, ms);
        return;
    }
    if (seconds > 0 && gmtime_r(&seconds, &moment) != NULL) {
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &moment);
    }
    if (text[0] != 0) {
        (void)printf(" %s=%s", name, text);
    } else {
        (void)printf(" %s=%" PRIu64, name, ms);
    }
}

void ctl_dump_end(struct ctl_dump *dump)
{
    if (dump->json) ctl_json_end();
    (void)fputc('\n', stdout);
}

void ctl_dump_damage(struct ctl_dump *dump, uint64_t offset, uint64_t size, const char *what)
{
    dump->bad_count++;
    ctl_dump_begin(dump, 0, offset, "DAMAGED");
    if (size > 0) ctl_dump_number(dump, "bytes", size);
    if (dump->json) {
        ctl_json_text("what", what);
    } else {
        (void)printf(" %s", what);
    }
    ctl_dump_end(dump);
}

void ctl_dump_read(struct ctl_dump *dump, uint64_t offset, void *data, uint64_t size)
{
    const enum err err = dump->disk->read(dump->disk->context, dump->file, offset, data, size);
    if (err == OK) return;
    memset(data, 0, size);
    ctl_dump_damage(dump, offset, size, "these bytes cannot be read from the disk");
}

/* ---- which file ------------------------------------------------------------------------------ */

static void put_reserve(struct ctl_dump *dump)
{
    ctl_dump_begin(dump, 0, 0, "reserve");
    ctl_dump_number(dump, "bytes", dump->size);
    ctl_dump_end(dump);
}

static void put_lock(struct ctl_dump *dump)
{
    ctl_dump_begin(dump, 0, 0, "lock");
    ctl_dump_end(dump);
    if (dump->size > 0) ctl_dump_damage(dump, 0, dump->size, "this file ought to be empty");
}

struct kind {
    const char *magic; /* 8 bytes; NULL: only the name tells */
    uint64_t at;       /* offset of the magic */
    const char *name;  /* or the end of the name */
    void (*dump)(struct ctl_dump *dump);
};

static const struct kind kinds[] = {
    {"KVSEG001", 0, ".log", ctl_dump_log},
    {NULL, 0, ".tab", ctl_dump_log},
    {"FKVHINT1", 8, ".idx", ctl_dump_hint},
    {"FKVBASE1", 0, "MANIFEST", ctl_dump_manifest},
    {"KVVOTE01", 0, "vote", ctl_dump_vote},
    {"KVVOTE01", 4096, "vote", ctl_dump_vote},
    {"KVEXPECT", 0, "expected", ctl_dump_expected},
    {"KVEXPECT", 4096, "expected", ctl_dump_expected},
    {"vkIdenty", 0, "identity", ctl_dump_identity},
    {"kVpeers\0", 0, "peers", ctl_dump_peers},
    {"VQUARAN1", 0, "QUARANTINE", ctl_dump_quarantine},
    {"KVBACKUP", 0, ".backup", ctl_dump_backup},
    {NULL, 0, "reserve", put_reserve},
    {NULL, 0, "LOCK", put_lock},
};
#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

static const struct kind *kind_of(struct ctl_dump *dump, const char *name)
{
    for (size_t i = 0; i < KIND_COUNT; i++) {
        uint8_t magic[8];
        if (kinds[i].magic == NULL || dump->size < kinds[i].at + sizeof magic) continue;
        if (dump->disk->read(dump->disk->context, dump->file, kinds[i].at, magic, sizeof magic) !=
            OK) {
            continue;
        }
        if (memcmp(magic, kinds[i].magic, sizeof magic) == 0) return &kinds[i];
    }
    for (size_t i = 0; i < KIND_COUNT; i++) {
        const size_t size = strlen(name);
        const size_t end = strlen(kinds[i].name);
        if (size >= end && strcmp(name + size - end, kinds[i].name) == 0) return &kinds[i];
    }
    return NULL;
}

void ctl_dump_file(struct ctl_dump *dump, const char *name)
{
    const struct kind *kind = kind_of(dump, name);
    if (kind == NULL) {
        ctl_dump_damage(dump, 0, dump->size, "neither its bytes nor its name say what this is");
        return;
    }
    kind->dump(dump);
}

/* ---- the command ----------------------------------------------------------------------------- */

enum ctl_exit ctl_dump(struct ctl *ctl, const struct ctl_args *args)
{
    enum ctl_exit exit = CTL_DONE;
    struct ctl_files files;
    ctl_files_here(&files);
    for (size_t i = 0; i < args->count; i++) {
        const char *path = args->words[i].data;
        const char *slash = strrchr(path, '/');
        struct ctl_dump dump = {.disk = &files.disk,
                                .file = -1,
                                .path = path,
                                .json = ctl->json,
                                .values = args->options[CTL_VALUES].data != NULL};
        struct stat status;
        if (stat(path, &status) == 0 && S_ISDIR(status.st_mode)) {
            exit = ctl_complain(ctl, CTL_REFUSED, "file", "%s is a folder: name the files in it",
                                path);
            continue;
        }
        enum err err = files.disk.open(files.disk.context, path, false, &dump.file);
        if (err == OK) err = files.disk.size(files.disk.context, dump.file, &dump.size);
        if (err != OK) {
            exit = ctl_complain(ctl, CTL_REFUSED, "file", "%s: cannot be read: %s", path,
                                err_name(err));
        } else {
            if (!ctl->json && args->count > 1) (void)printf("%s%s:\n", i > 0 ? "\n" : "", path);
            ctl_dump_file(&dump, slash != NULL ? slash + 1 : path);
            if (dump.bad_count > 0) exit = CTL_REFUSED;
        }
        if (dump.file >= 0) files.disk.close(files.disk.context, dump.file);
    }
    return exit;
}
