/* What the parts of the library share. Nothing here is exported: all names begin with rssi_.
 *
 * A public function is written as
 *
 *     int rss_user_get(rss_store *store, int64_t user_id, rss_user *user)
 *     {
 *         return rssi_call(store, RSSI_FN_user_get, user, user_id);
 *     }
 *
 * and its Python half is a line of functions.def. Functions that need no Python (the queue) use rssi_enter,
 * rssi_acquire, rssi_release and rssi_leave themselves.
 */
#ifndef RSSI_CORE_H
#define RSSI_CORE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* dladdr, RTLD_NOLOAD, sigtimedwait under -std=c99 */
#endif

#include <stddef.h>
#include <stdint.h>

/* All else is hidden. */
#pragma GCC visibility push(default)
#include "rootstream_legacy.h"
#include "rootstream_store.h"
#pragma GCC visibility pop

/* ---- errors: the thread's last one */

void rssi_error_clear(void);
/* Sets the text of the last error as printf does and returns `code`. */
int rssi_error(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Sets all of it; the texts may be NULL. Returns `code`. */
int rssi_error_full(int code, const char *message, const char *sqlstate, const char *constraint,
                    const char *field, int retryable, int outcome_unknown);

/* The thread's last error, to be set again after other calls. */
struct rssi_kept_error {
    char message[2048], sqlstate[8], constraint[128], field[128];
    int code, retryable, outcome_unknown;
};

void rssi_error_keep(struct rssi_kept_error *kept);
/* Returns its code. */
int rssi_error_again(const struct rssi_kept_error *kept);

/* ---- the guard around every call */

struct rssi_guard {
    int cancel_state; /* of pthread_setcancelstate */
    int sigpipe;      /* what rssi_leave undoes: 0 nothing */
};

enum rssi_need {
    RSSI_PLAIN,      /* touches neither Python nor a socket */
    RSSI_IO,         /* may write to a socket: SIGPIPE is kept from the host */
    RSSI_STARTS = 2  /* as RSSI_IO, and starts Python where it does not run yet */
};

/* Clears the last error and guards the thread until rssi_leave. Not RSS_OK (RSS_E_FORKED, RSS_E_INIT): the
 * call must not go on; rssi_leave is called all the same. */
int rssi_enter(struct rssi_guard *guard, enum rssi_need need);
/* The same for the end of a call that needs none until then: the last error stays. */
void rssi_shield(struct rssi_guard *guard);
/* Undoes the guard and hands `code` through. */
int rssi_leave(struct rssi_guard *guard, int code);
/* A whole call that fails: for what is found to be wrong before rssi_call. RSS_E_MISUSE, or RSS_E_FORKED. */
int rssi_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Whether a struct of the caller's may be read: it is there, and its struct_size is one that can be. */
int rssi_is_struct(const void *given);
/* Whether a child of this process, which has none of its other threads, can do nothing with the library: Python was
 * started here, or is being started. */
int rssi_has_begun(void);
/* Whether this process is such a child. */
int rssi_is_forked(void);
void rssi_watch_forks(void);
/* Starts Python, once, in whichever thread comes first. RSS_E_INIT with the reason. */
int rssi_start(const rss_init_options *options);
/* What rssi_start runs at its end, under the GIL: finds the Python half. `owns_python`: no host's Python.
 * RSS_E_INIT with the reason. */
int rssi_boot(int owns_python);

/* ---- handles: a number that looks like a pointer, and is checked before it is used */

enum rssi_kind { RSSI_STORE = 1, RSSI_ROWS, RSSI_SUBSCRIPTION, RSSI_DATABASE, RSSI_REDIS, RSSI_TRANSACTION };

struct rssi_slot {
    uint64_t state;      /* generation << 24 | is closing << 23 | users; the opener counts as one */
    enum rssi_kind kind;
    void *object;        /* PyObject *, a reference of ours; or memory of ours for RSSI_ROWS */
    void *queue;         /* of the asynchronous path; NULL: none was opened. See rssi_on_close */
    uint32_t next_free;
};

/* A new handle for `object`, which it owns from now on. NULL: out of memory, and `object` is still yours. */
void *rssi_handle_new(enum rssi_kind kind, void *object);
/* The slot, which stays alive until rssi_release. Without a lock, some nanoseconds. RSS_E_CLOSED for a handle
 * that was closed, RSS_E_MISUSE for what never was one or is one of another kind. */
int rssi_acquire(const void *handle, enum rssi_kind kind, struct rssi_slot **slot);
void rssi_release(struct rssi_slot *slot);
/* From now on every rssi_acquire gives RSS_E_CLOSED. RSS_E_CLOSED when that was so before. The caller still
 * uses the slot, and gives up the opener's share with rssi_finish. */
int rssi_begin_close(const void *handle, enum rssi_kind kind, struct rssi_slot **slot);
/* Gives up the opener's share and waits until nobody uses the slot, at most so long (< 0: no limit); the last
 * one frees it. RSS_E_TIMEOUT when calls are still in flight: they end by themselves. */
int rssi_finish(struct rssi_slot *slot, int64_t timeout_ms);
/* Called when the last user of a slot that has a queue is gone, without the GIL. Set by the asynchronous path. */
extern void (*rssi_on_close)(struct rssi_slot *slot);

/* ---- calls into Python */

enum rssi_fn {
#define F(name, path, arguments, result) RSSI_FN_##name,
#include "functions.def"
#undef F
    RSSI_FN_COUNT
};

/* Calls the Python half of `fn` with the object of the store and the C arguments that functions.def lists, and
 * writes the result to `out` (NULL: it is dropped). All guards included. */
int rssi_call(const rss_store *store, enum rssi_fn fn, void *out, ...);
/* The same for another kind of handle. */
int rssi_call_on(const void *handle, enum rssi_kind kind, enum rssi_fn fn, void *out, ...);
/* The same without a handle; starts Python where it does not run yet. */
int rssi_call_free(enum rssi_fn fn, void *out, ...);
/* The same inside a guard of the caller's own, for the object of a slot at hand (NULL: none is passed). */
int rssi_call_object(void *object, enum rssi_fn fn, void *out, ...);

/* The next row of this kind, or RSS_NOTHING. */
int rssi_rows_next(rss_rows *rows, int record, void *row);

/* Of results "secret". */
struct rssi_secret {
    char *buffer; /* NULL: not wanted */
    size_t size;
};

#define RSSI_SECRET_SIZE 44 /* of a token or key that is made by us */

/* Of results "bytes". */
struct rssi_bytes {
    char **data; /* freed with rss_free; NULL: not wanted */
    size_t *size; /* NULL: not wanted */
};

#endif
