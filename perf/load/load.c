/* What the loads have in common: see load.h. */
#include "perf/load/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tools/clock.h"
#include "tools/json.h"
#include "tools/units.h"

#define CONNECTIONS_MAX 1000000
#define PID_MAX         4194304
#define ALLOWED_MAX     128
#define COMMON_COUNT    5
#define BACKLOG         4096
/* So many connections have the same source address: of some 28,000 ports each, not all are free at any time. */
#define CONNECTIONS_PER_SOURCE 8192
#define SOURCES                250

static const char addresses[] = "127.0.0.1:PORT or unix:/PATH";

/* -- Complaints ---------------------------------------------------------------------------------------------- */

void load_refuse(const char *what, const char *value, const char *allowed)
{
    fprintf(stderr, "%s: %s \"%s\": allowed is %s\n", program_invocation_short_name, what, value, allowed);
    exit(2);
}

void load_fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

void load_die(const char *what)
{
    load_fail("%s: %s", what, strerror(errno));
}

/* -- The command line ---------------------------------------------------------------------------------------- */

static bool parse_tcp(const char *text, struct load_address *address)
{
    unsigned port;
    char more;

    if (sscanf(text, "127.0.0.1:%u%c", &port, &more) != 1 || port == 0 || port > UINT16_MAX)
        return false;
    address->tcp = (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)port),
    };
    address->len = sizeof address->tcp;
    return true;
}

static bool parse_address(const char *text, struct load_address *address)
{
    const char *path = text + strlen("unix:");

    address->text = text;
    if (strncmp(text, "unix:/", strlen("unix:/")) != 0)
        return parse_tcp(text, address);
    if (strlen(path) >= sizeof address->local.sun_path)
        return false;
    address->local = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->local.sun_path, path, strlen(path) + 1);
    address->len = sizeof address->local;
    return true;
}

static bool parse_number(const struct load_argument *argument, const char *text)
{
    uint64_t number = 0;
    int error;

    if (argument->kind == LOAD_SIZE)
        error = units_parse_size(text, &number);
    else if (argument->kind == LOAD_TIME)
        error = units_parse_duration(text, &number);
    else
        error = units_parse_count(text, &number);
    if (error < 0 || number < argument->min || number > argument->max)
        return false;
    *argument->number = number;
    return true;
}

static void describe(const struct load_argument *argument, char *text, size_t text_size)
{
    char min[UNITS_TEXT_MAX];
    char max[UNITS_TEXT_MAX];

    if (argument->kind == LOAD_TIME) {
        units_write_duration(argument->min, min, sizeof min);
        units_write_duration(argument->max, max, sizeof max);
        snprintf(text, text_size, "a time from %s to %s (ns, us, ms, s)", min, max);
        return;
    }
    units_write_size(argument->min, min, sizeof min);
    units_write_size(argument->max, max, sizeof max);
    if (argument->kind == LOAD_SIZE)
        snprintf(text, text_size, "a size from %s to %s bytes (K, M, G)", min, max);
    else
        snprintf(text, text_size, "a number from %llu to %llu", (unsigned long long)argument->min,
                 (unsigned long long)argument->max);
}

static void take(const struct load_argument *argument, const char *option, const char *value)
{
    char allowed[ALLOWED_MAX];

    if (argument->kind == LOAD_ADDRESS && !parse_address(value, argument->address))
        load_refuse(option, value, addresses);
    if (argument->kind != LOAD_ADDRESS && !parse_number(argument, value)) {
        describe(argument, allowed, sizeof allowed);
        load_refuse(option, value, allowed);
    }
}

static const struct load_argument *find(const struct load_argument *rows, const char *name)
{
    for (; rows->name != NULL; rows++)
        if (strcmp(rows->name, name) == 0)
            return rows;
    return NULL;
}

