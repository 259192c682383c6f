#!/usr/bin/env python3
"""F11: full disks. Writes are refused before they are in the log, reads, deletes, elections and starts go on, and
everything is as before within seconds when there is space again."""

import contextlib
import itertools
import unittest

import data
import harness
from harness import SMALL, Cluster, Mount, ReplyError, wait_until
from history import Load


def refused(node):
    """True when a write is refused for want of space."""
    try:
        node.call("SET", "probe", "x" * 100)
        return False
    except ReplyError as error:
        if error.code != "NOSPACE":
            raise
        return True


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


_filler = itertools.count()


def fill_more(node, mount):
    """Takes what is left on the disk, and what compaction gave back; then adds what cannot be compacted."""
    mount.balloon(0)
    with contextlib.suppress(ReplyError):
        for number in itertools.islice(_filler, 8):
            node.call("SET", data.key("filler", number), data.value("filler", number, 16_000))


def fill_disk(node, mount):
    """Until its disk counts as full."""
    def is_full():
        fill_more(node, mount)
        return node.status()["health"] == "nospace"
    wait_until(f"the disk of {node.name} is full", is_full, 30)


class OneNode(unittest.TestCase):
    def test_f11_single_node_refuses_writes_and_recovers(self):
        folder = harness.work_directory("-mount")
        with Mount(folder, "ext4", 96 << 20) as mount, Cluster(1, data_root=[mount.path], **SMALL) as cluster:
            node = cluster.nodes[0]
            data.fill(node, "early", 300, 4000)
            mount.balloon(3 << 20)
            written = write_until_refused(node)
            mount.balloon(0)
            data.verify(node, "early", 300, 4000)
            data.verify(node, "full", written, 16_000)
            self.assertTrue(refused(node))
            self.assertEqual("nospace", node.status()["health"])
            self.assertEqual(1, node.log().count("the disk is full: writes other than deletes are refused"))
            # Deletes go on, so that space can be made.
            for number in range(20):
                self.assertEqual(1, node.call("DEL", data.key("early", number)))
            self.assertEqual(0, node.call("EXISTS", data.key("early", 0)))
            self.assertEqual(1, node.call("EXISTS", data.key("early", 20)))
            # A start needs a little space, and finds it.
            mount.balloon(0)
            node.kill()
            mount.balloon(0)
            node.start().wait_serving()
            data.verify(node, "full", written, 16_000)
            self.assertEqual(1, node.call("DEL", data.key("early", 20)))
            mount.burst()
            wait_until("writes are taken again", lambda: not refused(node), 10)
            wait_until("its health is good", lambda: node.status()["health"] == "ok", 10)
            self.assertIn("the disk has space again", node.log())
            data.fill(node, "late", 100, 4000)
            node.kill()
            node.start().wait_serving()
            data.verify(node, "full", written, 16_000)
            data.verify(node, "early", 279, 4000, start=21)
            data.verify(node, "late", 100, 4000)
            self.assertEqual(0, node.call("EXISTS", *[data.key("early", n) for n in range(21)]))

    def test_f11_deletes_are_refused_before_the_log_stands_still(self):
        folder = harness.work_directory("-mount")
        with Mount(folder, "ext4", 96 << 20) as mount, Cluster(1, data_root=[mount.path], **SMALL) as cluster:
            node = cluster.nodes[0]
            count = 6000
            data.fill(node, "many", count, 10)
            # Another program takes all that deletes give back.
            deleted = 0
            fill_disk(node, mount)
            with node.client(20) as client:
                for deleted in range(count):
                    if deleted % 16 == 0:
                        mount.balloon(0)
                    try:
                        self.assertEqual(1, client.call("DEL", data.key("many", deleted)))
                    except ReplyError as error:
                        self.assertEqual("NOSPACE", error.code)
                        break
            self.assertGreater(deleted, 30)
            self.assertLess(deleted, count - 1)
            data.verify(node, "many", count - deleted, 10, start=deleted)
            # What is left is for elections.
            node.kill()
            node.start().wait_serving()
            for _ in range(3):
                self.assertEqual(0, node.terminate())
                node.start().wait_serving()
            data.verify(node, "many", count - deleted, 10, start=deleted)
            mount.burst()
            wait_until("writes are taken again", lambda: not refused(node), 10)


class ThreeNodes(unittest.TestCase):
    """Each node has a small file system of its own."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        mounts = [self.stack.enter_context(Mount(harness.work_directory(f"-mount{number}"), "ext4", 80 << 20))
                  for number in range(3)]
        self.cluster = self.stack.enter_context(Cluster(data_root=[mount.path for mount in mounts], **SMALL))
        self.mounts = dict(zip(self.cluster.nodes, mounts))

    def test_f11_one_full_disk_costs_nobody_a_write(self):
        cluster = self.cluster
        with Load(cluster.nodes, clients=4, value_size=2000) as load:
            load.wait_ok(100)
            follower = cluster.followers()[0]
            fill_disk(follower, self.mounts[follower])
            load.wait_ok(200)
            self.mounts[follower].burst()
            wait_until("the follower has room", lambda: follower.status()["health"] == "ok", 10)
            leader = cluster.leader()

            def has_handed_over():
                fill_more(leader, self.mounts[leader])
                return cluster.leader() is not leader
            wait_until("another node leads", has_handed_over, 30)
            self.assertIn("leadership goes to a node that has room", leader.log())
            begin = len(load.operations)
            load.wait_ok(200)
            refusals = [op for op in load.operations[begin:] if "NOSPACE" in op.note]
            self.assertFalse(refusals, "a majority has room")
            self.assertTrue(refused(cluster.leader()) is False)
            self.mounts[leader].burst()
            wait_until("it has room again", lambda: leader.status()["health"] == "ok", 10)
            self.assertEqual(3, len(cluster.alive()))
            cluster.wait_converged()
            load.check(cluster.nodes)

    def test_f11_all_disks_full(self):
        cluster = self.cluster
        data.fill(cluster.nodes[0], "early", 200, 4000)

        def are_full():
            for mount in self.mounts.values():
                fill_more(cluster.nodes[0], mount)
            return refused(cluster.leader())
        wait_until("all disks are full", are_full, 30)
        self.assertTrue(all(refused(node) for node in cluster.nodes))
        data.verify(cluster.nodes[1], "early", 200, 4000)
        self.assertEqual(1, cluster.nodes[2].call("DEL", data.key("early", 0)))
        self.assertIn(b"flashkv_disk_full 1", cluster.leader().http("/metrics")[1])
        # A leader is elected, and a node can start.
        leader = cluster.leader()
        leader.kill()
        wait_until("another node leads", lambda: cluster.leader() is not leader, 15)
        self.assertEqual(1, cluster.leader().call("DEL", data.key("early", 1)))
        leader.start().wait_serving()
        # A start gives back a little of what the log had reserved; somebody else takes it.
        wait_until("all disks are full again", are_full, 30)
        for mount in self.mounts.values():
            mount.burst()
        wait_until("writes are taken again", lambda: not any(refused(node) for node in cluster.nodes), 10)
        data.fill(cluster.nodes[0], "late", 100, 4000)
        cluster.wait_converged()
        for node in cluster.nodes:
            data.verify(node, "early", 198, 4000, start=2)
            data.verify(node, "late", 100, 4000)


if __name__ == "__main__":
    harness.main()
