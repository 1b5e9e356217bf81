#!/usr/bin/env python3
"""perf/run from outside: what it concludes, what it refuses, how it lives with peers that fail, and how it ends.

Usage: compare.py BUILD, the folder of a build. One test runs real peers; the others run stand-ins with known numbers.
"""
import html.parser
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

RUN = pathlib.Path(__file__).resolve().parents[2] / "perf" / "run"
BUILD = pathlib.Path(sys.argv.pop(1)) if len(sys.argv) > 1 else None

# Listens to nobody, until its standard input ends or it is killed.
PEER = """#!/bin/sh
echo "listening on nothing"
read -r line
"""

# Answers by the peer's name: Sluice moves twice what epoll does, at half the CPU time, and 0.8 of what the floor does.
LOAD = """#!/bin/sh
while [ "$1" != --server-pid ]; do shift; done
case $(tr '\\0' ' ' <"/proc/$2/cmdline") in
*peer_sluice*) messages=2000 cpu=1000000 latency=100 ;;
*peer_epoll*) messages=1000 cpu=1000000 latency=200 ;;
*peer_floor*) messages=2500 cpu=1000000 latency=50 ;;
*peer_libuv*) echo "load: no answer came" >&2; exit 1 ;;
*peer_libevent*) kill -SEGV "$2"; exit 1 ;;
*peer_asio_epoll*) echo "not JSON"; exit ;;
*peer_blocking*) exec sleep 30 ;;
esac
[ -z "$SLUICE_DISABLE" ] || exit 3
echo "{\\"messages\\": $messages, \\"seconds\\": 0.5, \\"bytes\\": 64000, \\"server_cpu_ns\\": $cpu,"
echo "\\"latency_ns\\": {\\"p50\\": $latency, \\"p90\\": $latency, \\"p99.9\\": $latency, \\"p99_99\\": null}}"
"""

PEERS = ("sluice", "floor", "epoll", "libuv", "libevent", "asio_epoll", "blocking")


