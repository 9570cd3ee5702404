/* Migrations, and statements of the caller's own. */
#include "core.h"

int rss_migrate(rss_store *store, const char *path, const char *line, int64_t *count)
{
    return rssi_call(store, RSSI_FN_migrate, count, path, line);
}

int rss_migration_status_json(rss_store *store, const char *path, const char *line, char **status_json)
{
    return rssi_call(store, RSSI_FN_migration_status, status_json, path, line);
}

int rss_query_json(rss_store *store, const char *sql, const char *parameters_json, char **rows_json, int64_t *count)
{
    void *outs[2];

    outs[0] = rows_json;
    outs[1] = count;
    return rssi_call(store, RSSI_FN_query, outs, sql, parameters_json);
}
