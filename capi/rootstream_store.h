/* rootstream_store.h: users, streams, events and live state of RootStream for native code.
 *
 * This header is the manual. The library runs the functions of the Python package rootstream_store in an
 * interpreter inside the process: the same SQL, the same checks, the same errors.
 *
 *     rss_store *store;
 *     rss_user user = RSS_USER_INIT;
 *     if (rss_open("postgresql://app@db/rootstream", "redis://cache/0", NULL, &store) != RSS_OK)
 *         die(rss_last_error()->message);
 *     if (rss_user_get(store, 7, &user) == RSS_OK)
 *         puts(user.username);
 *     rss_close(store, 5000);
 *
 * Compile and link with `pkg-config --cflags --libs rootstream_store`, or with what
 * `python -m rootstream_store.capi --cflags --libs` prints.
 *
 * ---- What holds for every function
 *
 * Return value. RSS_OK (0), or RSS_NOTHING (1) where the function says so, or one of the negative RSS_E_ codes.
 *     After a negative one rss_last_error() tells the rest. Each function names the errors that a caller
 *     expects of it. These may come from all of them: RSS_E_CLOSED, RSS_E_MISUSE, RSS_E_FORKED,
 *     RSS_E_NO_MEMORY, RSS_E_INTERNAL; and from those that ask PostgreSQL: RSS_E_UNAVAILABLE, RSS_E_TIMEOUT,
 *     RSS_E_PERMISSION, RSS_E_DATABASE.
 * Outputs. The last parameters. Every output may be NULL: it is then not wanted. After an error outputs are
 *     as they were, but for handles, which are NULL.
 * Text. NUL-terminated UTF-8. Anything else in an input gives RSS_E_INVALID_INPUT; nothing is cut or replaced.
 *     NULL means none; where there must be some that is RSS_E_INVALID_INPUT, too. Strings that you pass are
 *     copied before the call returns.
 * Numbers. int64_t, with its unit at each parameter. RSS_NONE means none or not known, in inputs where the
 *     function allows it and in outputs; for doubles it is RSS_NONE_F64.
 * Times. int64_t, microseconds since 1970-01-01 00:00 UTC, the years 1 to 9999.
 * Flags. int, 0 or not 0. In outputs 0 or 1.
 * Partial updates. RSS_KEEP (text), RSS_KEEP_INT, RSS_KEEP_F64 and RSS_KEEP_FLAG leave the value as it is.
 * Structs. Begin with struct_size: set it to sizeof before the call (the RSS_…_INIT macros do). A program built
 *     with an older header gets the fields that it knows, one with a newer header gets zeros in those that this
 *     library does not know. Text fields are always NUL-terminated. A text that does not fit is cut between
 *     characters, and its bit in `truncated` is set: bit n for the struct's n-th text field, from 0. The
 *     field has_x is 0 where the text x is none, which is not the same as empty.
 * JSON. Texts named …_json. Objects and arrays go in and come out with their types: numbers, true, false, null.
 * Memory. What a function hands out as char ** is yours: free it with rss_free(). Handles have a function of
 *     their own that ends them. Nothing else is yours to free.
 * Handles. Opaque, checked at every call: one that was closed gives RSS_E_CLOSED, what never was one or is of
 *     another kind gives RSS_E_MISUSE. Neither touches memory.
 * Threads. Every function may be called from any thread at any time, unless it says otherwise. Calls run side
 *     by side as far as the pool has connections (pool_size). They are not for real-time threads, since they
 *     wait for servers and for Python's lock; those have the queue, see "The queue". Not from signal handlers.
 *     A call is no cancellation point: pthread_cancel takes effect after it.
 * Processes. After fork() the child must not use what the parent opened: every function gives RSS_E_FORKED
 *     there, at once; so also after a start that failed, where it had come as far as to start a Python. A child that
 *     starts another program (exec) needs no care.
 * Signals, locale, standard streams, environment of the process are left as they are. A broken connection
 *     raises no SIGPIPE. The interpreter is never ended: exit() needs no preparation, and dlclose() is harmless.
 */
#ifndef ROOTSTREAM_STORE_H
#define ROOTSTREAM_STORE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Of this header. rss_version() tells of the library. The first number is the ABI, and part of its file name
 * (librootstream_store.so.1): within it functions and fields are only added. */
#define RSS_VERSION_MAJOR 1
#define RSS_VERSION_MINOR 0
#define RSS_VERSION_PATCH 0

/* ---- Codes. A code keeps its number for ever. */

#define RSS_OK 0
#define RSS_NOTHING 1 /* no (further) row, value or message; not an error */

/* Of the library itself. */
#define RSS_E_MISUSE (-1)    /* a NULL, a handle or a struct_size that cannot be */
#define RSS_E_INIT (-2)      /* Python, or the package, cannot be started: the text says what was tried */
#define RSS_E_FORKED (-3)    /* called in a child process of the one that opened the library */
#define RSS_E_CLOSED (-4)    /* the store (or what the handle stood for) was closed: StoreClosed in Python */
#define RSS_E_NO_MEMORY (-5)
#define RSS_E_INTERNAL (-6)  /* an error that should not be: please report its text */
#define RSS_E_QUEUE_FULL (-7)
#define RSS_E_BUFFER (-8)    /* a buffer of the caller's is too small for what must be whole, such as a key */

/* One for each class of errors in Python (rootstream_store/errors.py). */
#define RSS_E_ERROR (-20)           /* RootStreamError, none of the following */
#define RSS_E_NOT_FOUND (-21)       /* NotFound: no row has this key */
#define RSS_E_TOO_MANY_ROWS (-22)   /* TooManyRows: a query of one row gave more; the query is wrong */
#define RSS_E_ALREADY_EXISTS (-23)  /* AlreadyExists: a unique value is taken; `field` names it */
#define RSS_E_INVALID_INPUT (-24)   /* InvalidInput: a value breaks a rule; `field` names it */
#define RSS_E_CONFLICT (-25)        /* Conflict: the state does not allow it, or another writer came first */
#define RSS_E_VERSION_CONFLICT (-26) /* VersionConflict: the aggregate is at another version than expected */
#define RSS_E_AUTHENTICATION (-27)  /* AuthenticationFailed: unknown login, wrong password, no good token */
#define RSS_E_PERMISSION (-28)      /* PermissionDenied: the role, or the user's state, does not allow it */
#define RSS_E_UNAVAILABLE (-29)     /* Unavailable: a server cannot be reached or was lost */
#define RSS_E_TIMEOUT (-30)         /* Timeout: a wait came to its limit; nothing was applied */
#define RSS_E_SETTINGS (-31)        /* SettingsError: a setting is missing or cannot work */
#define RSS_E_QUERY (-32)           /* QueryError: a statement is wrong */
#define RSS_E_MIGRATION (-33)       /* MigrationError: a migration cannot be applied; the text names the file */
#define RSS_E_DATABASE (-34)        /* DatabaseError: PostgreSQL refused for another reason; see sqlstate */

/* ---- Values that stand for none, and for leave-as-it-is. */

#define RSS_NONE INT64_MIN
#define RSS_NONE_F64 (-1.7976931348623157e308)
#define RSS_KEEP ((const char *)-1)
#define RSS_KEEP_INT (INT64_MIN + 1)
#define RSS_KEEP_F64 (-1.7976931348623155e308)
#define RSS_KEEP_FLAG (-1)

/* ---- Errors */

typedef struct rss_error {
    size_t struct_size;     /* of the library's struct */
    int32_t code;           /* RSS_OK: the last call of this thread was no failure */
    int32_t retryable;      /* 1: the same call may succeed later with nothing changed */
    int32_t outcome_unknown; /* 1: the connection was lost after a write was sent: it may have been applied */
    const char *message;    /* one or more lines, without secrets */
    const char *sqlstate;   /* five characters (PostgreSQL manual, appendix A); "" where it had no part */
    const char *constraint; /* that refused the row; "" where none did */
    const char *field;      /* the value at fault; "" where none is named */
} rss_error;

