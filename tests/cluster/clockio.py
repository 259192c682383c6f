"""clockio.py - steers clockio.c: a node whose clocks are not those of the others."""

import mmap
import os
import struct

import faultio


class Clock:
    """The clocks of one node; give `environment` to its start. `rate`: of both, from the start on."""

    SIZE = 24

    def __init__(self, node, rate=1.0):
        path = os.path.join(node.directory, "clockio.order")
        with open(path, "wb") as file:
            file.write(struct.pack("<qqq", 0, 0, round(rate * 1000)))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), self.SIZE)
        self.environment = {"LD_PRELOAD": faultio.library("clockio"), "CLOCKIO_ORDER": path}

    def set_ahead(self, seconds):
        """The wall clock is so much ahead of the true one, or behind it, from now on."""
        self.map[0:8] = struct.pack("<q", round(seconds * 1e9))

    @property
    def asked(self):
        return struct.unpack("<q", self.map[8:16])[0]
