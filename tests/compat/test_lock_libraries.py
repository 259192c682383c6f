#!/usr/bin/env python3
"""Lock libraries, unmodified, in the versions of the lock files beside them: a lock is taken, refused to another one on
another node, prolonged, given back, and, once it is over, not taken from who has it then. docs/locks.md names them."""

import os
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))

import clients  # noqa: E402
import harness  # noqa: E402
from harness import Cluster  # noqa: E402

LIBRARIES = {
    "locks-python": (["environment/bin/python", "driver.py"], ("redlock-py", "pottery")),
    "locks-node": (["node", "driver.js"], ("redlock3", "redlock4", "redlock5", "redis-semaphore")),
    "locks-go": (["./driver"], ("redsync", "redsync-set", "redislock")),
}


class LockLibraries(unittest.TestCase):
    def run_all(self, language):
        try:
            folder = clients.prepare(language)
        except clients.Missing as missing:
            raise unittest.SkipTest(f"{language}: {missing}") from None
        command, libraries = LIBRARIES[language]
        with Cluster() as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            for library in libraries:
                for one, other in ((leader, follower), (follower, leader)):
                    with self.subTest(library, first=one.name):
                        done = subprocess.run([*command, library, str(one.client_port), str(other.client_port)],
                                              cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                                              timeout=60 * harness.SLOW, check=False)
                        self.assertEqual((0, "ok"), (done.returncode, done.stdout.strip()), done.stderr[-3000:])

    def test_python(self):
        self.run_all("locks-python")

    def test_node(self):
        self.run_all("locks-node")

    def test_go(self):
        self.run_all("locks-go")


if __name__ == "__main__":
    harness.main()
