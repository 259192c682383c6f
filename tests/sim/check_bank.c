/* check_bank.c - holds what the bank's clients were told against the committed log. See sim_bank.h. */
#include <stdlib.h>
#include <string.h>

#include "storage/base/mem.h"
#include "tests/sim/sim.h"

#define LATE_COUNT 64u
#define BACK_MAX 300u

/* The accounts after each transfer in the log; position 0 is before the first one. */
struct state {
    struct sim_bank_value values[SIM_BANK_ACCOUNTS];
    uint64_t txn; /* the transfer that led here; 0: a flush */
};

struct history {
    struct sim *sim;
    struct sim_bank *bank;
    struct state *states;
    uint64_t count;      /* of transfers and flushes */
    uint64_t *positions; /* by number of the operation; 0: not in the log */
};

static int by_index(const void *left, const void *right)
{
    const struct sim_bank_change *a = left;
    const struct sim_bank_change *b = right;
    if (a->index != b->index) return a->index < b->index ? -1 : 1;
    return (a->order > b->order) - (a->order < b->order);
}

/* Was every entry between the first and the last change seen? One that no node showed leaves nothing to check. */
static bool is_whole(const struct sim *sim)
{
    const struct sim_bank *bank = &sim->bank;
    const uint64_t last = bank->changes[bank->change_count - 1].index;
    for (uint64_t at = bank->changes[0].index; at <= last; at++) {
        if (sim->log.entries[at].checksum == 0) return false;
    }
    return true;
}

static bool is_same(const struct sim_bank_value *a, const struct sim_bank_value *b)
{
    return a->txn == b->txn && a->balance == b->balance;
}

/* The transfer whose two changes begin at @at comes behind @before. */
static bool take_transfer(struct history *history, uint64_t at, const struct state *before,
                          struct state *after)
{
    struct sim *sim = history->sim;
    const struct sim_bank_change *from = &history->bank->changes[at];
    const struct sim_bank_change *to = from + 1;
    const uint64_t txn = to->value.txn;
    const struct sim_bank_op *op = txn > 0 ? &history->bank->ops[txn - 1] : NULL;
    if (op == NULL || from->index != to->index ||
        (from->value.txn != 0 && from->value.txn != txn) || op->kind == SIM_BANK_READ ||
        from->account != op->accounts[0] || to->account != op->accounts[1]) {
        sim_fail(sim, "entry %llu holds a piece of a transfer", (unsigned long long)to->index);
        return false;
    }
    if (history->positions[txn] != 0) {
        sim_fail(sim, "transfer %llu happened twice", (unsigned long long)txn);
        return false;
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (is_same(&before->values[op->accounts[i]], &op->values[i])) continue;
        sim_fail(sim, "transfer %llu changed account %u, which was not what it had read",
                 (unsigned long long)txn, op->accounts[i]);
        return false;
    }
    const int64_t total = op->values[0].balance + op->values[1].balance;
    if (from->value.balance + to->value.balance != total) {
        sim_fail(sim, "transfer %llu made or lost money", (unsigned long long)txn);
        return false;
    }
    *after = *before;
    after->txn = txn;
    after->values[from->account] = from->value;
    after->values[to->account] = to->value;
    return true;
}

static bool read_log(struct history *history)
{
    struct sim_bank *bank = history->bank;
    uint64_t at = 0;
    while (at < bank->change_count) {
        struct state *before = &history->states[history->count++];
        if (bank->changes[at].account == SIM_BANK_ACCOUNTS) {
            at++; /* The state behind it is all zero. */
            continue;
        }
        if (at + 1 == bank->change_count) {
            sim_fail(history->sim, "the log holds half a transfer");
            return false;
        }
        if (!take_transfer(history, at, before, before + 1)) return false;
        history->positions[before[1].txn] = history->count;
        at += 2;
    }
    for (uint64_t i = 0; i < bank->op_count; i++) {
        const struct sim_bank_op *op = &bank->ops[i];
        if (op->kind == SIM_BANK_READ || op->outcome == SIM_BANK_UNKNOWN) continue;
        const bool is_there = history->positions[i + 1] != 0;
        if (is_there == (op->outcome == SIM_BANK_DONE)) continue;
        sim_fail(history->sim, "transfer %llu was answered %s, the log says otherwise",
                 (unsigned long long)i + 1, is_there ? "not done" : "done");
        return false;
    }
    return true;
}

