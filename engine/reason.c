/* Refusals in words. */
#include "engine/reason.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define QUOTED_MAX 60

static_assert(sizeof("\"...\"") + QUOTED_MAX <= REASON_QUOTE_MAX, "a quotation needs room for its marks");

int reason_refuse(char *why, size_t why_size, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(why, why_size, format, arguments);
    va_end(arguments);
    return -EINVAL;
}

static bool is_utf8_continuation(char byte)
{
    return ((unsigned char)byte & 0xc0) == 0x80;
}

/* Bytes to show of `text`: no more than fit, and no character cut in two. */
static size_t quoted_len(const char *text)
{
    size_t len = strnlen(text, QUOTED_MAX + 1);

    if (len <= QUOTED_MAX)
        return len;
    len = QUOTED_MAX;
    while (len > 0 && is_utf8_continuation(text[len]))
        len--;
    return len;
}

const char *reason_quote(char quoted[REASON_QUOTE_MAX], const char *text)
{
    size_t len = quoted_len(text);
    char *end = quoted;

    *end++ = '"';
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        bool is_control = byte < 0x20 || byte == 0x7f;

        *end++ = is_control ? '?' : text[i];
    }
    strcpy(end, text[len] != '\0' ? "...\"" : "\"");
    return quoted;
}