/* Reads the options. Returns the index of the first argument that is none. */
static int read_options(char **argv, const struct load_argument *common, const struct load_argument *own)
{
    int at = 1;

    for (; argv[at] != NULL && strncmp(argv[at], "--", 2) == 0; at += 2) {
        const struct load_argument *argument = find(common, argv[at] + 2);

        if (argument == NULL && own != NULL)
            argument = find(own, argv[at] + 2);
        if (argument == NULL)
            load_refuse("option", argv[at], "one of those in the first comment of the source");
        if (argv[at + 1] == NULL)
            load_refuse(argv[at], "", "a value behind it");
        take(argument, argv[at], argv[at + 1]);
    }
    return at;
}

static int read_mode(const char *const *modes, const char *text)
{
    char allowed[ALLOWED_MAX] = "one of";

    for (int i = 0; modes[i] != NULL; i++) {
        if (text != NULL && strcmp(modes[i], text) == 0)
            return i;
        strncat(allowed, i == 0 ? " " : ", ", sizeof allowed - strlen(allowed) - 1);
        strncat(allowed, modes[i], sizeof allowed - strlen(allowed) - 1);
    }
    load_refuse("mode", text != NULL ? text : "", allowed);
}

/* Asks for the clock once, so that a process that is not there is refused before anything is done. */
static void check_server(const struct load_options *options)
{
    clockid_t clock;
    char pid[UNITS_TEXT_MAX];

    snprintf(pid, sizeof pid, "%llu", (unsigned long long)options->server_pid);
    if (options->server_pid > 0 && clock_getcpuclockid((pid_t)options->server_pid, &clock) != 0)
        load_refuse("--server-pid", pid, "a process that runs here");
}

static void raise_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int load_read_arguments(int argc, char **argv, struct load_options *options, const struct load_argument *own,
                        const char *const *modes)
{
    const struct load_argument common[COMMON_COUNT + 1] = {
        {.name = "connections", .min = 1, .max = CONNECTIONS_MAX, .number = &options->connections},
        {.name = "size", .kind = LOAD_SIZE, .min = 1, .max = LOAD_SIZE_MAX, .number = &options->size},
        {.name = "duration",
         .kind = LOAD_TIME,
         .min = 1,
         .max = 3600 * UNITS_NS_PER_S,
         .number = &options->duration_ns},
        {.name = "warmup", .kind = LOAD_TIME, .max = 3600 * UNITS_NS_PER_S, .number = &options->warmup_ns},
        {.name = "server-pid", .min = 1, .max = PID_MAX, .number = &options->server_pid},
        {.name = NULL},
    };
    int at = read_options(argv, common, own);
    int mode = 0;

    if (modes != NULL && at < argc)
        mode = read_mode(modes, argv[at++]);
    if (argc - at != 1)
        load_refuse("what stands behind the options", argc > at ? argv[argc - 1] : "",
                    modes != NULL ? "a mode and one address" : "one address");
    if (!parse_address(argv[at], &options->address))
        load_refuse("address", argv[at], addresses);
    check_server(options);
    signal(SIGPIPE, SIG_IGN);
    raise_limit();
    return mode;
}

/* -- Connections --------------------------------------------------------------------------------------------- */

/* Each address of 127.0.0.0/8 is ours, and each has ports of its own: closed connections keep theirs for a minute. */
static void choose_source(int fd, uint64_t number)
{
    uint32_t source = (uint32_t)(number / CONNECTIONS_PER_SOURCE % SOURCES);
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source)};
    int one = 1;

    if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&from, sizeof from) < 0)
        load_die("a source address of 127.0.0.0/8");
}

static int create_socket(const struct load_address *address, uint64_t number, int flags)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    int one = 1;

    if (fd < 0)
        load_die("socket");
    if (address->any.sa_family != AF_INET)
        return fd;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (number >= CONNECTIONS_PER_SOURCE)
        choose_source(fd, number);
    return fd;
}

int load_start_connecting(const struct load_address *address, uint64_t number)
{
    int fd = create_socket(address, number, SOCK_NONBLOCK);

    if (connect(fd, &address->any, address->len) == 0 || errno == EINPROGRESS)
        return fd;
    if (errno != EAGAIN)
        load_die(address->text);
    close(fd);
    errno = EAGAIN;
    return -1;
}

