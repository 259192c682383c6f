#include "node/host/host_recover.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "node/host/host_disk.h"
#include "node/host/host_log.h"
#include "node/rescue.h"
#include "storage/base/check.h"

#define WORDS_SIZE (NAME_SIZE_MAX + 96u)

static const char usage[] =
    "usage: kvnode recover --force --data DIR\n"
    "\n"
    "For a stopped node of a cluster whose majority is lost for good. The node becomes a cluster "
    "of\n"
    "its own, with a new id and with everything that it has. Writes that were acknowledged and did "
    "not\n"
    "reach it are lost. It says what it has and asks for words before it changes anything.\n";

bool host_recover_wanted(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "recover") == 0;
}

/* ---- the command line -------------------------------------------------------------------------------------- */

struct wish {
    const char *data;
    bool is_forced;
    bool is_help;
};

static bool read_wish(int argc, char **argv, struct wish *wish)
{
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--force") == 0) {
            wish->is_forced = true;
        } else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            wish->is_help = true;
        } else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) {
            wish->data = argv[++i];
        } else if (strncmp(argv[i], "--data=", 7) == 0) {
            wish->data = argv[i] + 7;
        } else {
            fprintf(stderr, "kvnode: recover does not know %.100s\n%s", argv[i], usage);
            return false;
        }
    }
    if (wish->is_help) return true;
    if (wish->data == NULL || wish->data[0] == 0) {
        fprintf(stderr, "kvnode: recover needs --data DIR\n%s", usage);
        return false;
    }
    if (wish->is_forced) return true;
    fprintf(stderr,
            "kvnode: recover can lose acknowledged writes, so it wants --force, and then asks\n%s",
            usage);
    return false;
}

/* ---- what may be lost -------------------------------------------------------------------------------------- */

static void say_facts(const struct rescue *rescue, const char *data)
{
    const struct identity *identity = &rescue->identity;
    const time_t seconds = (time_t)(rescue->stamp_ms / 1000);
    struct tm moment;
    char stamp[40] = "unknown";
    if (rescue->stamp_ms > 0 && gmtime_r(&seconds, &moment) != NULL) {
        (void)strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S UTC", &moment);
    }
    printf("%s: %s, one of %u members (%u voters) of cluster %016" PRIx64 "\n", data,
           identity->name, rescue->members, rescue->voters, identity->cluster_id);
    if (rescue->notice[0] != 0) printf("%s\n", rescue->notice);
    if (rescue->is_repeated) printf("An earlier recovery was interrupted; this one finishes it.\n");
    printf(
        "\n"
        "It has the log up to index %" PRIu64 " (term %" PRIu64 "), revision %" PRIu64 ",\n"
        "written about %s.\n"
        "\n"
        "May be lost: every write that was acknowledged and is newer than that.\n"
        "May become true: writes at its end that were never acknowledged.\n"
        "Afterwards: a new cluster with a new id whose only member is this node. Other nodes of "
        "the\n"
        "old cluster are refused by it: never start them again beside it, and never recover two.\n"
        "Do this only when a majority of the voters cannot come back.\n"
        "\n",
        rescue->last_index, rescue->last_term, rescue->last_index * 65536 + 65535, stamp);
}

/* Asks for the exact words. */
static bool is_confirmed(const struct rescue *rescue)
{
    char words[WORDS_SIZE];
    char line[WORDS_SIZE + 2];
    (void)snprintf(words, sizeof words, "writes that %s does not have are lost",
                   rescue->identity.name);
    printf("To go on type exactly: %s\n> ", words);
    (void)fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL) line[0] = 0;
    const size_t size = strcspn(line, "\n");
    line[size] = 0;
    if (isatty(STDIN_FILENO) != 1) printf("\n");
    return strcmp(line, words) == 0;
}

/* ---- doing it ---------------------------------------------------------------------------------------------- */

static uint64_t random_number(void)
{
    uint64_t number = 0;
    while (getrandom(&number, sizeof number, 0) != (ssize_t)sizeof number) CHECK(errno == EINTR);
    return number;
}

static int complain(enum err err, const char *message)
{
    fprintf(stderr, "kvnode: %s\n", message[0] != 0 ? message : err_name(err));
    return err == ERR_IO ? EXIT_DISK : EXIT_BAD_DATA;
}

static int recover(struct host_disk *disk, const char *data)
{
    static struct rescue rescue; /* too big for the stack */
    char message[RESCUE_MESSAGE_SIZE] = "";
    int code = 0;
    enum err err = rescue_open(&rescue, &disk->disk, random_number(), message);
    if (err != OK) {
        rescue_close(&rescue);
        return complain(err, message);
    }
    say_facts(&rescue, data);
    if (!is_confirmed(&rescue)) {
        fprintf(stderr, "kvnode: these are not the words: nothing was changed\n");
        code = EXIT_BAD_CONFIG;
    } else {
        err = rescue_run(&rescue, random_number(), message);
        if (err != OK) code = complain(err, message);
    }
    if (code == 0) {
        printf("done: %s is the new cluster %016" PRIx64 "; start it as before, without others\n",
               rescue.identity.name, rescue.identity.cluster_id);
    }
    rescue_close(&rescue);
    return code;
}

int host_recover_run(int argc, char **argv)
{
    static struct host_disk disk;
    struct wish wish = {0};
    struct stat status;
    uv_loop_t loop;
    char message[512] = "";
    if (!read_wish(argc, argv, &wish)) return EXIT_BAD_CONFIG;
    if (wish.is_help) {
        fputs(usage, stdout);
        return 0;
    }
    if (stat(wish.data, &status) != 0) {
        fprintf(stderr, "kvnode: data: %.400s: %s\n", wish.data, strerror(errno));
        return EXIT_BAD_CONFIG;
    }
    const enum err err = host_disk_open(&disk, wish.data, message);
    if (err != OK) return complain(err, message);
    CHECK(uv_loop_init(&loop) == 0);
    int code = EXIT_BAD_CONFIG;
    if (host_disk_start(&disk, &loop) == OK) {
        code = recover(&disk, wish.data);
    } else {
        fprintf(stderr, "kvnode: cannot start the disk's threads: %s\n", strerror(errno));
    }
    host_disk_close(&disk);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    return code;
}
