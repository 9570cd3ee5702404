/* Keys and messages on Redis. */
#include "core.h"

int rss_cache_set(rss_store *store, const char *key, const void *value, size_t size, int64_t ttl_ms)
{
    return rssi_call(store, RSSI_FN_cache_set, NULL, key, value, size, ttl_ms);
}

int rss_cache_del(rss_store *store, const char *key, int *deleted)
{
    return rssi_call(store, RSSI_FN_cache_del, deleted, key);
}

int rss_cache_incr(rss_store *store, const char *key, int64_t by, int64_t *value)
{
    return rssi_call(store, RSSI_FN_cache_incr, value, key, by);
}

int rss_cache_hash_set(rss_store *store, const char *key, const char *field, const void *value, size_t size)
{
    return rssi_call(store, RSSI_FN_cache_hash_set, NULL, key, field, value, size);
}

int rss_cache_hash_del(rss_store *store, const char *key, const char *field, int *deleted)
{
    return rssi_call(store, RSSI_FN_cache_hash_del, deleted, key, field);
}

int rss_cache_hash_get_all(rss_store *store, const char *key, char **hash_json)
{
    return rssi_call(store, RSSI_FN_cache_hash_get_all, hash_json, key);
}

int rss_cache_list_push(rss_store *store, const char *key, const void *value, size_t size, int at_begin,
                        int64_t *length)
{
    return rssi_call(store, RSSI_FN_cache_list_push, length, key, value, size, at_begin);
}

int rss_cache_list_range(rss_store *store, const char *key, int64_t first, int64_t last, char **values_json)
{
    return rssi_call(store, RSSI_FN_cache_list_range, values_json, key, first, last);
}

int rss_publish(rss_store *store, const char *channel, const void *message, size_t size, int64_t *receivers)
{
    return rssi_call(store, RSSI_FN_publish, receivers, channel, message, size);
}

int rss_subscribe(rss_store *store, const char *channel, int is_pattern, rss_subscription **subscription)
{
    return rssi_call(store, RSSI_FN_subscribe, subscription, channel, is_pattern);
}

int rss_cache_get(rss_store *store, const char *key, char **value, size_t *size)
{
    struct rssi_bytes bytes = {value, size};

    return rssi_call(store, RSSI_FN_cache_get, &bytes, key);
}

int rss_cache_hash_get(rss_store *store, const char *key, const char *field, char **value, size_t *size)
{
    struct rssi_bytes bytes = {value, size};

    return rssi_call(store, RSSI_FN_cache_hash_get, &bytes, key, field);
}

int rss_cache_list_pop(rss_store *store, const char *key, int at_begin, char **value, size_t *size)
{
    struct rssi_bytes bytes = {value, size};

    return rssi_call(store, RSSI_FN_cache_list_pop, &bytes, key, at_begin);
}

int rss_cache_expire(rss_store *store, const char *key, int64_t ttl_ms)
{
    return rssi_call(store, RSSI_FN_cache_expire, NULL, key, ttl_ms);
}

int rss_subscription_next(rss_subscription *subscription, int64_t timeout_ms, rss_message *message, char **data,
                          size_t *size)
{
    struct rssi_bytes bytes = {data, size};
    void *outs[2];

    outs[0] = message;
    outs[1] = &bytes;
    return rssi_call_on(subscription, RSSI_SUBSCRIPTION, RSSI_FN_subscription_next, outs, timeout_ms);
}

int rss_subscription_close(rss_subscription *subscription)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_IO);

    if (code == RSS_OK && subscription != NULL &&
        (code = rssi_begin_close(subscription, RSSI_SUBSCRIPTION, &slot)) == RSS_OK) {
        code = rssi_call_object(slot->object, RSSI_FN_subscription_close, NULL);
        (void)rssi_finish(slot, 0); /* a thread that waits for a message ends it when it is woken */
    }
    return rssi_leave(&guard, code);
}
