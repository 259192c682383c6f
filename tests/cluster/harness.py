"""harness.py - real kvnode processes on loopback for tests: a cluster, a small RESP client, bounded waits.

A test is a program: it defines unittest classes and ends with harness.main(). Options of each such program:
    --bin DIR   where kvnode and kvctl are (default build/release/bin)
    --long      more rounds
    NAME...     only tests whose names contain one of these
Only programs that the harness itself started are ever signalled, and none outlives it.
"""

import atexit
import ctypes
import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.path.join(TOP, "build/release/bin")
LONG = False
# Programs under a sanitizer are slower; waits are stretched, never what a test demands of the answers.
SLOW = 1

# Small segments, so that sealing happens in every run, and a short log for nodes that lag behind.
SMALL = {"segment_size": "256kb", "max_value": "64kb", "retention": "1mb"}

EXIT_CLEAN, EXIT_CONFIG, EXIT_DATA, EXIT_DISK = 0, 1, 2, 3

# Refusals that are made before a write is proposed: it did not happen and will not.
REFUSED = ("CLUSTERDOWN", "TRYAGAIN", "LOADING", "MOVED", "NOSPACE", "OOM", "TOOBIG", "READONLY")

# What a log must never hold.
TROUBLE = ("ERROR: AddressSanitizer", "runtime error:", "kvnode: bug:", "WARNING: ThreadSanitizer",
           "ERROR: LeakSanitizer", "Segmentation fault")


class ReplyError(Exception):
    """An error reply. `code` is its first word."""

    def __init__(self, text):
        super().__init__(text)
        self.code = text.split(" ", 1)[0]


class Lost(Exception):
    """No reply: the connection broke or the time was over. Whatever was sent may have happened."""


class Unsent(Exception):
    """The connection could not be made: nothing happened."""


class Client:
    """One RESP2 connection. Calls raise ReplyError, Lost or Unsent."""

    def __init__(self, port, timeout=5.0, host="127.0.0.1"):
        self.timeout = timeout
        self.buffer = bytearray()
        try:
            self.socket = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise Unsent(str(error)) from error
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(timeout)

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @staticmethod
    def encode(arguments):
        parts = [b"*%d\r\n" % len(arguments)]
        for argument in arguments:
            if isinstance(argument, str):
                argument = argument.encode()
            elif isinstance(argument, int):
                argument = b"%d" % argument
            parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
        return b"".join(parts)

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except OSError as error:
            raise Lost(str(error)) from error

    def send(self, *arguments):
        self.send_raw(self.encode(arguments))

    def _more(self):
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            raise Lost(str(error) or type(error).__name__) from error
        if not data:
            raise Lost("closed by the server")
        self.buffer += data

    def _line(self):
        while True:
            end = self.buffer.find(b"\r\n")
            if end >= 0:
                line = bytes(self.buffer[:end])
                del self.buffer[:end + 2]
                return line
            self._more()

    def _bytes(self, size):
        while len(self.buffer) < size + 2:
            self._more()
        data = bytes(self.buffer[:size])
        del self.buffer[:size + 2]
        return data

    def read(self):
        """The next reply; an error reply is returned as a ReplyError, not raised."""
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            return ReplyError(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else self._bytes(int(rest))
        if kind == b"*":
            return None if rest == b"-1" else [self.read() for _ in range(int(rest))]
        raise AssertionError(f"not a RESP2 reply: {line!r}")

    def call(self, *arguments):
        self.send(*arguments)
        reply = self.read()
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    def pipeline(self, commands):
        self.send_raw(b"".join(self.encode(command) for command in commands))
        return [self.read() for _ in commands]


def wait_until(what, condition, seconds=15.0, pause=0.05):
    """Polls until the condition returns something true, and returns that."""
    deadline = time.monotonic() + seconds * SLOW
    problem = None
    while time.monotonic() < deadline:
        try:
            result = condition()
            problem = None
        except (ReplyError, Lost, Unsent, OSError) as error:
            result, problem = None, error
        if result:
            return result
        time.sleep(pause)
    raise AssertionError(f"not within {seconds * SLOW:.0f} s: {what}" + (f" ({problem})" if problem else ""))


# ---- ports and processes -------------------------------------------------------------------------------

# Ports are taken from blocks below the range from which the kernel takes those of outgoing connections. Who listens on
# the first port of a block owns it: nodes that are down keep their ports, whatever other test programs run meanwhile.
PORT_FIRST, PORT_LAST, PORT_BLOCK = 12000, 31000, 500
_port_blocks = []  # the listening sockets
_next_port = 0


def _take_port_block():
    global _next_port
    blocks = list(range(PORT_FIRST, PORT_LAST, PORT_BLOCK))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        owner = socket.socket()
        try:
            owner.bind(("127.0.0.1", first))
            owner.listen(1)
        except OSError:
            owner.close()
            continue
        _port_blocks.append(owner)
        _next_port = first
        return
    raise AssertionError("no free ports")


def free_port():
    """A port that nobody uses now. The last ones of a block stay free for whoever needs some in a row."""
    global _next_port
    while True:
        if _next_port % PORT_BLOCK in (0, PORT_BLOCK - 10):
            _take_port_block()
        _next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _next_port))
                return _next_port
            except OSError:
                continue


