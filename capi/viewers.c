/* Viewers. */
#include "core.h"

int rss_viewer_join(rss_store *store, int64_t stream_id, const char *viewer_id, int64_t expiry_ms,
                    rss_viewer_count *count)
{
    return rssi_call(store, RSSI_FN_viewer_join, count, stream_id, viewer_id, expiry_ms);
}

int rss_viewer_heartbeat(rss_store *store, int64_t stream_id, const char *viewer_id, int64_t expiry_ms,
                         rss_viewer_count *count)
{
    return rssi_call(store, RSSI_FN_viewer_heartbeat, count, stream_id, viewer_id, expiry_ms);
}

int rss_viewer_leave(rss_store *store, int64_t stream_id, const char *viewer_id, rss_viewer_count *count)
{
    return rssi_call(store, RSSI_FN_viewer_leave, count, stream_id, viewer_id);
}

int rss_viewer_set(rss_store *store, int64_t stream_id, int64_t viewers, const char *source, int64_t expiry_ms,
                   rss_viewer_count *count)
{
    return rssi_call(store, RSSI_FN_viewer_set, count, stream_id, viewers, source, expiry_ms);
}

int rss_viewer_get(rss_store *store, int64_t stream_id, rss_viewer_figures *figures)
{
    return rssi_call(store, RSSI_FN_viewer_get, figures, stream_id);
}

int rss_viewer_top(rss_store *store, int64_t limit, const rss_ranked_stream *after, rss_rows **rows)
{
    if (after != NULL && (!rssi_is_struct(after) || after->struct_size < sizeof *after)) {
        if (rows != NULL)
            *rows = NULL;
        return rssi_misuse("struct_size of rss_ranked_stream is not set: it must be sizeof(rss_ranked_stream)");
    }
    return rssi_call(store, RSSI_FN_viewer_top, rows, limit, after == NULL ? RSS_NONE : after->stream_id,
                     after == NULL ? RSS_NONE : after->viewers);
}

int rss_viewer_flush(rss_store *store)
{
    return rssi_call(store, RSSI_FN_viewer_flush, NULL);
}
