/* Tests of the base on its way to another replica: storage/snapshot.c and storage/store_ship.c. */
#include "tests/storage/store_model.h"
#include "storage/store_ship.h"

#include "storage/manifest.h"

static struct model source; /* too big for the stack */
static struct model target;

/* The source has a base of several files; the target is a blank joiner. */
static void begin(uint32_t entries)
{
    model_init(&source, 11);
    model_bootstrap(&source);
    for (uint32_t i = 0; i < entries; i++) {
        model_append(&source);
        if (i % 9 == 0) model_settle(&source);
    }
    model_settle(&source);
    model_idle(&source);
    model_init(&target, 12);
    target.config.node_id = 0x202;
    model_open(&target);
    target.term = source.term;
    store_save_ballot(target.store, target.term, 0);
}

static void end(void)
{
    if (source.store != NULL) store_close(source.store);
    if (target.store != NULL) store_close(target.store);
    model_close(&source);
    model_close(&target);
}

/* The target gets a log of its own: the first entries of the source. */
static void follow(uint64_t last)
{
    while (target.last_index < last) {
        const struct buf *record = &source.entries[target.last_index + 1]->record;
        struct model_entry *entry = mem_zero(sizeof *entry);
        buf_append(&entry->record, record->data, record->size);
        entry->older = target.entries[target.last_index + 1];
        target.entries[++target.last_index] = entry;
        store_append(target.store, buf_slice(&entry->record));
        if (target.last_index % 9 == 0) model_settle(&target);
    }
    model_settle(&target);
    model_idle(&target);
}

/* One more entry of the source, not waiting for the disk. */
static void follow_unsynced(void)
{
    const struct buf *record = &source.entries[target.last_index + 1]->record;
    struct model_entry *entry = mem_zero(sizeof *entry);
    buf_append(&entry->record, record->data, record->size);
    entry->older = target.entries[target.last_index + 1];
    target.entries[++target.last_index] = entry;
    store_append(target.store, buf_slice(&entry->record));
    store_flush(target.store);
    store_turn(target.store, ++target.now_ms);
    sim_disk_settle(&target.disk);
}

static enum err install_begin(void)
{
    struct buf manifest = {0};
    store_ship_manifest(source.store, &manifest);
    const enum err err = store_install_begin(target.store, buf_slice(&manifest));
    buf_close(&manifest);
    return err;
}

/* Moves one piece of at most @piece bytes. ERR_NOT_FOUND: nothing is wanted. */
static enum err ship_one(uint64_t piece)
{
    uint64_t file_id;
    uint64_t offset;
    uint64_t size;
    enum err err = store_install_wait(target.store);
    if (err != OK) return err;
    if (!store_install_want(target.store, &file_id, &offset, &size)) return ERR_NOT_FOUND;
    struct buf data = {0};
    const uint64_t part = size < piece ? size : piece;
    EXPECT_EQ(model_ship_read(&source, file_id, offset, part, &data), OK);
    EXPECT_EQ(data.size, part);
    err = store_install_chunk(target.store, file_id, offset, buf_slice(&data));
    buf_close(&data);
    if (err == OK) err = store_install_wait(target.store);
    return err;
}

static enum err ship_all(uint64_t piece)
{
    enum err err;
    while ((err = ship_one(piece)) == OK) {}
    return err == ERR_NOT_FOUND ? OK : err;
}

/* The reference of the target becomes that of the source up to @index. */
static void take_reference(uint64_t index)
{
    for (uint64_t i = 1; i <= index; i++) {
        struct model_entry *entry = mem_zero(sizeof *entry);
        const struct buf *record = &source.entries[i]->record;
        buf_append(&entry->record, record->data, record->size);
        entry->older = target.entries[i];
        target.entries[i] = entry;
    }
    target.last_index = index;
    model_keys_clear(&target);
    target.applied_index = 0;
    model_apply(&target, index);
}

