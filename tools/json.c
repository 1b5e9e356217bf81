/* The JSON writer. */
#include "tools/json.h"

#include <inttypes.h>
#include <math.h>

static void write_text(struct json *json, const char *text)
{
    putc('"', json->file);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\')
            fprintf(json->file, "\\%c", byte);
        else if (byte < 0x20)
            fprintf(json->file, "\\u%04x", byte);
        else
            putc(byte, json->file);
    }
    putc('"', json->file);
}

/* What stands before every value. */
static void begin(struct json *json, const char *name)
{
    if (json->needs_comma)
        fputs(", ", json->file);
    if (name != NULL) {
        write_text(json, name);
        fputs(": ", json->file);
    }
    json->needs_comma = true;
}

static void open_with(struct json *json, const char *name, char bracket)
{
    begin(json, name);
    putc(bracket, json->file);
    json->needs_comma = false;
}

static void close_with(struct json *json, char bracket)
{
    putc(bracket, json->file);
    json->needs_comma = true;
}

void json_open_object(struct json *json, const char *name)
{
    open_with(json, name, '{');
}

void json_close_object(struct json *json)
{
    close_with(json, '}');
}

void json_open_list(struct json *json, const char *name)
{
    open_with(json, name, '[');
}

void json_close_list(struct json *json)
{
    close_with(json, ']');
}

void json_end(struct json *json)
{
    putc('\n', json->file);
    json->needs_comma = false;
}

void json_text(struct json *json, const char *name, const char *text)
{
    begin(json, name);
    write_text(json, text);
}

void json_count(struct json *json, const char *name, uint64_t count)
{
    begin(json, name);
    fprintf(json->file, "%" PRIu64, count);
}

void json_number(struct json *json, const char *name, double number)
{
    begin(json, name);
    if (isfinite(number))
        fprintf(json->file, "%.3f", number);
    else
        fputs("null", json->file);
}

void json_flag(struct json *json, const char *name, bool flag)
{
    begin(json, name);
    fputs(flag ? "true" : "false", json->file);
}

void json_null(struct json *json, const char *name)
{
    begin(json, name);
    fputs("null", json->file);
}
