#!/usr/bin/env python3
"""Values of 64 MiB: through any node, beside other clients, over slow connections, for a node that missed them."""

import glob
import hashlib
import multiprocessing
import os
import socket
import threading
import time
import unittest

import harness
from harness import Client, Cluster, wait_until
from test_catchup import INSTALLED, make_leader

MIB = 1 << 20
SIZE = 64 * MIB


def digest(data):
    return hashlib.sha256(data).hexdigest()


# ---- other clients --------------------------------------------------------------------------------------


def _small_client(port, number, stop, taken):
    with Client(port, 120) as client:
        count = 0
        while not stop.is_set():
            count += 1
            for command in (("SET", f"small:{number}", count), ("GET", f"small:{number}")):
                begin = time.monotonic()
                reply = client.call(*command)
                taken.append((command[0], begin, time.monotonic() - begin))
                assert reply == "OK" or int(reply) == count, reply
            time.sleep(0.01)


def _small_clients(ports, count, stop, pipe):
    taken = []
    failures = []

    def run(number):
        try:
            _small_client(ports[number % len(ports)], number, stop, taken)
        except (harness.ReplyError, harness.Lost, harness.Unsent, AssertionError) as error:
            failures.append(repr(error))
    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send((taken, failures))


class SmallClients:
    """Clients in a process of their own, which set and get small values and note how long that takes."""

    def __init__(self, nodes, count=20):
        self.stop = multiprocessing.Event()
        self.pipe, end = multiprocessing.Pipe()
        ports = [node.client_port for node in nodes]
        self.process = multiprocessing.Process(target=_small_clients, args=(ports, count, self.stop, end), daemon=True)
        self.taken = []

    def __enter__(self):
        self.process.start()
        return self

    def __exit__(self, kind, *_):
        self.stop.set()
        if kind is None:
            assert self.pipe.poll(60), "the small clients do not end"
            self.taken, failures = self.pipe.recv()
            assert not failures, failures[:3]
        self.process.join(60)
        return False

    def percentile(self, command, share, begin=0.0, end=float("inf")):
        """Seconds, of the calls that were under way between begin and end."""
        times = sorted(t for name, b, t in self.taken if name == command and b + t >= begin and b <= end)
        assert times, f"no {command} ended"
        return times[min(int(len(times) * share), len(times) - 1)]


# ---- slow connections -----------------------------------------------------------------------------------


def _carry(source, target, rate):
    """Bytes in one direction, at most `rate` a second, with small buffers."""
    due = time.monotonic()
    try:
        while True:
            data = source.recv(16384)
            if not data:
                break
            due = max(due, time.monotonic() - 0.01) + len(data) / rate
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _slow_links(pairs, rate, ready):
    """Listens on the first port of each pair and passes on to the second one."""
    def serve(listener, port):
        while True:
            near, _ = listener.accept()
            far = socket.socket()
            for end in (near, far):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                far.connect(("127.0.0.1", port))
            except OSError:
                near.close()
                continue
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_carry, args=(*ends, rate), daemon=True).start()
    threads = []
    for outer, inner in pairs:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        listener.bind(("127.0.0.1", outer))
        listener.listen(50)
        threads.append(threading.Thread(target=serve, args=(listener, inner), daemon=True))
        threads[-1].start()
    ready.set()
    for thread in threads:
        thread.join()


class SlowCluster(Cluster):
    """Three nodes whose connections to each other pass through something slow."""

    def __init__(self, rate, **options):
        super().__init__(3, start=False, **options)
        pairs = [(harness.free_port(), node.peer_port) for node in self.nodes]
        members = ",".join(f"{node.name}=127.0.0.1:{outer}" for node, (outer, _) in zip(self.nodes, pairs))
        for node, (outer, _) in zip(self.nodes, pairs):
            node.options.update({"cluster": members, "advertise-peer": f"127.0.0.1:{outer}"})
        ready = multiprocessing.Event()
        self.links = multiprocessing.Process(target=_slow_links, args=(pairs, rate, ready), daemon=True)
        self.links.start()
        assert ready.wait(10)

    def __enter__(self):
        return self.start()

    def __exit__(self, *trace):
        try:
            return super().__exit__(*trace)
        finally:
            self.links.terminate()
            self.links.join(10)


# ---- tests ----------------------------------------------------------------------------------------------


def terms(cluster):
    return {node.status(20)["term"] for node in cluster.nodes}


