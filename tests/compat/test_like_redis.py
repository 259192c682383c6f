#!/usr/bin/env python3
"""The same random commands for a real redis-server and for a cluster: every reply must be the same, byte for byte, but
for the differences that docs/differences.md lists. A failure prints the seed and what was asked before."""

import os
import random
import shutil
import socket
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Cluster, free_port, spawn, wait_until, work_directory  # noqa: E402

SEED = int(os.environ.get("SEED", "0")) or random.SystemRandom().randrange(1, 1 << 31)
SECONDS = 20
LONG_SECONDS = 300
TOLERANCE_MS = 3000


class Raw:
    """A connection whose replies are given as the bytes that came."""

    def __init__(self, port, protocol):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        if protocol == 3:
            self.ask([b"HELLO", b"3"])

    def close(self):
        self.socket.close()

    def fill(self):
        data = self.socket.recv(65536)
        if not data:
            raise AssertionError("the connection was closed")
        self.buffer += data

    def take(self, size):
        while len(self.buffer) < size:
            self.fill()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        return self.take(self.buffer.index(b"\r\n") + 2)

    def read(self):
        """One reply: (its bytes, its elements: a bulk string as bytes, an array as list, anything else as line)."""
        head = self.line()
        kind = head[:1]
        if kind in b"$=":
            size = int(head[1:])
            if size < 0:
                return head, head
            body = self.take(size + 2)
            return head + body, body[:-2]
        if kind in b"*~>%":
            count = int(head[1:]) * (2 if kind == b"%" else 1)
            if count < 0:
                return head, head
            parts = [self.read() for _ in range(count)]
            return head + b"".join(part[0] for part in parts), [part[1] for part in parts]
        return head, head

    def send(self, commands):
        out = bytearray()
        for command in commands:
            out += b"*%d\r\n" % len(command)
            for word in command:
                out += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(out)

    def ask(self, command):
        self.send([command])
        return self.read()


class Redis:
    """redis-server without persistence, with one database as here."""

    def __enter__(self):
        self.port = free_port()
        self.directory = work_directory("redis")
        self.process = spawn(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                              "--appendonly", "no", "--databases", "1", "--dir", self.directory],
                             os.path.join(self.directory, "redis.log"))
        wait_until("redis-server answers", self.answers)
        return self

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return True
        except OSError:
            return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


KEYS = [b"k%d" % n for n in range(6)] + [b"a{tag}b", b"\x00\xff\r\n", b"long-" + b"k" * 300]
WORDS = [b"", b"0", b"1", b"-1", b"10", b"007", b"+5", b" 1", b"1 ", b"-0", b"3.25", b"-1.5e3", b"1e400", b"0x10", b"inf",
         b"nan", b"abc", b"Hello world", b"9223372036854775807", b"-9223372036854775808", b"9223372036854775808",
         b"99999999999999999999999", b"x" * 44, b"x" * 45, b"\x00\x01\xfe", b"y" * 700, b"0.1", b"1.0", b"5e-324", b"1e-20"]
NUMBERS = [b"0", b"1", b"-1", b"2", b"3", b"5", b"-3", b"100", b"-100", b"600", b"abc", b"", b"1.5", b"9223372036854775807",
           b"-9223372036854775808", b"9223372036854775808", b"4294967296", b"2147483648", b"-2147483649"]
JUNK = [b"", b"foo", b"NX", b"xx", b"GT", b"lt", b"EX", b"px", b"KEEPTTL", b"GET", b"PERSIST", b"-1", b"1000000000", b"REPLACE",
        b"DB", b"COUNT", b"MATCH", b"TYPE", b"a\r\nb", b"%s%n"]


def glob(rng):
    if rng.random() < 0.5:
        return bytes(rng.choice(b"**??k012[]^-\\ag") for _ in range(rng.randrange(2, 9)))
    return rng.choice([b"*", b"k*", b"k?", b"k[0-2]", b"k[^0-2]", b"*g*", b"", b"[", b"\\k1", b"k\\", b"nothing", b"*[", b"[z-a]*"])


def far(rng):
    """Seconds, never two alike: which of two equal ones was said a millisecond later is not for GT and LT to tell."""
    return 1000 + 100 * rng.randrange(1 << 24)