/* The target was opened on the base of the source: it serves it, writes on, and survives restarts. */
static void expect_installed(void)
{
    const struct store_base base = store_base(source.store);
    const struct store_base got = store_base(target.store);
    EXPECT_EQ(got.index, base.index);
    EXPECT_EQ(got.term, base.term);
    EXPECT_EQ(got.change_index, base.change_index);
    EXPECT_TRUE(slice_equal(got.change, base.change));
    EXPECT_EQ(store_last_index(target.store), base.index);
    EXPECT_EQ(store_applied_index(target.store), base.index);
    EXPECT_EQ(store_last_stamp(target.store), 1000000 + base.index);
    take_reference(base.index);
    model_compare(&target);
    model_compare_log(&target);
    for (uint32_t i = 0; i < 300; i++) {
        model_append(&target);
        if (i % 9 == 0) model_settle(&target);
    }
    model_settle(&target);
    model_idle(&target);
    EXPECT_LT(base.index, store_base(target.store).index);
    model_restart(&target);
    model_settle(&target);
    model_compare(&target);
    model_compare_log(&target);
}

static void reopen_target(void)
{
    store_close(target.store);
    target.store = NULL;
    model_open(&target);
}

static uint64_t files_in(struct model *model, const char *part)
{
    struct buf names = {0};
    uint64_t count = 0;
    sim_disk_names(&model->disk, &names);
    for (uint64_t at = 0; at < names.size;) {
        const char *name = (const char *)names.data + at;
        at += strlen(name) + 1;
        if (strstr(name, part) != NULL) count++;
    }
    buf_close(&names);
    return count;
}

TEST(install, a_blank_replica_becomes_what_the_source_is)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(store_install_finish(target.store), ERR_AGAIN);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    EXPECT_EQ(store_deadline(target.store), UINT64_MAX);
    reopen_target();
    EXPECT_TEXT(target.message, "");
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    expect_installed();
    end();
}

TEST(install, what_was_received_can_be_sent_on)
{
    begin(700);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    /* The second hop: the old target is the source of a third replica. */
    store_close(source.store);
    model_close(&source);
    store_close(target.store);
    memcpy(&source, &target, sizeof source);
    source.disk.disk.context = &source.disk;
    source.config.disk = &source.disk.disk;
    model_open(&source);
    model_init(&target, 13);
    target.config.node_id = 0x303;
    model_open(&target);
    target.term = source.term;
    store_save_ballot(target.store, target.term, 0);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

TEST(install, a_lagging_replica_drops_its_own_log_and_files)
{
    begin(1200);
    follow(400);
    EXPECT_LT(2, store_base(target.store).index);
    const uint64_t before = files_in(&target, ".log");
    sim_disk_put(&target.disk, "shard-0000/notes.txt", slice_text("not ours"));
    EXPECT_EQ(install_begin(), OK);
    sim_disk_put(&target.disk, "shard-0000/incoming/notes.txt", slice_text("not ours"));
    EXPECT_EQ(ship_all(5000), OK);
    EXPECT_LT(before, files_in(&target, ".log"));
    model_compare(&target); /* until it is finished the old state is served */
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    const uint64_t sealed = files_in(&source, ".idx");
    EXPECT_EQ(files_in(&target, ".idx"), sealed);
    EXPECT_LE(files_in(&target, ".log"), sealed + 1);
    EXPECT_TRUE(sim_disk_exists(&target.disk, "shard-0000/notes.txt"));
    EXPECT_TRUE(sim_disk_exists(&target.disk, "shard-0000/incoming/notes.txt"));
    expect_installed();
    end();
}

TEST(install, goes_on_where_it_was_interrupted)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    uint64_t file_id;
    uint64_t offset;
    uint64_t size;
    for (uint32_t i = 0; i < 11; i++) EXPECT_EQ(ship_one(20000), OK);
    EXPECT_TRUE(store_install_want(target.store, &file_id, &offset, &size));
    EXPECT_LT(0, offset);
    const uint64_t id = file_id;
    const uint64_t at = offset;
    EXPECT_EQ(install_begin(), OK);
    EXPECT_TRUE(store_install_want(target.store, &file_id, &offset, &size));
    EXPECT_EQ(file_id, id);
    EXPECT_EQ(offset, at);
    /* Meanwhile the source seals more. What both manifests name is not sent again. */
    const uint64_t index = store_base(source.store).index;
    for (uint32_t i = 0; i < 300; i++) model_append(&source);
    model_settle(&source);
    model_idle(&source);
    EXPECT_LT(index, store_base(source.store).index);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_TRUE(store_install_want(target.store, &file_id, &offset, &size));
    EXPECT_EQ(file_id, id);
    EXPECT_EQ(offset, at);
    EXPECT_EQ(ship_all(20000), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

/* Another replica of the same cluster has sealed the same entries in other files. */
static void other_source(void)
{
    store_close(source.store);
    model_close(&source);
    model_init(&source, 99);
    model_bootstrap(&source);
    for (uint32_t i = 0; i < 700; i++) model_append(&source);
    model_settle(&source);
    model_idle(&source);
}

TEST(install, of_another_source_begins_anew)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    for (uint32_t i = 0; i < 11; i++) EXPECT_EQ(ship_one(20000), OK);
    EXPECT_LT(0, files_in(&target, "incoming/"));
    other_source();
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

static uint64_t base_size(struct slice bytes)
{
    struct manifest manifest = {0};
    const char *wrong = NULL;
    uint64_t size = 0;
    EXPECT_EQ(manifest_decode(bytes, &manifest, &wrong), OK);
    for (uint32_t i = 0; i < manifest.file_count; i++) size += manifest.files[i].used;
    manifest_close(&manifest);
    return size;
}

/* What came of the base of before takes the room that the next one wants. */
TEST(install, what_an_earlier_attempt_left_gives_way_to_a_later_one)
{
    begin(900);
    struct buf manifest = {0};
    EXPECT_EQ(install_begin(), OK);
    for (uint32_t i = 0; i < 11; i++) EXPECT_EQ(ship_one(20000), OK);
    store_install_abort(target.store);
    const uint64_t kept = files_in(&target, ".idx");
    EXPECT_LT(0, kept);
    /* The same base: that it does not fit is no reason to fetch again what is here. */
    store_ship_manifest(source.store, &manifest);
    target.disk.capacity = sim_disk_used(&target.disk);
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), ERR_NOSPACE);
    EXPECT_EQ(files_in(&target, ".idx"), kept);
    const uint64_t used = sim_disk_used(&target.disk);
    other_source();
    manifest.size = 0;
    store_ship_manifest(source.store, &manifest);
    const uint64_t size = base_size(buf_slice(&manifest));
    target.disk.capacity = used + MIB + size;
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), OK);
    EXPECT_EQ(files_in(&target, ".idx"), kept);
    /* A little less than both together need. */
    target.disk.capacity = used + MIB + size - 40000;
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), OK);
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    target.disk.capacity = sim_disk_used(&target.disk) + MIB;
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), ERR_NOSPACE);
    buf_close(&manifest);
    end();
}

