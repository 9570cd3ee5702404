/* The asynchronous path, measured call by call.
 *
 *     enqueue burst PRODUCERS SECONDS         2,000 from each, then a pause until they are stored
 *     enqueue paced PRODUCERS RATE SECONDS    RATE a second from each producer, which sleeps in between
 *     enqueue durable PRODUCERS EVENTS        as fast as they become durable (RSS_QUEUE_WAIT)
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "timing.h"

#define MOST 16
#define BURST 2000

static rss_store *store;
static int producers, rate;
static int64_t each, until_ns;
static enum { PACED, IN_BURSTS, DURABLE } how;

typedef struct {
    pthread_t thread;
    int number;
    uint32_t *times;
    size_t count, room, full;
} producer;

static producer all[MOST];

static const char DATA[] = "{\"frame\": 123456, \"bitrate\": 6000, \"dropped\": 0, \"codec\": \"h264\", \"keyframe\": true, "
                           "\"size\": 48211, \"pts\": 1234567890}";

static int append(producer *by, const char *aggregate_id)
{
    const int64_t start = now_ns();
    const int code = rss_event_append_async(store, "stream", aggregate_id, "FrameSent", DATA, NULL, RSS_NONE);
    const int64_t took = now_ns() - start;

    if (code == RSS_OK && by->count < by->room)
        by->times[by->count++] = took > UINT32_MAX ? UINT32_MAX : (uint32_t)took;
    by->full += code != RSS_OK;
    return code;
}

static void sleep_until(int64_t ns)
{
    struct timespec moment;

    moment.tv_sec = (time_t)(ns / 1000000000);
    moment.tv_nsec = (long)(ns % 1000000000);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &moment, NULL);
}

static void *produce(void *argument)
{
    producer *by = argument;
    char aggregate_id[16];
    int64_t i, next = now_ns() + by->number * 50000;

    snprintf(aggregate_id, sizeof aggregate_id, "%d", by->number);
    if (how == DURABLE)
        for (i = 0; i < each; i++)
            must(rss_event_append_async(store, "stream", aggregate_id, "FrameSent", DATA, NULL, RSS_NONE), "append");
    while (how != DURABLE && now_ns() < until_ns) {
        if (how == PACED) {
            sleep_until(next += 1000000000 / rate);
            append(by, aggregate_id);
        } else {
            for (i = 0; i < BURST; i++)
                append(by, aggregate_id);
            must(rss_flush(store, 30000), "rss_flush"); /* until there is room again */
            sleep_until(now_ns() + 10000000);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    rss_options options = RSS_OPTIONS_INIT;
    rss_queue_info info = RSS_QUEUE_INFO_INIT;
    uint32_t *times;
    size_t count = 0, full = 0;
    int64_t start, clock_cost = INT64_MAX;
    double seconds;
    int i;

    if (argc < 4)
        return 2;
    how = strcmp(argv[1], "paced") == 0 ? PACED : strcmp(argv[1], "burst") == 0 ? IN_BURSTS : DURABLE;
    producers = atoi(argv[2]);
    if (how == DURABLE) {
        options.queue_policy = RSS_QUEUE_WAIT;
        options.queue_wait_ms = -1;
        each = atoll(argv[3]) / producers;
    }
    must(rss_open(NULL, NULL, &options, &store), "rss_open");
    must(rss_event_append_async(store, "stream", "0", "FrameSent", DATA, NULL, RSS_NONE), "the first");
    must(rss_flush(store, 10000), "rss_flush");
    for (i = 0; i < 1000; i++) {
        const int64_t before = now_ns(), cost = now_ns() - before;

        clock_cost = cost < clock_cost ? cost : clock_cost;
    }
    start = now_ns();
    rate = how == PACED ? atoi(argv[3]) : 0;
    until_ns = start + (int64_t)(atof(argv[how == PACED ? 4 : 3]) * 1e9);
    for (i = 0; i < producers; i++) {
        all[i].number = i;
        all[i].room = 1000000;
        all[i].times = calloc(all[i].room, sizeof *all[i].times);
        memset(all[i].times, 1, all[i].room * sizeof *all[i].times); /* no page fault while measuring */
    }
    start = now_ns();
    for (i = 0; i < producers; i++)
        pthread_create(&all[i].thread, NULL, produce, &all[i]);
    for (i = 0; i < producers; i++)
        pthread_join(all[i].thread, NULL);
    must(rss_flush(store, 60000), "rss_flush");
    seconds = (double)(now_ns() - start) / 1e9;
    times = calloc((size_t)producers * 1000000, sizeof *times);
    for (i = 0; i < producers; i++) {
        memcpy(times + count, all[i].times, all[i].count * sizeof *times);
        count += all[i].count;
        full += all[i].full;
    }
    qsort(times, count, sizeof *times, compare_times);
    must(rss_queue_stats(store, &info), "rss_queue_stats");
    printf("{\"calls\": %zu, \"full\": %zu, \"p50_us\": %.3f, \"p90_us\": %.3f, \"p99_us\": %.3f, \"p999_us\": %.3f, "
           "\"max_us\": %.1f, \"clock_us\": %.3f, \"stored\": %lld, \"batches\": %lld, \"seconds\": %.3f}\n",
           count, full, percentile(times, count, 0.5), percentile(times, count, 0.9), percentile(times, count, 0.99),
           percentile(times, count, 0.999), percentile(times, count, 1), (double)clock_cost / 1e3,
           (long long)info.events_stored, (long long)info.batches, seconds);
    must(rss_close(store, 10000), "rss_close");
    return 0;
}
