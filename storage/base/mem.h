/* mem.h - allocation that cannot return NULL, counted.
 *
 * Running out of memory ends the process with one line: no state is left half changed. The counter is
 * the sum of usable sizes and is what INFO reports as used_memory. Single-threaded users only, but for
 * mem_alloc and mem_free, whose counter is atomic. */
#ifndef KV_BASE_MEM_H
#define KV_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size);                  /* gives; contents undefined */
void *mem_zero(size_t size);                   /* gives; zeroed */
void *mem_resize(void *pointer, size_t size);  /* takes @pointer (may be NULL), gives */
void *mem_copy(const void *data, size_t size); /* gives */
void mem_free(void *pointer);                  /* takes; NULL is allowed */
uint64_t mem_used(void);                       /* bytes now allocated through this module */

#endif
