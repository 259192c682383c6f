#!/usr/bin/env python3
"""Change feeds through kill -9: kvctl watch shows every change once, in order, whole transactions together; a client that
stops reading costs no memory and is told when it was overtaken; messages reach clients of all nodes."""

import json
import os
import subprocess
import threading
import time
import unittest

import harness
from harness import SMALL, Cluster, wait_until


def kvctl_watch(cluster, path, *arguments):
    """kvctl watch, its lines going to a file."""
    nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
    command = [os.path.join(harness.BIN, "kvctl"), "--nodes", nodes, "-o", "json", "watch", *arguments]
    with open(path, "wb") as output:
        return subprocess.Popen(command, stdout=output, stdin=subprocess.DEVNULL, env=harness.clean_environment())


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]


def fed_node(cluster):
    """The node that serves the only feed."""
    for node in cluster.alive():
        for line in node.call("INFO", "stats").decode().splitlines():
            if line == "watches:1":
                return node
    return None


class Writer(threading.Thread):
    """Pairs of keys with the same number, in one step; through any node; notes what was acknowledged."""

    def __init__(self, nodes):
        super().__init__(daemon=True)
        self.nodes = nodes
        self.stopped = threading.Event()
        self.acknowledged = []
        self.number = 0

    def run(self):
        at = 0
        while not self.stopped.is_set():
            try:
                with self.nodes[at % len(self.nodes)].client(3) as client:
                    while not self.stopped.is_set():
                        self.number += 1
                        number = str(self.number)
                        if self.number % 3 == 0:
                            client.call("DEL", "w:gone")
                            replies = client.pipeline([("MULTI",), ("SET", "w:a", number), ("SET", "other", number),
                                                       ("SET", "w:b", number), ("EXEC",)])
                            done = isinstance(replies[-1], list)
                        else:
                            done = client.call("MSET", "w:a", number, "other", "x", "w:b", number) == "OK"
                        if self.number % 5 == 0:
                            client.call("SET", "w:gone", number)
                        if done:
                            self.acknowledged.append(number)
            except (harness.ReplyError, harness.Lost, harness.Unsent, OSError):
                time.sleep(0.02)
            at += 1

    def wait(self, count):
        before = len(self.acknowledged)
        wait_until("writes are acknowledged", lambda: len(self.acknowledged) >= before + count, 30)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(20)


def told_by(node, revision, words=("PREFIX", "w:")):
    """All events behind a revision, as a node tells them now: (revision of the message, its rows)."""
    messages = []
    with node.client() as client:
        client.call("KV.WATCH", *words, "FROM", revision, "PROGRESS", 100)
        newest = node.call("KV.RANGE", "", "", "COUNT", "REVISION")[0]
        while True:
            message = client.read()
            if message[0] == b"kv.progress" and message[2] >= newest:
                return messages
            if message[0] == b"kv.watch":
                messages.append((message[2], message[3]))


