#include "payload.h"

#include <stdint.h>
#include <string.h>

typedef struct {
    const unsigned char *start;
    const unsigned char *next;
    const unsigned char *end;
    const char *error;
} reader;

int rssq_utf8_size(const unsigned char *at, const unsigned char *end)
{
    const unsigned char first = at[0];

    if (first < 0x80)
        return 1;
    if (first < 0xC2)
        return 0;
    if (first < 0xE0)
        return end - at >= 2 && (at[1] & 0xC0) == 0x80 ? 2 : 0;
    if (first < 0xF0) {
        if (end - at < 3 || (at[1] & 0xC0) != 0x80 || (at[2] & 0xC0) != 0x80)
            return 0;
        if ((first == 0xE0 && at[1] < 0xA0) || (first == 0xED && at[1] > 0x9F)) /* too long a form; a surrogate */
            return 0;
        return 3;
    }
    if (first > 0xF4 || end - at < 4 || (at[1] & 0xC0) != 0x80 || (at[2] & 0xC0) != 0x80 || (at[3] & 0xC0) != 0x80)
        return 0;
    if ((first == 0xF0 && at[1] < 0x90) || (first == 0xF4 && at[1] > 0x8F))
        return 0;
    return 4;
}

static int fail(reader *in, const char *error)
{
    if (in->error == NULL)
        in->error = error;
    return 0;
}

static void skip_space(reader *in)
{
    while (in->next < in->end && (*in->next == ' ' || *in->next == '\n' || *in->next == '\r' || *in->next == '\t'))
        in->next++;
}

static int is_digit(const reader *in)
{
    return in->next < in->end && *in->next >= '0' && *in->next <= '9';
}

/* The four digits after \u, or -1. */
static int read_hex(reader *in)
{
    int value = 0, i;

    if (in->end - in->next < 4)
        return -1;
    for (i = 0; i < 4; i++) {
        const unsigned char digit = in->next[i];

        if (digit >= '0' && digit <= '9')
            value = value * 16 + (digit - '0');
        else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
            value = value * 16 + ((digit | 0x20) - 'a' + 10);
        else
            return -1;
    }
    in->next += 4;
    return value;
}

/* After a backslash. */
static int skip_escape(reader *in)
{
    int unit;

    if (in->next == in->end)
        return fail(in, "ends within a string");
    if (*in->next != 'u') {
        if (strchr("\"\\/bfnrt", *in->next) == NULL || *in->next == 0)
            return fail(in, "has an escape that JSON does not know");
        in->next++;
        return 1;
    }
    in->next++;
    unit = read_hex(in);
    if (unit < 0)
        return fail(in, "has an escape that JSON does not know");
    if (unit == 0)
        return fail(in, "must not contain the character U+0000");
    if (unit >= 0xDC00 && unit <= 0xDFFF)
        return fail(in, "has half of a surrogate pair");
    if (unit >= 0xD800 && unit <= 0xDBFF) {
        if (in->end - in->next < 2 || in->next[0] != '\\' || in->next[1] != 'u')
            return fail(in, "has half of a surrogate pair");
        in->next += 2;
        unit = read_hex(in);
        if (unit < 0xDC00 || unit > 0xDFFF)
            return fail(in, "has half of a surrogate pair");
    }
    return 1;
}

/* After the quotation mark. */
static int skip_string(reader *in)
{
    while (in->next < in->end) {
        const unsigned char byte = *in->next;

        if (byte == '"') {
            in->next++;
            return 1;
        }
        if (byte == '\\') {
            in->next++;
            if (!skip_escape(in))
                return 0;
        } else if (byte < 0x20)
            return fail(in, "has a control character within a string");
        else if (byte < 0x80)
            in->next++;
        else {
            const int size = rssq_utf8_size(in->next, in->end);

            if (size == 0)
                return fail(in, "must be valid UTF-8");
            in->next += size;
        }
    }
    return fail(in, "ends within a string");
}

