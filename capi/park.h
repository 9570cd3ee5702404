/* A place for threads to sleep until somebody wakes them: a futex where there is one, else a condition variable.
 *
 * Who wakes pays for a system call only when somebody sleeps. Internal to the library.
 */
#ifndef ROOTSTREAM_PARK_H
#define ROOTSTREAM_PARK_H

#include <stdatomic.h>
#include <stdint.h>

#ifndef __linux__
#include <pthread.h>
#endif

typedef struct {
    _Atomic uint32_t word;     /* changes with every wake-up */
    _Atomic uint32_t sleepers; /* threads that sleep, or are about to */
    _Atomic uint32_t is_woken; /* somebody wakes them already: one system call is enough */
#ifndef __linux__
    pthread_mutex_t lock;
    pthread_cond_t turned;
#endif
} rssq_park;

void rssq_park_init(rssq_park *park);
void rssq_park_destroy(rssq_park *park);

/* Announces a sleep and returns what to pass to rssq_park_sleep. Look once more, after this call, whether there is a reason
 * to sleep; then call rssq_park_sleep or rssq_park_leave. */
uint32_t rssq_park_enter(rssq_park *park);

/* Sleeps until the next wake-up since rssq_park_enter, at most timeout_us microseconds (negative: no limit). May return early. */
void rssq_park_sleep(rssq_park *park, uint32_t seen, int64_t timeout_us);

/* Takes the announcement back. */
void rssq_park_leave(rssq_park *park);

/* Wakes all. Costs one load when nobody sleeps. */
void rssq_park_wake(rssq_park *park);

#endif
