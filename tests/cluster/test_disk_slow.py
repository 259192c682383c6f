#!/usr/bin/env python3
"""F12, F13, F14: disks that become read-only, that do nothing for a while or for ever, and that are slow."""

import contextlib
import threading
import time
import unittest

import data
import faultio
import harness
from harness import EXIT_DISK, SMALL, Client, Cluster, Mount, ReplyError, wait_until
from history import Load

ELECTION = 1.0  # seconds: the default of election-timeout


def refuses_connections(node):
    try:
        Client(node.client_port, 1).close()
        return False
    except harness.Unsent:
        return True


class Mounted(unittest.TestCase):
    """Each node has a file system of its own."""

    OPTIONS = {}

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        mounts = [self.stack.enter_context(Mount(harness.work_directory(f"-mount{number}"), "ext4", 200 << 20))
                  for number in range(3)]
        roots = [mount.path for mount in mounts]
        self.cluster = self.stack.enter_context(Cluster(data_root=roots, **SMALL, **self.OPTIONS))
        for mount in mounts:
            self.stack.callback(mount.thaw)  # Who waits for a frozen disk cannot be ended.
        self.mounts = dict(zip(self.cluster.nodes, mounts))

    def wait_other_leader(self, old, seconds):
        """Until another node leads; how long that took."""
        begin = time.monotonic()
        others = [node for node in self.cluster.nodes if node is not old]
        wait_until("another node leads", lambda: self.cluster.leader(among=others, seconds=5), seconds, 0.02)
        return time.monotonic() - begin


class ReadOnly(Mounted):
    def test_f12_a_file_system_that_becomes_read_only_ends_its_node(self):
        cluster = self.cluster
        with Load(cluster.nodes, value_size=500) as load:
            load.wait_ok(100)
            victim = cluster.leader()
            self.mounts[victim].abort()
            self.assertEqual(EXIT_DISK, victim.wait_exit(5), victim.log_tail())
            self.assertIn("fatal:", victim.log())
            self.wait_other_leader(victim, 10)
            load.wait_ok(200)
            # It does not come back by itself, and says why.
            victim.start()
            self.assertEqual(harness.EXIT_DATA, victim.wait_exit(), victim.log_tail())
            self.assertIn("Read-only file system", victim.log())
            self.assertTrue(self.mounts[victim].unmount() and self.mounts[victim].mount())
            victim.start().wait_serving()
            load.wait_ok(100)
            cluster.wait_converged()
            load.check(cluster.nodes)


