/* Addresses in text: what is understood, what is refused and how, and that writing undoes reading. */
#include "engine/address.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Fills `text` with `prefix`, `count` times `letter`, and `suffix`. */
static const char *repeat(char *text, const char *prefix, char letter, size_t count, const char *suffix)
{
    size_t prefix_len = strlen(prefix);

    strcpy(text, prefix);
    memset(text + prefix_len, letter, count);
    strcpy(text + prefix_len + count, suffix);
    return text;
}

static struct address parse(const char *text)
{
    struct address address;
    char why[SLUICE_REASON_MAX] = "";

    cr_assert_eq(address_parse(text, &address, why, sizeof why), 0, "%s: %s", text, why);
    return address;
}

/* -- What is understood -------------------------------------------------------------------------------------- */

Test(address, reads_ipv4)
{
    struct address address = parse("127.0.0.1:7000");
    const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)&address.socket.any;

    cr_assert_eq(address.kind, ADDRESS_SOCKET);
    cr_assert_eq(address.socket.len, sizeof *ipv4);
    cr_assert_eq(ipv4->sin_family, AF_INET);
    cr_assert_eq(ipv4->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
    cr_assert_eq(ntohs(ipv4->sin_port), 7000);
    cr_assert_not(address.is_any);
}

Test(address, reads_ipv6)
{
    struct address address = parse("[2001:db8::1]:443");
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address.socket.any;
    struct in6_addr expected;

    inet_pton(AF_INET6, "2001:db8::1", &expected);
    cr_assert_eq(address.kind, ADDRESS_SOCKET);
    cr_assert_eq(address.socket.len, sizeof *ipv6);
    cr_assert_eq(ipv6->sin6_family, AF_INET6);
    cr_assert_eq(memcmp(&ipv6->sin6_addr, &expected, sizeof expected), 0);
    cr_assert_eq(ntohs(ipv6->sin6_port), 443);
    cr_assert_eq(ipv6->sin6_scope_id, 0);
    cr_assert_not(address.is_any);
}

Test(address, reads_a_scope_number)
{
    struct address address = parse("[fe80::1%7]:443");

    cr_assert_eq(address.kind, ADDRESS_SOCKET);
    cr_assert_eq(((const struct sockaddr_in6 *)&address.socket.any)->sin6_scope_id, 7);
}

Test(address, leaves_a_scope_name_to_be_looked_up)
{
    struct address address = parse("[fe80::1%eth0]:443");

    cr_assert_eq(address.kind, ADDRESS_NAME);
    cr_assert_str_eq(address.host, "fe80::1%eth0");
    cr_assert_str_eq(address.port, "443");
}

Test(address, reads_a_star_as_every_address)
{
    struct address address = parse("*:7000");
    const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)&address.socket.any;

    cr_assert(address.is_any);
    cr_assert_eq(address.kind, ADDRESS_SOCKET);
    cr_assert_eq(ipv6->sin6_family, AF_INET6);
    cr_assert(IN6_IS_ADDR_UNSPECIFIED(&ipv6->sin6_addr));
    cr_assert_eq(ntohs(ipv6->sin6_port), 7000);
}

Test(address, takes_a_written_wildcard_for_its_family_only)
{
    cr_assert_not(parse("0.0.0.0:7000").is_any);
    cr_assert_not(parse("[::]:7000").is_any);
}

Test(address, leaves_names_to_be_looked_up)
{
    static const char *const names[] = {
        "localhost",
        "example.org",
        "example.org.",
        "a",
        "A.b-c.D",
        "my_service",
        "_sluice._tcp.example.org",
        "xn--bcher-kva.example",
        "1and1.com",
        "3com",
        "0x7g",
        "4.in-addr.arpa",
    };

    for (size_t i = 0; i < COUNT(names); i++) {
        char text[SLUICE_ADDRESS_MAX];
        struct address address;

        snprintf(text, sizeof text, "%s:65535", names[i]);
        address = parse(text);
        cr_expect_eq(address.kind, ADDRESS_NAME, "%s", text);
        cr_expect_str_eq(address.host, names[i]);
        cr_expect_str_eq(address.port, "65535");
        cr_expect_eq(address.socket.len, 0, "%s", text);
    }
}

Test(address, reads_a_name_of_any_length_allowed)
{
    char label[80], longest[310], text[SLUICE_ADDRESS_MAX];

    repeat(label, "", 'a', 63, "");
    snprintf(longest, sizeof longest, "%s.%s.%s.%.61s", label, label, label, label);
    cr_assert_eq(strlen(longest), 253);
    snprintf(text, sizeof text, "%s:1", longest);
    cr_assert_str_eq(parse(text).host, longest);
    snprintf(text, sizeof text, "%s.:1", longest);
    cr_assert_eq(strlen(parse(text).host), 254);
}

