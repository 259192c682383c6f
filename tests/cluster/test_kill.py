#!/usr/bin/env python3
"""kill -9 of the leader, of a follower, of all nodes at once, under load: nothing that was acknowledged is lost."""

import time
import unittest

import harness
from harness import SMALL, Cluster, wait_until
from history import Load


class Kill(unittest.TestCase):
    def rounds(self, short, long):
        return long if harness.LONG else short

    def test_leader_is_killed_again_and_again(self):
        with Cluster(**SMALL) as cluster, Load(cluster.nodes) as load:
            for _ in range(self.rounds(4, 40)):
                load.wait_ok(150)
                leader = cluster.leader()
                leader.kill()
                successor = cluster.leader(among=cluster.alive())
                self.assertIsNot(successor, leader)
                load.wait_ok(100)
                leader.start().wait_serving()
            cluster.wait_converged()
            load.check(cluster.nodes, ok_min=800)
            self.assertLess(load.longest_gap(), 8 * harness.SLOW)

    def test_follower_is_killed_and_nobody_notices(self):
        with Cluster(**SMALL) as cluster:
            follower = cluster.followers()[0]
            others = [node for node in cluster.nodes if node is not follower]
            with Load(others) as load:
                for _ in range(self.rounds(3, 30)):
                    load.wait_ok(100)
                    follower.kill()
                    load.wait_ok(100)
                    follower.start().wait_serving()
                load.stop()
                # The leader and a majority were there all the time: no operation had a reason to fail.
                self.assertEqual(0, load.count("info"))
                self.assertEqual(0, load.count("fail"))
                cluster.wait_converged()
                load.check(cluster.nodes)

    def test_all_are_killed_at_once(self):
        with Cluster(**SMALL) as cluster, Load(cluster.nodes) as load:
            for _ in range(self.rounds(4, 40)):
                load.wait_ok(200)
                for node in cluster.nodes:
                    node.process.kill()
                for node in cluster.nodes:
                    node.kill()
                    node.start()
                for node in cluster.nodes:
                    node.wait_serving()
            load.wait_ok(100)
            load.check(cluster.nodes, ok_min=800)

    def test_majority_is_lost_and_comes_back(self):
        with Cluster(park=300, **SMALL) as cluster, Load(cluster.nodes) as load:
            load.wait_ok(200)
            survivor = cluster.followers()[0]
            dead = [node for node in cluster.nodes if node is not survivor]
            for node in dead:
                node.kill()
            time.sleep(2.5 * harness.SLOW)
            begin = len(load.operations)
            # Alone it must neither write nor read, and says so within the time that commands wait.
            for command in (("SET", "alone", "1"), ("GET", "alone"), ("DEL", "alone")):
                with self.assertRaises(harness.ReplyError) as caught:
                    survivor.call(*command)
                self.assertEqual("CLUSTERDOWN", caught.exception.code)
            self.assertEqual(0, load.count("ok", begin))
            status, _ = survivor.http("/readyz")
            self.assertEqual(503, status)
            for node in dead:
                node.start()
            for node in dead:
                node.wait_serving()
            load.wait_ok(200)
            load.check(cluster.nodes)

    def test_single_node_keeps_what_it_acknowledged(self):
        with Cluster(1, **SMALL) as cluster, Load(cluster.nodes, value_size=600) as load:
            node = cluster.nodes[0]
            for _ in range(self.rounds(6, 60)):
                load.wait_ok(300)
                node.kill()
                node.start().wait_serving()
            load.check(cluster.nodes, ok_min=1500)

    def test_leader_is_killed_by_many_writers_with_large_values(self):
        roomy = {**SMALL, "segment_size": "2mb", "retention": "8mb"}
        with Cluster(**roomy) as cluster, Load(cluster.nodes, clients=12, value_size=20_000, pause=0.003) as load:
            for _ in range(self.rounds(3, 20)):
                load.wait_ok(300)
                leader = cluster.leader()
                leader.kill()
                load.wait_ok(100)
                leader.start().wait_serving()
            wait_until("every node has sealed segments", lambda: all(
                int(node.status()["disk_bytes"]) > 1_000_000 for node in cluster.nodes))
            cluster.wait_converged()
            load.check(cluster.nodes, ok_min=800)


if __name__ == "__main__":
    harness.main()
