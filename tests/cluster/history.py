"""history.py - load that records what it asked and what it was told, and the checkers of such records.

Every operation ends in one of three ways: `ok`; `fail`, it certainly did not and will not happen; `info`, nobody
knows. Clients never repeat an operation. All times are of one monotonic clock, so the order of operations is exact.
"""

import collections
import random
import threading
import time

import harness

STEPS_MAX = 3_000_000


class Operation:
    """`returned` is None while nobody knows whether it happened."""

    __slots__ = ("client", "node", "kind", "key", "value", "invoked", "returned", "outcome", "note")

    def __init__(self, client, node, kind, key, value):
        self.client, self.node, self.kind, self.key, self.value = client, node, kind, key, value
        self.invoked = time.monotonic_ns()
        self.returned = None
        self.outcome = "info"
        self.note = ""

    def __repr__(self):
        returned = "never" if self.returned is None else f"{self.returned / 1e9:.6f}"
        return (f"{self.invoked / 1e9:.6f}..{returned} client {self.client} at {self.node}: "
                f"{self.kind} {self.key} {self.value!r} {self.outcome} {self.note}")


# ---- checkers ---------------------------------------------------------------------------------------------


def step_register(state, operation):
    """The next state of one key, or False when the operation cannot happen in this one."""
    if operation.kind == "set":
        return (operation.value,)
    if operation.kind == "del":
        # Its answer, 1 or 0, tells whether there was something; None when nobody knows.
        if operation.value is not None and operation.value != (state[0] is not None):
            return False
        return (None,)
    return state if state[0] == operation.value else False


def linearizable(operations, initial=(None,), step=step_register):
    """True when some order of the operations of one key, in which each takes effect between its call and its return,
    explains every answer; an `info` may take effect at any time after its call, or never. None: gave up.

    The search of Wing and Gong, with the memory of Lowe: a pair of (operations done, state) is tried once."""
    seen = {op.value for op in operations if op.kind == "get" and op.outcome == "ok"}
    deleted = any(op.kind == "del" and op.outcome == "ok" and op.value for op in operations)
    # An unknown write that nobody read or deleted explains nothing: it may as well never have happened.
    chosen = [op for op in operations if op.outcome == "ok" or
              (op.outcome == "info" and op.kind != "get" and (deleted or op.kind == "del" or op.value in seen))]
    events = []
    for number, op in enumerate(chosen):
        events.append((op.invoked, 0, number))
        if op.outcome == "ok":
            events.append((op.returned, 1, number))
    events.sort()
    # A list of calls and returns, linked both ways; entry 0 is its head.
    count = len(events) + 1
    after = list(range(1, count)) + [0]
    before = [count - 1] + list(range(count - 1))
    entry_of_call, entry_of_return = {}, {}
    call_at = [None] * count  # the operation whose call an entry is
    for at, (_, is_return, number) in enumerate(events, 1):
        if is_return:
            entry_of_return[number] = at
        else:
            entry_of_call[number] = at
            call_at[at] = number
    waiting = len(entry_of_return)

    def unlink(at):
        after[before[at]], before[after[at]] = after[at], before[at]

    def relink(at):
        after[before[at]], before[after[at]] = at, at

    state, done, tried, path = initial, 0, set(), []
    at = after[0]
    steps = 0
    while waiting:
        steps += 1
        if steps > STEPS_MAX:
            return None
        number = call_at[at] if at else None
        if number is not None:
            following = step(state, chosen[number])
            if following is not False:
                mark = (done | 1 << number, following)
                if mark not in tried:
                    tried.add(mark)
                    path.append((number, state))
                    done, state = mark
                    unlink(at)
                    if number in entry_of_return:
                        unlink(entry_of_return[number])
                        waiting -= 1
                    at = after[0]
                    continue
            at = after[at]
            continue
        # A return (or the end) was reached before its operation took effect: go back.
        if not path:
            return False
        number, state = path.pop()
        done &= ~(1 << number)
        if number in entry_of_return:
            relink(entry_of_return[number])
            waiting += 1
        relink(entry_of_call[number])
        at = after[entry_of_call[number]]
    return True


def check_registers(operations):
    """Problems of a history of set, get and del, as text; none when it is linearizable."""
    by_key = collections.defaultdict(list)
    for op in operations:
        if op.kind in ("set", "get", "del"):
            by_key[op.key].append(op)
    problems = []
    for key, group in by_key.items():
        verdict = linearizable(group)
        if verdict is not True:
            group.sort(key=lambda op: op.invoked)
            word = "is not linearizable" if verdict is False else "could not be decided"
            shown = shortest_bad(group) if verdict is False else group
            problems.append(f"the history of {key} {word}:\n" + "\n".join(f"    {op}" for op in shown[-25:]))
    return problems


