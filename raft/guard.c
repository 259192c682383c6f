#include "raft/guard.h"

#include "storage/record.h"

/* ---- configurations ------------------------------------------------------------------------------ */

#define CONFIGURATION_FORMAT 1u

/* The zero-ended address at the reader's place, or NULL. */
static const char *read_address(struct reader *reader)
{
    const uint64_t left = (uint64_t)(reader->end - reader->at);
    const uint64_t look = left < ADDRESS_SIZE_MAX + 1 ? left : ADDRESS_SIZE_MAX + 1;
    const uint8_t *end = look > 0 ? memchr(reader->at, 0, look) : NULL;
    if (reader->bad || end == NULL || end == reader->at) {
        reader->bad = true;
        return NULL;
    }
    const char *address = (const char *)reader->at;
    reader->at = end + 1;
    return address;
}

static bool is_new_member(const struct guard_configuration *configuration,
                          const struct guard_member *member)
{
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct guard_member *other = &configuration->members[i];
        if (other->id == member->id) return false;
        CHECK(other->address != NULL);
        if (strcmp(other->address, member->address) == 0) return false;
    }
    return true;
}

enum err guard_decode_configuration(struct slice bytes, struct guard_configuration *configuration)
{
    struct reader reader = reader_of(bytes);
    uint32_t voters = 0;
    memset(configuration, 0, sizeof *configuration);
    if (reader_u8(&reader) != CONFIGURATION_FORMAT) return ERR_CORRUPT;
    const uint64_t count = reader_u64(&reader);
    if (count == 0 || count > GUARD_MEMBERS_MAX) return ERR_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        struct guard_member member = {0};
        member.id = reader_u64(&reader);
        member.address = read_address(&reader);
        member.role = reader_u8(&reader);
        if (reader.bad || member.id == 0 || member.role > GUARD_SPARE) return ERR_CORRUPT;
        if (!is_new_member(configuration, &member)) return ERR_CORRUPT;
        if (member.role == GUARD_VOTER) voters++;
        configuration->members[configuration->count++] = member;
    }
    if (voters == 0) return ERR_CORRUPT;
    if (bytes.size != align_up((uint64_t)(reader.at - bytes.data), 8)) return ERR_CORRUPT;
    while (reader.at < reader.end) {
        if (reader_u8(&reader) != 0) return ERR_CORRUPT;
    }
    return OK;
}

void guard_encode_configuration(const struct guard_configuration *configuration, struct buf *out)
{
    const uint64_t start = out->size;
    CHECK(configuration->count > 0);
    CHECK(configuration->count <= GUARD_MEMBERS_MAX);
    buf_u8(out, CONFIGURATION_FORMAT);
    buf_u64(out, configuration->count);
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct guard_member *member = &configuration->members[i];
        buf_u64(out, member->id);
        buf_append(out, member->address, strlen(member->address) + 1);
        buf_u8(out, member->role);
    }
    /* Every initial member encodes the first configuration for itself: the padding must not
     * differ. */
    while ((out->size - start) % 8 != 0) buf_u8(out, 0);
}

enum guard_role guard_role(const struct guard_configuration *configuration, uint64_t id)
{
    for (uint32_t i = 0; i < configuration->count; i++) {
        if (configuration->members[i].id == id) return configuration->members[i].role;
    }
    return GUARD_NO_MEMBER;
}

bool guard_sole_voter(const struct guard_configuration *configuration, uint64_t id)
{
    for (uint32_t i = 0; i < configuration->count; i++) {
        const struct guard_member *member = &configuration->members[i];
        if (member->role == GUARD_VOTER && member->id != id) return false;
    }
    return guard_role(configuration, id) == GUARD_VOTER;
}

static bool same_member(const struct guard_member *a, const struct guard_member *b)
{
    return a->id == b->id && strcmp(a->address, b->address) == 0;
}

bool guard_one_change(const struct guard_configuration *from, const struct guard_configuration *to)
{
    uint32_t changes = 0;
    uint32_t i = 0;
    uint32_t k = 0;
    /* B19: the library carries its table of progress over by position when the counts are equal, so
     * replacing member 3 by 4 in one entry gives the new 4 the acknowledgements of 3. */
    while (i < from->count || k < to->count) {
        if (i < from->count && k < to->count && same_member(&from->members[i], &to->members[k])) {
            if (from->members[i].role != to->members[k].role) changes++;
            i++;
            k++;
        } else if (i < from->count && guard_role(to, from->members[i].id) == GUARD_NO_MEMBER) {
            changes++;
            i++;
        } else if (k < to->count && guard_role(from, to->members[k].id) == GUARD_NO_MEMBER) {
            changes++;
            k++;
        } else {
            return false;
        }
    }
    return changes == 1;
}

