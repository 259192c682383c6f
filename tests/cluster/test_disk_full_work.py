#!/usr/bin/env python3
"""F11: the disk becomes full while the node itself writes large files in the background, and clients write as well:
nothing is lost, what cannot be kept is refused, and all goes on when there is space again."""

import contextlib
import os
import re
import time
import unittest

import data
import harness
from harness import SMALL, Cluster, Mount, wait_until
from history import Load
from test_damage import metric
from test_disk_full import fill_disk, refused


def installed(node):
    """A base arrived; an attempt that was given up ends at index 0."""
    return re.search(r"state reopened from the disk at index [1-9]", node.log())


class AtWork(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def mount(self, size):
        return self.stack.enter_context(Mount(harness.work_directory("-mount"), "ext4", size))

    def test_f11_full_during_compaction(self):
        mount = self.mount(96 << 20)
        options = {**SMALL, "retention": "256kb", "compaction_rate": "1mb"}
        with Cluster(1, data_root=[mount.path], **options) as cluster:
            node = cluster.nodes[0]
            for size in (5000, 6000, 7000):  # twice as much garbage as there is data
                data.fill(node, "k", 1000, size)
            with Load(cluster.nodes, clients=3, value_size=2000) as load:
                load.wait_ok(50)
                wait_until("files are being compacted", lambda: metric(node, "compaction_running") == 1, 20, 0.01)
                jobs = metric(node, "compaction_jobs_total")
                fill_disk(node, mount)
                begin = len(load.operations)
                wait_until("clients are refused", lambda: any("NOSPACE" in op.note for op in load.operations[begin:]), 10)
                # Full for as long as several attempts take.
                for _ in range(5):
                    mount.balloon(0)
                    time.sleep(0.3)
                self.assertTrue(node.alive())
                data.verify(node, "k", 1000, 7000)
                mount.burst()
                wait_until("writes are taken again", lambda: not refused(node), 10)
                load.wait_ok(100)
                wait_until("compaction goes on", lambda: metric(node, "compaction_jobs_total") > jobs, 30)
                load.check(cluster.nodes)
            node.kill()
            node.start().wait_serving()
            data.verify(node, "k", 1000, 7000)
            self.assertEqual(0, metric(node, "damaged_ranges"))

    def test_f11_full_during_an_install(self):
        mount = self.mount(64 << 20)
        folder = harness.work_directory("-others")
        roots = [os.path.join(folder, "n1"), os.path.join(folder, "n2"), mount.path]
        for root in roots[:2]:
            os.makedirs(root)
        with Cluster(start=False, data_root=roots, **{**SMALL, "ship_rate": "2mb"}) as cluster:
            early, late = cluster.nodes[:2], cluster.nodes[2]
            for node in early:
                node.start()
            for node in early:
                node.wait_serving()
            data.fill(early[0], "k", 1000, 8000)
            mount.balloon(16 << 20)  # Enough for the base; the rest goes in a moment.
            with Load(early, clients=3, value_size=500) as load:
                late.start()
                wait_until("an install is under way", lambda: metric(late, "snapshot_receiving_bytes") > 1 << 18, 20, 0.01)
                mount.balloon(0)
                wait_until("it is full", lambda: late.status()["health"] != "ok" and os.statvfs(mount.path).f_bavail == 0, 20)
                for _ in range(5):
                    mount.balloon(0)
                    time.sleep(0.3)
                self.assertFalse(installed(late))
                self.assertTrue(late.alive())
                load.wait_ok(100)
                # What it is asked the others answer.
                data.verify(late, "k", 100, 8000)
                mount.burst()
                wait_until("the install is done", lambda: installed(late), 60)
                late.wait_serving()
                load.stop()
                self.assertEqual([], [op for op in load.operations if op.outcome != "ok"], "a majority had room")
                cluster.wait_converged()
                self.assertEqual("ok", late.status()["health"])
                load.check(cluster.nodes)
            late.kill()
            late.start().wait_serving()
            cluster.wait_converged()
            told = cluster.kvctl("check")
            self.assertEqual(0, told.returncode, told.stdout + told.stderr)
            early[0].kill()
            data.verify(late, "k", 1000, 8000)


if __name__ == "__main__":
    harness.main()