Test(address, reads_every_port)
{
    static const struct {
        const char *text;
        unsigned port;
    } cases[] = {{"1.2.3.4:0", 0}, {"1.2.3.4:1", 1}, {"1.2.3.4:00080", 80}, {"1.2.3.4:65535", 65535}};

    for (size_t i = 0; i < COUNT(cases); i++) {
        struct address address = parse(cases[i].text);

        cr_expect_eq(ntohs(((const struct sockaddr_in *)&address.socket.any)->sin_port), cases[i].port, "%s",
                     cases[i].text);
    }
}

Test(address, reads_a_unix_path)
{
    struct address address = parse("unix:/run/sluice.sock");
    const struct sockaddr_un *unix_address = (const struct sockaddr_un *)&address.socket.any;

    cr_assert_eq(address.kind, ADDRESS_SOCKET);
    cr_assert_eq(unix_address->sun_family, AF_UNIX);
    cr_assert_str_eq(unix_address->sun_path, "/run/sluice.sock");
    cr_assert_eq(address.socket.len, offsetof(struct sockaddr_un, sun_path) + strlen("/run/sluice.sock") + 1);
}

Test(address, reads_an_abstract_name_without_a_nul_at_its_end)
{
    struct address address = parse("unix:@sluice");
    const struct sockaddr_un *unix_address = (const struct sockaddr_un *)&address.socket.any;

    cr_assert_eq(memcmp(unix_address->sun_path, "\0sluice", 7), 0);
    cr_assert_eq(address.socket.len, offsetof(struct sockaddr_un, sun_path) + 7);
}

Test(address, reads_unix_names_up_to_107_bytes)
{
    char text[SLUICE_ADDRESS_MAX];

    cr_assert_eq(parse(repeat(text, "unix:/", 'p', 106, "")).socket.len, sizeof(struct sockaddr_un));
    cr_assert_eq(parse(repeat(text, "unix:@", 'a', 107, "")).socket.len, sizeof(struct sockaddr_un));
    cr_assert_eq(sluice_address_check(repeat(text, "unix:/", 'p', 107, ""), NULL, 0), -EINVAL);
    cr_assert_eq(sluice_address_check(repeat(text, "unix:@", 'a', 108, ""), NULL, 0), -EINVAL);
}

/* -- What is refused ----------------------------------------------------------------------------------------- */