/* The error of this thread's last call of a function of this library, other than the ones of this section.
 * Never NULL; its texts are never NULL. It is the thread's own, and valid until the thread's next call. */
const rss_error *rss_last_error(void);

/* The name of a code, such as "RSS_E_NOT_FOUND"; "RSS_E_?" for a number that is none. Static text. */
const char *rss_code_name(int code);

/* Frees what a function handed out as char **. NULL: does nothing. */
void rss_free(void *memory);

/* ---- Start */

typedef struct rss_init_options {
    size_t struct_size;
    const char *python; /* the interpreter of the environment that has the package, such as
                           "/srv/app/.venv/bin/python"; NULL: found as told at rss_init */
    int32_t use_malloc; /* 1: Python takes its memory from malloc, for leak checkers; slower */
    int32_t reserved;   /* 0 */
} rss_init_options;
#define RSS_INIT_OPTIONS_INIT { sizeof(rss_init_options), 0, 0, 0 }

/* Starts the interpreter and finds the package. Not needed: the first rss_open does it in the same way. It
 * takes about 0.2 s. Once it has succeeded later calls do nothing, whatever their options.
 *
 * options: NULL for the defaults. The environment is, of these, the first that is named: `python` of the
 *     options; the environment variable ROOTSTREAM_STORE_PYTHON; the virtual environment that the library file
 *     lies in; the one that built or installed it, which a file beside it names. Where the process runs Python
 *     already (the library was loaded into it), that interpreter is used, and the environment is searched for
 *     packages after its own. Other variables (PYTHONHOME, PYTHONPATH, PATH) have no say.
 * Errors: RSS_E_INIT, and nothing is printed. May be tried again with other options. */
int rss_init(const rss_init_options *options);

/* The library's version, "1.0.0". Static text. Starts nothing. */
const char *rss_version(void);
/* major * 10000 + minor * 100 + patch of the library. Starts nothing. */
int rss_version_number(void);

/* ---- Opening and closing */

/* A store: a pool of connections to PostgreSQL and a client of Redis. */
typedef struct rss_store rss_store;

#define RSS_OFF (-1) /* in rss_options: the setting's own 0, which means no limit, or never */

/* 0 or NULL: the default. Waits are bounded by default; see README.md, "Settings". */
typedef struct rss_options {
    size_t struct_size;
    const char *application_name;  /* shown in pg_stat_activity; default "rootstream_store" */
    int64_t pool_size;             /* most connections that this store opens; default 8 */
    int64_t pool_min_size;         /* connections kept open when idle; default 1; RSS_OFF: none */
    int64_t pool_timeout_ms;       /* longest wait for a free connection, then RSS_E_TIMEOUT; default 5000 */
    int64_t statement_timeout_ms;  /* the server cancels a longer statement; default 30000; RSS_OFF: no limit */
    int64_t lock_timeout_ms;       /* the same for a wait for a lock; default: statement_timeout bounds it */
    int64_t retry_deadline_ms;     /* how long what applied nothing is tried again; default 5000; RSS_OFF: never */
    int64_t redis_timeout_ms;      /* longest wait for one answer of Redis; default 250 */
    int64_t redis_pool_size;       /* most connections to Redis; default 64 */
    int32_t pgbouncer;             /* 1 behind PgBouncer in transaction pooling */
    int32_t queue_policy;          /* RSS_QUEUE_…: what the queue does when it is full; default RSS_QUEUE_FAIL */
    const char *settings_json;     /* further fields of Settings by their names in README.md, in their units:
                                      {"connect_timeout": 2}; they win over the fields above */
    int64_t queue_bytes;           /* room for queued events, 16 KiB to 16 GiB; default 4 MiB; RSS_OFF: no queue */
    int64_t queue_wait_ms;         /* of RSS_QUEUE_WAIT: the longest wait for room; < 0: no limit */
} rss_options;
#define RSS_OPTIONS_INIT { sizeof(rss_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Opens a store on running servers, and starts the library where rss_init was not called.
 *
 * database_url: libpq connection string, URL or key=value; NULL: the environment variable DATABASE_URL.
 * redis_url: redis://, rediss:// or unix:// URL; NULL: REDIS_URL, and where that is not set, or with "", there
 *     is no Redis and every answer comes from PostgreSQL. A Redis that is down is told by rss_health, not here.
 * options: NULL for the defaults.
 * store: end it with rss_close.
 * Errors: RSS_E_INIT; RSS_E_SETTINGS for a setting that cannot work; RSS_E_UNAVAILABLE when PostgreSQL cannot
 *     be reached; RSS_E_PERMISSION when it refuses the login. */
int rss_open(const char *database_url, const char *redis_url, const rss_options *options, rss_store **store);

/* Opens a store on a PostgreSQL and a Valkey of its own, started now, migrated, and stopped by rss_close: for
 * trying out and for tests. Needs the Python extra "embedded".
 *
 * path: where the data live; NULL: in a temporary directory that rss_close deletes.
 * Errors: RSS_E_INIT; RSS_E_SETTINGS when the servers are not installed or another process uses path. */
int rss_open_embedded(const char *path, const rss_options *options, rss_store **store);

/* Ends a store. New calls get RSS_E_CLOSED at once, those that wait for a connection soon; those in flight are
 * waited for. What hangs on the store (rows, subscriptions) stays valid and is ended by its own function.
 *
 * Before that the queue takes nothing more in (RSS_E_CLOSED), and what is in it is stored.
 *
 * store: NULL: does nothing.
 * timeout_ms: longest wait for what is queued and for calls in flight; < 0: no limit. A server that does not answer
 *     may make it up to 2 s longer.
 * Errors: RSS_E_TIMEOUT: calls are still in flight (a frozen server); the store is closed all the same, and
 *     freed when the last of them ends. RSS_E_CLOSED when it was closed before. */
int rss_close(rss_store *store, int64_t timeout_ms);

/* ---- Health */

#define RSS_HEALTH_OK 0
#define RSS_HEALTH_DEGRADED 1 /* PostgreSQL answers, but something is wrong: `reasons` tells */
#define RSS_HEALTH_DOWN 2     /* PostgreSQL does not answer */

typedef struct rss_health {
    size_t struct_size;
    uint32_t truncated;
    int32_t status;             /* RSS_HEALTH_… */
    int32_t postgres_reachable;
    int32_t redis_enabled;
    int32_t redis_reachable;
    int32_t reserved;
    double postgres_latency_ms; /* of one query; RSS_NONE_F64: not reachable */
    int64_t pool_size;          /* connections there are now */
    int64_t pool_in_use;
    int64_t pool_waiting;       /* calls that wait for one */
    int64_t migrations_pending; /* files still to be applied */
    char reasons[2048];         /* one line for each thing that is wrong; "" when ok */
} rss_health;
#define RSS_HEALTH_INIT { sizeof(rss_health), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* Asks both servers now how they are. A server that is down is told in `health`, not by an error. Waits at most
 * for about twice connect_timeout (2 s) for each address. */
int rss_get_health(rss_store *store, rss_health *health);
/* Goes into Python and back, and does nothing there: what every other call costs at least. For measuring. */
int rss_noop(rss_store *store);
/* All that Store.health() tells, as a JSON object. health_json: rss_free. */
int rss_get_health_json(rss_store *store, char **health_json);

/* ---- Rows: the answer of a function that lists
 *
 * All rows were fetched when the function returned; reading them asks no server and needs no lock. There is one
 * rss_…_next for each kind of row; another kind's gives RSS_E_MISUSE. Threads may share rows: each row goes to
 * one of them. */

typedef struct rss_rows rss_rows;

