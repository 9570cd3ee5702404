/* Stream sessions. */
#include "core.h"

int rss_stream_session_get(rss_store *store, int64_t stream_id, int64_t session_id, rss_stream_session *session)
{
    return rssi_call(store, RSSI_FN_stream_session_get, session, stream_id, session_id);
}

int rss_stream_session_get_current(rss_store *store, int64_t stream_id, rss_stream_session *session)
{
    return rssi_call(store, RSSI_FN_stream_session_get_current, session, stream_id);
}

int rss_stream_session_list(rss_store *store, int64_t stream_id, int64_t before_id, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_stream_session_list, rows, stream_id, before_id, limit);
}

int rss_stream_session_add_viewers(rss_store *store, int64_t stream_id, int64_t joined, int64_t left,
                                   int64_t *watching)
{
    return rssi_call(store, RSSI_FN_stream_session_add_viewers, watching, stream_id, joined, left);
}

int rss_stream_session_add_bytes(rss_store *store, int64_t stream_id, int64_t count, int64_t *total)
{
    return rssi_call(store, RSSI_FN_stream_session_add_bytes, total, stream_id, count);
}

int rss_stream_session_end(rss_store *store, int64_t stream_id, int64_t session_id, rss_stream_session *session)
{
    return rssi_call(store, RSSI_FN_stream_session_end, session, stream_id, session_id);
}
