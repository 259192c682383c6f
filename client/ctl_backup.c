/* kvctl backup save: fetches the sealed files of one node while the cluster runs.
 *
 * The leader names an index up to which everything acknowledged lies; the node seals up to there and keeps its files
 * until they are fetched. They go into FILE.partial, each verified once it is there, and that becomes FILE when it is
 * complete and on the disk. When the connection breaks, or the node is started again, it begins anew: files that
 * are here already are not fetched again. A node that cannot give its files is left for another one. */
#include "client/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "client/ctl_files.h"
#include "storage/backup.h"

#define TRIES_MAX 10
#define PAUSE_MS 300
#define BEGIN_TIMEOUT_MS 30000
#define PIPELINE_MAX 4u /* pieces asked for at a time */
#define WRITE_SIZE (1u * MIB)
#define NODES_MAX 64u

enum save_result {
    SAVE_DONE,
    SAVE_AGAIN,  /* the connection broke, or the backup ended there: begin anew */
    SAVE_OTHER,  /* this node cannot give it */
    SAVE_FAILED, /* here: said already */
};

struct save_node {
    char name[NAME_SIZE_MAX + 1];
    char client[ADDRESS_SIZE_MAX + 1];
    bool is_bad;
};

struct save {
    struct ctl *ctl;
    const char *path;
    char partial[4096];
    struct ctl_files files;
    int fd;
    struct buf out; /* not written yet */
    uint64_t written;
    struct backup backup;
    struct manifest manifest;
    struct save_node nodes[NODES_MAX];
    size_t node_count;
    struct kv *kv; /* to the node */
    const struct save_node *node;
    uint64_t node_id; /* of what is in the file; 0: nothing yet */
    uint64_t cluster_id;
    uint64_t id;      /* of the backup at that node */
    uint64_t fetched; /* bytes of this manifest's files that are here */
    struct ctl_progress progress;
    enum ctl_exit exit; /* after SAVE_FAILED, and of the last trouble */
    char trouble[512];  /* the last one, for when all tries are used up */
};

static enum save_result fail(struct save *save, enum ctl_exit exit, const char *code,
                             const char *what)
{
    ctl_progress_end(&save->progress);
    save->exit = ctl_complain(save->ctl, exit, code, "%s", what);
    return SAVE_FAILED;
}

static enum save_result fail_file(struct save *save, const char *what)
{
    char text[4400];
    (void)snprintf(text, sizeof text, "%s: %s: %s", save->partial, what, strerror(errno));
    return fail(save, CTL_REFUSED, "file", text);
}

/* The connection's last trouble: what to do about it. */
static enum save_result judge(struct save *save, struct kv *kv, enum kv_err err)
{
    const char *text = kv_message(kv);
    (void)snprintf(save->trouble, sizeof save->trouble, "%s: %.400s",
                   save->node != NULL ? save->node->name : "the leader", text);
    save->exit = ctl_exit_of(err);
    if (err == KV_ERR_NOMEM) return fail(save, CTL_REFUSED, "no_memory", "no memory");
    if (err != KV_ERR_FAILED || strncmp(text, "NOBACKUP", 8) == 0) return SAVE_AGAIN;
    return SAVE_OTHER;
}

static enum save_result strange(struct save *save, const char *what)
{
    (void)snprintf(save->trouble, sizeof save->trouble, "%s: %s", save->node->name, what);
    save->exit = CTL_REFUSED;
    return SAVE_OTHER;
}

/* ---- the file -------------------------------------------------------------------------------- */

static enum save_result flush(struct save *save)
{
    const struct slice data = buf_slice(&save->out);
    uint64_t done = 0;
    while (done < data.size) {
        const ssize_t put = pwrite(save->fd, data.data + done, data.size - done,
                                   (off_t)(save->written + done));
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return fail_file(save, "cannot write");
        done += (uint64_t)put;
    }
    save->written += done;
    save->out.size = 0;
    return SAVE_DONE;
}

