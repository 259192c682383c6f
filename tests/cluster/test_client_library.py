#!/usr/bin/env python3
"""libkvclient's asynchronous client while nodes are killed, stopped and restarted: every callback comes, nothing is applied
twice, nothing acknowledged is lost, no read goes back."""

import json
import os
import subprocess
import time
import unittest

import harness
from harness import SMALL, Cluster

LIBRARY = os.path.join("..", "lib")


def build(source):
    """A program, linked as a user's would be."""
    library = os.path.normpath(os.path.join(harness.BIN, LIBRARY))
    program = os.path.join(harness.work_directory(), os.path.basename(source)[:-2])
    flags = ["-I", harness.TOP, "-L", library, "-lkvclient", "-luv", f"-Wl,-rpath,{library}"]
    with open(os.path.join(harness.BIN, "kvnode"), "rb") as file:
        content = file.read()
    for sign, name in ((b"__asan_init", "address,undefined"), (b"__tsan_init", "thread")):
        if sign in content:
            flags.append(f"-fsanitize={name}")
    subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g",
                    os.path.join(harness.TOP, source), "-o", program, *flags], check=True)
    return program


class AsyncLibrary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = build("tests/cluster/async_load.c")
        cls.watch = build("client/examples/watch.c")

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

    def write(self, cluster, number):
        """One write, by hand: it is repeated while it is not acknowledged, and says whether it may be there twice."""
        uncertain = False
        for _ in range(200):
            node = cluster.alive()[number % len(cluster.alive())]
            try:
                node.call("SET", f"feed/{number:05d}", str(number), timeout=3)
                return uncertain
            except (harness.Lost, harness.ReplyError) as error:
                uncertain = uncertain or isinstance(error, harness.Lost) or error.code == "UNCERTAIN"
            except harness.Unsent:
                pass
            time.sleep(0.05)
        self.fail(f"write {number} does not come through")

    def check_events(self, lines, count, uncertain):
        events = [line.split() for line in lines if " put " in line]
        revisions = [int(event[0]) for event in events]
        self.assertEqual(sorted(set(revisions)), revisions, "in order, none twice")
        keys = [int(event[2].removeprefix("feed/")) for event in events]
        once = [key for at, key in enumerate(keys) if at == 0 or key != keys[at - 1] or key not in uncertain]
        self.assertEqual(list(range(count)), once)

    def test_a_feed_goes_on_while_nodes_die(self):
        with Cluster() as cluster:
            nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
            process = subprocess.Popen([self.watch, nodes, "feed/"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True, env=harness.clean_environment())
            self.assertTrue(process.stdout.readline().startswith("from revision "))
            count, uncertain = 0, set()
            for victim in list(cluster.nodes) * 2:
                for _ in range(60):
                    if self.write(cluster, count):
                        uncertain.add(count)
                    count += 1
                victim.kill()
                for _ in range(30):
                    if self.write(cluster, count):
                        uncertain.add(count)
                    count += 1
                victim.start().wait_serving()
            lines = []
            while not lines or f"feed/{count - 1:05d}" not in lines[-1]:
                lines.append(process.stdout.readline())
                self.assertTrue(lines[-1], "the feed ended")
            process.kill()
            process.communicate()
            self.check_events(lines, count, uncertain)
            # From the start again, as a program that had kept its first place.
            first = next(line for line in lines if " put " in line)
            done = subprocess.run([self.watch, nodes, "feed/", str(count - 1), str(int(first.split()[0]))],
                                  capture_output=True, text=True, check=False, timeout=30,
                                  env=harness.clean_environment())
            self.assertEqual(0, done.returncode, done.stderr)
            again = [line for line in done.stdout.splitlines() if " put " in line]
            told = [line.rstrip() for line in lines if " put " in line][1:]
            self.assertEqual(told[:len(again)], again)

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
