/* Login sessions. */
#include "core.h"

int rss_session_validate(rss_store *store, const char *token, rss_session *session)
{
    return rssi_call(store, RSSI_FN_session_validate, session, token);
}

int rss_session_touch(rss_store *store, const char *token, rss_session *session)
{
    return rssi_call(store, RSSI_FN_session_touch, session, token);
}

int rss_session_revoke(rss_store *store, const char *token)
{
    return rssi_call(store, RSSI_FN_session_revoke, NULL, token);
}

int rss_session_revoke_hash(rss_store *store, const unsigned char *token_hash)
{
    return rssi_call(store, RSSI_FN_session_revoke_hash, NULL, token_hash);
}

int rss_session_revoke_all(rss_store *store, int64_t user_id, const char *except_token, int64_t *count)
{
    return rssi_call(store, RSSI_FN_session_revoke_all, count, user_id, except_token);
}

int rss_session_delete_expired(rss_store *store, int64_t batch, int64_t *count)
{
    return rssi_call(store, RSSI_FN_session_delete_expired, count, batch);
}

int rss_session_create(rss_store *store, int64_t user_id, int64_t lifetime_s, const char *device_id,
                       const char *user_agent, const char *ip_address, char *token, size_t token_size,
                       rss_session *session)
{
    struct rssi_secret secret = {token, token_size};
    void *outs[2];

    outs[0] = session;
    outs[1] = &secret;
    return rssi_call(store, RSSI_FN_session_create, outs, user_id, lifetime_s, device_id, user_agent, ip_address);
}

int rss_session_list_active(rss_store *store, int64_t user_id, const rss_session *before, int64_t limit,
                            rss_rows **rows)
{
    if (before != NULL && (!rssi_is_struct(before) || before->struct_size < offsetof(rss_session, device_id))) {
        if (rows != NULL)
            *rows = NULL;
        return rssi_misuse("struct_size of rss_session is not set: it must be sizeof(rss_session)");
    }
    return rssi_call(store, RSSI_FN_session_list_active, rows, user_id,
                     before == NULL ? RSS_NONE : before->created_at, before == NULL ? NULL : before->token_hash,
                     limit);
}
