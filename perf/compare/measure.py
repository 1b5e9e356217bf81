"""One measurement of one peer in one scenario: starts the peer and a load, and returns numbers by measure."""

import json
import os
import pathlib
import random
import socket
import time
from dataclasses import dataclass, replace

from .processes import DEATH_SECONDS, Failed, Process
from .scenarios import PERCENTILES

NS_PER_SECOND = 1_000_000_000
MIB = 1024 * 1024
READY_SECONDS = 10.0
GRACE_SECONDS = 20.0  # how much longer than asked a load may take before it counts as hung
LOWEST_PORT = 20000


@dataclass
class Bench:
    """Where everything is, and how long it runs."""

    build: pathlib.Path
    scratch: pathlib.Path
    server_cpu: int
    load_cpu: int
    seconds: float
    warmup: float
    open_rate: int = 0  # of the open loop, as soon as it is known

    def program(self, name):
        """The path of a program of ours, or None if it was not built."""
        folders = ("perf", "perf/peers", "perf/load", "perf/inside", "tools")
        paths = (self.build / folder / name for folder in folders)
        return next((path for path in paths if path.is_file()), None)

    def need(self, name):
        path = self.program(name)
        if path is None:
            raise Failed(f"{name} is not built")
        return str(path)

    def address(self, is_unix):
        """One that nobody listens at and no connection's own end will take: it lies below those ports."""
        if is_unix:
            path = self.scratch / f"socket-{time.monotonic_ns()}"
            return f"unix:{path}"
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            end = int(file.read().split()[0])
        first = LOWEST_PORT if end > LOWEST_PORT + 1000 else 1024
        for port in random.sample(range(first, end), min(100, end - first)):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                    return f"127.0.0.1:{port}"
                except OSError:
                    continue
        raise Failed("no free port on 127.0.0.1")

    def times(self, scenario):
        return ["--duration", in_ms(self.seconds * scenario.stretch), "--warmup", in_ms(self.warmup)]

    def patience(self, scenario):
        """After so long a load counts as hung."""
        return self.seconds * scenario.stretch + self.warmup + GRACE_SECONDS


def in_ms(seconds):
    return f"{round(seconds * 1000)}ms"


# -- Processes --------------------------------------------------------------------------------------------------


def start_peer(bench, scenario, peer, upstream=None):
    """The peer, which listens; and its address. SLUICE_* settings of our own environment are for it."""
    address = bench.address(scenario.is_unix)
    arguments = [bench.need(f"peer_{peer}")]
    if scenario.role in ("messages", "fanout", "source"):
        arguments += ["--size", str(scenario.size)]
    if upstream:
        arguments += ["--to", upstream]
    if scenario.busy_polls:
        arguments += ["--busy-poll"]
    process = Process(arguments + [scenario.role, address], {bench.server_cpu}, dict(os.environ))
    try:
        process.await_line("listening", READY_SECONDS)
    except Failed:
        process.end()
        raise
    return process, address


def load_environment(busy_polls=False):
    """That of a load: the same whatever settings the peer is tried with."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    if busy_polls:
        environment["SLUICE_BUSY_POLL"] = "1s"
    return environment


def run_load(bench, scenario, arguments, server):
    """Runs a load to its end while `server` lives, and returns the measures of what it reports."""
    load = Process(arguments, {bench.load_cpu}, load_environment(scenario.busy_polls))
    with load:
        try:
            text = load.await_end(bench.patience(scenario))
        except Failed:
            server.check(DEATH_SECONDS)  # if that died, it is the better reason
            raise
    server.check()
    return numbers(load.name, parse(load.name, text))


def parse(name, text):
    try:
        report = json.loads(text)
    except ValueError:
        report = None
    if not isinstance(report, dict):
        raise Failed(f"{name} printed no JSON object")
    return report


# -- What the loads report --------------------------------------------------------------------------------------


def numbers(name, report):
    """The measures that a load's report gives."""
    messages = report.get("messages") or 0
    count = report.get("bytes") or 0
    seconds = report.get("seconds") or report.get("measured_ns", 0) / NS_PER_SECOND
    cpu_ns = report.get("server_cpu_ns")
    if seconds <= 0 or not (messages or count):
        raise Failed(f"{name} measured nothing")
    found = {"rate": messages / seconds, "byte_rate": count / seconds}
    if cpu_ns and messages:
        found["cpu_ns"] = cpu_ns / messages
    if cpu_ns and count:
        found["cpu_ns_per_mib"] = cpu_ns * MIB / count
    found.update(busy_shares(report, messages, seconds))
    latency = report.get("latency_ns") or {}
    for measure in (*PERCENTILES, "max"):
        value = latency.get(measure, latency.get(measure.replace(".", "_")))
        if value is not None:
            found[measure] = value
    return found


def busy_shares(report, messages, seconds):
    """How much of a CPU the server and the load took: where the load took all of one, it was what limited."""
    load_ns = report.get("load_cpu_ns")
    if load_ns is None and report.get("load_cpu_ns_per_message"):
        load_ns = report["load_cpu_ns_per_message"] * messages
    times = {"server_busy": report.get("server_cpu_ns"), "load_busy": load_ns}
    return {name: cpu_ns / seconds / NS_PER_SECOND for name, cpu_ns in times.items() if cpu_ns is not None}


