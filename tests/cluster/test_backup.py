#!/usr/bin/env python3
"""Backups: saved under load, verified, restored into new clusters; and F50: recovery by force of what one node has."""

import json
import os
import shutil
import subprocess
import threading
import time
import unittest

import data
import harness
from harness import SMALL, Cluster, Lost, Node, ReplyError, Unsent, clean_environment, spawn, wait_until
from history import Load

SIZE = 6000
# Nothing is packed: the values here repeat themselves, and there have to be several files.
SMALL = {**SMALL, "compress_above": "0"}
WORDS = "writes that {} does not have are lost"


def contents(node):
    """Every key with its value, its revision and whether it expires, as this node serves them."""
    found = {}
    start = b""
    with node.client(30) as client:
        while True:
            page = client.call("KV.RANGE", start, "", "LIMIT", 200)
            for key, value, revision in page:
                found[key] = (value, revision)
            if len(page) < 200:
                break
            start = page[-1][0] + b"\0"
        expiries = client.pipeline([("PTTL", key) for key in found])
    return {key: (*found[key], ttl >= 0) for key, ttl in zip(found, expiries)}


def fill(cluster, count):
    node = cluster.nodes[0]
    data.fill(node, "fill", count, SIZE)
    with node.client(30) as client:
        client.pipeline([("SET", f"short:{n}", "x" * n) for n in range(60)])
        client.pipeline([("SET", f"brief:{n}", "y" * 100, "PX", 100_000_000) for n in range(50)])
        client.pipeline([("DEL", f"fill:{n:08d}") for n in range(0, count, 7)])
        client.pipeline([("PEXPIRE", f"short:{n}", 90_000_000) for n in range(0, 60, 3)])


def kvctl(*arguments, stdin=None, timeout=60):
    return subprocess.run([os.path.join(harness.BIN, "kvctl"), *arguments], input=stdin, capture_output=True, text=True,
                          timeout=timeout * harness.SLOW, env=clean_environment(), check=False)


def recover(data_folder, *arguments, words=""):
    return subprocess.run([os.path.join(harness.BIN, "kvnode"), "recover", "--data", data_folder, *arguments],
                          input=words, capture_output=True, text=True, timeout=60 * harness.SLOW,
                          env=clean_environment(), check=False)


class NewCluster(Cluster):
    """Three nodes whose directories come from a backup; not started."""

    def __init__(self, path, test, count=3, **options):
        super().__init__(count, start=False, **options)
        members = ",".join(f"{node.name}=127.0.0.1:{node.peer_port}" for node in self.nodes)
        for node in self.nodes:
            arguments = ["backup", "restore", path, "--data", node.data, "--name", node.name]
            if count > 1:
                arguments += ["--cluster", members]
            else:
                arguments += ["--peer", f"127.0.0.1:{node.peer_port}"]
            done = kvctl(*arguments)
            test.assertEqual((done.returncode, done.stderr), (0, ""), done)


