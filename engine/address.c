/* Addresses: from text to what sockets take, and back. */
#include "engine/address.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "engine/reason.h"

#define UNIX_PREFIX "unix:"

/* Bytes of a path, so that its NUL fits, or of an abstract name behind its leading NUL. */
#define UNIX_NAME_MAX (sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1)

/* RFC 1035, 2.3.4: a name in text, without the dot that may end it; and one part of it. */
#define HOST_NAME_MAX_LEN  253
#define HOST_LABEL_MAX_LEN 63

static_assert(sizeof(UNIX_PREFIX) + UNIX_NAME_MAX <= SLUICE_ADDRESS_MAX, "any Unix path must fit");
static_assert(HOST_NAME_MAX_LEN + sizeof(".:65535") <= SLUICE_ADDRESS_MAX, "any host name must fit");
static_assert(HOST_NAME_MAX_LEN + sizeof(".") <= sizeof(((struct address *)NULL)->host), "any host name must fit");

/* What is being parsed, and where to say what is wrong with it. */
struct parse {
    const char *text;
    struct address *address;
    char *why;
    size_t why_size;
};

static int refuse(const struct parse *parse, const char *what)
{
    char quoted[REASON_QUOTE_MAX];

    return reason_refuse(parse->why, parse->why_size, "address %s: %s", reason_quote(quoted, parse->text), what);
}

/* -- Unix sockets -------------------------------------------------------------------------------------------- */

static int parse_unix(const struct parse *parse)
{
    const char *name = parse->text + strlen(UNIX_PREFIX);
    bool is_abstract = name[0] == '@';
    size_t len = strlen(name);
    struct ring_address *socket = &parse->address->socket;
    struct sockaddr_un *unix_address = (struct sockaddr_un *)&socket->any;

    if (is_abstract) {
        name++;
        len--;
    }
    if (len == 0)
        return refuse(parse, "the name is missing; allowed is unix:/path/to/socket or unix:@abstract-name");
    if (len > UNIX_NAME_MAX)
        return refuse(parse, "the name is too long; allowed are 1 to 107 bytes");

    /* An abstract name starts with a NUL and ends where the length says; a path ends with a NUL that is counted. */
    unix_address->sun_family = AF_UNIX;
    memcpy(unix_address->sun_path + is_abstract, name, len);
    socket->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1);
    return 0;
}

/* -- IP addresses and names ---------------------------------------------------------------------------------- */

static bool is_digit(char byte)
{
    return byte >= '0' && byte <= '9';
}

static bool is_letter(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* Reads a decimal number of at most `max` that is all of `text`. */
static bool read_number(const char *text, uint32_t max, uint32_t *number)
{
    uint64_t value = 0;

    if (text[0] == '\0')
        return false;
    for (; *text != '\0'; text++) {
        if (!is_digit(*text))
            return false;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max)
            return false;
    }
    *number = (uint32_t)value;
    return true;
}

static void set_ipv4(struct address *address, struct in_addr host, uint16_t port)
{
    struct sockaddr_in *ipv4 = (struct sockaddr_in *)&address->socket.any;

    ipv4->sin_family = AF_INET;
    ipv4->sin_addr = host;
    ipv4->sin_port = htons(port);
    address->socket.len = sizeof *ipv4;
}

static void set_ipv6(struct address *address, struct in6_addr host, uint32_t scope, uint16_t port)
{
    struct sockaddr_in6 *ipv6 = (struct sockaddr_in6 *)&address->socket.any;

    ipv6->sin6_family = AF_INET6;
    ipv6->sin6_addr = host;
    ipv6->sin6_scope_id = scope;
    ipv6->sin6_port = htons(port);
    address->socket.len = sizeof *ipv6;
}

/* Interface names hold neither of these: the kernel refuses them (dev_valid_name), and brackets would not close. */
static bool is_interface_name(const char *text)
{
    size_t len = strlen(text);

    return len > 0 && len < IF_NAMESIZE && strpbrk(text, "/:[]% \t\n\v\f\r") == NULL;
}

