/* Opening, closing, health. */
#include <string.h>

#include "python.h"

#include "async.h"
#include "core.h"

/* A copy of the caller's options; what their header did not have yet is 0. */
static int read_options(const rss_options *given, rss_options *options)
{
    memset(options, 0, sizeof *options);
    if (given == NULL)
        return RSS_OK;
    if (!rssi_is_struct(given))
        return rssi_error(RSS_E_MISUSE, "struct_size of rss_options is not set: it must be sizeof(rss_options)");
    memcpy(options, given, given->struct_size < sizeof *options ? given->struct_size : sizeof *options);
    return RSS_OK;
}

#define OPTIONS(o)                                                                                                 \
    (o).application_name, (o).pool_size, (o).pool_min_size, (o).pool_timeout_ms, (o).statement_timeout_ms,         \
        (o).lock_timeout_ms, (o).retry_deadline_ms, (o).redis_timeout_ms, (o).redis_pool_size, (o).pgbouncer,      \
        (o).settings_json

/* RSS_OK, or the code of arguments that cannot be, with its error set. */
static int check_open(const rss_options *given, rss_options *options, rss_store **store)
{
    struct rssi_guard guard;
    int code = rssi_enter(&guard, RSSI_PLAIN);

    if (code == RSS_OK && store == NULL)
        code = rssi_error(RSS_E_MISUSE, "store is NULL: an open store could never be closed");
    if (store != NULL)
        *store = NULL;
    if (code == RSS_OK)
        code = read_options(given, options);
    if (code == RSS_OK)
        code = rssi_queue_check(options);
    return rssi_leave(&guard, code);
}

/* Of a store just opened. */
static int with_queue(int code, rss_store **store, const rss_options *options)
{
    struct rssi_kept_error kept;

    if (code != RSS_OK || (code = rssi_queue_open(*store, options)) == RSS_OK)
        return code;
    rssi_error_keep(&kept);
    rss_close(*store, 0);
    *store = NULL;
    return rssi_error_again(&kept);
}

int rss_open(const char *database_url, const char *redis_url, const rss_options *given, rss_store **store)
{
    rss_options options;
    int code = check_open(given, &options, store);

    if (code == RSS_OK)
        code = rssi_call_free(RSSI_FN_open, store, database_url, redis_url, OPTIONS(options));
    return with_queue(code, store, &options);
}

int rss_open_embedded(const char *path, const rss_options *given, rss_store **store)
{
    rss_options options;
    int code = check_open(given, &options, store);

    if (code == RSS_OK)
        code = rssi_call_free(RSSI_FN_open_embedded, store, path, OPTIONS(options));
    return with_queue(code, store, &options);
}

int rss_close(rss_store *store, int64_t timeout_ms)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_IO);

    if (code == RSS_OK && store != NULL && (code = rssi_begin_close(store, RSSI_STORE, &slot)) == RSS_OK) {
        int queued = rssi_queue_finish(slot, &timeout_ms);
        int failed = rssi_call_object(slot->object, RSSI_FN_close, NULL, timeout_ms);

        if (failed == RSS_OK)
            failed = queued;
        code = rssi_finish(slot, timeout_ms);
        if (code == RSS_E_TIMEOUT && queued == RSS_OK) /* else what it says of the queue is told */
            code = rssi_error(RSS_E_TIMEOUT, "the store is closed, but calls are still in flight");
        else
            code = failed;
    }
    return rssi_leave(&guard, code);
}

int rss_noop(rss_store *store)
{
    return rssi_call(store, RSSI_FN_noop, NULL);
}

int rss_get_health(rss_store *store, rss_health *health)
{
    return rssi_call(store, RSSI_FN_get_health, health);
}

int rss_get_health_json(rss_store *store, char **health_json)
{
    return rssi_call(store, RSSI_FN_get_health_json, health_json);
}