def shortest_bad(group):
    """The operations up to the first answer that nothing explains; the last of them is that one."""
    returns = sorted((op.returned, at) for at, op in enumerate(group) if op.outcome == "ok")
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        if linearizable(until(group, returns[middle][0])) is False:
            high = middle
        else:
            low = middle + 1
    return until(group, returns[high][0])


def until(group, moment):
    """The history as it was known at a moment: what had no answer then is unknown."""
    known = []
    for op in group:
        if op.invoked > moment:
            continue
        seen = Operation(op.client, op.node, op.kind, op.key, op.value)
        seen.invoked, seen.returned, seen.outcome, seen.note = op.invoked, op.returned, op.outcome, op.note
        if op.outcome == "ok" and op.returned > moment:
            seen.outcome, seen.returned = "info", None
            if op.kind == "del":
                seen.value = None
        known.append(seen)
    known.sort(key=lambda op: op.returned or moment + 1)
    return known


def check_counters(operations, final):
    """Problems of a history of `incr` (value: the answer) given the final value of each counter.

    Each answer appears once, answers grow in real time, and the end counts every `ok` once and every `info` at most
    once. An INCR that was applied twice breaks the last."""
    by_key = collections.defaultdict(list)
    for op in operations:
        if op.kind == "incr":
            by_key[op.key].append(op)
    problems = []
    for key, group in by_key.items():
        done = [op for op in group if op.outcome == "ok"]
        unknown = sum(op.outcome == "info" for op in group)
        answers = collections.Counter(op.value for op in done)
        for value, times in answers.items():
            if times > 1:
                problems.append(f"{key}: {times} increments were answered {value}")
        end = final.get(key, 0)
        if not len(done) <= end <= len(done) + unknown:
            problems.append(f"{key} is {end} after {len(done)} increments done and {unknown} unknown")
        if answers and max(answers) > end:
            problems.append(f"{key} was answered {max(answers)} and ended as {end}")
        # Sorted by return, the greatest answer so far must be smaller than that of whoever was called later.
        returns = sorted(done, key=lambda op: op.returned)
        calls = sorted(done, key=lambda op: op.invoked)
        greatest, at = 0, 0
        for op in calls:
            while at < len(returns) and returns[at].returned < op.invoked:
                greatest = max(greatest, returns[at].value)
                at += 1
            if op.value <= greatest:
                problems.append(f"{key}: answered {op.value} after {greatest} had been answered: {op}")
                break
    return problems


# ---- load ---------------------------------------------------------------------------------------------------


