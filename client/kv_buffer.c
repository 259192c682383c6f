#include "client/kv_internal.h"

#define CAPACITY_MIN 64u

static bool grow(const struct kv_allocator *allocator, void **data, size_t *capacity, size_t need,
                 size_t size)
{
    size_t wanted = *capacity < CAPACITY_MIN / size ? CAPACITY_MIN / size : *capacity;
    size_t bytes = 0;
    if (wanted == 0) wanted = 1;
    while (wanted < need) {
        if (__builtin_mul_overflow(wanted, 2, &wanted)) return false;
    }
    if (__builtin_mul_overflow(wanted, size, &bytes)) return false;
    void *grown = allocator->resize(allocator->context, *data, bytes);
    if (grown == NULL) return false;
    *data = grown;
    *capacity = wanted;
    return true;
}

bool kv_list_reserve(const struct kv_allocator *allocator, void **list, size_t *capacity,
                     size_t count, size_t size)
{
    return count <= *capacity || grow(allocator, list, capacity, count, size);
}

bool kv_buffer_reserve(const struct kv_allocator *allocator, struct kv_buffer *buffer, size_t more)
{
    size_t need = 0;
    void *data = buffer->data;
    if (__builtin_add_overflow(buffer->size, more, &need)) return false;
    if (need <= buffer->capacity) return true;
    const bool done = grow(allocator, &data, &buffer->capacity, need, 1);
    buffer->data = data;
    return done;
}

void kv_buffer_close(const struct kv_allocator *allocator, struct kv_buffer *buffer)
{
    if (buffer->data != NULL) (void)allocator->resize(allocator->context, buffer->data, 0);
    *buffer = (struct kv_buffer){0};
}
