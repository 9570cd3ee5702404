/* Events. */
#include "core.h"

int rss_event_get(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t version,
                  rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_event_get, rows, aggregate_type, aggregate_id, version);
}

int rss_event_read(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t after_version,
                   int64_t to_version, int64_t limit, int backward, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_event_read, rows, aggregate_type, aggregate_id, after_version, to_version,
                     limit, backward);
}

int rss_event_read_all(rss_store *store, int64_t after_position, const char *aggregate_type, int64_t limit,
                       rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_event_read_all, rows, after_position, aggregate_type, limit);
}

int rss_event_audit(rss_store *store, int64_t user_id, int64_t before_position, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_event_audit, rows, user_id, before_position, limit);
}

int rss_event_get_version(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t *version)
{
    return rssi_call(store, RSSI_FN_event_get_version, version, aggregate_type, aggregate_id);
}

int rss_event_get_horizon(rss_store *store, rss_horizon *horizon)
{
    return rssi_call(store, RSSI_FN_event_get_horizon, horizon);
}

int rss_event_save_snapshot(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t version,
                            const char *state_json, int64_t schema_version, rss_snapshot *snapshot)
{
    return rssi_call(store, RSSI_FN_event_save_snapshot, snapshot, aggregate_type, aggregate_id, version,
                     state_json, schema_version);
}

int rss_event_prune_snapshots(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t keep,
                              int64_t schema_version, int64_t *count)
{
    return rssi_call(store, RSSI_FN_event_prune_snapshots, count, aggregate_type, aggregate_id, keep,
                     schema_version);
}

int rss_event_append(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                     const rss_new_event *event, int64_t expected, rss_appended *appended)
{
    if (!rssi_is_struct(event))
        return rssi_misuse("struct_size of rss_new_event is not set: it must be sizeof(rss_new_event)");
    return rssi_call(store, RSSI_FN_event_append, appended, aggregate_type, aggregate_id, event, expected);
}

int rss_event_append_many(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                          const rss_new_event *events, size_t count, int64_t expected, rss_appended *last)
{
    if (count > 0 && !rssi_is_struct(events))
        return rssi_misuse("struct_size of rss_new_event is not set: it must be sizeof(rss_new_event)");
    return rssi_call(store, RSSI_FN_event_append_many, last, aggregate_type, aggregate_id, events, count, expected);
}

int rss_event_load_snapshot(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                            int64_t schema_version, int64_t to_version, rss_snapshot *snapshot, char **state_json)
{
    void *outs[2];

    outs[0] = snapshot;
    outs[1] = state_json;
    return rssi_call(store, RSSI_FN_event_load_snapshot, outs, aggregate_type, aggregate_id, schema_version,
                     to_version);
}
