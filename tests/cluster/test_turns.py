#!/usr/bin/env python3
"""No turn of the loop is long, whatever comes at once: who asks a node for little waits for little."""

import sys
import threading
import time
import unittest

import harness
from harness import Cluster, wait_until

CONNECTIONS = 100
COMMANDS = 3000
# A node counts its turns by the processor time that they take, so that what else runs on the machine makes none long;
# but a virtual machine may be halted, which counts as its own time.
LONG_TURNS_MAX = 5


class Turns:
    """How many turns of more than 10 ms each node makes meanwhile."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.before = None

    @staticmethod
    def of(node):
        lines = node.call("INFO", "stats", timeout=20).decode().splitlines()
        return int(dict(line.split(":", 1) for line in lines if ":" in line)["turns_over_10ms"])

    def __enter__(self):
        self.before = [self.of(node) for node in self.nodes]
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.judge(self.before)

    def judge(self, before):
        counts = {node.name: self.of(node) - before for node, before in zip(self.nodes, before)}
        print(f"\n    turns of more than 10 ms: {counts}")
        if harness.SLOW == 1:
            assert max(counts.values()) <= LONG_TURNS_MAX, counts


def writes(number):
    first = number * COMMANDS
    return b"".join(b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$10\r\n%010d\r\n" % (n, n) for n in range(first, first + COMMANDS))


def send_at_once(node, commands=writes, meanwhile=lambda: None):
    """Each of very many connections sends thousands of commands, those that @commands gives for its number; @meanwhile
    begins when they are on their way. The last answer of each."""
    clients = [node.client(timeout=60) for _ in range(CONNECTIONS)]
    last = []
    threads = [threading.Thread(target=client.send_raw, args=(commands(number),)) for number, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join()
    for client in clients:
        for _ in range(COMMANDS):
            reply = client.read()
            assert not isinstance(reply, harness.ReplyError), reply
        last.append(reply)
        client.close()
    return last


class LongTurns(unittest.TestCase):
    def test_thousands_of_writes_of_each_of_many_clients(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            with Turns(cluster.nodes), leader.client(timeout=60) as client:
                begin = time.monotonic()
                waits = []

                def look():
                    for _ in range(20):
                        at = time.monotonic()
                        client.call("PING")
                        waits.append(time.monotonic() - at)
                send_at_once(leader, meanwhile=look)
                took = time.monotonic() - begin
                print(f"\n    {CONNECTIONS * COMMANDS} writes in {took:.1f} s, PING meanwhile up to {max(waits) * 1000:.1f} ms")
                self.assertEqual(CONNECTIONS * COMMANDS, client.call("DBSIZE"))
            cluster.wait_converged()

    def test_very_many_changes_of_one_key(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            with Turns(cluster.nodes):
                counts = send_at_once(leader, lambda _: b"*2\r\n$4\r\nINCR\r\n$3\r\nhot\r\n" * COMMANDS)
            self.assertEqual(CONNECTIONS * COMMANDS, max(counts))
            with Turns(cluster.nodes):
                found = send_at_once(leader, lambda _: b"*3\r\n$6\r\nEXPIRE\r\n$3\r\nhot\r\n$3\r\n900\r\n" * COMMANDS)
            self.assertEqual({1}, set(found))
            cluster.wait_converged()

    def test_a_node_that_comes_back_and_catches_up(self):
        with Cluster(retention="256mb") as cluster:
            leader = cluster.leader()
            late = cluster.followers()[0]
            others = [node for node in cluster.nodes if node is not late]
            with Turns(others):
                late.kill()
                send_at_once(leader)
            target = int(leader.status()["committed"])
            late.start().wait_serving()
            wait_until("it has caught up", lambda: int(late.status()["applied"]) >= target, 60)
            Turns([late]).judge([0])
            cluster.wait_converged()
            self.assertEqual(CONNECTIONS * COMMANDS, late.call("DBSIZE") - late.call("EXISTS", "harness:serving"))


if __name__ == "__main__":
    harness.main()
    sys.exit(0)
