/* Billing accounts. */
#include "core.h"

int rss_billing_open(rss_store *store, int64_t user_id, const char *subscription_tier, const char *payment_method,
                     int64_t monthly_limit_gb, rss_billing_account *account)
{
    return rssi_call(store, RSSI_FN_billing_open, account, user_id, subscription_tier, payment_method,
                     monthly_limit_gb);
}

int rss_billing_get(rss_store *store, int64_t user_id, rss_billing_account *account)
{
    return rssi_call(store, RSSI_FN_billing_get, account, user_id);
}

int rss_billing_set_tier(rss_store *store, int64_t user_id, const char *subscription_tier, int64_t monthly_limit_gb,
                         rss_billing_account *account)
{
    return rssi_call(store, RSSI_FN_billing_set_tier, account, user_id, subscription_tier, monthly_limit_gb);
}

int rss_billing_set_payment_method(rss_store *store, int64_t user_id, const char *payment_method,
                                   rss_billing_account *account)
{
    return rssi_call(store, RSSI_FN_billing_set_payment_method, account, user_id, payment_method);
}

int rss_billing_get_quota(rss_store *store, int64_t user_id, int64_t month, rss_quota *quota)
{
    return rssi_call(store, RSSI_FN_billing_get_quota, quota, user_id, month);
}

int rss_billing_delete(rss_store *store, int64_t user_id)
{
    return rssi_call(store, RSSI_FN_billing_delete, NULL, user_id);
}