/* Bytes that are still to be sent. */
static uint64_t ship_rest(uint64_t piece)
{
    uint64_t sent = 0;
    uint64_t file_id;
    uint64_t offset;
    uint64_t size;
    while (store_install_want(target.store, &file_id, &offset, &size)) {
        sent += size < piece ? size : piece;
        EXPECT_EQ(ship_one(piece), OK);
    }
    return sent;
}

TEST(install, complete_files_outlive_aborts_and_restarts)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    const uint64_t all = ship_rest(20000);
    store_install_abort(target.store);
    uint64_t unused;
    EXPECT_FALSE(store_install_want(target.store, &unused, &unused, &unused));
    EXPECT_EQ(store_install_finish(target.store), ERR_AGAIN);
    store_install_abort(target.store);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_rest(20000), 0);
    reopen_target();
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_rest(20000), 0);
    /* A hint without its file, a file without its hint, a hint of something else: sent again. */
    store_close(target.store);
    struct buf names = {0};
    sim_disk_names(&target.disk, &names);
    uint32_t count = 0;
    for (uint64_t at = 0; at < names.size; at += strlen((char *)names.data + at) + 1) {
        const char *name = (const char *)names.data + at;
        if (strstr(name, "incoming/") == NULL) continue;
        if (count == 0 || count == 3) EXPECT_TRUE(sim_disk_drop(&target.disk, name));
        if (count == 4) sim_disk_flip(&target.disk, name, 8 * 50);
        count++;
    }
    buf_close(&names);
    EXPECT_LT(7, count);
    model_open(&target);
    EXPECT_EQ(install_begin(), OK);
    const uint64_t again = ship_rest(20000);
    EXPECT_LT(2 * 30000, again);
    EXPECT_LT(again, 3 * 80000);
    EXPECT_LT(again, all);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    expect_installed();
    end();
}

