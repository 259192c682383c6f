#!/usr/bin/env python3
"""Real processes: commands that happen once while nodes are killed, locks while the leader is."""

import os
import subprocess
import threading
import time
import unittest

import harness
from harness import Cluster

THREADS = 3


class Locks(unittest.TestCase):
    def count(self, cluster, name, until, result):
        """One client: each of its sequences is sent until it is answered, to any node."""
        sequence = 0
        answers = []
        while not until.is_set():
            sequence += 1
            for attempt in range(600):
                nodes = cluster.alive()
                try:
                    node = nodes[(sequence + attempt) % len(nodes)]
                    answers.append(node.call("KV.ONCE", name, str(sequence), "INCR", "counter", timeout=3))
                    break
                except (harness.Lost, harness.Unsent, harness.ReplyError, OSError):
                    time.sleep(0.05)
            else:
                result[name] = f"sequence {sequence} does not come through"
                return
        result[name] = answers

    def test_a_counter_is_exact_while_nodes_are_killed(self):
        with Cluster() as cluster:
            until = threading.Event()
            result = {}
            threads = [threading.Thread(target=self.count, args=(cluster, f"client-{i}", until, result))
                       for i in range(THREADS)]
            for thread in threads:
                thread.start()
            for turn in range(4):
                time.sleep(1)
                node = cluster.leader() if turn % 2 == 0 else cluster.followers()[0]
                node.kill()
                time.sleep(0.5)
                node.start().wait_serving()
            until.set()
            for thread in threads:
                thread.join(60)
            answers = []
            for name, got in result.items():
                self.assertIsInstance(got, list, f"{name}: {got}")
                answers += got
            self.assertEqual(THREADS, len(result))
            self.assertGreater(len(answers), 50)
            self.assertEqual(list(range(1, len(answers) + 1)), sorted(answers), "each sequence counts once")
            self.assertEqual(str(len(answers)).encode(), cluster.leader().call("GET", "counter"))
            self.assertEqual(1, cluster.leader().call("DBSIZE"), "what is remembered is no key of anybody")

    def start_lock(self, cluster, seconds, code, file, ttl=4000):
        nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
        script = f'echo "begin $KV_LOCK_TOKEN" >> {file}; sleep {seconds}; echo "end $KV_LOCK_TOKEN" >> {file}; exit {code}'
        return subprocess.Popen([os.path.join(harness.BIN, "kvctl"), "--nodes", nodes, "lock", "job", "--ttl", str(ttl),
                                 "--", "sh", "-c", script], stderr=subprocess.PIPE)

    def test_a_command_keeps_its_lock_while_the_leader_is_killed(self):
        with Cluster() as cluster:
            file = os.path.join(harness.work_directory("locks"), "said")
            first = self.start_lock(cluster, 6, 5, file)
            harness.wait_until("the first has the lock", lambda: os.path.exists(file))
            second = self.start_lock(cluster, 0, 6, file)
            time.sleep(1)
            leader = cluster.leader()
            leader.kill()
            self.assertEqual(5, first.wait(40), "the command ends by itself")
            leader.start().wait_serving()
            self.assertEqual(6, second.wait(60), "then the other one has the lock")
            for process in (first, second):
                process.stderr.close()
            with open(file, encoding="ascii") as lines:
                said = [line.split() for line in lines]
            self.assertEqual(["begin", "end", "begin", "end"], [word for word, _ in said])
            tokens = [int(token) for _, token in said]
            self.assertEqual(tokens[0], tokens[1])
            self.assertEqual(tokens[2], tokens[3])
            self.assertLess(tokens[1], tokens[2], "tokens grow")


if __name__ == "__main__":
    harness.main()
