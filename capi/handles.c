/* Handles: a slot number and a generation in the shape of a pointer. Nothing is read through them before they
 * are found to be good, so that a stale one, or any other number, is an error and no crash. */
#include "core.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "python.h"

/* handle: generation << 24 | slot << 4 | kind.   state: generation << 24 | closing << 23 | users */
#define KIND_BITS 4
#define GENERATION_SHIFT 24
#define CLOSING ((uint64_t)1 << 23)
#define USERS (CLOSING - 1)
#define CHUNK 256
#define CHUNKS 4096 /* 2^20 slots */
#define NO_SLOT UINT32_MAX

typedef char a_handle_needs_64_bits[sizeof(void *) == 8 ? 1 : -1];

void (*rssi_on_close)(struct rssi_slot *slot) = NULL;

static struct rssi_slot *chunks[CHUNKS]; /* never moved or freed: readers need no lock */
static uint32_t slot_count;
static uint32_t first_free = NO_SLOT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t freed;
static pthread_once_t freed_once = PTHREAD_ONCE_INIT;

static void make_freed(void)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&freed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static struct rssi_slot *slot_at(uint32_t number)
{
    struct rssi_slot *chunk;

    if (number >= __atomic_load_n(&slot_count, __ATOMIC_ACQUIRE))
        return NULL;
    chunk = __atomic_load_n(&chunks[number / CHUNK], __ATOMIC_ACQUIRE);
    return &chunk[number % CHUNK];
}

