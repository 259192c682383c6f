"""systems.py - the systems that tests/bench/run compares: each starts its own processes on loopback, with a fresh
data directory, and stops them by their numbers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

HZ = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A system did not do what the comparison needs; the text says what."""


def free_ports(count):
    """Ports that nobody listens on; held together so that no two are the same."""
    sockets = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        sockets.append(sock)
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


def wait_for(question, seconds, what):
    """Asks until the answer is neither None nor False, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    raise Failed(f"{what} after {seconds} s")


def ask_redis(port, *words):
    """One command, its whole reply as lines of bytes; None when it cannot be had."""
    request = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
            sock.sendall(request.encode())
            stream = sock.makefile("rb")
            lines = [stream.readline().rstrip(b"\r\n")]
            if lines[0][:1] == b"*" and lines[0] != b"*-1":
                for _ in range(2 * int(lines[0][1:])):
                    lines.append(stream.readline().rstrip(b"\r\n"))
            elif lines[0][:1] == b"$" and lines[0] != b"$-1":
                lines.append(stream.read(int(lines[0][1:])))
            return lines
    except (OSError, ValueError):
        return None


def post_json(port, path):
    try:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=b"{}")
        with urllib.request.urlopen(request, timeout=2) as answer:
            return json.load(answer)
    except (OSError, ValueError, urllib.error.URLError):
        return None


def version_of(command, pattern):
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False).stdout
    except OSError:
        return "?"
    found = re.search(pattern, output)
    return found.group(1) if found else "?"


class System:
    """One system under test. `rows` are the ways in which it is measured: (name, name of its address)."""

    name = ""
    protocol = "resp"
    rows = ()

    def __init__(self, options, directory):
        self.options = options
        self.directory = os.path.join(directory, self.name.lower())
        self.processes = []

    @classmethod
    def missing(cls, options):
        """What is not installed or built, or None."""
        raise NotImplementedError

    def start(self):
        raise NotImplementedError

    def address(self, row):
        raise NotImplementedError

    def spawn(self, name, command):
        os.makedirs(self.directory, exist_ok=True)
        with open(os.path.join(self.directory, name + ".log"), "wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True)
        self.processes.append((name, process))

    def check_alive(self):
        for name, process in self.processes:
            if process.poll() is not None:
                raise Failed(f"{self.name}: {name} ended with code {process.returncode}\n{self.last_lines(name)}")

    def last_lines(self, name, count=8):
        try:
            with open(os.path.join(self.directory, name + ".log"), "rb") as log:
                return log.read()[-4000:].decode(errors="replace").strip()[-1500:] if count else ""
        except OSError:
            return ""

    def cpu_seconds(self):
        """Processor time of every process so far, in the order in which they were started."""
        times = []
        for _, process in self.processes:
            try:
                with open(f"/proc/{process.pid}/stat", encoding="ascii", errors="replace") as file:
                    words = file.read().rpartition(")")[2].split()
                times.append((int(words[11]) + int(words[12])) / HZ)
            except (OSError, IndexError):
                times.append(0.0)
        return times

    def stop(self):
        for _, process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 15
        for _, process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes = []
        if not self.options.keep:
            shutil.rmtree(self.directory, ignore_errors=True)


class FlashKV(System):
    name = "FlashKV"
    rows = (("FlashKV", "leader"), ("FlashKV through a follower", "follower"))

    @classmethod
    def missing(cls, options):
        path = os.path.join(options.bin, "kvnode")
        return None if os.access(path, os.X_OK) else "kvnode is not built"

    def version(self):
        return version_of([os.path.join(self.options.bin, "kvnode"), "--version"], r"(\d+\.\d+\S*)")

    def start(self):
        ports = free_ports(9)
        self.ports = ports[0:3]
        members = ",".join(f"node{n + 1}=127.0.0.1:{ports[3 + n]}" for n in range(3))
        for n in range(3):
            self.spawn(f"node{n + 1}", [
                os.path.join(self.options.bin, "kvnode"), "--name", f"node{n + 1}", "--cluster", members,
                "--data", os.path.join(self.directory, f"node{n + 1}"),
                "--client", f"127.0.0.1:{ports[n]}", "--peer", f"127.0.0.1:{ports[3 + n]}",
                "--http", f"127.0.0.1:{ports[6 + n]}", *self.options.kvnode_option])
        for port in self.ports:
            wait_for(lambda port=port: self.serves(port), 30, f"FlashKV does not serve on port {port}")

    def serves(self, port):
        self.check_alive()
        lines = ask_redis(port, "EXISTS", "bench")
        return lines is not None and lines[0][:1] == b":"

    def leader_port(self):
        lines = ask_redis(self.ports[0], "KV.LEADER")
        # An array of name and client address.
        if lines is None or lines[0] != b"*2" or len(lines) != 5:
            return None
        port = int(lines[4].rpartition(b":")[2])
        return port if port in self.ports else None

    def address(self, row):
        leader = wait_for(self.leader_port, 10, "FlashKV names no leader")
        port = leader if row == "leader" else next(port for port in self.ports if port != leader)
        return f"127.0.0.1:{port}"


class Etcd(System):
    name = "etcd"
    protocol = "etcd"
    rows = (("etcd", "leader"),)

    @classmethod
    def missing(cls, options):
        return None if shutil.which("etcd") else "etcd is not installed (deploy/deps --test installs it)"

    def version(self):
        return version_of(["etcd", "--version"], r"etcd Version: (\S+)")

    def start(self):
        ports = free_ports(6)
        self.ports = ports[0:3]
        cluster = ",".join(f"etcd{n + 1}=http://127.0.0.1:{ports[3 + n]}" for n in range(3))
        for n in range(3):
            client, peer = f"http://127.0.0.1:{ports[n]}", f"http://127.0.0.1:{ports[3 + n]}"
            data = os.path.join(self.directory, f"etcd{n + 1}")
            os.makedirs(data, mode=0o700)
            # Without the quota etcd stops taking writes in the middle of a longer comparison.
            self.spawn(f"etcd{n + 1}-log", [
                "etcd", "--name", f"etcd{n + 1}", "--data-dir", data, "--log-level", "warn", "--logger", "zap",
                "--listen-client-urls", client, "--advertise-client-urls", client,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--initial-cluster-state", "new",
                "--initial-cluster-token", "flashkv-bench", "--quota-backend-bytes", "8589934592"])
        wait_for(self.leader_port, 30, "etcd has no leader")

    def leader_port(self):
        self.check_alive()
        for port in self.ports:
            status = post_json(port, "/v3/maintenance/status")
            if status and status.get("leader", "0") == status["header"]["member_id"]:
                return port
        return None

    def address(self, row):
        return f"127.0.0.1:{wait_for(self.leader_port, 10, 'etcd has no leader')}"


class Redis(System):
    name = "Redis"
    rows = (("Redis", "node"),)

    @classmethod
    def missing(cls, options):
        return None if shutil.which("redis-server") else "redis-server is not installed (deploy/deps --test installs it)"

    def version(self):
        return version_of(["redis-server", "--version"], r"v=(\S+)")

    def start(self):
        self.port = free_ports(1)[0]
        os.makedirs(self.directory)
        # No rewrite of the append-only file in the background: that would take processor time from Redis here.
        self.spawn("redis", [
            "redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.directory,
            "--save", "", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"])
        wait_for(self.serves, 20, "Redis does not serve")

    def serves(self):
        self.check_alive()
        return ask_redis(self.port, "PING") == [b"+PONG"]

    def address(self, row):
        return f"127.0.0.1:{self.port}"


SYSTEMS = {"flashkv": FlashKV, "etcd": Etcd, "redis": Redis}