/* ---- received messages --------------------------------------------------------------------------- */

/* Rule D: one well-formed message with a term of 2^40 deposes the leader and moves the whole
 * cluster there; the library checks no number at all, and its index arithmetic may overflow. */
static bool numbers_fit(const struct guard_view *view, const struct message *message)
{
    const bool is_result = message->type == WIRE_APPEND_RESULT || message->type == WIRE_VOTE_RESULT;
    if (message->term == 0 && !is_result) return false;
    if (message->term > view->term && message->term - view->term > GUARD_TERM_JUMP_MAX)
        return false;
    if (message->prev_index > GUARD_INDEX_MAX || message->commit > GUARD_INDEX_MAX) return false;
    if (message->held_index > GUARD_INDEX_MAX) return false;
    if (message->rejected > GUARD_INDEX_MAX || message->last_index > GUARD_INDEX_MAX) return false;
    if (message->prev_term > message->term) return false;
    if (message->type != WIRE_APPEND_RESULT && message->last_term > message->term) return false;
    return true;
}

static bool append_fits(const struct message *message)
{
    return (message->prev_index == 0) == (message->prev_term == 0);
}

static bool install_fits(const struct message *message)
{
    if (message->last_index == 0 || message->last_term == 0) return false;
    return message->change_index > 0 && message->change_index <= message->last_index;
}

/* W8 and rule C: an append or install of our own term while we lead. The library has an
 * assertion against it, which Debian's build leaves out, and then writes a follower's fields
 * over the leader's in the same union. Nor can there be two leaders in the term that we follow. */
static bool sender_may_lead(const struct guard_view *view, uint64_t from,
                            const struct message *message)
{
    if (!guard_on(view, 8) || message->term != view->term) return true;
    if (view->is_leader) return false;
    return view->is_candidate || view->leader == 0 || view->leader == from;
}

enum err guard_message(const struct guard_view *view, uint64_t from, const struct message *message)
{
    /* An answer of ourselves would change our own progress on the leader. */
    if (guard_on(view, 8) && (from == 0 || from == view->self)) return ERR_CORRUPT;
    if (guard_on(view, GUARD_ENVELOPE) && !numbers_fit(view, message)) return ERR_CORRUPT;
    switch (message->type) {
    case WIRE_APPEND:
        if (!sender_may_lead(view, from, message)) return ERR_CORRUPT;
        return append_fits(message) ? OK : ERR_CORRUPT;
    case WIRE_INSTALL:
        if (!sender_may_lead(view, from, message)) return ERR_CORRUPT;
        if (!install_fits(message)) return ERR_CORRUPT;
        /* W9: a second install while one is under way leaks its configuration and data (B17). */
        if (guard_on(view, 9) && view->is_installing) return ERR_AGAIN;
        return OK;
    case WIRE_VOTE:
        if (message->candidate != from) return ERR_CORRUPT;
        return guard_loss_votes(view) ? OK : ERR_AGAIN;
    case WIRE_VOTE_RESULT:
        /* W20: the library reads whether it is in the pre-vote phase from a union that holds that
         * only while it is a candidate (B15). */
        if (guard_on(view, 20) && !view->is_candidate) return ERR_AGAIN;
        return OK;
    case WIRE_TIMEOUT_NOW:
        /* W12: it would make a sole voter leader without a new term (B1), see
         * guard_w12_new_term. */
        if (!guard_loss_elects(view)) return ERR_AGAIN;
        return guard_on(view, 12) && view->is_sole_voter ? ERR_AGAIN : OK;
    default: return OK;
    }
}

enum err guard_entries(const struct message_entry *entries, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct guard_configuration configuration;
        if (entries[i].type != RECORD_CHANGE) continue;
        const enum err err = guard_decode_configuration(entries[i].payload, &configuration);
        if (err != OK) return err;
    }
    return OK;
}

/* W1: the library records a change in the middle of a batch under the index of the first new
 * entry (B2). It is then never seen as committed, which blocks all later changes, and is not
 * rolled back when the entry is overwritten. So a change is always the first entry of what one
 * step sees. */
uint32_t guard_w01_segment(const struct guard_view *view, const struct message_entry *entries,
                           uint32_t count)
{
    if (!guard_on(view, 1)) return count;
    for (uint32_t i = 1; i < count; i++) {
        if (entries[i].type == RECORD_CHANGE) return i;
    }
    return count;
}

/* W1: the library keeps one pending change only. A leader proposes a change when the one before
 * it is committed, so a newer one that is about to be stored proves the older: it must be told
 * first, or its configuration would be forgotten when the newer one is rolled back. */