/* How many rows there are in all, read ones among them. -1 for a handle that is none. */
int64_t rss_rows_count(const rss_rows *rows);
/* Starts again with the first row. */
int rss_rows_rewind(rss_rows *rows);
/* Ends the rows. NULL: does nothing. RSS_E_CLOSED when they were ended before. */
int rss_rows_free(rss_rows *rows);

/* ---- Users
 *
 * Usernames and e-mail addresses are the same whatever their case. */

#define RSS_USERNAME_SIZE 260
#define RSS_EMAIL_SIZE 1020
#define RSS_DISPLAY_NAME_SIZE 516
#define RSS_URL_SIZE 2052

/* An account. The password hash never leaves the library. */
typedef struct rss_user {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_verified; /* the e-mail address was confirmed */
    int32_t is_active;   /* 0: may not log in, and every login session is refused */
    int32_t has_display_name;
    int32_t has_avatar_url;
    int32_t reserved;
    int64_t id;
    int64_t created_at;
    int64_t updated_at;
    int64_t last_login_at; /* RSS_NONE: never logged in */
    char username[RSS_USERNAME_SIZE];
    char email[RSS_EMAIL_SIZE];
    char display_name[RSS_DISPLAY_NAME_SIZE]; /* none: show the username */
    char avatar_url[RSS_URL_SIZE];
} rss_user;
#define RSS_USER_INIT { sizeof(rss_user), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, { 0 }, { 0 } }

/* A new account, active and not verified.
 * username: 1 to 64 characters. password: 8 to 1024 characters. display_name, avatar_url: may be NULL.
 * Takes about 0.1 s of processor time, for the hash of the password.
 * Errors: RSS_E_INVALID_INPUT, RSS_E_ALREADY_EXISTS (field "username" or "email"). */
int rss_user_create(rss_store *store, const char *username, const char *email, const char *password,
                    const char *display_name, const char *avatar_url, rss_user *user);
/* The user with this id. RSS_E_NOT_FOUND. */
int rss_user_get(rss_store *store, int64_t user_id, rss_user *user);
/* RSS_E_NOT_FOUND. */
int rss_user_get_by_username(rss_store *store, const char *username, rss_user *user);
/* RSS_E_NOT_FOUND. */
int rss_user_get_by_email(rss_store *store, const char *email, rss_user *user);
/* Users by id, at most limit (1 to 1000). after_id: the last one's of the page before; 0: from the first.
 * rows: read them with rss_user_next. */
int rss_user_list(rss_store *store, int64_t after_id, int64_t limit, rss_rows **rows);
/* The next user, or RSS_NOTHING. */
int rss_user_next(rss_rows *rows, rss_user *user);
/* Changes what is given; RSS_KEEP leaves it, NULL clears it. RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_user_update_profile(rss_store *store, int64_t user_id, const char *display_name, const char *avatar_url,
                            rss_user *user);
/* A new address is not verified. RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT, RSS_E_ALREADY_EXISTS. */
int rss_user_set_email(rss_store *store, int64_t user_id, const char *email, rss_user *user);
/* Changes the password (8 to 1024 characters) and revokes every login session of the user.
 * RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_user_set_password(rss_store *store, int64_t user_id, const char *password, rss_user *user);
/* The active user with this password; the login is noted. login: username or e-mail address.
 * RSS_E_AUTHENTICATION for an unknown login, a wrong password and an inactive user, never saying which: each
 * takes the time of one hash, about 0.1 s. RSS_E_INVALID_INPUT for what no password can be. */
int rss_user_authenticate(rss_store *store, const char *login, const char *password, rss_user *user);
/* Notes a login now that rss_user_authenticate had no part in. RSS_E_NOT_FOUND. */
int rss_user_record_login(rss_store *store, int64_t user_id, rss_user *user);
/* Notes that the e-mail address was confirmed. RSS_E_NOT_FOUND. */
int rss_user_verify(rss_store *store, int64_t user_id, rss_user *user);
/* Lets the user log in again; sessions that were revoked stay so. RSS_E_NOT_FOUND. */
int rss_user_activate(rss_store *store, int64_t user_id, rss_user *user);
/* Refuses every login of the user from now on, and revokes their sessions. RSS_E_NOT_FOUND. */
int rss_user_deactivate(rss_store *store, int64_t user_id, rss_user *user);
/* Deletes the user with sessions, streams, usage and billing account; the event log stays. A broadcast on air
 * ends. RSS_E_NOT_FOUND. */
int rss_user_delete(rss_store *store, int64_t user_id);

/* ---- Login sessions
 *
 * The client has the token, the database only its SHA-256. Times are those of the database's clock. */

#define RSS_TOKEN_SIZE 132 /* of a buffer for a token or a stream key: 43 to 128 characters, and the NUL */
#define RSS_HASH_SIZE 32
#define RSS_LIFETIME_DEFAULT 86400

typedef struct rss_session {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_active; /* 0: revoked */
    int32_t has_device_id;
    int32_t has_user_agent;
    int32_t has_ip_address;
    int32_t reserved;
    int64_t user_id;
    int64_t created_at;
    int64_t expires_at;
    int64_t last_activity;
    unsigned char token_hash[RSS_HASH_SIZE]; /* SHA-256 of the token; names the session */
    char device_id[1024];
    char user_agent[2052];
    char ip_address[64]; /* IPv4 or IPv6 */
} rss_session;
#define RSS_SESSION_INIT { sizeof(rss_session), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, { 0 }, { 0 } }

/* A new login session.
 * lifetime_s: seconds, above 0, at most 3650 days. device_id, user_agent, ip_address: may be NULL.
 * token: a buffer of token_size bytes for the token, which can never be shown again; RSS_TOKEN_SIZE is enough.
 * Errors: RSS_E_NOT_FOUND for an unknown user, RSS_E_PERMISSION for an inactive one, RSS_E_INVALID_INPUT;
 *     RSS_E_BUFFER: the token does not fit; then no session is made. */
int rss_session_create(rss_store *store, int64_t user_id, int64_t lifetime_s, const char *device_id,
                       const char *user_agent, const char *ip_address, char *token, size_t token_size,
                       rss_session *session);
/* The session of this token, from Redis where it is known there; last_activity is then as of when it was cached.
 * RSS_E_AUTHENTICATION when the token is unknown, expired or revoked or its user inactive, never saying which. */
int rss_session_validate(rss_store *store, const char *token, rss_session *session);
/* Notes that the session is in use now. RSS_E_AUTHENTICATION. */
int rss_session_touch(rss_store *store, const char *token, rss_session *session);
/* Ends the session. RSS_E_NOT_FOUND when there is none with this token, or it was ended before. */
int rss_session_revoke(rss_store *store, const char *token);
/* Ends the session with this token_hash (RSS_HASH_SIZE bytes). RSS_E_NOT_FOUND. */
int rss_session_revoke_hash(rss_store *store, const unsigned char *token_hash);
/* Ends all sessions of the user but that of except_token (NULL: all). count: how many were ended. */
int rss_session_revoke_all(rss_store *store, int64_t user_id, const char *except_token, int64_t *count);
/* The good sessions of a user, newest first, at most limit (1 to 1000); none for an unknown or inactive user.
 * before: the last one of the page before; NULL: from the newest. */
int rss_session_list_active(rss_store *store, int64_t user_id, const rss_session *before, int64_t limit,
                            rss_rows **rows);
/* The next session, or RSS_NOTHING. */
int rss_session_next(rss_rows *rows, rss_session *session);
/* Deletes all expired sessions, batch (1 to 10000) in a statement. count: how many. */
int rss_session_delete_expired(rss_store *store, int64_t batch, int64_t *count);

/* ---- Streams: the channels of users, and whether they are on air */

