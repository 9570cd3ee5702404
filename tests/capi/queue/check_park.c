/* The park: in whatever order the steps of going to sleep and of a wake-up fall, the next wake-up reaches who sleeps.
 *
 * park.c is compiled once more here, with a stop before each atomic step: two of its calls run by turns in one thread,
 * in every order that there is.
 */
#define _GNU_SOURCE 1
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <ucontext.h>

static void stop_here(void);

#define rssq_now_us tested_now_us
#define rssq_park_init tested_init
#define rssq_park_destroy tested_destroy
#define rssq_park_enter tested_enter
#define rssq_park_leave tested_leave
#define rssq_park_sleep tested_sleep
#define rssq_park_wake tested_wake
#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#define atomic_load(at) (stop_here(), atomic_load_explicit(at, memory_order_seq_cst))
#define atomic_store(at, value) (stop_here(), atomic_store_explicit(at, value, memory_order_seq_cst))
#define atomic_exchange(at, value) (stop_here(), atomic_exchange_explicit(at, value, memory_order_seq_cst))
#define atomic_fetch_add(at, value) (stop_here(), atomic_fetch_add_explicit(at, value, memory_order_seq_cst))
#include "park.c"

#define STEPS 16 /* more than both calls have together */
#define STACK 65536

enum { SLEEPER, WAKER, BOTH };

static rssq_park park;
static ucontext_t contexts[BOTH], outside;
static char stacks[BOTH][STACK];
static int running = BOTH, has_ended[BOTH];
static uint32_t seen;

static void stop_here(void)
{
    if (running != BOTH)
        swapcontext(&contexts[running], &outside);
}

static void fall_asleep(void)
{
    seen = tested_enter(&park);
    has_ended[SLEEPER] = 1;
}

static void wake(void)
{
    tested_wake(&park);
    has_ended[WAKER] = 1;
}

static void step(int who)
{
    running = who;
    swapcontext(&outside, &contexts[who]);
    running = BOTH;
}

/* Bit n of `order`: whose turn the n-th step is. 0: the sleeper would sleep on. */
static int is_reached(unsigned order, uint32_t others)
{
    int i;

    tested_init(&park);
    park.sleepers = others;
    for (i = 0; i < BOTH; i++) {
        has_ended[i] = 0;
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = STACK;
        contexts[i].uc_link = &outside;
        makecontext(&contexts[i], i == SLEEPER ? fall_asleep : wake, 0);
    }
    for (i = 0; i < STEPS && !(has_ended[SLEEPER] && has_ended[WAKER]); i++) {
        const int who = has_ended[order >> i & 1] ? !(order >> i & 1) : (int)(order >> i & 1);

        step(who);
    }
    if (!has_ended[SLEEPER] || !has_ended[WAKER])
        return 0;
    tested_wake(&park); /* of somebody who comes when the sleeper has looked for the last time */
    return park.word != seen;
}

int main(void)
{
    unsigned order;
    uint32_t others;
    int failures = 0;

    for (others = 0; others < 2; others++)
        for (order = 0; order < 1u << STEPS / 2; order++)
            if (!is_reached(order, others)) {
                printf("with %u other sleepers, order %x: not woken\n", others, order);
                failures++;
            }
    return failures != 0;
}