_processes = []
_libc = ctypes.CDLL(None)


def _die_with_parent():
    _libc.prctl(1, signal.SIGKILL)


def spawn(arguments, log_path, environment=None, **more):
    """Starts a program that dies with this one. Call it from the main thread only."""
    log = open(log_path, "ab")
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                               env=environment, preexec_fn=_die_with_parent, **more)
    log.close()
    _processes.append(process)
    return process


def _kill_all():
    for process in _processes:
        if process.poll() is None:
            process.kill()
            process.wait()


atexit.register(_kill_all)


def clean_environment(more=None):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KVNODE_", "KVCTL_"))}
    environment.setdefault("ASAN_OPTIONS", "abort_on_error=0:exitcode=99:verify_asan_link_order=0")
    environment.update(more or {})
    return environment


class Node:
    """One kvnode: its options, its directory, its process."""

    def __init__(self, name, directory, options, data=None, environment=None):
        self.name = name
        self.directory = directory
        self.data = data or os.path.join(directory, "data")
        self.log_path = os.path.join(directory, "kvnode.log")
        self.options = dict(options)
        self.environment = environment or {}
        self.host = "127.0.0.1"
        self.prefix = []  # what the command begins with
        self.client_port = free_port()
        self.cluster_client_port = free_port()
        self.peer_port = free_port()
        self.http_port = free_port()
        self.process = None
        os.makedirs(directory, exist_ok=True)

    def command(self, more=None):
        options = {
            "name": self.name,
            "data": self.data,
            "client": f"{self.host}:{self.client_port}",
            "cluster-client": f"{self.host}:{self.cluster_client_port}",
            "peer": f"{self.host}:{self.peer_port}",
            "http": f"{self.host}:{self.http_port}",
            **self.options, **(more or {}),
        }
        arguments = [*self.prefix, os.path.join(BIN, "kvnode")]
        for option, value in options.items():
            if value is not None:
                arguments += [f"--{option}", str(value)]
        return arguments

    def start(self, more=None, environment=None, **spawn_options):
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs already"
        self.process = spawn(self.command(more), self.log_path,
                             clean_environment({**self.environment, **(environment or {})}), **spawn_options)
        return self

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        if self.alive():
            self.process.kill()
        if self.process is not None:
            self.process.wait(timeout=20)

    def terminate(self, seconds=20):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait_exit(seconds)

    def wait_exit(self, seconds=20):
        try:
            return self.process.wait(timeout=seconds * SLOW)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {seconds * SLOW} s\n{self.log_tail()}") from None

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def client(self, timeout=5.0):
        return Client(self.client_port, timeout * SLOW, self.host)

    def call(self, *arguments, timeout=5.0):
        with self.client(timeout) as client:
            return client.call(*arguments)

    def status(self, timeout=2.0):
        """KV.STATUS as a dictionary of strings."""
        reply = self.call("KV.STATUS", timeout=timeout)
        text = [item.decode() if isinstance(item, bytes) else item for item in reply]
        return dict(zip(text[::2], text[1::2]))

    def http(self, path, timeout=3.0):
        """(status, body) of a GET on the HTTP port."""
        with socket.create_connection((self.host, self.http_port), timeout=timeout) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            data = b""
            while True:
                more = connection.recv(65536)
                if not more:
                    break
                data += more
        head, _, body = data.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    def wait_serving(self, seconds=20):
        def serving():
            if not self.alive():
                raise AssertionError(f"{self.name} ended with {self.process.returncode}\n{self.log_tail()}")
            return isinstance(self.call("EXISTS", "harness:serving"), int)
        wait_until(f"{self.name} serves", serving, seconds)
        return self

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=15):
        return "\n".join(f"    {self.name}| {line}" for line in self.log().splitlines()[-lines:])

    def log_trouble(self):
        return "\n".join(line for line in self.log().splitlines() if any(word in line for word in TROUBLE))

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * 1024
        return 0

    def open_sockets(self):
        count = 0
        folder = f"/proc/{self.process.pid}/fd"
        for name in os.listdir(folder):
            try:
                count += os.readlink(os.path.join(folder, name)).startswith("socket:")
            except FileNotFoundError:
                pass
        return count


