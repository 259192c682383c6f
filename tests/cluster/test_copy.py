#!/usr/bin/env python3
"""F47: older copies of a data directory under real nodes, and starts right after a kill."""

import os
import shutil
import unittest

import harness
from harness import Cluster, wait_until


class Copies(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3)
        self.cluster.start()
        for node in self.cluster.nodes:
            node.wait_serving()
        self.victim = self.cluster.followers()[0]
        self.others = [node for node in self.cluster.nodes if node is not self.victim]

    def tearDown(self):
        self.cluster.__exit__(None, None, None)

    def refused(self):
        text = self.victim.call("INFO", "raft").decode()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return int(fields["raft_refused_by"]), fields["raft_refusal"]

    def swap(self, copy):
        """The copy in the place of the directory, which is kept."""
        own = self.victim.data + ".own"
        os.rename(self.victim.data, own)
        shutil.copytree(copy, self.victim.data)
        return own

    def test_f47_an_older_copy_started_again_and_again(self):
        copy = self.victim.data + ".old"
        self.victim.kill()
        shutil.copytree(self.victim.data, copy)
        self.victim.start().wait_serving()
        self.assertEqual("OK", self.victim.call("SET", "k", "new"))
        wait_until("all have met the start",
                   lambda: all(n.log().count(f"connected to {self.victim.name}") > 1 for n in self.others))
        self.victim.kill()
        own = self.swap(copy)
        for _ in range(10):
            self.victim.start()
            wait_until("both refuse it", lambda: self.refused()[0] == 2)
            self.assertIn("older copy", self.refused()[1])
            self.assertIn("refused by", self.victim.status()["health"])
            self.victim.kill()
        # Each side says it when it happens first, not with each attempt.
        for node in self.others:
            self.assertLessEqual(node.log().count("closed: " + node.name + " refuses "), 3, node.log_tail())
        shutil.rmtree(self.victim.data)
        os.rename(own, self.victim.data)
        self.victim.start().wait_serving()
        self.assertEqual(0, self.refused()[0])
        self.assertEqual(b"new", self.victim.call("GET", "k"))

    def test_f47_a_copy_of_a_running_node(self):
        copy = self.victim.data + ".same"
        shutil.copytree(self.victim.data, copy)
        for number in range(20):
            self.assertEqual("OK", self.cluster.leader().call("SET", f"k{number}", "v"))
        self.victim.kill()
        self.swap(copy)
        self.victim.start()
        wait_until("the leader remembers what it acknowledged", lambda: "are gone" in self.refused()[1])
        self.assertEqual(b"v", self.cluster.leader(among=self.others).call("GET", "k19"))
        self.victim.kill()

    def test_a_start_right_after_a_kill(self):
        for _ in range(8):
            old = self.victim.process
            old.kill()
            self.victim.process = None
            self.victim.start()
            old.wait(timeout=20)
            self.victim.wait_serving()


if __name__ == "__main__":
    harness.main()
