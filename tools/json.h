/* Writes JSON to a file, member by member; commas, quotes and escapes are taken care of. */
#ifndef TOOLS_JSON_H
#define TOOLS_JSON_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json {
    FILE *file;
    bool needs_comma; /* True exactly when something stands before in the same object or list. */
};

/* `name` is NULL for the outermost object, and for what stands in a list. */
void json_open_object(struct json *json, const char *name);
void json_close_object(struct json *json);
void json_open_list(struct json *json, const char *name);
void json_close_list(struct json *json);
/* Ends the line that the outermost object stands on. */
void json_end(struct json *json);

void json_text(struct json *json, const char *name, const char *text);
void json_count(struct json *json, const char *name, uint64_t count);
void json_number(struct json *json, const char *name, double number);
void json_flag(struct json *json, const char *name, bool flag);
void json_null(struct json *json, const char *name);

#endif