class Tags(html.parser.HTMLParser):
    """That every tag is closed, in order, and that the page fetches nothing."""

    NEED_NO_END = {"meta", "rect", "line", "circle", "path", "polyline"}

    def __init__(self):
        super().__init__()
        self.open = []
        self.problems = []

    def handle_starttag(self, tag, attributes):
        if tag not in self.NEED_NO_END:
            self.open.append(tag)
        self.problems += [f"{name}={value}" for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in self.NEED_NO_END and (not self.open or self.open.pop() != tag):
            self.problems.append(f"</{tag}>")


class Case(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        self.out = self.folder / "out"
        (self.folder / "perf").mkdir()
        (self.folder / "tools").mkdir()
        for peer in PEERS:
            self.write(f"perf/peer_{peer}", PEER)
        self.write("tools/sluice", LOAD)
        self.write("perf/load_stream", LOAD)

    def write(self, name, script):
        path = self.folder / name
        path.write_text(script, encoding="ascii")
        path.chmod(0o755)

    def arguments(self, *more, build=None):
        return [sys.executable, RUN, "--build", build or self.folder, "--out", self.out, "--seconds", "0.05", *more]

    def run_it(self, *more, build=None, **environment):
        environment = {**os.environ, **environment}
        return subprocess.run(
            self.arguments(*more, build=build), capture_output=True, text=True, timeout=60, check=False, env=environment
        )

    def results(self):
        return json.loads((self.out / "results.json").read_text(encoding="utf-8"))

    def test_ratios_are_to_the_best_rival_and_to_the_floor(self):
        done = self.run_it("--only", "ping-pong,echo-64", "--peers", "sluice,epoll,floor", "--rounds", "3")
        self.assertEqual(done.returncode, 0, done.stderr)
        rows = [line.split("  ") for line in done.stdout.splitlines() if line.startswith("ping-pong 64 B")]
        cells = [cell.strip() for cell in rows[0] if cell]
        self.assertEqual(cells[1:4], ["2.00 ±.00 epoll", "0.50 ±.00 epoll", "0.50 ±.00 epoll"])
        self.assertEqual(cells[4:6], ["0.80 ±.00", "1.25 ±.00"])
        echo = self.results()["scenarios"]["echo-64"]
        self.assertEqual(echo["ratios"]["rate"]["best_rival"], "epoll")
        self.assertEqual(echo["ratios"]["rate"]["to"]["epoll"]["median"], 2.0)
        self.assertEqual(len(echo["peers"]["sluice"]["rounds"]), 3)
        self.assertEqual(echo["peers"]["sluice"]["median"]["cpu_ns"], 500.0)

    def test_the_page_is_whole_and_needs_nothing_else(self):
        self.run_it("--only", "echo-64,ping-pong,source-1m-unix", "--peers", "sluice,epoll,floor", "--rounds", "2")
        page = (self.out / "results.html").read_text(encoding="utf-8")
        tags = Tags()
        tags.feed(page)
        self.assertEqual((tags.open, tags.problems), ([], []))
        self.assertNotIn("http", page.replace("http-equiv", ""))
        self.assertIn("prefers-color-scheme: dark", page)
        for name in ("Sluice", "epoll", "floor", "send a stream, 1 MiB writes, Unix"):
            self.assertIn(name, page)
            self.assertIn(name, (self.out / "results.md").read_text(encoding="utf-8"))

    def test_who_fails_is_told_by_name_and_holds_up_nobody(self):
        done = self.run_it("--only", "ping-pong", "--rounds", "3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ping-pong 64 B, libuv: sluice failed (status 1): load: no answer came", done.stderr)
        self.assertIn("ping-pong 64 B, libevent: peer_libevent died (SIGSEGV)", done.stderr)
        self.assertIn("ping-pong 64 B, asio: sluice printed no JSON object", done.stderr)
        self.assertIn("uSockets: skipped", done.stderr)
        self.assertIn("2.00 ±.00 epoll", done.stdout)
        failed = [failure["peer"] for failure in self.results()["failures"]]
        self.assertEqual(failed.count("libuv"), 2)  # then it is left out

    def test_a_peer_that_does_not_listen_is_told(self):
        self.write("perf/peer_epoll", '#!/bin/sh\necho "epoll: address in use" >&2\nexit 1\n')
        done = self.run_it("--only", "ping-pong", "--peers", "epoll", "--rounds", "1")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ping-pong 64 B, epoll: peer_epoll ended (status 1): epoll: address in use", done.stderr)

    def test_the_loads_settings_stay_the_same(self):
        done = self.run_it("--only", "ping-pong", "--peers", "sluice", "--rounds", "1", SLUICE_DISABLE="bundles")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("SLUICE_DISABLE=bundles", done.stdout)

    def test_what_is_not_built_is_left_out_with_a_reason(self):
        done = self.run_it("--only", "churn,post,ping-pong", "--peers", "sluice", "--rounds", "1")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("connect, 64 B echo, close × 64: skipped for want of load_churn", done.stderr)
        self.assertIn("post from another thread: skipped for want of post_sluice", done.stderr)

    def test_bad_input_gets_one_line(self):
        for words, line in (
            (["--only", "echo-65"], 'perf/run: --only "echo-65": allowed is ping-pong, '),
            (["--peers", "boost"], 'perf/run: --peers "boost": allowed is sluice, '),
            (["--rounds", "0"], 'perf/run: --rounds "0": allowed is a number from 1 to 1000'),
            (["--seconds", "soon"], 'perf/run: --seconds "soon": allowed is a number from 0.01 to 3600'),
            (["--build", "/nowhere"], 'perf/run: --build "/nowhere": allowed is the folder of a build'),
        ):
            done = self.run_it(*words)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertTrue(done.stderr.startswith(line), done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)

    def test_it_lists_what_it_knows(self):
        done = self.run_it("--list")
        self.assertIn("echo-10000", done.stdout)
        self.assertIn("libuv1-dev", done.stdout)

    def test_a_signal_ends_every_process_and_tells_what_was_measured(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            self.write("perf/peer_floor", PEER.replace("read", f"echo $$ >{self.folder}/pid\nread"))
            self.write("tools/sluice", LOAD.replace("*peer_floor*) messages=2500", "*peer_floor*) exec sleep 30; m=0"))
            (self.folder / "pid").unlink(missing_ok=True)
            arguments = self.arguments("--only", "ping-pong", "--peers", "floor")
            with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
                self.await_file(self.folder / "pid")
                time.sleep(0.2)
                run.send_signal(number)
                output, _ = run.communicate(timeout=20)
            self.assertEqual(run.returncode, 130)
            self.assertIn("4.00 k/s", output)
            peer = (self.folder / "pid").read_text(encoding="ascii").strip()
            self.assertFalse(pathlib.Path("/proc", peer).exists())

    def await_file(self, path):
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(path.exists())

    @unittest.skipUnless(BUILD and (BUILD / "perf" / "peer_sluice").exists(), "perf/ is not built")
    def test_real_peers_are_measured(self):
        done = self.run_it("--smoke", "--only", "ping-pong,echo-64,open-loop", "--peers", "sluice,epoll", build=BUILD)
        self.assertEqual(done.returncode, 0, done.stderr)
        for scenario in self.results()["scenarios"].values():
            for found in scenario["peers"].values():
                self.assertGreater(found["median"]["rate"], 0)
                self.assertGreater(found["median"]["cpu_ns"], 0)


if __name__ == "__main__":
    unittest.main()