bool guard_w01_proves(const struct guard_view *view, const struct message *message,
                      const struct message_entry *first, uint64_t uncommitted,
                      uint64_t local_prev_term, uint64_t local_next_term)
{
    if (!guard_on(view, 1) || first->type != RECORD_CHANGE) return false;
    if (message->term < view->term || view->is_installing) return false;
    if (uncommitted == 0 || uncommitted > message->prev_index) return false;
    return local_prev_term == message->prev_term && local_next_term != first->term;
}

/* W2: an append that reaches below what is committed here is old. The library would take its
 * commit index back (B3) and, when it reaches below the compaction point, appends entries 1.. at
 * the end of the log and reads beyond their array (B4). A leader of this term holds all that is
 * committed here, so the part up to the committed index may be skipped. */
bool guard_w02_clips(const struct guard_view *view, const struct message *message)
{
    return guard_on(view, 2) && !view->is_installing && message->term >= view->term &&
           message->prev_index < view->committed;
}

/* W15: a rejection that was overtaken by acknowledgements takes next_index below match_index;
 * what is in flight then underflows and only empty appends are sent for ever (B5). True: the
 * message was old, and is now an empty success that keeps the contact alone. Otherwise its hint
 * is not below the match. */
bool guard_w15_settles(const struct guard_view *view, uint64_t match, struct message *message)
{
    if (!guard_on(view, 15)) return false;
    if (message->rejected <= match) {
        message->rejected = 0;
        message->last_index = 0;
        return true;
    }
    if (message->last_index < match) message->last_index = match;
    return false;
}

/* A base that a follower installed may be overtaken by the leader's own next one. The leader's heartbeats to
 * it are then anchored at the newer base, which it refuses, and the library ignores refusals of any other
 * index than that of the base it sent: the follower is stuck until the install times out, and is then
 * sent a whole base again. What is committed at a follower of our term is in our log too, so an index
 * up to which it has that on its disk is as good as an acknowledgement. */
bool guard_held_counts(const struct guard_view *view, uint64_t match, const struct message *message)
{
    return guard_on(view, GUARD_HELD) && view->is_leader && message->term == view->term &&
           message->rejected > 0 && message->held_index > match &&
           message->held_index <= view->last;
}

/* The same, when the leader has lost the thread: it offers its newest base to whoever was silent for a
 * heartbeat, even to one that has just installed the one before. Taking it would mean another install, at
 * whose end there is a newer base again. So an install is taken only from a leader that was told what is
 * here and still finds no way to go on from there. */
bool guard_held_first(const struct guard_view *view, const struct message *message, uint64_t held,
                      uint64_t told)
{
    return guard_on(view, GUARD_HELD) && message->term == view->term && held > told;
}

/* W19: after a conflict the library goes back one entry with each round trip (B16): 3000
 * divergent entries take 3000 of them. No entry of a term above the other side's can be the last
 * common one. */
uint64_t guard_w19_hint(const struct guard_view *view, const struct store *store, uint64_t hint,
                        uint64_t lowest, uint64_t term)
{
    if (!guard_on(view, 19) || term == 0) return hint;
    while (hint > lowest && store_term_at(store, hint) > term) hint--;
    return hint;
}

/* W16: the library refuses votes as long as it remembers a leader, and a server that is not a voter
 * remembers it for ever (B9). The memory ends with the election timeout. */
bool guard_w16_disrupts(const struct guard_view *view, uint64_t silent_ms, uint64_t election_ms)
{
    if (!guard_on(view, 16) || view->is_leader || view->is_candidate) return false;
    return silent_ms >= election_ms;
}

/* A replica that acknowledged entries and then lost them would help to elect a leader that does not have
 * them either, and so undo what is committed. What it acknowledges now is true, so it may follow. Of two
 * voters the other one holds everything that was ever committed: it may be voted for. */
bool guard_loss_elects(const struct guard_view *view)
{
    if (guard_on(view, GUARD_REFUSED) && view->is_refused) return false;
    return !guard_on(view, GUARD_LOSS) || !view->has_lost;
}

/* Who runs on an older copy of its directory has forgotten votes as well, so not even the other one of a pair gets
 * its vote. One node that remembers is enough: others may not have met it, and take it as it is. */
bool guard_loss_votes(const struct guard_view *view)
{
    if (guard_on(view, GUARD_REFUSED) && view->is_refused) return false;
    return guard_loss_elects(view) || view->is_pair;
}

/* W13: a server that was made a voter but does not know it yet would never vote, and the cluster
 * may need just this vote to be able to tell it (B8). Whether a vote counts is the candidate's
 * question. */
bool guard_w13_votes(const struct guard_view *view, enum guard_role role)
{
    if (!guard_on(view, 13) || view->is_leader || view->is_candidate) return false;
    return role != GUARD_VOTER;
}

/* ---- sent messages ------------------------------------------------------------------------------- */

