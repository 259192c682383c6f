/* Start-up of a log whose older files are sealed: a manifest says what they hold. */
#include "storage/recover.h"

#include "tests/storage/log_fixture.h"

static struct fixture f;

static void name_of(char name[SEGMENT_NAME_SIZE], uint32_t number)
{
    segment_name(name, FIXTURE_FOLDER, number);
}

/* Seals the first @count segments; the descriptions go to @sealed as a manifest would keep them. */
static void seal(struct log_file *sealed, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sealed[i] = f.log.segments[i]->file;
        log_seal(&f.log, sealed[i].number);
    }
    f.start.sealed = sealed;
    f.start.sealed_count = count;
    f.start.base_index = sealed[count - 1].last_index;
    f.start.base_term = log_term_at(&f.log, f.start.base_index);
}

TEST(recover_sealed, sealed_files_are_loaded_from_the_given_number_on)
{
    struct log_file sealed[16];
    fixture_init(&f, 8);
    fixture_open(&f);
    for (uint32_t i = 0; i < 40; i++) fixture_group(&f, 1 + i / 7, 4, 1500);
    fixture_cut(&f, 130);
    fixture_group(&f, 9, 3, 100);
    EXPECT_TRUE(f.log.segments_count >= 5);
    seal(sealed, 3);
    const struct model model = f.now;
    fixture_kill(&f);
    for (uint32_t from = 0; from <= 3; from++) {
        f.start.load_number = from < 3 ? sealed[from].number : UINT32_MAX;
        fixture_open(&f);
        f.now = model;
        fixture_verify(&f);
        const uint64_t first = from < 3 ? sealed[from].first_index : f.start.base_index + 1;
        EXPECT_EQ(f.log.first_index, first);
        EXPECT_EQ(log_term_at(&f.log, f.start.base_index), f.start.base_term);
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_EQ(f.log.segments[i]->state, LOG_SEGMENT_SEALED);
            EXPECT_EQ(f.log.segments[i]->file.last_index, sealed[i].last_index);
            EXPECT_EQ(f.log.segments[i]->file.first_index, sealed[i].first_index);
        }
        fixture_kill(&f);
    }
    /* Damage within what is loaded is found, before it only by those who read it. */
    char name[SEGMENT_NAME_SIZE];
    name_of(name, sealed[1].number);
    sim_disk_flip(&f.disk, name, UINT64_C(8) * 9000);
    f.start.load_number = sealed[1].number;
    fixture_refused(&f, ERR_CORRUPT, "damaged");
    f.start.load_number = sealed[2].number;
    fixture_open(&f);
    fixture_verify(&f);
    fixture_kill(&f);
    sim_disk_drop(&f.disk, name);
    fixture_refused(&f, ERR_CORRUPT, "missing");
    fixture_end(&f);
}

