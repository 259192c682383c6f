"""Work that takes many turns of a node's loop leaves room for everything else between them."""

import threading
import time
import unittest

import harness


class Turns(unittest.TestCase):
    def test_publishing_to_many_delays_nobody(self):
        with harness.Cluster(3) as cluster:
            leader = cluster.leader()
            term = leader.status()["term"]
            listeners = [leader.client(60) for _ in range(300)]
            for listener in listeners:
                listener.call("SUBSCRIBE", "channel")
            publisher, other = leader.client(60), leader.client(60)
            work = threading.Thread(target=publisher.pipeline, args=([("PUBLISH", "channel", "x")] * 20000,))
            work.start()
            asked = 0
            while work.is_alive():
                other.call("PING")
                asked += 1
                time.sleep(0.001)
            work.join()
            # When all of it was done before the loop looked at a socket again these were two or three.
            self.assertGreater(asked, 20)
            self.assertEqual(leader.status()["term"], term)
            for client in (*listeners, publisher, other):
                client.close()


if __name__ == "__main__":
    harness.main()
