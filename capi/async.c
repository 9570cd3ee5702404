/* The asynchronous path: what real-time threads call. It takes no lock, allocates nothing, and knows nothing of Python, but
 * where a store is opened and closed. */
#include "async.h"

#include <math.h>
#include <string.h>

#include "payload.h"
#include "python.h"
#include "queue.h"

#define EVENT_BYTES ((int64_t)4 << 20) /* of room by default */
#define LEAST_BYTES ((int64_t)16 << 10)
#define MOST_BYTES ((int64_t)1 << 34)
#define STATS_BYTES ((size_t)256 << 10)
#define MOST_NAME_BYTES (4 * RSSQ_MAX_NAME) /* a character has at most four */
#define PATIENCE_US 1000000                 /* with a writer that is told to stop */

/* ---- opening and closing */

/* What no clock can count is without limit, -1. */
static int64_t microseconds(int64_t milliseconds)
{
    const int64_t ages = (int64_t)1000 * 86400 * 366 * 100;

    return milliseconds < 0 || milliseconds > ages ? -1 : milliseconds * 1000;
}

static void on_close(struct rssi_slot *slot)
{
    rssq_queue_let_go(slot->queue);
}

int rssi_queue_check(const rss_options *options)
{
    if (options->queue_policy < RSS_QUEUE_FAIL || options->queue_policy > RSS_QUEUE_DROP_OLDEST)
        return rssi_error_full(RSS_E_SETTINGS, "queue_policy is none of RSS_QUEUE_…", NULL, NULL, "queue_policy", 0, 0);
    if (options->queue_bytes != 0 && options->queue_bytes != RSS_OFF &&
        (options->queue_bytes < LEAST_BYTES || options->queue_bytes > MOST_BYTES))
        return rssi_error_full(RSS_E_SETTINGS, "queue_bytes must be from 16 KiB to 16 GiB", NULL, NULL, "queue_bytes", 0, 0);
    return RSS_OK;
}

static int open_queue(struct rssi_slot *slot, const rss_options *options)
{
    const int64_t bytes = options->queue_bytes ? options->queue_bytes : EVENT_BYTES;
    rssq_queue *queue;
    int code;

    queue = rssq_queue_new((size_t)bytes, STATS_BYTES, options->queue_policy,
                           microseconds(options->queue_wait_ms));
    if (queue == NULL)
        return rssi_error(RSS_E_NO_MEMORY, "no memory for a queue of %lld bytes", (long long)bytes);
    slot->queue = queue;
    rssq_queue_hold(queue); /* the writer's share */
    code = rssi_call_object(slot->object, RSSI_FN_queue_start, NULL, (int64_t)(intptr_t)queue);
    if (code != RSS_OK)
        rssq_queue_writer_gone(queue);
    return code;
}

int rssi_queue_open(rss_store *store, const rss_options *options)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_IO);

    rssi_on_close = on_close;
    rssq_before_wait = rssi_give_up_gil;
    rssq_after_wait = rssi_take_back_gil;
    if (code == RSS_OK && options->queue_bytes != RSS_OFF && (code = rssi_acquire(store, RSSI_STORE, &slot)) == RSS_OK) {
        code = open_queue(slot, options);
        rssi_release(slot);
    }
    return rssi_leave(&guard, code);
}

int rssi_queue_finish(struct rssi_slot *slot, int64_t *timeout_ms)
{
    const int64_t start = rssq_now_us();
    rssq_queue *queue = slot->queue;
    rssq_counts counts;
    int code = RSS_OK;

    if (queue == NULL)
        return RSS_OK;
    rssq_queue_close(queue);
    if (rssq_queue_flush(queue, microseconds(*timeout_ms)) != RSSQ_DONE) {
        rssq_queue_count(queue, &counts);
        code = rssi_error(RSS_E_TIMEOUT, "%llu events and %llu reports in the queue were not stored in time%s%s",
                          (unsigned long long)counts.events_waiting, (unsigned long long)counts.stats_waiting,
                          counts.is_failing ? ": " : "", counts.is_failing ? counts.error : "");
    }
    rssq_queue_stop(queue);
    if (code != RSS_OK || rssq_queue_wait_gone(queue, PATIENCE_US) != RSSQ_DONE) {
        /* It may be waiting for a server that does not answer. */
        rssi_call_object(slot->object, RSSI_FN_queue_abort, NULL, (int64_t)(intptr_t)queue);
        rssq_queue_wait_gone(queue, PATIENCE_US); /* else it ends by itself: it has a share of the queue */
    }
    if (*timeout_ms >= 0) {
        *timeout_ms -= (rssq_now_us() - start) / 1000;
        if (*timeout_ms < 0)
            *timeout_ms = 0;
    }
    return code;
}

