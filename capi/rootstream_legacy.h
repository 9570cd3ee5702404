/* rootstream_legacy.h: the names of RootStream's former C layer, so that old programs link again without edits.
 *
 * New programs use rootstream_store.h, which tells errors apart and has typed calls. What is new beneath the old
 * signatures: every wait is bounded; a failed call leaves nothing behind that a later one would hang on; a server
 * that was away is found again; JSON values keep their types.
 *
 * Functions return 0 (or a number, where they say so), and a negative number for an error: the RSS_E_ codes of
 * rootstream_store.h, whose rss_last_error() tells the reason, too. They may be called from any thread. Inputs are
 * NUL-terminated UTF-8. A NULL, or a manager or client that was cleaned up, gives a negative number, never a crash.
 */
#ifndef ROOTSTREAM_LEGACY_H
#define ROOTSTREAM_LEGACY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* PostgreSQL. Opaque. */
typedef struct DatabaseManager DatabaseManager;

/* Opens at most poolSize connections (0: 8). connStr: libpq connection string, URL or key=value. *manager is NULL
 * after an error; one that has succeeded is ended with database_manager_cleanup. Fails when the server cannot be
 * reached. */
int database_manager_init(DatabaseManager **manager, const char *connStr, size_t poolSize);
/* Runs SQL, of one or more statements, and returns how many rows the last one changed or answered with; at most
 * 2^31-1. Several statements are one transaction where they say nothing else. Each call takes any connection of the
 * pool: a transaction that it leaves open is rolled back, and what it SETs holds for that connection alone. */
int database_manager_execute(DatabaseManager *manager, const char *query);
/* Runs SQL and gives the rows of the last statement as a JSON array of objects; "[]" where it has none. Numbers,
 * booleans, null and JSON keep their types; a second column of the same name is called name_2. Returns 0. The caller
 * frees *resultJson with free(); it is NULL after an error. */
int database_manager_query(DatabaseManager *manager, const char *query, char **resultJson);
/* Applies what is pending of the SQL files NNNN_name.sql in the directory path. NULL: the library's own. Returns 0,
 * also when nothing was pending. */
int database_manager_run_migrations(DatabaseManager *manager, const char *path);
/* 1: a statement was answered just now. 0: no. */
int database_manager_is_connected(DatabaseManager *manager);
/* Ends it. NULL, or one that was ended before: does nothing. */
void database_manager_cleanup(DatabaseManager *manager);

/* Redis. Opaque. */
typedef struct RedisClient RedisClient;

/* host: a name, an address, or the path of a unix socket (port is then not used). port: 1 to 65535; Redis has 6379.
 * *client is NULL after an error. Fails when the server does not answer. */
int redis_client_init(RedisClient **client, const char *host, uint16_t port);
/* ttl_seconds: 0: it does not expire. Returns 0. */
int redis_client_set(RedisClient *client, const char *key, const char *value, uint32_t ttl_seconds);
/* Returns 0 and the value, which the caller frees with free(). When there is no such key *value is NULL and the code is
 * RSS_E_NOT_FOUND (-21), which no other failure gives. A value that holds a NUL ends there for a reader of text. */
int redis_client_get(RedisClient *client, const char *key, char **value);
/* Returns 0, also when there was no such key. */
int redis_client_del(RedisClient *client, const char *key);
/* 1: the server answered just now. 0: no. */
int redis_client_is_connected(RedisClient *client);
/* Ends it. NULL, or one that was ended before: does nothing. */
void redis_client_cleanup(RedisClient *client);

#ifdef __cplusplus
}
#endif

#endif