/* What stood between brackets: an address, and perhaps behind '%' the number or name of an interface. */
static int parse_ipv6(const struct parse *parse, uint16_t port)
{
    struct address *address = parse->address;
    char digits[INET6_ADDRSTRLEN];
    size_t digits_len = strcspn(address->host, "%");
    const char *scope_text = address->host[digits_len] == '%' ? address->host + digits_len + 1 : NULL;
    struct in6_addr host;
    uint32_t scope = 0;

    if (digits_len >= sizeof digits)
        return refuse(parse, "not an IPv6 address between the brackets; allowed is [::1]:7000");
    memcpy(digits, address->host, digits_len);
    digits[digits_len] = '\0';
    if (inet_pton(AF_INET6, digits, &host) != 1)
        return refuse(parse, "not an IPv6 address between the brackets; allowed is [::1]:7000");

    if (scope_text != NULL && !IN6_IS_ADDR_LINKLOCAL(&host))
        return refuse(parse, "'%' is allowed behind link-local addresses only, as in [fe80::1%eth0]:7000");
    if (scope_text != NULL && !read_number(scope_text, INT32_MAX, &scope)) {
        if (!is_interface_name(scope_text))
            return refuse(parse, "not an interface behind '%'; allowed is its name or number");
        address->kind = ADDRESS_NAME;
        return 0;
    }
    set_ipv6(address, host, scope, port);
    return 0;
}

/* Names ending in a number are IPv4 addresses, or meant to be: resolvers take "127.1" and "0x7f.1" for such, too. */
static bool ends_in_number(const char *host)
{
    const char *dot = strrchr(host, '.');
    const char *label = dot != NULL ? dot + 1 : host;

    if (label[0] == '0' && (label[1] == 'x' || label[1] == 'X'))
        return label[2 + strspn(label + 2, "0123456789abcdefABCDEF")] == '\0';
    return label[0] != '\0' && label[strspn(label, "0123456789")] == '\0';
}

/* RFC 1123 and underscores, which services and containers use: labels of letters, digits, '-' and '_'. */
static bool is_host_name(const char *host)
{
    size_t len = strlen(host);

    if (len > 0 && host[len - 1] == '.')
        len--;
    if (len == 0 || len > HOST_NAME_MAX_LEN)
        return false;

    for (size_t start = 0; start <= len;) {
        size_t end = start;

        while (end < len && (is_letter(host[end]) || is_digit(host[end]) || host[end] == '-' || host[end] == '_'))
            end++;
        if (end == start || end - start > HOST_LABEL_MAX_LEN)
            return false;
        if (host[start] == '-' || host[end - 1] == '-')
            return false;
        if (end < len && host[end] != '.')
            return false;
        start = end + 1;
    }
    return true;
}

static int parse_ipv4_or_name(const struct parse *parse, uint16_t port)
{
    struct address *address = parse->address;
    struct in_addr host;

    if (inet_pton(AF_INET, address->host, &host) == 1) {
        set_ipv4(address, host, port);
        return 0;
    }
    if (ends_in_number(address->host))
        return refuse(parse, "not an IPv4 address; allowed are four numbers from 0 to 255, as in 127.0.0.1:7000");
    if (!is_host_name(address->host))
        return refuse(parse, "not a host name; allowed are letters, digits, '-', '_' and '.', at most 253");
    address->kind = ADDRESS_NAME;
    return 0;
}

/* Cuts "host:port" in two; brackets end up in neither. */
static int split(const struct parse *parse, bool *is_bracketed)
{
    struct address *address = parse->address;
    const char *text = parse->text;
    const char *colon = strrchr(text, ':');
    const char *bracket = strrchr(text, ']');
    size_t host_len;

    *is_bracketed = text[0] == '[';
    if (*is_bracketed && bracket == NULL)
        return refuse(parse, "']' is missing; allowed is [::1]:7000");
    if (colon == NULL || (*is_bracketed && colon < bracket))
        return refuse(parse, "the port is missing; allowed is host:port, [ipv6]:port or unix:/path");
    if (*is_bracketed && colon != bracket + 1)
        return refuse(parse, "only ':' and a port may follow ']', as in [::1]:7000");
    if (!*is_bracketed && memchr(text, ':', (size_t)(colon - text)) != NULL)
        return refuse(parse, "too many colons; an IPv6 address is written in brackets, as in [::1]:7000");

    host_len = (size_t)(colon - text) - (*is_bracketed ? 2 : 0);
    if (host_len == 0)
        return refuse(parse, "the host is missing; allowed is host:port, or *:port to listen on every address");
    if (host_len >= sizeof address->host)
        return refuse(parse, "the host is too long; allowed are at most 253 characters");
    memcpy(address->host, text + *is_bracketed, host_len);

    if (strnlen(colon + 1, sizeof address->port) == sizeof address->port)
        return refuse(parse, "the port is not a number from 0 to 65535");
    strcpy(address->port, colon + 1);
    return 0;
}

