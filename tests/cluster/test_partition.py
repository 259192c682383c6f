#!/usr/bin/env python3
"""F20, F21, F27: real nodes in networks of their own, whose links are cut, both ways, one way, and again and again.
Clients reach every node all the time, so whoever serves what is old is found out."""

import contextlib
import time
import unittest

import harness
import network
from harness import SMALL, Cluster, wait_until
from history import Load
from network import Network, Relay

OPTIONS = {**SMALL, "election_timeout": 500, "heartbeat": 100, "park": 500}


def others(cluster, node):
    return [other for other in cluster.nodes if other is not node]


class Partition(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.network = stack.enter_context(Network())

    def finish(self, cluster, load):
        """Whole again: everybody serves within ten seconds, and all answers fit together."""
        for node in cluster.nodes:
            node.wait_serving(10)
        load.wait_ok(100)
        load.stop()
        cluster.wait_converged()
        load.check(cluster.nodes)

    def test_f20_leader_is_cut_off(self):
        with Cluster(network=self.network, **OPTIONS) as cluster, Load(cluster.nodes) as load:
            for _ in range(2 if not harness.LONG else 30):
                load.wait_ok(100)
                leader = cluster.leader()
                self.network.isolate(leader)
                cluster.leader(among=others(cluster, leader), seconds=10)
                wait_until("it knows that it leads no more", lambda leader=leader: leader.status()["role"] != "leader", 5)
                begin = len(load.operations)
                load.wait_ok(100)
                stale = [op for op in load.operations[begin:] if op.node == leader.name and op.outcome == "ok"]
                self.assertEqual([], stale[:3], "it answers alone")
                self.network.heal()
                leader.wait_serving(10)
            self.finish(cluster, load)

    def test_f20_nobody_reaches_anybody(self):
        with Cluster(network=self.network, **OPTIONS) as cluster, Load(cluster.nodes) as load:
            load.wait_ok(100)
            for node in cluster.nodes:
                self.network.isolate(node)
            for node in cluster.nodes:
                wait_until("nobody leads", lambda node=node: node.status()["role"] != "leader", 5)
            time.sleep(1)
            self.network.heal()
            self.finish(cluster, load)

    def test_f20_bridge(self):
        """One node hears both others, which do not hear each other."""
        with Cluster(network=self.network, **OPTIONS) as cluster, Load(cluster.nodes) as load:
            load.wait_ok(100)
            leader = cluster.leader()
            one, other = others(cluster, leader)
            for first, second in ((one, other), (leader, one)):
                term = int(cluster.leader().status()["term"])
                self.network.cut(first, second)
                load.wait_ok(200)
                time.sleep(1.2 * harness.SLOW)
                load.wait_ok(100)
                # Whoever hears no leader does not unseat one that a majority hears, again and again.
                terms = max(int(node.status()["term"]) for node in cluster.nodes)
                self.assertLess(terms - term, 6)
                self.network.heal()
                load.wait_ok(100)
            self.finish(cluster, load)

    def test_f21_packets_are_lost_in_one_direction(self):
        with Cluster(network=self.network, **OPTIONS) as cluster, Load(cluster.nodes) as load:
            for to_leader in (True, False):
                load.wait_ok(100)
                leader = cluster.leader()
                for node in others(cluster, leader):
                    source, target = (node, leader) if to_leader else (leader, node)
                    self.network.drop(source, target)
                cluster.leader(among=others(cluster, leader), seconds=10)
                load.wait_ok(100)
                self.network.heal()
                leader.wait_serving(10)
            self.finish(cluster, load)

    def test_f21_messages_are_lost_in_one_direction(self):
        """Connections stay, and everything is acknowledged; but nothing arrives."""
        with Relay() as relay, Cluster(network=self.network, start=False, **OPTIONS) as cluster:
            for source in cluster.nodes:
                for target in others(cluster, source):
                    self.network.detour(relay, source, target)
            cluster.start()
            with Load(cluster.nodes, clients=4) as load:
                for case in ("one follower is not heard", "the leader is not heard", "the leader is deaf"):
                    load.wait_ok(100)
                    leader = cluster.leader()
                    followers = others(cluster, leader)
                    if case == "one follower is not heard":
                        relay.swallow(followers[0], leader)
                    for node in followers:
                        if case == "the leader is not heard":
                            relay.swallow(leader, node)
                        elif case == "the leader is deaf":
                            relay.swallow(node, leader)
                    if case != "one follower is not heard":
                        cluster.leader(among=followers, seconds=10)
                    else:
                        time.sleep(1.2 * harness.SLOW)
                    # Two nodes hear each other: they serve.
                    load.wait_ok(100, 10)
                    relay.pass_again()
                    for node in cluster.nodes:
                        node.wait_serving(10)
                self.assertGreater(relay.bytes_swallowed, 1000)
                self.finish(cluster, load)

    def test_f27_flapping_links(self):
        turns = 14 if not harness.LONG else 200
        with Cluster(network=self.network, **OPTIONS) as cluster, Load(cluster.nodes, clients=4, move=False) as load:
            load.wait_ok(200)
            leader = cluster.leader()
            base = {node: (node.open_sockets(), node.memory()) for node in cluster.nodes}
            for turn in range(turns):
                # The leader's link to one, to the other, and the third.
                pairs = [(leader, node) for node in others(cluster, leader)] + [tuple(others(cluster, leader))]
                one, other = pairs[turn % 3]
                self.network.cut(one, other)
                time.sleep(0.2)
                self.network.join(one, other)
                time.sleep(0.05)
            for node in cluster.nodes:
                node.wait_serving(10)
            load.wait_ok(100)
            for node, (sockets, memory) in base.items():
                wait_until("connections are given back", lambda node=node, sockets=sockets:
                           node.open_sockets() <= sockets + 3, 20)
                self.assertLess(node.memory() - memory, (16 << 20) * harness.SLOW)
            self.finish(cluster, load)


if __name__ == "__main__":
    network.enter()
    harness.main()
