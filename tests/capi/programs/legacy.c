/* A program of the former C layer: it knows the old header only. */
#include "rootstream_legacy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                          \
    do {                                                          \
        if (!(condition)) {                                       \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            return 1;                                             \
        }                                                         \
    } while (0)

static int database(const char *url)
{
    DatabaseManager *manager = NULL, *second = NULL;
    char *json = NULL;
    int i;

    CHECK(database_manager_init(NULL, url, 2) < 0);
    CHECK(database_manager_init(&manager, NULL, 2) < 0 && manager == NULL);
    CHECK(database_manager_init(&manager, "host=/nonexistent dbname=x", 2) < 0 && manager == NULL);
    CHECK(database_manager_is_connected(NULL) == 0);
    CHECK(database_manager_init(&manager, url, 2) == 0 && manager != NULL);
    CHECK(database_manager_is_connected(manager) == 1);
    CHECK(database_manager_run_migrations(manager, NULL) == 0);
    CHECK(database_manager_run_migrations(manager, NULL) == 0);
    CHECK(database_manager_run_migrations(manager, "/nonexistent") < 0);
    CHECK(database_manager_execute(manager, "CREATE TABLE t (id int, name text, score float8, ok bool)") == 0);
    CHECK(database_manager_execute(manager, "INSERT INTO t VALUES (1, 'a', 1.5, true), (2, NULL, NULL, false)") == 2);
    CHECK(database_manager_execute(manager, "UPDATE t SET id = id; SELECT 1") == 1);
    CHECK(database_manager_execute(manager, "SELECT nothing") < 0);
    CHECK(database_manager_execute(manager, NULL) < 0);
    CHECK(database_manager_query(manager, "SELECT *, '' AS empty, 7 AS id FROM t ORDER BY t.id", &json) == 0);
    puts(json);
    free(json);
    json = (char *)manager;
    CHECK(database_manager_query(manager, "SELECT * FROM none", &json) < 0 && json == NULL);
    CHECK(database_manager_query(manager, "SELECT 1 WHERE false", &json) == 0 && strcmp(json, "[]") == 0);
    free(json);
    CHECK(database_manager_query(manager, "COPY t TO STDOUT", &json) < 0);
    for (i = 0; i < 10; i++) /* more failures than connections, and transactions left open */
        CHECK(database_manager_execute(manager, i % 2 ? "BEGIN" : "INSERT INTO users DEFAULT VALUES") <= 0);
    CHECK(database_manager_query(manager, "SELECT count(*) AS n FROM t", &json) == 0);
    CHECK(strcmp(json, "[{\"n\":2}]") == 0);
    free(json);
    CHECK(database_manager_init(&second, url, 0) == 0);
    database_manager_cleanup(second);
    database_manager_cleanup(manager);
    CHECK(database_manager_execute(manager, "SELECT 1") < 0);
    CHECK(database_manager_is_connected(manager) == 0);
    database_manager_cleanup(manager);
    database_manager_cleanup(NULL);
    database_manager_cleanup((DatabaseManager *)(void *)&i);
    return 0;
}

static int cache(const char *host, uint16_t port)
{
    RedisClient *client = NULL;
    char *value = NULL;

    CHECK(redis_client_init(&client, "/nonexistent", 1) < 0 && client == NULL);
    CHECK(redis_client_init(&client, NULL, 1) < 0);
    CHECK(redis_client_init(&client, "127.0.0.1", 0) == -24 && client == NULL); /* not whatever is on 6379 */
    CHECK(redis_client_init(&client, host, port) == 0 && client != NULL);
    CHECK(redis_client_is_connected(client) == 1);
    CHECK(redis_client_set(client, "k\xC3\xA4", "v", 0) == 0);
    CHECK(redis_client_get(client, "k\xC3\xA4", &value) == 0 && strcmp(value, "v") == 0);
    free(value);
    CHECK(redis_client_set(client, "brief", "", 60) == 0);
    CHECK(redis_client_get(client, "brief", &value) == 0 && strcmp(value, "") == 0);
    free(value);
    CHECK(redis_client_get(client, "missing", &value) == -21 && value == NULL);
    CHECK(redis_client_del(client, "brief") == 0);
    CHECK(redis_client_del(client, "brief") == 0);
    CHECK(redis_client_get(client, "brief", &value) == -21);
    CHECK(redis_client_set(client, NULL, "x", 0) < 0);
    CHECK(redis_client_set(client, "x", NULL, 0) < 0);
    redis_client_cleanup(client);
    CHECK(redis_client_get(client, "x", &value) < 0 && value == NULL);
    CHECK(redis_client_is_connected(client) == 0);
    redis_client_cleanup(client);
    redis_client_cleanup(NULL);
    return 0;
}

int main(int count, char **arguments)
{
    if (count < 3 || database(arguments[1]) != 0 || cache(arguments[2], 6379) != 0)
        return 1;
    printf("ok\n");
    return 0;
}