def window(bench, scenario, server):
    """The arguments that every load takes."""
    arguments = ["--connections", str(scenario.connections), "--size", str(scenario.size)]
    return arguments + ["--server-pid", str(server.pid), *bench.times(scenario)]


def echo_arguments(bench, scenario, address, server, rate=0):
    arguments = [bench.need("sluice"), "load", address, "--json", *window(bench, scenario, server)]
    return arguments + (["--rate", str(rate)] if rate else ["--depth", str(scenario.depth)])


def other_arguments(bench, program, scenario, server, *more):
    return [bench.need(program), *window(bench, scenario, server), *more]


# -- The kinds of scenario --------------------------------------------------------------------------------------


def measure_echo(bench, scenario, peer, rate=0):
    server, address = start_peer(bench, scenario, peer)
    with server:
        arguments = echo_arguments(bench, scenario, address, server, rate)
        return run_load(bench, scenario, arguments, server)


def measure_open_loop(bench, scenario, peer):
    return measure_echo(bench, scenario, peer, bench.open_rate)


def measure_fanout(bench, scenario, peer):
    server, address = start_peer(bench, scenario, peer)
    with server:
        more = ["--slow", str(scenario.slow)] if scenario.slow else []
        arguments = other_arguments(bench, "load_fanout", scenario, server, *more, address)
        return run_load(bench, scenario, arguments, server)


def measure_stream(bench, scenario, peer):
    mode = "drain" if scenario.role == "source" else "fill"
    server, address = start_peer(bench, scenario, peer)
    with server:
        arguments = other_arguments(bench, "load_stream", scenario, server, mode, address)
        return run_load(bench, scenario, arguments, server)


def measure_through(bench, scenario, peer):
    upstream = bench.address(scenario.is_unix)
    server, address = start_peer(bench, scenario, peer, upstream)
    with server:
        arguments = other_arguments(bench, "load_stream", scenario, server, "--upstream", upstream, "through", address)
        return run_load(bench, scenario, arguments, server)


def measure_churn(bench, scenario, peer):
    server, address = start_peer(bench, scenario, peer)
    with server:
        arguments = other_arguments(bench, "load_churn", scenario, server, address)
        return run_load(bench, scenario, arguments, server)


def own_memory(pid):
    """Bytes of memory that is the process's own: no file's, no other process's."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
        return int(rows["Pss_Anon"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        raise Failed(f"/proc/{pid}/smaps_rollup does not tell Pss_Anon") from None


def start_idle(bench, scenario, address):
    """Connections that each had one message answered, and then wait."""
    arguments = ["--connections", str(scenario.connections), "--size", str(scenario.size), address]
    return Process([bench.need("load_idle"), *arguments], {bench.load_cpu}, load_environment())


def measure_idle(bench, scenario, peer):
    """The active connection alone, then beside the idle ones; memory before they come and while they are there."""
    active = replace(scenario, connections=1)
    server, address = start_peer(bench, scenario, peer)
    with server:
        arguments = echo_arguments(bench, active, address, server)
        alone = run_load(bench, active, arguments, server)
        before = own_memory(server.pid)
        idle = start_idle(bench, scenario, address)
        with idle:
            idle.await_line("ready", READY_SECONDS + scenario.connections / 1000)
            after = own_memory(server.pid)
            beside = run_load(bench, active, arguments, server)
            idle.check()
    found = {"memory": (after - before) / scenario.connections, "rate_kept": beside["rate"] / alone["rate"]}
    if "cpu_ns" in alone and "cpu_ns" in beside:
        found["cpu_grown"] = beside["cpu_ns"] / alone["cpu_ns"]
    return found


def measure_inside(bench, scenario, peer):
    """A program that asks and answers itself, on both CPUs."""
    program = bench.need(f"{scenario.program}_{peer}")
    arguments = [program] + (["--busy-poll"] if scenario.busy_polls else [])
    with Process(arguments, {bench.server_cpu, bench.load_cpu}, dict(os.environ)) as process:
        report = parse(process.name, process.await_end(60.0))
    if scenario.program == "scaling" and "ratio" in report:
        report["two_to_one"] = report["ratio"]
    found = {name: report[name] for name in scenario.own_measures if report.get(name) is not None}
    if not found:
        raise Failed(f"{process.name} measured nothing")
    return found


KINDS = {
    "echo": measure_echo,
    "open-loop": measure_open_loop,
    "fanout": measure_fanout,
    "stream": measure_stream,
    "through": measure_through,
    "churn": measure_churn,
    "idle": measure_idle,
    "inside": measure_inside,
}


def programs(scenario, peer):
    """What has to be built for it."""
    loads = {"fanout": "load_fanout", "stream": "load_stream", "through": "load_stream", "churn": "load_churn"}
    if scenario.kind == "inside":
        return [f"{scenario.program}_{peer}"]
    needed = [f"peer_{peer}", loads.get(scenario.kind, "sluice")]
    return needed + (["load_idle"] if scenario.kind == "idle" else [])


def measure(bench, scenario, peer):
    """Numbers by measure; raises Failed."""
    return KINDS[scenario.kind](bench, scenario, peer)
