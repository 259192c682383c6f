#!/usr/bin/env python3
"""redis-cli and redis-benchmark, as Debian ships them, against any node."""

import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Cluster  # noqa: E402


def run(*arguments, stdin=None):
    return subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=120, check=False)


@unittest.skipUnless(shutil.which("redis-cli"), "redis-cli is not installed")
class RedisCli(unittest.TestCase):
    def cli(self, node, *arguments, stdin=None):
        done = run("redis-cli", "-p", str(node.client_port), *arguments, stdin=stdin)
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout.strip()

    def test_first_session(self):
        with Cluster() as cluster:
            one, two, three = cluster.nodes
            self.assertEqual("OK", self.cli(one, "set", "k", "v"))
            self.assertEqual("v", self.cli(two, "get", "k"))
            self.assertEqual("1", self.cli(three, "del", "k"))
            self.assertEqual("", self.cli(one, "get", "k"))
            self.assertEqual("OK", self.cli(two, "set", "t", "1", "ex", "100"))
            self.assertIn(self.cli(three, "ttl", "t"), ("99", "100"))
            self.assertEqual("2", self.cli(one, "incr", "t"))
            self.assertEqual("string", self.cli(two, "type", "t"))
            self.assertEqual("1", self.cli(two, "dbsize"))
            self.assertIn("ERR unknown command", self.cli(one, "lpush", "a", "b"))

    def test_cluster_mode_follows_moved(self):
        with Cluster() as cluster:
            for node in cluster.nodes:
                done = run("redis-cli", "-c", "-p", str(node.cluster_client_port), "set", node.name, "here")
                self.assertEqual("OK", done.stdout.strip(), done.stderr)
            for node in cluster.nodes:
                done = run("redis-cli", "-c", "-p", str(node.cluster_client_port), "get", "node2")
                self.assertEqual("here", done.stdout.strip())

    def test_resp3(self):
        with Cluster() as cluster:
            self.assertEqual("OK", self.cli(cluster.nodes[1], "-3", "set", "k", "v"))
            self.assertEqual("v", self.cli(cluster.nodes[2], "-3", "get", "k"))
            self.assertIn("proto", self.cli(cluster.nodes[0], "-3", "hello", "3"))

    def test_script_on_standard_input(self):
        with Cluster() as cluster:
            script = "".join(f"set key:{n} {n}\n" for n in range(200)) + "dbsize\n"
            self.assertEqual("200", self.cli(cluster.nodes[2], stdin=script).splitlines()[-1])

    def test_pipe_mode(self):
        with Cluster() as cluster:
            payload = "".join(f"*3\r\n$3\r\nSET\r\n$6\r\np{n:05d}\r\n$1\r\nx\r\n" for n in range(3000))
            self.assertIn("errors: 0, replies: 3000", self.cli(cluster.nodes[1], "--pipe", stdin=payload))
            self.assertEqual("3000", self.cli(cluster.nodes[0], "dbsize"))

    def test_scan_option_lists_every_key_once(self):
        with Cluster() as cluster:
            self.cli(cluster.nodes[0], stdin="".join(f"set scan:{n} {n}\n" for n in range(500)))
            seen = self.cli(cluster.nodes[1], "--scan", "--pattern", "scan:*").splitlines()
            self.assertEqual(sorted(f"scan:{n}" for n in range(500)), sorted(seen))

    def test_info_has_what_tools_look_for(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            for node in cluster.nodes:
                info = dict(line.split(":", 1) for line in self.cli(node, "info").splitlines() if ":" in line)
                self.assertEqual("7.2.4", info["redis_version"])
                self.assertEqual("standalone", info["redis_mode"])
                self.assertEqual("0", info["loading"])
                self.assertEqual(str(node.client_port), info["tcp_port"])
                # Every node takes writes, so tools must not think that some do not.
                self.assertIn(info["role"], ("master", "slave"))
                self.assertEqual(str(node.process.pid), info["process_id"])
                self.assertGreater(int(info["used_memory_rss"]), 1 << 20)
                self.assertGreater(float(info["used_cpu_user"]) + float(info["used_cpu_sys"]), 0)
                self.assertEqual("ok", info["aof_last_write_status"])
                if node is leader:
                    self.assertEqual("master", info["role"])
                    self.assertEqual("2", info["connected_slaves"])
                    ports = {re.fullmatch(r"ip=127\.0\.0\.1,port=(\d+),state=online,offset=\d+", info[name])[1]
                             for name in ("slave0", "slave1")}
                    self.assertEqual({str(other.client_port) for other in cluster.followers()}, ports)


@unittest.skipUnless(shutil.which("redis-benchmark"), "redis-benchmark is not installed")
class RedisBenchmark(unittest.TestCase):
    def test_it_runs_against_leader_and_follower(self):
        with Cluster() as cluster:
            for node in (cluster.leader(), cluster.followers()[0]):
                for pipeline in ("1", "16"):
                    done = run("redis-benchmark", "-p", str(node.client_port), "-t", "ping,set,get,incr,mset", "-n", "5000",
                               "-c", "20", "-P", pipeline, "-d", "64", "-r", "1000", "-q")
                    self.assertEqual(0, done.returncode, done.stderr + done.stdout)
                    self.assertNotIn("error", (done.stdout + done.stderr).lower())
                    rates = re.findall(r"^(\w+)[^:\n]*: ([\d.]+) requests per second", done.stdout.replace("\r", "\n"), re.M)
                    self.assertLessEqual({"SET", "GET", "INCR", "MSET"}, {name for name, _ in rates})
                    self.assertGreater(min(float(rate) for _, rate in rates), 100 / harness.SLOW)
            counter = int(cluster.nodes[0].call("GET", "counter:__rand_int__") or 0)
            self.assertGreaterEqual(counter, 0)


if __name__ == "__main__":
    harness.main()
