#!/usr/bin/env python3
"""F25, F43, F54: bases on their way to a node that lags: memory, rate, and many installs with blows to either side."""

import hashlib
import random
import time
import unittest

import harness
from harness import Cluster, wait_until
from history import Load

INSTALLED = "state reopened from the disk"
MIB = 1024 * 1024


def noise(number, size):
    """Bytes that do not compress, and follow from a number."""
    return hashlib.shake_128(str(number).encode()).digest(size)


def fill(node, count, size, start=0):
    with node.client(60) as client:
        for number in range(start, start + count):
            for _ in range(5):
                try:
                    assert client.call("SET", f"key:{number}", noise(number, size)) == "OK"
                    break
                except harness.ReplyError as error:
                    # The same value again does no harm when it is not known whether it was set.
                    assert error.code in ("UNCERTAIN", "CLUSTERDOWN"), error


def metric(node, name):
    status, body = node.http("/metrics")
    assert status == 200
    for line in body.decode().splitlines():
        if line.startswith(f"flashkv_{name} "):
            return float(line.split()[1])
    raise AssertionError(f"no metric {name}")


def memory_peak(node, reset=False):
    """The largest resident size since the last reset."""
    if reset:
        with open(f"/proc/{node.process.pid}/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


class Ship(unittest.TestCase):
    def test_memory_of_both_sides_does_not_depend_on_the_size_of_the_store(self):
        total = (2048 if harness.LONG else 192) * MIB
        size = 128 * 1024
        options = {"segment_size": "4mb", "max_value": "256kb", "retention": "8mb", "ship_rate": "0"}
        with Cluster(start=False, **options) as cluster:
            early, late = cluster.nodes[:2], cluster.nodes[2]
            for node in early:
                node.start()
            for node in early:
                node.wait_serving()
            fill(early[0], total // size, size)
            leader = cluster.leader(among=early)
            before = {leader: leader.memory()}
            memory_peak(leader, reset=True)
            late.start()
            # What a node without anything takes, once it has met the others.
            wait_until("the late node is up", late.status, 20)
            before[late] = late.memory()
            wait_until("the base arrived", lambda: INSTALLED in late.log(), 600 if harness.LONG else 120, 0.02)
            late.wait_serving(60)
            cluster.wait_converged(60)
            for node in (leader, late):
                grown = memory_peak(node) - before[node]
                self.assertLess(grown, 32 * MIB, f"{node.name} grew by {grown / MIB:.1f} MiB")
            self.assertGreaterEqual(metric(leader, "snapshot_sent_bytes_total"), total)
            for number in random.Random(5).sample(range(total // size), 50):
                self.assertEqual(noise(number, size), late.call("GET", f"key:{number}"))

    def test_the_rate_is_kept_and_progress_is_shown(self):
        options = {"segment_size": "1mb", "max_value": "256kb", "retention": "2mb", "ship_rate": "4mb"}
        with Cluster(start=False, **options) as cluster:
            early, late = cluster.nodes[:2], cluster.nodes[2]
            for node in early:
                node.start()
            for node in early:
                node.wait_serving()
            fill(early[0], 24 * 8, 128 * 1024)
            late.start()
            wait_until("the transfer begins", lambda: metric(late, "snapshot_receiving_bytes") > 0, 30, 0.01)
            begun = time.monotonic()
            had = metric(late, "snapshot_receiving_bytes")
            total = metric(late, "snapshot_receiving_total_bytes")
            self.assertGreater(total, 20 * MIB)
            status, body = late.http("/readyz")
            self.assertEqual((503, True), (status, b"installing a snapshot" in body), body)
            # Commands are answered by the leader meanwhile.
            self.assertEqual(noise(7, 128 * 1024), late.call("GET", "key:7"))
            wait_until("the base arrived", lambda: INSTALLED in late.log(), 60, 0.02)
            seconds = time.monotonic() - begun
            # A second's worth may have gathered before it began.
            self.assertGreater(seconds, (total - had) / (4 * MIB) - 1.5)
            late.wait_serving(60)
            self.assertEqual(0, metric(late, "snapshot_receiving_total_bytes"))

    def test_f43_many_installs_with_blows_to_either_side(self):
        wanted = 200 if harness.LONG else 20
        options = {"segment_size": "512kb", "max_value": "16kb", "retention": "512kb", "election_timeout": "400",
                   "heartbeat": "80"}
        prng = random.Random(43)
        with Cluster(**options) as cluster:
            with Load(cluster.nodes, value_size=3000, pause=0.03) as load:
                installs = 0
                deadline = time.monotonic() + (900 if harness.LONG else 100) * harness.SLOW
                while installs < wanted:
                    self.assertLess(time.monotonic(), deadline, f"only {installs} installs")
                    away = prng.choice(cluster.nodes)
                    away.kill()
                    others = [node for node in cluster.nodes if node is not away]
                    cluster.leader(among=others)
                    fill(others[0], 100, 15000)
                    seen = away.log().count(INSTALLED)
                    away.start()
                    blow = prng.randrange(4)
                    if blow == 0:  # the source, while it sends
                        time.sleep(prng.random() * 0.15)
                        victim = cluster.leader(among=others)
                        victim.kill()
                        victim.start()
                    elif blow == 1:  # the receiver, while it receives
                        time.sleep(prng.random() * 0.15)
                        away.kill()
                        away.start()
                    for node in cluster.nodes:
                        node.wait_serving(60)
                    cluster.wait_converged(60)
                    installs += away.log().count(INSTALLED) > seen
                load.wait_ok(100)
                load.stop()
                cluster.wait_converged(60)
                load.check(cluster.nodes)
            # Nobody is offered base after base once all have caught up.
            sent = [metric(node, "snapshots_sent_total") for node in cluster.nodes]
            time.sleep(1)
            self.assertEqual(sent, [metric(node, "snapshots_sent_total") for node in cluster.nodes])


if __name__ == "__main__":
    harness.main()
