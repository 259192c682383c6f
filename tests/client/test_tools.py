#!/usr/bin/env python3
"""kvctl against a real cluster: answers, JSON, exit codes, and what happens when nodes die."""

import json
import os
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Cluster  # noqa: E402

DONE, REFUSED, USAGE, NO_ANSWER, UNKNOWN = range(5)


class Kvctl(unittest.TestCase):
    def ctl(self, cluster, *arguments, code=DONE, **more):
        done = cluster.kvctl(*arguments, **more)
        self.assertEqual(code, done.returncode, f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def json(self, cluster, *arguments, **more):
        return json.loads(self.ctl(cluster, "-o", "json", *arguments, **more).stdout)

    def test_data(self):
        with Cluster() as cluster:
            self.ctl(cluster, "set", "k", "v")
            self.assertEqual("v\n", self.ctl(cluster, "get", "k").stdout)
            value = self.json(cluster, "get", "k")
            self.assertEqual(("k", "v"), (value["key"], value["value"]))
            self.assertIn("ttl_ms", value)
            self.ctl(cluster, "set", "k", "w", "--if-absent", code=REFUSED)
            self.ctl(cluster, "set", "k", "w", "--if-revision", str(value["revision"]))
            self.ctl(cluster, "set", "k", "x", "--if-revision", str(value["revision"]), code=REFUSED)
            self.assertEqual("w", self.json(cluster, "get", "k")["value"])
            self.ctl(cluster, "set", "t", "1", "--ttl", "100000")
            self.assertTrue(90_000 < self.json(cluster, "get", "t")["ttl_ms"] <= 100_000)
            self.assertEqual("5", self.ctl(cluster, "incr", "t", "4").stdout.strip())
            self.ctl(cluster, "get", "nothing", code=REFUSED)
            self.ctl(cluster, "del", "k", "t")
            self.ctl(cluster, "get", "k", code=REFUSED)
            # Bytes that are no text survive.
            self.ctl(cluster, "set", "raw", "caf\u00e9 \u2713\t\"")
            self.assertEqual("caf\u00e9 \u2713\t\"", self.json(cluster, "get", "raw")["value"])

    def test_scan(self):
        with Cluster() as cluster:
            with cluster.nodes[1].client() as client:
                client.pipeline([("SET", f"user:{n:04d}", f"value {n}") for n in range(2500)] + [("SET", "other", "1")])
            lines = [json.loads(line) for line in self.ctl(cluster, "-o", "json", "scan").stdout.splitlines()]
            self.assertEqual(["other"] + [f"user:{n:04d}" for n in range(2500)], [line["key"] for line in lines])
            self.assertEqual("value 2499", lines[-1]["value"])
            self.assertEqual(10, len(self.ctl(cluster, "scan", "--prefix", "user:", "--limit", "10").stdout.splitlines()))
            part = self.ctl(cluster, "scan", "--from", "user:0010", "--to", "user:0020").stdout.splitlines()
            self.assertEqual(10, len(part))

    def test_old_revisions(self):
        with Cluster() as cluster:
            self.ctl(cluster, "set", "k", "one")
            first = self.json(cluster, "get", "k")["revision"]
            self.ctl(cluster, "set", "k", "two")
            self.ctl(cluster, "set", "l", "three")
            self.ctl(cluster, "del", "k")
            self.assertEqual("one", self.ctl(cluster, "get", "k", "--rev", str(first)).stdout.strip())
            self.ctl(cluster, "get", "k", "--rev", str(first - 1), code=REFUSED)
            self.assertEqual(["k\tone"], self.ctl(cluster, "scan", "--rev", str(first)).stdout.splitlines())
            self.assertEqual(["l\tthree"], self.ctl(cluster, "scan").stdout.splitlines())
            rows = [json.loads(line) for line in self.ctl(cluster, "-o", "json", "history", "k").stdout.splitlines()]
            self.assertEqual(["delete", "put", "put"], [row["kind"] for row in rows])
            self.assertEqual([None, "two", "one"], [row.get("value") for row in rows])
            self.assertEqual(first, rows[2]["revision"])
            self.assertEqual(1, len(self.ctl(cluster, "history", "k", "--count", "1").stdout.splitlines()))
            self.assertIn("COMPACTED", self.ctl(cluster, "get", "k", "--rev", "1", code=REFUSED).stderr)
            self.assertIn("lies ahead", self.ctl(cluster, "get", "k", "--rev", str(1 << 60), code=REFUSED).stderr)

    def test_status_and_members(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            status = self.json(cluster, "status", nodes=[cluster.nodes[2]])
            self.assertEqual(leader.name, status["leader"])
            self.assertEqual(["node1", "node2", "node3"], sorted(node["name"] for node in status["nodes"]))
            for node in status["nodes"]:
                self.assertIn(node["role"], ("leader", "follower"))
                for field in ("client", "peer", "term", "committed", "applied", "lag", "keys", "disk_bytes", "version",
                              "health"):
                    self.assertIn(field, node)
            members = self.json(cluster, "member", "list")["members"]
            self.assertEqual({"voter"}, {member["role"] for member in members})
            text = self.ctl(cluster, "status").stdout
            self.assertNotIn("\x1b", text, "colours are for terminals")
            dead = cluster.followers()[0]
            dead.kill()
            status = self.json(cluster, "status")
            self.assertEqual("down", next(node["role"] for node in status["nodes"] if node["name"] == dead.name))

    def test_leadership_is_handed_over(self):
        with Cluster() as cluster:
            target = cluster.followers()[0]
            self.ctl(cluster, "leader", "transfer", target.name)
            # The answer comes before the leadership goes, and for a moment nobody leads.
            harness.wait_until("the named node leads", lambda: cluster.leader() is target, 10)
            harness.wait_until("every node knows", lambda: target.name in cluster.kvctl("leader").stdout, 10)
            self.ctl(cluster, "leader", "transfer", "nobody", code=REFUSED)

    def test_exit_codes(self):
        with Cluster() as cluster:
            for arguments in ((), ("frobnicate",), ("get",), ("set", "k"), ("-o", "yaml", "status"), ("incr", "k", "x")):
                done = self.ctl(cluster, *arguments, code=USAGE)
                self.assertTrue(done.stderr.strip(), arguments)
            done = self.ctl(cluster, "-o", "json", "get", "nothing", code=REFUSED)
            self.assertEqual({"code", "message"}, set(json.loads(done.stderr)["error"]))
            for node in cluster.nodes:
                node.kill()
            begin = time.monotonic()
            self.ctl(cluster, "--timeout", "1500", "get", "k", code=NO_ANSWER)
            self.ctl(cluster, "--timeout", "1500", "set", "k", "v", code=NO_ANSWER)
            self.assertLess(time.monotonic() - begin, 6 * harness.SLOW)

    def test_a_read_without_a_majority_says_why(self):
        with Cluster() as cluster:
            left = cluster.followers()[0]
            for node in cluster.nodes:
                if node is not left:
                    node.kill()
            done = self.ctl(cluster, "--timeout", "8000", "get", "k", nodes=[left], code=NO_ANSWER)
            self.assertIn("CLUSTERDOWN", done.stderr)
            # Also who waits less than the node does hears the reason.
            done = self.ctl(cluster, "--timeout", "800", "get", "k", nodes=[left], code=NO_ANSWER)
            self.assertIn("there is no leader", done.stderr)

    def test_any_live_node_is_enough(self):
        with Cluster() as cluster:
            self.ctl(cluster, "set", "k", "v")
            cluster.leader().kill()
            self.assertEqual("v\n", self.ctl(cluster, "--timeout", "10000", "get", "k").stdout)
            self.ctl(cluster, "--timeout", "10000", "set", "k", "w")
            self.assertEqual("w\n", self.ctl(cluster, "get", "k", nodes=cluster.alive()[:1]).stdout)

    def test_write_of_unknown_outcome_is_called_so(self):
        with Cluster() as cluster:
            leader = cluster.leader()
            others = [node for node in cluster.nodes if node is not leader]
            for node in others:
                node.pause()
            # Taken by the leader, never committed while the others sleep.
            self.ctl(cluster, "--timeout", "1200", "set", "k", "v", nodes=[leader], code=UNKNOWN)
            for node in others:
                node.resume()
            cluster.leader()

    def test_disk_compact_and_check(self):
        with Cluster(segment_size="64kb", max_value="16kb", retention="64kb", compress_above="0") as cluster:
            with cluster.nodes[0].client(30) as client:
                for _ in range(6):
                    client.pipeline([("SET", f"key:{n}", os.urandom(4000)) for n in range(60)])
                client.pipeline([("DEL", f"key:{n}") for n in range(30)])
            cluster.wait_converged()
            lines = self.ctl(cluster, "-o", "json", "disk").stdout.splitlines()
            nodes = {node["node"]: node for node in map(json.loads, lines)}
            self.assertEqual(["node1", "node2", "node3"], sorted(nodes))
            for node in nodes.values():
                self.assertGreater(node["disk_bytes"], 30 * 4000)
                self.assertGreater(node["free_bytes"], 0)
                self.assertGreater(float(node["write_amplification"]), 0.5)
                self.assertGreater(len(node["files"]), 2)
                for file in node["files"]:
                    self.assertIn(file["kind"], ("segment", "table"))
                    self.assertLessEqual(file["live"], file["used"])
            one = self.ctl(cluster, "disk", "node2").stdout
            self.assertTrue(one.startswith("node2\n"), one)
            self.assertNotIn("node1", one)
            for word in ("segment", "together", "free", "window", "for each byte"):
                self.assertIn(word, one)
            self.ctl(cluster, "disk", "node9", code=REFUSED)
            done = self.json(cluster, "compact", "node3")
            self.assertEqual("node3", done["node"])
            after = json.loads(self.ctl(cluster, "-o", "json", "disk", "node3").stdout)
            self.assertEqual(0, after["forced"])
            self.assertLessEqual(after["garbage"], nodes["node3"]["garbage"])
            self.assertEqual(3, len(self.ctl(cluster, "compact").stdout.splitlines()))
            check = self.json(cluster, "check")
            self.assertEqual("equal", check["result"])
            self.assertEqual([("equal", "right")] * 3, [(node["result"], node["recount"]) for node in check["nodes"]])
            self.assertEqual(1, len({node["state_hash"] for node in check["nodes"]}))
            self.assertIn("RECOUNT", self.ctl(cluster, "check").stdout)
            # One node down: the others still answer, and the result says that something is missing.
            cluster.followers()[0].kill()
            self.ctl(cluster, "compact", code=NO_ANSWER, timeout=60)
            check = self.ctl(cluster, "-o", "json", "check", code=NO_ANSWER, timeout=60)
            self.assertEqual("incomplete", json.loads(check.stdout)["result"])

    def test_dump_of_a_whole_directory(self):
        with Cluster(count=1, segment_size="64kb", max_value="16kb", retention="64kb", compress_above="0") as cluster:
            node = cluster.nodes[0]
            with node.client(30) as client:
                for round_number in range(8):
                    for n in range(15):  # both in each file
                        client.pipeline([("SET", f"key:{n}:{i}", os.urandom(2000)) for i in range(2)] +
                                        [("SET", f"kept:{round_number}:{n}:{i}", os.urandom(2000)) for i in range(2)])
                client.pipeline([("DEL", "key:1:1"), ("PEXPIRE", "key:2:1", 1_000_000), ("SET", "caf\u00e9 \n", "x")])
            self.ctl(cluster, "compact")
            node.terminate()
            kinds = set()
            for folder, _, names in os.walk(node.data):
                for name in names:
                    path = os.path.join(folder, name)
                    done = self.ctl(cluster, "-o", "json", "dump", path, "--values")
                    lines = [json.loads(line) for line in done.stdout.splitlines()]
                    kinds.update(line["kind"] for line in lines)
                    self.assertTrue(all(line["file"] == path for line in lines))
                    self.ctl(cluster, "dump", path)
            for kind in ("segment", "table", "group", "command", "put", "delete", "expire-at", "member", "hint",
                         "chunk", "manifest", "vote", "expected", "identity", "end"):
                self.assertIn(kind, kinds)
            segments = sorted(name for name in os.listdir(os.path.join(node.data, "shard-0000")) if name.endswith(".log"))
            path = os.path.join(node.data, "shard-0000", segments[0])
            with open(path, "r+b") as file:
                file.seek(5000)
                byte = file.read(1)
                file.seek(5000)
                file.write(bytes([byte[0] ^ 1]))
            done = self.ctl(cluster, "dump", path, code=REFUSED)
            self.assertIn("DAMAGED", done.stdout)
            self.ctl(cluster, "dump", path + ".nothing", code=REFUSED)

    def test_transactions(self):
        text = "# comment\n\nif\n  absent k\nTHEN\n  set k 'hello world'\n  mget k none\n  incr k\nelse\n  get k\nend\n\n# comment\n"
        with Cluster() as cluster:
            done = self.ctl(cluster, "txn", stdin=text).stdout.splitlines()
            self.assertEqual(["succeeded", "OK", "hello world (nil)"], done[:3])
            self.assertIn("not an integer", done[3])
            done = self.ctl(cluster, "txn", stdin=text, code=REFUSED).stdout.splitlines()
            self.assertEqual(["a condition does not hold", "hello world"], done)
            revision = self.json(cluster, "get", "k")["revision"]
            text = f"if\nrevision k = {revision}\nvalue k < z\nthen\nset n 5\nincrby n 2\nkv.get k\n"
            done = self.json(cluster, "txn", stdin=text)
            self.assertTrue(done["succeeded"])
            self.assertEqual([{"value": "OK"}, {"integer": 7}], done["replies"][:2])
            self.assertEqual({"integer": revision}, done["replies"][2]["list"][1])
            for text, place in (("set k 1\n", "line 1, column 1: if, then or else"),
                                ("if\n\n value k == 1\n", "line 3, column 10: =, !=, < or >"),
                                ("if\nrevision k = x\n", "line 2, column 14: a revision"),
                                ("if\nexists\n", "line 2, column 1: exists and absent take"),
                                ("if\nvalue k =\n", "line 2, column 1: a key, one of"),
                                ("if\nkey k\n", "line 2, column 1: value, revision, exists"),
                                ("then\n set k 'x\n", "line 2, column 8: a quote"),
                                ("else\nthen\n", "line 2, column 1: sections are"),
                                ("then\nset k 1\nend\n\n  get k\n", "line 5, column 3: nothing may follow end"),
                                ("", "line 1, column 1: if, then or else")):
                self.assertIn(place, self.ctl(cluster, "txn", stdin=text, code=USAGE).stderr)
            self.ctl(cluster, "txn", stdin="then\nset k 2\nnosuch\n", code=REFUSED)
            self.assertEqual("hello world\n", self.ctl(cluster, "get", "k").stdout)

    def test_shell_reads_lines(self):
        with Cluster() as cluster:
            done = self.ctl(cluster, "shell", stdin="set a 'b c'\nget a\nincr n\nquit\n")
            self.assertIn("b c", done.stdout)
            self.assertIn("1", done.stdout.split())
            # A transaction ends with its own line, and the next one is a command again.
            done = self.ctl(cluster, "shell", stdin="txn\nthen\nset a c\nend\nget a\n")
            self.assertEqual(["succeeded", "OK", "c"], done.stdout.splitlines())

    def test_watch_from_the_oldest_change(self):
        with Cluster(segment_size="64kb", max_value="16kb", retention="64kb", compress_above="0") as cluster:
            self.ctl(cluster, "set", "first", "1")
            line = self.json(cluster, "watch", "--from", "0", "--limit", "1")
            self.assertEqual(("put", "first"), (line["event"], line["key"]))
            with cluster.nodes[0].client(30) as client:
                for _ in range(40):
                    client.pipeline([("SET", f"key:{n}", os.urandom(4000)) for n in range(20)])
                client.call("DEL", "first")
            self.ctl(cluster, "compact")
            nodes = [cluster.nodes[0]]
            self.assertIn("COMPACTED", self.ctl(cluster, "watch", "--from", "1", "--limit", "1", nodes=nodes,
                                                code=REFUSED).stderr)
            line = json.loads(self.ctl(cluster, "-o", "json", "watch", "--from", "0", "--limit", "1", nodes=nodes).stdout)
            self.assertNotEqual(("put", "first"), (line["event"], line["key"]))

    def test_status_right_after_a_write_shows_no_lag(self):
        with Cluster() as cluster:
            cluster.wait_converged()
            lags = []
            for n in range(8):
                self.ctl(cluster, "set", "k", str(n))
                lags.append([node["lag"] for node in self.json(cluster, "status")["nodes"]])
            # On a machine that is busy a heartbeat may come late, now and then.
            self.assertGreaterEqual(lags.count([0, 0, 0]), 5, lags)


if __name__ == "__main__":
    harness.main()
