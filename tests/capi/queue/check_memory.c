/* A batch when memory is short: what was taken out of the ring is in it, and the rest stays. Linked with
 * -Wl,--wrap=realloc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "queue.h"

#define EVENTS 300 /* more than a new batch has room for */

static int fails_after; /* so many more times there is memory */

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

void *__wrap_realloc(void *memory, size_t size)
{
    return fails_after-- > 0 ? __real_realloc(memory, size) : NULL;
}

static int put(rssq_queue *queue)
{
    static const char texts[] = "stream7Tick{}";
    rssq_event head;
    rssq_part parts[2] = {{&head, sizeof head}, {texts, sizeof texts - 1}};

    memset(&head, 0, sizeof head);
    head.type_size = 6;
    head.id_size = 1;
    head.event_type_size = 4;
    head.data_size = 2;
    return rssq_queue_put_event(queue, parts, 2);
}

/* The events of all batches, with memory for so many growths in the first one. -1: one is not as it was put in. */
static int count_all(int growths)
{
    rssq_queue *queue = rssq_queue_new(1 << 20, 1024, RSSQ_POLICY_FAIL, 0);
    rssq_batch *batch = rssq_batch_new();
    int i, count, all = 0;

    for (i = 0; i < EVENTS; i++)
        if (put(queue) != RSSQ_DONE)
            return -1;
    fails_after = growths;
    do {
        count = rssq_batch_fill(batch, queue, 1000, 1 << 20);
        for (i = 0; i < count; i++) {
            rssq_view view;

            rssq_batch_view(batch, i, &view);
            if (view.error != NULL || view.data_size != 2 || memcmp(view.data, "{}", 2) != 0)
                return -1;
        }
        all += count > 0 ? count : 0;
        fails_after = 1000;
    } while (count != 0);
    rssq_batch_free(batch);
    rssq_queue_let_go(queue);
    return all;
}

int main(void)
{
    int growths, failures = 0;

    for (growths = 0; growths < 8; growths++) {
        const int all = count_all(growths);

        if (all != EVENTS) {
            printf("%d growths: %d of %d events\n", growths, all, EVENTS);
            failures++;
        }
    }
    return failures != 0;
}
