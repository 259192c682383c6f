#!/usr/bin/env python3
"""Unmodified clients against three nodes, in every face that they know: what they can do, and what they feel when the
leader changes. docs/clients.md has the table that must come out of this.

The `limits` of a client are promises: how many operations may fail, and how long one may take, while it writes every 20
ms through a planned move of the leader and a kill -9 of the next one. Whoever is connected to a node that lives on may be
told UNCERTAIN about the one write that was under way when the leader died: that is no failure, it is the truth."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import clients  # noqa: E402
import harness  # noqa: E402
from clients import Driver, Load, Missing  # noqa: E402
from harness import Cluster, wait_until  # noqa: E402

ELECTION_MS = 1000
# Raft waits between one and two election timeouts before it elects, so that two nodes rarely try at once.
ELECTION_MAX_MS = 2 * ELECTION_MS + 300
LOAD_SECONDS = 9

# Failed operations, longest operation in ms; None: no promise, it is the client's own doing, see docs/clients.md.
QUIET = (0, ELECTION_MAX_MS)


class Client:
    """The tests of one library; the classes below name it."""

    library = ""
    faces = ("standalone", "sentinel", "cluster")
    limits = {}

    @classmethod
    def setUpClass(cls):
        try:
            cls.driver = Driver(cls.library)
        except Missing as missing:
            raise unittest.SkipTest(f"{cls.library}: {missing}") from None

    def test_everything_that_is_promised_works(self):
        with Cluster() as cluster:
            leader, followers = cluster.leader(), cluster.followers()
            for face in self.faces:
                for first in (leader, followers[0]):
                    nodes = [first] + [node for node in cluster.nodes if node is not first]
                    with self.subTest(face=face, first="leader" if first is leader else "follower"):
                        leader.call("FLUSHALL")
                        self.assertEqual("", self.driver.check(face, nodes))

    def test_changes_of_leader(self):
        with Cluster(election_timeout=ELECTION_MS) as cluster:
            first = cluster.leader()
            second, last = cluster.followers()
            # Who has one address keeps it: a node that stays. The others begin at the one that will be killed.
            loads = [Load(self.driver, face, [last] if face == "standalone" else [second, first, last], LOAD_SECONDS)
                     for face in self.faces]
            for load in loads:
                self.assertTrue(load.running.wait(30 * harness.SLOW), load.face)
            time.sleep(0.8)
            self.assertEqual(0, cluster.kvctl("leader", "transfer", second.name).returncode)
            wait_until("it leads", lambda: second.status()["role"] == "leader")
            time.sleep(1)
            second.kill()
            cluster.leader(among=[first, last])
            time.sleep(1.5)
            second.start()
            counts = {load.face: load.counts() for load in loads}
            report = "; ".join(f"{face} {count['failed']}/{count['operations']} failed, longest {count['longest_ms']} ms"
                               for face, count in counts.items())
            print(f"RESULT {self.library}: {report}", flush=True)
            for face, count in counts.items():
                with self.subTest(face=face):
                    self.assertGreater(count["operations"], 20, count)
                    # What was acknowledged is there.
                    self.assertGreaterEqual(int(cluster.leader().call("GET", f"load:{self.library}:{face}")),
                                            count["last"])
                    failed, longest = self.limits[face]
                    uncertain = sum("UNCERTAIN" in error for error in count["errors"])
                    self.assertLessEqual(uncertain, 0 if face == "cluster" else 1, count)
                    if failed is not None:
                        self.assertLessEqual(count["failed"] - uncertain, failed, count)
                    if longest is not None:
                        self.assertLessEqual(count["longest_ms"], longest * harness.SLOW, count)

    def test_a_stop_of_the_leader(self):
        with Cluster(election_timeout=ELECTION_MS) as cluster:
            first = cluster.leader()
            others = cluster.followers()
            loads = [Load(self.driver, face, others[:1] if face == "standalone" else [first, *others], 5)
                     for face in self.faces]
            for load in loads:
                self.assertTrue(load.running.wait(30 * harness.SLOW), load.face)
            time.sleep(0.8)
            self.assertEqual(0, first.terminate())
            counts = {load.face: load.counts() for load in loads}
            report = "; ".join(f"{face} {count['failed']}/{count['operations']} failed, longest {count['longest_ms']} ms"
                               for face, count in counts.items())
            print(f"RESULT stop {self.library}: {report}", flush=True)
            for face, count in counts.items():
                with self.subTest(face=face):
                    self.assertGreater(count["operations"], 20, count)
                    self.assertEqual(0, count["failed"], count)


class RedisPy(Client, unittest.TestCase):
    library = "redis-py"
    limits = {"standalone": QUIET, "sentinel": QUIET, "cluster": QUIET}


class Ioredis6(Client, unittest.TestCase):
    library = "ioredis6"
    limits = {"standalone": QUIET, "sentinel": QUIET, "cluster": QUIET}


class Ioredis5(Client, unittest.TestCase):
    library = "ioredis5"
    limits = {"standalone": QUIET, "sentinel": QUIET, "cluster": QUIET}


class NodeRedis6(Client, unittest.TestCase):
    library = "redis6"
    limits = {"standalone": QUIET, "sentinel": QUIET, "cluster": (1, None)}


class NodeRedis4(Client, unittest.TestCase):
    library = "redis4"
    faces = ("standalone", "cluster")
    limits = {"standalone": QUIET, "cluster": (1, None)}


class GoRedis(Client, unittest.TestCase):
    library = "go-redis"
    limits = {"standalone": QUIET, "sentinel": QUIET, "cluster": (None, None)}


class Jedis(Client, unittest.TestCase):
    library = "jedis"
    limits = {"standalone": QUIET, "sentinel": (None, None), "cluster": QUIET}


class Hiredis(Client, unittest.TestCase):
    library = "hiredis"
    faces = ("standalone",)
    limits = {"standalone": QUIET}


if __name__ == "__main__":
    harness.main()
