#!/usr/bin/env python3
"""WAIT and WAITAOF: how many followers have synced what a connection wrote."""

import threading
import time
import unittest

import harness
from harness import Cluster


class Wait(unittest.TestCase):
    def test_counts_the_followers_that_have_it(self):
        with Cluster() as cluster:
            for node in cluster.nodes:
                with node.client() as client:
                    self.assertEqual("OK", client.call("SET", node.name, "v"))
                    self.assertEqual(2, client.call("WAIT", "2", "5000"))
                    self.assertEqual([1, 2], client.call("WAITAOF", "1", "2", "5000"))
                    self.assertEqual(["OK", "QUEUED"], client.pipeline([("MULTI",), ("WAIT", "9", "0")]))
                    self.assertLessEqual(client.call("EXEC")[0], 2)

    def test_waits_no_longer_than_it_was_told(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            held, other = cluster.followers()
            held.pause()
            try:
                for node in (leader, other):
                    with node.client(timeout=20) as client:
                        self.assertEqual("OK", client.call("SET", "k", "v"))
                        self.assertEqual(1, client.call("WAIT", "1", "5000"))
                        begin = time.monotonic()
                        self.assertEqual(1, client.call("WAIT", "2", "700"))
                        self.assertGreaterEqual(time.monotonic() - begin, 0.65)
            finally:
                held.resume()

    def test_waits_for_ever_without_losing_its_connection(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            held, other = cluster.followers()
            held.pause()
            results = []
            try:
                with other.client(timeout=60) as client, leader.client(timeout=60) as second:
                    for one in (client, second):
                        self.assertEqual("OK", one.call("SET", "k", "v"))
                        one.send("WAIT", "2", "0")
                    # Who is gone must not keep the session for ever.
                    for node in (leader, other):
                        gone = node.client()
                        gone.send("SET", "k", "v")
                        gone.send("WAIT", "2", "0")
                        gone.close()
                    reader = threading.Thread(target=lambda: results.extend([client.read(), second.read()]))
                    reader.start()
                    # Longer than a node is patient with a leader that answers nothing at all.
                    time.sleep(7)
                    self.assertEqual([], results)
                    self.assertTrue(reader.is_alive())
                    for node in (leader, other):
                        clients = node.call("INFO", "clients").decode()
                        self.assertIn("connected_clients:2\r", clients)
                    held.resume()
                    reader.join(30)
                    self.assertEqual([2, 2], results)
            finally:
                held.resume()


if __name__ == "__main__":
    harness.main()