static int skip_number(reader *in)
{
    if (*in->next == '-')
        in->next++;
    if (!is_digit(in))
        return fail(in, "is not JSON");
    if (*in->next == '0')
        in->next++;
    else
        while (is_digit(in))
            in->next++;
    if (in->next < in->end && *in->next == '.') {
        in->next++;
        if (!is_digit(in))
            return fail(in, "is not JSON");
        while (is_digit(in))
            in->next++;
    }
    if (in->next < in->end && (*in->next | 0x20) == 'e') {
        in->next++;
        if (in->next < in->end && (*in->next == '+' || *in->next == '-'))
            in->next++;
        if (!is_digit(in))
            return fail(in, "is not JSON");
        while (is_digit(in))
            in->next++;
    }
    return 1;
}

static int skip_word(reader *in, const char *word)
{
    const size_t size = strlen(word);

    if ((size_t)(in->end - in->next) < size || memcmp(in->next, word, size) != 0)
        return fail(in, "is not JSON");
    in->next += size;
    return 1;
}

/* A value that is neither object nor array. */
static int skip_scalar(reader *in)
{
    switch (*in->next) {
    case '"':
        in->next++;
        return skip_string(in);
    case 't':
        return skip_word(in, "true");
    case 'f':
        return skip_word(in, "false");
    case 'n':
        return skip_word(in, "null");
    default:
        return skip_number(in);
    }
}

/* "key": */
static int skip_key(reader *in)
{
    skip_space(in);
    if (in->next == in->end || *in->next != '"')
        return fail(in, "is not JSON");
    in->next++;
    if (!skip_string(in))
        return 0;
    skip_space(in);
    if (in->next == in->end || *in->next != ':')
        return fail(in, "is not JSON");
    in->next++;
    return 1;
}

/* Not recursive: real-time hosts give their threads small stacks. */
static int skip_document(reader *in)
{
    unsigned char closing[RSSQ_MAX_DEPTH];
    int depth = 0;

    for (;;) {
        /* A value begins here. */
        skip_space(in);
        if (in->next == in->end)
            return fail(in, "is not JSON");
        if (*in->next == '{' || *in->next == '[') {
            const int is_object = *in->next == '{';

            if (depth == RSSQ_MAX_DEPTH)
                return fail(in, "is nested more than 100 levels deep");
            closing[depth++] = is_object ? '}' : ']';
            in->next++;
            skip_space(in);
            if (in->next == in->end || *in->next != closing[depth - 1]) {
                if (is_object && !skip_key(in))
                    return 0;
                continue;
            }
        } else if (!skip_scalar(in))
            return 0;
        /* A value, or an empty object or array, has ended, but for its bracket. */
        for (;;) {
            skip_space(in);
            if (in->next == in->end)
                return fail(in, "is not JSON");
            if (*in->next == ',') {
                in->next++;
                if (closing[depth - 1] == '}' && !skip_key(in))
                    return 0;
                break;
            }
            if (*in->next != closing[depth - 1])
                return fail(in, "is not JSON");
            in->next++;
            if (--depth == 0)
                return 1;
        }
    }
}

const char *rssq_check_json(const unsigned char *text, size_t size, size_t *at)
{
    reader in;

    in.start = in.next = text;
    in.end = text + size;
    in.error = NULL;
    *at = 0;
    if (size > RSSQ_MAX_PAYLOAD)
        return "may be at most 1048576 bytes of JSON";
    skip_space(&in);
    if (in.next == in.end || (*in.next != '{' && *in.next != '['))
        return "must be a JSON object or array";
    if (skip_document(&in)) {
        skip_space(&in);
        if (in.next != in.end)
            fail(&in, "goes on after its end");
    }
    *at = (size_t)(in.next - in.start);
    return in.error;
}

const char *rssq_check_name(const unsigned char *text, size_t size, size_t *at)
{
    size_t characters = 0;

    *at = 0;
    while (*at < size) {
        const int bytes = rssq_utf8_size(text + *at, text + size);

        if (bytes == 0)
            return "must be valid UTF-8";
        if (text[*at] == 0)
            return "must not contain the character U+0000";
        *at += (size_t)bytes;
        characters++;
    }
    if (characters < 1 || characters > RSSQ_MAX_NAME)
        return "must be 1 to 255 characters";
    return NULL;
}
