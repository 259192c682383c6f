#!/usr/bin/env python3
"""Values: compressed, not cached, large, on a disk that is slow or gives some of them back no more."""

import errno
import os
import random
import threading
import time
import unittest

import faultio
import harness
from harness import Cluster, ReplyError, wait_until

MIB = 1 << 20
LARGE = {"max_value": "64mb"}


def noise(size, seed):
    """Bytes that no compression makes fewer."""
    return random.Random(seed).randbytes(size)


def text(size, seed):
    line = f'{{"seed": {seed}, "name": "somebody", "items": ["one", "two", "three"]}}\n'.encode()
    return (line * (size // len(line) + 1))[:size]


def figures(node):
    """INFO persistence as a dictionary of strings."""
    lines = node.call("INFO", "persistence").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def metrics(node):
    lines = node.http("/metrics")[1].decode().splitlines()
    return {line.split()[0]: line.split()[1] for line in lines if line and line[0] != "#"}


class Bystander:
    """A client that asks for something small again and again, and notes how long each answer took."""

    def __init__(self, node, *command):
        self.node = node
        self.command = command
        self.times = []
        self.error = None
        self.stopping = False
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            with self.node.client(30) as client:
                while not self.stopping:
                    begin = time.monotonic()
                    client.call(*self.command)
                    self.times.append(time.monotonic() - begin)
                    time.sleep(0.002)
        except Exception as error:  # pylint: disable=broad-except
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(60)


class Compression(unittest.TestCase):
    def test_values_of_all_sizes_are_the_same_on_every_node_and_after_restarts(self):
        sizes = (0, 63, 64, 1000, 1024, 1025, 70_000, 262_144, MIB + 1, 5 * MIB, 9 * MIB)
        values = {f"{kind.__name__}:{size}": kind(size, size) for size in sizes for kind in (noise, text)}
        with Cluster(max_value="16mb", segment_size="1mb") as cluster:
            leader = cluster.leader()
            follower = cluster.followers()[0]
            for number, (key, value) in enumerate(values.items()):
                (leader, follower)[number % 2].call("SET", key, value, timeout=30)
            stored = figures(leader)
            self.assertLess(int(stored["values_bytes_stored"]), 0.6 * int(stored["values_bytes_raw"]))
            self.assertGreater(float(stored["values_compression_ratio"]), 1.7)
            self.assertEqual(6, int(stored["values_compressed"]))
            self.assertEqual(metrics(leader)["flashkv_values_compressed_total"], stored["values_compressed"])
            for turn in range(2):
                for node in cluster.nodes:
                    for key, value in values.items():
                        self.assertEqual(value, node.call("GET", key, timeout=30), (node.name, key))
                        self.assertEqual(len(value), node.call("STRLEN", key))
                if turn == 0:
                    for node in cluster.nodes:
                        node.kill()
                    for node in cluster.nodes:
                        node.start()
                    for node in cluster.nodes:
                        node.wait_serving()
            self.assertEqual(len(values["text:1025"]) + 3, cluster.leader().call("APPEND", "text:1025", "abc"))
            self.assertEqual(values["text:1025"] + b"abc", follower.call("GET", "text:1025"))


class SlowReads(unittest.TestCase):
    def test_a_cold_value_does_not_delay_other_clients(self):
        with Cluster(1, start=False, **LARGE) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            values = {"large": noise(8 * MIB, 1), "small": noise(3000, 2), "text": text(8 * MIB, 3)}
            node.start(environment=faults.environment).wait_serving()
            for key, value in values.items():
                node.call("SET", key, value, timeout=30)
            node.call("SET", "inline", "here")
            node.kill()
            node.start(environment=faults.environment).wait_serving()
            before = int(figures(node)["value_reads_background"])
            for key, value in values.items():
                # Each read of the disk takes two seconds longer, and nothing counts as cached.
                faults.arm(faultio.READ, faultio.DELAY, 1, 2000)
                with Bystander(node, "GET", "inline") as reader, Bystander(node, "INCR", "counter") as writer:
                    begin = time.monotonic()
                    self.assertEqual(value, node.call("GET", key, timeout=60))
                    took = time.monotonic() - begin
                faults.disarm()
                self.assertGreaterEqual(took, 2.0)
                for bystander in (reader, writer):
                    self.assertIsNone(bystander.error)
                    self.assertGreater(len(bystander.times), 20)
                    self.assertLess(max(bystander.times), 1.5, "somebody waited for another one's value")
            self.assertGreaterEqual(int(figures(node)["value_reads_background"]), before + 3)

    def test_commands_of_one_connection_stay_in_order_behind_a_cold_value(self):
        with Cluster(1, start=False, **LARGE) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            value = noise(20_000, 5)
            node.start(environment=faults.environment).wait_serving()
            node.call("SET", "cold", value)
            node.kill()
            node.start(environment=faults.environment).wait_serving()
            faults.arm(faultio.READ, faultio.DELAY, 1, 500)
            with node.client(30) as client:
                replies = client.pipeline([("SET", "k", "1"), ("GET", "cold"), ("INCR", "k"), ("APPEND", "cold", "!"),
                                           ("GET", "k"), ("STRLEN", "cold"), ("MGET", "k", "none", "cold")])
            faults.disarm()
            self.assertEqual(["OK", value, 2, 20_001, b"2", 20_001, [b"2", None, value + b"!"]], replies)


class UnreadableValues(unittest.TestCase):
    def test_f10_a_value_that_gives_eio_is_an_error_for_its_key_alone(self):
        with Cluster(1, start=False, segment_size="256kb", max_value="64kb") as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            node.start(environment=faults.environment).wait_serving()
            node.call("SET", "victim", noise(5000, 1))
            for number in range(40):
                node.call("SET", f"other:{number}", noise(30_000, number))
            node.kill()
            node.start(environment=faults.environment).wait_serving()
            first = min(name for name in os.listdir(os.path.join(node.data, "shard-0000")) if name.endswith(".log"))
            faults.arm(faultio.READ, faultio.ERROR_EVER, 1, errno.EIO, name=first)
            for command in (("GET", "victim"), ("APPEND", "victim", "x"), ("MGET", "other:39", "victim")):
                with self.assertRaises(ReplyError) as caught:
                    node.call(*command)
                self.assertIn("could not be read", str(caught.exception))
            self.assertEqual(1, node.call("EXISTS", "victim"))
            self.assertEqual(noise(30_000, 39), node.call("GET", "other:39"))
            self.assertEqual("OK", node.call("SET", "more", "value"))
            self.assertTrue(node.alive())
            faults.disarm()
            wait_until("the value is read again", lambda: node.call("GET", "victim") == noise(5000, 1))


if __name__ == "__main__":
    harness.main()
