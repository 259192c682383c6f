#!/usr/bin/env python3
"""Space comes back by itself: while clients write, through kill -9, and on a node that gets its state from the others."""

import os
import random
import time
import unittest

import data
import harness
from harness import Cluster, wait_until
from history import Load

OPTIONS = {"segment_size": "256kb", "max_value": "64kb", "retention": "512kb", "compaction_rate": "8mb"}
SEGMENT = 256 * 1024
WINDOW = 512 * 1024
SIZE = 1000
KEYS = 1500
# Beside the data: segment header blocks, manifest, vote, identity, peers; and two segments that a full disk can have.
RESERVE = 2 * SEGMENT + 64 * 1024
INSTALLED = "state reopened from the disk"


def pairs(reply):
    words = [word.decode() if isinstance(word, bytes) else word for word in reply]
    return dict(zip(words[::2], words[1::2]))


def disk(node):
    """KV.DISK as a dictionary, its files likewise."""
    shown = pairs(node.call("KV.DISK"))
    shown["files"] = [pairs(file) for file in shown["files"]]
    return shown


def info(node):
    lines = node.call("INFO", "persistence").decode().split("\r\n")
    return dict(line.split(":", 1) for line in lines if ":" in line)


def folder_size(node):
    total = 0
    for folder, _, names in os.walk(node.data):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def overwrite(node, rounds, seed):
    """Writes random keys again, with the values that data.verify expects."""
    prng = random.Random(seed)
    with node.client(30) as client:
        for _ in range(rounds):
            numbers = [prng.randrange(KEYS) for _ in range(data.BATCH)]
            replies = client.pipeline([("SET", data.key("k", n), data.value("k", n, SIZE)) for n in numbers])
            assert all(reply == "OK" for reply in replies), replies


class Compaction(unittest.TestCase):
    def test_space_comes_back_while_clients_write(self):
        rounds = 1500 if harness.LONG else 300
        with Cluster(**OPTIONS) as cluster:
            leader = cluster.leader()
            data.fill(leader, "k", KEYS, SIZE)
            overwrite(leader, rounds, 1)
            live = KEYS * (32 + 10 + SIZE)
            bound = 2 * live + WINDOW + 3 * SEGMENT + RESERVE
            for node in cluster.nodes:
                wait_until(f"{node.name} takes twice what lives, and what it may beside that",
                           lambda node=node: folder_size(node) <= bound, 30)
                figures = disk(node)
                self.assertGreater(figures["jobs"], 0)
                self.assertTrue(any(file["kind"] == "table" for file in figures["files"]), figures["files"])
                self.assertEqual(0, sum(file["damaged"] for file in figures["files"]))
                self.assertLess(float(info(node)["write_amplification"]), 3.5)
                metrics = node.http("/metrics")
                self.assertIn("flashkv_compaction_jobs_total", str(metrics))
            data.verify(leader, "k", KEYS, SIZE)

    def test_kill_during_compaction_loses_nothing(self):
        cycles = 30 if harness.LONG else 5
        with Cluster(**OPTIONS) as cluster:
            data.fill(cluster.leader(), "k", KEYS, SIZE)
            prng = random.Random(7)
            with Load(cluster.nodes, value_size=2000) as load:
                for cycle in range(cycles):
                    overwrite(cluster.leader(), 60, cycle)
                    victim = cluster.nodes[cycle % 3]
                    victim.call("KV.COMPACT")
                    time.sleep(prng.random() * 0.2)  # Anywhere in the job.
                    victim.kill()
                    victim.start().wait_serving(60)
                load.wait_ok(100)
                cluster.wait_converged()
                load.check(cluster.nodes)
            data.verify(cluster.leader(), "k", KEYS, SIZE)

    def test_a_damaged_hint_of_an_old_file_holds_up_no_space(self):
        with Cluster(1, scrub_rate="0", **OPTIONS) as cluster:
            node = cluster.nodes[0]
            data.fill(node, "cold", 1000, SIZE)
            folder = os.path.join(node.data, "shard-0000")
            hints = sorted(name for name in os.listdir(folder) if name.endswith(".idx"))
            with open(os.path.join(folder, hints[0]), "r+b") as file:
                file.seek(200)
                byte = file.read(1)[0]
                file.seek(200)
                file.write(bytes([byte ^ 1]))
            with node.client(30) as client:
                for turn in range(120):
                    names = [f"brief:{turn}:{number}" for number in range(data.BATCH)]
                    client.pipeline([("SET", name, data.value("brief", turn, SIZE)) for name in names])
                    client.pipeline([("DEL", name) for name in names])
            bound = 3 * 1000 * (32 + 10 + SIZE) + WINDOW + 3 * SEGMENT + RESERVE
            wait_until("the space of what was deleted comes back", lambda: folder_size(node) <= bound, 30)
            data.verify(node, "cold", 1000, SIZE)
            node.kill()
            node.start().wait_serving(60)
            data.verify(node, "cold", 1000, SIZE)
            self.assertEqual(0, node.call("EXISTS", "brief:3:7"))
            self.assertEqual(1000, node.call("DBSIZE"))

    def test_tables_are_shipped_to_a_node_that_was_away(self):
        with Cluster(**OPTIONS) as cluster:
            away = cluster.followers()[0]
            data.fill(cluster.leader(), "k", KEYS, SIZE)
            away.kill()
            overwrite(cluster.leader(), 150, 3)
            for node in cluster.nodes:
                if node is not away:
                    node.call("KV.COMPACT")
                    wait_until("it has given back what it can", lambda node=node: disk(node)["forced"] == 0, 30)
            away.start().wait_serving(60)
            wait_until("it has installed a snapshot", lambda: INSTALLED in away.log(), 60)
            cluster.wait_converged()
            self.assertTrue(any(file["kind"] == "table" for file in disk(away)["files"]))
            away.kill()
            away.start().wait_serving(60)
            cluster.wait_converged()
            for node in cluster.nodes:
                data.verify(node, "k", KEYS, SIZE)


if __name__ == "__main__":
    harness.main()
