#!/usr/bin/env python3
"""Real processes: commands that happen once while nodes are killed, locks while the leader is."""

import os
import signal
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

    # ---- kvctl elect -------------------------------------------------------------------------------------------

    def stand(self, cluster, name, file, ttl):
        """A candidate whose command runs until it is told to end, and says in @file when it begins and ends."""
        nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
        script = (f"trap 'echo end {name} $KV_LOCK_TOKEN >> {file}; exit 0' TERM; "
                  f"echo begin {name} $KV_LOCK_TOKEN $$ >> {file}; while :; do sleep 0.05; done")
        return harness.spawn([os.path.join(harness.BIN, "kvctl"), "--nodes", nodes, "elect", "job", "--ttl", str(ttl),
                              "--", "sh", "-c", script], f"{file}.{name}.log")

    def said(self, file):
        if not os.path.exists(file):
            return []
        with open(file, encoding="ascii") as lines:
            return [line.split() for line in lines.read().splitlines() if len(line.split()) >= 3]

    def wait_said(self, file, word, name, count=1):
        """The token with which @name began or ended for the @count-th time."""
        def find():
            found = [line for line in self.said(file) if line[:2] == [word, name]]
            return found[count - 1] if len(found) >= count else None
        return harness.wait_until(f"{word} {name} {count}", find, 40)

    def test_one_of_two_candidates_is_elected_whatever_happens(self):
        with Cluster() as cluster:
            file = os.path.join(harness.work_directory("elect"), "said")
            first = self.stand(cluster, "first", file, 3000)
            one = self.wait_said(file, "begin", "first")
            second = self.stand(cluster, "second", file, 3000)
            # The leader goes; whoever is elected stays so.
            leader = cluster.leader()
            leader.kill()
            cluster.leader(among=[node for node in cluster.nodes if node is not leader])
            leader.start().wait_serving()
            self.assertEqual([one], self.said(file))
            # The one that is elected is paused for longer than its lock lives.
            first.send_signal(signal.SIGSTOP)
            two = self.wait_said(file, "begin", "second")
            first.send_signal(signal.SIGCONT)
            # Its lock is another's already: there is no time to tell the command to end.
            harness.wait_until("the command of the first is gone", lambda: not os.path.exists(f"/proc/{one[3]}"), 20)
            self.assertIsNone(first.poll(), "it stands again")
            # A command that ends by itself ends its candidate; then the other one is elected again.
            os.kill(int(two[3]), signal.SIGTERM)
            self.assertEqual(0, second.wait(20))
            three = self.wait_said(file, "begin", "first", 2)
            tokens = [int(line[2]) for line in (one, two, three)]
            self.assertEqual(sorted(set(tokens)), tokens, "tokens grow")
            # A signal is passed on.
            first.send_signal(signal.SIGTERM)
            self.assertEqual(0, first.wait(20))
            self.assertEqual(three[2], self.wait_said(file, "end", "first")[2])

    def test_a_command_does_not_outlive_its_lock(self):
        with Cluster() as cluster:
            file = os.path.join(harness.work_directory("elect"), "said")
            candidate = self.stand(cluster, "only", file, 2000)
            one = self.wait_said(file, "begin", "only")
            for node in cluster.nodes:
                node.kill()
            began = time.monotonic()
            self.wait_said(file, "end", "only")
            self.assertLess(time.monotonic() - began, 2.5 * harness.SLOW, "before the lock could be another's")
            for node in cluster.nodes:
                node.start()
            two = self.wait_said(file, "begin", "only", 2)
            self.assertLess(int(one[2]), int(two[2]))
            # Nobody would renew it when kvctl itself is killed.
            candidate.kill()
            self.wait_said(file, "end", "only", 2)
            candidate.wait(20)


if __name__ == "__main__":
    harness.main()
