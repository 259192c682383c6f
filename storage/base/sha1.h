/* sha1.h - SHA-1, by which Redis names scripts. For that only: it protects nothing. */
#ifndef KV_BASE_SHA1_H
#define KV_BASE_SHA1_H

#include "storage/base/bytes.h"

#define SHA1_TEXT_SIZE 40u

/* As 40 lower-case hexadecimal digits and a zero. */
void sha1_text(struct slice bytes, char text[SHA1_TEXT_SIZE + 1]);

#endif