class Backup(unittest.TestCase):
    def setUp(self):
        self.folder = harness.work_directory("-backups")
        self.addCleanup(shutil.rmtree, self.folder, True)
        self.path = os.path.join(self.folder, "backup")

    def save(self, cluster, *more):
        done = cluster.kvctl("-o", "json", "backup", "save", self.path, *more, timeout=60)
        self.assertEqual(done.returncode, 0, done)
        return json.loads(done.stdout)

    def verify(self, code=0):
        done = kvctl("-o", "json", "backup", "verify", self.path)
        self.assertEqual(done.returncode, code, done)
        return json.loads(done.stdout) if code == 0 else json.loads(done.stderr)["error"]

    def test_saved_and_restored_into_three_new_nodes(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 300)
            before = contents(cluster.nodes[0])
            saved = self.save(cluster)
            self.assertNotEqual(saved["node"], cluster.leader().name, "a follower is asked first")
            facts = self.verify()
            self.assertEqual(facts["keys"], len(before))
            self.assertEqual((facts["index"], facts["cluster"]), (saved["index"], saved["cluster"]))
            self.assertFalse(os.path.exists(self.path + ".partial"))
            again = cluster.kvctl("backup", "save", self.path)
            self.assertEqual(again.returncode, 1, "a backup that is there is not written over")
            # The old cluster goes on beside the new one, which it does not know.
            with NewCluster(self.path, self, **SMALL) as new:
                new.start()
                for node in new.nodes:
                    self.assertEqual(contents(node), before)
                new.nodes[0].call("SET", "fill:00000001", "new")
                _, revision, _ = new.nodes[1].call("KV.GET", "fill:00000001")
                self.assertGreater(revision, max(entry[1] for entry in before.values()))
                self.assertGreater(revision, saved["revision"])
                # More than a segment of writes, then each node alone in turn: the new cluster seals and restarts.
                data.fill(new.nodes[0], "more", 100, SIZE)
                for node in new.nodes:
                    node.terminate()
                    node.start().wait_serving()
                new.wait_converged()
                after = contents(new.nodes[2])
                for node in new.nodes[:2]:
                    self.assertEqual(contents(node), after)
            self.assertEqual(contents(cluster.nodes[2]), before)

    def test_the_old_clusters_nodes_are_refused_by_the_new_one(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 50)
            self.save(cluster)
            old = cluster.nodes[0]
            for node in cluster.nodes:
                node.terminate()
            # The same names, addresses and token: only the id of the cluster tells them apart.
            members = ",".join(f"{node.name}=127.0.0.1:{node.peer_port}" for node in cluster.nodes)
            for node in cluster.nodes[1:]:
                node.data += "-new"
                done = kvctl("backup", "restore", self.path, "--data", node.data, "--name", node.name, "--cluster", members)
                self.assertEqual(done.returncode, 0, done)
                node.start()
            for node in cluster.nodes[1:]:
                node.wait_serving()
            old.start()
            wait_until("the old node is refused", lambda: "another cluster" in old.log() or
                       any("another cluster" in node.log() for node in cluster.nodes[1:]), 15)
            with self.assertRaises((ReplyError, Lost, Unsent)):
                old.call("GET", "fill:00000001", timeout=4)
            for node in cluster.nodes[1:]:
                self.assertEqual(node.call("GET", "fill:00000001"), data.value("fill", 1, SIZE))

    def test_saved_under_load_has_everything_that_was_acknowledged_before(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 200)
            with Load(cluster.nodes, value_size=500) as load:
                load.wait_ok(200)
                for round_number in range(3):
                    cluster.nodes[1].call("SET", "last", str(round_number))
                    cluster.nodes[1].call("SET", f"round:{round_number}", "acknowledged")
                    self.path = os.path.join(self.folder, f"backup{round_number}")
                    self.save(cluster)
                    load.wait_ok(100)
            self.verify()
            with NewCluster(self.path, self, count=1, **SMALL) as new:
                new.start()
                self.assertEqual(new.nodes[0].call("GET", "last"), b"2")
                for round_number in range(3):
                    self.assertEqual(new.nodes[0].call("GET", f"round:{round_number}"), b"acknowledged")
                data.verify(new.nodes[0], "fill", 1, SIZE, start=1)

    def test_saved_while_compaction_replaces_the_files(self):
        options = {**SMALL, "segment_size": "64kb", "max_value": "16kb", "retention": "64kb"}
        with Cluster(**options) as cluster:
            data.fill(cluster.nodes[0], "kept", 100, SIZE)
            stop = threading.Event()

            def overwrite():
                with cluster.nodes[0].client(30) as client:
                    while not stop.is_set():
                        client.pipeline([("SET", f"often:{n}", os.urandom(3000)) for n in range(40)])
                        client.pipeline([("DEL", f"often:{n}") for n in range(0, 40, 3)])
            writer = threading.Thread(target=overwrite)
            writer.start()
            try:
                wait_until("compaction has begun", lambda: any(
                    int(line.split()[-1]) > 3 for line in cluster.nodes[0].http("/metrics")[1].decode().splitlines()
                    if line.startswith("flashkv_compaction_jobs_total ")), 30)
                for round_number in range(6):
                    self.path = os.path.join(self.folder, f"backup{round_number}")
                    cluster.nodes[1].call("SET", "round", str(round_number))
                    self.save(cluster)
                    self.verify()
            finally:
                stop.set()
                writer.join()
            with NewCluster(self.path, self, count=1, **options) as new:
                new.start()
                self.assertEqual(new.nodes[0].call("GET", "round"), b"5")
                data.verify(new.nodes[0], "kept", 100, SIZE)
                before = contents(new.nodes[0])
                done = new.kvctl("compact", timeout=60)
                self.assertEqual(done.returncode, 0, done)
                new.nodes[0].terminate()
                new.nodes[0].start().wait_serving()
                self.assertEqual(contents(new.nodes[0]), before)

    def test_any_node_can_be_asked_and_an_unknown_one_is_refused(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 50)
            for node in cluster.nodes:
                self.path = os.path.join(self.folder, node.name)
                self.assertEqual(self.save(cluster, "--node", node.name)["node"], node.name)
                self.verify()
            done = cluster.kvctl("backup", "save", os.path.join(self.folder, "x"), "--node", "nobody")
            self.assertEqual(done.returncode, 1, done)

    def test_flipped_bytes_and_cuts_are_found_and_not_restored(self):
        with Cluster(count=1, **SMALL) as cluster:
            fill(cluster, 100)
            self.save(cluster)
        with open(self.path, "rb") as file:
            good = file.read()
        places = [0, 8, 20, 63, 64, 70, 90, 96, 5000, len(good) // 2, len(good) - 64, len(good) - 1]
        for place in places:
            with open(self.path, "wb") as file:
                file.write(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1:])
            self.assertEqual(self.verify(1)["code"], "damaged", place)
        for size in (0, 63, 64, 127, 4096, len(good) - 1):
            with open(self.path, "wb") as file:
                file.write(good[:size])
            self.assertEqual(self.verify(1)["code"], "damaged", size)
            target = os.path.join(self.folder, f"cut{size}")
            done = kvctl("backup", "restore", self.path, "--data", target, "--name", "a")
            self.assertEqual(done.returncode, 1, done)
            self.assertFalse(os.path.exists(os.path.join(target, "identity")))
        # Data that only the whole verification sees: restoring does not take it either, and can be run again.
        with open(self.path, "wb") as file:
            file.write(good[:9000] + bytes([good[9000] ^ 1]) + good[9001:])
        target = os.path.join(self.folder, "target")
        done = kvctl("backup", "restore", self.path, "--data", target, "--name", "a")
        self.assertEqual(done.returncode, 1, done)
        self.assertIn("damaged", done.stderr)
        node = Node("a", os.path.join(self.folder, "a"), {}, data=target)
        node.start()
        self.assertEqual(node.wait_exit(), harness.EXIT_DATA)
        self.assertIn("restore again", node.log())
        with open(self.path, "wb") as file:
            file.write(good)
        done = kvctl("backup", "restore", self.path, "--data", target, "--name", "a", "--peer",
                     f"127.0.0.1:{node.peer_port}")
        self.assertEqual(done.returncode, 0, done)
        node.start().wait_serving()
        self.assertEqual(node.call("GET", "fill:00000001"), data.value("fill", 1, SIZE))
        node.terminate()
        done = kvctl("backup", "restore", self.path, "--data", target, "--name", "a")
        self.assertEqual((done.returncode, "not empty" in done.stderr), (1, True), done)

    def test_kill_9_of_save_and_restore_leaves_nothing_that_passes_for_whole(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 400)
            before = contents(cluster.nodes[0])
            addresses = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
            log = os.path.join(self.folder, "log")
            program = os.path.join(harness.BIN, "kvctl")
            killed = 0
            for wait in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05):
                process = spawn([program, "--nodes", addresses, "backup", "save", self.path], log, clean_environment())
                time.sleep(wait)
                process.kill()
                process.wait()
                if os.path.exists(self.path):
                    self.verify()
                    os.unlink(self.path)
                else:
                    killed += 1
            self.assertGreater(killed, 0)
            self.save(cluster)
        target = os.path.join(self.folder, "target")
        killed = 0
        for wait in (0.002, 0.005, 0.01, 0.02, 0.03, 0.05):
            process = spawn([program, "backup", "restore", self.path, "--data", target, "--name", "a"], log,
                            clean_environment())
            time.sleep(wait)
            process.kill()
            process.wait()
            if os.path.exists(os.path.join(target, "identity")):
                shutil.rmtree(target)  # it was complete
                continue
            killed += 1
            if os.path.exists(os.path.join(target, "RESTORING")):
                node = Node("a", os.path.join(self.folder, "a"), {}, data=target)
                node.start()
                self.assertEqual(node.wait_exit(), harness.EXIT_DATA)
        self.assertGreater(killed, 0)
        node = Node("a", os.path.join(self.folder, "a"), SMALL, data=target)
        node.options = {name.replace("_", "-"): value for name, value in SMALL.items()}
        done = kvctl("backup", "restore", self.path, "--data", target, "--name", "a", "--peer",
                     f"127.0.0.1:{node.peer_port}")
        self.assertEqual(done.returncode, 0, done)
        node.start().wait_serving()
        self.assertEqual(contents(node), before)
        node.terminate()

    def test_a_node_that_falls_while_it_is_saved_is_begun_anew_or_left(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 600)
            before = contents(cluster.nodes[0])
            follower = cluster.followers()[0]
            addresses = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
            program = os.path.join(harness.BIN, "kvctl")
            log = os.path.join(self.folder, "log")
            process = spawn([program, "--nodes", addresses, "backup", "save", self.path], log, clean_environment())
            wait_until("the save has begun", lambda: process.poll() is not None or
                       os.path.exists(self.path + ".partial"), 10, 0.001)
            for node in cluster.followers():
                if node is not follower:
                    continue
                node.kill()
                node.start()
            self.assertEqual(process.wait(60), 0, harness.Node.log_tail(follower))
            self.verify()
            for node in cluster.nodes:
                node.wait_serving()
            with NewCluster(self.path, self, count=1, **SMALL) as new:
                new.start()
                self.assertEqual(contents(new.nodes[0]), before)


