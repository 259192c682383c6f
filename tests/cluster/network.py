"""network.py - each node of a cluster in a network of its own, whose links can be cut, one way too. Needs root.

The test program moves into a private network first (enter()), in which everything is made: interfaces, addresses,
rules. It touches nothing of the machine's own network and all of it goes with the last process in it. Clients are in
the middle and reach every node, whatever is cut between nodes."""

import itertools
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
import unittest

import harness

MIDDLE = "198.18.0.254"
_ENTERED = "FLASHKV_TEST_NETWORK"
# The kernel takes its time to remove a network, and the port to it with it: no name comes twice.
_port_numbers = itertools.count(1)


def enter():
    """Starts this program anew in a private network, if that is possible; call it first of all."""
    if os.environ.get(_ENTERED) or not harness.is_root():
        return
    if harness.run_quiet("unshare", "--net", "true"):
        os.environ[_ENTERED] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])


def run(*arguments, stdin=None):
    done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}\n{stdin or ''}"


class Network:
    """A switch, and a private network for each node that place() puts there. A context manager."""

    def __init__(self):
        self.places = {}  # node: (process that keeps its network, address)
        self.cuts = {}  # node: set of nodes from which nothing arrives there
        self.detours = {}  # (from node, to node): port of the relay

    def __enter__(self):
        if not os.environ.get(_ENTERED):
            raise unittest.SkipTest("needs root to make networks")
        try:
            run("ip", "link", "set", "lo", "up")
            run("ip", "link", "add", "switch", "type", "bridge")
            run("ip", "addr", "add", f"{MIDDLE}/24", "dev", "switch")
            run("ip", "link", "set", "switch", "up")
        except (AssertionError, OSError) as error:
            raise unittest.SkipTest(f"cannot make networks here: {error}") from error
        return self

    def __exit__(self, *_):
        for process, _ in self.places.values():
            process.kill()
            process.wait()
        run("ip", "link", "del", "switch")

    def place(self, node):
        number = len(self.places) + 1
        keeper = harness.spawn(["unshare", "--net", "sleep", "infinity"], os.devnull)
        ours = os.readlink("/proc/self/ns/net")
        harness.wait_until("a network of its own", lambda: os.readlink(f"/proc/{keeper.pid}/ns/net") != ours, 10, 0.01)
        node.host = f"198.18.0.{number}"
        node.prefix = self._inside(keeper)
        self.places[node] = (keeper, node.host)
        self.cuts[node] = set()
        port = f"port{next(_port_numbers)}"
        run("ip", "link", "add", port, "type", "veth", "peer", "name", "wire", "netns", str(keeper.pid))
        run("ip", "link", "set", port, "master", "switch", "up")
        for command in (("ip", "link", "set", "lo", "up"), ("ip", "addr", "add", f"{node.host}/24", "dev", "wire"),
                        ("ip", "link", "set", "wire", "up")):
            run(*node.prefix, *command)

    @staticmethod
    def _inside(keeper):
        return ["nsenter", f"--net=/proc/{keeper.pid}/ns/net"]

    def _write_rules(self, node):
        """All rules of one node's network, in one step."""
        lines = ["table ip cut", "delete table ip cut", "table ip cut {", "  chain in {",
                 "    type filter hook input priority 0"]
        lines += [f"    ip saddr {self.places[other][1]} drop" for other in self.cuts[node]]
        lines += ["  }", "  chain detour {", "    type nat hook output priority -100"]
        for (source, target), port in self.detours.items():
            if source is node:
                lines.append(f"    ip daddr {target.host} tcp dport {target.peer_port} dnat to {MIDDLE}:{port}")
        lines += ["  }", "}", ""]
        run(*node.prefix, "nft", "-f", "-", stdin="\n".join(lines))

    def drop(self, source, target):
        """Nothing from source arrives at target any more."""
        self.cuts[target].add(source)
        self._write_rules(target)

    def cut(self, one, other):
        self.drop(one, other)
        self.drop(other, one)

    def join(self, one, other):
        self.cuts[one].discard(other)
        self.cuts[other].discard(one)
        self._write_rules(one)
        self._write_rules(other)

    def isolate(self, node):
        """From the other nodes; clients still reach it."""
        for other in self.places:
            if other is not node:
                self.cut(node, other)

    def heal(self):
        for node in self.places:
            self.cuts[node].clear()
            self._write_rules(node)

    def detour(self, relay, source, target):
        """What source dials to target goes through the relay from now on."""
        self.detours[(source, target)] = relay.listen(source, target)
        self._write_rules(source)


class Relay:
    """Passes bytes on between nodes, one pair of sockets a connection, and can swallow those of one direction: the
    connection stays, everything is acknowledged, and nothing arrives. No rule for packets can do that."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.lock = threading.Lock()
        self.swallowed = set()  # (from node, to node)
        self.pairs = []  # [(socket, from node, to node), (socket, to node, from node)]
        self.bytes_swallowed = 0
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join(10)
        for pair in self.pairs:
            for end in pair:
                end[0].close()

    def listen(self, source, target):
        listener = socket.create_server((MIDDLE, 0))
        listener.setblocking(False)
        with self.lock:
            self.selector.register(listener, selectors.EVENT_READ, ("listener", source, target))
        return listener.getsockname()[1]

    def swallow(self, source, target):
        self.swallowed.add((source, target))

    def pass_again(self):
        """The ends of what was swallowed are nowhere: those connections are closed, and dialled again."""
        swallowed, self.swallowed = self.swallowed, set()
        with self.lock:
            for pair in list(self.pairs):
                if any((end[1], end[2]) in swallowed for end in pair):
                    self._close(pair)

    def _close(self, pair):
        self.pairs.remove(pair)
        for end, _, _ in pair:
            self.selector.unregister(end)
            end.close()

    def _accept(self, listener, source, target):
        near, _ = listener.accept()
        try:
            far = socket.create_connection((target.host, target.peer_port), timeout=2)
        except OSError:
            near.close()
            return
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.settimeout(5)  # for sending; it is only read when there is something
        pair = [(near, source, target), (far, target, source)]
        self.pairs.append(pair)
        for at, (end, *_) in enumerate(pair):
            self.selector.register(end, selectors.EVENT_READ, ("pair", pair, at))

    def _pass_on(self, pair, at):
        end, source, target = pair[at]
        try:
            data = end.recv(1 << 18)
            if data and (source, target) in self.swallowed:
                self.bytes_swallowed += len(data)
            elif data:
                pair[1 - at][0].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._close(pair)

    def _run(self):
        while not self.stopping:
            ready = self.selector.select(0.05)
            with self.lock:
                for key, _ in ready:
                    if key.fileobj.fileno() < 0:
                        continue  # closed a moment ago, with its other end
                    kind, *rest = key.data
                    if kind == "listener":
                        self._accept(key.fileobj, *rest)
                    else:
                        self._pass_on(*rest)
            time.sleep(0)