TEST(install, a_replica_that_catches_up_otherwise_forgets_what_it_received)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    (void)ship_rest(20000);
    store_install_abort(target.store);
    reopen_target();
    const uint64_t kept = files_in(&target, "incoming/");
    EXPECT_LT(7, kept);
    follow(9);
    EXPECT_EQ(store_base(target.store).index, 0);
    EXPECT_EQ(files_in(&target, "incoming/"), kept);
    follow(400);
    EXPECT_LT(0, store_base(target.store).index);
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    /* A full disk makes it forget at once. */
    EXPECT_EQ(install_begin(), OK);
    (void)ship_rest(20000);
    store_install_abort(target.store);
    EXPECT_LT(7, files_in(&target, "incoming/"));
    target.disk.capacity = 0;
    for (uint32_t i = 0; i < 100; i++) follow_unsynced();
    EXPECT_TRUE(store_nospace(target.store));
    store_turn(target.store, ++target.now_ms);
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    target.disk.capacity = UINT64_MAX;
    end();
}

TEST(install, damaged_pieces_are_found_and_fetched_again)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    struct prng prng = prng_seed(5);
    uint32_t damaged = 0;
    uint64_t file_id;
    uint64_t offset;
    uint64_t size;
    while (store_install_want(target.store, &file_id, &offset, &size)) {
        struct buf data = {0};
        EXPECT_EQ(model_ship_read(&source, file_id, offset, size, &data), OK);
        const bool damage = damaged < 40 && prng_below(&prng, 4) > 0;
        const uint64_t bit = prng_below(&prng, 8 * data.size);
        if (damage) data.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        const enum err err = store_install_chunk(target.store, file_id, offset, buf_slice(&data));
        buf_close(&data);
        if (err != OK) {
            EXPECT_TRUE(damage);
            EXPECT_TRUE(err == ERR_CORRUPT || err == ERR_FOREIGN || err == ERR_NEWER);
            damaged++;
            uint64_t again;
            EXPECT_TRUE(store_install_want(target.store, &again, &offset, &size));
            EXPECT_EQ(again, file_id);
            EXPECT_EQ(offset, 0);
        }
        EXPECT_EQ(store_install_wait(target.store), OK);
    }
    EXPECT_LT(10, damaged);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

TEST(install, pieces_that_are_not_wanted_are_ignored)
{
    begin(700);
    uint8_t bytes[100] = {0};
    const struct slice data = slice_of(bytes, sizeof bytes);
    EXPECT_EQ(store_install_chunk(target.store, 1, 0, data), ERR_INVALID);
    EXPECT_EQ(install_begin(), OK);
    uint64_t id;
    uint64_t offset;
    uint64_t size;
    EXPECT_EQ(ship_one(1000), OK);
    EXPECT_TRUE(store_install_want(target.store, &id, &offset, &size));
    EXPECT_EQ(offset, 1000);
    EXPECT_EQ(store_install_chunk(target.store, id, 0, data), ERR_INVALID);
    EXPECT_EQ(store_install_chunk(target.store, id, 1001, data), ERR_INVALID);
    EXPECT_EQ(store_install_chunk(target.store, id + 1, 1000, data), ERR_INVALID);
    EXPECT_EQ(store_install_chunk(target.store, id, 1000, slice_of(bytes, 0)), ERR_INVALID);
    EXPECT_EQ(store_install_chunk(target.store, id, 1000, slice_of(bytes, size + 1)), ERR_INVALID);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_chunk(target.store, id, 1000, data), ERR_INVALID);
    struct buf out = {0};
    EXPECT_EQ(model_ship_read(&source, 12345, 0, 10, &out), ERR_NOT_FOUND);
    EXPECT_EQ(model_ship_read(&source, id, UINT64_MAX, 10, &out), ERR_NOT_FOUND);
    EXPECT_EQ(out.size, 0);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

