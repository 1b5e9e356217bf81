"""Who is compared: each peer is a program of perf/peers/ that does the same work in its library's best idiom."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Peer:
    name: str  # as on the command line; the program is peer_NAME
    title: str
    kind: str  # "ours", "floor", "rival" or "bound": only rivals can be the best rival
    needs: str  # what has to be installed for it to be built, if anything


PEERS = [
    Peer("sluice", "Sluice", "ours", ""),
    Peer("floor", "floor", "floor", ""),
    Peer("epoll", "epoll", "rival", ""),
    Peer("libuv", "libuv", "rival", "libuv (package libuv1-dev)"),
    Peer("libevent", "libevent", "rival", "libevent (package libevent-dev)"),
    Peer("asio_epoll", "asio", "rival", "asio and a C++ compiler (packages libasio-dev and g++)"),
    Peer("asio_uring", "asio io_uring", "rival", "asio 1.22 and a C++ compiler (packages libasio-dev and g++)"),
    Peer("usockets", "uSockets", "rival", "uSockets, of which Debian has no package"),
    Peer("blocking", "blocking", "bound", ""),
]

BY_NAME = {peer.name: peer for peer in PEERS}


def title_of(name):
    """Also of those that are in perf/inside only."""
    return BY_NAME[name].title if name in BY_NAME else name


def is_rival(name):
    return name not in BY_NAME or BY_NAME[name].kind == "rival"
