/* Numbers with units: as people type them on a command line, and as they like to read them in a report. */
#ifndef TOOLS_UNITS_H
#define TOOLS_UNITS_H

#include <stddef.h>
#include <stdint.h>

#define UNITS_NS_PER_MS UINT64_C(1000000)
#define UNITS_NS_PER_S  UINT64_C(1000000000)

/* Room for any number in text, its NUL included. */
#define UNITS_TEXT_MAX 32

/* Each takes the whole of `text` and nothing else. Returns 0, -EINVAL, or -ERANGE if it does not fit 64 bits. */
int units_parse_count(const char *text, uint64_t *count);      /* "1000" */
int units_parse_size(const char *text, uint64_t *bytes);       /* "1000", "64K", "16M", "1G" */
int units_parse_duration(const char *text, uint64_t *time_ns); /* "17us", "250ms", "10s"; without a unit only "0" */

/* As it would be typed, and exact: "64K", "1500ms". */
void units_write_size(uint64_t bytes, char *text, size_t text_size);
void units_write_duration(uint64_t time_ns, char *text, size_t text_size);

/* To three digits: "15.1 MiB", "12.3 us". */
void units_show_size(double bytes, char *text, size_t text_size);
void units_show_duration(double time_ns, char *text, size_t text_size);

#endif
