/* fuzz_manifest.c - any bytes as a manifest, which a peer or a disk may give us. */
#include <stddef.h>
#include <stdint.h>

#include "storage/base/check.h"
#include "storage/base/hash.h"
#include "storage/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_manifest(struct slice bytes)
{
    struct manifest manifest = {0};
    const char *wrong = NULL;
    if (manifest_decode(bytes, &manifest, &wrong) != OK) {
        CHECK(wrong != NULL);
        CHECK(manifest.files == NULL);
        return;
    }
    if (!manifest.has_state_hash) { /* One of version 1, which is not written any more. */
        manifest_close(&manifest);
        return;
    }
    /* What was accepted can be written, and reads the same. */
    struct buf out = {0};
    manifest_encode(&manifest, &out);
    CHECK(out.size == bytes.size);
    struct manifest again = {0};
    CHECK(manifest_decode(buf_slice(&out), &again, &wrong) == OK);
    CHECK(again.base_index == manifest.base_index);
    CHECK(again.file_count == manifest.file_count);
    CHECK(slice_equal(buf_slice(&again.change), buf_slice(&manifest.change)));
    buf_close(&out);
    manifest_close(&again);
    manifest_close(&manifest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct slice bytes = slice_of(data, size);
    check_manifest(bytes);
    if (size < MANIFEST_HEADER_SIZE + 8) return 0;
    /* Size and checksum made right, so that what is behind them is reached. */
    struct buf copy = {0};
    buf_append(&copy, data, size);
    put_u32(copy.data + 12, (uint32_t)size);
    put_u64(copy.data + size - 8, hash64(copy.data, size - 8));
    check_manifest(buf_slice(&copy));
    buf_close(&copy);
    return 0;
}
