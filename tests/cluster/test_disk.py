#!/usr/bin/env python3
"""Disks that fail or are full: a failed call ends the node and loses nothing, a full disk only refuses writes."""

import errno
import os
import time
import unittest

import data
import faultio
import harness
from harness import EXIT_DISK, SMALL, Cluster, Mount, ReplyError, wait_until
from history import Load


class Balloon:
    """A file that takes all the space that is left."""

    def __init__(self, folder):
        self.path = os.path.join(folder, "balloon")

    def inflate(self, leave=0):
        with open(self.path, "ab") as file:
            for size in (1 << 20, 1 << 12):
                try:
                    while True:
                        stat = os.statvfs(os.path.dirname(self.path))
                        if stat.f_bavail * stat.f_frsize <= leave + size:
                            break
                        file.write(bytes(size))
                        file.flush()
                except OSError:
                    pass
            os.fsync(file.fileno())

    def burst(self):
        if os.path.exists(self.path):
            os.unlink(self.path)


def write_until_refused(node, limit=20_000):
    """Writes until NOSPACE; the number of values that were acknowledged."""
    with node.client(30) as client:
        for number in range(limit):
            try:
                client.call("SET", data.key("full", number), data.value("full", number, 16_000))
            except ReplyError as error:
                assert error.code == "NOSPACE", error
                return number
    raise AssertionError("the disk never became full")


class FullDisk(unittest.TestCase):
    def test_single_node_refuses_writes_and_recovers(self):
        folder = harness.work_directory("-mount")
        with Mount(folder, "ext4", 96 << 20) as mount, Cluster(1, data_root=[mount.path], **SMALL) as cluster:
            node = cluster.nodes[0]
            balloon = Balloon(mount.path)
            data.fill(node, "early", 300, 4000)
            balloon.inflate(leave=3 << 20)
            written = write_until_refused(node)
            balloon.inflate()
            data.verify(node, "early", 300, 4000)
            data.verify(node, "full", written, 16_000)
            with self.assertRaises(ReplyError) as caught:
                node.call("SET", "more", "x" * 1000)
            self.assertEqual("NOSPACE", caught.exception.code)
            self.assertEqual("nospace", node.status()["health"])
            # Deletes go on, so that space can be made.
            for number in range(20):
                self.assertEqual(1, node.call("DEL", data.key("early", number)))
            self.assertEqual(0, node.call("EXISTS", data.key("early", 0)))
            self.assertEqual(1, node.call("EXISTS", data.key("early", 20)))
            balloon.burst()
            wait_until("writes are taken again", lambda: node.call("SET", "after", "y") == "OK", 10)
            self.assertTrue(node.alive())
            data.fill(node, "late", 100, 4000)
            node.kill()
            node.start().wait_serving()
            data.verify(node, "full", written, 16_000)
            data.verify(node, "early", 280, 4000, start=20)
            data.verify(node, "late", 100, 4000)
            self.assertEqual(0, node.call("EXISTS", *[data.key("early", n) for n in range(20)]))

    def test_full_leader_and_full_follower(self):
        folders = [harness.work_directory(f"-mount{number}") for number in range(3)]
        with Mount(folders[0], "ext4", 96 << 20) as one, Mount(folders[1], "ext4", 96 << 20) as two, \
                Mount(folders[2], "ext4", 96 << 20) as three, \
                Cluster(data_root=[one.path, two.path, three.path], **SMALL) as cluster, \
                Load(cluster.nodes, clients=4, value_size=4000) as load:
            balloons = {node: Balloon(mount.path) for node, mount in zip(cluster.nodes, (one, two, three))}
            load.wait_ok(100)
            for which in ("follower", "leader"):
                victim = cluster.leader() if which == "leader" else cluster.followers()[0]
                balloons[victim].inflate()
                deadline = time.monotonic() + 4 * harness.SLOW
                while time.monotonic() < deadline:
                    time.sleep(0.2)
                # Whatever it means for writes, no node ends and reads are served.
                self.assertEqual(3, len(cluster.alive()))
                leader = cluster.leader()
                self.assertIsInstance(leader.call("EXISTS", "anything", timeout=10), int)
                if which == "follower":
                    load.wait_ok(50)
                balloons[victim].burst()
                wait_until("writes are taken again", lambda: cluster.leader().call("SET", "probe", which) == "OK", 12)
                load.wait_ok(100)
            cluster.wait_converged(30)
            load.check(cluster.nodes)


class FailingDisk(unittest.TestCase):
    """One call of the leader's disk fails: it must end with exit code 3 and nothing acknowledged may be lost."""

    def fail_once_each(self, calls, countdowns, error):
        with Cluster(start=False, **SMALL) as cluster:
            faults = {node: faultio.Faults(node) for node in cluster.nodes}
            for node in cluster.nodes:
                node.start(environment=faults[node].environment)
            for node in cluster.nodes:
                node.wait_serving()
            with Load(cluster.nodes, value_size=2000) as load:
                for countdown in countdowns:
                    load.wait_ok(60)
                    victim = cluster.leader()
                    faults[victim].arm(calls, faultio.ERROR, countdown, error)
                    self.assertEqual(EXIT_DISK, victim.wait_exit(), victim.log_tail())
                    self.assertEqual(1, faults[victim].hits)
                    faults[victim].disarm()
                    load.wait_ok(60)
                    victim.start(environment=faults[victim].environment).wait_serving()
                cluster.wait_converged()
                load.check(cluster.nodes)

    def test_sync_fails_with_eio(self):
        self.fail_once_each(faultio.SYNC | faultio.SYNC_NEW, (1, 2, 7), errno.EIO)

    def test_write_fails_with_eio(self):
        self.fail_once_each(faultio.WRITE, (1, 2, 7), errno.EIO)

    def test_sync_fails_with_enospc(self):
        # Delayed allocation: what was reserved is gone after all. It must be treated like any failed sync.
        self.fail_once_each(faultio.SYNC, (1, 5), errno.ENOSPC)

    def test_short_writes_are_continued(self):
        with Cluster(1, start=False, **SMALL) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            node.start(environment=faults.environment).wait_serving()
            for number in range(30):
                faults.arm(faultio.WRITE, faultio.SHORT, 1)
                data.fill(node, "short", 20, 3000, start=20 * number)
                self.assertEqual(1, faults.hits)
            faults.disarm()
            node.kill()
            node.start().wait_serving()
            data.verify(node, "short", 600, 3000)

    def test_one_disk_that_fails_for_ever_costs_one_node(self):
        with Cluster(start=False, **SMALL) as cluster:
            faults = {node: faultio.Faults(node) for node in cluster.nodes}
            for node in cluster.nodes:
                node.start(environment=faults[node].environment)
            for node in cluster.nodes:
                node.wait_serving()
            with Load(cluster.nodes) as load:
                load.wait_ok(60)
                victim = cluster.leader()
                faults[victim].arm(faultio.WRITE | faultio.SYNC | faultio.SYNC_NEW, faultio.ERROR_EVER, 1, errno.EIO)
                self.assertEqual(EXIT_DISK, victim.wait_exit(), victim.log_tail())
                victim.start(environment=faults[victim].environment)
                code = victim.wait_exit()
                self.assertIn(code, (harness.EXIT_DATA, EXIT_DISK), victim.log_tail())
                load.wait_ok(100)
                load.check([node for node in cluster.nodes if node is not victim])


if __name__ == "__main__":
    harness.main()
