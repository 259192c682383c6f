/* fuzz_exit.c - lets libFuzzer see a failed CHECK: it keeps the input of an abort, not that of an _exit. */
#include <stdlib.h>
#include <unistd.h>

void _exit(int code)
{
    (void)code;
    abort();
}
