/* What may be stored as an event, checked before the server is asked: it would refuse a whole batch for one, and it does not
 * know all rules of the event log. Internal to the library. */
#ifndef ROOTSTREAM_PAYLOAD_H
#define ROOTSTREAM_PAYLOAD_H

#include <stddef.h>

/* As rootstream_store/events has them: characters of a name, bytes of a payload, levels within one another. */
#define RSSQ_MAX_NAME 255
#define RSSQ_MAX_PAYLOAD (1024 * 1024)
#define RSSQ_MAX_DEPTH 100

/* The bytes of the character of UTF-8 that begins here, 0 when it is none. */
int rssq_utf8_size(const unsigned char *at, const unsigned char *end);

/* NULL when the text is a JSON object or array that the event log accepts, else what is wrong with it, and at which byte. */
const char *rssq_check_json(const unsigned char *text, size_t size, size_t *at);

/* NULL when the text is the name of an aggregate or an event type, else what is wrong with it. */
const char *rssq_check_name(const unsigned char *text, size_t size, size_t *at);

#endif