class Frozen(Mounted):
    """Nothing is written, nothing fails, and nobody who tries to write can be killed."""

    def test_f13_leader_frozen_for_one_second(self):
        cluster = self.cluster
        with Load(cluster.nodes) as load:
            load.wait_ok(100)
            victim = cluster.leader()
            self.mounts[victim].freeze(60)
            time.sleep(1)  # That long, whatever happens meanwhile.
            self.mounts[victim].thaw()
            load.wait_ok(200)
            self.assertEqual(3, len(cluster.alive()))
            cluster.wait_converged()
            load.check(cluster.nodes)

    def test_f13_leader_frozen_for_five_seconds_loses_its_office(self):
        cluster = self.cluster
        with Load(cluster.nodes) as load:
            load.wait_ok(100)
            victim = cluster.leader()
            self.mounts[victim].freeze(60)
            begin = time.monotonic()
            took = self.wait_other_leader(victim, 20)
            # It is silent after 1 s; then the usual election.
            self.assertLess(took, (1 + 3 * ELECTION) * harness.SLOW + 1)
            load.wait_ok(200)
            # It knows that it is of no use, and says so at once instead of waiting for its disk.
            self.assertEqual(503, victim.http("/readyz")[0])
            self.assertIn(b"flashkv_disk_hangs 1", victim.http("/metrics")[1])
            with self.assertRaises(ReplyError) as caught:
                victim.call("GET", "x", timeout=4)
            self.assertEqual("CLUSTERDOWN", caught.exception.code)
            while time.monotonic() < begin + 5:
                time.sleep(0.05)
            self.mounts[victim].thaw()
            victim.wait_serving()
            self.assertIn("the disk works again", victim.log())
            self.assertEqual(3, len(cluster.alive()))
            load.wait_ok(200)
            cluster.wait_converged()
            load.check(cluster.nodes)

    @unittest.skipUnless("--long" in harness.sys.argv, "takes 30 seconds: only with --long")
    def test_f13_leader_frozen_for_thirty_seconds_ends(self):
        cluster = self.cluster
        with Load(cluster.nodes) as load:
            load.wait_ok(100)
            victim = cluster.leader()
            self.mounts[victim].freeze(90)
            begin = time.monotonic()
            self.wait_other_leader(victim, 20)
            # The kernel keeps the process as long as its disk hangs, but for the others it has ended.
            wait_until("it has closed its ports", lambda: refuses_connections(victim), 25)
            self.assertGreater(time.monotonic() - begin, 19)
            load.wait_ok(200)
            while time.monotonic() < begin + 30:
                time.sleep(0.05)
            self.mounts[victim].thaw()
            self.assertEqual(EXIT_DISK, victim.wait_exit(), victim.log_tail())
            self.assertIn("it counts as lost", victim.log())
            victim.start().wait_serving()
            cluster.wait_converged()
            load.check(cluster.nodes)

    @unittest.skipUnless("--long" in harness.sys.argv, "takes 30 seconds: only with --long")
    def test_f13_a_vote_that_hangs_ends_its_node(self):
        # Nothing is being written when the disk stops, so nobody knows until the vote must be saved: by the loop itself.
        cluster = self.cluster
        cluster.nodes[0].call("SET", "before", "1")
        cluster.wait_converged()
        leader = cluster.leader()
        victim = cluster.followers()[0]
        time.sleep(0.5)  # The last mark of the log is on the disk.
        self.mounts[victim].freeze(90)
        leader.kill()
        begin = time.monotonic()
        wait_until("it has closed its ports", lambda: refuses_connections(victim), 40)
        self.assertGreater(time.monotonic() - begin, 19)
        self.mounts[victim].thaw()
        self.assertEqual(EXIT_DISK, victim.wait_exit(), victim.log_tail())
        self.assertIn("term and vote", victim.log())
        for node in (leader, victim):
            node.start()
        for node in cluster.nodes:
            node.wait_serving()
        self.assertEqual(b"1", victim.call("GET", "before"))


class FrozenFollower(Mounted):
    # An election would need the vote of the frozen node, which waits for its disk then: none may come of a busy machine.
    OPTIONS = {"election_timeout": 3000}

    def test_f13_follower_frozen_costs_the_others_nothing(self):
        cluster = self.cluster
        victim = cluster.followers()[0]
        others = [node for node in cluster.nodes if node is not victim]
        with Load(others, move=False) as load:
            load.wait_ok(100)
            leader, term = cluster.leader(), cluster.leader().status()["term"]
            self.mounts[victim].freeze(60)
            load.wait_ok(1000)
            wait_until("it notices", lambda: victim.status()["health"] == "the disk hangs", 10)
            load.wait_ok(200)
            self.assertEqual((leader, term), (cluster.leader(), cluster.leader().status()["term"]))
            self.mounts[victim].thaw()
            cluster.wait_converged()
            self.assertEqual(term, cluster.leader().status()["term"])
            load.check(cluster.nodes)


