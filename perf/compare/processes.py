"""Processes that a comparison starts: each on CPUs of its own, bounded in time, ended by its number."""

import ctypes
import os
import select
import signal
import subprocess
import tempfile
import time

PR_SET_PDEATHSIG = 1
END_SECONDS = 2.0
DEATH_SECONDS = 0.3

libc = ctypes.CDLL(None, use_errno=True)
alive = []  # what has been started and not ended yet


class Failed(Exception):
    """What went wrong, in one line."""


class Process:
    def __init__(self, arguments, cpus, environment):
        """Starts it on `cpus`, away from the terminal's Ctrl-C; should we be killed, the kernel kills it as well."""

        def prepare():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            os.sched_setaffinity(0, cpus)

        self.name = os.path.basename(arguments[0])
        self.errors = tempfile.TemporaryFile()
        self.unread = b""
        try:
            self.popen = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,  # which stays open and empty: some run until it ends
                stdout=subprocess.PIPE,
                stderr=self.errors,
                env=environment,
                preexec_fn=prepare,
                start_new_session=True,
            )
        except OSError as error:
            self.errors.close()
            raise Failed(f"{self.name} does not start: {error.strerror}") from None
        alive.append(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    @property
    def pid(self):
        return self.popen.pid

    def failed(self, how):
        """What to raise: how it failed, and the last line that it wrote to stderr, if there is one."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return Failed(f"{self.name} {how}" + (f": {lines[-1].strip().removeprefix(self.name + ': ')}" if lines else ""))

    def check(self, patience=0.0):
        """That it still runs; `patience` is how long the kernel may take to tell us of an end that others felt."""
        try:
            self.popen.wait(patience)
        except subprocess.TimeoutExpired:
            return
        raise self.failed(f"died ({self.outcome()})")

    def outcome(self):
        status = self.popen.returncode
        return f"status {status}" if status >= 0 else signal.Signals(-status).name

    def read(self, deadline):
        """Some of what it prints; nothing at its end."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self.popen.stdout], [], [], left)[0]:
            raise TimeoutError
        return os.read(self.popen.stdout.fileno(), 65536)

    def await_line(self, start, seconds):
        """Waits until it prints a line that starts so."""
        deadline = time.monotonic() + seconds
        while True:
            while b"\n" in self.unread:
                line, self.unread = self.unread.split(b"\n", 1)
                if line.startswith(start.encode()):
                    return
            try:
                more = self.read(deadline)
            except TimeoutError:
                raise self.failed(f'did not say "{start}" within {seconds:.0f} s') from None
            if not more:
                self.popen.wait()
                raise self.failed(f"ended ({self.outcome()})")
            self.unread += more

    def await_end(self, seconds):
        """Waits until it has ended well, and returns all that it printed."""
        deadline = time.monotonic() + seconds
        output = self.unread
        try:
            while more := self.read(deadline):
                output += more
            self.popen.wait(max(0.0, deadline - time.monotonic()))
        except (TimeoutError, subprocess.TimeoutExpired):
            raise self.failed(f"did not end within {seconds:.0f} s") from None
        if self.popen.returncode:
            raise self.failed(f"failed ({self.outcome()})")
        return output.decode(errors="replace")

    def end(self):
        """Ends it if it still runs, with force if it takes its time."""
        if self not in alive:
            return
        self.popen.terminate()
        try:
            self.popen.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        alive.remove(self)
        self.popen.stdin.close()
        self.popen.stdout.close()
        self.errors.close()


def end_all():
    for process in list(alive):
        process.end()