/* Under the lock. NO_SLOT: out of memory. */
static uint32_t take_slot(void)
{
    uint32_t number = first_free;

    if (number != NO_SLOT) {
        first_free = slot_at(number)->next_free;
        return number;
    }
    number = slot_count;
    if (number == CHUNK * CHUNKS)
        return NO_SLOT;
    if (number % CHUNK == 0) {
        struct rssi_slot *chunk = calloc(CHUNK, sizeof *chunk);

        if (chunk == NULL)
            return NO_SLOT;
        __atomic_store_n(&chunks[number / CHUNK], chunk, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&slot_count, number + 1, __ATOMIC_RELEASE);
    return number;
}

void *rssi_handle_new(enum rssi_kind kind, void *object)
{
    struct rssi_slot *slot;
    uint64_t generation;
    uint32_t number;

    pthread_mutex_lock(&lock);
    number = take_slot();
    if (number == NO_SLOT) {
        pthread_mutex_unlock(&lock);
        return NULL;
    }
    slot = slot_at(number);
    generation = (slot->state >> GENERATION_SHIFT) + 1;
    slot->kind = kind;
    slot->object = object;
    slot->queue = NULL;
    __atomic_store_n(&slot->state, generation << GENERATION_SHIFT | 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    return (void *)(uintptr_t)(generation << GENERATION_SHIFT | (uint64_t)number << KIND_BITS | (uint64_t)kind);
}

static int refuse(const void *handle)
{
    if (handle == NULL)
        return rssi_error(RSS_E_MISUSE, "the handle is NULL");
    return rssi_error(RSS_E_MISUSE, "what was given is no handle of the kind that this function takes");
}

static int no_longer(void)
{
    return rssi_error(RSS_E_CLOSED, "what the handle stood for is closed");
}

static int find(const void *handle, enum rssi_kind kind, struct rssi_slot **found, uint64_t *generation)
{
    uint64_t bits = (uint64_t)(uintptr_t)handle;

    *generation = bits >> GENERATION_SHIFT;
    *found = slot_at((uint32_t)(bits & (((uint64_t)1 << GENERATION_SHIFT) - 1)) >> KIND_BITS);
    if (handle == NULL || *found == NULL || (bits & ((1 << KIND_BITS) - 1)) != (uint64_t)kind || *generation == 0 ||
        *generation > __atomic_load_n(&(*found)->state, __ATOMIC_ACQUIRE) >> GENERATION_SHIFT)
        return refuse(handle);
    return RSS_OK;
}

static int take(const void *handle, enum rssi_kind kind, struct rssi_slot **found)
{
    struct rssi_slot *slot;
    uint64_t generation, state;
    int code = find(handle, kind, &slot, &generation);

    if (code != RSS_OK)
        return code;
    state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    do {
        /* No users: it is free, and its generation stays until it is used again. */
        if (state >> GENERATION_SHIFT != generation || (state & CLOSING) || !(state & USERS))
            return no_longer();
    } while (!__atomic_compare_exchange_n(&slot->state, &state, state + 1, 1, __ATOMIC_ACQ_REL,
                                          __ATOMIC_ACQUIRE));
    if (slot->kind != kind) { /* the bits of a handle were made up */
        rssi_release(slot);
        return refuse(handle);
    }
    *found = slot;
    return RSS_OK;
}

int rssi_acquire(const void *handle, enum rssi_kind kind, struct rssi_slot **slot)
{
    return take(handle, kind, slot);
}

int rssi_begin_close(const void *handle, enum rssi_kind kind, struct rssi_slot **slot)
{
    int code = take(handle, kind, slot);

    /* Only what was found to be of the right kind: a handle that was made up closes nothing. */
    if (code == RSS_OK && (__atomic_fetch_or(&(*slot)->state, CLOSING, __ATOMIC_ACQ_REL) & CLOSING)) {
        rssi_release(*slot);
        return no_longer();
    }
    return code;
}

/* The last user is gone: frees what the slot holds, and the slot. */
static void dispose(struct rssi_slot *slot, uint32_t number)
{
    struct rssi_guard guard;

    rssi_shield(&guard); /* a producer of the queue comes without one */
    if (slot->queue != NULL && rssi_on_close != NULL)
        rssi_on_close(slot);
    if (slot->kind == RSSI_ROWS)
        free(slot->object);
    else
        rssi_drop_object(slot->object);
    pthread_once(&freed_once, make_freed);
    pthread_mutex_lock(&lock);
    slot->object = slot->queue = NULL;
    __atomic_store_n(&slot->state, slot->state & ~(CLOSING | USERS), __ATOMIC_RELEASE);
    slot->next_free = first_free;
    first_free = number;
    pthread_cond_broadcast(&freed);
    pthread_mutex_unlock(&lock);
    rssi_leave(&guard, RSS_OK);
}

static uint32_t number_of(const struct rssi_slot *slot)
{
    uint32_t chunk = 0;

    while (slot < chunks[chunk] || slot >= chunks[chunk] + CHUNK)
        chunk++;
    return chunk * CHUNK + (uint32_t)(slot - chunks[chunk]);
}

void rssi_release(struct rssi_slot *slot)
{
    uint64_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
    uint64_t left;

    do {
        left = state - 1;
        if (!(left & USERS)) {
            /* Nobody can take it any more, and this thread is the only one to see it. One user stays counted
             * until it is freed, so that it is not taken for free before. */
            dispose(slot, number_of(slot));
            return;
        }
    } while (!__atomic_compare_exchange_n(&slot->state, &state, left, 1, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
}

int rssi_finish(struct rssi_slot *slot, int64_t timeout_ms)
{
    uint64_t generation = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE) >> GENERATION_SHIFT;
    void *held = NULL;
    struct timespec end;
    int code = RSS_OK;

    pthread_once(&freed_once, make_freed);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (timeout_ms > 0) {
        if (timeout_ms > (int64_t)1000 * 86400 * 365)
            timeout_ms = (int64_t)1000 * 86400 * 365;
        end.tv_sec += (time_t)(timeout_ms / 1000);
        end.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        if (end.tv_nsec >= 1000000000) {
            end.tv_sec++;
            end.tv_nsec -= 1000000000;
        }
    }
    rssi_release(slot); /* the closer's own use */
    rssi_release(slot); /* the opener's share */
    /* The calls that are waited for need the GIL; a host in Python may have come with it. */
    if (slot->state >> GENERATION_SHIFT == generation)
        held = rssi_give_up_gil();
    pthread_mutex_lock(&lock);
    while (code == RSS_OK && slot->state >> GENERATION_SHIFT == generation && (slot->state & USERS)) {
        int failed = timeout_ms < 0 ? pthread_cond_wait(&freed, &lock) : pthread_cond_timedwait(&freed, &lock, &end);

        if (failed == ETIMEDOUT && slot->state >> GENERATION_SHIFT == generation && (slot->state & USERS))
            code = RSS_E_TIMEOUT;
    }
    pthread_mutex_unlock(&lock);
    rssi_take_back_gil(held);
    return code;
}
