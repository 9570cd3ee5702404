/* The queue: policies, waiting, waking, flushing and closing, with a writer that only counts.
 *
 *     check_queue PRODUCERS EVENTS
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "coalesce.h"
#include "park.h"
#include "queue.h"

#define MOST 16

static rssq_queue *queue;
static int producers;
static uint64_t each;
static _Atomic int64_t bytes_pushed;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    exit(1);
}

static int put(rssq_queue *into, unsigned producer, uint64_t number, size_t padding)
{
    static const char spaces[1 << 17];
    char data[64], id[16];
    rssq_event head;
    rssq_part parts[6];

    memset(&head, 0, sizeof head);
    head.type_size = 6;
    head.id_size = (uint16_t)snprintf(id, sizeof id, "%u", producer);
    head.event_type_size = 4;
    head.data_size = (uint32_t)snprintf(data, sizeof data, "{\"n\": %llu}", (unsigned long long)number);
    parts[0].data = &head;
    parts[0].size = sizeof head;
    parts[1].data = "stream";
    parts[1].size = 6;
    parts[2].data = id;
    parts[2].size = head.id_size;
    parts[3].data = "Tick";
    parts[3].size = 4;
    parts[4].data = data;
    parts[4].size = head.data_size;
    parts[5].data = spaces;
    parts[5].size = padding;
    head.has_metadata = padding != 0;
    head.metadata_size = (uint32_t)padding;
    return rssq_queue_put_event(into, parts, 6);
}

static void *produce(void *argument)
{
    const unsigned producer = (unsigned)(uintptr_t)argument;
    rssq_stats stats = {0, 1, -1, 60.0, 0};
    uint64_t number;

    for (number = 1; number <= each; number++) {
        if (put(queue, producer, number, 0) != RSSQ_DONE)
            die("put");
        stats.stream_id = (int64_t)(number % 5 + 1);
        stats.bytes_sent = (int64_t)number;
        if (rssq_queue_put_stats(queue, &stats) != RSSQ_DONE)
            die("put stats");
        atomic_fetch_add(&bytes_pushed, stats.bytes_sent);
        if (number % 1000 == 0 && rssq_queue_flush(queue, 60000000) != RSSQ_DONE)
            die("flush");
    }
    return NULL;
}

static void *write_all(void *argument)
{
    rssq_batch *batch = rssq_batch_new();
    rssq_rows *rows = rssq_rows_new();
    uint64_t last[MOST] = {0};
    int64_t bytes = 0;

    (void)argument;
    for (;;) {
        const int state = rssq_queue_wait(queue, RSSQ_EVENTS | RSSQ_STATS, 1000000, 200);
        rssq_row taken[16];
        int count = rssq_batch_fill(batch, queue, 500, 100000), i, streams;
        uint64_t reports = 0;

        for (i = 0; i < count; i++) {
            rssq_view view;
            uint64_t number;
            unsigned producer;

            rssq_batch_view(batch, i, &view);
            if (view.error != NULL)
                die(view.error);
            producer = (unsigned)atoi(view.aggregate_id);
            number = strtoull(view.data + 6, NULL, 10);
            if (number != last[producer] + 1)
                die("not in the order of its producer");
            last[producer] = number;
        }
        if (count > 0)
            rssq_queue_events_done(queue, rssq_batch_end(batch, count), (uint64_t)count, 0);
        else
            rssq_queue_nothing_in_hand(queue, 1, 0);
        streams = rssq_rows_fill(rows, queue);
        if (streams > 5)
            die("more rows than streams");
        rssq_rows_take(rows, taken);
        for (i = 0; i < streams; i++) {
            bytes += taken[i].stats.bytes_sent;
            reports += taken[i].reports;
        }
        if (streams > 0)
            rssq_queue_stats_done(queue, rssq_rows_end(rows), reports, 0);
        else
            rssq_queue_nothing_in_hand(queue, 0, 1);
        if (state & RSSQ_STOPPING)
            break;
    }
    if (bytes != atomic_load(&bytes_pushed))
        die("bytes are lost or doubled");
    rssq_batch_free(batch);
    rssq_rows_free(rows);
    rssq_queue_writer_gone(queue);
    return NULL;
}

static void check_many(void)
{
    pthread_t threads[MOST], writer;
    rssq_counts counts;
    int i;

    queue = rssq_queue_new(32768, 4096, RSSQ_POLICY_BLOCK, -1);
    rssq_queue_hold(queue);
    pthread_create(&writer, NULL, write_all, NULL);
    for (i = 0; i < producers; i++)
        pthread_create(&threads[i], NULL, produce, (void *)(uintptr_t)i);
    for (i = 0; i < producers; i++)
        pthread_join(threads[i], NULL);
    if (rssq_queue_flush(queue, 60000000) != RSSQ_DONE)
        die("the last flush");
    rssq_queue_count(queue, &counts);
    if (counts.events_stored != each * (uint64_t)producers || counts.events_accepted != counts.events_stored ||
        counts.stats_stored != counts.events_stored || counts.events_waiting || counts.stats_waiting || counts.events_used)
        die("the counts");
    rssq_queue_close(queue);
    rssq_queue_stop(queue);
    if (rssq_queue_wait_gone(queue, 60000000) != RSSQ_DONE)
        die("the writer stays");
    pthread_join(writer, NULL);
    rssq_queue_let_go(queue);
}

static void *close_soon(void *argument)
{
    rssq_counts counts;

    (void)argument;
    do
        rssq_queue_count(queue, &counts);
    while (counts.events_accepted == 0);
    rssq_queue_close(queue);
    return NULL;
}

static void check_policies(void)
{
    rssq_counts counts;
    rssq_batch *batch = rssq_batch_new();
    rssq_view view;
    pthread_t closer;
    uint64_t number = 0, accepted;
    int64_t start;
    int result;

    queue = rssq_queue_new(4096, 1024, RSSQ_POLICY_FAIL, 0);
    while (put(queue, 1, ++number, 0) == RSSQ_DONE)
        ;
    rssq_queue_count(queue, &counts);
    if (counts.events_refused != 1 || counts.events_waiting != number - 1 || counts.events_used != counts.events_room)
        die("the policy to fail");
    if (rssq_queue_flush(queue, 1000) != RSSQ_TIMEOUT)
        die("a flush without a writer");
    if (put(queue, 1, 1, 2000) != RSSQ_TOO_LARGE)
        die("an event that never has room");
    rssq_queue_close(queue);
    if (put(queue, 1, 1, 0) != RSSQ_CLOSED)
        die("closed");
    rssq_queue_let_go(queue);

    queue = rssq_queue_new(4096, 1024, RSSQ_POLICY_DROP_OLDEST, 0);
    for (number = 1; number <= 1000; number++)
        if (put(queue, 1, number, 0) != RSSQ_DONE)
            die("the policy to drop");
    rssq_queue_count(queue, &counts);
    accepted = counts.events_waiting;
    if (counts.events_accepted != 1000 || counts.events_dropped != 1000 - accepted)
        die("the count of those dropped");
    if ((uint64_t)rssq_batch_fill(batch, queue, 1000, 100000) != accepted)
        die("those left");
    rssq_batch_view(batch, 0, &view);
    if (strtoull(view.data + 6, NULL, 10) != 1000 - accepted + 1)
        die("the oldest goes first");
    rssq_queue_let_go(queue);

    queue = rssq_queue_new(1 << 19, 1024, RSSQ_POLICY_DROP_OLDEST, 0);
    for (number = 1; number <= 4096; number++)
        if (put(queue, 1, number, 0) != RSSQ_DONE)
            die("a ring of the smallest");
    /* As many of them as one of the largest needs. */
    if (put(queue, 1, number, 130000) != RSSQ_DONE)
        die("a large one in the place of many small ones");
    rssq_queue_count(queue, &counts);
    if (counts.events_dropped < 1000 || counts.events_dropped > 1024 || counts.events_refused != 0)
        die("the count of the small ones");
    rssq_queue_let_go(queue);

    queue = rssq_queue_new(4096, 1024, RSSQ_POLICY_BLOCK, 20000);
    start = rssq_now_us();
    do
        result = put(queue, 1, 1, 0);
    while (result == RSSQ_DONE);
    if (result != RSSQ_TIMEOUT || rssq_now_us() - start < 20000)
        die("the policy to wait");
    rssq_queue_let_go(queue);

    queue = rssq_queue_new(4096, 1024, RSSQ_POLICY_BLOCK, -1);
    pthread_create(&closer, NULL, close_soon, NULL);
    while ((result = put(queue, 1, 1, 0)) == RSSQ_DONE)
        ;
    if (result != RSSQ_CLOSED)
        die("one who waits for room when the queue is closed");
    pthread_join(closer, NULL);
    rssq_queue_let_go(queue);
    rssq_batch_free(batch);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    producers = atoi(argv[1]);
    each = (uint64_t)atoi(argv[2]);
    check_policies();
    check_many();
    return 0;
}
