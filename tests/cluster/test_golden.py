#!/usr/bin/env python3
"""U8: a real node starts on the data directories of all earlier versions, serves what is in them, and goes on."""

import glob
import os
import tarfile
import time
import unittest

import golden
import harness
from harness import Cluster

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "golden")


class Golden(unittest.TestCase):
    def expect_content(self, node, more):
        wanted = dict(golden.content(), **more)
        with node.client(20) as client:
            self.assertEqual(len(wanted), client.call("DBSIZE"))
            for key, (value, expiry) in sorted(wanted.items()):
                self.assertEqual(value, client.call("GET", key), key)
                left = client.call("PTTL", key)
                if expiry < 0:
                    self.assertEqual(-1, left, key)
                else:
                    self.assertLess(abs(time.time() * 1000 + left - expiry), 60_000, key)

    def start_on(self, path):
        with Cluster(1, start=False, **golden.OPTIONS) as cluster:
            node = cluster.nodes[0]
            os.makedirs(node.data, mode=0o700)
            with tarfile.open(path) as archive:
                for member in archive:
                    target = os.path.join(node.data, member.name)
                    os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
                    with open(target, "wb") as file:
                        file.write(archive.extractfile(member).read())
            node.start().wait_serving()
            last = {"last": (b"not marked", -1)}
            self.expect_content(node, last)
            self.assertEqual("OK", node.call("SET", "more", "written by a later version"))
            more = {"more": (b"written by a later version", -1), **last}
            for way in (node.kill, node.terminate):
                way()
                node.start().wait_serving()
                self.expect_content(node, more)

    def test_u8_directories_of_every_version(self):
        paths = sorted(glob.glob(os.path.join(FOLDER, "v*.tar.gz")))
        self.assertIn("v1.tar.gz", [os.path.basename(path) for path in paths])
        for path in paths:
            with self.subTest(os.path.basename(path)):
                self.start_on(path)


if __name__ == "__main__":
    harness.main()
