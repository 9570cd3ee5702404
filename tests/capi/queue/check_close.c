/* Closing in the midst of a producer's call: it is taken in and waited for, or refused. Linked with
 * -Wl,--wrap=rssq_ring_put, so that the queue is closed where a producer may be held up longest. */
#include <stdio.h>

#include "queue.h"

static rssq_queue *queue;
static int flushed = -1;

int __real_rssq_ring_put(rssq_ring *ring, const rssq_part *parts, int count, uint64_t *end);
int __wrap_rssq_ring_put(rssq_ring *ring, const rssq_part *parts, int count, uint64_t *end);

int __wrap_rssq_ring_put(rssq_ring *ring, const rssq_part *parts, int count, uint64_t *end)
{
    rssq_queue_close(queue);
    flushed = rssq_queue_flush(queue, 0);
    return __real_rssq_ring_put(ring, parts, count, end);
}

int main(void)
{
    const rssq_stats stats = {1, 1, 1, 1.0, 1};
    rssq_counts counts;
    int result;

    queue = rssq_queue_new(4096, 1024, RSSQ_POLICY_FAIL, 0);
    result = rssq_queue_put_stats(queue, &stats);
    rssq_queue_count(queue, &counts);
    rssq_queue_let_go(queue);
    if (flushed == RSSQ_DONE && (result != RSSQ_CLOSED || counts.stats_accepted != 0)) {
        printf("taken in (%d) after the last flush\n", result);
        return 1;
    }
    return 0;
}
