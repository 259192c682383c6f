"""clients.py - other people's Redis clients, unmodified, in the versions that the lock files beside it name.

Each is driven by a small program in its language (driver.*), which knows two things: `check` uses all that is promised
to work, `load` writes every 20 ms and counts what failed and how long the longest write took. What a program needs is
fetched from the language's own registry, once, into build/compat; a language that is not installed here, or a registry
that cannot be reached, skips its tests with the reason.

    clients.py prepare    fetches and builds everything, side by side
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "cluster"))

import harness  # noqa: E402

BUILD = os.path.join(harness.TOP, "build", "compat")
FETCH_SECONDS = 240


class Missing(Exception):
    """What the client needs is not here."""


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Missing(f"{program} is not installed")


def run(*command, folder, **environment):
    try:
        done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=FETCH_SECONDS, check=False, env={**os.environ, **environment})
    except subprocess.TimeoutExpired:
        raise Missing(f"{command[0]} took longer than {FETCH_SECONDS} s") from None
    if done.returncode != 0:
        raise Missing(f"{command[0]} failed: " + (done.stderr + done.stdout).strip()[-600:])
    return done.stdout


def fresh(name):
    """A copy of the folder of this language, to build in."""
    folder = os.path.join(BUILD, name)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, name), folder)
    return folder


def prepare_python(name="python", requirements=os.path.join(HERE, "requirements.txt")):
    folder = fresh(name)
    run(sys.executable, "-m", "venv", "environment", folder=folder)
    run("environment/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--require-hashes",
        "-r", requirements, folder=folder)


def prepare_node(name="node"):
    need("node", "npm")
    run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", os.path.join(BUILD, "npm-cache"),
        folder=fresh(name))


def prepare_go(name="go"):
    need("go")
    run("go", "build", "-mod=readonly", "-o", "driver", ".", folder=fresh(name), GOFLAGS="-modcacherw",
        GOMODCACHE=os.path.join(BUILD, "go-modules"), GOTOOLCHAIN="local", CGO_ENABLED="0")


def prepare_java():
    need("mvn", "java", "javac")
    folder = fresh("java")
    run("mvn", "-q", "-B", f"-Dmaven.repo.local={BUILD}/maven", "dependency:copy-dependencies", "-DincludeScope=runtime",
        "-DoutputDirectory=jars", folder=folder)
    run("javac", "-cp", "jars/*", "Driver.java", folder=folder)


def prepare_c():
    need("cc")
    run("cc", "-O1", "-o", "driver", "driver.c", "-lhiredis", folder=fresh("c"))


def prepare_locks_python():
    prepare_python("locks-python", "requirements.txt")


def prepare_locks_node():
    prepare_node("locks-node")


def prepare_locks_go():
    prepare_go("locks-go")


PREPARE = {"python": prepare_python, "node": prepare_node, "go": prepare_go, "java": prepare_java, "c": prepare_c,
           "locks-python": prepare_locks_python, "locks-node": prepare_locks_node, "locks-go": prepare_locks_go}


def wanted(name):
    """What the folder of a language has to hold now: a hash of it, and of what it is installed with."""
    digest = hashlib.sha256(sys.version.encode())
    folder = os.path.join(HERE, name)
    paths = [os.path.join(folder, file) for file in sorted(os.listdir(folder))]
    for path in paths + [os.path.join(HERE, "requirements.txt")]:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                digest.update(file.read())
    return digest.hexdigest()


def prepare(name):
    """Makes build/compat/NAME unless it is as wanted; Missing when that cannot be."""
    os.makedirs(BUILD, exist_ok=True)
    with open(os.path.join(BUILD, name + ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Several test programs run side by side.
        mark = os.path.join(BUILD, name, "ready")
        hash_now = wanted(name)
        try:
            with open(mark, encoding="ascii") as file:
                if file.read() == hash_now:
                    return os.path.join(BUILD, name)
        except FileNotFoundError:
            pass
        PREPARE[name]()
        with open(mark, "w", encoding="ascii") as file:
            file.write(hash_now)
    return os.path.join(BUILD, name)


def node_major():
    return int(run("node", "--version", folder=HERE).lstrip("v").split(".")[0])


class Driver:
    """One client library."""

    def __init__(self, name):
        self.name = name
        language = {"redis-py": "python", "go-redis": "go", "jedis": "java", "hiredis": "c"}.get(name, "node")
        folder = prepare(language)
        if name in ("ioredis6", "redis6") and node_major() < 20:
            raise Missing("Node.js 20 is needed")
        self.folder = folder
        self.command = {
            "python": [os.path.join(folder, "environment", "bin", "python"), "driver.py"],
            "node": ["node", "driver.js"],
            "go": [os.path.join(folder, "driver")],
            "java": ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", ".:jars/*", "Driver"],
            "c": [os.path.join(folder, "driver")],
        }[language]

    @staticmethod
    def ports(face, nodes):
        return ",".join(str(node.cluster_client_port if face == "cluster" else node.client_port) for node in nodes)

    def start(self, mode, face, nodes, seconds=0):
        return subprocess.Popen([*self.command, self.name, mode, face, self.ports(face, nodes), str(seconds)],
                                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def check(self, face, nodes):
        """The error, empty when everything works."""
        process = self.start("check", face, nodes)
        try:
            output, errors = process.communicate(timeout=40 * harness.SLOW)
        except subprocess.TimeoutExpired:
            process.kill()
            output, errors = process.communicate()
            errors += "\ntook too long"
        return "" if process.returncode == 0 and output.strip().endswith("ok") else (output + errors).strip()[-3000:] or "no output"


class Load:
    """A driver that writes, in one face; counts() waits for its end."""

    def __init__(self, driver, face, nodes, seconds):
        self.face = face
        self.process = driver.start("load", face, nodes, seconds)
        self.running = threading.Event()
        self.output = []
        self.errors = []
        self.readers = [threading.Thread(target=self._read), threading.Thread(target=self._read_errors)]
        for reader in self.readers:
            reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.output.append(line)
            if line.strip() == "running":
                self.running.set()
        self.running.set()

    def _read_errors(self):
        self.errors.extend(self.process.stderr)

    def counts(self):
        try:
            self.process.wait(timeout=60 * harness.SLOW)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self.readers:
            reader.join()
        self.process.stdout.close()
        self.process.stderr.close()
        for line in reversed(self.output):
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError(f"{self.face}: no result: " + "".join(self.output + self.errors)[-3000:])


def main():
    if sys.argv[1:] != ["prepare"]:
        print(__doc__, file=sys.stderr)
        sys.exit(2)

    def one(name):
        begin = time.monotonic()
        try:
            prepare(name)
            print(f"{name}: ready after {time.monotonic() - begin:.0f} s", flush=True)
        except Missing as missing:
            print(f"{name}: {missing}", flush=True)
    threads = [threading.Thread(target=one, args=(name,)) for name in PREPARE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
