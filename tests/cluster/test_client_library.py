#!/usr/bin/env python3
"""libkvclient's asynchronous client while nodes are killed, stopped and restarted: every callback comes, nothing is applied
twice, nothing acknowledged is lost, no read goes back."""

import json
import os
import subprocess
import unittest

import harness
from harness import SMALL, Cluster

LIBRARY = os.path.join("..", "lib")


def build():
    """The load program, linked as a user's would be."""
    library = os.path.normpath(os.path.join(harness.BIN, LIBRARY))
    program = os.path.join(harness.work_directory(), "async_load")
    flags = ["-I", harness.TOP, "-L", library, "-lkvclient", "-luv", f"-Wl,-rpath,{library}"]
    with open(os.path.join(harness.BIN, "kvnode"), "rb") as file:
        content = file.read()
    for sign, name in ((b"__asan_init", "address,undefined"), (b"__tsan_init", "thread")):
        if sign in content:
            flags.append(f"-fsanitize={name}")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g",
                    os.path.join(harness.TOP, "tests/cluster/async_load.c"), "-o", program, *flags], check=True)
    return program


class AsyncLibrary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = build()

    def load(self, cluster, seconds, *options):
        nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
        return subprocess.Popen([self.program, nodes, str(seconds), "counter", *options], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True, env=harness.clean_environment())

    def finish(self, process, ok_min):
        out, err = process.communicate(timeout=90)
        self.assertEqual(0, process.returncode, out + err)
        result = json.loads(out)
        self.assertGreaterEqual(result["ok"], ok_min, result)
        self.assertGreaterEqual(result["final"], result["ok"], f"an acknowledged increment is lost: {result}")
        self.assertLessEqual(result["final"], result["ok"] + result["unknown"], f"one was applied twice: {result}")
        self.assertEqual(0, result["backwards"], result)
        self.assertEqual(0, result["failed"], result)
        return result

    def wait_counter(self, cluster, more):
        """Until the load got on by so much."""
        def value():
            try:
                return int(cluster.alive()[0].call("GET", "counter") or 0)
            except (harness.Lost, harness.Unsent, harness.ReplyError):
                return 0
        harness.wait_until("the cluster serves", value)
        aim = value() + more
        harness.wait_until("the load goes on", lambda: value() >= aim, 30)

    def test_leader_is_killed(self):
        with Cluster(**SMALL) as cluster:
            process = self.load(cluster, 8 * harness.SLOW)
            for _ in range(2):
                self.wait_counter(cluster, 100)
                leader = cluster.leader()
                leader.kill()
                cluster.leader(among=cluster.alive())
                self.wait_counter(cluster, 100)
                leader.start().wait_serving()
            result = self.finish(process, 500)
            # What was under way when the leader died, and no more.
            self.assertLessEqual(result["unknown"], 2 * 32, result)

    def test_leader_is_stopped(self):
        with Cluster(**SMALL) as cluster:
            process = self.load(cluster, 12 * harness.SLOW)
            self.wait_counter(cluster, 100)
            leader = cluster.leader()
            leader.pause()
            cluster.leader(among=[node for node in cluster.nodes if node is not leader])
            # Reads look for another node after half their time, writes wait for theirs: then the new leader is found.
            harness.wait_until("others serve", lambda: [node for node in cluster.nodes if node is not leader], 5)
            other = next(node for node in cluster.nodes if node is not leader)
            before = int(other.call("GET", "counter"))
            harness.wait_until("the load goes on", lambda: int(other.call("GET", "counter")) > before + 50, 30)
            leader.resume()
            self.finish(process, 300)

    def test_rolling_restart_without_a_failed_operation(self):
        with Cluster(**SMALL) as cluster:
            process = self.load(cluster, 10 * harness.SLOW)
            for node in list(cluster.nodes):
                self.wait_counter(cluster, 100)
                node.terminate()
                node.start().wait_serving()
            result = self.finish(process, 500)
            self.assertEqual((0, 0), (result["refused"], result["timeout"]), result)

    def test_exactly_once_through_a_kill(self):
        with Cluster(**SMALL) as cluster:
            if cluster.nodes[0].call("COMMAND", "INFO", "KV.ONCE")[0] is None:
                self.skipTest("this server has no KV.ONCE")
            process = self.load(cluster, 8 * harness.SLOW, "once")
            for _ in range(2):
                self.wait_counter(cluster, 100)
                leader = cluster.leader()
                leader.kill()
                cluster.leader(among=cluster.alive())
                self.wait_counter(cluster, 100)
                leader.start().wait_serving()
            result = self.finish(process, 500)
            self.assertEqual(0, result["unknown"], result)
            self.assertEqual(result["ok"], result["final"], result)


if __name__ == "__main__":
    harness.main()