TEST(recover_sealed, manifest_that_does_not_fit_the_files_is_refused)
{
    struct log_file sealed[16];
    fixture_init(&f, 9);
    fixture_open(&f);
    for (uint32_t i = 0; i < 30; i++) fixture_group(&f, 1 + i / 7, 4, 1500);
    seal(sealed, 2);
    fixture_kill(&f);
    f.start.load_number = sealed[0].number;
    f.start.base_term++;
    fixture_refused(&f, ERR_CORRUPT, "the base");
    f.start.base_term--;
    sealed[1].last_index += 1;
    f.start.base_index += 1;
    fixture_refused(&f, ERR_CORRUPT, "what the manifest says");
    f.start.load_number = UINT32_MAX;
    fixture_refused(&f, ERR_CORRUPT, "too low");
    f.start.load_number = sealed[0].number;
    sealed[1].last_index -= 1;
    f.start.base_index -= 1;
    sealed[0].file_id++;
    fixture_refused(&f, ERR_CORRUPT, "another file");
    sealed[0].file_id--;
    sealed[1].chain.low++;
    fixture_refused(&f, ERR_CORRUPT, "what the manifest says");
    f.start.load_number = UINT32_MAX;
    fixture_refused(&f, ERR_CORRUPT, "does not go on");
    sealed[1].chain.low--;
    fixture_open(&f);
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(recover_sealed, void_entries_stay_void_when_their_cut_was_lost)
{
    struct log_file sealed[16];
    fixture_init(&f, 10);
    fixture_open(&f);
    for (uint32_t i = 0; i < 30; i++) fixture_group(&f, 1, 4, 1500);
    EXPECT_TRUE(f.log.segments_count >= 4);
    /* A cut into the second segment; it and the manifest get to the disk, the record of the cut
     * does not. */
    const uint64_t cut = f.log.segments[1]->file.last_index - 2;
    fixture_cut(&f, cut);
    seal(sealed, 2);
    EXPECT_EQ(f.start.base_index, cut - 1);
    fixture_kill(&f);
    for (uint32_t load = 0; load < 2; load++) {
        f.start.load_number = load == 0 ? UINT32_MAX : sealed[0].number;
        fixture_open(&f);
        fixture_verify(&f);
        EXPECT_EQ(f.log.last_index, cut - 1);
        fixture_group(&f, 2, 2, 100);
        fixture_kill(&f);
        fixture_open(&f);
        fixture_verify(&f);
        EXPECT_EQ(f.log.last_index, cut + 1);
        EXPECT_EQ(log_term_at(&f.log, cut), 2);
        fixture_cut(&f, cut);
        fixture_group(&f, 3, 1, 100);
        fixture_cut(&f, cut);
        fixture_sync(&f);
        fixture_kill(&f);
    }
    fixture_end(&f);
}

TEST(recover_sealed, segment_without_any_entry_that_counts)
{
    fixture_init(&f, 11);
    f.config.segment_size = 5 * SEGMENT_BLOCK_SIZE;
    fixture_open(&f);
    for (uint32_t i = 0; i < 12; i++) fixture_group(&f, 1, 1, 3000);
    EXPECT_EQ(f.log.segments_count, 3);
    fixture_cut(&f, 3); /* all of the second and third */
    fixture_group(&f, 2, 1, 3000);
    fixture_group(&f, 2, 1, 3000);
    fixture_verify(&f);
    const struct log_file second = f.log.segments[1]->file;
    EXPECT_EQ(second.first_index, second.last_index + 1);
    struct log_file sealed[16];
    seal(sealed, 3);
    EXPECT_EQ(f.start.base_index, 2);
    fixture_kill(&f);
    for (uint32_t from = 0; from < 4; from++) {
        f.start.load_number = from < 3 ? sealed[from].number : UINT32_MAX;
        fixture_open(&f);
        fixture_verify(&f);
        EXPECT_EQ(f.log.last_index, 4);
        fixture_kill(&f);
    }
    fixture_end(&f);
}

/* ---- at random --------------------------------------------------------------------------------
 * */

static struct log_file manifest[MODEL_ENTRIES_MAX];
static uint32_t manifest_count;

/* Seals what a store would seal at once: full segments of which all entries are applied. */
static void seal_applied(uint64_t applied, struct prng *prng)
{
    for (uint32_t i = manifest_count; i < f.log.segments_count; i++) {
        const struct log_segment *segment = f.log.segments[i];
        if (segment->state != LOG_SEGMENT_FULL || segment->file.last_index > applied) break;
        manifest[manifest_count++] = segment->file;
        log_seal(&f.log, segment->file.number);
    }
    if (manifest_count == 0) return;
    f.start.sealed = manifest;
    f.start.sealed_count = manifest_count;
    f.start.base_index = manifest[manifest_count - 1].last_index;
    f.start.base_term = log_term_at(&f.log, f.start.base_index);
    const uint32_t keep = (uint32_t)prng_below(prng, 4);
    const uint32_t from = manifest_count > keep ? manifest_count - keep : 0;
    f.start.load_number = from < manifest_count ? manifest[from].number : UINT32_MAX;
    log_drop_prefix(&f.log,
                    from < manifest_count ? manifest[from].first_index : f.start.base_index + 1);
}

/* After a crash: what was persisted is there, and the whole is a state the log was in. A cut into
 * the sealed files that was lost leaves only them: the manifest knew of it. */
static void reopen(uint64_t persisted)
{
    fixture_open(&f);
    struct model *states[] = {&f.under_way, &f.durable};
    bool found = false;
    for (uint32_t i = 0; i < 4 && !found; i++) {
        struct model *state = states[i % 2];
        if (i >= 2 && state->last > f.start.base_index) state->last = f.start.base_index;
        if (!fixture_is_state(&f, state)) continue;
        f.now = *state;
        found = true;
    }
    EXPECT_TRUE(found);
    EXPECT_TRUE(f.log.last_index >= persisted);
    EXPECT_EQ(f.log.persisted_index, f.log.last_index);
    f.durable = f.now;
    f.under_way = f.now;
    fixture_verify(&f);
}

static void random_run(uint64_t seed)
{
    fixture_init(&f, seed);
    f.config.segment_size = (4 + seed % 3) * SEGMENT_BLOCK_SIZE;
    manifest_count = 0;
    struct prng prng = prng_seed(seed);
    uint64_t applied = 0;
    uint32_t term = 1;
    fixture_open(&f);
    for (uint32_t step = 0; step < 500; step++) {
        const uint64_t choice = prng_below(&prng, 100);
        if (choice < 40) {
            fixture_append(&f, term, (uint32_t)prng_below(&prng, 3000));
        } else if (choice < 50 && f.now.last > applied) {
            fixture_cut(&f, f.now.last - prng_below(&prng, f.now.last - applied));
            term++;
        } else if (choice < 68) {
            fixture_flush(&f);
        } else if (choice < 85) {
            fixture_step(&f);
        } else if (choice < 90) {
            fixture_turn(&f, prng_below(&prng, 12));
        } else if (choice < 97) {
            applied += prng_below(&prng, f.log.persisted_index - applied + 1);
            seal_applied(applied, &prng);
        } else {
            const uint64_t persisted = f.log.persisted_index;
            fixture_crash(&f);
            reopen(persisted);
            term++;
        }
        log_check(&f.log);
    }
    fixture_verify(&f);
    fixture_end(&f);
}

TEST(recover_sealed, random_operations_seals_and_power_cuts)
{
    uint64_t seals = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        random_run(seed);
        seals += manifest_count;
    }
    EXPECT_TRUE(seals > 300); /* else the runs show nothing */
}
