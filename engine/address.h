/*
 * Addresses: from text to what sockets take, and back. include/sluice/address.h says how they are written.
 *
 * Nothing here asks the system: names and named IPv6 scopes ("%eth0") are left for a look-up.
 */
#ifndef ENGINE_ADDRESS_H
#define ENGINE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include <sluice/address.h>
#include <sluice/options.h>

#include "uring/ring.h"

enum address_kind {
    ADDRESS_SOCKET, /* `socket` is ready to use */
    ADDRESS_NAME,   /* `host` and `port` are to be looked up */
};

struct address {
    enum address_kind kind;
    bool is_any; /* true exactly when written as "*": every IPv6 and IPv4 address; `socket` is the IPv6 wildcard */
    struct ring_address socket; /* of ADDRESS_SOCKET, else empty */
    char host[256];             /* without brackets; empty for Unix sockets */
    char port[6];               /* decimal; empty for Unix sockets */
};

/* Returns 0, or -EINVAL with one line in `why` and `address` untouched. */
int address_parse(const char *text, struct address *address, char *why, size_t why_size);

/*
 * Writes an address as people write it. An IPv4 address in IPv6 clothing (::ffff:127.0.0.1), which is how IPv4 peers of
 * a "*" listener look, is written as the IPv4 address it is. A Unix socket without a name is "unix:". Control
 * characters in Unix names are written \xNN. Returns 0, or -ENOSPC with `text` untouched.
 */
int address_format(const struct ring_address *address, char *text, size_t text_size);

#endif
