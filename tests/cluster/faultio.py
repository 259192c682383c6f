"""faultio.py - builds and steers faultio.c, the preloaded library that lets disk calls of a node go wrong."""

import atexit
import mmap
import os
import shutil
import struct
import subprocess

import harness

WRITE, SYNC, NAME, SPACE, SYNC_NEW, READ = 1, 2, 4, 8, 16, 32
ERROR, SHORT, EXIT_BEFORE, EXIT_AFTER, ERROR_EVER, EXIT_PART, DELAY, INTERRUPT = range(8)
EXIT_CODE = 113

_libraries = {}


def library(name="faultio"):
    """Compiles tests/cluster/NAME.c, once."""
    if name not in _libraries:
        source = os.path.join(harness.TOP, "tests", "cluster", f"{name}.c")
        folder = harness.work_directory(f"-{name}")
        atexit.register(shutil.rmtree, folder, True)
        path = os.path.join(folder, f"{name}.so")
        subprocess.run(["cc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fPIC", "-shared", "-o", path,
                        source, "-ldl"], check=True, timeout=120)
        _libraries[name] = path
    return _libraries[name]


class Faults:
    """The orders for one node; give `environment` to its start."""

    SIZE = 104

    def __init__(self, node):
        self.path = os.path.join(node.directory, "faultio.order")
        with open(self.path, "wb") as file:
            file.write(bytes(self.SIZE))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), self.SIZE)
        self.environment = {"LD_PRELOAD": library(), "FAULTIO_ORDER": self.path,
                            "FAULTIO_PATH": os.path.realpath(os.path.dirname(node.data))
                            + "/" + os.path.basename(node.data)}

    def arm(self, calls, action, countdown=1, error=0, name=""):
        """The countdown is written last: it is what starts the count."""
        self.map[0:8] = bytes(8)
        self.map[40:104] = name.encode().ljust(64, b"\0")
        self.map[8:40] = struct.pack("<IIiIqq", calls, action, error, 0, 0, 0)
        self.map[0:8] = struct.pack("<q", countdown)

    def count(self, calls):
        """Counts only."""
        self.arm(calls, ERROR, 0)

    def delay(self, milliseconds):
        """Every write to the disk takes so much longer from now on."""
        self.arm(SYNC | SYNC_NEW, DELAY, 1, milliseconds)

    def disarm(self):
        self.map[0:8] = bytes(8)
        self.map[8:12] = bytes(4)

    @property
    def seen(self):
        return struct.unpack("<q", self.map[24:32])[0]

    @property
    def hits(self):
        return struct.unpack("<q", self.map[32:40])[0]