typedef struct rss_stream {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_live;
    int32_t is_public;
    int32_t has_description;
    int32_t has_stream_url;
    int32_t has_thumbnail_url;
    int32_t has_resolution;
    int32_t has_codec;
    int64_t id;
    int64_t user_id;
    int64_t viewer_count; /* at the last report; 0 while off air */
    int64_t bitrate_kbps; /* kbit/s; RSS_NONE: not known */
    double fps;           /* frames per second; RSS_NONE_F64: not known */
    int64_t created_at;
    int64_t updated_at;
    int64_t started_at;   /* of the broadcast on air or of the last one; RSS_NONE: never on air */
    int64_t ended_at;     /* of the last broadcast; RSS_NONE: never ended one, or on air now */
    char name[1024];
    char description[2052]; /* may have 10000 characters: see truncated */
    char stream_url[RSS_URL_SIZE];
    char thumbnail_url[RSS_URL_SIZE];
    char resolution[64];  /* width x height in pixels: "1920x1080" */
    char codec[260];
} rss_stream;
#define RSS_STREAM_INIT \
    { sizeof(rss_stream), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, { 0 }, { 0 }, { 0 }, \
      { 0 } }

/* A new stream of a user, off air, with a new key of 256 random bits. is_public: 0 keeps it out of
 * rss_stream_list_live. key: a buffer of key_size bytes for the key; RSS_TOKEN_SIZE is enough.
 * RSS_E_NOT_FOUND (no such user), RSS_E_INVALID_INPUT; RSS_E_BUFFER: then no stream is made. */
int rss_stream_create(rss_store *store, int64_t user_id, const char *name, const char *description,
                      const char *stream_url, const char *thumbnail_url, int is_public, char *key, size_t key_size,
                      rss_stream *stream);
/* RSS_E_NOT_FOUND. */
int rss_stream_get(rss_store *store, int64_t stream_id, rss_stream *stream);
/* The stream that an encoder with this key feeds. RSS_E_NOT_FOUND. */
int rss_stream_get_by_key(rss_store *store, const char *key, rss_stream *stream);
/* The stream's key, to be shown to its owner only. RSS_E_NOT_FOUND, RSS_E_BUFFER. */
int rss_stream_get_key(rss_store *store, int64_t stream_id, char *key, size_t key_size);
/* Gives the stream a new key; the old one is refused from then on, a broadcast on air goes on. RSS_E_NOT_FOUND;
 * RSS_E_BUFFER: then the old one stays. */
int rss_stream_rotate_key(rss_store *store, int64_t stream_id, char *key, size_t key_size);
/* The user's streams in order of id, from after after_id on (0: from the first), at most limit (1 to 1000). */
int rss_stream_list_by_user(rss_store *store, int64_t user_id, int64_t after_id, int64_t limit, rss_rows **rows);
/* The public streams on air, as rss_stream_list_by_user. */
int rss_stream_list_live(rss_store *store, int64_t after_id, int64_t limit, rss_rows **rows);
/* The next stream, or RSS_NOTHING. */
int rss_stream_next(rss_rows *rows, rss_stream *stream);
/* Changes what is given; RSS_KEEP and RSS_KEEP_FLAG leave it, NULL clears it (not the name).
 * RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_stream_update(rss_store *store, int64_t stream_id, const char *name, const char *description,
                      const char *stream_url, const char *thumbnail_url, int is_public, rss_stream *stream);
struct rss_stream_session;
/* Puts the stream on air: opens a stream session, resets the viewers, logs the usage, and publishes "started" on
 * the channel stream:<id>:events. Of callers at the same time one succeeds.
 * bitrate_kbps (RSS_NONE), resolution (NULL), fps (RSS_NONE_F64), codec (NULL): of this broadcast, in brackets
 * what means not known. recording_path: where the broadcast is recorded; NULL: not known.
 * RSS_E_CONFLICT (already live), RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_stream_start(rss_store *store, int64_t stream_id, int64_t bitrate_kbps, const char *resolution, double fps,
                     const char *codec, int is_recorded, const char *recording_path,
                     struct rss_stream_session *session);
/* Takes the stream off air: closes its stream session, logs the usage (bytes and seconds), and publishes "ended".
 * RSS_E_CONFLICT (not live), RSS_E_NOT_FOUND. */
int rss_stream_stop(rss_store *store, int64_t stream_id, struct rss_stream_session *session);
/* What an encoder reports of the broadcast on air. RSS_KEEP_INT, RSS_KEEP and RSS_KEEP_F64 leave a value;
 * RSS_NONE, NULL and RSS_NONE_F64 mean not known. viewer_count replaces the number of viewers and raises the
 * session's peak. bytes_sent: bytes since the last report, which are added; 0: none.
 * From a real-time thread use rss_stats_push_async.
 * RSS_E_CONFLICT (not live), RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_stream_update_stats(rss_store *store, int64_t stream_id, int64_t viewer_count, int64_t bitrate_kbps,
                            const char *resolution, double fps, const char *codec, int64_t bytes_sent,
                            rss_stream *stream);
/* Whether the stream is on air: 1 or 0. From Redis where it is known there. RSS_E_NOT_FOUND. */
int rss_stream_is_live(rss_store *store, int64_t stream_id, int *is_live);
/* How many watch the stream; 0 while off air. From Redis where it is known there. RSS_E_NOT_FOUND. */
int rss_stream_get_viewer_count(rss_store *store, int64_t stream_id, int64_t *count);
/* Deletes the stream with its sessions and recordings; a broadcast on air ends. RSS_E_NOT_FOUND. */
int rss_stream_delete(rss_store *store, int64_t stream_id);

/* ---- Stream sessions: each time a stream was on air. rss_stream_start opens one.
 *
 * A stream has at most one that is open. The figures of an ended session never change again. */

typedef struct rss_stream_session {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_recorded;
    int32_t has_recording_path;
    int32_t reserved;
    int64_t stream_id;
    int64_t id;
    int64_t session_start;
    int64_t session_end;      /* RSS_NONE: on air */
    int64_t total_viewers;    /* who ever joined */
    int64_t peak_viewers;     /* most at one time */
    int64_t unique_viewers;   /* different ones, within about 1 %; 0: viewers were told as numbers only */
    int64_t total_bytes_sent;
    int64_t duration_seconds; /* RSS_NONE: on air */
    char recording_path[4100];
} rss_stream_session;
#define RSS_STREAM_SESSION_INIT { sizeof(rss_stream_session), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* RSS_E_NOT_FOUND. */
int rss_stream_session_get(rss_store *store, int64_t stream_id, int64_t session_id, rss_stream_session *session);
/* The session on air. RSS_E_NOT_FOUND when the stream is off air or not there. */
int rss_stream_session_get_current(rss_store *store, int64_t stream_id, rss_stream_session *session);
/* The stream's sessions, newest first, from before the session before_id on (RSS_NONE: from the newest), at most
 * limit (1 to 1000). */
int rss_stream_session_list(rss_store *store, int64_t stream_id, int64_t before_id, int64_t limit, rss_rows **rows);
/* The next session, or RSS_NOTHING. */
int rss_stream_session_next(rss_rows *rows, rss_stream_session *session);
/* Counts viewers who joined and who left. watching: how many watch now. Calls at the same time add up.
 * RSS_E_CONFLICT (not live, or more would leave than watch), RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_stream_session_add_viewers(rss_store *store, int64_t stream_id, int64_t joined, int64_t left,
                                   int64_t *watching);
/* Adds count bytes to what the session on air has sent. total: the sum. RSS_E_CONFLICT (not live),
 * RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_stream_session_add_bytes(rss_store *store, int64_t stream_id, int64_t count, int64_t *total);
/* Ends this session as rss_stream_stop does, but never a later one: for a server that knows which broadcast it
 * lost. RSS_E_CONFLICT (it has ended already), RSS_E_NOT_FOUND. */
int rss_stream_session_end(rss_store *store, int64_t stream_id, int64_t session_id, rss_stream_session *session);

/* ---- Recordings: files recorded from a stream. The rows are kept here, the files are yours. */