def seconds(rng):
    """Far away, past, or nonsense: nothing that expires while the test looks."""
    return rng.choice([b"%d" % far(rng), b"%d" % far(rng), b"%d" % far(rng), b"0", b"-1", b"abc", b"", b"9223372036854775807", b"9223372036854775",
                       b"-9223372036854775808", b"-9223372036854775", b"9223372036854776", b"1.5", b"+1000"])


def milliseconds(rng):
    return b"%d" % (far(rng) * 1000)


def moment(rng, unit):
    when = rng.choice([int(time.time()) + far(rng), 1 << 33, 1 << 34])
    return rng.choice([b"%d" % (when * unit), b"1", b"0", b"-5", b"abc", b"9223372036854775807", b"9223372036854775"])


def expiry(rng, may_be_past=True):
    """Redis goes on counting a key that a SET made with a past time, until somebody asks for it."""
    kind = rng.choice([b"EX", b"px", b"EXAT", b"PXAT"])
    if kind == b"EX":
        return [kind, seconds(rng)]
    if kind == b"px":
        return [kind, rng.choice([milliseconds(rng), milliseconds(rng), b"0", b"-1", b"x", b"9223372036854775807"])]
    when = moment(rng, 1 if kind == b"EXAT" else 1000)
    return [kind, b"0" if when == b"1" and not may_be_past else when]


def set_command(rng):
    words = [b"SET", rng.choice(KEYS), rng.choice(WORDS)]
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 3])):
        words += rng.choice([[b"NX"], [b"xx"], [b"GET"], [b"KEEPTTL"], expiry(rng, False), expiry(rng, False)])
    return words


def getex(rng):
    words = [b"GETEX", rng.choice(KEYS)]
    for _ in range(rng.choice([0, 1, 1, 1, 2])):
        words += rng.choice([[b"PERSIST"], [b"KEEPTTL"], expiry(rng), expiry(rng)])
    return words


