/* The last error of each thread. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "payload.h"

/* Thread-local and of fixed size, so that an error can be told when there is no memory. */
static __thread struct {
    rss_error error;
    char message[2048];
    char sqlstate[8];
    char constraint[128];
    char field[128];
} last;

static const char empty[] = "";

void rssi_error_clear(void)
{
    last.error.code = RSS_OK;
}

const rss_error *rss_last_error(void)
{
    rss_error *error = &last.error;

    if (error->code == RSS_OK) {
        error->struct_size = sizeof *error;
        error->retryable = error->outcome_unknown = 0;
        error->message = error->sqlstate = error->constraint = error->field = empty;
    }
    return error;
}

/* Cuts between characters; what is no UTF-8 (a path of another encoding, a text that was cut before) becomes "?". NULL
 * is the empty text. */
static const char *keep(char *to, size_t size, const char *text)
{
    const unsigned char *at = (const unsigned char *)(text == NULL ? empty : text), *end = at + strlen((const char *)at);
    size_t length = 0;

    while (at < end) {
        const int bytes = rssq_utf8_size(at, end);
        const size_t taken = bytes == 0 ? 1 : (size_t)bytes;

        if (length + taken >= size)
            break;
        if (bytes == 0)
            to[length] = '?';
        else
            memcpy(to + length, at, taken);
        length += taken;
        at += taken;
    }
    to[length] = '\0';
    return to;
}

int rssi_error_full(int code, const char *message, const char *sqlstate, const char *constraint,
                    const char *field, int retryable, int outcome_unknown)
{
    rss_error *error = &last.error;

    error->struct_size = sizeof *error;
    error->code = code;
    error->retryable = retryable;
    error->outcome_unknown = outcome_unknown;
    error->message = keep(last.message, sizeof last.message, message);
    error->sqlstate = keep(last.sqlstate, sizeof last.sqlstate, sqlstate);
    error->constraint = keep(last.constraint, sizeof last.constraint, constraint);
    error->field = keep(last.field, sizeof last.field, field);
    return code;
}

void rssi_error_keep(struct rssi_kept_error *kept)
{
    const rss_error *error = rss_last_error();

    kept->code = error->code;
    kept->retryable = error->retryable;
    kept->outcome_unknown = error->outcome_unknown;
    keep(kept->message, sizeof kept->message, error->message);
    keep(kept->sqlstate, sizeof kept->sqlstate, error->sqlstate);
    keep(kept->constraint, sizeof kept->constraint, error->constraint);
    keep(kept->field, sizeof kept->field, error->field);
}

int rssi_error_again(const struct rssi_kept_error *kept)
{
    return rssi_error_full(kept->code, kept->message, kept->sqlstate, kept->constraint, kept->field, kept->retryable,
                           kept->outcome_unknown);
}

int rssi_error(int code, const char *format, ...)
{
    char text[sizeof last.message];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return rssi_error_full(code, text, NULL, NULL, NULL, 0, 0);
}

const char *rss_code_name(int code)
{
    switch (code) {
#define NAME(code) case code: return #code
    NAME(RSS_OK);
    NAME(RSS_NOTHING);
    NAME(RSS_E_MISUSE);
    NAME(RSS_E_INIT);
    NAME(RSS_E_FORKED);
    NAME(RSS_E_CLOSED);
    NAME(RSS_E_NO_MEMORY);
    NAME(RSS_E_INTERNAL);
    NAME(RSS_E_QUEUE_FULL);
    NAME(RSS_E_BUFFER);
    NAME(RSS_E_ERROR);
    NAME(RSS_E_NOT_FOUND);
    NAME(RSS_E_TOO_MANY_ROWS);
    NAME(RSS_E_ALREADY_EXISTS);
    NAME(RSS_E_INVALID_INPUT);
    NAME(RSS_E_CONFLICT);
    NAME(RSS_E_VERSION_CONFLICT);
    NAME(RSS_E_AUTHENTICATION);
    NAME(RSS_E_PERMISSION);
    NAME(RSS_E_UNAVAILABLE);
    NAME(RSS_E_TIMEOUT);
    NAME(RSS_E_SETTINGS);
    NAME(RSS_E_QUERY);
    NAME(RSS_E_MIGRATION);
    NAME(RSS_E_DATABASE);
#undef NAME
    default: return "RSS_E_?";
    }
}

void rss_free(void *memory)
{
    free(memory);
}