class Load:
    """Clients that each send one operation after another to one node. With `move`, those beyond one for each node go to
    the next node when theirs is gone or left an operation unknown; the others stay, so that every node is asked all the
    time, and one that serves no longer cannot gather all of them.

    Keys are used for a while and then left, so that each key's history stays short enough to be checked."""

    KEYS_AT_ONCE = 6
    WRITES_PER_KEY = 60

    def __init__(self, nodes, clients=6, counters=2, pause=0.001, timeout=6.0, value_size=0, seed=1, move=True):
        self.nodes = nodes
        self.operations = []
        self.errors = []
        self.stop_flag = threading.Event()
        self.lock = threading.Lock()
        self.clients, self.counters, self.pause, self.timeout = clients, counters, pause, timeout * harness.SLOW
        self.value_size = value_size
        self.seed = seed
        self.move = move
        self.writes = 0
        self.started = 0
        self.threads = []

    def __enter__(self):
        self.started = time.monotonic()
        for number in range(self.clients):
            thread = threading.Thread(target=self._run, args=(number,), daemon=True)
            thread.start()
            self.threads.append(thread)
        return self

    def __exit__(self, *_):
        self.stop()
        return False

    def stop(self):
        self.stop_flag.set()
        for thread in self.threads:
            thread.join(self.timeout * 2 + 10)
            assert not thread.is_alive(), "a client hangs"
        self.threads = []
        if self.errors:
            raise AssertionError("clients were told what must not be told:\n  " + "\n  ".join(self.errors[:10]))

    def count(self, outcome="ok", since=0):
        return sum(op.outcome == outcome for op in self.operations[since:])

    def wait_ok(self, more, seconds=20):
        """Until so many more operations succeeded than now."""
        begin = len(self.operations)
        harness.wait_until(f"{more} more operations succeed", lambda: self.count("ok", begin) >= more, seconds)

    def _key(self, prng):
        generation = self.writes // (self.WRITES_PER_KEY * self.KEYS_AT_ONCE)
        return f"reg:{self.seed}:{generation}:{prng.randrange(self.KEYS_AT_ONCE)}"

    def _run(self, number):
        prng = random.Random(self.seed * 1000 + number)
        client, at, identity, serial = None, number % len(self.nodes), number, 0
        moves = self.move and (number >= len(self.nodes) or self.clients < len(self.nodes))
        while not self.stop_flag.is_set():
            node = self.nodes[at % len(self.nodes)]
            try:
                if client is None:
                    client = harness.Client(node.client_port, self.timeout, node.host)
            except harness.Unsent:
                at += moves
                time.sleep(0.02)
                continue
            serial += 1
            draw = prng.random()
            if draw < 0.10 and self.counters:
                command = ("INCR", f"counter:{self.seed}:{prng.randrange(self.counters)}")
                op = Operation(identity, node.name, "incr", command[1], None)
            elif draw < 0.50:
                op = Operation(identity, node.name, "get", self._key(prng), None)
                command = ("GET", op.key)
            elif draw < 0.56:
                op = Operation(identity, node.name, "del", self._key(prng), None)
                command = ("DEL", op.key)
            else:
                value = f"{identity}.{serial}"
                op = Operation(identity, node.name, "set", self._key(prng), value)
                command = ("SET", op.key, value + "." + "x" * self.value_size if self.value_size else value)
                self.writes += 1
            self.operations.append(op)
            try:
                reply = client.call(*command)
                op.returned = time.monotonic_ns()
                self._answered(op, reply)
            except harness.ReplyError as error:
                op.note = str(error)
                if error.code in harness.REFUSED:
                    op.outcome = "fail"
                elif error.code != "UNCERTAIN":
                    op.outcome = "fail"
                    self.errors.append(repr(op))
            except harness.Lost as error:
                op.note = str(error)
            if op.outcome == "info":
                # Nobody waits for it any more: this client is gone, a new one takes its place.
                client.close()
                client = None
                identity += 1000
                at += moves
            elif op.outcome == "fail":
                time.sleep(0.01)
            time.sleep(self.pause)
        if client is not None:
            client.close()

    def _answered(self, op, reply):
        op.outcome = "ok"
        if op.kind == "get":
            op.value = None if reply is None else reply.decode()
            if self.value_size and op.value is not None:
                value, _, padding = op.value.rpartition(".")
                if padding != "x" * self.value_size:
                    self.errors.append(f"a value came back changed: {op!r}"[:300])
                op.value = value
        elif op.kind in ("incr", "del"):
            op.value = reply
        elif op.kind == "set" and reply != "OK":
            self.errors.append(f"{reply!r} to {op!r}")

    def final_reads(self, nodes):
        """Reads every key from each of the nodes, as operations of the history; returns the counters."""
        keys = sorted({op.key for op in self.operations if op.kind in ("set", "get", "del")})
        counters = {}
        for number, node in enumerate(nodes):
            with node.client(20) as client:
                for key in keys:
                    op = Operation(f"final{number}", node.name, "get", key, None)
                    reply = client.call("GET", key)
                    op.returned = time.monotonic_ns()
                    self._answered(op, reply)
                    self.operations.append(op)
                for at in range(self.counters):
                    name = f"counter:{self.seed}:{at}"
                    value = int(client.call("GET", name) or 0)
                    assert counters.setdefault(name, value) == value, f"nodes disagree on {name}"
        return counters

    def check(self, nodes, ok_min=200):
        """Final reads from the nodes, then every checker. A run in which too little happened proves nothing."""
        self.stop()
        good = self.count("ok")
        counters = self.final_reads(nodes)
        problems = check_registers(self.operations) + check_counters(self.operations, counters)
        assert not problems, "\n".join(problems)
        assert good >= ok_min, f"only {good} operations succeeded, {ok_min} are needed for a verdict"
        print(f"    {good} ok, {self.count('info')} unknown, {self.count('fail')} refused", flush=True)

    def longest_gap(self):
        """The longest time in seconds without any operation that succeeded."""
        times = sorted(op.returned for op in self.operations if op.outcome == "ok")
        return max((b - a for a, b in zip(times, times[1:])), default=0) / 1e9