def expire(rng):
    name = rng.choice([b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"])
    when = {b"EXPIRE": lambda: seconds(rng), b"PEXPIRE": lambda: rng.choice([milliseconds(rng), milliseconds(rng), b"0", b"-7", b"q"]),
            b"EXPIREAT": lambda: moment(rng, 1), b"PEXPIREAT": lambda: moment(rng, 1000)}[name]()
    return [name, rng.choice(KEYS), when] + [rng.choice([b"NX", b"xx", b"GT", b"Lt", b"zz"])
                                             for _ in range(rng.choice([0, 0, 1, 1, 2]))]


def copy(rng):
    words = [b"COPY", rng.choice(KEYS), rng.choice(KEYS)]
    for _ in range(rng.choice([0, 0, 1, 2])):
        words += rng.choice([[b"REPLACE"], [b"DB", rng.choice(NUMBERS)], [b"DB"]])
    return words


def scan(rng):
    words = [b"SCAN", b"0", b"COUNT", b"1000"]
    for _ in range(rng.choice([0, 0, 1, 2])):
        words += rng.choice([[b"MATCH", glob(rng)], [b"TYPE", rng.choice([b"string", b"list", b"STRING", b"hash"])],
                             [b"COUNT", rng.choice([b"1000", b"0", b"-1", b"x"])], [b"MATCH"]])
    return words


def one_of(*names):
    return lambda rng: [rng.choice(names), rng.choice(KEYS)]


def many(*names):
    return lambda rng: [rng.choice(names)] + [rng.choice(KEYS) for _ in range(rng.randrange(1, 5))]


def pairs(*names):
    return lambda rng: [rng.choice(names)] + [word for _ in range(rng.randrange(1, 4))
                                              for word in (rng.choice(KEYS), rng.choice(WORDS))]


COMMANDS = [
    (8, set_command),
    (8, one_of(b"GET", b"get", b"STRLEN", b"TYPE", b"GETDEL", b"PERSIST")),
    (4, one_of(b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME")),
    (3, one_of(b"INCR", b"DECR")),
    (3, lambda rng: [rng.choice([b"INCRBY", b"DECRBY"]), rng.choice(KEYS), rng.choice(NUMBERS)]),
    (4, lambda rng: [b"INCRBYFLOAT", rng.choice(KEYS), rng.choice(WORDS + NUMBERS)]),
    (3, lambda rng: [rng.choice([b"SETNX", b"GETSET", b"APPEND"]), rng.choice(KEYS), rng.choice(WORDS)]),
    (2, lambda rng: [rng.choice([b"SETEX", b"PSETEX"]), rng.choice(KEYS),
                     rng.choice([milliseconds(rng), milliseconds(rng), b"0", b"-1", b"x", b"9223372036854775807"]),
                     rng.choice(WORDS)]),
    (4, getex),
    (5, expire),
    (4, lambda rng: [rng.choice([b"GETRANGE", b"SUBSTR"]), rng.choice(KEYS), rng.choice(NUMBERS), rng.choice(NUMBERS)]),
    (4, lambda rng: [b"SETRANGE", rng.choice(KEYS), rng.choice(NUMBERS), rng.choice(WORDS)]),
    (2, many(b"DEL", b"UNLINK", b"EXISTS", b"TOUCH", b"MGET")),
    (2, pairs(b"MSET", b"MSETNX")),
    (3, lambda rng: [rng.choice([b"RENAME", b"RENAMENX"]), rng.choice(KEYS), rng.choice(KEYS)]),
    (3, copy),
    (1, lambda rng: [b"MOVE", rng.choice(KEYS), rng.choice(NUMBERS)]),
    (1, lambda rng: [b"SWAPDB", rng.choice(NUMBERS), rng.choice(NUMBERS)]),
    (1, lambda rng: [b"RANDOMKEY"]),
    (1, lambda rng: [b"DBSIZE"]),
    (2, scan),
    (2, lambda rng: [b"KEYS", glob(rng)]),
    (1, lambda rng: [b"PUBLISH", rng.choice(KEYS), rng.choice(WORDS)]),
    (2, lambda rng: [b"OBJECT", rng.choice([b"ENCODING", b"encoding", b"REFCOUNT", b"FREQ", b"IDLETIME", b"nothing"]),
                     rng.choice(KEYS)]),
    (1, lambda rng: [b"MEMORY", rng.choice([b"USAGE", b"nothing"]), rng.choice(KEYS)] +
     rng.choice([[], [b"SAMPLES", rng.choice(NUMBERS)], [b"SAMPLES"], [b"x"]])),
    (1, lambda rng: [b"WAIT", rng.choice([b"0", b"-1", b"abc", b""]), rng.choice([b"0", b"10", b"-1", b"x"])]),
    (1, lambda rng: rng.choice([[b"FLUSHALL"], [b"FLUSHDB"], [b"FLUSHALL", b"ASYNC"], [b"FLUSHDB", b"sync"],
                                [b"FLUSHALL", b"x"], [b"FLUSHDB", b"SYNC", b"ASYNC"]])),
]
WEIGHTS = [weight for weight, _ in COMMANDS]


def make(rng):
    words = rng.choices(COMMANDS, WEIGHTS)[0][1](rng)
    change = rng.random()
    if change < 0.04:
        words = words[:rng.randrange(1, len(words) + 1)]
    elif change < 0.08:
        words = words + [rng.choice(JUNK) or b"foo"]
    elif change < 0.11 and len(words) > 2:
        # Never the key: an empty one is refused here, which docs/differences.md says.
        words[rng.randrange(2, len(words))] = rng.choice(JUNK) or b"foo"
    if words[0] in (b"WAIT", b"SCAN") and change < 0.11:
        words = words[:1]  # A cursor is another one in each server; and who waits, waits.
    if words[0] in (b"OBJECT", b"MEMORY") and len(words) > 2 and not words[2]:
        words[2] = KEYS[0]
    return words


def batch(rng):
    """Some commands, perhaps as a transaction."""
    commands = [make(rng) for _ in range(rng.randrange(1, 12))]
    if rng.random() < 0.15:
        # Walks may not stand beside writes in a transaction.
        walks = (b"SCAN", b"KEYS", b"DBSIZE", b"RANDOMKEY", b"WAIT", b"SWAPDB", b"OBJECT", b"MEMORY")
        commands = [command for command in commands if command[0] not in walks]
        commands = [[b"MULTI"]] + commands + [rng.choice([[b"EXEC"], [b"EXEC"], [b"DISCARD"], [b"EXEC", b"x"]])]
        if commands[-1] == [b"EXEC", b"x"]:
            commands.append([b"DISCARD"])
    return commands


def is_error(raw):
    return raw[:1] == b"-"


def number(raw):
    return int(raw[1:-2]) if raw[:1] == b":" else None


def same(command, theirs, ours):
    """What docs/differences.md says and what depends on time or chance; anything else is equal or wrong."""
    if theirs[0] == ours[0]:
        return True
    name = command[0].upper()
    if is_error(theirs[0]) or is_error(ours[0]):
        if name == b"SETRANGE":  # Limits: max-value here.
            return theirs[0].startswith(b"-ERR string exceeds maximum") and ours[0].startswith(b"-TOOBIG")
        if name == b"OBJECT" and command[1].upper() == b"IDLETIME":
            return ours[0].startswith(b"-ERR idle times of keys are not tracked")
        return False
    if name in (b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"):
        one, two = number(theirs[0]), number(ours[0])
        tolerance = TOLERANCE_MS if name.startswith(b"P") else TOLERANCE_MS // 1000
        return min(one, two) >= 0 and abs(one - two) <= tolerance
    if name == b"KEYS":
        return sorted(theirs[1]) == sorted(ours[1])
    if name == b"SCAN":
        return theirs[1][0] == ours[1][0] and sorted(theirs[1][1]) == sorted(ours[1][1])
    if name == b"RANDOMKEY":
        return {theirs[0][:1], ours[0][:1]} == {b"$"} and b"$-1\r\n" not in (theirs[0], ours[0])
    if name == b"OBJECT" and command[1].upper() == b"ENCODING":
        return {theirs[1], ours[1]} <= {b"embstr", b"raw", b"int"}
    if name in (b"MEMORY", b"WAIT") or (name == b"OBJECT" and command[1].upper() == b"REFCOUNT"):
        return number(theirs[0]) is not None and number(ours[0]) is not None
    return False


@unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
class CommandTable(unittest.TestCase):
    """What COMMAND says of each command that Redis has, too: clients and proxies route by it."""

    # Flags of Redis that mean nothing here, and those that say something else here on purpose.
    FLAGS = {"noscript", "skip_monitor", "skip_slowlog", "sentinel", "no_mandatory_keys", "allow_busy", "no_multi",
             "may_replicate", "no_async_loading", "touches_arbitrary_keys", "loading", "stale", "denyoom"}
    # Scripts are known, hence do what is said of them; SWAPDB is refused; WAIT blocks; WATCH is answered by who leads.
    OTHERWISE = {"eval", "evalsha", "eval_ro", "evalsha_ro", "swapdb", "wait", "watch"}
    # Redis 7.2 says other than 7.0, which Debian ships.
    NEWER = {"client|setname", "msetnx", "randomkey", "scan", "command|getkeys", "command|getkeysandflags"}

    def text(self, value):
        """Bytes as text, without what Redis notes of keys."""
        if isinstance(value, list):
            items = [self.text(item) for item in value]
            return items[2:] if items[:1] == ["notes"] else items
        return value.decode() if isinstance(value, bytes) else value

    def table(self, port):
        with harness.Client(port) as client:
            rows = self.text(client.call("COMMAND"))
        return {row[0]: row for row in rows + [part for row in rows for part in row[9]]}

    def compare(self, ours, theirs):
        name = ours[0]
        self.assertEqual(theirs[3:6], ours[3:6], "places of keys")
        self.assertEqual(theirs[8], ours[8], "specification of keys")
        if name not in self.NEWER:
            self.assertEqual(theirs[1], ours[1], "arity")
            self.assertEqual(theirs[7], ours[7], "tips")
        if name not in self.OTHERWISE:
            self.assertEqual(set(theirs[2]) - self.FLAGS, set(ours[2]) - self.FLAGS, "flags")
            self.assertEqual(set(theirs[6]), set(ours[6]), "categories")

    def test_is_that_of_redis(self):
        with Redis() as redis, Cluster(1) as cluster:
            theirs = self.table(redis.port)
            ours = self.table(cluster.nodes[0].client_port)
            both = sorted(set(theirs) & set(ours))
            for name in both:
                with self.subTest(name):
                    self.compare(ours[name], theirs[name])
            self.assertGreater(len(both), 130)

    def test_keys_of_a_command(self):
        questions = ("GETKEYS MSET a 1 b 2", "GETKEYS EVAL s 2 a b c", "GETKEYS EVAL s 9 a", "GETKEYS EVAL s x a",
                     "GETKEYS OBJECT HELP", "GETKEYS OBJECT NOSUCH a", "GETKEYS OBJECT ENCODING a",
                     "GETKEYS MEMORY USAGE a", "GETKEYS CLUSTER MEET a b", "GETKEYS NOSUCH a", "GETKEYS GET a b",
                     "GETKEYSANDFLAGS RENAME a b", "GETKEYSANDFLAGS COPY a b", "INFO dbsize",
                     "GETKEYSANDFLAGS GETEX a PERSIST", "LIST FILTERBY OTHER x", "LIST FILTERBY MODULE x",
                     "INFO config|get get|x", "NOSUCH", "COUNT x")
        with Redis() as redis, Cluster(1) as cluster:
            theirs, ours = Raw(redis.port, 2), Raw(cluster.nodes[0].client_port, 2)
            for question in questions:
                words = ["COMMAND", *question.split()]
                with self.subTest(question):
                    replies = []
                    for server in (theirs, ours):
                        server.send([[word.encode() for word in words]])
                        reply = self.text(server.read()[1])
                        replies.append(sorted(map(str, self.flat(reply))))
                    self.assertEqual(*replies)

    def flat(self, value):
        """Without the order of sets, and without flags that mean nothing here."""
        if not isinstance(value, list):
            return [] if isinstance(value, str) and value[1:].strip() in self.FLAGS else [value]
        return [item for part in value for item in self.flat(part)]


@unittest.skipUnless(shutil.which("redis-server"), "redis-server is not installed")
class LikeRedis(unittest.TestCase):
    def check(self, history, command, theirs, ours):
        if same(command, theirs, ours):
            return
        before = "\n".join("  " + repr(one) for one in history[-40:])
        self.fail(f"SEED={SEED}\n{before}\nthe last one: {command!r}\nredis-server: {theirs[0]!r}\nhere: {ours[0]!r}")

    def exchange(self, theirs, ours, commands, history):
        theirs.send(commands)
        ours.send(commands)
        queued = []
        for command in commands:
            history.append(command)
            one, two = theirs.read(), ours.read()
            if one[0] == b"+QUEUED\r\n":
                queued.append(command)
            if command[0] == b"EXEC" and isinstance(one[1], list) and isinstance(two[1], list):
                self.assertEqual(len(one[1]), len(two[1]), f"SEED={SEED} {history[-40:]!r}")
                for part, left, right in zip(queued, one[1], two[1]):
                    self.check(history, part, self.whole(left), self.whole(right))
            else:
                self.check(history, command, one, two)

    @staticmethod
    def whole(element):
        """A part of a reply: as if it had come alone."""
        return (element if isinstance(element, bytes) else repr(element).encode(), element)

    def compare_states(self, theirs, ours, history):
        looks = [[b"DBSIZE"]]
        for key in KEYS:
            looks += [[b"GET", key], [b"PTTL", key], [b"TYPE", key], [b"STRLEN", key]]
        self.exchange(theirs, ours, looks, history)

    def run_for(self, seconds_left):
        rng = random.Random(SEED)
        with Redis() as redis, Cluster() as cluster:
            cluster.leader()
            until = time.monotonic() + seconds_left
            count = 0
            history = []
            while time.monotonic() < until:
                protocol = rng.choice([2, 3])
                theirs = Raw(redis.port, protocol)
                ours = Raw(rng.choice(cluster.nodes).client_port, protocol)
                for _ in range(20):
                    commands = batch(rng)
                    self.exchange(theirs, ours, commands, history)
                    count += len(commands)
                self.compare_states(theirs, ours, history)
                del history[:-200]
                theirs.close()
                ours.close()
            print(f"{count} commands, seed {SEED}")
            self.assertGreater(count, 500)

    def test_random_commands_get_the_same_replies(self):
        self.run_for(LONG_SECONDS if harness.LONG else SECONDS)


if __name__ == "__main__":
    harness.main()
