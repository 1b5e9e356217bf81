/* Connecting: looking up a name, and racing its addresses (RFC 8305). */
#ifndef ENGINE_CONNECT_H
#define ENGINE_CONNECT_H

struct connector;

/* The stream gives up. socket_stream_unconnected() follows, now or when the last attempt is out of the kernel. */
void connector_cancel(struct connector *connector);

#endif