typedef struct rss_recording {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_processed; /* transcoding and thumbnails are done */
    int32_t is_available; /* 0: hidden, or its file is gone */
    int32_t has_codec;
    int32_t has_resolution;
    int32_t reserved;
    int64_t stream_id;
    int64_t id;
    int64_t session_id;   /* the time on air it came from; RSS_NONE: not known, or deleted since */
    int64_t file_size_bytes;
    int64_t duration_seconds;
    double fps;           /* RSS_NONE_F64: not known */
    int64_t bitrate_kbps; /* RSS_NONE: not known */
    int64_t created_at;
    int64_t updated_at;
    int64_t expires_at;   /* from then on the file may be deleted; RSS_NONE: kept */
    char file_path[2052];
    char codec[260];
    char resolution[64];
} rss_recording;
#define RSS_RECORDING_INIT \
    { sizeof(rss_recording), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, { 0 } }

/* A new recording, of 0 bytes and seconds until rss_recording_finish.
 * file_path: unique within the stream. session_id: RSS_NONE: not known. codec, resolution (NULL), fps
 * (RSS_NONE_F64), bitrate_kbps (RSS_NONE): in brackets what means not known. expires_at: RSS_NONE: it is kept.
 * RSS_E_NOT_FOUND (no such stream, or no such session of it), RSS_E_ALREADY_EXISTS (file_path),
 * RSS_E_INVALID_INPUT. */
int rss_recording_create(rss_store *store, int64_t stream_id, const char *file_path, int64_t session_id,
                         const char *codec, const char *resolution, double fps, int64_t bitrate_kbps,
                         int64_t expires_at, rss_recording *recording);
/* RSS_E_NOT_FOUND. */
int rss_recording_get(rss_store *store, int64_t stream_id, int64_t recording_id, rss_recording *recording);
/* The stream's recordings in order of id, from after after_id on (0: from the first), at most limit (1 to 1000). */
int rss_recording_list_by_stream(rss_store *store, int64_t stream_id, int64_t after_id, int64_t limit,
                                 rss_rows **rows);
/* Those of one time on air. */
int rss_recording_list_by_session(rss_store *store, int64_t stream_id, int64_t session_id, int64_t after_id,
                                  int64_t limit, rss_rows **rows);
/* Recordings of all streams that may be deleted at the time `now` (RSS_NONE: by the database's clock), the longest
 * expired first, at most limit (1 to 1000). Ask again after deleting them. */
int rss_recording_list_expired(rss_store *store, int64_t now, int64_t limit, rss_rows **rows);
/* The next recording, or RSS_NOTHING. */
int rss_recording_next(rss_rows *rows, rss_recording *recording);
/* The file is complete. May be repeated. RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_recording_finish(rss_store *store, int64_t stream_id, int64_t recording_id, int64_t file_size_bytes,
                         int64_t duration_seconds, rss_recording *recording);
/* Transcoding and thumbnails are done. May be repeated. RSS_E_NOT_FOUND. */
int rss_recording_mark_processed(rss_store *store, int64_t stream_id, int64_t recording_id,
                                 rss_recording *recording);
/* Shows the recording, or hides it. RSS_E_NOT_FOUND. */
int rss_recording_set_available(rss_store *store, int64_t stream_id, int64_t recording_id, int is_available,
                                rss_recording *recording);
/* Deletes the row; delete the file first, since its path is gone with it. RSS_E_NOT_FOUND. */
int rss_recording_delete(rss_store *store, int64_t stream_id, int64_t recording_id);

/* ---- Usage: what users consumed, an append-only log */

typedef struct rss_usage_total {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t reserved;
    int64_t events;
    int64_t bytes_transferred;
    int64_t duration_seconds;
} rss_usage_total;
#define RSS_USAGE_TOTAL_INIT { sizeof(rss_usage_total), 0, 0, 0, 0, 0 }

typedef struct rss_monthly_usage {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t reserved;
    int64_t month;      /* a calendar month (UTC), by the time it begins */
    int64_t events;
    int64_t bytes_transferred;
    int64_t duration_seconds;
} rss_monthly_usage;
#define RSS_MONTHLY_USAGE_INIT { sizeof(rss_monthly_usage), 0, 0, 0, 0, 0, 0 }

/* One entry of rss_usage_log_many. */
typedef struct rss_usage_entry {
    size_t struct_size;       /* the same in all entries of an array */
    int64_t user_id;
    const char *event_type;
    int64_t stream_id;        /* RSS_NONE: of no stream */
    int64_t bytes_transferred;
    int64_t duration_seconds;
    int64_t created_at;       /* RSS_NONE: the time of the call */
} rss_usage_entry;
#define RSS_USAGE_ENTRY_INIT { sizeof(rss_usage_entry), 0, 0, RSS_NONE, 0, 0, RSS_NONE }

/* Logs what a user consumed.
 * event_type: stream_start, stream_end, viewer_join, viewer_leave or a name of your own: up to 64 lower-case
 * letters, digits and underscores, a letter first. stream_id: RSS_NONE: of no stream. created_at: RSS_NONE: now.
 * entry_id: of the new entry. RSS_E_NOT_FOUND for an unknown user, RSS_E_INVALID_INPUT. */
int rss_usage_log(rss_store *store, int64_t user_id, const char *event_type, int64_t stream_id,
                  int64_t bytes_transferred, int64_t duration_seconds, int64_t created_at, int64_t *entry_id);
/* Logs many entries by COPY, all or none. Errors as rss_usage_log; the field names the entry by its index, from 0:
 * "entries[2].event_type". */
int rss_usage_log_many(rss_store *store, const rss_usage_entry *entries, size_t count);
/* What a user consumed from since up to, and without, until; zeros when there was nothing. A sum above 2^63-1 is
 * told as 2^63-1. RSS_E_INVALID_INPUT. */
int rss_usage_total_by_user(rss_store *store, int64_t user_id, int64_t since, int64_t until, rss_usage_total *total);
/* What was consumed through a stream. */
int rss_usage_total_by_stream(rss_store *store, int64_t stream_id, int64_t since, int64_t until,
                              rss_usage_total *total);
/* A user's consumption in the last `months` (1 to 1200) calendar months (UTC), the current one among them, newest
 * first; months without any are left out. */
int rss_usage_list_months(rss_store *store, int64_t user_id, int64_t months, rss_rows **rows);
/* The next month, or RSS_NOTHING. */
int rss_usage_month_next(rss_rows *rows, rss_monthly_usage *usage);

/* ---- Billing accounts: how a user pays, and how much the tier allows */

typedef struct rss_billing_account {
    size_t struct_size;
    uint32_t truncated;
    int32_t has_payment_method;
    int64_t user_id;
    int64_t monthly_limit_gb; /* units of 10^9 bytes a calendar month (UTC); RSS_NONE: no limit */
    int64_t created_at;
    int64_t updated_at;
    char subscription_tier[64];
    char payment_method[1024]; /* a label of the payment provider, never a card number */
} rss_billing_account;
#define RSS_BILLING_ACCOUNT_INIT { sizeof(rss_billing_account), 0, 0, 0, 0, 0, 0, { 0 }, { 0 } }

/* A user's transfer in one calendar month (UTC) against the limit. */
typedef struct rss_quota {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_over_limit;    /* with the first byte above it */
    int64_t user_id;
    int64_t monthly_limit_gb; /* RSS_NONE: no limit */
    int64_t bytes_transferred;
    char subscription_tier[64];
} rss_quota;
#define RSS_QUOTA_INIT { sizeof(rss_quota), 0, 0, 0, 0, 0, { 0 } }

/* Opens the billing account of a user; each has one at most. subscription_tier: "free", "pro" or "enterprise".
 * payment_method: NULL: none given. monthly_limit_gb: 0 to 10^9; RSS_NONE: no limit.
 * RSS_E_ALREADY_EXISTS, RSS_E_NOT_FOUND for an unknown user, RSS_E_INVALID_INPUT. */
