#!/usr/bin/env python3
"""F01, F04, F08, F09, F10: disks that fail. A failed call ends the node and loses nothing; what only looks like a failure
is no reason to stop. Full disks: test_disk_full.py; slow, frozen and read-only ones: test_disk_slow.py."""

import errno
import os
import time
import unittest

import data
import faultio
import harness
from harness import EXIT_DISK, SMALL, Cluster, Mount, ReplyError, wait_until
from history import Load


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
                    wait_until("the call fails", lambda: faults[victim].hits == 1)
                    # At once: the longer it lives, the more it may do upon a disk that lost something.
                    self.assertEqual(EXIT_DISK, victim.wait_exit(2), victim.log_tail())
                    self.assertIn("look at the disk", victim.log())
                    faults[victim].disarm()
                    load.wait_ok(60)
                    victim.start(environment=faults[victim].environment).wait_serving()
                cluster.wait_converged()
                load.check(cluster.nodes)

    def test_f08_sync_fails_with_eio(self):
        self.fail_once_each(faultio.SYNC | faultio.SYNC_NEW, (1, 2, 7), errno.EIO)

    def test_f09_write_fails_with_eio(self):
        self.fail_once_each(faultio.WRITE, (1, 2, 7) if harness.LONG else (1, 7), errno.EIO)

    def test_f08_sync_fails_with_enospc(self):
        # Delayed allocation: what was reserved is gone after all. It must be treated like any failed sync.
        self.fail_once_each(faultio.SYNC, (1, 5) if harness.LONG else (5,), errno.ENOSPC)

    def test_f04_short_and_interrupted_calls_are_continued(self):
        with Cluster(1, start=False, **SMALL) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            node.start(environment=faults.environment).wait_serving()
            for number in range(30):
                faults.arm(faultio.WRITE, faultio.SHORT, 1)
                data.fill(node, "short", 20, 3000, start=20 * number)
                self.assertEqual(1, faults.hits)
            faults.arm(faultio.WRITE | faultio.SYNC | faultio.SYNC_NEW | faultio.SPACE, faultio.INTERRUPT)
            data.fill(node, "interrupted", 400, 3000)
            self.assertGreater(faults.hits, 20)
            faults.disarm()
            node.kill()
            # The next start reads in pieces, too.
            faults.arm(faultio.READ, faultio.INTERRUPT)
            node.start(environment=faults.environment).wait_serving()
            self.assertGreater(faults.hits, 5)
            data.verify(node, "short", 600, 3000)
            data.verify(node, "interrupted", 400, 3000)

    def test_f08_after_a_failed_write_back_the_cache_is_not_believed(self):
        # With a journal the file system becomes read-only, without one it goes on as if nothing had been.
        for features in ("^has_journal", "has_journal"):
            with self.subTest(features):
                self.fail_write_back(features)

    def fail_write_back(self, features):
        # A device that takes no more: what was written stays in the cache, as if it were on the disk. Only small
        # groups are written, of one page each: a loop device does not say when it could write a part.
        device = harness.work_directory("-device")
        folder = harness.work_directory("-mount")
        with Mount(device, "tmpfs", 64 << 20) as below:
            image = os.path.join(device, "image")
            with Mount(folder, "ext4", 200 << 20, image=image, options=("-b", "4096", "-O", features)) as mount, \
                    Cluster(1, data_root=[mount.path], segment_size="2mb", max_value="64kb") as cluster:
                node = cluster.nodes[0]
                below.balloon(3 << 20)
                acknowledged = 0
                with node.client() as client, self.assertRaises(harness.Lost):
                    for acknowledged in range(4000):
                        client.call("SET", data.key("device", acknowledged), data.value("device", acknowledged, 1000))
                self.assertEqual(EXIT_DISK, node.wait_exit(), node.log_tail())
                below.resize(600 << 20)
                # The same mount, with the same cache. It may have become read-only.
                node.start()
                wait_until("it starts or refuses", lambda: not node.alive() or "ready:" in node.log().splitlines()[-1])
                if node.alive():
                    data.verify(node, "device", acknowledged, 1000)
                    data.fill(node, "later", 64, 1000)
                    node.kill()
                self.assertTrue(mount.unmount() and mount.repair() and mount.mount(), "cannot mount it again")
                node.start().wait_serving()
                data.verify(node, "device", acknowledged, 1000)

    def test_f08_one_disk_that_fails_for_ever_costs_one_node(self):
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


class UnreadableFile(unittest.TestCase):
    """Files of one node cannot be read any more."""

    COUNT, SIZE = 600, 3000

    def setUp(self):
        self.cluster = Cluster(start=False, **{**SMALL, "retention": "256kb"})
        self.cluster.__enter__()
        self.addCleanup(self.cluster.__exit__, None, None, None)
        self.faults = {node: faultio.Faults(node) for node in self.cluster.nodes}
        for node in self.cluster.nodes:
            node.start(environment=self.faults[node].environment)
        for node in self.cluster.nodes:
            node.wait_serving()
        data.fill(self.cluster.nodes[0], "rot", self.COUNT, self.SIZE)
        data.fill(self.cluster.nodes[0], "later", 400, self.SIZE)
        self.cluster.wait_converged()

    def files(self, node):
        return sorted(name for name in os.listdir(os.path.join(node.data, "shard-0000"))
                      if name.endswith((".log", ".tab")))

    def read_all(self, node):
        """Each value is right, or an error says that it cannot be read. The number of errors."""
        errors = 0
        with node.client(30) as client:
            for number in range(self.COUNT):
                try:
                    self.assertEqual(data.value("rot", number, self.SIZE), client.call("GET", data.key("rot", number)))
                except ReplyError:
                    errors += 1
        return errors

    def test_f10_reads_that_fail_are_repaired_from_the_others(self):
        victim = self.cluster.leader()
        name = self.files(victim)[1]
        self.faults[victim].arm(faultio.READ, faultio.ERROR_EVER, 1, errno.EIO, name=name)
        errors = self.read_all(victim)
        self.assertGreater(self.faults[victim].hits, 0)
        print(f"    {errors} of {self.COUNT} reads failed because of {name}", flush=True)
        # Nobody ends. What cannot be read comes from the others.
        wait_until("everything is read again", lambda: self.read_all(victim) == 0, 30, 0.5)
        self.assertEqual(3, len(self.cluster.alive()))
        wait_until("the file is repaired", lambda: victim.status()["health"] == "ok", 30, 0.2)
        self.assertNotIn(name, self.files(victim))
        for node in self.cluster.nodes:
            self.assertEqual(0, self.read_all(node))

    def test_f10_a_start_that_cannot_read_its_files_ends_well(self):
        # Once each: what takes its place has the same name, but is another file, elsewhere on the disk.
        for kind in ("segment", "manifest"):
            victim = self.cluster.followers()[0]
            victim.kill()
            name = "MANIFEST" if kind == "manifest" else self.files(victim)[-2]
            self.faults[victim].arm(faultio.READ, faultio.ERROR, 1, errno.EIO, name=name)
            victim.start(environment=self.faults[victim].environment)
            wait_until(f"{victim.name}, that cannot read its {kind}, is whole again",
                       lambda: victim.alive() and victim.status()["health"] == "ok", 30, 0.2)
            self.assertGreater(self.faults[victim].hits, 0)
            self.assertIn("QUARANTINE:", victim.log())
            self.faults[victim].disarm()
            self.assertEqual(0, self.read_all(victim))


if __name__ == "__main__":
    harness.main()