TEST(install, manifests_that_do_not_fit_are_refused)
{
    begin(700);
    struct buf manifest = {0};
    store_ship_manifest(source.store, &manifest);
    for (uint64_t bit = 0; bit < 8 * manifest.size; bit += 7) {
        manifest.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        EXPECT_EQ(store_install_begin(target.store, buf_slice(&manifest)), ERR_CORRUPT);
        manifest.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    /* Two files of one id, which would be written over each other. */
    struct manifest twins = {0};
    const char *wrong;
    EXPECT_EQ(manifest_decode(buf_slice(&manifest), &twins, &wrong), OK);
    twins.files[2].file_id = twins.files[0].file_id;
    struct buf bytes = {0};
    manifest_encode(&twins, &bytes);
    EXPECT_EQ(store_install_begin(target.store, buf_slice(&bytes)), ERR_CORRUPT);
    buf_close(&bytes);
    manifest_close(&twins);
    /* A base that is not above what is applied here. */
    follow(store_base(source.store).index);
    EXPECT_EQ(store_install_begin(target.store, buf_slice(&manifest)), ERR_INVALID);
    /* Another cluster, another shard. */
    store_close(target.store);
    sim_disk_wipe(&target.disk);
    target.config.cluster_id++;
    model_open(&target);
    EXPECT_EQ(store_install_begin(target.store, buf_slice(&manifest)), ERR_FOREIGN);
    store_close(target.store);
    sim_disk_wipe(&target.disk);
    target.config.cluster_id--;
    target.config.shard++;
    model_open(&target);
    EXPECT_EQ(store_install_begin(target.store, buf_slice(&manifest)), ERR_FOREIGN);
    buf_close(&manifest);
    end();
}

TEST(install, waits_for_space)
{
    begin(900);
    target.disk.capacity = sim_disk_used(&target.disk) + 3 * 65536;
    EXPECT_EQ(install_begin(), ERR_NOSPACE);
    EXPECT_EQ(files_in(&target, "incoming/"), 0);
    target.disk.capacity = UINT64_MAX;
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_one(UINT64_MAX), OK);
    target.disk.capacity = sim_disk_used(&target.disk) + 65536;
    enum err err;
    while ((err = ship_one(30000)) == OK) {}
    EXPECT_EQ(err, ERR_NOSPACE);
    /* The file under way was dropped, and there is still no room for all of it. */
    while ((err = ship_one(30000)) == OK) {}
    EXPECT_EQ(err, ERR_NOSPACE);
    target.disk.capacity = UINT64_MAX;
    EXPECT_EQ(ship_all(30000), OK);
    target.disk.capacity = 0;
    EXPECT_EQ(store_install_finish(target.store), ERR_NOSPACE);
    target.disk.capacity = UINT64_MAX;
    reopen_target(); /* the old state */
    EXPECT_EQ(store_last_index(target.store), 0);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    expect_installed();
    end();
}

static enum err not_a_folder(void *context, const char *name)
{
    const uint64_t size = strlen(name);
    (void)context;
    return size > 9 && strcmp(name + size - 9, "/incoming") == 0 ? ERR_EXISTS : OK;
}

TEST(install, a_file_in_the_place_of_its_folder_is_known_before_it_begins)
{
    begin(900);
    struct buf manifest = {0};
    struct disk *disk = &target.disk.disk;
    const struct disk sound = *disk;
    store_ship_manifest(source.store, &manifest);
    disk->make_folder = not_a_folder;
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), ERR_EXISTS);
    EXPECT_EQ(install_begin(), ERR_EXISTS);
    disk->make_folder = sound.make_folder;
    EXPECT_EQ(store_install_fits(target.store, buf_slice(&manifest)), OK);
    buf_close(&manifest);
    end();
}

/* The received files alone are part of a state only: whoever has others takes it from them anew. */
TEST(install, f07_a_manifest_that_vanished_behind_an_install_is_damage)
{
    begin(900);
    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    EXPECT_EQ(store_install_finish(target.store), OK);
    reopen_target();
    store_close(target.store);
    target.store = NULL;
    EXPECT_TRUE(sim_disk_drop(&target.disk, "shard-0000/MANIFEST"));
    struct damage_fault fault = {0};
    target.config.fault = &fault;
    EXPECT_EQ(model_try_open(&target), ERR_CORRUPT);
    EXPECT_TRUE(strstr(target.message, "the MANIFEST that named it is missing") != NULL);
    EXPECT_EQ(fault.kind, DAMAGE_LOG);
    target.config.fault = NULL;
    end();
}

