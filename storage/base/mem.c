#include "storage/base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "storage/base/check.h"

static _Atomic uint64_t used_size;

static void *counted(void *pointer, size_t size)
{
    if (pointer == NULL) fatal(EXIT_BUG, "out of memory: %zu bytes were refused", size);
    atomic_fetch_add_explicit(&used_size, malloc_usable_size(pointer), memory_order_relaxed);
    return pointer;
}

void *mem_alloc(size_t size)
{
    return counted(malloc(size > 0 ? size : 1), size);
}

void *mem_zero(size_t size)
{
    return counted(calloc(1, size > 0 ? size : 1), size);
}

void *mem_resize(void *pointer, size_t size)
{
    if (pointer != NULL) {
        atomic_fetch_sub_explicit(&used_size, malloc_usable_size(pointer), memory_order_relaxed);
    }
    return counted(realloc(pointer, size > 0 ? size : 1), size);
}

void *mem_copy(const void *data, size_t size)
{
    void *copy = mem_alloc(size);
    if (size > 0) memcpy(copy, data, size);
    return copy;
}

void mem_free(void *pointer)
{
    if (pointer == NULL) return;
    atomic_fetch_sub_explicit(&used_size, malloc_usable_size(pointer), memory_order_relaxed);
    free(pointer);
}

uint64_t mem_used(void)
{
    return atomic_load_explicit(&used_size, memory_order_relaxed);
}