/* ---- producers */

/* The queue of a store, held until rssi_release. */
static int take_queue(rss_store *store, struct rssi_slot **slot, rssq_queue **queue)
{
    int code;

    rssi_error_clear();
    if (rssi_is_forked())
        return rssi_error(RSS_E_FORKED, "this process is a fork of one that had started the library");
    code = rssi_acquire(store, RSSI_STORE, slot);
    if (code != RSS_OK)
        return code;
    *queue = (*slot)->queue;
    if (*queue != NULL)
        return RSS_OK;
    rssi_release(*slot);
    return rssi_error(RSS_E_SETTINGS, "the store was opened without a queue (queue_bytes is RSS_OFF)");
}

static int invalid(const char *field, const char *rule)
{
    char text[160];

    text[0] = '\0';
    strncat(text, field, 60);
    strncat(text, " ", 2);
    strncat(text, rule, 90);
    return rssi_error_full(RSS_E_INVALID_INPUT, text, NULL, NULL, field, 0, 0);
}

static int code_of(int result)
{
    switch (result) {
    case RSSQ_DONE:
        return RSS_OK;
    case RSSQ_CLOSED:
        return rssi_error(RSS_E_CLOSED, "the store is closed");
    case RSSQ_TOO_LARGE:
        return invalid("event", "is larger than a quarter of the queue (queue_bytes)");
    case RSSQ_TIMEOUT:
        return rssi_error_full(RSS_E_TIMEOUT, "the queue was full for as long as queue_wait_ms", NULL, NULL, NULL, 1, 0);
    default:
        return rssi_error_full(RSS_E_QUEUE_FULL, "the queue is full", NULL, NULL, NULL, 1, 0);
    }
}

/* 0, or the code of a name that cannot be. What needs a look at each byte is left to the writer. */
static int measure(const char *text, const char *field, rssq_part *part)
{
    part->data = text;
    part->size = text == NULL || text == RSS_KEEP ? 0 : strlen(text);
    if (part->size == 0 || part->size > MOST_NAME_BYTES)
        return invalid(field, "must be 1 to 255 characters");
    return RSS_OK;
}

static int measure_json(const char *text, const char *field, rssq_part *part)
{
    if (text == RSS_KEEP)
        return invalid(field, "must not be RSS_KEEP");
    part->data = text;
    part->size = strlen(text);
    return part->size > RSSQ_MAX_PAYLOAD ? invalid(field, "may be at most 1048576 bytes of JSON") : RSS_OK;
}

int rss_event_append_async(rss_store *store, const char *aggregate_type, const char *aggregate_id, const char *event_type,
                           const char *data_json, const char *metadata_json, int64_t user_id)
{
    struct rssi_slot *slot;
    rssq_queue *queue;
    rssq_part parts[6];
    rssq_event head;
    int code = take_queue(store, &slot, &queue), count = 5;

    if (code != RSS_OK)
        return code;
    code = measure(aggregate_type, "aggregate_type", &parts[1]);
    if (code == RSS_OK)
        code = measure(aggregate_id, "aggregate_id", &parts[2]);
    if (code == RSS_OK)
        code = measure(event_type, "event_type", &parts[3]);
    if (code == RSS_OK)
        code = data_json == NULL ? invalid("data", "must not be null") : measure_json(data_json, "data", &parts[4]);
    if (code == RSS_OK && metadata_json != NULL)
        code = measure_json(metadata_json, "metadata", &parts[count++]);
    if (code == RSS_OK) {
        memset(&head, 0, sizeof head);
        head.has_user = user_id != RSS_NONE;
        head.user_id = user_id;
        head.type_size = (uint16_t)parts[1].size;
        head.id_size = (uint16_t)parts[2].size;
        head.event_type_size = (uint16_t)parts[3].size;
        head.data_size = (uint32_t)parts[4].size;
        head.has_metadata = metadata_json != NULL;
        head.metadata_size = metadata_json != NULL ? (uint32_t)parts[5].size : 0;
        parts[0].data = &head;
        parts[0].size = sizeof head;
        code = code_of(rssq_queue_put_event(queue, parts, count));
    }
    rssi_release(slot);
    return code;
}

