#!/usr/bin/env python3
"""A node that was away for longer than the log reaches back gets a snapshot, under load, and through crashes."""

import os
import time
import unittest

import data
import harness
from harness import SMALL, Cluster, ReplyError, wait_until
from history import Load

SIZE = 8000
INSTALLED = "state reopened from the disk"


def folder_size(path):
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                # What is really there: files are preallocated.
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:
                pass
    return total


def make_leader(cluster, node):
    """Hands leadership over, so that reads are answered from this node's own disk."""
    def leads():
        leader = cluster.leader()
        if leader is node:
            return True
        try:
            leader.call("KV.TRANSFER", node.name)
        except ReplyError:
            pass  # it is not up to date yet, or another transfer is under way
        return False
    wait_until(f"{node.name} leads", leads, 20, 0.3)


class Catchup(unittest.TestCase):
    def count(self):
        return 6000 if harness.LONG else 1500

    def test_blank_third_node_installs_a_snapshot_under_load(self):
        count = self.count()
        with Cluster(start=False, **SMALL) as cluster:
            early, late = cluster.nodes[:2], cluster.nodes[2]
            for node in early:
                node.start()
            for node in early:
                node.wait_serving()
            data.fill(early[0], "fill", count, SIZE)
            with Load(early, value_size=500) as load:
                load.wait_ok(100)
                late.start().wait_serving(60)
                wait_until("the late node has installed a snapshot", lambda: INSTALLED in late.log(), 60)
                load.wait_ok(200)
                load.stop()
                cluster.wait_converged(60)
                make_leader(cluster, late)
                data.verify(late, "fill", count, SIZE)
                load.check(cluster.nodes)
            # It is a full member now: with it, one of the others may go.
            early[0].kill()
            cluster.leader(among=[early[1], late])
            data.verify(late, "fill", count, SIZE)

    def test_node_that_was_away_too_long_installs_a_snapshot(self):
        count = self.count()
        with Cluster(**SMALL) as cluster:
            data.fill(cluster.nodes[0], "before", 200, SIZE)
            away = cluster.followers()[0]
            cluster.wait_converged()
            away.kill()
            staying = cluster.alive()
            data.fill(staying[0], "before", 100, SIZE // 2)  # older values are overwritten, and some keys deleted
            with staying[0].client() as client:
                for number in range(100, 150):
                    self.assertEqual(1, client.call("DEL", data.key("before", number)))
            data.fill(staying[1], "after", count, SIZE)
            away.start().wait_serving(60)
            cluster.wait_converged(60)
            self.assertIn(INSTALLED, away.log())
            make_leader(cluster, away)
            data.verify(away, "before", 100, SIZE // 2)
            data.verify(away, "before", 50, SIZE, start=150)
            data.verify(away, "after", count, SIZE)
            self.assertEqual(0, away.call("EXISTS", *[data.key("before", n) for n in range(100, 150)]))
            self.assertEqual(150 + count, away.call("DBSIZE"))

    def test_receiver_is_killed_in_the_middle_of_the_install(self):
        self.crash_during_install(lambda cluster, late: late)

    def test_leader_is_killed_in_the_middle_of_the_install(self):
        self.crash_during_install(lambda cluster, late: cluster.leader())

    def crash_during_install(self, victim_of):
        count = self.count() * 3
        with Cluster(start=False, **SMALL) as cluster:
            late = cluster.nodes[2]
            for node in cluster.nodes[:2]:
                node.start()
            for node in cluster.nodes[:2]:
                node.wait_serving()
            data.fill(cluster.nodes[0], "fill", count, SIZE)
            whole = folder_size(cluster.nodes[0].data)
            late.start()
            middle = 0
            for round_number in range(4 if not harness.LONG else 30):
                # Each round lets a bit more arrive before the blow.
                target = whole * (round_number + 1) // 8
                deadline = time.monotonic() + 10 * harness.SLOW
                while (folder_size(late.data) < target and INSTALLED not in late.log()
                       and time.monotonic() < deadline):
                    time.sleep(0.002)
                middle += INSTALLED not in late.log()
                victim = victim_of(cluster, late)
                victim.kill()
                victim.start()
            self.assertGreater(middle, 0, "no blow fell before the install was done: fill more")
            for node in cluster.nodes:
                node.wait_serving(60)
            cluster.wait_converged(90)
            make_leader(cluster, late)
            data.verify(late, "fill", count, SIZE)
            self.assertEqual(count, late.call("DBSIZE"))
            # What was half received leaves nothing behind that grows with every attempt.
            self.assertLess(folder_size(late.data), whole * 2.5 + 8_000_000)

    def test_everything_is_there_after_restarts_over_many_sealed_files(self):
        count = self.count()
        with Cluster(1, **SMALL) as cluster:
            node = cluster.nodes[0]
            data.fill(node, "fill", count, SIZE)
            for number in range(3):
                data.fill(node, f"round{number}", 50, SIZE)
                if number % 2 == 0:
                    node.kill()
                else:
                    self.assertEqual(0, node.terminate())
                node.start().wait_serving(60)
                data.verify(node, "fill", count, SIZE)
                data.verify(node, f"round{number}", 50, SIZE)
            # Hint files only save time: without them the same state comes back.
            node.kill()
            shard = os.path.join(node.data, "shard-0000")
            hints = [name for name in os.listdir(shard) if name.endswith(".idx")]
            self.assertTrue(hints)
            for name in hints:
                os.unlink(os.path.join(shard, name))
            node.start().wait_serving(60)
            data.verify(node, "fill", count, SIZE)
            self.assertEqual(count + 150, node.call("DBSIZE"))


if __name__ == "__main__":
    harness.main()
