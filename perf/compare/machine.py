"""On what it was measured: the machine, its kernel, what else it was doing, and the libraries' versions."""

import datetime
import os
import platform
import subprocess
import time
from dataclasses import dataclass

LOOK_SECONDS = 0.2


def first_line(path, start=""):
    """What follows the colon, or the line, in the first line that starts so; empty if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.startswith(start)), "")
    except OSError:
        return ""
    return (line.split(":", 1)[1] if start and ":" in line else line).strip()


def output(*command):
    """What a command prints, in one line; empty if it cannot."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def is_virtual():
    with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        return any(line.startswith("flags") and " hypervisor" in line for line in file)


def asio_version():
    """As its header tells it: 102201 is 1.22.1. 0 if it is not there."""
    words = first_line("/usr/include/asio/version.hpp", "#define ASIO_VERSION ").split()
    return int(words[2]) if len(words) > 2 and words[2].isdigit() else 0


def versions():
    found = {name: output("pkg-config", "--modversion", name) for name in ("liburing", "libuv", "libevent")}
    number = asio_version()
    if number:
        found["asio"] = f"{number // 100000}.{number // 100 % 1000}.{number % 100}"
    return {name: version for name, version in found.items() if version}


def siblings(cpu):
    """The CPUs that share its core, itself among them."""
    text = first_line(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    found = {cpu}
    for part in filter(None, text.split(",")):
        ends = part.split("-")
        found.update(range(int(ends[0]), int(ends[-1]) + 1))
    return found


def choose_cpus():
    """One for the servers and one for the loads, of two cores if we may run on two."""
    allowed = sorted(os.sched_getaffinity(0))
    server = allowed[0]
    elsewhere = [cpu for cpu in allowed if cpu not in siblings(server)]
    return server, (elsewhere or allowed[1:] or allowed)[0]


@dataclass(frozen=True)
class CpuTimes:
    """Of all CPUs together, since they started."""

    total: int
    idle: int
    stolen: int

    def percent_since(self, before, what):
        return 100 * (getattr(self, what) - getattr(before, what)) / max(1, self.total - before.total)


def cpu_times():
    user, nice, system, idle, io_wait, interrupt, soft_interrupt, stolen = map(int, first_line("/proc/stat").split()[1:9])
    total = user + nice + system + idle + io_wait + interrupt + soft_interrupt + stolen
    return CpuTimes(total, idle + io_wait, stolen)


def busy_percent():
    """How busy the machine is with what is not ours; a load average would still tell of our own building."""
    before = cpu_times()
    time.sleep(LOOK_SECONDS)
    return 100 - cpu_times().percent_since(before, "idle")


def describe(root):
    memory_kib = int(first_line("/proc/meminfo", "MemTotal").split()[0])
    return {
        "when": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "cpu": first_line("/proc/cpuinfo", "model name") or platform.machine(),
        "cpus": os.cpu_count(),
        "is_virtual": is_virtual(),
        "governor": first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_gib": round(memory_kib / 1024 / 1024, 1),
        "kernel": platform.release(),
        "system": first_line("/etc/os-release", "PRETTY_NAME").split("=")[-1].strip('"'),
        "compiler": output("cc", "--version"),
        "libraries": versions(),
        "commit": output("git", "-C", str(root), "describe", "--always", "--dirty"),
        "busy_before_percent": round(busy_percent(), 1),
        "settings": {name: value for name, value in sorted(os.environ.items()) if name.startswith("SLUICE_")},
    }
