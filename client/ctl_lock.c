/* ctl_lock.c - kvctl lock and kvctl elect: a command that runs while this process has a lock.
 *
 * The lock is renewed three times in its time to live. A renewal counts from when it was asked, so the end that is
 * reckoned with here is never later than the cluster's. When no renewal comes through the command is told to end
 * (SIGTERM) a quarter of the time to live before that end, and ended (SIGKILL) at it. */
#include "client/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TTL_DEFAULT_MS 10000
#define TTL_MAX_MS 86400000
#define WAIT_ONCE_MS 30000 /* then it asks again: the leader may have gone without a word */
#define LOOK_MS 20
#define AGAIN_MS 200

struct held {
    struct ctl *ctl;
    struct kv_bytes name;
    int64_t ttl_ms;
    char owner[96];
    int64_t token;
    int64_t until_ms; /* it may be another's from then on */
    pid_t child;
    int status; /* of the child that ended */
};

static volatile sig_atomic_t signal_to_pass;

static void note_signal(int number)
{
    signal_to_pass = number;
}

static int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void sleep_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    (void)nanosleep(&pause, NULL);
}

static bool name_owner(struct held *held)
{
    char host[48] = "";
    uint8_t bytes[8];
    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) return false;
    (void)gethostname(host, sizeof host - 1);
    int size = snprintf(held->owner, sizeof held->owner, "%s:%ld:", host, (long)getpid());
    for (size_t i = 0; i < sizeof bytes; i++) {
        size += snprintf(held->owner + size, sizeof held->owner - (size_t)size, "%02x", bytes[i]);
    }
    return true;
}

/* ---- the lock ------------------------------------------------------------------------------------------ */

/* Asks for the lock, and waits for it up to @wait_ms. KV_ERR_CONDITION: it is another's. Asking again does no harm. */
static enum kv_err ask_lock(struct held *held, int64_t wait_ms)
{
    char ttl[24];
    char wait[24];
    const struct kv_reply *reply = NULL;
    (void)snprintf(ttl, sizeof ttl, "%" PRId64, held->ttl_ms);
    (void)snprintf(wait, sizeof wait, "%" PRId64, wait_ms);
    const struct kv_bytes args[] = {kv_text("KV.LOCK"),   held->name,      kv_text(ttl),
                                    kv_text(held->owner), kv_text("WAIT"), kv_text(wait)};
    kv_set_timeout(held->ctl->kv, wait_ms + held->ctl->timeout_ms);
    enum kv_err err = kv_command(held->ctl->kv, KV_READ | KV_NOT_ONCE, args, 6, &reply);
    kv_set_timeout(held->ctl->kv, held->ctl->timeout_ms);
    if (err != KV_OK) return err;
    if (reply->type != KV_INTEGER) return KV_ERR_CONDITION;
    held->token = reply->integer;
    return KV_OK;
}

/* 1: it is ours for another while, 0: it is not ours, -1: nobody says. */
static int renew(struct held *held)
{
    char ttl[24];
    const struct kv_reply *reply = NULL;
    const int64_t asked_ms = now_ms();
    int64_t patience_ms = held->ttl_ms / 4;
    if (patience_ms > held->until_ms - asked_ms) patience_ms = held->until_ms - asked_ms;
    if (patience_ms < 1) return -1;
    (void)snprintf(ttl, sizeof ttl, "%" PRId64, held->ttl_ms);
    const struct kv_bytes args[] = {kv_text("KV.RENEW"), held->name, kv_text(ttl),
                                    kv_text(held->owner)};
    kv_set_timeout(held->ctl->kv, patience_ms);
    const enum kv_err err = kv_command(held->ctl->kv, KV_READ | KV_NOT_ONCE, args, 4, &reply);
    kv_set_timeout(held->ctl->kv, held->ctl->timeout_ms);
    if (err != KV_OK || reply->type != KV_INTEGER) return -1;
    if (reply->integer == 1) held->until_ms = asked_ms + held->ttl_ms;
    return reply->integer == 1 ? 1 : 0;
}

static void unlock(struct held *held)
{
    const struct kv_bytes args[] = {kv_text("KV.UNLOCK"), held->name, kv_text(held->owner)};
    (void)kv_command(held->ctl->kv, KV_READ | KV_NOT_ONCE, args, 3, NULL);
}

/* Until it is ours. @wait_ms: -1 without end. */
static enum ctl_exit acquire(struct held *held, int64_t wait_ms)
{
    const int64_t end_ms = wait_ms < 0 ? INT64_MAX : now_ms() + wait_ms;
    for (;;) {
        const int64_t asked_ms = now_ms();
        int64_t once_ms = end_ms - asked_ms;
        if (once_ms > WAIT_ONCE_MS) once_ms = WAIT_ONCE_MS;
        if (once_ms < 0) once_ms = 0;
        const enum kv_err err = ask_lock(held, once_ms);
        if (err == KV_OK) {
            /* How long it took to come is not known: the first renewal tells. */
            held->until_ms = now_ms() + held->ttl_ms;
            const int is_ours = renew(held);
            if (is_ours == 1) return CTL_DONE;
            if (is_ours < 0) held->until_ms = asked_ms;
        } else if (err == KV_ERR_INVALID || err == KV_ERR_FAILED || err == KV_ERR_NOMEM) {
            return ctl_failed(held->ctl, err);
        }
        if (now_ms() >= end_ms) {
            if (err != KV_ERR_CONDITION && err != KV_OK) return ctl_failed(held->ctl, err);
            return ctl_complain(held->ctl, CTL_REFUSED, "locked", "the lock is another's");
        }
        if (err != KV_ERR_CONDITION) sleep_ms(AGAIN_MS);
    }
}

