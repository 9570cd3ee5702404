/* Streams. */
#include "core.h"

int rss_stream_get(rss_store *store, int64_t stream_id, rss_stream *stream)
{
    return rssi_call(store, RSSI_FN_stream_get, stream, stream_id);
}

int rss_stream_get_by_key(rss_store *store, const char *key, rss_stream *stream)
{
    return rssi_call(store, RSSI_FN_stream_get_by_key, stream, key);
}

int rss_stream_list_by_user(rss_store *store, int64_t user_id, int64_t after_id, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_stream_list_by_user, rows, user_id, after_id, limit);
}

int rss_stream_list_live(rss_store *store, int64_t after_id, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_stream_list_live, rows, after_id, limit);
}

int rss_stream_update(rss_store *store, int64_t stream_id, const char *name, const char *description,
                      const char *stream_url, const char *thumbnail_url, int is_public, rss_stream *stream)
{
    return rssi_call(store, RSSI_FN_stream_update, stream, stream_id, name, description, stream_url, thumbnail_url,
                     is_public);
}

int rss_stream_start(rss_store *store, int64_t stream_id, int64_t bitrate_kbps, const char *resolution, double fps,
                     const char *codec, int is_recorded, const char *recording_path,
                     struct rss_stream_session *session)
{
    return rssi_call(store, RSSI_FN_stream_start, session, stream_id, bitrate_kbps, resolution, fps, codec,
                     is_recorded, recording_path);
}

int rss_stream_stop(rss_store *store, int64_t stream_id, struct rss_stream_session *session)
{
    return rssi_call(store, RSSI_FN_stream_stop, session, stream_id);
}

int rss_stream_update_stats(rss_store *store, int64_t stream_id, int64_t viewer_count, int64_t bitrate_kbps,
                            const char *resolution, double fps, const char *codec, int64_t bytes_sent,
                            rss_stream *stream)
{
    return rssi_call(store, RSSI_FN_stream_update_stats, stream, stream_id, viewer_count, bitrate_kbps, resolution,
                     fps, codec, bytes_sent);
}

int rss_stream_is_live(rss_store *store, int64_t stream_id, int *is_live)
{
    return rssi_call(store, RSSI_FN_stream_is_live, is_live, stream_id);
}

int rss_stream_get_viewer_count(rss_store *store, int64_t stream_id, int64_t *count)
{
    return rssi_call(store, RSSI_FN_stream_get_viewer_count, count, stream_id);
}

int rss_stream_delete(rss_store *store, int64_t stream_id)
{
    return rssi_call(store, RSSI_FN_stream_delete, NULL, stream_id);
}

int rss_stream_create(rss_store *store, int64_t user_id, const char *name, const char *description,
                      const char *stream_url, const char *thumbnail_url, int is_public, char *key, size_t key_size,
                      rss_stream *stream)
{
    struct rssi_secret secret = {key, key_size};
    void *outs[2];

    outs[0] = stream;
    outs[1] = &secret;
    return rssi_call(store, RSSI_FN_stream_create, outs, user_id, name, description, stream_url, thumbnail_url,
                     is_public);
}

int rss_stream_get_key(rss_store *store, int64_t stream_id, char *key, size_t key_size)
{
    struct rssi_secret secret = {key, key_size};

    return rssi_call(store, RSSI_FN_stream_get_key, &secret, stream_id);
}

int rss_stream_rotate_key(rss_store *store, int64_t stream_id, char *key, size_t key_size)
{
    struct rssi_secret secret = {key, key_size};

    return rssi_call(store, RSSI_FN_stream_rotate_key, &secret, stream_id);
}