class Recover(unittest.TestCase):
    def test_F50_two_of_three_are_lost_and_the_third_goes_on_alone(self):
        with Cluster(**SMALL) as cluster:
            fill(cluster, 200)
            cluster.wait_converged()
            before = contents(cluster.nodes[0])
            newest = max(entry[1] for entry in before.values())
            last, others = cluster.nodes[0], cluster.nodes[1:]
            for node in others:
                node.kill()
                shutil.rmtree(node.data)
            # Without a majority nothing is served, and nothing forms by itself, also after a restart.
            with self.assertRaises((ReplyError, Lost)):
                last.call("SET", "a", "b", timeout=4)
            last.terminate()
            last.start()
            with self.assertRaises((ReplyError, Lost, Unsent)):
                wait_until("it listens", lambda: last.call("PING") == "PONG", 10)
                last.call("GET", "short:1", timeout=4)
            self.refusals(last)
            last.terminate()
            done = recover(last.data, "--force", words=WORDS.format("node1") + "\n")
            self.assertEqual(done.returncode, 0, done)
            for word in ("node1", "3 members", "index", "revision", "May be lost"):
                self.assertIn(word, done.stdout)
            last.start().wait_serving()
            self.assertEqual({key: entry for key, entry in contents(last).items() if key != b"a"},
                             {key: entry for key, entry in before.items() if key != b"a"})
            last.call("SET", "short:1", "new")
            self.assertGreater(last.call("KV.GET", "short:1")[1], newest)
            # A restart, and a node of the old cluster that comes back: a stranger now.
            last.terminate()
            last.start().wait_serving()
            others[0].start()
            wait_until("the old node is refused", lambda: "another cluster" in others[0].log() or
                       "another cluster" in last.log(), 15)
            self.assertEqual(last.call("GET", "short:1"), b"new")

    def refusals(self, node):
        busy = recover(node.data, "--force", words=WORDS.format(node.name) + "\n")
        self.assertEqual((busy.returncode, "in use" in busy.stderr), (2, True), busy)
        node.terminate()

        def state():
            found = {}
            for folder, _, names in os.walk(node.data):
                for name in names:
                    with open(os.path.join(folder, name), "rb") as file:
                        found[os.path.join(folder, name)] = file.read()
            return found
        first = recover(node.data, "--force", words="")  # settles the log, as any start does
        self.assertEqual(first.returncode, 1, first)
        before = state()
        for words in ("", "yes\n", WORDS.format("node2") + "\n", WORDS.format(node.name) + " \n",
                      "x" * 5000 + "\n"):
            done = recover(node.data, "--force", words=words)
            self.assertEqual(done.returncode, 1, done)
            self.assertIn("nothing was changed", done.stderr)
        self.assertEqual(recover(node.data, words=WORDS.format(node.name) + "\n").returncode, 1)
        self.assertEqual(recover(node.data, "--yes").returncode, 1)
        self.assertEqual(recover(node.data + "-nowhere", "--force").returncode, 1)
        self.assertFalse(os.path.exists(node.data + "-nowhere"))
        after = state()
        self.assertEqual(sorted(before), sorted(after))
        for name, content in before.items():
            self.assertTrue(after[name] == content, f"{name} was changed")
        node.start()

    def test_F50_a_recovered_node_is_saved_and_restored_into_three(self):
        folder = harness.work_directory("-backups")
        self.addCleanup(shutil.rmtree, folder, True)
        with Cluster(**SMALL) as cluster:
            fill(cluster, 100)
            cluster.wait_converged()
            before = contents(cluster.nodes[0])
            for node in cluster.nodes:
                node.terminate()
            last = cluster.nodes[2]
            done = recover(last.data, "--force", words=WORDS.format("node3") + "\n")
            self.assertEqual(done.returncode, 0, done)
            last.start().wait_serving()
            path = os.path.join(folder, "backup")
            done = cluster.kvctl("backup", "save", path, nodes=[last])
            self.assertEqual(done.returncode, 0, done)
            with NewCluster(path, self, **SMALL) as new:
                new.start()
                for node in new.nodes:
                    self.assertEqual(contents(node), before)


if __name__ == "__main__":
    harness.main()
