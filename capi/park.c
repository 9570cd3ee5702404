#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1 /* syscall */
#endif
#include "park.h"
#include "queue.h"

#include <limits.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

int64_t rssq_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

uint32_t rssq_park_enter(rssq_park *park)
{
    uint32_t seen;

    /* Sequentially consistent, like the load in rssq_park_wake: either the waker sees the sleeper, or the sleeper, who looks
     * again after this, sees what the waker did before. In this order: a waker that finds is_woken set relies on another
     * one, whose change of the word must then be after the look at it here. */
    atomic_fetch_add(&park->sleepers, 1);
    seen = atomic_load(&park->word);
    atomic_store(&park->is_woken, 0);
    return seen;
}

void rssq_park_leave(rssq_park *park)
{
    atomic_fetch_sub(&park->sleepers, 1);
}

#ifdef __linux__

void rssq_park_init(rssq_park *park)
{
    atomic_init(&park->word, 0);
    atomic_init(&park->sleepers, 0);
    atomic_init(&park->is_woken, 0);
}

void rssq_park_destroy(rssq_park *park)
{
    (void)park;
}

void rssq_park_sleep(rssq_park *park, uint32_t seen, int64_t timeout_us)
{
    struct timespec left;
    left.tv_sec = (time_t)(timeout_us / 1000000);
    left.tv_nsec = (long)(timeout_us % 1000000) * 1000;
    syscall(SYS_futex, &park->word, FUTEX_WAIT_PRIVATE, seen, timeout_us < 0 ? (void *)0 : &left, (void *)0, 0);
    atomic_fetch_sub(&park->sleepers, 1);
}

void rssq_park_wake(rssq_park *park)
{
    if (atomic_load(&park->sleepers) == 0 || atomic_exchange(&park->is_woken, 1) != 0)
        return;
    atomic_fetch_add(&park->word, 1);
    syscall(SYS_futex, &park->word, FUTEX_WAKE_PRIVATE, INT_MAX, (void *)0, (void *)0, 0);
}

#else

void rssq_park_init(rssq_park *park)
{
    atomic_init(&park->word, 0);
    atomic_init(&park->sleepers, 0);
    atomic_init(&park->is_woken, 0);
    pthread_mutex_init(&park->lock, (void *)0);
    pthread_cond_init(&park->turned, (void *)0);
}

void rssq_park_destroy(rssq_park *park)
{
    pthread_cond_destroy(&park->turned);
    pthread_mutex_destroy(&park->lock);
}

void rssq_park_sleep(rssq_park *park, uint32_t seen, int64_t timeout_us)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(timeout_us / 1000000);
    until.tv_nsec += (long)(timeout_us % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&park->lock);
    if (atomic_load(&park->word) == seen) {
        if (timeout_us < 0)
            pthread_cond_wait(&park->turned, &park->lock);
        else
            pthread_cond_timedwait(&park->turned, &park->lock, &until);
    }
    pthread_mutex_unlock(&park->lock);
    atomic_fetch_sub(&park->sleepers, 1);
}

void rssq_park_wake(rssq_park *park)
{
    if (atomic_load(&park->sleepers) == 0 || atomic_exchange(&park->is_woken, 1) != 0)
        return;
    pthread_mutex_lock(&park->lock);
    atomic_fetch_add(&park->word, 1);
    pthread_cond_broadcast(&park->turned);
    pthread_mutex_unlock(&park->lock);
}

#endif
