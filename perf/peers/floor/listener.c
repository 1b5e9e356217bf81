/* The listener: see listener.h. */
#include "perf/peers/floor/listener.h"

#include "perf/peers/floor/connection.h"
#include "perf/peers/floor/output.h"
#include "perf/peers/floor/request.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

static void connect_upstream(unsigned slot)
{
    int family = options.upstream.any.sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    int result;

    if (fd < 0)
        peer_die("socket", errno);
    if (family == AF_INET)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    result = io_uring_register_files_update(&server.ring, slot, &fd, 1);
    if (result < 0)
        peer_die("direct descriptor", result);
    close(fd);
    connection_open(slot);
    request_connect(slot);
}

void take_connect(unsigned slot, int result)
{
    server.connections[slot].requests--;
    if (result < 0) {
        connection_end(slot);
        return;
    }
    arm_receive(slot);
    arm_receive(partner(slot));
}

/* The listener's TCP_NODELAY is inherited. */
void take_accept(const struct io_uring_cqe *completion)
{
    if (completion->res == -ENFILE || completion->res == -EMFILE)
        peer_die("accept", completion->res);
    if (!(completion->flags & IORING_CQE_F_MORE))
        arm_accept();
    if (completion->res < 0)
        return;
    connection_open((unsigned)completion->res);
    if (options.role == PEER_SOURCE)
        source_more((unsigned)completion->res, KIND_SOURCE);
    else if (options.role == PEER_FORWARD)
        connect_upstream((unsigned)completion->res | server.upstream);
    else
        arm_receive((unsigned)completion->res);
}