static const struct refusal {
    const char *text;
    const char *what;    /* is wrong */
    const char *allowed; /* instead */
} refusals[] = {
    {"", "port is missing", "host:port"},
    {"localhost", "port is missing", "host:port"},
    {"127.0.0.1", "port is missing", "host:port"},
    {":7000", "host is missing", "*:port"},
    {"[]:7000", "host is missing", "host:port"},
    {"localhost:", "port", "0 to 65535"},
    {"localhost:http", "port", "0 to 65535"},
    {"localhost:-1", "port", "0 to 65535"},
    {"localhost:+1", "port", "0 to 65535"},
    {"localhost: 1", "port", "0 to 65535"},
    {"localhost:1 ", "port", "0 to 65535"},
    {"localhost:0x50", "port", "0 to 65535"},
    {"localhost:65536", "port", "0 to 65535"},
    {"localhost:99999", "port", "0 to 65535"},
    {"localhost:4294967297", "port", "0 to 65535"},
    {"localhost:000080", "port", "0 to 65535"},
    {"::1:7000", "too many colons", "[::1]:7000"},
    {"tcp:localhost:7000", "too many colons", "[::1]:7000"},
    {"[::1:7000", "']' is missing", "[::1]:7000"},
    {"[::1]", "port is missing", "host:port"},
    {"[::1]7000", "port is missing", "host:port"},
    {"[::1]x:7000", "may follow ']'", "[::1]:7000"},
    {"[::g]:7000", "not an IPv6 address", "[::1]:7000"},
    {"[127.0.0.1]:7000", "not an IPv6 address", "[::1]:7000"},
    {"[1:2:3:4:5:6:7:8:9:a:b:c:d:e:f:1:2:3:4:5:6:7:8]:7000", "not an IPv6 address", "[::1]:7000"},
    {"[example.org]:7000", "not an IPv6 address", "[::1]:7000"},
    {"[fe80::1%]:7000", "not an interface", "name or number"},
    {"[fe80::1%a/b]:7000", "not an interface", "name or number"},
    {"[fe80::1%sixteen-letters-]:7000", "not an interface", "name or number"},
    {"[fe80::1%99999999999]:7000", NULL, NULL}, /* an odd name for an interface, but a name */
    {"[2001:db8::1%eth0]:7000", "link-local", "[fe80::1%eth0]"},
    {"[::1%1]:7000", "link-local", "[fe80::1%eth0]"},
    {"256.0.0.1:7000", "not an IPv4 address", "0 to 255"},
    {"127.1:7000", "not an IPv4 address", "0 to 255"},
    {"2130706433:7000", "not an IPv4 address", "0 to 255"},
    {"0x7f000001:7000", "not an IPv4 address", "0 to 255"},
    {"127.0.0.0x1:7000", "not an IPv4 address", "0 to 255"},
    {"127.0.0.01:7000", "not an IPv4 address", "0 to 255"},
    {"1.2.3.4.5:7000", "not an IPv4 address", "0 to 255"},
    {" 127.0.0.1:7000", "not an IPv4 address", "0 to 255"},
    {"exa mple.org:7000", "not a host name", "letters, digits"},
    {" example.org:7000", "not a host name", "letters, digits"},
    {"example..org:7000", "not a host name", "letters, digits"},
    {".example.org:7000", "not a host name", "letters, digits"},
    {"example.org..:7000", "not a host name", "letters, digits"},
    {".:7000", "not a host name", "letters, digits"},
    {"-example.org:7000", "not a host name", "letters, digits"},
    {"example-.org:7000", "not a host name", "letters, digits"},
    {"b\xc3\xbc"
     "cher.example:7000",
     "not a host name", "letters, digits"},
    {"user@example.org:7000", "not a host name", "letters, digits"},
    {"http//x:7000", "not a host name", "letters, digits"},
    {"**:7000", "not a host name", "letters, digits"},
    {"*.example.org:7000", "not a host name", "letters, digits"},
    {"unix:", "name is missing", "unix:/path"},
    {"unix:@", "name is missing", "unix:@abstract-name"},
    {"unix", "port is missing", "unix:/path"},
};

Test(address, refuses_with_text_fault_and_what_is_allowed)
{
    for (size_t i = 0; i < COUNT(refusals); i++) {
        const struct refusal *refusal = &refusals[i];
        struct address address, untouched;
        char why[SLUICE_REASON_MAX] = "";
        int error;

        memset(&address, 0x5a, sizeof address);
        untouched = address;
        error = address_parse(refusal->text, &address, why, sizeof why);
        if (refusal->what == NULL) {
            cr_expect_eq(error, 0, "%s: %s", refusal->text, why);
            continue;
        }
        cr_expect_eq(error, -EINVAL, "%s", refusal->text);
        cr_expect(strstr(why, refusal->text), "%s: %s", refusal->text, why);
        cr_expect(strstr(why, refusal->what), "%s: %s", refusal->text, why);
        cr_expect(strstr(why, refusal->allowed), "%s: %s", refusal->text, why);
        cr_expect_null(strchr(why, '\n'), "%s", why);
        cr_expect_eq(memcmp(&address, &untouched, sizeof address), 0, "%s", refusal->text);
    }
}

Test(address, refuses_names_and_labels_that_are_too_long)
{
    char text[4096];

    cr_assert_eq(sluice_address_check(repeat(text, "", 'a', 63, ".org:1"), NULL, 0), 0);
    cr_assert_eq(sluice_address_check(repeat(text, "", 'a', 64, ".org:1"), NULL, 0), -EINVAL);
    cr_assert_eq(sluice_address_check(repeat(text, "", 'a', 255, ":1"), NULL, 0), -EINVAL);
    cr_assert_eq(sluice_address_check(repeat(text, "", 'a', 256, ":1"), NULL, 0), -EINVAL);
    cr_assert_eq(sluice_address_check(repeat(text, "", 'a', 4000, ":1"), NULL, 0), -EINVAL);
    cr_assert_eq(sluice_address_check(repeat(text, "a:", '1', 4000, ""), NULL, 0), -EINVAL);
}

Test(address, refuses_on_one_line_that_fits)
{
    char text[4096];
    char why[SLUICE_REASON_MAX];
    char tiny[8];

    cr_assert_eq(sluice_address_check(repeat(text, "a\n\x1b[31m", 'b', 3000, ":1"), why, sizeof why), -EINVAL);
    cr_assert_null(strpbrk(why, "\n\x1b"));
    cr_assert(strstr(why, "a??[31mbbb"));
    cr_assert(strstr(why, "bbb...\""), "%s", why);
    cr_assert(strstr(why, "too long"), "%s", why);

    cr_assert_eq(sluice_address_check("x", tiny, sizeof tiny), -EINVAL);
    cr_assert_str_eq(tiny, "address");
    cr_assert_eq(sluice_address_check("x", NULL, 0), -EINVAL);
}

