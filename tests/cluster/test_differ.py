#!/usr/bin/env python3
"""F52: one node's keys are not those of the others, although nothing on its disk is damaged: a bug of ours, or memory that
failed. Within one check it takes itself out and says so; it is healed by the others, and clients notice nothing. A node
that is out holds nothing to answer from: what it is asked goes on to the leader."""

import os
import re
import struct
import subprocess
import time
import unittest

import data
import faultio
import harness
from harness import SMALL, Cluster, wait_until
from history import Load
from test_damage import metric, shard, unsealed

CHECK = 1500
OPTIONS = {**SMALL, "check_interval": CHECK, "election_timeout": 500, "heartbeat": 100}
WITHIN = 2 * CHECK / 1000 + 1  # one interval until it begins, one more for the machine
KEY = "differs"
VALUE = b"as it was written"


def plant(node):
    """In the log of a stopped node this key gets another value, and every checksum agrees to it."""
    done = subprocess.run([os.path.join(harness.BIN, "differ"), unsealed(node), KEY], capture_output=True, text=True,
                          timeout=20, check=False)
    assert done.returncode == 0, f"differ changed {done.stdout} {done.stderr}"


def flip_in_memory(node):
    """Changes one bit of the value where the index of a running node keeps it, beside its key."""
    entry = struct.pack("<H", len(KEY) - 1) + KEY.encode() + VALUE
    hits = 0
    with open(f"/proc/{node.process.pid}/maps", encoding="ascii") as maps, \
            open(f"/proc/{node.process.pid}/mem", "r+b", buffering=0) as memory:
        for line in maps:
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if not found:
                continue
            begin, end = (int(number, 16) for number in found.groups())
            if end - begin > 1 << 28:
                continue  # what a sanitizer has set apart for itself
            try:
                memory.seek(begin)
                content = memory.read(end - begin)
            except (OSError, OverflowError):
                continue
            at = content.find(entry)
            while at >= 0:
                place = begin + at + len(entry) - 1
                memory.seek(place)
                memory.write(bytes([content[at + len(entry) - 1] ^ 1]))
                hits += 1
                at = content.find(entry, at + 1)
    assert hits > 0, "the key is not in memory as its layout says"