/* Nobody who began after the keys were watched changed them before the transfer. */
static void check_watch(struct history *history, uint64_t position)
{
    const struct sim_bank_op *ops = history->bank->ops;
    const uint64_t txn = history->states[position].txn;
    if (txn == 0) return;
    const struct sim_bank_op *op = &ops[txn - 1];
    if (op->kind != SIM_BANK_WATCH) return;
    for (uint64_t at = position - 1; at > 0 && at + BACK_MAX > position; at--) {
        if (history->states[at].txn == 0) continue;
        const struct sim_bank_op *other = &ops[history->states[at].txn - 1];
        bool meets = false;
        for (uint32_t i = 0; i < 4; i++) meets |= op->accounts[i / 2] == other->accounts[i % 2];
        if (!meets || other->asked < op->watched) continue;
        sim_fail(history->sim, "transfer %llu went through although %llu changed a watched key",
                 (unsigned long long)txn, (unsigned long long)history->states[at].txn);
    }
}

static const struct sim_bank_op *sorted_ops;

static int by_asked(const void *left, const void *right)
{
    const struct sim_bank_op *a = &sorted_ops[*(const uint64_t *)left];
    const struct sim_bank_op *b = &sorted_ops[*(const uint64_t *)right];
    return (a->asked > b->asked) - (a->asked < b->asked);
}

/* Where a read belongs, at @floor or later; UINT64_MAX: nowhere. */
static uint64_t place_read(const struct history *history, const struct sim_bank_op *op,
                           uint64_t floor)
{
    for (uint64_t at = floor; at <= history->count; at++) {
        bool same = true;
        for (uint32_t i = 0; i < SIM_BANK_ACCOUNTS; i++) {
            same = same && is_same(&history->states[at].values[i], &op->values[i]);
        }
        if (same) return at;
    }
    return UINT64_MAX;
}

/* Operations in the order in which they were asked: none may lie before one that was answered until then. */
static void check_order(struct history *history, const uint64_t *order)
{
    struct late {
        uint64_t answered;
        uint64_t position;
    } late[LATE_COUNT];
    uint32_t late_count = 0;
    uint64_t settled = 0;
    for (uint64_t i = 0; i < history->bank->op_count && !history->sim->has_failed; i++) {
        const struct sim_bank_op *op = &history->bank->ops[order[i]];
        uint32_t kept = 0;
        for (uint32_t k = 0; k < late_count; k++) {
            if (late[k].answered > op->asked) {
                late[kept++] = late[k];
            } else if (late[k].position > settled) {
                settled = late[k].position;
            }
        }
        late_count = kept;
        uint64_t position = history->positions[order[i] + 1];
        if (op->kind == SIM_BANK_READ) {
            position = place_read(history, op, settled);
            if (position == UINT64_MAX) {
                sim_fail(history->sim,
                         "a read at %llu shows accounts as they never were, or an old "
                         "state",
                         (unsigned long long)op->asked);
            }
        } else if (position == 0) {
            continue;
        } else if (position <= settled) {
            sim_fail(history->sim,
                     "transfer %llu lies before what was answered before it was asked",
                     (unsigned long long)order[i] + 1);
        }
        if (op->answered == UINT64_MAX || late_count == LATE_COUNT) continue;
        late[late_count].answered = op->answered;
        late[late_count++].position = position;
    }
}

void sim_bank_check(struct sim *sim)
{
    struct sim_bank *bank = &sim->bank;
    struct history history = {.sim = sim, .bank = bank};
    if (bank->change_count == 0) return;
    qsort(bank->changes, bank->change_count, sizeof *bank->changes, by_index);
    if (!is_whole(sim)) return;
    history.states = mem_zero((bank->change_count + 1) * sizeof *history.states);
    history.positions = mem_zero((bank->op_count + 1) * sizeof *history.positions);
    if (read_log(&history)) {
        uint64_t *order = mem_alloc((bank->op_count + 1) * sizeof *order);
        for (uint64_t at = 1; at <= history.count; at++) check_watch(&history, at);
        for (uint64_t i = 0; i < bank->op_count; i++) order[i] = i;
        sorted_ops = bank->ops;
        qsort(order, bank->op_count, sizeof *order, by_asked);
        check_order(&history, order);
        mem_free(order);
        bank->checked = true;
    }
    mem_free(history.states);
    mem_free(history.positions);
}