Test(address, never_cuts_a_character_in_two)
{
    char text[200];
    char why[SLUICE_REASON_MAX];

    /* The 60th byte is the middle of a three-byte character. */
    repeat(text, "", 'a', 58, "\xe2\x82\xac\xe2\x82\xac:1");
    cr_assert_eq(sluice_address_check(text, why, sizeof why), -EINVAL);
    cr_assert(strstr(why, "aaa...\""), "%s", why);
}

/* -- Writing ------------------------------------------------------------------------------------------------- */

Test(address, writes_what_it_reads)
{
    static const char *const texts[] = {
        "127.0.0.1:7000",   "0.0.0.0:0",   "255.255.255.255:65535", "[::1]:7000",     "[::]:0",    "[2001:db8::1]:1",
        "[fe80::1%3]:7000", "unix:/run/x", "unix:relative",         "unix:@abstract", "unix:@a b", "unix:/tmp/\xc3\xa9",
    };

    for (size_t i = 0; i < COUNT(texts); i++) {
        struct address address = parse(texts[i]);
        char text[SLUICE_ADDRESS_MAX] = "";

        cr_expect_eq(address_format(&address.socket, text, sizeof text), 0);
        cr_expect_str_eq(text, texts[i]);
    }
}

Test(address, writes_the_longest_unix_names)
{
    char path[SLUICE_ADDRESS_MAX], text[SLUICE_ADDRESS_MAX];
    struct address address;
    struct sockaddr_un *unix_address = (struct sockaddr_un *)&address.socket.any;

    address = parse(repeat(path, "unix:/", 'p', 106, ""));
    cr_assert_eq(address_format(&address.socket, text, sizeof text), 0);
    cr_assert_str_eq(text, path);

    /* The kernel takes paths that fill sun_path, too, and gives them back with a NUL behind. */
    memset(unix_address->sun_path, 'q', sizeof unix_address->sun_path);
    address.socket.len = sizeof *unix_address;
    cr_assert_eq(address_format(&address.socket, text, sizeof text), 0);
    cr_assert_str_eq(text, repeat(path, "unix:", 'q', 108, ""));
}

Test(address, writes_mapped_ipv4_as_ipv4)
{
    struct address address = parse("[::ffff:10.1.2.3]:7000");
    char text[SLUICE_ADDRESS_MAX];

    cr_assert_eq(address_format(&address.socket, text, sizeof text), 0);
    cr_assert_str_eq(text, "10.1.2.3:7000");
}

Test(address, writes_a_unix_socket_without_a_name)
{
    struct ring_address address = {.len = offsetof(struct sockaddr_un, sun_path)};
    char text[SLUICE_ADDRESS_MAX];

    address.any.sa_family = AF_UNIX;
    cr_assert_eq(address_format(&address, text, sizeof text), 0);
    cr_assert_str_eq(text, "unix:");
}

Test(address, escapes_control_characters_in_unix_names)
{
    struct ring_address address = {.len = offsetof(struct sockaddr_un, sun_path) + 6};
    struct sockaddr_un *unix_address = (struct sockaddr_un *)&address.any;
    char text[SLUICE_ADDRESS_MAX];

    unix_address->sun_family = AF_UNIX;
    memcpy(unix_address->sun_path, "\0a\0\nb\x7f", 6);
    cr_assert_eq(address_format(&address, text, sizeof text), 0);
    cr_assert_str_eq(text, "unix:@a\\x00\\x0ab\\x7f");
}

Test(address, writes_nothing_where_it_does_not_fit)
{
    static const char *const texts[] = {"127.0.0.1:7000", "[fe80::1%3]:7000", "unix:/run/x", "unix:@abstract"};

    for (size_t i = 0; i < COUNT(texts); i++) {
        struct address address = parse(texts[i]);
        char text[64] = "untouched";

        cr_expect_eq(address_format(&address.socket, text, strlen(texts[i])), -ENOSPC);
        cr_expect_str_eq(text, "untouched");
        cr_expect_eq(address_format(&address.socket, NULL, 0), -ENOSPC);
        cr_expect_eq(address_format(&address.socket, text, strlen(texts[i]) + 1), 0);
    }
}
