/*
 * Fuzzes addresses: the input as text, and as what a kernel may give for one. What is written is read as the same.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "engine/address.h"
#include "tests/fuzz/fuzz.h"

static size_t name_len(const struct ring_address *address)
{
    size_t len = address->len - offsetof(struct sockaddr_un, sun_path);

    return ((const struct sockaddr_un *)&address->any)->sun_path[0] == '\0' ? len : len - 1;
}

/* True if writing it loses something: control characters are shown, and IPv4 in IPv6 clothing is undressed. */
static bool is_changed_by_writing(const struct ring_address *address)
{
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address->any;
    const struct sockaddr_un *local = (const struct sockaddr_un *)&address->any;

    if (address->any.sa_family == AF_INET6)
        return IN6_IS_ADDR_V4MAPPED(&ipv6->sin6_addr);
    if (address->any.sa_family != AF_UNIX)
        return false;
    /* An abstract name has a NUL before it, a path behind it. */
    for (size_t i = local->sun_path[0] == '\0'; i < name_len(address); i++)
        if ((unsigned char)local->sun_path[i] < 0x20 || local->sun_path[i] == 0x7f)
            return true;
    return false;
}

/* Writes an address, with just enough room and with one byte less. */
static void format(const struct ring_address *address, char text[1024])
{
    char small[1024];
    size_t size;

    must(address_format(address, text, 1024) == 0);
    must(is_one_line(text));
    size = strlen(text) + 1;
    memset(small, '#', sizeof small);
    must(address_format(address, small, size - 1) == -ENOSPC);
    must(small[0] == '#');
    must(address_format(address, small, size) == 0);
    must(small[size] == '#' && strcmp(small, text) == 0);
}

static void check_socket(const struct address *address)
{
    char text[1024];
    char text_again[1024];
    char why[SLUICE_REASON_MAX] = "";
    struct address again;

    format(&address->socket, text);
    must(strlen(text) < SLUICE_ADDRESS_MAX || is_changed_by_writing(&address->socket));
    if (address->socket.any.sa_family == AF_UNIX && is_changed_by_writing(&address->socket))
        return;
    must(address_parse(text, &again, why, sizeof why) == 0, "%s", why);
    must(again.kind == ADDRESS_SOCKET);
    if (!is_changed_by_writing(&address->socket))
        must(memcmp(&again.socket, &address->socket, sizeof again.socket) == 0, "%s is read as another", text);
    format(&again.socket, text_again);
    must(strcmp(text, text_again) == 0, "%s is written as %s", text, text_again);
}

/* Host and port apart are all there is to a name. */
static void check_name(const struct address *address)
{
    bool is_bracketed = strchr(address->host, ':') != NULL;
    char text[1024];
    char why[SLUICE_REASON_MAX] = "";
    struct address again;

    must(address->host[0] != '\0' && address->port[0] != '\0');
    snprintf(text, sizeof text, is_bracketed ? "[%s]:%s" : "%s:%s", address->host, address->port);
    must(address_parse(text, &again, why, sizeof why) == 0, "%s", why);
    must(memcmp(&again, address, sizeof again) == 0);
}

/* The port is the number behind the last colon. */
static void check_port(const struct address *address, const char *text)
{
    const struct sockaddr_in *ip = (const struct sockaddr_in *)&address->socket.any; /* IPv6 has it in the same place */

    if (address->kind == ADDRESS_SOCKET && ip->sin_family != AF_UNIX)
        must(strtoul(strrchr(text, ':') + 1, NULL, 10) == ntohs(ip->sin_port), "%s", text);
}

static void fuzz_text(const uint8_t *data, size_t len)
{
    char *text = calloc(1, len + 1);
    char why[SLUICE_REASON_MAX] = "";
    struct address untouched;
    struct address address;
    int error;

    must(text);
    memcpy(text, data, len);
    memset(&untouched, '#', sizeof untouched);
    address = untouched;
    error = address_parse(text, &address, why, sizeof why);
    must(sluice_address_check(text, why, sizeof why) == error);
    if (error) {
        must(error == -EINVAL);
        must(is_one_line(why), "%s", why);
        must(memcmp(&address, &untouched, sizeof address) == 0);
    } else if (address.kind == ADDRESS_SOCKET) {
        check_port(&address, text);
        check_socket(&address);
    } else {
        check_name(&address);
    }
    free(text);
}

static void fuzz_sockets(const uint8_t *data, size_t len)
{
    struct ring_address ipv4 = {.len = sizeof(struct sockaddr_in)};
    struct ring_address ipv6 = {.len = sizeof(struct sockaddr_in6)};
    struct ring_address local = {0};
    char text[1024];

    memcpy(&ipv4.any, data, len < ipv4.len ? len : ipv4.len);
    ipv4.any.sa_family = AF_INET;
    format(&ipv4, text);
    memcpy(&ipv6.any, data, len < ipv6.len ? len : ipv6.len);
    ipv6.any.sa_family = AF_INET6;
    format(&ipv6, text);
    if (len > sizeof(struct sockaddr_un))
        len = sizeof(struct sockaddr_un);
    memcpy(&local.any, data, len);
    local.len = (socklen_t)(len > sizeof local.any.sa_family ? len : sizeof local.any.sa_family);
    local.any.sa_family = AF_UNIX;
    must(address_format(&local, text, sizeof text) == 0);
    must(is_one_line(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    fuzz_text(data, len);
    fuzz_sockets(data, len);
    return 0;
}