int rss_billing_open(rss_store *store, int64_t user_id, const char *subscription_tier, const char *payment_method,
                     int64_t monthly_limit_gb, rss_billing_account *account);
/* RSS_E_NOT_FOUND. */
int rss_billing_get(rss_store *store, int64_t user_id, rss_billing_account *account);
/* Moves a user to another tier. monthly_limit_gb: RSS_KEEP_INT leaves it, RSS_NONE: no limit.
 * RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_billing_set_tier(rss_store *store, int64_t user_id, const char *subscription_tier, int64_t monthly_limit_gb,
                         rss_billing_account *account);
/* NULL: no way is known. RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_billing_set_payment_method(rss_store *store, int64_t user_id, const char *payment_method,
                                   rss_billing_account *account);
/* Transfer in the calendar month (UTC) that the time `month` lies in (RSS_NONE: the current one).
 * RSS_E_NOT_FOUND when the user has no billing account. */
int rss_billing_get_quota(rss_store *store, int64_t user_id, int64_t month, rss_quota *quota);
/* Deletes the billing account; the usage log stays. RSS_E_NOT_FOUND. */
int rss_billing_delete(rss_store *store, int64_t user_id);

/* ---- Events: what happened to each aggregate, append-only, in order, and who caused it */

#define RSS_ANY_VERSION (-1) /* whatever there is: writers queue, none is refused */
#define RSS_NO_STREAM (-2)   /* no event yet */
#define RSS_EXISTS (-3)      /* at least one event */

#define RSS_UUID_SIZE 37

/* One event to append. Not given: NULL, user_id: RSS_NONE. */
typedef struct rss_new_event {
    size_t struct_size;         /* the same in all events of an array */
    const char *event_type;
    const char *data_json;      /* an object or array, at most 1 MiB and 100 levels */
    const char *metadata_json;
    int64_t user_id;            /* who caused it; RSS_NONE: the system */
    const char *event_id;       /* a UUID; makes the append repeatable, see rss_event_append; NULL: a new one */
    const char *correlation_id; /* kept in the metadata, which must then be an object; so for the next */
    const char *causation_id;
} rss_new_event;
#define RSS_NEW_EVENT_INIT { sizeof(rss_new_event), 0, 0, 0, RSS_NONE, 0, 0, 0 }

/* Where an event just appended stands in the log. */
typedef struct rss_appended {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t reserved;
    int64_t version;    /* from 1, without gaps within its aggregate */
    int64_t position;   /* its place in the whole log */
    int64_t timestamp;
    char event_id[RSS_UUID_SIZE];
} rss_appended;
#define RSS_APPENDED_INIT { sizeof(rss_appended), 0, 0, 0, 0, 0, { 0 } }

/* One event of the log. */
typedef struct rss_event {
    size_t struct_size;
    uint32_t truncated;
    int32_t reserved;
    int64_t position;
    int64_t version;
    int64_t user_id;           /* who caused it; RSS_NONE: the system */
    int64_t timestamp;
    const char *data_json;     /* the rows', valid until rss_rows_free */
    const char *metadata_json; /* the rows'; NULL: none given */
    char aggregate_type[1024];
    char aggregate_id[1024];
    char event_type[1024];
    char event_id[RSS_UUID_SIZE];
} rss_event;
#define RSS_EVENT_INIT { sizeof(rss_event), 0, 0, 0, 0, 0, 0, 0, 0, { 0 }, { 0 }, { 0 }, { 0 } }

typedef struct rss_snapshot {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t reserved;
    int64_t version;
    int64_t position;   /* of the event it includes last */
    int64_t schema_version;
    int64_t created_at;
} rss_snapshot;
#define RSS_SNAPSHOT_INIT { sizeof(rss_snapshot), 0, 0, 0, 0, 0, 0 }

typedef struct rss_horizon {
    size_t struct_size;
    uint32_t truncated;    /* 0 */
    int32_t is_primary;    /* 0: a standby, where position means nothing */
    int64_t position;      /* no event at or below it will be committed any more; 0: none yet */
    int64_t last_position; /* the last one handed out */
} rss_horizon;
#define RSS_HORIZON_INIT { sizeof(rss_horizon), 0, 0, 0, 0 }

/* Appends one event to an aggregate, which the first one makes.
 * expected: the version the aggregate must be at (0: no event yet), or RSS_ANY_VERSION, RSS_NO_STREAM, RSS_EXISTS.
 * An event with an event_id may be appended again with the same content and gives the first result, so that it can
 * be tried until an answer comes; with other content it gives RSS_E_ALREADY_EXISTS.
 * From a real-time thread use rss_event_append_async.
 * RSS_E_VERSION_CONFLICT when the aggregate is at another version, RSS_E_CONFLICT when it is closed,
 * RSS_E_INVALID_INPUT, RSS_E_ALREADY_EXISTS. */
int rss_event_append(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                     const rss_new_event *event, int64_t expected, rss_appended *appended);
/* Appends events to one aggregate in their order, all or none, in one statement: at most 10,000 and 64 MiB.
 * last: where the last of them stands. With no event nothing is sent: RSS_NOTHING. A field at fault is named by its index,
 * from 0: "events[2].data". Else as rss_event_append. */
int rss_event_append_many(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                          const rss_new_event *events, size_t count, int64_t expected, rss_appended *last);
/* The event of this version, as rows of one event. RSS_E_NOT_FOUND. */
int rss_event_get(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t version,
                  rss_rows **rows);
/* An aggregate's events in the order of their versions, at most limit (1 to 1000); none when there are none.
 * after_version: left out itself; 0: from the first. to_version: included; RSS_NONE: up to the newest.
 * backward: the newest first. */
int rss_event_read(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t after_version,
                   int64_t to_version, int64_t limit, int backward, rss_rows **rows);
/* Events of the whole log in the order of their positions, up to the horizon: none is ever missed. Go on with
 * after_position of the last event read. aggregate_type: only these; NULL: all. limit: 1 to 1000.
 * RSS_E_UNAVAILABLE on a standby. */
int rss_event_read_all(rss_store *store, int64_t after_position, const char *aggregate_type, int64_t limit,
                       rss_rows **rows);
/* The audit trail of a user: the events that the user caused, newest first, kept after the user is deleted.
 * before_position: the position of the last one of the page before; RSS_NONE: from the newest. limit: 1 to 1000. */
int rss_event_audit(rss_store *store, int64_t user_id, int64_t before_position, int64_t limit, rss_rows **rows);
/* The next event, or RSS_NOTHING. Its JSON texts belong to the rows. */
int rss_event_next(rss_rows *rows, rss_event *event);
/* The version of an aggregate's last event, 0 when it has none. */
int rss_event_get_version(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t *version);
/* How far the log can be read without missing an event. */
int rss_event_get_horizon(rss_store *store, rss_horizon *horizon);
/* Keeps state_json as what the events up to and including version fold to. schema_version: of the shape of the
 * state, from 1. Saving the same again gives what is there. RSS_E_NOT_FOUND when the aggregate has no event of that
 * version, RSS_E_CONFLICT when that version has a snapshot with another state, RSS_E_INVALID_INPUT. */
int rss_event_save_snapshot(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t version,
                            const char *state_json, int64_t schema_version, rss_snapshot *snapshot);
/* The newest snapshot of this schema_version, none newer than to_version (RSS_NONE: any). RSS_NOTHING when there
 * is none. Read on with rss_event_read after its version. state_json: rss_free. */
int rss_event_load_snapshot(rss_store *store, const char *aggregate_type, const char *aggregate_id,
                            int64_t schema_version, int64_t to_version, rss_snapshot *snapshot, char **state_json);
/* Deletes all but the `keep` newest snapshots of an aggregate, of this schema_version (RSS_NONE: of each).
 * count: how many were deleted. */
int rss_event_prune_snapshots(rss_store *store, const char *aggregate_type, const char *aggregate_id, int64_t keep,
                              int64_t schema_version, int64_t *count);

