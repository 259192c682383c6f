#include "storage/mend.h"

#include "storage/base/check.h"

void mend_close(struct mend *mend)
{
    mend_forget(mend);
    *mend = (struct mend){0};
}

struct mend_want *mend_find(struct mend *mend, struct slice key, uint64_t revision)
{
    for (uint32_t i = 0; i < mend->count; i++) {
        struct mend_want *want = &mend->wants[i];
        if (want->revision == revision && slice_equal(buf_slice(&want->key), key)) return want;
    }
    return NULL;
}

enum mend_state mend_ask(struct mend *mend, struct slice key, uint64_t revision,
                         const struct mend_want **want)
{
    struct mend_want *known = mend_find(mend, key, revision);
    *want = known;
    if (known != NULL) return known->state;
    if (mend->count == MEND_WANTS_MAX) return MEND_OPEN;
    known = &mend->wants[mend->count++];
    *known = (struct mend_want){.revision = revision, .state = MEND_OPEN};
    buf_append(&known->key, key.data, key.size);
    *want = known;
    return MEND_OPEN;
}

void mend_give(struct mend *mend, struct mend_want *want, struct slice stored, bool is_compressed)
{
    CHECK(want->state == MEND_OPEN);
    buf_append(&want->stored, stored.data, stored.size);
    want->is_compressed = is_compressed;
    want->state = MEND_HERE;
    mend->given_total++;
}

void mend_drop(struct mend *mend, struct slice key, uint64_t revision)
{
    struct mend_want *want = mend_find(mend, key, revision);
    if (want == NULL) return;
    buf_close(&want->key);
    buf_close(&want->stored);
    *want = mend->wants[--mend->count];
}

void mend_forget(struct mend *mend)
{
    for (uint32_t i = 0; i < mend->count; i++) {
        buf_close(&mend->wants[i].key);
        buf_close(&mend->wants[i].stored);
    }
    mend->count = 0;
}
