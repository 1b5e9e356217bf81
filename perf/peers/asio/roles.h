/*
 * What becomes of a connection, by the role that the server plays; what each role is, perf/peers/peer.h says.
 *
 * Each call makes a session that owns itself and takes the socket with it. What is passed by reference is the server's
 * and outlives all sessions.
 */
#ifndef PERF_ASIO_ROLES_H
#define PERF_ASIO_ROLES_H

#include "perf/peers/asio/end.h"
#include "perf/peers/peer.h"

#include <cstddef>
#include <vector>

class Fanout;

/* Those who receive what one of them sends, in no order. */
using Audience = std::vector<Fanout *>;

void serve_echo(Socket &&socket);
void serve_messages(Socket &&socket, std::size_t message_size);
void serve_fanout(Socket &&socket, std::size_t message_size, Audience &audience);
void serve_forward(Socket &&socket, const peer_address &upstream);

/* Sends `bytes` again and again. */
void serve_source(Socket &&socket, const std::vector<char> &bytes);

/* Reads into `bytes`, as all sinks do. */
void serve_sink(Socket &&socket, std::vector<char> &bytes);

#endif