int rss_stats_push_async(rss_store *store, int64_t stream_id, int64_t viewer_count, int64_t bitrate_kbps, double fps,
                         int64_t bytes_sent)
{
    struct rssi_slot *slot;
    rssq_queue *queue;
    rssq_stats stats;
    int code = take_queue(store, &slot, &queue);

    if (code != RSS_OK)
        return code;
    if (viewer_count < 0 && viewer_count != RSS_KEEP_INT)
        code = invalid("viewer_count", "must be at least 0");
    else if (bitrate_kbps < 0 && bitrate_kbps != RSS_KEEP_INT)
        code = invalid("bitrate_kbps", "must be at least 0");
    else if (!(fps > 0 && fps <= 1000) && !(fps <= RSS_KEEP_F64 && fps >= RSS_KEEP_F64))
        code = invalid("fps", "must be above 0 and at most 1000");
    else if (bytes_sent < 0)
        code = invalid("bytes_sent", "must be at least 0");
    else {
        stats.stream_id = stream_id;
        stats.viewer_count = viewer_count == RSS_KEEP_INT ? -1 : viewer_count;
        stats.bitrate_kbps = bitrate_kbps == RSS_KEEP_INT ? -1 : bitrate_kbps;
        stats.fps = fps > 0 ? fps : 0;
        stats.bytes_sent = bytes_sent;
        code = code_of(rssq_queue_put_stats(queue, &stats));
    }
    rssi_release(slot);
    return code;
}

int rss_flush(rss_store *store, int64_t timeout_ms)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    rssq_queue *queue;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && (code = take_queue(store, &slot, &queue)) == RSS_OK) {
        const int result = rssq_queue_flush(queue, microseconds(timeout_ms));

        if (result == RSSQ_CLOSED) {
            code = rssi_error(RSS_E_CLOSED, "the store was closed before all that is queued was stored");
        } else if (result != RSSQ_DONE) {
            rssq_counts counts;

            rssq_queue_count(queue, &counts);
            code = rssi_error(RSS_E_TIMEOUT, "%llu events and %llu reports are still queued%s%s",
                              (unsigned long long)counts.events_waiting, (unsigned long long)counts.stats_waiting,
                              counts.is_failing ? ": " : "", counts.is_failing ? counts.error : "");
        }
        rssi_release(slot);
    }
    return rssi_leave(&guard, code);
}

int rss_queue_stats(rss_store *store, rss_queue_info *info)
{
    struct rssi_slot *slot;
    rssq_queue *queue;
    rss_queue_info all;
    rssq_counts counts;
    size_t size;
    int code = take_queue(store, &slot, &queue);

    if (code != RSS_OK)
        return code;
    rssq_queue_count(queue, &counts);
    rssi_release(slot);
    if (info == NULL)
        return RSS_OK;
    if (!rssi_is_struct(info))
        return rssi_error(RSS_E_MISUSE, "struct_size of rss_queue_info is not set: it must be sizeof(rss_queue_info)");
    memset(&all, 0, sizeof all);
    all.is_failing = counts.is_failing;
    all.truncated = counts.is_cut ? 1 : 0;
    all.events_accepted = (int64_t)counts.events_accepted;
    all.events_stored = (int64_t)counts.events_stored;
    all.events_rejected = (int64_t)counts.events_rejected;
    all.events_dropped = (int64_t)counts.events_dropped;
    all.events_refused = (int64_t)counts.events_refused;
    all.events_waiting = (int64_t)counts.events_waiting;
    all.stats_accepted = (int64_t)counts.stats_accepted;
    all.stats_stored = (int64_t)counts.stats_stored;
    all.stats_rejected = (int64_t)counts.stats_rejected;
    all.stats_dropped = (int64_t)counts.stats_dropped;
    all.stats_refused = (int64_t)counts.stats_refused;
    all.stats_waiting = (int64_t)counts.stats_waiting;
    all.batches = (int64_t)counts.batches;
    all.reconnects = (int64_t)counts.reconnects;
    all.room_bytes = (int64_t)counts.events_room;
    all.used_bytes = (int64_t)counts.events_used;
    memcpy(all.error, counts.error, sizeof all.error);
    size = info->struct_size;
    all.struct_size = size;
    memcpy(info, &all, size < sizeof all ? size : sizeof all);
    if (size > sizeof all)
        memset((char *)info + sizeof all, 0, size - sizeof all);
    return RSS_OK;
}