/* ---- the command --------------------------------------------------------------------------------------- */

/* Nobody renews the lock when this program is killed: the command is told to end then, too. */
static void end_with(pid_t parent)
{
#ifdef __linux__
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
#endif
    if (getppid() != parent) _exit(1);
}

static enum ctl_exit start(struct held *held, const struct ctl_args *args)
{
    char token[24];
    static char *words[CTL_WORDS_MAX + 1];
    for (size_t i = 1; i < args->count; i++) {
        words[i - 1] = (char *)(uintptr_t)args->words[i].data; /* execvp changes nothing */
    }
    words[args->count - 1] = NULL;
    (void)snprintf(token, sizeof token, "%" PRId64, held->token);
    if (setenv("KV_LOCK_NAME", args->words[0].data, 1) != 0 ||
        setenv("KV_LOCK_TOKEN", token, 1) != 0) {
        return ctl_complain(held->ctl, CTL_USAGE, "no_memory", "%s", strerror(errno));
    }
    (void)fflush(NULL);
    const pid_t parent = getpid();
    held->child = fork();
    if (held->child < 0) {
        return ctl_complain(held->ctl, CTL_USAGE, "fork", "%s", strerror(errno));
    }
    if (held->child == 0) {
        end_with(parent);
        (void)signal(SIGINT, SIG_DFL);
        (void)signal(SIGTERM, SIG_DFL);
        (void)execvp(words[0], words);
        (void)fprintf(stderr, "kvctl: %s: %s\n", words[0], strerror(errno));
        _exit(errno == ENOENT ? 127 : 126);
    }
    return CTL_DONE;
}

static bool has_ended(struct held *held)
{
    const pid_t pid = waitpid(held->child, &held->status, WNOHANG);
    return pid == held->child || (pid < 0 && errno == ECHILD);
}

/* The lock is lost or about to be: the command ends before it is another's. */
static void end_child(struct held *held)
{
    const int64_t kill_ms = held->until_ms;
    (void)kill(held->child, SIGTERM);
    while (!has_ended(held)) {
        if (now_ms() >= kill_ms) (void)kill(held->child, SIGKILL);
        sleep_ms(LOOK_MS);
    }
}

/* Runs the command while the lock is ours. True: it ended by itself. */
static bool attend(struct held *held)
{
    int64_t next_ms = now_ms() + held->ttl_ms / 3;
    while (!has_ended(held)) {
        if (signal_to_pass != 0) {
            (void)kill(held->child, signal_to_pass);
            signal_to_pass = 0;
        }
        const int64_t now = now_ms();
        if (now >= next_ms) {
            const int is_ours = renew(held);
            if (is_ours == 0) held->until_ms = now; /* It is another's already. */
            next_ms = is_ours == 1 ? now + held->ttl_ms / 3 : now + AGAIN_MS;
        }
        if (now_ms() >= held->until_ms - held->ttl_ms / 4) {
            end_child(held);
            return false;
        }
        sleep_ms(LOOK_MS);
    }
    return true;
}

static enum ctl_exit exit_of(const struct held *held)
{
    if (WIFEXITED(held->status)) return (enum ctl_exit)WEXITSTATUS(held->status);
    return (enum ctl_exit)(128 + WTERMSIG(held->status));
}

static enum ctl_exit run(struct ctl *ctl, const struct ctl_args *args, bool again)
{
    struct held held = {.ctl = ctl, .name = args->words[0], .ttl_ms = TTL_DEFAULT_MS};
    int64_t wait_ms = -1;
    const struct kv_bytes ttl = args->options[CTL_TTL];
    const struct kv_bytes wait = args->options[CTL_WAIT];
    if (ttl.data != NULL && !ctl_number(ttl, 100, TTL_MAX_MS, &held.ttl_ms)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--ttl takes milliseconds, 100 to %d",
                            TTL_MAX_MS);
    }
    if (wait.data != NULL && !ctl_number(wait, 0, TTL_MAX_MS, &wait_ms)) {
        return ctl_complain(ctl, CTL_USAGE, "usage", "--wait takes milliseconds, 0 to %d",
                            TTL_MAX_MS);
    }
    if (!name_owner(&held)) {
        return ctl_complain(ctl, CTL_USAGE, "random", "the system gives no random numbers");
    }
    for (;;) {
        enum ctl_exit result = acquire(&held, wait_ms);
        if (result != CTL_DONE) return result;
        (void)signal(SIGINT, note_signal);
        (void)signal(SIGTERM, note_signal);
        result = start(&held, args);
        const bool is_done = result != CTL_DONE || attend(&held);
        unlock(&held);
        if (result != CTL_DONE) return result;
        if (is_done) return exit_of(&held);
        (void)ctl_complain(ctl, CTL_REFUSED, "lost", "the lock was lost, the command was ended");
        if (!again || signal_to_pass != 0) return CTL_REFUSED;
    }
}

enum ctl_exit ctl_lock(struct ctl *ctl, const struct ctl_args *args)
{
    return run(ctl, args, false);
}

enum ctl_exit ctl_elect(struct ctl *ctl, const struct ctl_args *args)
{
    return run(ctl, args, true);
}