static int parse_ip(const struct parse *parse)
{
    struct address *address = parse->address;
    bool is_bracketed;
    uint32_t port;
    int error = split(parse, &is_bracketed);

    if (error < 0)
        return error;
    if (!read_number(address->port, UINT16_MAX, &port))
        return refuse(parse, "the port is not a number from 0 to 65535");
    if (is_bracketed)
        return parse_ipv6(parse, (uint16_t)port);
    if (strcmp(address->host, "*") == 0) {
        address->is_any = true;
        set_ipv6(address, in6addr_any, 0, (uint16_t)port);
        return 0;
    }
    return parse_ipv4_or_name(parse, (uint16_t)port);
}

int address_parse(const char *text, struct address *address, char *why, size_t why_size)
{
    struct address parsed = {.kind = ADDRESS_SOCKET};
    const struct parse parse = {.text = text, .address = &parsed, .why = why, .why_size = why_size};
    bool is_unix = strncmp(text, UNIX_PREFIX, strlen(UNIX_PREFIX)) == 0;
    int error = is_unix ? parse_unix(&parse) : parse_ip(&parse);

    if (error < 0)
        return error;
    assert((parsed.kind == ADDRESS_SOCKET) == (parsed.socket.len > 0));
    *address = parsed;
    return 0;
}

int sluice_address_check(const char *text, char *why, size_t why_size)
{
    struct address address;

    return address_parse(text, &address, why, why_size);
}

/* -- Formatting ---------------------------------------------------------------------------------------------- */

/* Room for the longest text: a Unix name of control characters only, as long as the kernel takes them. */
#define FORMAT_MAX (sizeof(UNIX_PREFIX "@") + 4 * sizeof(((struct sockaddr_un *)NULL)->sun_path))

static void format_ipv4(struct in_addr host, in_port_t port, char *text)
{
    char digits[INET_ADDRSTRLEN];

    inet_ntop(AF_INET, &host, digits, sizeof digits);
    snprintf(text, FORMAT_MAX, "%s:%u", digits, ntohs(port));
}

static void format_ipv6(const struct sockaddr_in6 *ipv6, char *text)
{
    char digits[INET6_ADDRSTRLEN];

    inet_ntop(AF_INET6, &ipv6->sin6_addr, digits, sizeof digits);
    if (ipv6->sin6_scope_id != 0)
        snprintf(text, FORMAT_MAX, "[%s%%%u]:%u", digits, ipv6->sin6_scope_id, ntohs(ipv6->sin6_port));
    else
        snprintf(text, FORMAT_MAX, "[%s]:%u", digits, ntohs(ipv6->sin6_port));
}

/* The IPv4 address that an IPv4-mapped IPv6 address stands for. */
static struct in_addr unmap(const struct in6_addr *mapped)
{
    struct in_addr host;

    memcpy(&host, mapped->s6_addr + 12, sizeof host);
    return host;
}

static void format_unix(const struct sockaddr_un *unix_address, size_t address_len, char *text)
{
    size_t len = address_len - offsetof(struct sockaddr_un, sun_path);
    const char *name = unix_address->sun_path;
    char *end = stpcpy(text, UNIX_PREFIX);

    assert(unix_address->sun_family == AF_UNIX);
    assert(len <= sizeof unix_address->sun_path);
    if (len > 0 && name[0] == '\0') {
        *end++ = '@';
        name++;
        len--;
    } else {
        len = strnlen(name, len);
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)name[i];

        if (byte < 0x20 || byte == 0x7f)
            end += sprintf(end, "\\x%02x", byte);
        else
            *end++ = name[i];
    }
    *end = '\0';
}

int address_format(const struct ring_address *address, char *text, size_t text_size)
{
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address->any;
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address->any;
    char formatted[FORMAT_MAX];
    size_t size;

    if (address->any.sa_family == AF_INET)
        format_ipv4(ipv4->sin_addr, ipv4->sin_port, formatted);
    else if (address->any.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr))
        format_ipv4(unmap(&ipv6->sin6_addr), ipv6->sin6_port, formatted);
    else if (address->any.sa_family == AF_INET6)
        format_ipv6(ipv6, formatted);
    else
        format_unix((const struct sockaddr_un *)&address->any, address->len, formatted);

    size = strlen(formatted) + 1;
    if (size > text_size)
        return -ENOSPC;
    memcpy(text, formatted, size);
    return 0;
}