class Cluster:
    """Nodes that know each other. Use as a context manager; started unless start=False."""

    def __init__(self, count=3, start=True, data_root=None, node_options=None, network=None, **options):
        self.directory = work_directory()
        options = {name.replace("_", "-"): value for name, value in options.items()}
        self.nodes = []
        for number in range(1, count + 1):
            name = f"node{number}"
            own = {**options, **(node_options or {}).get(name, {})}
            data = os.path.join(data_root[number - 1], "data") if data_root else None
            self.nodes.append(Node(name, os.path.join(self.directory, name), own, data))
            if network:
                network.place(self.nodes[-1])
        members = ",".join(f"{node.name}={node.host}:{node.peer_port}" for node in self.nodes)
        if count > 1:
            for node in self.nodes:
                node.options.setdefault("cluster", members)
        self.start_now = start

    def __enter__(self):
        if self.start_now:
            try:
                self.start()
            except BaseException:
                self.__exit__(*sys.exc_info())
                raise
        return self

    def __exit__(self, kind, value, trace):
        if kind is not None and kind is not unittest.SkipTest:
            for node in self.nodes:
                print(f"--- {node.name} ({node.directory})\n{node.log_tail(25)}", flush=True)
                try:
                    print(f"    {node.name}# {node.status(1)}", flush=True)
                except (ReplyError, Lost, Unsent, OSError) as error:
                    print(f"    {node.name}# no status: {error}", flush=True)
        for node in self.nodes:
            if node.alive():
                node.process.send_signal(signal.SIGCONT)
                node.kill()
        for node in self.nodes:
            # A CHECK of ours or a sanitizer's report is a failure, whatever the test looked at.
            if kind is None:
                bad = node.log_trouble()
                assert not bad, f"{node.name} reported:\n{bad}"
        if kind is None:
            shutil.rmtree(self.directory, ignore_errors=True)
        return False

    def start(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_serving()
        return self

    def alive(self):
        return [node for node in self.nodes if node.alive()]

    def leader(self, seconds=15, among=None):
        """The node that leads; of two that say so, the one of the later term."""
        def find():
            best = None
            for node in among or self.alive():
                try:
                    status = node.status()
                except (ReplyError, Lost, Unsent, OSError):
                    continue
                if status["role"] == "leader" and (best is None or int(status["term"]) > best[0]):
                    best = (int(status["term"]), node)
            return best and best[1]
        return wait_until("a leader", find, seconds)

    def followers(self):
        leader = self.leader()
        return [node for node in self.alive() if node is not leader]

    def wait_converged(self, seconds=40):
        """Until every live node has applied what the leader has committed now. A load may go on meanwhile."""
        target = int(self.leader().status()["committed"])

        def converged():
            return all(int(node.status()["applied"]) >= target for node in self.alive())
        wait_until("all nodes have applied the leader's log", converged, seconds, 0.1)

    def kvctl(self, *arguments, nodes=None, stdin=None, timeout=20):
        """Runs kvctl; a CompletedProcess with text output."""
        addresses = ",".join(f"{node.host}:{node.client_port}" for node in nodes or self.nodes)
        return subprocess.run([os.path.join(BIN, "kvctl"), "--nodes", addresses, *arguments], input=stdin,
                              capture_output=True, text=True, timeout=timeout * SLOW, env=clean_environment(),
                              check=False)


# ---- where tests work ------------------------------------------------------------------------------------

_work_count = 0


def work_directory(name=""):
    """A fresh directory under build/, which is on a real disk."""
    global _work_count
    _work_count += 1
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    path = os.path.join(TOP, "build", "cluster-tests", f"{program}-{os.getpid()}-{_work_count}{name}")
    shutil.rmtree(path, ignore_errors=True)
    os.makedirs(path)
    return path


def _remove_old_directories():
    """What failed runs of this program left for whoever wanted to look."""
    folder = os.path.join(TOP, "build", "cluster-tests")
    program = os.path.splitext(os.path.basename(sys.argv[0]))[0]
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        made_by, _, rest = name.partition("-")
        pid = rest.split("-")[0]
        if made_by == program and not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def is_root():
    return os.geteuid() == 0


def run_quiet(*arguments):
    """Runs a system program; False when it is not there or fails."""
    try:
        return subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class Mount:
    """A file system of its own, unmounted at the end. `kind` is tmpfs, ext4 or xfs (on a loop device)."""

    def __init__(self, path, kind, size, image=None, options=()):
        self.path, self.kind, self.size = path, kind, size
        self.image = image or path + ".img"
        self.options = options
        self.mounted = False
        self.end_of_frost = None

    def __enter__(self):
        os.makedirs(self.path, exist_ok=True)
        if not is_root():
            raise unittest.SkipTest("needs root to mount a file system")
        if self.kind == "tmpfs":
            self.mounted = run_quiet("mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path)
        else:
            with open(self.image, "wb") as image:
                image.truncate(self.size)
            force = "-f" if self.kind == "xfs" else "-F"
            self.mounted = run_quiet(f"mkfs.{self.kind}", "-q", force, *self.options, self.image) and self.mount()
        if not self.mounted:
            raise unittest.SkipTest(f"cannot mount {self.kind} here")
        return self

    def mount(self, options="loop"):
        return run_quiet("mount", "-o", options, self.image, self.path)

    def repair(self):
        """What the machine does before it mounts it again. 1: errors were mended."""
        return subprocess.run(["e2fsck", "-fy", self.image], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=60, check=False).returncode <= 1

    def balloon(self, leave):
        """Takes all the space but this; burst() gives it back."""
        try:
            with open(os.path.join(self.path, "balloon"), "ab", buffering=0) as file:
                for piece in (1 << 20, 1 << 12):
                    while True:
                        stat = os.statvfs(self.path)
                        if stat.f_bavail * stat.f_frsize <= leave + piece or file.write(bytes(piece)) == 0:
                            break
                os.fsync(file.fileno())
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def burst(self):
        if os.path.exists(os.path.join(self.path, "balloon")):
            os.unlink(os.path.join(self.path, "balloon"))

    def resize(self, size):
        assert run_quiet("mount", "-o", f"remount,size={size}", self.path), "cannot resize it"

    def abort(self):
        """What an error of the file system itself does: from now on it is read-only."""
        assert run_quiet("mount", "-o", "remount,abort", self.path), "cannot make the file system read-only"

    def freeze(self, seconds):
        """Nothing is written any more, and whoever tries waits. Ends with thaw(), or by itself after so many seconds,
        since nobody could even be killed otherwise."""
        self.end_of_frost = subprocess.Popen(["sh", "-c", f"sleep {seconds}; exec fsfreeze -u '{self.path}'"],
                                             start_new_session=True, stdin=subprocess.DEVNULL,
                                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not run_quiet("fsfreeze", "-f", self.path):
            self.thaw()
            raise unittest.SkipTest("cannot freeze a file system here")

    def thaw(self):
        if self.end_of_frost is None:
            return
        run_quiet("fsfreeze", "-u", self.path)
        os.killpg(self.end_of_frost.pid, signal.SIGKILL)
        self.end_of_frost.wait()
        self.end_of_frost = None

    def unmount(self):
        for _ in range(50):
            if run_quiet("umount", self.path):
                return True
            time.sleep(0.1)
        return False

    def __exit__(self, *_):
        self.thaw()
        if self.mounted and not self.unmount():
            run_quiet("umount", "-l", self.path)
        if os.path.exists(self.image):
            os.unlink(self.image)


# ---- running --------------------------------------------------------------------------------------------

class _Result(unittest.TextTestResult):
    def startTest(self, test):
        super().startTest(test)
        test.begin = time.monotonic()

    def stopTest(self, test):
        print(f"    {time.monotonic() - test.begin:.1f} s", flush=True)
        super().stopTest(test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        print(f"SKIPPED {test.id().split('.', 1)[-1]}: {reason}", flush=True)


def main():
    global BIN, LONG, SLOW
    names = []
    arguments = iter(sys.argv[1:])
    for argument in arguments:
        if argument == "--bin":
            BIN = os.path.abspath(next(arguments))
        elif argument == "--long":
            LONG = True
        elif argument.startswith("-"):
            print(__doc__, file=sys.stderr)
            sys.exit(2)
        else:
            names.append(argument)
    _remove_old_directories()
    if not os.access(os.path.join(BIN, "kvnode"), os.X_OK):
        print(f"there is no kvnode in {BIN}: build it first", file=sys.stderr)
        print("0 passed, 1 failed")
        sys.exit(1)
    with open(os.path.join(BIN, "kvnode"), "rb") as program:
        content = program.read()
        if b"__asan_init" in content or b"__tsan_init" in content:
            SLOW = 4
    loader = unittest.TestLoader()
    suite = unittest.TestSuite()
    for group in loader.loadTestsFromModule(sys.modules["__main__"]):
        for test in group:
            if not names or any(name in test.id() for name in names):
                suite.addTest(test)
    sys.stdout.reconfigure(line_buffering=True)
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=_Result).run(suite)
    # A test of many parts fails once.
    failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
    # A class that is skipped as a whole ran no test.
    skipped = sum(isinstance(test, unittest.TestCase) for test, _ in result.skipped)
    passed = result.testsRun - failed - skipped
    if result.testsRun == 0 and not result.skipped:
        print("no test has such a name")
        failed = 1
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)