class Feed(unittest.TestCase):
    def check_lines(self, lines, acknowledged):
        """In order, once, pairs together, and everything that was acknowledged."""
        revisions = [line["revision"] for line in lines]
        self.assertEqual(sorted(set(revisions)), revisions, "told twice, or not in order")
        pairs = []
        by_transaction = {}
        for line in lines:
            if line["event"] == "put" and line["key"] in ("w:a", "w:b"):
                by_transaction.setdefault(line["transaction"], []).append((line["key"], line["value"]))
        for rows in by_transaction.values():
            self.assertEqual(["w:a", "w:b"], [key for key, _ in rows], "a transaction was cut in two")
            self.assertEqual(rows[0][1], rows[1][1])
            pairs.append(rows[0][1])
        self.assertEqual(len(set(pairs)), len(pairs))
        self.assertEqual([], sorted(set(acknowledged) - set(pairs), key=int), "acknowledged and not told")

    def test_kvctl_watch_goes_on_through_kills_of_leader_and_of_the_node_that_serves_it(self):
        rounds = 12 if harness.LONG else 3
        with Cluster(segment_size="256kb", max_value="64kb", retention="64mb") as cluster:
            begin = cluster.nodes[0].call("KV.RANGE", "", "", "COUNT", "REVISION")[0]
            path = os.path.join(cluster.directory, "watch.json")
            watch = kvctl_watch(cluster, path, "w:", "--from", str(begin))
            try:
                with Writer(cluster.nodes) as writer:
                    for _ in range(rounds):
                        writer.wait(100)
                        victim = wait_until("a node serves the feed", lambda: fed_node(cluster))
                        victim.kill()
                        writer.wait(50)
                        victim.start().wait_serving()
                        leader = cluster.leader()
                        leader.kill()
                        cluster.leader(among=cluster.alive())
                        writer.wait(50)
                        leader.start().wait_serving()
                cluster.wait_converged()
                newest = cluster.nodes[0].call("SET", "w:end", "1") and "w:end"
                wait_until("the feed is at its end",
                           lambda: any(line.get("key") == newest for line in lines_of(path)[-1:]), 30)
                lines = lines_of(path)
                self.assertIsNone(watch.poll())
            finally:
                watch.kill()
                watch.wait()
            self.check_lines(lines, writer.acknowledged)
            # Every node tells the very same of what it holds; those that were killed keep all of it.
            for node in cluster.nodes:
                told = [(row[3], revision, row[0].decode()) for revision, rows in told_by(node, begin) for row in rows]
                self.assertEqual(told, [(line["revision"], line["transaction"], line["event"]) for line in lines])

    def test_who_stops_reading_costs_no_memory_and_is_told_when_it_is_overtaken(self):
        with Cluster(**SMALL) as cluster:
            node = cluster.followers()[0]
            with node.client(20) as slow, cluster.nodes[0].client(20) as writer:
                slow.socket.setsockopt(harness.socket.SOL_SOCKET, harness.socket.SO_RCVBUF, 65536)
                slow.call("KV.WATCH", "PREFIX", "k", "PREV")
                value = os.urandom(30000)
                for number in range(200):
                    writer.call("SET", f"k{number % 20}", value)
                before = node.memory()
                for number in range(1500):  # 45 MB, of which 1 MB and a bit are kept
                    writer.call("SET", f"k{number % 20}", value)
                self.assertLess(node.memory() - before, 16 << 20)
                revisions, message = [], None
                while True:
                    message = slow.read()
                    if message[0] == b"kv.closed":
                        break
                    revisions.append(message[2])
                self.assertEqual(sorted(set(revisions)), revisions)
                self.assertEqual(b"COMPACTED", message[2])
                oldest = message[4]
                self.assertGreater(oldest, revisions[-1])
                self.assertIn(str(oldest).encode(), message[3])
                with self.assertRaises(harness.ReplyError) as refused:
                    slow.call("KV.WATCH", "PREFIX", "k", "FROM", revisions[0])
                self.assertEqual("COMPACTED", refused.exception.code)
                now = int(str(refused.exception).rsplit(" ", 1)[1])
                self.assertEqual(now, slow.call("KV.WATCH", "PREFIX", "k", "FROM", now)[1])
                self.assertGreater(slow.read()[2], now)

    def test_slow_reader_within_the_window_reads_all_from_the_disk(self):
        with Cluster(segment_size="256kb", max_value="64kb", retention="64mb") as cluster:
            node = cluster.followers()[0]
            with node.client(20) as slow, cluster.nodes[0].client(20) as writer:
                slow.call("KV.WATCH", "PREFIX", "k")
                for number in range(1000):
                    writer.call("SET", f"k{number}", os.urandom(20000))
                for number in range(1000):
                    rows = slow.read()[3]
                    self.assertEqual(1, len(rows))
                    self.assertEqual(f"k{number}".encode(), rows[0][1])

    def test_feed_without_a_leader_goes_on_where_it_was_and_new_ones_wait(self):
        with Cluster(**SMALL, park=500) as cluster:
            node = cluster.followers()[0]
            node.call("SET", "k", "1")
            with node.client(20) as feed:
                start = feed.call("KV.WATCH", "KEY", "k", "FROM", "0", "PROGRESS", "100")[1]
                self.assertEqual(0, start)
                revision = feed.read()[2]
                for other in cluster.nodes:
                    if other is not node:
                        other.kill()
                # Known revisions need no leader; "from now on" does.
                self.assertEqual(revision, feed.call("KV.WATCH", "KEY", "k", "FROM", revision)[1])
                with node.client(20) as late:
                    with self.assertRaises(harness.ReplyError) as refused:
                        late.call("KV.WATCH", "KEY", "k")
                    self.assertEqual("CLUSTERDOWN", refused.exception.code)

    def test_messages_reach_clients_of_all_nodes(self):
        with Cluster(**SMALL) as cluster:
            clients = [node.client() for node in cluster.nodes]
            for client in clients:
                client.call("SUBSCRIBE", "news")
            for number, node in enumerate(cluster.nodes):
                self.assertEqual(1, node.call("PUBLISH", "news", f"from {number}"))
            for client in clients:
                got = sorted(client.read()[2] for _ in cluster.nodes)
                self.assertEqual([b"from 0", b"from 1", b"from 2"], got)
                client.close()


if __name__ == "__main__":
    harness.main()
