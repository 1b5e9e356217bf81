/* What the verbs share: their complaints, and the settings they start from. */
#include "tools/verb.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define COMPLAINT_MAX 1024

/* One line, whatever the user typed: control characters become question marks. */
__attribute__((format(printf, 2, 0))) static void complain(const char *verb, const char *format, va_list arguments)
{
    char line[COMPLAINT_MAX];

    vsnprintf(line, sizeof line, format, arguments);
    for (char *at = line; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at))
            *at = '?';
    }
    fprintf(stderr, "sluice %s: %s\n", verb, line);
}

int verb_fail(const char *verb, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain(verb, format, arguments);
    va_end(arguments);
    return VERB_FAILED;
}

int verb_refuse(const char *verb, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    complain(verb, format, arguments);
    va_end(arguments);
    return VERB_MISUSED;
}

const char *verb_error_text(int error)
{
    const char *text = strerrordesc_np(-error);

    if (error == -EHOSTUNREACH)
        return "no such name, or no route to it";
    if (error == -EAGAIN) /* of a connection: only looking up its name says so */
        return "its name cannot be looked up now: the name service does not answer";
    if (error == -EMFILE)
        return "no more descriptors: raise the limit (ulimit -n), or open fewer connections";
    return text != NULL ? text : "unknown error";
}

int verb_read_settings(const char *verb, struct sluice_engine_options *options)
{
    char why[SLUICE_REASON_MAX];

    if (sluice_engine_options_from_env(options, why, sizeof why) < 0)
        return verb_refuse(verb, "%s", why);
    if (sluice_engine_options_check(options, why, sizeof why) < 0)
        return verb_refuse(verb, "%s", why);
    return VERB_DONE;
}

int verb_fail_engine(const char *verb, int error)
{
    char why[SLUICE_REASON_MAX];

    sluice_engine_explain(error, why, sizeof why);
    return verb_fail(verb, "%s", why);
}

void verb_raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* if refused, we go on with what we have */
}
