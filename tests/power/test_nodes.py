#!/usr/bin/env python3
"""F02: the power fails under real nodes: what was not synced is gone, on a real ext4. What was acknowledged is not.

FS_IOC_GOINGDOWN stops a file system as a power cut does: its journal is not written out, nothing reaches the device
any more. The nodes are killed then, and the file system is mounted again."""

import fcntl
import os
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import SMALL, Cluster, Mount  # noqa: E402
from history import Load  # noqa: E402

FS_IOC_GOINGDOWN = 0x8004587D
GOING_DOWN_NO_LOG_FLUSH = 2


def cut_power(path):
    """The moment before the cut, in the clock of histories."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        moment = time.monotonic_ns()
        fcntl.ioctl(folder, FS_IOC_GOINGDOWN, struct.pack("I", GOING_DOWN_NO_LOG_FLUSH))
        return moment
    except OSError as error:
        raise unittest.SkipTest(f"this kernel cannot cut the power of ext4: {error}") from error
    finally:
        os.close(folder)


class Power(unittest.TestCase):
    def cut_and_mount(self, mount, nodes, load):
        moment = cut_power(mount.path)
        for node in nodes:
            node.process.kill()
        for node in nodes:
            node.kill()
        # An answer that was read while the disk was dying may be older or younger than the cut: nobody knows.
        begin = len(load.operations)
        time.sleep(0.05)
        for op in load.operations[max(0, begin - 500):]:
            if op.outcome == "ok" and op.returned >= moment and op.node in [node.name for node in nodes]:
                op.outcome, op.returned = "info", None
                if op.kind == "incr":
                    op.value = None
        self.assertTrue(mount.unmount(), "the file system is still in use")
        self.assertTrue(mount.mount(), "the file system cannot be mounted again")

    def test_f02_all_nodes_lose_power_at_once(self):
        folder = harness.work_directory("-power")
        with Mount(folder, "ext4", 512 << 20) as mount:
            roots = [os.path.join(mount.path, f"n{number}") for number in range(3)]
            for root in roots:
                os.mkdir(root)
            with Cluster(data_root=roots, **SMALL) as cluster, Load(cluster.nodes, value_size=700) as load:
                for _ in range(6 if not harness.LONG else 200):
                    load.wait_ok(150)
                    self.cut_and_mount(mount, cluster.nodes, load)
                    for node in cluster.nodes:
                        node.start()
                    for node in cluster.nodes:
                        node.wait_serving()
                load.wait_ok(100)
                load.check(cluster.nodes, ok_min=800)

    def test_f02_single_node_loses_power(self):
        folder = harness.work_directory("-power")
        with Mount(folder, "ext4", 512 << 20) as mount, \
                Cluster(1, data_root=[mount.path], election_timeout=150, heartbeat=30, **SMALL) as cluster, \
                Load(cluster.nodes, value_size=700, clients=8, pause=0) as load:
            node = cluster.nodes[0]
            for _ in range(20 if not harness.LONG else 2000):
                load.wait_ok(100)
                self.cut_and_mount(mount, [node], load)
                node.start().wait_serving()
            load.wait_ok(100)
            load.check(cluster.nodes, ok_min=1500)

    def test_f02_leader_loses_power_and_others_go_on(self):
        folder = harness.work_directory("-power")
        others = harness.work_directory("-others")
        with Mount(folder, "ext4", 256 << 20) as mount:
            roots = [mount.path, os.path.join(others, "n2"), os.path.join(others, "n3")]
            for root in roots[1:]:
                os.makedirs(root)
            with Cluster(data_root=roots, **SMALL) as cluster, Load(cluster.nodes, value_size=700) as load:
                unlucky = cluster.nodes[0]
                for _ in range(4 if not harness.LONG else 60):
                    load.wait_ok(100)
                    if cluster.leader() is not unlucky:
                        try:
                            cluster.leader().call("KV.TRANSFER", unlucky.name)
                        except harness.ReplyError:
                            pass
                        load.wait_ok(50)
                    self.cut_and_mount(mount, [unlucky], load)
                    load.wait_ok(100)
                    unlucky.start().wait_serving()
                cluster.wait_converged()
                load.check(cluster.nodes, ok_min=600)


if __name__ == "__main__":
    harness.main()