class Large(unittest.TestCase):
    def test_values_of_64_mib_through_leader_and_follower_beside_others(self):
        with Cluster(max_value="64mb") as cluster:
            before = terms(cluster)
            leader = cluster.leader()
            follower = cluster.followers()[0]
            with SmallClients(cluster.nodes) as others:
                time.sleep(1)
                base = {node: node.memory() for node in cluster.nodes}
                begin = time.monotonic()
                for round_number, (writer, reader) in enumerate(((leader, follower), (follower, leader),
                                                                 (follower, follower))):
                    value = os.urandom(SIZE) if round_number < 2 else b"compressible! " * (SIZE // 14)
                    with writer.client(60) as client:
                        self.assertEqual("OK", client.call("SET", f"big:{round_number}", value))
                    self.assertEqual(len(value), reader.call("STRLEN", f"big:{round_number}", timeout=60))
                    self.assertEqual(digest(value), digest(reader.call("GET", f"big:{round_number}", timeout=60)))
                end = time.monotonic()
                self.assertEqual(before, terms(cluster))
            # Reads do not wait for what others write or read; writes have to follow it in the log.
            self.assertLess(others.percentile("GET", 0.99, begin, end), 1.0 * harness.SLOW)
            self.assertLess(others.percentile("SET", 0.99, begin, end), 10.0 * harness.SLOW)
            for node in cluster.nodes:
                wait_until("memory is given back", lambda: node.memory() < base[node] + 140 * MIB, 30, 0.2)
            for node in cluster.nodes:
                make_leader(cluster, node)
                value = node.call("GET", "big:1", timeout=60)
                self.assertEqual(SIZE, len(value))

    def test_a_node_that_missed_large_values_catches_up_from_the_log_and_by_a_snapshot(self):
        for retention, is_shipped in (("1gb", False), ("1mb", True)):
            with self.subTest(retention=retention), Cluster(max_value="64mb", retention=retention) as cluster:
                late = cluster.followers()[0]
                late.terminate()
                others = cluster.alive()
                values = {}
                for number in range(2):
                    values[f"big:{number}"] = os.urandom(SIZE)
                    others[number].call("SET", f"big:{number}", values[f"big:{number}"], timeout=60)
                for number in range(300):
                    others[0].call("SET", f"after:{number}", "x" * 1000)
                late.start().wait_serving(60)
                cluster.wait_converged(60)
                self.assertEqual(is_shipped, INSTALLED in late.log())
                make_leader(cluster, late)
                for key, value in values.items():
                    self.assertEqual(digest(value), digest(late.call("GET", key, timeout=60)))
                late.kill()
                late.start().wait_serving(60)
                make_leader(cluster, late)
                for key, value in values.items():
                    self.assertEqual(digest(value), digest(late.call("GET", key, timeout=60)))

    def test_slow_connections_carry_large_values_and_nobody_is_deposed(self):
        size = SIZE if harness.LONG else 24 * MIB
        with SlowCluster(10 * MIB, max_value="64mb", election_timeout=1000) as cluster:
            before = terms(cluster)
            leader = cluster.leader()
            follower = cluster.followers()[0]
            value = os.urandom(size)
            with SmallClients(cluster.nodes, 6) as others:
                time.sleep(1)
                begin = time.monotonic()
                with follower.client(200) as client:
                    self.assertEqual("OK", client.call("SET", "big", value))
                set_seconds = time.monotonic() - begin
                self.assertEqual(digest(value), digest(follower.call("GET", "big", timeout=200)))
                end = time.monotonic()
                self.assertEqual(before, terms(cluster))
            # To the leader, and from there to a majority: it took many election timeouts.
            self.assertGreater(set_seconds, 1.8 * size / (10 * MIB))
            self.assertLess(others.percentile("GET", 0.99, begin, end), 1.0 * harness.SLOW)
            self.assertIs(leader, cluster.leader())

    def test_damage_in_a_sealed_file_that_a_lagging_node_needs_ends_no_leader(self):
        """What is too large to be read at once is verified while it leaves: then the file is damaged, not the node lost."""
        def noise(number):
            return hashlib.shake_128(str(number).encode()).digest(900000)
        with Cluster(segment_size="2mb", max_value="1mb", retention="256mb", scrub_rate="0") as cluster:
            leader, away = cluster.leader(), cluster.followers()[0]
            away.kill()
            with leader.client(60) as client:
                for number in range(20):
                    self.assertEqual("OK", client.call("SET", f"large:{number}", noise(number)))
            folder = os.path.join(leader.data, "shard-0000")
            wait_until("most of it is sealed", lambda: len(glob.glob(os.path.join(folder, "*.idx"))) > 6)
            with open(sorted(glob.glob(os.path.join(folder, "*.log")))[3], "r+b") as file:
                file.seek(700000)
                byte = file.read(1)[0]
                file.seek(700000)
                file.write(bytes([byte ^ 1]))
            away.start().wait_serving(60)
            cluster.wait_converged(60)
            self.assertTrue(leader.alive(), leader.log_tail())
            wait_until("it is repaired", lambda: leader.status()["health"] == "ok", 60)
            for node in (leader, away):
                with node.client(60) as client:
                    for number in range(20):
                        self.assertEqual(noise(number), client.call("GET", f"large:{number}"))

    def test_many_large_requests_at_once_hold_bounded_memory(self):
        with Cluster(1, max_value="64mb", max_inflight="64mb") as cluster:
            node = cluster.nodes[0]
            base = node.memory()
            value = os.urandom(32 * MIB)
            highest = 0
            replies = []

            def send(number):
                with node.client(120) as client:
                    replies.append(client.call("SET", f"k:{number}", value))
            threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                highest = max(highest, node.memory())
                time.sleep(0.02)
            self.assertEqual(["OK"] * 8, replies)
            # Requests up to max-inflight and one beyond it, the same again in entries, and the newest of the log.
            self.assertLess(highest - base, (2 * 64 + 3 * 64 + 64) * MIB)
            self.assertEqual(digest(value), digest(node.call("GET", "k:7", timeout=60)))

    def test_kvctl_sets_and_gets_64_mib(self):
        with Cluster(max_value="64mb") as cluster:
            path = os.path.join(cluster.directory, "value")
            value = os.urandom(SIZE)
            with open(path, "wb") as file:
                file.write(value)
            done = cluster.kvctl("--timeout", "60000", "set", "k", "--file", path, timeout=120)
            self.assertEqual((0, "OK\n"), (done.returncode, done.stdout), done.stderr)
            command = [os.path.join(harness.BIN, "kvctl"), "--nodes", f"127.0.0.1:{cluster.nodes[0].client_port}",
                       "--timeout", "60000", "get", "k", "--raw"]
            got = harness.subprocess.run(command, capture_output=True, timeout=120 * harness.SLOW, check=True)
            self.assertEqual(digest(value), digest(got.stdout))


if __name__ == "__main__":
    harness.main()
