#!/usr/bin/env python3
"""Bad input at the start: one clear line, the documented exit code, and nothing changed on disk."""

import ctypes
import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import time
import unittest

import data
import harness
from harness import EXIT_CONFIG, EXIT_DATA, SMALL, Cluster, Mount, Node, wait_until


def content(path):
    """Every file below, with mode and content; but for the lock, which holds nothing."""
    found = {}
    for folder, folders, names in os.walk(path):
        for name in folders + names:
            full = os.path.join(folder, name)
            if name == "LOCK":
                continue
            mode = os.lstat(full).st_mode
            digest = None
            if os.path.isfile(full):
                with open(full, "rb") as file:
                    digest = hashlib.sha256(file.read()).hexdigest()
            found[os.path.relpath(full, path)] = (mode, digest)
    return found


class Refused(unittest.TestCase):
    def setUp(self):
        self.directory = harness.work_directory()
        self.node = Node("node1", self.directory, {})

    def tearDown(self):
        if self.node.alive():
            self.node.kill()

    def run_node(self, arguments, environment=None, user=None):
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30 * harness.SLOW, check=False,
                              stdin=subprocess.DEVNULL, env=harness.clean_environment(environment), user=user)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return done.returncode, lines, done.stdout

    def refused(self, code, *words, more=None, arguments=None, environment=None, node=None):
        """kvnode must end with this code and one line that holds all the words."""
        node = node or self.node
        result, lines, output = self.run_node(arguments or node.command(more), environment)
        shown = "\n".join(lines)
        self.assertEqual(code, result, shown)
        grave = [line for line in lines if " WARN " not in line and "warn" not in line.lower()[:40]]
        self.assertEqual(1, len(grave), shown)
        self.assertLess(len(grave[0]), 500)
        for word in words:
            self.assertIn(word.lower(), grave[0].lower())
        self.assertEqual("", output)
        return grave[0]

    # ---- options --------------------------------------------------------------------------------------

    def test_bad_options(self):
        binary = os.path.join(harness.BIN, "kvnode")
        cases = [
            (["--no-such-option", "1"], ("no-such-option",)),
            (["--elction-timeout", "1000"], ("elction-timeout", "election-timeout")),
            (["--client"], ("client", "needs a value")),
            (["--elction-timeout"], ("unknown", "elction-timeout", "election-timeout")),
            (["--client", "nowhere"], ("client",)),
            (["--client", "127.0.0.1:99999"], ("client",)),
            (["--client", "127.0.0.1:12x"], ("client",)),
            (["--peer", "off"], ("peer",)),
            (["--max-value", "12parsecs"], ("max-value",)),
            (["--max-value", "65mb"], ("max-value", "64mb")),
            (["--reads", "sometimes"], ("reads", "quorum", "local")),
            (["--log-level", "loud"], ("log-level", "debug")),
            (["--election-timeout", "-5"], ("election-timeout",)),
            (["--election-timeout", "100", "--heartbeat", "90"], ("election-timeout", "heartbeat")),
            (["--max-connections", "0"], ("max-connections",)),
            (["--name", ""], ("name",)),
            (["--name", "a/b"], ("name",)),
            (["--cluster", "node1"], ("cluster",)),
            (["--cluster", "a=127.0.0.1:1,a=127.0.0.1:2"], ("cluster",)),
            (["--config", "/nonexistent/kvnode.conf"], ("/nonexistent/kvnode.conf",)),
            (["stray"], ("stray",)),
        ]
        for arguments, words in cases:
            with self.subTest(arguments=arguments):
                self.refused(EXIT_CONFIG, *words, arguments=[binary, "--data", self.node.data, *arguments])
                self.assertFalse(os.path.exists(self.node.data), "something was changed on disk")

    def test_bad_line_in_file_is_named(self):
        path = os.path.join(self.directory, "bad.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write(f"# fine\ndata = {self.node.data}\nmax-vlaue = 1mb\n")
        line = self.refused(EXIT_CONFIG, "max-vlaue", "max-value",
                            arguments=[os.path.join(harness.BIN, "kvnode"), "--config", path])
        self.assertIn("3", line)
        self.assertFalse(os.path.exists(self.node.data))

    def test_bad_environment_is_named(self):
        self.refused(EXIT_CONFIG, "reads", more={"reads": None}, environment={"KVNODE_READS": "often"})

    def test_flag_beats_environment_beats_file(self):
        path = os.path.join(self.directory, "good.conf")
        with open(path, "w", encoding="ascii") as file:
            file.write("park = 11\ndrain = 22\nheartbeat = 33\n")
        node = Node("node1", self.directory, {"config": path, "park": "13"},
                    environment={"KVNODE_PARK": "12", "KVNODE_DRAIN": "23"})
        self.node = node
        node.start().wait_serving()
        seen = {name: node.call("CONFIG", "GET", name)[1] for name in ("park", "drain", "heartbeat")}
        self.assertEqual({"park": b"13", "drain": b"23", "heartbeat": b"33"}, seen)

    def test_options_are_read_again(self):
        path = os.path.join(self.directory, "again.conf")

        def write(text):
            with open(path, "w", encoding="ascii") as file:
                file.write(text)

        def seen(name):
            return self.node.call("CONFIG", "GET", name)[1]

        write("park = 11\nscrub-rate = 1mb\nheartbeat = 33\n")
        self.node = Node("node1", self.directory, {"config": path}).start()
        self.node.wait_serving()
        self.assertEqual("OK", self.node.call("CONFIG", "SET", "scrub-rate", "2mb", "drain", "5"))
        write("park = 12\nscrub-rate = 1mb\nheartbeat = 44\n")
        self.node.process.send_signal(signal.SIGHUP)
        wait_until("the options are read again", lambda: seen("park") == b"12")
        self.assertEqual([b"1mb", b"1000", b"33"], [seen(name) for name in ("scrub-rate", "drain", "heartbeat")])
        write("park = much\nscrub-rate = 3mb\n")
        self.node.process.send_signal(signal.SIGHUP)
        wait_until("the log tells", lambda: "options not read again" in self.node.log())
        self.assertEqual([b"12", b"1mb"], [seen(name) for name in ("park", "scrub-rate")])

    def test_a_limit_of_open_files_bounds_connections(self):
        node = Node("node1", self.directory, {})
        node.prefix = ["prlimit", "--nofile=400:400"]
        self.node = node.start()
        node.wait_serving()
        most = int(node.call("CONFIG", "GET", "maxclients")[1])
        self.assertLess(most, 400)
        self.assertEqual(b"10000", node.call("CONFIG", "GET", "max-connections")[1])
        with self.assertRaisesRegex(harness.ReplyError, f"take {most} connections"):
            node.call("CONFIG", "SET", "maxclients", "10001")

    def test_help_and_version(self):
        for program in ("kvnode", "kvctl"):
            for option in ("--help", "--version"):
                code, lines, output = self.run_node([os.path.join(harness.BIN, program), option])
                self.assertEqual((0, []), (code, lines))
                self.assertTrue(output.strip())
        code, _, output = self.run_node([os.path.join(harness.BIN, "kvnode"), "--help"])
        for option in ("election-timeout", "retention", "cluster-token", "max-inflight"):
            self.assertIn(option, output)

    def test_name_that_is_no_member(self):
        self.refused(EXIT_CONFIG, "node1", "cluster", more={"cluster": "a=127.0.0.1:1,b=127.0.0.1:2"})

    # ---- ports ----------------------------------------------------------------------------------------

    def test_port_in_use(self):
        for option in ("client", "peer", "http", "cluster-client"):
            with self.subTest(option=option), socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                before = content(self.directory)
                self.refused(EXIT_CONFIG, str(port), "in use", more={option: f"127.0.0.1:{port}"})
                self.assertEqual(before, content(self.directory), "something was changed on disk")

    def test_address_of_another_machine(self):
        self.refused(EXIT_CONFIG, "192.0.2.1", more={"client": "192.0.2.1:7000"})

    # ---- data directory -------------------------------------------------------------------------------

    def test_directory_in_use(self):
        self.node.start().wait_serving()
        other = Node("node1", self.directory, {}, data=self.node.data)
        self.refused(EXIT_DATA, self.node.data, "in use", node=other)
        self.assertEqual("OK", self.node.call("SET", "still", "here"))

    def test_directory_of_something_else(self):
        os.makedirs(self.node.data, mode=0o700)
        with open(os.path.join(self.node.data, "letter.txt"), "w", encoding="ascii") as file:
            file.write("dear all\n")
        before = content(self.node.data)
        self.refused(EXIT_DATA, self.node.data)
        self.assertEqual(before, content(self.node.data))
        self.assertEqual(["letter.txt"], os.listdir(self.node.data))

    def test_directory_is_a_file(self):
        with open(self.node.data, "w", encoding="ascii") as file:
            file.write("x")
        code, lines, _ = self.run_node(self.node.command())
        self.assertIn(code, (EXIT_CONFIG, EXIT_DATA))
        self.assertEqual(1, len(lines), lines)

    def test_directory_of_another_node(self):
        self.stopped_node()
        before = content(self.node.data)
        self.refused(EXIT_DATA, "node1", "node2", more={"name": "node2"})
        self.assertEqual(before, content(self.node.data))

    def test_directory_open_to_others(self):
        self.stopped_node()
        os.chmod(self.node.data, 0o777)
        before = content(self.node.data)
        self.refused(EXIT_DATA, "chmod")
        self.assertEqual(before, content(self.node.data))

    def test_directory_of_another_user(self):
        if not harness.is_root():
            raise unittest.SkipTest("needs root")
        self.stopped_node()
        for folder, folders, names in os.walk(self.node.data):
            for name in [folder] + [os.path.join(folder, name) for name in folders + names]:
                os.chown(name, 12345, 12345)
        before = content(self.node.data)
        self.refused(EXIT_DATA, "user")
        self.assertEqual(before, content(self.node.data))

    def stopped_node(self, options=None, count=0):
        self.node.options.update({key.replace("_", "-"): value for key, value in (options or {}).items()})
        self.node.start().wait_serving()
        self.node.call("SET", "kept", "value")
        if count:
            data.fill(self.node, "fill", count, 4000)
        self.assertEqual(0, self.node.terminate())

    def change(self, name, offset, change):
        path = os.path.join(self.node.data, name)
        with open(path, "r+b") as file:
            file.seek(offset, os.SEEK_SET if offset >= 0 else os.SEEK_END)
            at = file.tell()
            old = file.read(1)
            file.seek(at)
            file.write(bytes([old[0] ^ change]))

    def test_newer_format(self):
        self.stopped_node()
        path = os.path.join(self.node.data, "identity")
        with open(path, "rb") as file:
            image = bytearray(file.read())
        self.assertEqual(3, struct.unpack_from("<I", image, 8)[0])
        struct.pack_into("<I", image, 8, 99)
        hash_of = ctypes.CDLL("libxxhash.so.0").XXH3_64bits
        hash_of.restype = ctypes.c_uint64
        hash_of.argtypes = (ctypes.c_char_p, ctypes.c_size_t)
        struct.pack_into("<Q", image, len(image) - 8, hash_of(bytes(image[:-8]), len(image) - 8))
        with open(path, "wb") as file:
            file.write(image)
        before = content(self.node.data)
        self.refused(EXIT_DATA, "identity", "newer")
        self.assertEqual(before, content(self.node.data))

    def judged(self, *words):
        """A node with something wrong on its disk refuses and changes nothing, or it serves and says which values it
        cannot read, or it was of no importance."""
        before = content(self.node.data)
        self.node.start()
        wait_until("it ends or serves", lambda: not self.node.alive() or isinstance(self.node.call("EXISTS", "x"), int))
        if self.node.alive():
            verdict = "named" if self.unreadable() else "harmless"
            self.assertEqual(0, self.node.terminate())
            return verdict
        self.refused(EXIT_DATA, *words)
        self.assertEqual(before, content(self.node.data), "something was changed on disk")
        return "refused"

    def unreadable(self):
        """How many values are answered with an error; the others must be right."""
        self.assertEqual(b"value", self.node.call("GET", "kept"))
        with self.node.client(30) as client:
            replies = client.pipeline([("GET", data.key("fill", number)) for number in range(200)])
        errors = 0
        for number, reply in enumerate(replies):
            if isinstance(reply, harness.ReplyError):
                self.assertIn("damaged", str(reply))
                errors += 1
            else:
                self.assertEqual(data.value("fill", number, 4000), reply)
        if errors:
            self.assertIn("damaged", self.node.status()["health"])
            self.assertIn("damaged", self.node.log())
        return errors

    def everything_is_there(self):
        self.assertEqual(b"value", self.node.call("GET", "kept"))
        data.verify(self.node, "fill", 200, 4000)

    def damage(self, name, offset, *words):
        """One bit of a stopped node's file."""
        with self.subTest(file=name, offset=offset):
            shutil.copytree(self.node.data, self.node.data + ".good")
            self.change(name, offset, 0x10)
            try:
                return self.judged(*(words or (os.path.basename(name),)))
            finally:
                if self.node.alive():
                    self.node.kill()
                shutil.rmtree(self.node.data)
                os.rename(self.node.data + ".good", self.node.data)
        return "failed"

    def test_damage_is_refused_or_named_and_nothing_is_served_wrong(self):
        self.stopped_node({**SMALL, "compress_above": "0"}, count=200)
        shard = os.path.join(self.node.data, "shard-0000")
        logs = sorted(name for name in os.listdir(shard) if name.endswith(".log"))
        self.assertGreater(len(logs), 2, "there must be sealed segments")
        self.assertEqual("refused", self.damage("identity", 20, "identity"))
        self.assertEqual("refused", self.damage("shard-0000/MANIFEST", 40, "manifest"))
        # In sealed files, and in the one that is being written: what was marked durable is never cut.
        verdicts = {name: [self.damage(f"shard-0000/{name}", offset)
                           for offset in (5, 4200, 6000, 9000, 50_000, 100_000)
                           if offset < os.path.getsize(os.path.join(shard, name))]
                    for name in (logs[0], logs[1], logs[-1])}
        # Between the groups is padding, where a bit means nothing; not everywhere, though.
        self.assertIn("refused", verdicts[logs[-1]])
        self.assertIn("named", verdicts[logs[0]] + verdicts[logs[1]])
        for of_file in verdicts.values():
            self.assertLess(of_file.count("harmless"), len(of_file), verdicts)
        self.node.start().wait_serving()
        self.everything_is_there()

    def test_both_copies_of_the_vote_are_damaged(self):
        self.stopped_node(SMALL, count=200)
        path = os.path.join(self.node.data, "shard-0000", "vote")
        with open(path, "rb") as file:
            image = file.read()
        half = len(image) // 2
        # One copy is enough ...
        with open(path, "wb") as file:
            file.write(bytes(64) + image[64:])
        self.node.start().wait_serving()
        data.verify(self.node, "fill", 200, 4000)
        self.assertEqual(0, self.node.terminate())
        # ... without any, nobody knows what this node promised.
        with open(path, "rb") as file:
            image = bytearray(file.read())
        for begin in (0, half):
            image[begin:begin + 64] = bytes(byte ^ 0x55 for byte in image[begin:begin + 64])
        with open(path, "wb") as file:
            file.write(image)
        before = content(self.node.data)
        self.refused(EXIT_DATA, "vote")
        self.assertEqual(before, content(self.node.data))

    def test_missing_files(self):
        self.stopped_node({**SMALL, "compress_above": "0"}, count=200)
        shard = os.path.join(self.node.data, "shard-0000")
        logs = sorted(name for name in os.listdir(shard) if name.endswith(".log"))
        for name in ("identity", "shard-0000/MANIFEST", "shard-0000/vote", f"shard-0000/{logs[0]}",
                     f"shard-0000/{logs[1]}"):
            with self.subTest(file=name):
                shutil.copytree(self.node.data, self.node.data + ".good")
                os.unlink(os.path.join(self.node.data, name))
                try:
                    verdict = self.judged()
                finally:
                    self.node.kill()
                    shutil.rmtree(self.node.data)
                    os.rename(self.node.data + ".good", self.node.data)
                if name.endswith(".log"):
                    self.assertEqual("named", verdict)  # its hint says what was in it
                elif name != "shard-0000/MANIFEST":
                    self.assertEqual("refused", verdict)
        self.node.start().wait_serving()
        self.everything_is_there()

    # ---- disks ----------------------------------------------------------------------------------------

    def test_read_only_disk(self):
        with Mount(os.path.join(self.directory, "mount"), "ext4", 256 << 20) as mount:
            self.node.data = os.path.join(mount.path, "data")
            self.stopped_node()
            self.assertTrue(harness.run_quiet("mount", "-o", "remount,ro", mount.path))
            before = content(self.node.data)
            self.refused(EXIT_DATA, "read-only")
            self.assertEqual(before, content(self.node.data))
            self.node.data = os.path.join(mount.path, "blank")
            self.refused(EXIT_DATA, "read-only")

    def test_full_disk_at_the_first_start(self):
        with Mount(os.path.join(self.directory, "mount"), "tmpfs", 1 << 20) as mount:
            with open(os.path.join(mount.path, "balloon"), "wb") as balloon:
                try:
                    balloon.write(bytes(2 << 20))
                    balloon.flush()
                except OSError:
                    pass
            self.node.data = os.path.join(mount.path, "data")
            code, lines, _ = self.run_node(self.node.command())
            self.assertEqual(EXIT_DATA, code, lines)
            self.assertIn("space", lines[-1])
            os.unlink(os.path.join(mount.path, "balloon"))
            self.assertTrue(harness.run_quiet("mount", "-o", "remount,size=300m", mount.path))
            # What the refused start left behind does not stand in the way of the next.
            self.node.start().wait_serving()
            self.node.call("SET", "a", "b")

    # ---- clusters -------------------------------------------------------------------------------------

    def test_wiped_member_is_not_taken_for_the_old_one(self):
        with Cluster() as cluster:
            self.assertEqual("OK", cluster.nodes[0].call("SET", "a", "b"))
            wiped = cluster.followers()[0]
            others = [node for node in cluster.nodes if node is not wiped]
            wiped.kill()
            shutil.rmtree(wiped.data)
            wiped.start()
            # It forgot what it promised: the others must not count with it.
            time.sleep(2 * harness.SLOW)
            for node in others:
                self.assertEqual(b"b", node.call("GET", "a"))
            others[0].kill()
            with self.assertRaises((harness.ReplyError, harness.Lost)):
                others[1].call("SET", "a", "c", timeout=8)


if __name__ == "__main__":
    harness.main()