int load_connect(const struct load_address *address, uint64_t number)
{
    int fd = create_socket(address, number, 0);
    struct timeval patience = {.tv_sec = (time_t)(LOAD_PATIENCE_NS / UNITS_NS_PER_S)};

    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, &address->any, address->len) < 0)
        load_die(address->text);
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        load_die("fcntl");
    return fd;
}

int load_listen(const struct load_address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1;

    if (fd < 0)
        load_die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &address->any, address->len) < 0 || listen(fd, BACKLOG) < 0)
        load_die(address->text);
    return fd;
}

int load_watch_create(void)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0)
        load_die("epoll_create1");
    return epoll;
}

void load_watch(int epoll, int fd, uint32_t events, void *data)
{
    struct epoll_event event = {.events = events, .data.ptr = data};

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        load_die("epoll_ctl");
}

/* -- Measuring ----------------------------------------------------------------------------------------------- */

static uint64_t server_cpu_ns(const struct load_options *options)
{
    clockid_t clock;

    if (options->server_pid == 0)
        return 0;
    if (clock_getcpuclockid((pid_t)options->server_pid, &clock) != 0)
        load_fail("the server's process has ended");
    return clock_read_ns(clock);
}

void load_window_start(struct load_window *window, const struct load_options *options)
{
    *window = (struct load_window){.options = options, .phase = LOAD_WARMING, .since_ns = clock_now_ns()};
    histogram_init(&window->latency);
}

static void begin_measuring(struct load_window *window)
{
    window->messages = 0;
    window->bytes = 0;
    histogram_init(&window->latency);
    window->load_cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
    window->server_cpu_ns = server_cpu_ns(window->options);
    window->since_ns = clock_now_ns();
    window->phase = LOAD_MEASURING;
}

static void end_measuring(struct load_window *window)
{
    window->measured_ns = clock_now_ns() - window->since_ns;
    window->server_cpu_ns = server_cpu_ns(window->options) - window->server_cpu_ns;
    window->load_cpu_ns = clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) - window->load_cpu_ns;
    window->phase = LOAD_OVER;
}

bool load_window_is_over(struct load_window *window, uint64_t now_ns)
{
    if (window->phase == LOAD_WARMING && now_ns >= window->since_ns + window->options->warmup_ns)
        begin_measuring(window);
    else if (window->phase == LOAD_MEASURING && now_ns >= window->since_ns + window->options->duration_ns)
        end_measuring(window);
    return window->phase == LOAD_OVER;
}

static void write_latency(struct json *json, const struct histogram *latency)
{
    static const struct {
        uint32_t per_ten_thousand;
        const char *name;
    } percentiles[] = {{5000, "p50"}, {9000, "p90"}, {9900, "p99"}, {9990, "p99.9"}};
    uint64_t value;

    json_open_object(json, "latency_ns");
    for (size_t i = 0; i < sizeof percentiles / sizeof percentiles[0]; i++) {
        if (histogram_percentile(latency, percentiles[i].per_ten_thousand, &value))
            json_count(json, percentiles[i].name, value);
        else
            json_null(json, percentiles[i].name);
    }
    if (histogram_maximum(latency, &value))
        json_count(json, "max", value);
    else
        json_null(json, "max");
    json_close_object(json);
}

void load_window_report(const struct load_window *window, bool has_messages)
{
    struct json json = {.file = stdout};
    double seconds = (double)window->measured_ns / (double)UNITS_NS_PER_S;

    if (window->bytes == 0)
        load_fail("%s: nothing came or went while it was measured", window->options->address.text);
    json_open_object(&json, NULL);
    if (has_messages)
        json_count(&json, "messages", window->messages);
    json_number(&json, "seconds", seconds);
    json_number(&json, "rate", (double)(has_messages ? window->messages : window->bytes) / seconds);
    json_count(&json, "bytes", window->bytes);
    if (window->options->server_pid > 0)
        json_count(&json, "server_cpu_ns", window->server_cpu_ns);
    json_count(&json, "load_cpu_ns", window->load_cpu_ns);
    if (has_messages)
        write_latency(&json, &window->latency);
    json_close_object(&json);
    json_end(&json);
}