/* W3: in its answer to a message of an older term the library leaves the last index
 * uninitialised and says "not rejected" (B6). A leader elected again in the answerer's term
 * takes that for an acknowledgement of entries that are not there: committed entries are lost. */
uint64_t guard_w03_last_index(const struct guard_view *view, bool is_stale, uint64_t last_index)
{
    return guard_on(view, 3) && is_stale ? 0 : last_index;
}

/* W4: a refused pre-vote names the candidate's term and not ours (B7). A server with the longer
 * log whose term is behind by two would never learn it, and both refuse each other for ever. */
uint64_t guard_w04_term(const struct guard_view *view, const struct message *result)
{
    if (!guard_on(view, 4) || !result->pre_vote || result->granted) return result->term;
    return result->term > view->term ? result->term : view->term;
}

/* W18: a leader that sent a change, did not store it and crashed may be no voter any more by
 * what the others hold, while it alone could still be elected (B10). */
bool guard_w18_waits(const struct guard_view *view, bool has_change)
{
    return guard_on(view, 18) && view->is_leader && has_change;
}

/* Rule B: a sole voter commits by its own sync alone. If a stand-by had an entry that the voter
 * lost with its power, the voter would write another one with the same index. */
bool guard_rule_b_waits(const struct guard_view *view, uint64_t end, uint64_t persisted)
{
    return guard_on(view, GUARD_SELF_SYNC) && view->is_sole_voter && end > persisted;
}

/* ---- start, timers, own actions ------------------------------------------------------------------ */

/* W5, rule B: a sole voter elects itself at its start without a new term (B1). What it sent
 * before a power loss and what it writes after it would be different entries of the same index
 * and term. */
bool guard_w05_new_term(uint32_t bits, const struct guard_configuration *newest, uint64_t self)
{
    return (bits >> 5 & 1u) != 0 && guard_sole_voter(newest, self);
}

/* W6: after a server became a spare, or its catch-up was given up, the timeout of a leader stays
 * in the past (B12). Firing again at once is a busy loop that also sets all healthy peers back
 * to probing. */
uint64_t guard_w06_timer(const struct guard_view *view, uint64_t timeout_ms, uint64_t fired_ms,
                         uint64_t heartbeat_ms)
{
    const uint64_t earliest = fired_ms + (heartbeat_ms + 1) / 2;
    return guard_on(view, 6) && timeout_ms < earliest ? earliest : timeout_ms;
}

/* W7, rule A: a new leader gets a barrier from the library only when its log has uncommitted
 * entries. Without an entry of its own term that is committed, a change of membership can elect
 * two leaders whose majorities do not meet, and a read may miss what its predecessor
 * acknowledged. */
bool guard_w07_barrier(const struct guard_view *view, uint64_t last_term)
{
    return guard_on(view, 7) && view->is_leader && last_term != view->term;
}

bool guard_w07_may_change(const struct guard_view *view, uint64_t committed_term)
{
    return !guard_on(view, 7) || committed_term == view->term;
}

/* W10: the library stores whatever index it is told, even one that goes back. Too high a number
 * is an acknowledgement of what may be lost. While a snapshot is installed its numbers are of
 * another log. */
bool guard_w10_reports(const struct guard_view *view, uint64_t persisted, uint64_t last_stored)
{
    if (!guard_on(view, 10)) return persisted != last_stored;
    return !view->is_installing && persisted > last_stored && persisted <= view->last;
}

/* W11: a snapshot of entries that are not durable, of the same index again, or taken while
 * another one is installed breaks the library's idea of its log. W17: with a snapshot at index 1
 * and nothing kept, a blank follower is sent empty appends for ever (B11). */
bool guard_w11_snapshot(const struct guard_view *view, uint64_t index, uint64_t known,
                        uint64_t applied, uint64_t last_stored)
{
    if (index <= known) return false;
    if (guard_on(view, 17) && index < 2) return false;
    if (!guard_on(view, 11)) return true;
    return !view->is_installing && index <= applied && index <= last_stored;
}

/* W12: when a follower has become the sole voter its timer makes it leader of the term that
 * another leader may have led (B1): two leaders in one term. It must enter a new term first. */
bool guard_w12_new_term(const struct guard_view *view, bool is_due, uint64_t last_stored)
{
    if (!guard_on(view, 12) || view->is_leader || view->is_candidate) return false;
    return view->is_sole_voter && is_due && !view->is_installing && last_stored == view->last;
}

/* W14: a leader that removes or demotes itself leaves servers that are no voters by their
 * newest, still uncommitted configuration; none of them campaigns (B10). It hands leadership
 * over first. */
bool guard_w14_may_propose(const struct guard_view *view, const struct guard_configuration *next)
{
    return !guard_on(view, 14) || guard_role(next, view->self) == GUARD_VOTER;
}
