/* What was measured, as one line for people, one CSV row or one JSON object. */
#include <stdio.h>

#include "tests/bench/bench.h"

static double quantile_ms(const struct bench *bench, double quantile)
{
    return (double)bench_histogram_quantile(&bench->latencies, quantile) / 1e6;
}

/* A label and an error text come from outside: quotes and control characters are replaced. */
static void print_text(const char *text)
{
    for (; *text != '\0'; text++) {
        const char c = *text;
        putchar(c == '"' || c == '\\' ? '\'' : (uint8_t)c < ' ' || c == 127 ? ' ' : c);
    }
}

static void report_json(const struct bench *bench, double seconds, double rate, double client_us)
{
    const struct bench_options *options = &bench->options;
    printf("{\"label\":\"");
    print_text(options->label);
    printf("\",\"protocol\":\"%s\",\"operation\":\"%s\",\"connections\":%u,\"pipeline\":%u,"
           "\"value_size\":%u,\"keys\":%u,\"seconds\":%.3f,\"requests\":%llu,\"successes\":%llu,",
           options->protocol == BENCH_ETCD ? "etcd" : "resp",
           bench_operation_name(options->operation), options->connections, options->pipeline,
           options->value_size, options->keys, seconds, (unsigned long long)bench->completed,
           (unsigned long long)bench->successes);
    printf("\"misses\":%llu,\"errors\":%llu,\"rate\":%.1f,\"mean_ms\":%.4f,\"p50_ms\":%.4f,"
           "\"p99_ms\":%.4f,\"p999_ms\":%.4f,\"max_ms\":%.4f,\"client_cpu_us\":%.3f,"
           "\"first_error\":\"",
           (unsigned long long)bench->misses, (unsigned long long)bench->errors, rate,
           bench_histogram_mean(&bench->latencies) / 1e6, quantile_ms(bench, 0.5),
           quantile_ms(bench, 0.99), quantile_ms(bench, 0.999),
           (double)bench->latencies.max_ns / 1e6, client_us);
    print_text(bench->first_error);
    printf("\"}\n");
}

static void report_csv(const struct bench *bench, double seconds, double rate, double client_us)
{
    const struct bench_options *options = &bench->options;
    if (options->header) {
        puts("label,protocol,operation,connections,pipeline,value_size,keys,seconds,requests,"
             "successes,misses,errors,rate,mean_ms,p50_ms,p99_ms,p999_ms,max_ms,client_cpu_us");
    }
    putchar('"');
    print_text(options->label);
    printf("\",%s,%s,%u,%u,%u,%u,%.3f,%llu,%llu,%llu,%llu,%.1f,%.4f,%.4f,%.4f,%.4f,%.4f,%.3f\n",
           options->protocol == BENCH_ETCD ? "etcd" : "resp",
           bench_operation_name(options->operation), options->connections, options->pipeline,
           options->value_size, options->keys, seconds, (unsigned long long)bench->completed,
           (unsigned long long)bench->successes, (unsigned long long)bench->misses,
           (unsigned long long)bench->errors, rate, bench_histogram_mean(&bench->latencies) / 1e6,
           quantile_ms(bench, 0.5), quantile_ms(bench, 0.99), quantile_ms(bench, 0.999),
           (double)bench->latencies.max_ns / 1e6, client_us);
}

static void report_text(const struct bench *bench, double seconds, double rate, double client_us)
{
    const struct bench_options *options = &bench->options;
    printf("%s%s%s, %u connections, pipeline %u, %u-byte values: %.0f/s over %.1f s\n",
           options->label, options->label[0] ? ": " : "", bench_operation_name(options->operation),
           options->connections, options->pipeline, options->value_size, rate, seconds);
    printf("  latency in ms: mean %.3f, p50 %.3f, p99 %.3f, p99.9 %.3f, max %.3f\n",
           bench_histogram_mean(&bench->latencies) / 1e6, quantile_ms(bench, 0.5),
           quantile_ms(bench, 0.99), quantile_ms(bench, 0.999),
           (double)bench->latencies.max_ns / 1e6);
    printf("  %llu requests: %llu succeeded, %llu found no value, %llu failed; "
           "kvbench took %.2f us of processor time for each\n",
           (unsigned long long)bench->completed, (unsigned long long)bench->successes,
           (unsigned long long)bench->misses, (unsigned long long)bench->errors, client_us);
}

void bench_report(const struct bench *bench)
{
    const double seconds = (double)(bench->end_ns - bench->measure_ns) / 1e9;
    const double rate = seconds > 0 ? (double)bench->successes / seconds : 0;
    const double client_us = bench->completed > 0
                                 ? (double)bench->client_cpu_us / (double)bench->completed
                                 : 0;
    switch (bench->options.format) {
    case BENCH_JSON: report_json(bench, seconds, rate, client_us); break;
    case BENCH_CSV: report_csv(bench, seconds, rate, client_us); break;
    default: report_text(bench, seconds, rate, client_us); break;
    }
    if (bench->first_error[0] != '\0') {
        fprintf(stderr, "kvbench: the first error: %s\n", bench->first_error);
    }
}
