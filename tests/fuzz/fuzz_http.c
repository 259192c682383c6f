/* Any bytes given to the HTTP port's parser, whole and cut anywhere: it must answer the same. */
#include <stddef.h>
#include <stdint.h>

#include "node/host/host_http.h"
#include "storage/base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct host_http_request request;
    struct host_http_request again;
    const enum err whole = host_http_parse(slice_of(data, size), &request);
    CHECK(whole == OK || whole == ERR_MORE || whole == ERR_INVALID || whole == ERR_AGAIN ||
          whole == ERR_TOO_BIG);
    if (whole == OK) {
        CHECK(request.path[0] == '/');
        CHECK(strlen(request.path) <= HOST_HTTP_PATH_MAX);
    }
    /* As the server sees it: more and more of the bytes, until the first answer that is not "more". */
    for (size_t have = 0; have <= size && have <= 512; have++) {
        const enum err err = host_http_parse(slice_of(data, have), &again);
        if (err == ERR_MORE) continue;
        if (err == OK) CHECK(again.path[0] == '/');
        if (err == OK && whole == OK) CHECK(strcmp(again.path, request.path) == 0);
        if (size <= HOST_HTTP_REQUEST_MAX) CHECK(err == whole);
        break;
    }
    return 0;
}
