/* The results of a load, for people and for machines. */
#ifndef TOOLS_LOAD_REPORT_H
#define TOOLS_LOAD_REPORT_H

#include <stdbool.h>

#include "tools/load.h"

/* Prints a table on standard output, or one JSON object with the same contents. */
void load_report_print(const struct load_options *options, const struct load_result *result, bool wants_json);

/* Prints what went wrong, if anything did. Returns the verb's exit status. */
int load_report_status(const char *verb, const struct load_options *options, const struct load_result *result);

#endif
