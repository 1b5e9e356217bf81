/* Refusals in words: one line for a person, and -EINVAL for the program. */
#ifndef ENGINE_REASON_H
#define ENGINE_REASON_H

#include <stddef.h>

/* Room for what reason_quote() writes, its NUL included. */
#define REASON_QUOTE_MAX 68

/*
 * Writes one line into `why`, cut to `why_size` bytes with its NUL. `why` may be NULL if why_size is 0.
 * Returns -EINVAL, for the caller to return.
 */
int reason_refuse(char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/*
 * Copies what a person wrote, between quotation marks, in a form that fits a line: at most 60 bytes of it, "..." where
 * more was left out, and '?' for control characters. Returns `quoted`.
 */
const char *reason_quote(char quoted[REASON_QUOTE_MAX], const char *text);

#endif
