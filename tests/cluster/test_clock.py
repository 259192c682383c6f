#!/usr/bin/env python3
"""F30, F31, F32: clocks that jump, disagree, and run too fast or too slow. Answers fit together whatever the clocks say;
a key with an expiry stays for its time, also when the leader changes, as long as its nodes run; what was seen expired never comes back."""

import random
import threading
import time
import unittest

import harness
from clockio import Clock
from harness import SMALL, Cluster, Lost, ReplyError, Unsent, wait_until
from history import Load

HOUR, YEAR = 3600, 365 * 86400


class Expiring:
    """Sets keys with an expiry and reads them until they are gone, through any node. `early`: so much too early is
    allowed, in seconds; `late`: likewise."""

    ALLOWED = 0.1  # what the way to the node and back may take

    def __init__(self, nodes, early=0.0, late=1.0, threads=3):
        self.nodes, self.early, self.late = nodes, early + self.ALLOWED, late * harness.SLOW
        self.wrong = []
        self.expired = 0
        self.stop_flag = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self.stop_flag.set()
        for thread in self.threads:
            thread.join(20 * harness.SLOW)
        if kind is None:
            assert not self.wrong, "\n".join(self.wrong[:5])
        return False

    def wait_expired(self, more):
        begin = self.expired
        wait_until(f"{more} more keys expire", lambda: self.expired >= begin + more, 20)

    def _run(self, number):
        prng = random.Random(number)
        serial = 0
        while not self.stop_flag.is_set():
            serial += 1
            try:
                self._life(f"expiring:{number}:{serial}", prng.randrange(300, 1200), prng)
            except (ReplyError, Lost, Unsent):
                time.sleep(0.05)  # Nobody knows how that key's life began or ended.

    def _life(self, key, milliseconds, prng):
        called = time.monotonic()
        prng.choice(self.nodes).call("SET", key, "x", "PX", milliseconds)
        answered = time.monotonic()
        seconds = milliseconds / 1000
        gone = None
        while gone is None or time.monotonic() < gone + 0.3:
            asked = time.monotonic()
            reply = prng.choice(self.nodes).call("GET", key)
            told = time.monotonic()
            if reply is None and told < called + seconds - self.early:
                self.wrong.append(f"{key} lived for {told - called:.3f} s instead of {seconds} s")
            if reply is not None and gone is not None:
                self.wrong.append(f"{key} came back after {told - gone:.3f} s")
            if reply is not None and asked > answered + seconds + self.late:
                self.wrong.append(f"{key} is still there after {asked - answered:.3f} s instead of {seconds} s")
            if reply is None and gone is None:
                gone = told
            if self.wrong:
                return
            time.sleep(0.02)
        self.expired += 1


class Clocks(unittest.TestCase):
    def start(self, cluster, rates=(1.0, 1.0, 1.0)):
        clocks = {}
        for node, rate in zip(cluster.nodes, rates):
            clocks[node] = Clock(node, rate)
            node.environment = clocks[node].environment
        cluster.start()
        for clock in clocks.values():
            self.assertGreater(clock.asked, 0, "it does not ask for the time where we can answer")
        return clocks

    @staticmethod
    def hand_over(cluster, target):
        def leads():
            leader = cluster.leader()
            if leader is not target:
                try:
                    leader.call("KV.TRANSFER", target.name)
                except ReplyError:
                    pass  # another transfer is under way
            return cluster.leader() is target
        wait_until(f"{target.name} leads", leads, 20, 0.2)

    def test_f31_jumps_of_one_clock_expire_nothing_early_or_late(self):
        # A leader that is elected on a busy machine would have a right to its own clock.
        with Cluster(start=False, election_timeout=4000, **SMALL) as cluster:
            clocks = self.start(cluster)
            term = cluster.leader().status()["term"]
            with Load(cluster.nodes, clients=3) as load, Expiring(cluster.nodes) as expiring:
                for seconds in (-20 * YEAR, HOUR) if not harness.LONG else (HOUR, -HOUR, 10 * YEAR, -20 * YEAR) * 5:
                    for node in (cluster.leader(), cluster.followers()[0]):
                        clocks[node].set_ahead(seconds)
                        expiring.wait_expired(3)
                        clocks[node].set_ahead(0)
                load.wait_ok(50)
                self.assertEqual(term, cluster.leader().status()["term"], "the leader changed: nothing was shown")
                load.check(cluster.nodes)

    def test_f31_leaders_whose_clocks_differ(self):
        """The next leader goes on where the last one was, whatever its own clock says."""
        ahead = HOUR
        with Cluster(start=False, **SMALL) as cluster:
            clocks = self.start(cluster)
            for number, node in enumerate(cluster.nodes):
                clocks[node].set_ahead(ahead * number)
            # While leadership moves nobody expires anything.
            with Load(cluster.nodes, clients=3) as load, Expiring(cluster.nodes, late=4) as expiring:
                for turn in range(4 if not harness.LONG else 60):
                    self.hand_over(cluster, cluster.nodes[turn % 3])
                    expiring.wait_expired(2)
                load.check(cluster.nodes)

    def test_f30_any_clocks_and_changes_of_leader(self):
        prng = random.Random(30)
        with Cluster(start=False, **SMALL) as cluster:
            clocks = self.start(cluster)
            # Expiry follows the clocks here; but what is gone is gone.
            with Load(cluster.nodes) as load, Expiring(cluster.nodes, early=1e9, late=1e9) as expiring:
                for turn in range(4 if not harness.LONG else 50):
                    for clock in clocks.values():
                        clock.set_ahead(prng.choice((-60 * YEAR, -10 * YEAR, -HOUR, -1, 0, 1, HOUR, 10 * YEAR, 15 * YEAR)))
                    for _ in range(20):  # and one that is here and there
                        clocks[cluster.nodes[turn % 3]].set_ahead(prng.choice((-HOUR, HOUR)))
                        time.sleep(0.01)
                    load.wait_ok(50)
                    leader = cluster.leader()
                    if turn % 2:
                        self.hand_over(cluster, cluster.nodes[(cluster.nodes.index(leader) + 1) % 3])
                    else:
                        leader.kill()
                        cluster.leader()
                        leader.start().wait_serving()
                    expiring.wait_expired(1)
                load.stop()
                cluster.wait_converged()
                load.check(cluster.nodes)

    def test_f32_clocks_at_half_and_at_double_rate(self):
        with Cluster(start=False, **SMALL) as cluster:
            self.start(cluster, (0.5, 1.0, 2.0))
            with Load(cluster.nodes) as load:
                for node in cluster.nodes:
                    self.hand_over(cluster, node)
                    load.wait_ok(100)
                    node.kill()
                    cluster.leader(seconds=10)
                    load.wait_ok(100)
                    node.start().wait_serving()
                cluster.wait_converged()
                load.check(cluster.nodes)


if __name__ == "__main__":
    harness.main()
