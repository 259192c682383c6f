#!/usr/bin/env python3
"""F05, F07, F10, F46, F47, F49, F50, F52: bytes that change behind a node's back. It must notice, recover what it can
from the others, without a word of anybody, and be equal to them in the end; what it cannot recover it refuses."""

import os
import shutil
import struct
import time
import unittest

import data
import faultio
import harness
from harness import EXIT_DATA, SMALL, Cluster, wait_until

COUNT = 400  # values of 8 KiB that cannot be packed: about 13 segments
SIZE = 8192
OPTIONS = {**SMALL, "scrub_rate": "100mb", "check_interval": 2000, "election_timeout": 500, "heartbeat": 100}


def shard(node, *names):
    return os.path.join(node.data, "shard-0000", *names)


def flip(path, offset, count=1):
    """Inverts `count` bytes."""
    with open(path, "r+b") as file:
        file.seek(offset)
        old = file.read(count)
        file.seek(offset)
        file.write(bytes(byte ^ 0x5A for byte in old))


def sealed(node, kind=".log"):
    """Paths of sealed files of this kind: those with a hint, oldest first."""
    names = sorted(os.listdir(shard(node)))
    return [shard(node, name) for name in names if name.endswith(kind) and name[:-4] + ".idx" in names]


def unsealed(node):
    """The newest segment with groups in it."""
    names = sorted(name for name in os.listdir(shard(node)) if name.endswith(".log"))
    for name in reversed(names):
        with open(shard(node, name), "rb") as file:
            file.seek(4096)
            if any(file.read(64)) and name[:-4] + ".idx" not in os.listdir(shard(node)):
                return shard(node, name)
    raise AssertionError("no unsealed segment")


def groups(path):
    """Offsets and used sizes of the groups of a segment, by the sizes in their headers."""
    found = []
    with open(path, "rb") as file:
        content = file.read()
    offset = 4096
    while offset + 64 <= len(content) and content[offset:offset + 4] == b"KVGR":
        used = struct.unpack_from("<I", content, offset + 4)[0]
        found.append((offset, used))
        offset += (used + 4095) // 4096 * 4096
    return found


def indexes(path, offset):
    """Count, first and last index of the group at `offset`."""
    with open(path, "rb") as file:
        file.seek(offset)
        header = file.read(64)
    return (struct.unpack_from("<I", header, 8)[0], *struct.unpack_from("<QQ", header, 16))


def inside(path, place=0):
    """An offset in the middle of a group with values in it: what is behind its used size is nobody's."""
    large = [(offset, used) for offset, used in groups(path) if used > SIZE]
    offset, used = large[place % len(large)]
    return offset + used // 2


def metric(node, name):
    _, body = node.http("/metrics")
    for line in body.decode().splitlines():
        if line.startswith(f"flashkv_{name} "):
            return int(line.split()[1])
    raise AssertionError(f"no metric {name}")


