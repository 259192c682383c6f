#!/usr/bin/env python3
"""F01: a real node ends before, after or in the middle of any of its disk calls, comes back within two seconds and has
everything that it acknowledged; now and then the start after that ends at one of its calls too (F53).

What it holds afterwards must be the state after some beginning of what was asked, in the order in which it was asked, and
that beginning holds everything acknowledged."""

import os
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import data  # noqa: E402
import faultio  # noqa: E402
import harness  # noqa: E402
from harness import SMALL, Cluster, ReplyError  # noqa: E402

# Nothing is kept for lagging peers: what is sealed is compacted while the session goes on.
OPTIONS = dict(SMALL, retention="0", compaction_rate="64mb", compress_above="0", election_timeout=100, heartbeat=20)
KEYS = 40
READY_SECONDS = 2


def operation(number):
    """Number @number of the session: mostly overwriting, so that segments fill with what nobody needs any more."""
    key = data.key("call", number * 7 % KEYS)
    if number % 13 == 5:
        return "DEL", key
    if number % 11 == 3:
        return "INCR", "counter"
    if number % 17 == 9:
        return "APPEND", key, b"+%d" % number
    return "SET", key, data.value("call", number, 3000 + number % 5 * 400)


def states(count):
    """The states after 0, 1, ... @count operations, as one dictionary that changes."""
    state = {}
    yield state
    for number in range(count):
        name, key, *rest = operation(number)
        if name == "DEL":
            state.pop(key, None)
        elif name == "INCR":
            state[key] = b"%d" % (int(state.get(key, b"0")) + 1)
        elif name == "APPEND":
            state[key] = state.get(key, b"") + rest[0]
        else:
            state[key] = rest[0]
        yield state


class EveryCall(unittest.TestCase):
    CALLS = faultio.WRITE | faultio.SYNC | faultio.SYNC_NEW | faultio.NAME | faultio.SPACE
    COUNT = 640

    @staticmethod
    def compact(client):
        """What nobody needs any more goes, with all calls that this takes."""
        client.call("KV.COMPACT")
        deadline = time.monotonic() + 10 * harness.SLOW
        while True:
            fields = client.call("KV.DISK")
            figures = dict(zip(fields[0::2], fields[1::2]))
            retired = [file for file in figures[b"files"] if b"retired" in file]
            if not figures[b"forced"] and not figures[b"compacting"] and not retired:
                return figures[b"jobs"]
            if time.monotonic() > deadline:
                raise AssertionError(f"compaction does not end: {fields}")
            time.sleep(0.005)

    def session(self, node):
        """Asks until the node ends. Numbers of the operations that were acknowledged and that were sent."""
        acknowledged = sent = 0
        try:
            with node.client(20) as client:
                while sent < self.COUNT:
                    if sent > 0 and sent % (self.COUNT // 2) == 0:
                        self.compact(client)
                    numbers = range(sent, min(sent + 8, self.COUNT))
                    sent = numbers.stop
                    client.send_raw(b"".join(client.encode(operation(number)) for number in numbers))
                    for _ in numbers:
                        reply = client.read()
                        if isinstance(reply, ReplyError):
                            return acknowledged, sent
                        acknowledged += 1
                self.compact(client)
        except (harness.Lost, harness.Unsent):
            pass
        return acknowledged, sent

    def check(self, node, acknowledged, sent, where):
        keys = [data.key("call", number) for number in range(KEYS)] + ["counter"]
        with node.client(20) as client:
            replies = client.pipeline([("GET", key) for key in keys])
        found = {key: reply for key, reply in zip(keys, replies) if reply is not None}
        for count, state in enumerate(states(sent)):
            if count >= acknowledged and state == found:
                return
        self.fail(f"{where}: no state after {acknowledged} to {sent} operations is what was found")

    def start(self, node, faults, where):
        begin = time.monotonic()
        node.start(environment=faults.environment).wait_serving()
        self.assertLess(time.monotonic() - begin, READY_SECONDS * harness.SLOW, where)

    def wait_ready_or_end(self, node):
        deadline = time.monotonic() + 20 * harness.SLOW
        while node.alive() and time.monotonic() < deadline:
            try:
                node.call("EXISTS", "x")
                return
            except (harness.Lost, harness.Unsent, ReplyError):
                time.sleep(0.005)

    def run_once(self, action, countdown):
        """One life that ends at the call, and the one after it. False when there are not so many calls."""
        with Cluster(1, start=False, **OPTIONS) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            faults.arm(self.CALLS, action, countdown)
            node.start(environment=faults.environment)
            where = f"call {countdown}, action {action}"
            self.wait_ready_or_end(node)
            acknowledged, sent = self.session(node)
            hit = faults.hits == 1
            if hit:
                self.assertEqual(faultio.EXIT_CODE, node.wait_exit(), where)
            else:
                node.kill()
            if countdown % 3 == 0:
                faults.arm(self.CALLS, faultio.EXIT_BEFORE, 1 + countdown % 11)
                node.start(environment=faults.environment)
                self.wait_ready_or_end(node)
                node.kill()
                where += ", and again in the start"
            faults.disarm()
            self.start(node, faults, where)
            self.check(node, acknowledged, sent, where)
            self.assertEqual("OK", node.call("SET", "after", "1"))
            return hit

    def total(self):
        """Disk calls of the first start, and of all of a life."""
        with Cluster(1, start=False, **OPTIONS) as cluster:
            node = cluster.nodes[0]
            faults = faultio.Faults(node)
            faults.count(self.CALLS)
            node.start(environment=faults.environment).wait_serving()
            first = faults.seen
            self.assertEqual((self.COUNT, self.COUNT), self.session(node))
            seen = faults.seen
            with node.client(20) as client:
                self.assertGreater(self.compact(client), 1)
            return first, seen

    def enumerate(self, action):
        first, total = self.total()
        self.assertGreater(total, 60)
        # Each of the calls of the first start, then a sample, at night all of them.
        step = 1 if harness.LONG else max(1, (total - first) // 40)
        points = list(range(1, first + 1, 1 if harness.LONG else 2)) + list(range(first + 1, total, step))
        hits = sum(self.run_once(action, point) for point in points)
        print(f"    {hits} of {len(points)} points hit, {total} calls in all", flush=True)
        self.assertGreater(hits, len(points) * 0.6)

    def test_f01_process_ends_before_a_call(self):
        self.enumerate(faultio.EXIT_BEFORE)

    def test_f01_process_ends_after_a_call(self):
        self.enumerate(faultio.EXIT_AFTER)

    def test_f01_process_ends_in_the_middle_of_a_call(self):
        self.enumerate(faultio.EXIT_PART)


if __name__ == "__main__":
    harness.main()
