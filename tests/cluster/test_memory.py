#!/usr/bin/env python3
"""max-index-memory in a cluster: the leader refuses before the log, nobody grows beyond it, nothing acknowledged is lost."""

import contextlib
import resource
import unittest

import harness
from harness import Cluster, ReplyError, wait_until
from history import Load

LIMIT = 2 << 20
KEY = "memory:{:0100d}"
BATCH = 100


def write_until_refused(node, first, limit=100_000):
    """Sets keys from number `first` on; how many were acknowledged before the first OOM."""
    with node.client(30) as client:
        for begin in range(first, first + limit, BATCH):
            replies = client.pipeline([("SET", KEY.format(n), f"value:{n}") for n in range(begin, begin + BATCH)])
            good = [reply for reply in replies if reply == "OK"]
            bad = [reply for reply in replies if reply != "OK"]
            for reply in bad:
                assert isinstance(reply, ReplyError) and reply.code == "OOM", reply
            if bad:
                # Commands of one connection are taken in their order.
                assert replies[:len(good)] == good, "a write was taken after one was refused"
                return begin - first + len(good)
    raise AssertionError("the index never became full")


def info(node):
    text = node.call("INFO", "memory").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


class Memory(unittest.TestCase):
    def test_a_full_index_refuses_writes_everywhere_until_keys_are_deleted(self):
        with Cluster(max_index_memory=f"{LIMIT >> 20}mb") as cluster:
            count = write_until_refused(cluster.followers()[0], 0)
            self.assertGreater(count, 5000)
            cluster.wait_converged()
            for node in cluster.nodes:
                self.assertEqual(count, node.call("DBSIZE"))
                self.assertEqual("1", info(node)["index_full"])
                self.assertLess(int(info(node)["used_memory_index"]), LIMIT * 3 // 2 + (4 << 20))
                with self.assertRaisesRegex(ReplyError, "^OOM command not allowed when used memory"):
                    node.call("SET", "one-more", "value")
            self.assertIn(b"\nflashkv_index_full 1\n", cluster.leader().http("/metrics")[1])

            # The next leader has as many keys and refuses as well; all that was acknowledged is there.
            old = cluster.leader()
            old.kill()
            leader = cluster.leader()
            leader.wait_serving()
            self.assertEqual(count, leader.call("DBSIZE"))
            with self.assertRaisesRegex(ReplyError, "^OOM "):
                leader.call("SET", "one-more", "value")
            old.start().wait_serving()

            gone = count // 4
            with cluster.followers()[0].client(30) as client:
                for begin in range(0, gone, BATCH):
                    keys = [KEY.format(n) for n in range(begin, min(begin + BATCH, gone))]
                    self.assertEqual(len(keys), client.call("DEL", *keys))
            more = write_until_refused(cluster.followers()[0], count)
            self.assertGreater(more, gone // 2)
            cluster.wait_converged()
            for node in cluster.nodes:
                self.assertEqual(count - gone + more, node.call("DBSIZE"))
                self.assertEqual(f"value:{count - 1}".encode(), node.call("GET", KEY.format(count - 1)))
                self.assertEqual(f"value:{count + more - 1}".encode(), node.call("GET", KEY.format(count + more - 1)))
                self.assertIsNone(node.call("GET", KEY.format(0)))


class Refused(unittest.TestCase):
    """The system gives no more memory: a designed end, and nothing half done."""

    def test_f16_a_node_that_gets_no_memory_ends_and_loses_nothing(self):
        with Cluster() as cluster, Load(cluster.nodes) as load:
            load.wait_ok(100)
            victim = cluster.leader()
            with open(f"/proc/{victim.process.pid}/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            resource.prlimit(victim.process.pid, resource.RLIMIT_AS, (size + (4 << 20), size + (4 << 20)))
            # Connections and values until it has had enough.
            hungry = []
            with contextlib.suppress(harness.Lost, harness.Unsent):
                for _ in range(200):
                    hungry.append(victim.client(20))
                    hungry[-1].send("SET", "hungry", "x" * (1 << 20))
            self.assertEqual(70, victim.wait_exit(), victim.log_tail())
            self.assertIn("out of memory", victim.log())
            for client in hungry:
                client.close()
            wait_until("another node leads", lambda: cluster.leader() is not victim)
            load.wait_ok(200)
            victim.start().wait_serving()
            cluster.wait_converged()
            load.check(cluster.nodes)


if __name__ == "__main__":
    harness.main()
