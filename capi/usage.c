/* Usage. */
#include "core.h"

int rss_usage_log(rss_store *store, int64_t user_id, const char *event_type, int64_t stream_id,
                  int64_t bytes_transferred, int64_t duration_seconds, int64_t created_at, int64_t *entry_id)
{
    return rssi_call(store, RSSI_FN_usage_log, entry_id, user_id, event_type, stream_id, bytes_transferred,
                     duration_seconds, created_at);
}

int rss_usage_total_by_user(rss_store *store, int64_t user_id, int64_t since, int64_t until, rss_usage_total *total)
{
    return rssi_call(store, RSSI_FN_usage_total_by_user, total, user_id, since, until);
}

int rss_usage_total_by_stream(rss_store *store, int64_t stream_id, int64_t since, int64_t until,
                              rss_usage_total *total)
{
    return rssi_call(store, RSSI_FN_usage_total_by_stream, total, stream_id, since, until);
}

int rss_usage_list_months(rss_store *store, int64_t user_id, int64_t months, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_usage_list_months, rows, user_id, months);
}

int rss_usage_log_many(rss_store *store, const rss_usage_entry *entries, size_t count)
{
    if (count > 0 && !rssi_is_struct(entries))
        return rssi_misuse("struct_size of rss_usage_entry is not set: it must be sizeof(rss_usage_entry)");
    return rssi_call(store, RSSI_FN_usage_log_many, NULL, entries, count);
}