TEST(install, a_crash_at_any_step_leaves_the_old_or_the_new_state)
{
    begin(700);
    follow(300);
    const uint64_t last = target.last_index;
    const uint64_t base = store_base(target.store).index;
    EXPECT_LT(2, base);
    store_close(target.store);
    struct sim_image before;
    sim_disk_save(&target.disk, &before);
    uint32_t olds = 0;
    uint32_t news = 0;
    bool stopped = true;
    for (uint64_t n = 1; stopped; n++) {
        sim_disk_restore(&target.disk, &before);
        model_open(&target);
        sim_disk_stop_after(&target.disk, n);
        EXPECT_EQ(install_begin(), OK);
        EXPECT_EQ(ship_all(40000), OK);
        EXPECT_EQ(store_install_finish(target.store), OK);
        reopen_target(); /* the tidying can be interrupted as well */
        stopped = sim_disk_stopped(&target.disk);
        store_close(target.store);
        sim_disk_crash(&target.disk);
        model_open(&target);
        if (store_base(target.store).index == base) {
            olds++;
            take_reference(last);
            EXPECT_EQ(store_last_index(target.store), last);
            EXPECT_EQ(store_apply(target.store, last), OK);
            model_compare(&target);
            model_compare_log(&target);
            EXPECT_EQ(install_begin(), OK);
            EXPECT_EQ(ship_all(UINT64_MAX), OK);
            EXPECT_EQ(store_install_finish(target.store), OK);
            reopen_target();
        } else {
            news++;
        }
        EXPECT_EQ(files_in(&target, "incoming/"), 0);
        EXPECT_EQ(store_base(target.store).index, store_base(source.store).index);
        EXPECT_EQ(store_last_index(target.store), store_base(source.store).index);
        take_reference(store_last_index(target.store));
        model_compare(&target);
        model_compare_log(&target);
        store_close(target.store);
        target.store = NULL;
        for (uint64_t i = 1; i <= target.last_index; i++) {
            struct model_entry *older = target.entries[i]->older;
            while (older != NULL) {
                struct model_entry *next = older->older;
                buf_close(&older->record);
                mem_free(older);
                older = next;
            }
            target.entries[i]->older = NULL;
        }
    }
    EXPECT_LT(10, olds);
    EXPECT_LT(10, news);
    sim_image_close(&before);
    end();
}

/* Files that were complete, were given up for another manifest and then begun again must not read as
 * complete after a crash: a hint that came back from the dead would say so. */
TEST(install, a_crash_never_makes_a_partial_file_look_complete)
{
    begin(500);
    static struct model other;
    model_init(&other, 77);
    model_bootstrap(&other);
    for (uint32_t i = 0; i < 400; i++) {
        model_append(&other);
        if (i % 9 == 0) model_settle(&other);
    }
    model_settle(&other);
    model_idle(&other);
    struct buf manifest = {0};
    store_ship_manifest(other.store, &manifest);
    store_close(other.store);
    model_close(&other);

    EXPECT_EQ(install_begin(), OK);
    EXPECT_EQ(ship_all(UINT64_MAX), OK);
    store_close(target.store);
    struct sim_image before;
    sim_disk_save(&target.disk, &before);
    bool stopped = true;
    uint32_t partial = 0;
    for (uint64_t n = 1; stopped; n++) {
        sim_disk_restore(&target.disk, &before);
        model_open(&target);
        sim_disk_stop_after(&target.disk, n);
        EXPECT_EQ(store_install_begin(target.store, buf_slice(&manifest)), OK);
        EXPECT_EQ(install_begin(), OK);
        for (uint32_t i = 0; i < 5 && ship_one(9000) == OK; i++) {}
        stopped = sim_disk_stopped(&target.disk);
        store_close(target.store);
        sim_disk_crash(&target.disk);
        model_open(&target);
        EXPECT_EQ(install_begin(), OK);
        partial += ship_rest(UINT64_MAX) > 0;
        EXPECT_EQ(store_install_finish(target.store), OK);
        target.config.retention_size = UINT64_MAX; /* every file is verified as a whole */
        reopen_target();
        take_reference(store_base(source.store).index);
        model_compare(&target);
        store_close(target.store);
        target.store = NULL;
    }
    EXPECT_LT(5, partial);
    buf_close(&manifest);
    sim_image_close(&before);
    end();
}
