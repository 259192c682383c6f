#!/usr/bin/env python3
"""SIGSTOP: a node that slept must not serve what it knew before it fell asleep."""

import time
import unittest

import harness
from harness import Cluster, Lost, ReplyError
from history import Load


class Pause(unittest.TestCase):
    def test_paused_leader_serves_no_stale_read(self):
        with Cluster() as cluster:
            for number in range(6 if not harness.LONG else 60):
                old = cluster.leader()
                key = f"stale:{number}"
                self.assertEqual("OK", old.call("SET", key, "before"))
                with old.client(15) as early, old.client(15) as late:
                    self.assertEqual(b"before", early.call("GET", key))
                    old.pause()
                    # These wait in the socket of the sleeping node and are read when it wakes up.
                    late.send("GET", key)
                    late.send("SET", f"{key}:late", "x")
                    others = [node for node in cluster.nodes if node is not old]
                    new = cluster.leader(among=others)
                    self.assertEqual("OK", new.call("SET", key, "after"))
                    early.send("GET", key)
                    old.resume()
                    for client in (late, early):
                        reply = self.answer(client)
                        self.assertIn(reply, (b"after", "refused"), "a read was stale")
                    late_write = self.answer(late)
                    stored = new.call("GET", f"{key}:late")
                    if late_write == "OK":
                        self.assertEqual(b"x", stored)
                    elif late_write == "refused":
                        self.assertIsNone(stored)
                old.wait_serving()
                self.assertEqual(b"after", old.call("GET", key))

    @staticmethod
    def answer(client):
        try:
            reply = client.read()
        except Lost:
            return "lost"
        if isinstance(reply, ReplyError):
            return "refused" if reply.code in harness.REFUSED else reply.code
        return reply

    def test_leader_is_paused_under_load(self):
        with Cluster() as cluster, Load(cluster.nodes) as load:
            for number in range(4 if not harness.LONG else 40):
                load.wait_ok(100)
                leader = cluster.leader()
                leader.pause()
                if number % 2 == 0:
                    cluster.leader(among=[node for node in cluster.nodes if node is not leader])
                    load.wait_ok(50)
                else:
                    time.sleep(0.3)  # shorter than an election
                leader.resume()
                leader.wait_serving()
            load.check(cluster.nodes, ok_min=500)

    def test_all_are_paused_and_the_oldest_wakes_first(self):
        with Cluster() as cluster, Load(cluster.nodes) as load:
            for _ in range(2 if not harness.LONG else 20):
                load.wait_ok(100)
                order = [cluster.leader()]
                order += [node for node in cluster.nodes if node is not order[0]]
                for node in order:
                    node.pause()
                time.sleep(2.5)
                for node in order:
                    node.resume()
                    time.sleep(0.4)
                for node in order:
                    node.wait_serving()
            load.check(cluster.nodes, ok_min=300)

    def test_paused_follower_costs_nothing(self):
        with Cluster() as cluster:
            follower = cluster.followers()[0]
            others = [node for node in cluster.nodes if node is not follower]
            with Load(others) as load:
                load.wait_ok(100)
                follower.pause()
                time.sleep(3)
                load.wait_ok(100)
                follower.resume()
                load.wait_ok(100)
                load.stop()
                self.assertEqual(0, load.count("fail") + load.count("info"))
                cluster.wait_converged()
                load.check(cluster.nodes)


if __name__ == "__main__":
    harness.main()