static enum save_result partial_open(struct save *save)
{
    if (snprintf(save->partial, sizeof save->partial, "%s.partial", save->path) >=
        (int)sizeof save->partial) {
        return fail(save, CTL_USAGE, "usage", "the name is too long");
    }
    if (access(save->path, F_OK) == 0) {
        char text[4400];
        (void)snprintf(text, sizeof text, "%s is there already: choose another name", save->path);
        return fail(save, CTL_REFUSED, "file", text);
    }
    save->fd = open(save->partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (save->fd < 0) return fail_file(save, "cannot make");
    if (flock(save->fd, LOCK_EX | LOCK_NB) != 0) return fail_file(save, "another save is at work");
    return SAVE_DONE;
}

/* Empties the file and writes the header: nothing of what an earlier process left is taken over. */
static enum save_result partial_begin(struct save *save)
{
    struct backup_header header = {.storage_id = save->manifest.cluster_id,
                                   .cluster_id = save->cluster_id,
                                   .node_id = save->node_id};
    struct timespec now;
    backup_close(&save->backup);
    backup_init(&save->backup, &save->files.disk, save->fd);
    save->out.size = 0;
    save->written = 0;
    if (ftruncate(save->fd, 0) != 0) return fail_file(save, "cannot write");
    (void)clock_gettime(CLOCK_REALTIME, &now);
    header.made_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    while (getrandom(&header.backup_id, sizeof header.backup_id, 0) !=
           (ssize_t)sizeof header.backup_id) {
        if (errno != EINTR) return fail_file(save, "no random number");
    }
    backup_put_header(&save->backup, &header, &save->out);
    return SAVE_DONE;
}

/* FILE.partial becomes FILE, and both names and bytes are on the disk. */
static enum save_result partial_end(struct save *save)
{
    char folder[4096];
    const char *slash = strrchr(save->path, '/');
    backup_put_end(&save->backup, &save->manifest, &save->out);
    if (flush(save) != SAVE_DONE) return SAVE_FAILED;
    if (fsync(save->fd) != 0) return fail_file(save, "cannot write");
    if (renameat2(AT_FDCWD, save->partial, AT_FDCWD, save->path, RENAME_NOREPLACE) != 0 &&
        (errno != EINVAL || rename(save->partial, save->path) != 0)) {
        return fail_file(save, "cannot rename");
    }
    const int size = slash == NULL || slash == save->path ? 1 : (int)(slash - save->path);
    (void)snprintf(folder, sizeof folder, "%.*s", size, slash != NULL ? save->path : ".");
    const int opened = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = opened >= 0 && fsync(opened) == 0;
    if (opened >= 0) (void)close(opened);
    return synced ? SAVE_DONE : fail_file(save, "cannot sync the folder");
}

/* ---- asking a node --------------------------------------------------------------------------- */

static bool number_field(const struct kv_reply *map, const char *name, uint64_t *number)
{
    const struct kv_reply *value = ctl_field(map, name);
    if (value->type != KV_INTEGER || value->integer < 0) return false;
    *number = (uint64_t)value->integer;
    return true;
}

static bool hex_field(const struct kv_reply *map, const char *name, uint64_t *number)
{
    const struct kv_reply *value = ctl_field(map, name);
    if (value->type != KV_STRING || value->size != 16) return false;
    if (strspn(value->data, "0123456789abcdef") != 16) return false;
    *number = strtoull(value->data, NULL, 16);
    return true;
}

/* Everything acknowledged so far lies up to this index. */
static enum save_result ask_index(struct save *save, uint64_t *index)
{
    const struct kv_bytes args[] = {kv_text("KV.INDEX")};
    const struct kv_reply *reply = NULL;
    save->node = NULL;
    const enum kv_err err = kv_command(save->ctl->kv, KV_READ, args, 1, &reply);
    if (err != KV_OK) {
        const enum save_result result = judge(save, save->ctl->kv, err);
        if (result != SAVE_OTHER) return result;
        return fail(save, CTL_REFUSED, kv_err_name(err), save->trouble);
    }
    if (reply->type != KV_INTEGER || reply->integer < 0) {
        return fail(save, CTL_REFUSED, "reply", "the leader gave a strange answer to KV.INDEX");
    }
    *index = (uint64_t)reply->integer;
    return SAVE_DONE;
}

static enum save_result connect_node(struct save *save)
{
    struct kv_options settings;
    kv_close(save->kv);
    save->kv = NULL;
    kv_options_init(&settings);
    settings.nodes = save->node->client;
    settings.timeout_ms = save->ctl->timeout_ms;
    enum kv_err err = kv_connect(&settings, &save->kv);
    if (save->kv == NULL) return fail(save, CTL_REFUSED, "no_memory", "no memory");
    if (err == KV_OK) err = kv_stay(save->kv, save->node->client);
    return err == KV_OK ? SAVE_DONE : judge(save, save->kv, err);
}

/* Asks the node for a backup that reaches @index; its manifest is ours then. */
static enum save_result begin(struct save *save, uint64_t index)
{
    char text[24];
    const struct kv_reply *reply = NULL;
    const char *wrong = NULL;
    uint64_t node_id = 0;
    uint64_t cluster_id = 0;
    (void)snprintf(text, sizeof text, "%" PRIu64, index);
    const struct kv_bytes args[] = {kv_text("KV.BACKUP"), kv_text("BEGIN"), kv_text(text)};
    const int64_t timeout_ms = save->ctl->timeout_ms;
    kv_set_timeout(save->kv, timeout_ms > BEGIN_TIMEOUT_MS ? timeout_ms : BEGIN_TIMEOUT_MS);
    const enum kv_err err = kv_command(save->kv, KV_WRITE, args, 3, &reply);
    kv_set_timeout(save->kv, timeout_ms);
    if (err != KV_OK) return judge(save, save->kv, err);
    const struct kv_reply *manifest = ctl_field(reply, "manifest");
    if (manifest->type != KV_STRING || !number_field(reply, "id", &save->id) ||
        !hex_field(reply, "node_id", &node_id) || !hex_field(reply, "cluster_id", &cluster_id)) {
        return strange(save, "a strange answer to KV.BACKUP BEGIN");
    }
    manifest_close(&save->manifest);
    if (manifest_decode(slice_of(manifest->data, manifest->size), &save->manifest, &wrong) != OK) {
        return strange(save, "its manifest is damaged");
    }
    if (!save->manifest.has_state_hash) return strange(save, "its manifest is of an old version");
    if (save->manifest.base_index < index) return strange(save, "its base is older than asked for");
    const bool is_same = save->node_id == node_id && save->cluster_id == cluster_id &&
                         save->backup.header.storage_id == save->manifest.cluster_id;
    save->node_id = node_id;
    save->cluster_id = cluster_id;
    return is_same ? SAVE_DONE : partial_begin(save);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Where to go on with @file: behind what is here, if nothing else was written since. */
static uint64_t resume_offset(const struct save *save, const struct log_file *file)
{
    const struct backup *backup = &save->backup;
    const uint64_t here = backup_file_size(backup, file->file_id);
    if (here == file->used) return here;
    if (backup->file_count == 0) return 0;
    const struct backup_file *last = &backup->files[backup->file_count - 1];
    return last->file_id == file->file_id && here < file->used ? here : 0;
}

/* Asks for some pieces in one go. */
static enum save_result fetch_some(struct save *save, const struct log_file *file,
                                   struct kv_pipeline *pipeline, uint64_t *offset)
{
    char texts[PIPELINE_MAX][4][24];
    const uint64_t start = *offset;
    uint64_t at = start;
    uint32_t count = 0;
    enum kv_err err = KV_OK;
    for (; count < PIPELINE_MAX && at < file->used && err == KV_OK; count++) {
        const uint64_t left = file->used - at;
        const uint64_t size = left < BACKUP_PIECE_SIZE_MAX ? left : BACKUP_PIECE_SIZE_MAX;
        (void)snprintf(texts[count][0], 24, "%" PRIu64, save->id);
        (void)snprintf(texts[count][1], 24, "%016" PRIx64, file->file_id);
        (void)snprintf(texts[count][2], 24, "%" PRIu64, at);
        (void)snprintf(texts[count][3], 24, "%" PRIu64, size);
        const struct kv_bytes args[] = {kv_text("KV.BACKUP"),     kv_text("READ"),
                                        kv_text(texts[count][0]), kv_text(texts[count][1]),
                                        kv_text(texts[count][2]), kv_text(texts[count][3])};
        err = kv_pipeline_add(pipeline, KV_READ, args, 6);
        at += size;
    }
    if (err == KV_OK) err = kv_pipeline_execute(pipeline);
    if (err != KV_OK) return judge(save, save->kv, err);
    for (uint32_t i = 0; i < count; i++) {
        const struct kv_reply *reply = NULL;
        const uint64_t left = file->used - *offset;
        const uint64_t size = left < BACKUP_PIECE_SIZE_MAX ? left : BACKUP_PIECE_SIZE_MAX;
        err = kv_pipeline_result(pipeline, i, &reply);
        if (err != KV_OK) return judge(save, save->kv, err);
        if (reply->type != KV_STRING || reply->size != size) {
            return strange(save, "a strange answer to KV.BACKUP READ");
        }
        backup_put_piece(&save->backup, file->file_id, *offset, slice_of(reply->data, reply->size),
                         &save->out);
        *offset += size;
        save->fetched += size;
        if (save->out.size >= WRITE_SIZE && flush(save) != SAVE_DONE) return SAVE_FAILED;
    }
    ctl_progress_show(&save->progress, save->fetched, manifest_files_size(&save->manifest));
    return SAVE_DONE;
}

/* Fetches file @at of the manifest from @offset on, and verifies it. */
static enum save_result fetch_file(struct save *save, uint32_t at, uint64_t offset)
{
    const struct log_file *file = &save->manifest.files[at];
    struct kv_pipeline *pipeline = NULL;
    const char *wrong = NULL;
    uint64_t place = 0;
    if (kv_pipeline_create(save->kv, &pipeline) != KV_OK) {
        return fail(save, CTL_REFUSED, "no_memory", "no memory");
    }
    enum save_result result = SAVE_DONE;
    while (result == SAVE_DONE && offset < file->used) {
        result = fetch_some(save, file, pipeline, &offset);
    }
    kv_pipeline_destroy(pipeline);
    if (result != SAVE_DONE) return result;
    if (flush(save) != SAVE_DONE) return SAVE_FAILED;
    const enum err err = backup_verify_file(&save->backup, &save->manifest, at, &wrong, &place);
    if (err == OK) return SAVE_DONE;
    char text[256];
    (void)snprintf(text, sizeof text, "its file %016" PRIx64 " is damaged: offset %" PRIu64 ": %s",
                   file->file_id, place, wrong);
    return strange(save, text);
}

static enum save_result fetch_all(struct save *save)
{
    save->fetched = 0;
    for (uint32_t i = 0; i < save->manifest.file_count; i++) {
        save->fetched += resume_offset(save, &save->manifest.files[i]);
    }
    for (uint32_t i = 0; i < save->manifest.file_count; i++) {
        const struct log_file *file = &save->manifest.files[i];
        const uint64_t offset = resume_offset(save, file);
        if (offset == file->used) continue;
        const enum save_result result = fetch_file(save, i, offset);
        if (result != SAVE_DONE) return result;
    }
    return SAVE_DONE;
}

/* ---- which node ------------------------------------------------------------------------------ */

/* Nodes in the order in which they are asked: healthy followers, the nearest to the leader first, then the leader. */
static enum save_result list_nodes(struct save *save, const char *wanted)
{
    struct kv_cluster cluster;
    const enum kv_err err = kv_status(save->ctl->kv, &cluster);
    if (err != KV_OK) {
        save->exit = ctl_failed(save->ctl, err);
        return SAVE_FAILED;
    }
    bool taken[NODES_MAX] = {false};
    for (size_t n = 0; n < cluster.node_count && n < NODES_MAX; n++) {
        size_t best = SIZE_MAX;
        uint64_t best_cost = UINT64_MAX;
        for (size_t i = 0; i < cluster.node_count && i < NODES_MAX; i++) {
            const struct kv_node *node = &cluster.nodes[i];
            if (taken[i] || strcmp(node->role, "down") == 0) continue;
            if (wanted != NULL && strcmp(wanted, node->name) != 0) continue;
            uint64_t cost = node->lag < UINT32_MAX ? node->lag : UINT32_MAX;
            if (strcmp(node->role, "leader") == 0) cost += UINT64_C(1) << 40;
            if (strcmp(node->health, "ok") != 0) cost += UINT64_C(1) << 50;
            if (cost < best_cost) best = i;
            if (cost < best_cost) best_cost = cost;
        }
        if (best == SIZE_MAX) break;
        taken[best] = true;
        struct save_node *to = &save->nodes[save->node_count++];
        (void)snprintf(to->name, sizeof to->name, "%s", cluster.nodes[best].name);
        (void)snprintf(to->client, sizeof to->client, "%s", cluster.nodes[best].client);
    }
    if (save->node_count > 0) return SAVE_DONE;
    return fail(save, CTL_REFUSED, "not_found",
                wanted != NULL ? "no member of this name can be reached"
                               : "no member can be reached");
}

static struct save_node *next_node(struct save *save)
{
    for (size_t i = 0; i < save->node_count; i++) {
        if (!save->nodes[i].is_bad) return &save->nodes[i];
    }
    return NULL;
}

static enum save_result save_from(struct save *save, const struct save_node *node)
{
    uint64_t index = 0;
    enum save_result result = ask_index(save, &index);
    save->node = node;
    if (result == SAVE_DONE) result = connect_node(save);
    if (result == SAVE_DONE) result = begin(save, index);
    if (result == SAVE_DONE) result = fetch_all(save);
    if (result == SAVE_DONE) {
        char text[24];
        (void)snprintf(text, sizeof text, "%" PRIu64, save->id);
        const struct kv_bytes args[] = {kv_text("KV.BACKUP"), kv_text("END"), kv_text(text)};
        /* It would end by itself; everything is here. */
        (void)kv_command(save->kv, KV_WRITE, args, 3, NULL);
        result = partial_end(save);
    }
    return result;
}

static enum save_result save_all(struct save *save)
{
    for (int try = 0; try < TRIES_MAX; try++) {
        struct save_node *node = next_node(save);
        if (node == NULL) break;
        const enum save_result result = save_from(save, node);
        if (result == SAVE_DONE || result == SAVE_FAILED) return result;
        ctl_progress_end(&save->progress);
        if (!save->ctl->json) (void)fprintf(stderr, "kvctl: %s\n", save->trouble);
        /* One that does not come back is left, too. */
        if (result == SAVE_OTHER || try % 4 == 3) node->is_bad = true;
        const struct timespec pause = {.tv_sec = 0, .tv_nsec = PAUSE_MS * 1000000L};
        if (result == SAVE_AGAIN) (void)nanosleep(&pause, NULL);
    }
    const enum ctl_exit exit = save->exit != CTL_DONE ? save->exit : CTL_NO_ANSWER;
    return fail(save, exit == CTL_UNKNOWN ? CTL_NO_ANSWER : exit, "backup", save->trouble);
}

static void tell(const struct save *save)
{
    const struct manifest *manifest = &save->manifest;
    const uint64_t revision = manifest->base_index * 65536 + 65535;
    char size[CTL_SIZE_TEXT];
    if (!save->ctl->json) {
        (void)printf("%s: cluster %016" PRIx64 ", from %s, up to index %" PRIu64
                     " (revision %" PRIu64 "), %u file%s, %s\n",
                     save->path, save->cluster_id, save->node->name, manifest->base_index, revision,
                     manifest->file_count, manifest->file_count == 1 ? "" : "s",
                     ctl_size_text(save->written, size));
        return;
    }
    char id[20];
    ctl_json_begin();
    ctl_json_text("file", save->path);
    (void)snprintf(id, sizeof id, "%016" PRIx64, save->cluster_id);
    ctl_json_text("cluster", id);
    ctl_json_text("node", save->node->name);
    ctl_json_uint("index", manifest->base_index);
    ctl_json_uint("revision", revision);
    ctl_json_uint("stamp_ms", manifest->stamp_ms);
    ctl_json_uint("files", manifest->file_count);
    ctl_json_uint("bytes", save->written);
    ctl_json_end();
    (void)fputc('\n', stdout);
}

enum ctl_exit ctl_backup_save(struct ctl *ctl, const struct ctl_args *args)
{
    static struct save save; /* too big for the stack */
    save = (struct save){.ctl = ctl, .path = args->words[0].data, .fd = -1};
    ctl_progress_begin(&save.progress, ctl, "saving");
    ctl_files_here(&save.files);
    backup_init(&save.backup, &save.files.disk, -1);
    enum save_result result = list_nodes(&save, args->options[CTL_NODE].data);
    if (result == SAVE_DONE) result = partial_open(&save);
    if (result == SAVE_DONE) {
        result = save_all(&save);
        ctl_progress_end(&save.progress);
        if (result == SAVE_DONE) tell(&save);
        /* What is incomplete is of no use to anybody. */
        if (result != SAVE_DONE) (void)unlink(save.partial);
    }
    if (save.fd >= 0) (void)close(save.fd);
    backup_close(&save.backup);
    manifest_close(&save.manifest);
    buf_close(&save.out);
    kv_close(save.kv);
    return result == SAVE_DONE ? CTL_DONE : save.exit;
}
