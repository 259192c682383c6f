#!/usr/bin/env python3
"""Ranges of very many keys are of one moment, whoever is asked, however slowly they are read, whatever changes or dies."""

import hashlib
import threading
import time
import unittest

import harness
from harness import Client, Cluster

GROUPS = 3000
GROUP = 100  # keys that are always set together


def key(group, number):
    return b"g%05d:%03d" % (group, number)


def load(client):
    for first in range(0, GROUPS, 20):
        client.pipeline([group_command(group, 0) for group in range(first, first + 20)])


def group_command(group, generation):
    words = [b"MSET"]
    for number in range(GROUP):
        words += [key(group, number), b"%06d" % generation + b"x" * 74]
    return words


class Writer(threading.Thread):
    """Sets whole groups, one after the other, through one node, until it is stopped."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.ports = ports
        self.stopped = threading.Event()
        self.count = 0

    def run(self):
        at = 0
        while not self.stopped.is_set():
            try:
                with Client(self.ports[at % len(self.ports)], 5) as client:
                    while not self.stopped.is_set():
                        client.call(*group_command((self.count * 7) % GROUPS, self.count + 1))
                        self.count += 1
                        time.sleep(0.005)
            except (harness.ReplyError, harness.Lost, harness.Unsent, OSError):
                at += 1
                time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(20)


class Slow(Client):
    """Takes its time between two reads."""
    pause = 0.0

    def _more(self):
        if self.pause:
            time.sleep(self.pause)
        return super()._more()


class Streams(unittest.TestCase):
    def check(self, elements):
        """Every group is complete and of one generation, in order."""
        self.assertEqual(GROUPS * GROUP, len(elements))
        for group in range(GROUPS):
            part = elements[group * GROUP:(group + 1) * GROUP]
            self.assertEqual([key(group, number) for number in range(GROUP)], [element[0] for element in part])
            self.assertEqual(1, len({element[1] for element in part}), f"group {group} is of several moments")

    def digest(self, elements):
        return hashlib.sha256(repr(elements).encode()).hexdigest()

    def test_of_one_moment_through_every_node(self):
        with Cluster() as cluster:
            with cluster.leader().client(60) as client:
                load(client)
            leader = cluster.leader()
            ports = [node.client_port for node in cluster.nodes]
            with Writer(ports) as writer:
                for node in cluster.nodes:
                    other = next(one for one in cluster.nodes if one is not node)
                    begin = writer.count
                    with node.client(60) as client:
                        revision, elements = client.call("KV.RANGE", "g", "h", "REVISION")
                        self.check(elements)
                        self.assertGreater(writer.count, begin)
                        self.assertEqual(GROUPS * GROUP, client.call("KV.RANGE", "", "", "COUNT"))
                        self.assertEqual(GROUPS * GROUP // 10, len(client.call("KEYS", "g*:*7")))
                    with other.client(60) as client:
                        again = client.call("KV.RANGE", "g", "h", "AT", revision)
                        self.assertEqual(self.digest(elements), self.digest(again))
                        backwards = client.call("KV.RANGE", "g", "h", "AT", revision, "REVERSE", "KEYS")
                        self.assertEqual([element[0] for element in reversed(elements)], backwards)
            self.assertTrue(leader.alive())

    def test_a_slow_client_costs_little_memory_and_nobody_else_time(self):
        with Cluster() as cluster:
            with cluster.leader().client(60) as client:
                load(client)
            node = cluster.followers()[0]
            before = node.memory()
            slow = Slow(node.client_port, 120)
            slow.pause = 0.004
            worst = 0.0
            highest = before
            with slow, Writer([cluster.leader().client_port]) as writer, node.client(10) as client:
                result = []
                reader = threading.Thread(target=lambda: result.append(slow.call("KV.RANGE", "g", "h")), daemon=True)
                reader.start()
                while reader.is_alive():
                    begin = time.monotonic()
                    client.call("KV.GET", key(1, 1))
                    worst = max(worst, time.monotonic() - begin)
                    highest = max(highest, node.memory())
                    time.sleep(0.01)
                reader.join()
                self.assertGreater(writer.count, 20)
            self.check(result[0])
            # The reply alone has 33 MB.
            self.assertLess(highest - before, 24 << 20, f"{before >> 20} MiB before")
            self.assertLess(worst, 1.0)

    def test_the_leader_dies_in_the_middle(self):
        with Cluster() as cluster:
            with cluster.leader().client(60) as client:
                load(client)
            leader = cluster.leader()
            node = cluster.followers()[0]
            slow = Slow(node.client_port, 120)
            with slow, Writer([one.client_port for one in cluster.followers()]):
                slow.send("KV.RANGE", "g", "h", "REVISION")
                slow.pause = 0.002
                killer = threading.Timer(0.3, leader.kill)
                killer.start()
                revision, elements = slow.read()
                killer.join()
                self.check(elements)
            self.assertFalse(leader.alive())
            # What was one moment there is the same on a node that was another one's follower.
            with cluster.followers()[0].client(60) as client:
                again = client.call("KV.RANGE", "g", "h", "AT", revision)
                self.assertEqual(self.digest(elements), self.digest(again))


if __name__ == "__main__":
    harness.main()
