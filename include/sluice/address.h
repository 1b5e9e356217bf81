/*
 * Addresses as people write them, in every call that takes one:
 *
 *     127.0.0.1:7000   [::1]:7000   [fe80::1%eth0]:7000   example.org:7000   *:7000 (listen on every address)
 *     unix:/path/to/socket   unix:@abstract-name
 *
 * Ports are numbers from 0 (when listening: any free port) to 65535.
 */
#ifndef SLUICE_ADDRESS_H
#define SLUICE_ADDRESS_H

#include <stddef.h>

#include <sluice/export.h>

SLUICE_BEGIN

/* Room for any address in text, its NUL included. */
#define SLUICE_ADDRESS_MAX 320

/*
 * Returns 0 if `text` is written as an address (a name is not looked up), or -EINVAL with one line in `why`
 * that names the text, what is wrong with it, and what is allowed. [any thread]
 */
SLUICE_API int sluice_address_check(const char *text, char *why, size_t why_size);

SLUICE_END

#endif
