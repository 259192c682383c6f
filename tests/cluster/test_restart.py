#!/usr/bin/env python3
"""Planned stops: a rolling restart costs clients of the other nodes nothing."""

import os
import signal
import time
import unittest

import data
import harness
from harness import EXIT_CLEAN, EXIT_CONFIG, Cluster
from history import Load


class Restart(unittest.TestCase):
    def test_rolling_restart_fails_no_operation_on_other_nodes(self):
        with Cluster() as cluster:
            for node in list(cluster.nodes):
                others = [other for other in cluster.nodes if other is not node]
                with Load(others, seed=int(node.name[-1]), move=False) as load:
                    load.wait_ok(100)
                    self.assertEqual(EXIT_CLEAN, node.terminate(), node.log_tail())
                    load.wait_ok(100)
                    node.start().wait_serving()
                    load.wait_ok(100)
                    load.stop()
                    troubled = [op for op in load.operations if op.outcome != "ok"]
                    self.assertEqual([], troubled[:5])
                    load.check(cluster.nodes)

    def test_stopping_leader_hands_leadership_over(self):
        with Cluster(election_timeout=3000) as cluster:
            leader = cluster.leader()
            others = [node for node in cluster.nodes if node is not leader]
            begin = time.monotonic()
            leader.process.send_signal(signal.SIGTERM)
            cluster.leader(among=others)
            # An election by timeout takes at least 3 s: this one was handed over.
            self.assertLess(time.monotonic() - begin, 2.5 * harness.SLOW)
            self.assertEqual(EXIT_CLEAN, leader.wait_exit())

    def test_all_stop_at_once_and_keep_everything(self):
        with Cluster() as cluster:
            with Load(cluster.nodes) as load:
                load.wait_ok(300)
                load.stop()
            for node in cluster.nodes:
                node.process.send_signal(signal.SIGTERM)
            for node in cluster.nodes:
                self.assertEqual(EXIT_CLEAN, node.wait_exit(), node.log_tail())
            cluster.start()
            load.check(cluster.nodes)

    def test_too_many_files_for_the_limit_is_no_damage(self):
        """A node that may not open all its files says so and leaves them alone: it is not damaged."""
        options = {"segment_size": "64kb", "max_value": "16kb", "retention": "64kb", "compaction_rate": "0"}
        with Cluster(**options) as cluster:
            data.fill(cluster.leader(), "k", 8000, 1000)
            cluster.wait_converged()
            for node in cluster.nodes:
                self.assertEqual(EXIT_CLEAN, node.terminate(), node.log_tail())
                kept = sorted(os.listdir(os.path.join(node.data, "shard-0000")))
                self.assertGreater(len(kept), 100)
                node.process = harness.spawn(["sh", "-c", 'ulimit -n 100; exec "$0" "$@"', *node.command()],
                                             node.log_path, harness.clean_environment())
                self.assertEqual(EXIT_CONFIG, node.wait_exit(), node.log_tail())
                self.assertIn("may not open enough files", node.log_tail(1))
                self.assertEqual(kept, sorted(os.listdir(os.path.join(node.data, "shard-0000"))))
            cluster.start()
            for node in cluster.nodes:
                self.assertEqual("ok", node.status()["health"])
                self.assertNotIn("QUARANTINE", node.log())
            data.verify(cluster.leader(), "k", 8000, 1000)

    def test_second_signal_ends_at_once(self):
        with Cluster(drain=10000) as cluster:
            node = cluster.followers()[0]
            client = node.client()
            client.call("PING")
            for name in (signal.SIGTERM, signal.SIGINT):
                node.process.send_signal(name)
                time.sleep(0.1)
            begin = time.monotonic()
            node.wait_exit()
            self.assertLess(time.monotonic() - begin, 2 * harness.SLOW)
            client.close()

    def test_accepted_writes_of_a_stopping_leader_are_answered(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            with leader.client(20) as client:
                client.call("PING")
                client.send_raw(b"".join(client.encode(("SET", f"stop:{n}", n)) for n in range(500)))
                leader.process.send_signal(signal.SIGTERM)
                answers = []
                try:
                    for _ in range(500):
                        answers.append(client.read())
                except harness.Lost:
                    pass
            self.assertEqual(EXIT_CLEAN, leader.wait_exit())
            other = cluster.leader(among=cluster.alive())
            for number, answer in enumerate(answers):
                if answer == "OK":
                    self.assertEqual(str(number).encode(), other.call("GET", f"stop:{number}"))
                else:
                    self.assertIsInstance(answer, harness.ReplyError)


if __name__ == "__main__":
    harness.main()
