/* Recordings. */
#include "core.h"

int rss_recording_create(rss_store *store, int64_t stream_id, const char *file_path, int64_t session_id,
                         const char *codec, const char *resolution, double fps, int64_t bitrate_kbps,
                         int64_t expires_at, rss_recording *recording)
{
    return rssi_call(store, RSSI_FN_recording_create, recording, stream_id, file_path, session_id, codec,
                     resolution, fps, bitrate_kbps, expires_at);
}

int rss_recording_get(rss_store *store, int64_t stream_id, int64_t recording_id, rss_recording *recording)
{
    return rssi_call(store, RSSI_FN_recording_get, recording, stream_id, recording_id);
}

int rss_recording_list_by_stream(rss_store *store, int64_t stream_id, int64_t after_id, int64_t limit,
                                 rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_recording_list_by_stream, rows, stream_id, after_id, limit);
}

int rss_recording_list_by_session(rss_store *store, int64_t stream_id, int64_t session_id, int64_t after_id,
                                  int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_recording_list_by_session, rows, stream_id, session_id, after_id, limit);
}

int rss_recording_list_expired(rss_store *store, int64_t now, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_recording_list_expired, rows, now, limit);
}

int rss_recording_finish(rss_store *store, int64_t stream_id, int64_t recording_id, int64_t file_size_bytes,
                         int64_t duration_seconds, rss_recording *recording)
{
    return rssi_call(store, RSSI_FN_recording_finish, recording, stream_id, recording_id, file_size_bytes,
                     duration_seconds);
}

int rss_recording_mark_processed(rss_store *store, int64_t stream_id, int64_t recording_id,
                                 rss_recording *recording)
{
    return rssi_call(store, RSSI_FN_recording_mark_processed, recording, stream_id, recording_id);
}

int rss_recording_set_available(rss_store *store, int64_t stream_id, int64_t recording_id, int is_available,
                                rss_recording *recording)
{
    return rssi_call(store, RSSI_FN_recording_set_available, recording, stream_id, recording_id, is_available);
}

int rss_recording_delete(rss_store *store, int64_t stream_id, int64_t recording_id)
{
    return rssi_call(store, RSSI_FN_recording_delete, NULL, stream_id, recording_id);
}
