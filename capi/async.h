/* Between the store and its queue; see async.c. */
#ifndef RSSI_ASYNC_H
#define RSSI_ASYNC_H

#include "core.h"

/* RSS_OK, or the code of options of the queue that cannot be. */
int rssi_queue_check(const rss_options *options);
/* Gives a store that was just opened a queue and its writer. */
int rssi_queue_open(rss_store *store, const rss_options *options);
/* Takes nothing more in, writes what is queued, and ends the writer, within about *timeout_ms (< 0: no limit), of which
 * it takes off what it needed. RSS_E_TIMEOUT with the number of what was lost. The caller uses the slot. */
int rssi_queue_finish(struct rssi_slot *slot, int64_t *timeout_ms);

#endif
