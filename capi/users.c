/* Users. */
#include "core.h"

int rss_user_create(rss_store *store, const char *username, const char *email, const char *password,
                    const char *display_name, const char *avatar_url, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_create, user, username, email, password, display_name, avatar_url);
}

int rss_user_get(rss_store *store, int64_t user_id, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_get, user, user_id);
}

int rss_user_get_by_username(rss_store *store, const char *username, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_get_by_username, user, username);
}

int rss_user_get_by_email(rss_store *store, const char *email, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_get_by_email, user, email);
}

int rss_user_list(rss_store *store, int64_t after_id, int64_t limit, rss_rows **rows)
{
    return rssi_call(store, RSSI_FN_user_list, rows, after_id, limit);
}

int rss_user_update_profile(rss_store *store, int64_t user_id, const char *display_name, const char *avatar_url,
                            rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_update_profile, user, user_id, display_name, avatar_url);
}

int rss_user_set_email(rss_store *store, int64_t user_id, const char *email, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_set_email, user, user_id, email);
}

int rss_user_set_password(rss_store *store, int64_t user_id, const char *password, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_set_password, user, user_id, password);
}

int rss_user_authenticate(rss_store *store, const char *login, const char *password, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_authenticate, user, login, password);
}

int rss_user_record_login(rss_store *store, int64_t user_id, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_record_login, user, user_id);
}

int rss_user_verify(rss_store *store, int64_t user_id, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_verify, user, user_id);
}

int rss_user_activate(rss_store *store, int64_t user_id, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_activate, user, user_id);
}

int rss_user_deactivate(rss_store *store, int64_t user_id, rss_user *user)
{
    return rssi_call(store, RSSI_FN_user_deactivate, user, user_id);
}

int rss_user_delete(rss_store *store, int64_t user_id)
{
    return rssi_call(store, RSSI_FN_user_delete, NULL, user_id);
}