class Damage(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(**OPTIONS)
        self.cluster.__enter__()
        data.fill(self.cluster.leader(), "k", COUNT, SIZE)
        self.cluster.wait_converged()
        self.more = 0
        self.victim = self.cluster.followers()[0]

    def tearDown(self):
        failed = any(error for _, error in getattr(self._outcome, "errors", []) if error)
        failed = failed or any(error for _, error in getattr(getattr(self._outcome, "result", None), "failures", []))
        self.cluster.__exit__(AssertionError if failed else None, None, None)

    def stop(self, node):
        self.assertEqual(0, node.terminate())

    def push(self):
        """The log goes on: what was the newest sealed file is so no more."""
        data.fill(self.cluster.leader(), "more", 60, SIZE, start=self.more)
        self.more += 60

    def expect_quarantine(self, node, *words):
        """It starts, says so, recovers, and is as good as before."""
        node.start()
        node.wait_serving()
        wait_until("the quarantine is over", lambda: not os.path.exists(shard(node, "QUARANTINE")), 40)
        line = next(line for line in node.log().splitlines() if "QUARANTINE:" in line)
        for word in words:
            self.assertIn(word, line)
        self.assertIn("the quarantine is over", node.log())
        self.expect_equal()

    def expect_rebuilt(self, node, *words):
        """It starts, rebuilds what is damaged from the others' records, and has lost nothing."""
        node.start()
        node.wait_serving()
        line = next(line for line in node.log().splitlines() if "REPAIRING:" in line)
        for word in words:
            self.assertIn(word, line)
        self.assertIn("are rebuilt from the records of other members", node.log())
        self.assertNotIn("QUARANTINE", node.log())
        self.assertGreater(metric(node, "log_groups_repaired_total"), 0)
        self.assertFalse([name for name in os.listdir(shard(node)) if name.endswith(".damaged")])
        self.expect_equal()

    def expect_equal(self):
        """Every node has everything: each is made the only other one of a majority in turn."""
        self.cluster.wait_converged()
        self.check("equal")
        data.verify(self.victim, "k", COUNT, SIZE)
        local = {node: [node.status()[field] for field in ("keys", "applied")] for node in self.cluster.nodes}
        self.assertEqual(1, len({values[0] for values in local.values()}), local)

    def check(self, wanted):
        """KV.CHECK START until the round is over."""
        leader = self.cluster.leader()
        leader.call("KV.CHECK", "START")

        def over():
            reply = [item.decode() if isinstance(item, bytes) else item for item in leader.call("KV.CHECK")]
            fields = dict(zip(reply[::2], reply[1::2]))
            return fields["result"] if fields["result"] not in ("running", "incomplete") else None
        self.assertEqual(wanted, wait_until("a comparison", over, 20))

    # ---- what was acknowledged is gone ------------------------------------------------------------------

    def test_f07_manifest(self):
        self.stop(self.victim)
        flip(shard(self.victim, "MANIFEST"), 100)
        self.expect_quarantine(self.victim, "MANIFEST", "offset 0")
        self.assertFalse(os.listdir(shard(self.victim, "aside-1")))

    def test_f07_group_in_the_middle_of_the_newest_segment(self):
        self.stop(self.victim)
        path = unsealed(self.victim)
        with open(path, "rb") as file:
            before = file.read()
        flip(path, inside(path), 500)
        self.expect_rebuilt(self.victim, os.path.basename(path))
        with open(path, "rb") as file:
            self.assertEqual(before[:groups(path)[-1][0]], file.read()[:groups(path)[-1][0]])

    def test_f07_every_node_in_another_place_of_its_log(self):
        """Nobody could be voted for, and nothing is lost: they repair each other before anybody leads."""
        nodes = self.cluster.nodes
        spots = {}

        def choose():
            self.cluster.leader().call("SET", "small", str(time.time()))
            time.sleep(0.02)
            spots.clear()
            for place, node in enumerate(nodes):
                path = unsealed(node)
                full = [(offset, *indexes(path, offset)) for offset, _ in groups(path) if indexes(path, offset)[0]]
                if len(full) < 10:
                    return False
                spots[node] = (path, *full[-3 - 2 * place])
            taken = sorted(spot[3:] for spot in spots.values())
            return all(one[1] < other[0] for one, other in zip(taken, taken[1:]))
        wait_until("groups enough", choose, 20)
        last = self.cluster.leader().call("GET", "small")
        for node in nodes:
            self.stop(node)
        for path, offset, *_ in spots.values():
            flip(path, offset, 120)
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_serving()
        self.assertEqual(last, self.victim.call("GET", "small"))
        for node in nodes:
            self.assertIn("REPAIRING: ", node.log())
            self.assertIn("are rebuilt from the records of other members", node.log())
            self.assertNotIn("QUARANTINE", node.log())
            self.assertEqual(1, metric(node, "log_groups_repaired_total"))
            self.assertFalse([name for name in os.listdir(shard(node)) if name.endswith(".damaged")])
        self.expect_equal()

    def test_f07_a_log_that_waits_for_the_others_says_so(self):
        others = [node for node in self.cluster.nodes if node is not self.victim]
        for node in self.cluster.nodes:
            self.stop(node)
        path = unsealed(self.victim)
        flip(path, inside(path))
        self.victim.start()
        wait_until("it says so", lambda: metric(self.victim, "repairing") == 1, 20)
        status, body = self.victim.http("/readyz")
        self.assertEqual((503, True), (status, b"repairing" in body and os.path.basename(path).encode() in body))
        told = self.cluster.kvctl("status", nodes=[self.victim])
        self.assertIn("repairing", told.stdout + told.stderr)
        self.stop(self.victim)
        self.victim.start()
        for node in others:
            node.start()
        self.victim.wait_serving()
        self.assertEqual(0, metric(self.victim, "repairing"))
        self.assertIn("are rebuilt from the records of other members", self.victim.log())
        self.expect_equal()

    def test_f07_header_of_the_newest_segment_of_the_former_leader(self):
        leader = self.cluster.leader()
        self.victim = leader
        self.stop(leader)
        flip(unsealed(leader), 33)
        self.expect_quarantine(leader, "header")

    def test_f05_misdirected_block(self):
        self.stop(self.victim)
        path = unsealed(self.victim)
        found = groups(path)
        with open(path, "r+b") as file:
            file.seek(found[0][0])
            block = file.read(4096)
            file.seek(found[1][0])
            file.write(block)
        # Behind a mark nothing says what stood there; before one, it does.
        if len(found) > 2:
            self.expect_rebuilt(self.victim, os.path.basename(path))
        else:
            self.expect_quarantine(self.victim, os.path.basename(path))

    def test_f10_sealed_file_and_its_hint(self):
        self.stop(self.victim)
        path = sealed(self.victim)[0]
        flip(path, 4096 + 100)
        os.unlink(path[:-4] + ".idx")
        self.expect_quarantine(self.victim, os.path.basename(path))

    def test_f53_kill_while_it_recovers(self):
        self.stop(self.victim)
        flip(shard(self.victim, "MANIFEST"), 100)
        for delay in (0.05, 0.15, 0.3, 0.5):
            self.victim.start()
            time.sleep(delay)
            self.victim.kill()
        self.expect_quarantine(self.victim, "MANIFEST")

    def test_f07_again_in_the_middle_of_a_quarantine(self):
        """What was set aside the first time is removed as well, and a restart says what it goes on with."""
        others = [node for node in self.cluster.nodes if node is not self.victim]
        for node in self.cluster.nodes:
            self.stop(node)
        flip(shard(self.victim, "MANIFEST"), 100)
        for times in (1, 2):
            self.victim.start()
            wait_until("it answers", lambda: "quarantined" in self.victim.status()["health"], 20)
            self.assertEqual(times, self.victim.log().count("QUARANTINE: "))
            self.stop(self.victim)
            if times == 1:
                with open(shard(self.victim, "MANIFEST"), "wb") as file:
                    file.write(b"x" * 200)
        for node in others:
            node.start()
        self.expect_quarantine(self.victim, "MANIFEST")
        self.assertIn("QUARANTINE goes on: ", self.victim.log())
        aside = [name for name in os.listdir(shard(self.victim)) if name.startswith("aside-")]
        self.assertEqual([], [name for folder in aside for name in os.listdir(shard(self.victim, folder))])

    def test_status_tells_of_it(self):
        """Without the others nothing ends it: the node runs, does not serve, and says why."""
        others = [node for node in self.cluster.nodes if node is not self.victim]
        for node in self.cluster.nodes:
            self.stop(node)
        flip(shard(self.victim, "MANIFEST"), 100)
        self.victim.start()
        wait_until("it answers", lambda: "quarantined" in self.victim.status()["health"], 20)
        health = self.victim.status()["health"]
        self.assertIn("shard-0000/MANIFEST", health)
        self.assertIn("offset 0", health)
        status, body = self.victim.http("/readyz")
        self.assertEqual((503, True), (status, b"quarantined" in body))
        self.assertEqual(1, metric(self.victim, "quarantined"))
        text = self.cluster.kvctl("status").stdout
        self.assertIn("quarantined", text)
        for node in others:
            node.start()
        self.victim.wait_serving()
        wait_until("the quarantine is over", lambda: metric(self.victim, "quarantined") == 0, 40)
        self.expect_equal()

    # ---- sealed files -----------------------------------------------------------------------------------

    def expect_repair(self, node, cause):
        """Damage is found, repaired and gone; nobody was stopped for it."""
        before = metric(node, "damage_repaired_total")
        cause()
        wait_until("the damage is noticed", lambda: metric(node, "damage_found_total") > 0, 40)
        self.push()
        wait_until("the damage is repaired", lambda: metric(node, "damaged_ranges") == 0, 40)
        self.assertGreater(metric(node, "damage_repaired_total"), before)
        self.assertNotIn("QUARANTINE:", node.log())
        self.expect_equal()

    def test_f07_value_in_a_sealed_file_found_by_the_scrub(self):
        path = sealed(self.victim)[0]
        self.expect_repair(self.victim, lambda: flip(path, inside(path)))

    def test_f07_leader_gives_way_and_is_repaired(self):
        self.victim = self.cluster.leader()
        path = sealed(self.victim)[0]
        self.expect_repair(self.victim, lambda: flip(path, inside(path)))

    def test_f07_sealed_file_is_missing_at_the_start(self):
        self.stop(self.victim)
        os.unlink(sealed(self.victim)[0])
        self.victim.start().wait_serving()
        self.assertGreater(metric(self.victim, "damage_found_total"), 0)
        self.push()
        wait_until("the damage is repaired", lambda: metric(self.victim, "damaged_ranges") == 0, 40)
        self.expect_equal()

    def test_f07_sealed_file_and_its_hint_are_lost_while_it_runs(self):
        """Nothing says any more what was in it: the state of the others is taken, without a restart."""
        path = sealed(self.victim)[0]
        pid = self.victim.process.pid
        flip(path, inside(path))
        flip(path[:-4] + ".idx", 200, 3)
        wait_until("the damage is noticed", lambda: metric(self.victim, "damage_found_total") > 0, 40)
        self.push()
        wait_until("the node gives its state up", lambda: "QUARANTINE:" in self.victim.log(), 60)
        self.victim.wait_serving()
        wait_until("the quarantine is over", lambda: not os.path.exists(shard(self.victim, "QUARANTINE")), 40)
        self.assertIn("so is the hint", self.victim.log())
        self.assertEqual(pid, self.victim.process.pid)
        self.expect_equal()

    def test_a_file_in_the_place_of_the_folder_for_a_received_state(self):
        """The node says what is in the way, once, and goes on when it is gone."""
        self.stop(self.victim)
        for _ in range(6):
            self.push()
        if os.path.isdir(shard(self.victim, "incoming")):
            shutil.rmtree(shard(self.victim, "incoming"))
        with open(shard(self.victim, "incoming"), "wb") as file:
            file.write(b"mine")
        self.victim.start()
        wait_until("it says why", lambda: "incoming is a file" in self.victim.log(), 40)
        time.sleep(1)  # In which it could try very often.
        self.assertEqual(1, self.victim.log().count("incoming is a file"))
        self.assertLess(self.victim.log().count("reopened"), 3)
        os.rename(shard(self.victim, "incoming"), shard(self.victim, "mine"))
        self.expect_equal()
        self.assertGreater(metric(self.victim, "snapshots_installed_total"), 0)

    def test_f07_newest_segment_is_missing_at_the_start(self):
        self.stop(self.victim)
        os.unlink(unsealed(self.victim))
        self.expect_quarantine(self.victim, "the log may have gone on in it")

    def test_f07_every_node_has_another_damaged_place(self):
        paths = {node: sealed(node)[number] for number, node in enumerate(self.cluster.nodes)}
        for node in self.cluster.nodes:
            self.stop(node)
        for node, path in paths.items():
            for place in range(3):
                flip(path, inside(path, place))
        for node in self.cluster.nodes:
            node.start()
        for node in self.cluster.nodes:
            node.wait_serving()
        for node in self.cluster.nodes:
            wait_until("the damage is noticed", lambda node=node: metric(node, "damage_found_total") > 0, 40)
        self.push()
        for node in self.cluster.nodes:
            wait_until("the damage is repaired", lambda node=node: metric(node, "damaged_ranges") == 0, 40)
        self.expect_equal()

    def test_f07_hint(self):
        self.stop(self.victim)
        path = sealed(self.victim)[0][:-4] + ".idx"
        with open(path, "rb") as file:
            sound = file.read()
        flip(path, len(sound) // 2, 3)
        self.victim.start().wait_serving()
        with open(path, "rb") as file:
            self.assertEqual(sound, file.read())
        self.expect_equal()

    def test_f10_errors_while_reading_a_sealed_file(self):
        """The disk refuses to read it, for as long as the process runs."""
        self.stop(self.victim)
        faults = faultio.Faults(self.victim)
        if not hasattr(faultio, "READ"):
            self.skipTest("faultio cannot fail reads")
        self.victim.start(environment=faults.environment).wait_serving()
        self.expect_repair(self.victim, lambda: faults.arm(faultio.READ, faultio.ERROR, 1, 5))

    # ---- what is refused --------------------------------------------------------------------------------

    def expect_refusal(self, node, *words):
        before = {name: os.path.getsize(os.path.join(node.data, name)) for name in os.listdir(node.data)
                  if os.path.isfile(os.path.join(node.data, name))}
        node.start()
        self.assertEqual(EXIT_DATA, node.wait_exit(20), node.log_tail())
        for word in words:
            self.assertIn(word, node.log_tail(3))
        after = {name: os.path.getsize(os.path.join(node.data, name)) for name in before}
        self.assertEqual(before, after)

    def test_f07_both_copies_of_the_vote(self):
        self.stop(self.victim)
        flip(shard(self.victim, "vote"), 30)
        flip(shard(self.victim, "vote"), 4096 + 30)
        self.expect_refusal(self.victim, "vote")
        self.assertFalse(os.path.exists(shard(self.victim, "QUARANTINE")))

    def test_f07_one_copy_of_the_vote_is_enough(self):
        self.stop(self.victim)
        flip(shard(self.victim, "vote"), 30)
        self.victim.start().wait_serving()
        self.expect_equal()

    def test_f07_identity(self):
        self.stop(self.victim)
        flip(os.path.join(self.victim.data, "identity"), 30)
        self.expect_refusal(self.victim, "identity")

    def test_f46_swapped_disks(self):
        first, second = self.cluster.followers()
        self.stop(first)
        self.stop(second)
        first.data, second.data = second.data, first.data
        for node, other in ((first, second), (second, first)):
            self.expect_refusal(node, node.name, other.name)

    def test_f49_wiped_disk(self):
        """It comes as if new, under an id that has promised things: the others do not let it in."""
        self.stop(self.victim)
        shutil.rmtree(self.victim.data)
        self.victim.start()
        others = [node for node in self.cluster.nodes if node is not self.victim]
        wait_until("it is refused", lambda: any("not the one seen before" in node.log() for node in others), 20)
        self.assertNotEqual(200, self.victim.http("/readyz")[0])
        data.fill(self.cluster.leader(among=others), "after", 5, 100)
        self.victim.kill()

    def test_f50_wiped_majority(self):
        """Two of three come as if new: nobody makes an empty cluster of them and the third."""
        wiped = self.cluster.nodes[:2]
        kept = self.cluster.nodes[2]
        for node in self.cluster.nodes:
            self.stop(node)
        for node in wiped:
            shutil.rmtree(node.data)
        kept.start()
        for node in wiped:
            node.start()
        wait_until("they are refused", lambda: "not the one seen before" in kept.log(), 20)
        time.sleep(2)
        self.assertEqual(503, kept.http("/readyz")[0])
        self.assertGreaterEqual(int(kept.status()["keys"]), 0)
        for node in self.cluster.nodes:
            node.kill()

    def test_f47_older_copy_of_the_directory(self):
        self.stop(self.victim)
        copy = self.victim.data + ".old"
        shutil.copytree(self.victim.data, copy)
        self.victim.start().wait_serving()
        self.push()
        self.stop(self.victim)
        self.victim.start().wait_serving()
        self.stop(self.victim)
        shutil.rmtree(self.victim.data)
        os.rename(copy, self.victim.data)
        self.victim.start()
        others = [node for node in self.cluster.nodes if node is not self.victim]
        wait_until("it is refused", lambda: any("older copy" in node.log() for node in others), 20)
        self.assertNotEqual(200, self.victim.http("/readyz")[0])
        self.victim.kill()


if __name__ == "__main__":
    harness.main()
