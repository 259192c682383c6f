#!/usr/bin/env python3
"""deploy/up and deploy/down as a new user types them: a cluster in a directory of its own, on ports of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Client, wait_until  # noqa: E402


def free_range(count):
    """The first of so many ports in a row that are free now."""
    while True:
        first = harness.free_port()
        try:
            sockets = []
            for port in range(first, first + count):
                probe = socket.socket()
                sockets.append(probe)
                probe.bind(("127.0.0.1", port))
            for _ in range(count):
                harness.free_port()  # the next range begins behind this one
            return first
        except OSError:
            continue
        finally:
            for probe in sockets:
                probe.close()


class Up(unittest.TestCase):
    def setUp(self):
        self.folder = harness.work_directory()
        # A space, because people's directories have them.
        self.dir = os.path.join(self.folder, "my cluster")
        self.port = free_range(3)
        self.ports = ["--client-port", str(self.port), "--peer-port", str(free_range(3)),
                      "--http-port", str(free_range(3)), "--cluster-port", str(free_range(3))]

    def tearDown(self):
        self.down("--wipe")
        shutil.rmtree(self.folder, ignore_errors=True)

    def run_script(self, name, *arguments, cwd=None):
        return subprocess.run([os.path.join(harness.TOP, "deploy", name), *arguments], capture_output=True, text=True,
                              timeout=600, check=False, stdin=subprocess.DEVNULL, cwd=cwd or harness.TOP,
                              env=harness.clean_environment())

    def up(self, *more, ok=True):
        done = self.run_script("up", "--no-install", "--dir", self.dir, *more)
        if ok:
            self.assertEqual(0, done.returncode, done.stdout + done.stderr)
            self.assertEqual("", done.stderr)
        return done

    def down(self, *more):
        return self.run_script("down", "--dir", self.dir, *more)

    def pid(self, number):
        with open(os.path.join(self.dir, f"node{number}", "kvnode.pid"), encoding="ascii") as file:
            return int(file.read())

    def call(self, number, *command):
        with Client(self.port + number - 1, 10) as client:
            return client.call(*command)

    def test_first_ten_minutes(self):
        done = self.up(*self.ports)
        for word in ("node1", "node2", "node3", "leader", "Try:"):
            self.assertIn(word, done.stdout)
        for number in (1, 2, 3):
            for name in ("kvnode.conf", "kvnode.log", "kvnode.pid", "data"):
                self.assertTrue(os.path.exists(os.path.join(self.dir, f"node{number}", name)), name)
        self.assertEqual("OK", self.call(1, "SET", "k", "v"))
        self.assertEqual(b"v", self.call(2, "GET", "k"))
        # Again: nothing happens.
        pids = [self.pid(number) for number in (1, 2, 3)]
        done = self.up()
        self.assertIn("is up", done.stdout)
        self.assertEqual(pids, [self.pid(number) for number in (1, 2, 3)])
        # The leader dies; the others go on; up starts it again.
        leader = next(number for number in (1, 2, 3) if b"leader" in self.call(number, "KV.STATUS"))
        os.kill(self.pid(leader), signal.SIGKILL)
        other = leader % 3 + 1
        self.assertEqual(b"v", self.call(other, "GET", "k"))
        done = self.up()
        self.assertIn(f"node{leader}", done.stdout)
        self.assertEqual(b"v", self.call(leader, "GET", "k"))
        # Down, twice; then up with the data of before.
        done = self.down()
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("Stopped 3 of 3", done.stdout)
        for number in (1, 2, 3):
            self.assertFalse(os.path.exists(os.path.join(self.dir, f"node{number}", "kvnode.pid")))
        done = self.down()
        self.assertEqual(0, done.returncode, done.stderr)
        self.up()
        self.assertEqual(b"v", self.call(3, "GET", "k"))
        done = self.down("--wipe")
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertFalse(os.path.exists(self.dir))

    def test_all_nodes_are_killed_and_started_again(self):
        self.up(*self.ports)
        for number in range(50):
            self.assertEqual("OK", self.call(number % 3 + 1, "SET", f"k{number}", number))
        for number in (1, 2, 3):
            os.kill(self.pid(number), signal.SIGKILL)
        self.up()
        for number in range(50):
            self.assertEqual(str(number).encode(), self.call(number % 3 + 1, "GET", f"k{number}"))

    def test_one_node_with_options_behind_the_dashes(self):
        self.up("--nodes", "1", *self.ports, "--", "--park", "1234", "--log-format", "json")
        self.assertEqual([b"park", b"1234"], self.call(1, "CONFIG", "GET", "park"))
        with open(os.path.join(self.dir, "node1", "kvnode.log"), encoding="utf-8") as file:
            self.assertTrue(file.readline().startswith("{"))

    def test_relative_directory_from_elsewhere(self):
        done = self.run_script("up", "--no-install", "--nodes=1", "--dir", "./my cluster", *self.ports, cwd=self.folder)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertEqual("PONG", self.call(1, "PING"))
        done = self.run_script("down", "--dir", "my cluster/", cwd=self.folder)
        self.assertIn("Stopped 1 of 1", done.stdout)

    def test_port_in_use_shows_the_nodes_own_words(self):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", self.port))
            taken.listen()
            begin = time.monotonic()
            done = self.up(*self.ports, ok=False)
        self.assertEqual(1, done.returncode)
        self.assertIn("in use", done.stderr)
        self.assertIn("node1 ended", done.stderr)
        self.assertLess(time.monotonic() - begin, 15)

    def test_a_node_that_the_others_refuse_is_named_at_once(self):
        self.up(*self.ports)
        os.kill(self.pid(3), signal.SIGKILL)
        shutil.rmtree(os.path.join(self.dir, "node3", "data"))
        begin = time.monotonic()
        done = self.up(ok=False)
        self.assertLess(time.monotonic() - begin, 20)
        self.assertEqual(1, done.returncode)
        self.assertIn("node3 is refused by node1, node2: its data directory is not", done.stderr)
        self.assertEqual("OK", self.call(1, "SET", "k", "v"))

    def test_bad_options_are_refused_in_one_line(self):
        for arguments, word in ((["--nodes", "0"], "--nodes"), (["--nodes", "x"], "--nodes"), (["--nodes", "99"], "--nodes"),
                                (["--client-port", "65535"], "--client-port"), (["--frobnicate"], "--frobnicate"),
                                (["--dir"], "--dir")):
            done = self.run_script("up", "--no-install", *arguments)
            self.assertEqual(1, done.returncode, arguments)
            self.assertIn(word, done.stderr.splitlines()[-1])
        done = self.run_script("down", "--frobnicate")
        self.assertEqual(1, done.returncode)

    def test_other_shape_is_refused(self):
        self.up("--nodes", "1", *self.ports)
        done = self.up("--nodes", "3", ok=False)
        self.assertEqual(1, done.returncode)
        self.assertIn("--nodes 1", done.stderr)
        self.assertEqual("PONG", self.call(1, "PING"))

    def test_recorded_number_of_a_stranger_is_not_signalled(self):
        self.up("--nodes", "1", *self.ports)
        os.kill(self.pid(1), signal.SIGKILL)
        stranger = subprocess.Popen(["sleep", "60"])
        try:
            with open(os.path.join(self.dir, "node1", "kvnode.pid"), "w", encoding="ascii") as file:
                file.write(f"{stranger.pid}\n")
            done = self.down()
            self.assertEqual(0, done.returncode, done.stderr)
            self.assertIsNone(stranger.poll())
        finally:
            stranger.kill()
            stranger.wait()

    def test_down_without_a_cluster_and_wipe_of_a_foreign_directory(self):
        os.makedirs(self.dir)
        precious = os.path.join(self.dir, "node1")
        os.makedirs(precious)
        done = self.down("--wipe")
        self.assertEqual(0, done.returncode)
        self.assertTrue(os.path.exists(precious), "something was deleted that deploy/up did not make")

    def test_nodes_outlive_the_terminal(self):
        # A session of its own that ends, as a closed terminal does.
        subprocess.run(["setsid", "--wait", os.path.join(harness.TOP, "deploy", "up"), "--no-install", "--nodes", "1",
                        "--dir", self.dir, *self.ports], check=True, timeout=600, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        time.sleep(0.5)
        self.assertEqual("PONG", self.call(1, "PING"))
        os.kill(self.pid(1), signal.SIGHUP)
        time.sleep(0.3)
        wait_until("it is there after SIGHUP", lambda: self.call(1, "PING") == "PONG")


if __name__ == "__main__":
    harness.main()