/* ---- The queue: for threads that must not wait
 *
 * rss_event_append_async and rss_stats_push_async copy what they are given into memory of the store and return: in less
 * than a microsecond, without a lock, an allocation, a server or Python's lock. They make one system call, and only
 * to wake the writer when it sleeps. One thread of the store, the writer, takes what is queued to PostgreSQL, many
 * events in one transaction: each exactly once, also across lost connections and restarts of the server, as long as
 * this process lives. What the server has not confirmed is lost with the process; rss_flush and rss_close wait for it.
 *
 * Events of one thread are stored in the order of its calls. They get their versions when they are stored (as with
 * RSS_ANY_VERSION), beside those of other writers, and take their place in the order of the log. An event that the log
 * cannot take (malformed JSON, an aggregate that is closed) is kept in the table rejected_events, with the reason:
 * `rootstream-store events rejected` lists them. What is the server's own fault (no table, no disk, no permission) is
 * tried until it is mended; a fault inside the server (SQLSTATE XX), which an event may have brought about, for 30 s.
 *
 * When the queue is full, because PostgreSQL is slower or away, the policy in rss_options decides. */

#define RSS_QUEUE_FAIL 0        /* the call gives RSS_E_QUEUE_FULL */
#define RSS_QUEUE_WAIT 1        /* the call waits for room, at most queue_wait_ms, then RSS_E_TIMEOUT */
#define RSS_QUEUE_DROP_OLDEST 2 /* the oldest that is queued is thrown away, and counted */

typedef struct rss_queue_info {
    size_t struct_size;
    uint32_t truncated;      /* bit 0: error was cut */
    int32_t is_failing;      /* 1: the writer's last attempt failed, and it tries again */
    int64_t events_accepted; /* taken in, since the store was opened; as are all of these */
    int64_t events_stored;   /* in the event log */
    int64_t events_rejected; /* in rejected_events */
    int64_t events_dropped;  /* thrown away by RSS_QUEUE_DROP_OLDEST */
    int64_t events_refused;  /* calls that found the queue full, and got an error */
    int64_t events_waiting;  /* accepted and not yet stored, rejected or dropped */
    int64_t stats_accepted;  /* reports, calls of rss_stats_push_async; so for the next five */
    int64_t stats_stored;
    int64_t stats_rejected;  /* of a stream that was off air, or is not there */
    int64_t stats_dropped;
    int64_t stats_refused;
    int64_t stats_waiting;
    int64_t batches;         /* transactions of the writer */
    int64_t reconnects;      /* connections that the writer has lost and made anew */
    int64_t room_bytes;      /* of the queue of events */
    int64_t used_bytes;      /* of these, in use now: an event takes its size rounded up to 128 bytes */
    char error[256];         /* why the writer's last failed attempt failed; "" when none has */
} rss_queue_info;
#define RSS_QUEUE_INFO_INIT { sizeof(rss_queue_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, { 0 } }

/* Queues one event. For real-time threads; waits only where the policy is RSS_QUEUE_WAIT.
 * aggregate_type, aggregate_id, event_type: 1 to 255 characters. data_json: an object or array, at most 1 MiB, and at
 * most a quarter of queue_bytes with the rest. metadata_json: the same; NULL: none. user_id: RSS_NONE: the system.
 * What is wrong inside the texts is found by the writer: the event is then rejected.
 * RSS_E_QUEUE_FULL, RSS_E_TIMEOUT (RSS_QUEUE_WAIT), RSS_E_INVALID_INPUT, RSS_E_SETTINGS (no queue). */
int rss_event_append_async(rss_store *store, const char *aggregate_type, const char *aggregate_id, const char *event_type,
                           const char *data_json, const char *metadata_json, int64_t user_id);
/* Queues what an encoder reports of the broadcast on air, as rss_stream_update_stats does it. For real-time threads, as
 * often as they like: of a stream's reports of a quarter of a second the last figures are stored, and bytes_sent is
 * added up. viewer_count, bitrate_kbps: RSS_KEEP_INT leaves it. fps: RSS_KEEP_F64 leaves it. bytes_sent: since the last
 * report. A report of a stream that is off air is counted (stats_rejected) and has no effect.
 * RSS_E_QUEUE_FULL, RSS_E_TIMEOUT (RSS_QUEUE_WAIT), RSS_E_INVALID_INPUT, RSS_E_SETTINGS (no queue). */
int rss_stats_push_async(rss_store *store, int64_t stream_id, int64_t viewer_count, int64_t bitrate_kbps, double fps,
                         int64_t bytes_sent);
/* Waits until all that was queued before the call is stored (or rejected, or dropped). Not for real-time threads.
 * timeout_ms: the longest wait; < 0: no limit. RSS_E_TIMEOUT: some of it still waits; nothing is lost.
 * RSS_E_CLOSED: the store was closed meanwhile, before it was. */
int rss_flush(rss_store *store, int64_t timeout_ms);
/* How the queue is doing. Asks no server. Any thread. */
int rss_queue_stats(rss_store *store, rss_queue_info *info);

/* ---- Keys and messages on Redis
 *
 * Plain keys of yours; those of the library's own cache are not for these functions. Values may hold any bytes.
 * A Redis that is down or slow gives RSS_E_UNAVAILABLE or RSS_E_TIMEOUT within 0.6 s, and nothing is sent twice.
 * Without a redis_url: RSS_E_SETTINGS. A key of another type (a list where a text is expected):
 * RSS_E_INVALID_INPUT. */

/* The value of a key, or RSS_NOTHING. value: rss_free; a NUL follows its size bytes. */
int rss_cache_get(rss_store *store, const char *key, char **value, size_t *size);
/* ttl_ms: RSS_NONE: it does not expire. */
int rss_cache_set(rss_store *store, const char *key, const void *value, size_t size, int64_t ttl_ms);
/* deleted: 1, or 0 when there was none. */
int rss_cache_del(rss_store *store, const char *key, int *deleted);
/* Lets a key of any type expire in ttl_ms milliseconds. RSS_NOTHING when there is none. */
int rss_cache_expire(rss_store *store, const char *key, int64_t ttl_ms);
/* Adds to a counter, which begins at 0. value: the sum. After RSS_E_TIMEOUT it may have been added. */
int rss_cache_incr(rss_store *store, const char *key, int64_t by, int64_t *value);
/* The value of a field of a hash, or RSS_NOTHING. */
int rss_cache_hash_get(rss_store *store, const char *key, const char *field, char **value, size_t *size);
int rss_cache_hash_set(rss_store *store, const char *key, const char *field, const void *value, size_t size);
/* deleted: 1, or 0 when there was none. */
int rss_cache_hash_del(rss_store *store, const char *key, const char *field, int *deleted);
/* The whole hash as a JSON object of texts; "{}" when there is none. Bytes that are no UTF-8 give
 * RSS_E_INVALID_INPUT. hash_json: rss_free. */
int rss_cache_hash_get_all(rss_store *store, const char *key, char **hash_json);
/* Puts a value at the end of a list, or at its begin. length: how many it has now. */
int rss_cache_list_push(rss_store *store, const char *key, const void *value, size_t size, int at_begin,
                        int64_t *length);
/* Takes a value from the end of a list, or from its begin. RSS_NOTHING when it is empty. */
int rss_cache_list_pop(rss_store *store, const char *key, int at_begin, char **value, size_t *size);
/* The values from index first to index last, both included; negative ones count from the end (-1: the last). A JSON
 * array of texts; bytes that are no UTF-8 give RSS_E_INVALID_INPUT. values_json: rss_free. */
int rss_cache_list_range(rss_store *store, const char *key, int64_t first, int64_t last, char **values_json);
/* Sends a message to the subscribers of a channel. receivers: how many got it from this server. */
int rss_publish(rss_store *store, const char *channel, const void *message, size_t size, int64_t *receivers);