class Slow(unittest.TestCase):
    """Each sync of one node takes longer, or of all."""

    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        options = {**SMALL, "segment_size": "4mb", "retention": "16mb", "max_inflight": "8mb"}
        self.cluster = self.stack.enter_context(Cluster(start=False, **options))
        self.faults = {node: faultio.Faults(node) for node in self.cluster.nodes}
        for node in self.cluster.nodes:
            node.start(environment=self.faults[node].environment)
        for node in self.cluster.nodes:
            node.wait_serving()

    def term(self):
        return int(self.cluster.leader().status()["term"])

    def median(self, load, begin):
        times = sorted(op.returned - op.invoked for op in load.operations[begin:]
                       if op.outcome == "ok" and op.kind in ("set", "incr"))
        return times[len(times) // 2] / 1e9

    def test_f14_a_slow_follower_costs_the_others_nothing(self):
        cluster = self.cluster
        victim = cluster.followers()[0]
        others = [node for node in cluster.nodes if node is not victim]
        with Load(others, value_size=1000, move=False) as load:
            load.wait_ok(500)
            before, term = self.median(load, 0), self.term()
            for delay in (50, 500):
                self.faults[victim].delay(delay)
                begin = len(load.operations)
                load.wait_ok(1500)
                # A majority does without it. Twice as much for the noise of a busy machine, and some more.
                self.assertLess(self.median(load, begin), 2 * before + 0.03, delay)
            self.assertEqual(term, self.term(), "an election for nothing")
            self.assertGreater(self.faults[victim].hits, 0)
            self.faults[victim].disarm()
            cluster.wait_converged()
            load.check(cluster.nodes)

    def test_f14_a_slow_leader_slows_writes_and_keeps_its_office(self):
        cluster = self.cluster
        victim = cluster.leader()
        term, memory = self.term(), victim.memory()
        self.faults[victim].arm(faultio.SYNC, faultio.DELAY, 1, 300)
        stop, written = threading.Event(), []

        def push():
            # Far more than the disk takes.
            value = data.value("push", 0, 60_000)
            while not stop.is_set():
                try:
                    with victim.client(30) as client:
                        client.send_raw(b"".join(client.encode(("SET", f"push:{n}", value)) for n in range(100)))
                        written.extend(client.read() for _ in range(100))
                except (harness.Lost, harness.Unsent):
                    continue

        pushers = [threading.Thread(target=push, daemon=True) for _ in range(4)]
        with Load(cluster.nodes, clients=4, timeout=20) as load:
            for pusher in pushers:
                pusher.start()
            load.wait_ok(16, 60)
            stop.set()
            self.faults[victim].disarm()
            for pusher in pushers:
                pusher.join(60)
                self.assertFalse(pusher.is_alive())
            self.assertEqual({"OK"}, {reply for reply in written if not isinstance(reply, ReplyError)})
            self.assertEqual(term, self.term(), "an election for nothing")
            self.assertLess(victim.memory() - memory, (150 << 20) * harness.SLOW)
            histogram = victim.http("/metrics")[1].decode()
            self.assertIn('flashkv_log_write_seconds_bucket{le="0.250000"}', histogram)
            print(f"    {len(written)} large values, {(victim.memory() - memory) >> 20} MiB more", flush=True)
            longest = [line for line in histogram.splitlines() if line.startswith("flashkv_log_write_max_us ")]
            self.assertGreater(int(longest[0].split()[1]), 290_000)
            load.check(cluster.nodes, ok_min=16)

    def test_f14_a_leader_is_elected_when_all_disks_are_slow(self):
        cluster = self.cluster
        term = self.term()
        for node in cluster.nodes:
            self.faults[node].delay(200)
        victim = cluster.leader()
        with Load(cluster.nodes, timeout=20) as load:
            load.wait_ok(30, 30)
            victim.kill()
            wait_until("another node leads", lambda: cluster.leader() is not victim, 15)
            load.wait_ok(30, 30)
            self.assertLessEqual(self.term(), term + 2, "an election storm")
            for node in cluster.nodes:
                self.faults[node].disarm()
            victim.start(environment=self.faults[victim].environment).wait_serving()
            cluster.wait_converged()
            load.check(cluster.nodes, ok_min=60)


if __name__ == "__main__":
    harness.main()
