/* kvbench - measures Redis and etcd servers, FlashKV among the former; see --help and docs/benchmarks.md.
 *
 * Exit codes: 0 every request succeeded, 1 some did not, 2 nothing could be measured. */
#include "tests/bench/bench.h"

static struct bench bench;

int main(int argc, char **argv)
{
    bench_options_parse(&bench.options, argc, argv);
    bench_load_open(&bench);
    bench_load_run(&bench);
    bench_report(&bench);
    bench_load_close(&bench);
    return bench.errors > 0 ? 1 : 0;
}
