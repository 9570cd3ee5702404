/* The names of the former C layer. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

static void end(const void *handle, enum rssi_kind kind, enum rssi_fn close)
{
    struct rssi_guard guard;
    struct rssi_slot *slot;
    int code = rssi_enter(&guard, RSSI_IO);

    if (code == RSS_OK && handle != NULL && (code = rssi_begin_close(handle, kind, &slot)) == RSS_OK) {
        (void)rssi_call_object(slot->object, close, NULL);
        code = rssi_finish(slot, 5000);
    }
    rssi_leave(&guard, code);
}

/* 1 or 0, whatever goes wrong. */
static int is_connected(const void *handle, enum rssi_kind kind, enum rssi_fn fn)
{
    int is_well = 0;

    return rssi_call_on(handle, kind, fn, &is_well) == RSS_OK && is_well;
}

int database_manager_init(DatabaseManager **manager, const char *connStr, size_t poolSize)
{
    if (manager == NULL)
        return rssi_misuse("manager is NULL");
    *manager = NULL;
    if (connStr == NULL)
        return rssi_misuse("connStr is NULL");
    return rssi_call_free(RSSI_FN_legacy_database_open, manager, connStr,
                          poolSize > INT32_MAX ? (int64_t)INT32_MAX : (int64_t)poolSize);
}

int database_manager_execute(DatabaseManager *manager, const char *query)
{
    int64_t count = 0;
    int code = rssi_call_on(manager, RSSI_DATABASE, RSSI_FN_legacy_execute, &count, query);

    if (code < 0)
        return code;
    return count > INT32_MAX ? INT32_MAX : (int)count;
}

int database_manager_query(DatabaseManager *manager, const char *query, char **resultJson)
{
    if (resultJson != NULL)
        *resultJson = NULL;
    return rssi_call_on(manager, RSSI_DATABASE, RSSI_FN_legacy_query, resultJson, query);
}

int database_manager_run_migrations(DatabaseManager *manager, const char *path)
{
    return rssi_call_on(manager, RSSI_DATABASE, RSSI_FN_legacy_migrate, NULL, path);
}

int database_manager_is_connected(DatabaseManager *manager)
{
    return is_connected(manager, RSSI_DATABASE, RSSI_FN_legacy_is_connected);
}

void database_manager_cleanup(DatabaseManager *manager)
{
    end(manager, RSSI_DATABASE, RSSI_FN_legacy_close);
}

int redis_client_init(RedisClient **client, const char *host, uint16_t port)
{
    if (client == NULL)
        return rssi_misuse("client is NULL");
    *client = NULL;
    if (host == NULL)
        return rssi_misuse("host is NULL");
    return rssi_call_free(RSSI_FN_legacy_redis_open, client, host, (int64_t)port);
}

int redis_client_set(RedisClient *client, const char *key, const char *value, uint32_t ttl_seconds)
{
    if (value == NULL)
        return rssi_misuse("value is NULL");
    return rssi_call_on(client, RSSI_REDIS, RSSI_FN_legacy_redis_set, NULL, key, value, strlen(value),
                        ttl_seconds == 0 ? RSS_NONE : (int64_t)ttl_seconds * 1000);
}

int redis_client_get(RedisClient *client, const char *key, char **value)
{
    int code;

    if (value != NULL)
        *value = NULL;
    code = rssi_call_on(client, RSSI_REDIS, RSSI_FN_legacy_redis_get, value, key);
    return code == RSS_NOTHING ? rssi_error(RSS_E_NOT_FOUND, "there is no such key") : code;
}

int redis_client_del(RedisClient *client, const char *key)
{
    return rssi_call_on(client, RSSI_REDIS, RSSI_FN_legacy_redis_del, NULL, key);
}

int redis_client_is_connected(RedisClient *client)
{
    return is_connected(client, RSSI_REDIS, RSSI_FN_legacy_redis_is_connected);
}

void redis_client_cleanup(RedisClient *client)
{
    end(client, RSSI_REDIS, RSSI_FN_legacy_redis_close);
}