typedef struct rss_subscription rss_subscription;

typedef struct rss_message {
    size_t struct_size;
    uint32_t truncated;
    int32_t is_gap;     /* 1: the connection was lost and is back: messages may be missing here; there is no data */
    double gap_seconds; /* since the last sign of life before the loss; RSS_NONE_F64 in a message */
    char channel[1024]; /* where it was published; "" in a gap */
} rss_message;
#define RSS_MESSAGE_INIT { sizeof(rss_message), 0, 0, 0, { 0 } }

/* Subscribes to a channel, or with is_pattern to all that match a glob pattern, on a connection of its own: what is
 * published from now on is received. Lost connections are made again and told as gaps. subscription: end it with
 * rss_subscription_close. RSS_E_UNAVAILABLE, RSS_E_TIMEOUT, RSS_E_PERMISSION, RSS_E_SETTINGS. */
int rss_subscribe(rss_store *store, const char *channel, int is_pattern, rss_subscription **subscription);
/* The next message or gap; RSS_NOTHING when none came within timeout_ms (< 0: no limit). Each message goes to one
 * of the threads that ask. data: its bytes; rss_free; a NUL follows its size bytes.
 * RSS_E_CLOSED once the subscription or its store was closed, also by another thread while this one waits. */
int rss_subscription_next(rss_subscription *subscription, int64_t timeout_ms, rss_message *message, char **data,
                          size_t *size);
/* Ends it, and wakes a thread that waits. NULL: does nothing. */
int rss_subscription_close(rss_subscription *subscription);

/* ---- Viewers: who watches a stream on air, one by one or as numbers
 *
 * They are counted in Redis and brought to PostgreSQL by rss_viewer_flush, so that a heartbeat costs one command. A
 * stream's viewers are told either here or by rss_stream_update_stats and rss_stream_session_add_viewers: the next
 * flush overwrites their number. What is told counts at once, in no transaction. */

#define RSS_VIEWER_EXPIRY_MS 45000 /* three heartbeats of 15 s: two that are lost make nobody leave */

/* What came of one viewer's join, heartbeat or leave, or of one report. */
typedef struct rss_viewer_count {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t is_change;  /* 1: the viewer was not there before, or was and has left; a report changed the number */
    int32_t is_counted; /* 0: Redis could not be asked, or the stream is just being stopped: tell it again */
    int32_t reserved;
    int64_t current;    /* who watch the stream, with this change; where it is not counted, as of the last flush */
} rss_viewer_count;
#define RSS_VIEWER_COUNT_INIT { sizeof(rss_viewer_count), 0, 0, 0, 0, 0 }

/* Who watches a stream. While it is off air all of them are 0. */
typedef struct rss_viewer_figures {
    size_t struct_size;
    uint32_t truncated;    /* 0 */
    int32_t is_from_redis; /* 1: counted just now; 0: as of the last flush or report */
    int64_t stream_id;
    int64_t session_id;    /* RSS_NONE: off air */
    int64_t current;
    int64_t peak;          /* most at one time in this session */
    int64_t unique;        /* different ones in this session, within about 1 %; of those told one by one only */
    int64_t as_of;         /* RSS_NONE: no flush has changed them in this session */
} rss_viewer_figures;
#define RSS_VIEWER_FIGURES_INIT { sizeof(rss_viewer_figures), 0, 0, 0, 0, 0, 0, 0, 0 }

/* A stream's place among those on air. */
typedef struct rss_ranked_stream {
    size_t struct_size;
    uint32_t truncated; /* 0 */
    int32_t reserved;
    int64_t stream_id;
    int64_t viewers;    /* as of the last flush */
} rss_ranked_stream;
#define RSS_RANKED_STREAM_INIT { sizeof(rss_ranked_stream), 0, 0, 0, 0 }

/* A viewer begins to watch, and counts as there until it leaves or expiry_ms pass without a heartbeat. One who is there
 * already is not counted twice, so that it may be told again.
 * viewer_id: 1 to 128 characters. expiry_ms: above 0, at most 300000.
 * RSS_E_CONFLICT (not live), RSS_E_NOT_FOUND, RSS_E_INVALID_INPUT. */
int rss_viewer_join(rss_store *store, int64_t stream_id, const char *viewer_id, int64_t expiry_ms,
                    rss_viewer_count *count);
/* A viewer still watches: to be told every expiry_ms / 3. Else as rss_viewer_join. */
int rss_viewer_heartbeat(rss_store *store, int64_t stream_id, const char *viewer_id, int64_t expiry_ms,
                         rss_viewer_count *count);
/* A viewer goes. One who is not there changes nothing, also where the stream is off air or there is none. */
int rss_viewer_leave(rss_store *store, int64_t stream_id, const char *viewer_id, rss_viewer_count *count);
/* A source that knows only a number, an encoder or an edge server, tells how many it serves; to be repeated within
 * expiry_ms. 0 takes it back. source: its name, 1 to 128 characters. Errors as rss_viewer_join. */
int rss_viewer_set(rss_store *store, int64_t stream_id, int64_t viewers, const char *source, int64_t expiry_ms,
                   rss_viewer_count *count);
/* Who watches the stream now; as of the last flush where Redis does not know. RSS_E_NOT_FOUND. */
int rss_viewer_get(rss_store *store, int64_t stream_id, rss_viewer_figures *figures);
/* The public streams on air by their viewers as of the last flush, most first, at most limit (1 to 1000).
 * after: the last one of the page before; NULL: the first page. */
int rss_viewer_top(rss_store *store, int64_t limit, const rss_ranked_stream *after, rss_rows **rows);
/* The next stream, or RSS_NOTHING. */
int rss_ranked_stream_next(rss_rows *rows, rss_ranked_stream *stream);
/* Brings what is counted in Redis to the sessions on air and their streams: call it every few seconds, in one process
 * or several; everything is added once. RSS_E_UNAVAILABLE, RSS_E_TIMEOUT. */
int rss_viewer_flush(rss_store *store);

/* ---- Migrations */

/* Applies what is pending, on a connection of its own. path: a directory of files NNNN_verb_noun.sql; NULL: the
 * library's own. line: the name they are kept under; NULL: "app" for a path, "rootstream" without.
 * count: how many were applied. RSS_E_MIGRATION names file, line and column; RSS_E_TIMEOUT when another runner was
 * at work for a minute. */
int rss_migrate(rss_store *store, const char *path, const char *line, int64_t *count);
/* Where the database stands: {"line", "version", "pending": […], "problems": […], "entries": […]}. Changes nothing.
 * status_json: rss_free. */
int rss_migration_status_json(rss_store *store, const char *path, const char *line, char **status_json);

/* ---- Statements of your own
 *
 * One SQL statement with PostgreSQL's own placeholders $1, $2, … . Values never become part of the text.
 *
 * parameters_json: an array with a value for each; NULL: none. Texts, numbers, true, false and null go as they are,
 *     objects and arrays as JSON: give others a type in the statement, $1::timestamptz, $1::uuid, $1::bytea.
 * rows_json: the rows as an array of objects; "[]" for a statement that answers with none. Integers, floats,
 *     booleans, null and JSON keep their type, numeric is a number, arrays are arrays; times are ISO 8601, bytea is
 *     base64, all else is PostgreSQL's text. A second column of the same name is called name_2. rss_free.
 * count: rows that were answered or changed.
 * It runs on any connection of the pool. What it leaves in its session (SET, PREPARE, LISTEN, an advisory lock of the
 * session) stays on that connection, for later calls of all kinds: settings belong into the database_url (options=-c…).
 * It is committed by itself, and never tried again. RSS_E_QUERY, RSS_E_INVALID_INPUT, and what constraints give. */
int rss_query_json(rss_store *store, const char *sql, const char *parameters_json, char **rows_json, int64_t *count);

#ifdef __cplusplus
}
#endif

#endif