class Differ(unittest.TestCase):
    def prepare(self, cluster):
        data.fill(cluster.nodes[0], "k", 100, 2000)
        self.assertEqual("OK", cluster.nodes[0].call("SET", KEY, VALUE))
        cluster.wait_converged()

    def expect_taken_out(self, cluster, node, words, seconds=WITHIN):
        wait_until("it takes itself out", lambda: "QUARANTINE:" in node.log(), seconds, 0.02)
        line = next(line for line in node.log().splitlines() if "QUARANTINE:" in line)
        self.assertIn(words, line)
        wait_until("it is healed", lambda: "the quarantine is over" in node.log(), 20)
        for other in cluster.nodes:
            if other is not node:
                self.assertNotIn("QUARANTINE:", other.log())

    def expect_equal(self, cluster, node):
        """It is as good as the others: it leads, and what it says is right."""
        def leads():
            leader = cluster.leader()
            if leader is not node:
                try:
                    leader.call("KV.TRANSFER", node.name)
                except harness.ReplyError:
                    pass  # another transfer is under way
            return cluster.leader() is node
        cluster.wait_converged()
        wait_until("it leads", leads, 20, 0.2)
        self.assertEqual(VALUE, node.call("GET", KEY))
        told = cluster.kvctl("check")
        self.assertEqual(0, told.returncode, told.stdout + told.stderr)

    def test_f52_a_follower_applied_something_else(self):
        with Cluster(**OPTIONS) as cluster:
            self.prepare(cluster)
            victim = cluster.followers()[0]
            self.assertEqual(0, victim.terminate())
            plant(victim)
            with Load(cluster.nodes, clients=4) as load:
                load.wait_ok(50)
                victim.start()
                wait_until("it has caught up", lambda: int(victim.status()["applied"]) > 0, 10, 0.01)
                self.expect_taken_out(cluster, victim, "differ from those of the majority")
                for node in cluster.nodes:
                    wait_until("all nodes say so", lambda node=node: "STATES DIFFER" in node.log(), 5)
                self.assertEqual(VALUE, victim.call("GET", KEY))
                load.wait_ok(100)
                self.expect_equal(cluster, victim)
                load.check(cluster.nodes)
                refused = [op for op in load.operations if op.outcome != "ok" and op.node != victim.name]
                # Whoever asked the others lost at most what a change of leader costs.
                self.assertLess(len(refused), 50)

    def test_f52_the_leader_applied_something_else(self):
        """Nothing compares by itself here; `kvctl check` does."""
        with Cluster(**{**OPTIONS, "check_interval": 0}) as cluster:
            self.prepare(cluster)
            victim = cluster.leader()
            self.assertEqual(0, victim.terminate())
            plant(victim)
            victim.start().wait_serving()

            def leads():
                if cluster.leader() is not victim:
                    try:
                        cluster.leader().call("KV.TRANSFER", victim.name)
                    except harness.ReplyError:
                        pass  # it is not up to date yet
                return cluster.leader() is victim
            wait_until("it leads", leads, 20, 0.2)
            self.assertNotEqual(VALUE, victim.call("GET", KEY), "nothing was planted")
            told = cluster.kvctl("check")
            self.assertNotEqual(0, told.returncode, told.stdout)
            self.expect_taken_out(cluster, victim, "differ from those of the majority")
            self.assertIsNot(cluster.leader(), victim)
            self.assertEqual(VALUE, victim.call("GET", KEY))
            self.expect_equal(cluster, victim)

    def test_f52_memory_changes_by_itself(self):
        with Cluster(**OPTIONS) as cluster:
            self.prepare(cluster)
            victim = cluster.followers()[0]
            with Load(cluster.nodes, clients=3) as load:
                load.wait_ok(50)
                try:
                    flip_in_memory(victim)
                except PermissionError as error:
                    self.skipTest(f"may not write to another process's memory: {error}")
                self.expect_taken_out(cluster, victim, "look at the machine's memory")
                load.wait_ok(100)
                self.expect_equal(cluster, victim)
                load.check(cluster.nodes)

    def test_a_node_that_is_out_forwards_and_answers_nothing_itself(self):
        """It has no state, so nothing that it could say would be old: the leader answers. It is not ready, so that
        whoever can choose asks another one."""
        options = {**OPTIONS, "reads": "local", "check_interval": 0}
        with Cluster(**options) as cluster:
            data.fill(cluster.nodes[0], "k", 300, 8000)
            self.assertEqual("OK", cluster.nodes[0].call("SET", KEY, VALUE))
            cluster.wait_converged()
            victim = cluster.followers()[0]
            self.assertEqual(0, victim.terminate())
            with open(shard(victim, "MANIFEST"), "r+b") as file:
                file.seek(100)
                file.write(b"\xff" * 8)
            faults = faultio.Faults(victim)
            faults.delay(150)  # so that it is out for a while
            victim.start(environment=faults.environment)
            wait_until("it is out", lambda: metric(victim, "quarantined") == 1, 20, 0.01)
            wait_until("it knows a leader", lambda: victim.call("PING") == "PONG" and
                       victim.status()["leader"] == cluster.leader().name, 20, 0.01)
            asked = 0
            while metric(victim, "quarantined") == 1:
                ready, _ = victim.http("/readyz")
                replies = [victim.call(*command) for command in (
                    ("GET", KEY), ("SET", "written", str(asked)), ("GET", "written"), ("DBSIZE",))]
                # When it is over it answers reads from its own state, as it was told to, which may be old.
                if metric(victim, "quarantined") == 1:
                    self.assertEqual((503, [VALUE, "OK", str(asked).encode(), 302]), (ready, replies))
                    asked += 1
                if asked == 6:
                    faults.disarm()
                time.sleep(0.02)
            self.assertGreater(asked, 2, "it was over too soon to show anything")
            wait_until("it is ready", lambda: victim.http("/readyz")[0] == 200, 20)
            data.verify(victim, "k", 300, 8000)


if __name__ == "__main__":
    harness.main()
