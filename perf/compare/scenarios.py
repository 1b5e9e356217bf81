"""What is asked of each peer, as a table. How each kind of it is measured: measure.py."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024

ECHOERS = ("sluice", "floor", "epoll", "libuv", "libevent", "asio_epoll", "asio_uring", "usockets")
STREAMERS = ECHOERS + ("blocking",)
LOOPS = ("sluice", "libuv", "libevent", "asio")  # of perf/inside: POST_NAME, TIMERS_NAME


@dataclass(frozen=True)
class Measure:
    name: str  # the key in results.json
    title: str
    unit: str  # "1/s", "B/s", "ns", "B" or "" for a ratio
    more_is_better: bool


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("rate", "messages", "1/s", True),
        Measure("byte_rate", "bytes", "B/s", True),
        Measure("cpu_ns", "CPU a message", "ns", False),
        Measure("cpu_ns_per_mib", "CPU a MiB", "ns", False),
        Measure("p50", "median latency", "ns", False),
        Measure("p90", "90 % latency", "ns", False),
        Measure("p99", "99 % latency", "ns", False),
        Measure("p99.9", "99.9 % latency", "ns", False),
        Measure("p99.99", "99.99 % latency", "ns", False),
        Measure("max", "longest latency", "ns", False),
        Measure("server_busy", "server busy", "", False),
        Measure("load_busy", "load busy", "", False),
        Measure("memory", "memory an idle connection", "B", False),
        Measure("rate_kept", "rate of the active one, with idle ones to without", "", True),
        Measure("cpu_grown", "CPU a message of the active one, with idle ones to without", "", False),
        Measure("post_rate", "posts", "1/s", True),
        Measure("post_p50_ns", "median latency of a post", "ns", False),
        Measure("post_p99_ns", "99 % latency of a post", "ns", False),
        Measure("start_ns", "a timer's start", "ns", False),
        Measure("stop_ns", "a timer's stop", "ns", False),
        Measure("restart_ns", "a timer's restart", "ns", False),
        Measure("fire_ns", "a timer's firing, a million within a second", "ns", False),
        Measure("fire_due_ns", "a timer's firing, a million at once", "ns", False),
        Measure("late_p50_ns", "median lateness of a timer", "ns", False),
        Measure("late_p99_ns", "99 % lateness of a timer", "ns", False),
        Measure("two_to_one", "rate of two engines to one", "", True),
    )
}

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "p99.99": 99.99}


@dataclass(frozen=True)
class Scenario:
    name: str
    group: str
    title: str
    kind: str  # which function of measure.py measures it
    role: str = "echo"  # of the peer
    connections: int = 1
    size: int = 64
    depth: int = 1
    slow: int = 0  # fan-out: receivers that hardly read
    is_unix: bool = False
    busy_polls: bool = False
    program: str = ""  # of perf/inside, without the library's name
    stretch: float = 1.0  # this much longer than others, for enough messages to tell the slowest thousandth
    peers: tuple = ECHOERS

    @property
    def speed(self):
        """The measure of how much it moves, or None where that is not the question."""
        if self.kind in ("stream", "through"):
            return "byte_rate"
        return None if self.kind in ("open-loop", "idle", "inside") else "rate"

    @property
    def cost(self):
        if self.kind in ("stream", "through"):
            return "cpu_ns_per_mib"
        return None if self.kind in ("idle", "inside") else "cpu_ns"

    @property
    def tail(self):
        return "p99.9" if self.kind in ("echo", "open-loop", "fanout", "churn") else None

    @property
    def own_measures(self):
        """Those which no other scenario has."""
        if self.kind == "idle":
            return ("memory", "rate_kept", "cpu_grown")
        return {
            "post": ("post_rate", "post_p50_ns", "post_p99_ns"),
            "timers": ("start_ns", "stop_ns", "restart_ns", "fire_ns", "fire_due_ns", "late_p50_ns", "late_p99_ns"),
            "scaling": ("two_to_one",),
        }.get(self.program, ())


def echo(name, title, **more):
    return Scenario(name, "echo", title, "echo", **more)


def streams():
    """One way, both directions, two sizes of a write, TCP and Unix sockets."""
    for is_unix in (False, True):
        for role, verb in (("source", "send"), ("sink", "receive")):
            for size, label, text in ((64 * KIB, "64k", "64 KiB"), (MIB, "1m", "1 MiB")):
                suffix, where = ("-unix", ", Unix") if is_unix else ("", "")
                yield Scenario(
                    f"{role}-{label}{suffix}",
                    "stream",
                    f"{verb} a stream, {text} writes{where}",
                    "stream",
                    role=role,
                    connections=4,
                    size=size,
                    is_unix=is_unix,
                    peers=STREAMERS,
                )


def fan_out(name, title, **more):
    return Scenario(name, "fan-out", title, "fanout", role="fanout", connections=1000, size=256, stretch=1.5, **more)


SCENARIOS = [
    Scenario("ping-pong", "ping-pong", "ping-pong 64 B", "echo", stretch=2),
    Scenario("ping-pong-busy", "ping-pong", "ping-pong 64 B, busy-poll", "echo", busy_polls=True, stretch=2),
    echo("echo-64", "echo 64 B × 64", connections=64),
    echo("echo-128", "echo 64 B × 128", connections=128),
    echo("echo-1000", "echo 64 B × 1,000", connections=1000),
    echo("echo-10000", "echo 64 B × 10,000", connections=10000),
    echo("echo-1k", "echo 1 KiB × 64", connections=64, size=KIB),
    echo("echo-4k", "echo 4 KiB × 64", connections=64, size=4 * KIB),
    echo("echo-16k", "echo 16 KiB × 64", connections=64, size=16 * KIB),
    Scenario("pipelined-1", "pipelined", "64 B messages, 64 deep × 1", "echo", role="messages", depth=64),
    Scenario("pipelined-16", "pipelined", "64 B messages, 64 deep × 16", "echo", "messages", 16, depth=64),
    Scenario("open-loop", "open-loop", "echo 64 B × 64 at half load", "open-loop", connections=64, stretch=1.5),
    fan_out("fan-out", "fan-out 256 B to 1,000"),
    fan_out("fan-out-unix", "fan-out 256 B to 1,000, Unix", is_unix=True),
    fan_out("slow-reader", "fan-out, 1 slow among 1,000", slow=1),
    *streams(),
    Scenario("forward", "forward", "forward 64 KiB writes × 16", "through", "forward", 16, 64 * KIB, peers=STREAMERS),
    Scenario("churn", "churn", "connect, 64 B echo, close × 64", "churn", connections=64, stretch=1.5),
    Scenario("idle", "idle", "10,000 idle, 1 active", "idle", connections=10000),
    Scenario("post", "inside", "post from another thread", "inside", program="post", peers=LOOPS),
    Scenario("post-busy", "inside", "post, busy-poll", "inside", program="post", peers=LOOPS, busy_polls=True),
    Scenario("timers", "inside", "one million timers", "inside", program="timers", peers=LOOPS),
    Scenario("scaling", "inside", "two engines on two CPUs", "inside", program="scaling", peers=("sluice",)),
]

# Which scenarios make the plot over the number of connections.
BY_CONNECTIONS = ("ping-pong", "echo-64", "echo-128", "echo-1000", "echo-10000")

# What an open loop's rate is half of: the least that any peer reached here.
CAPACITY = "echo-64"
