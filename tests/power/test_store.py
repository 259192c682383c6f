#!/usr/bin/env python3
"""U10, F02: the power fails under the real store on a real ext4 and xfs, a hundred times, at night thousands of times.

FS_IOC_GOINGDOWN stops a file system as a power cut does: nothing reaches the device any more, its journal is not written
out. What was acknowledged before must be there when it is mounted again, and a start is never refused. Only what was read
before the cut counts as acknowledged: an answer that races it may be older or younger."""

import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Mount  # noqa: E402

FS_IOC_GOINGDOWN = 0x8004587D
GOING_DOWN_NO_LOG_FLUSH = 2
ENTRIES_MAX = 1500


class Writer:
    """One life of power_writer, and what it acknowledged in all of them."""

    def __init__(self, mount, directory):
        self.mount, self.directory = mount, directory
        self.terms, self.ballot = [], (0, 0)
        self.process, self.buffer = None, b""
        self.opened, self.torn, self.found, self.full = False, 0, 0, False

    def start(self, seed):
        with open(os.path.join(self.directory, "history"), "wb") as file:
            file.write(struct.pack(f"<QQQ{len(self.terms)}I", len(self.terms), *self.ballot, *self.terms))
        self.opened, self.full, self.buffer = False, False, b""
        folder = os.path.join(self.mount.path, "data")
        self.process = subprocess.Popen(
            [os.path.join(harness.BIN, "power_writer"), folder, file.name, str(seed)],
            stdout=subprocess.PIPE, stderr=open(os.path.join(self.directory, "errors"), "ab"))

    def read(self, seconds):
        """Takes note of what is said within so much time. False: the writer is at its end."""
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if not select.select([self.process.stdout], [], [], max(0, left))[0]:
                return True
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return False
            self.buffer += data
            *lines, self.buffer = self.buffer.split(b"\n")
            for line in lines:
                self.note(line.decode())
            if left <= 0:
                return True

    def note(self, line):
        word, *rest = line.split(" ", 2)
        if word == "vote":
            self.ballot = (int(rest[0]), int(rest[1]))
        elif word == "ack":
            self.terms += [int(rest[1])] * (int(rest[0]) - len(self.terms))
        elif word == "term":
            assert int(rest[0]) == len(self.terms) + 1, line
            self.terms.append(int(rest[1]))
            self.found += 1
        elif word == "open":
            assert int(rest[0]) == len(self.terms), (line, len(self.terms))
            self.opened = True
            self.torn += "torn tail" in line
        elif word == "full":
            self.full = True
        else:
            raise AssertionError(line)

    def wait_open(self):
        deadline = time.monotonic() + 20 * harness.SLOW
        while not self.opened:
            if not self.read(0.2) or time.monotonic() > deadline:
                raise AssertionError(f"the store was not opened: exit code {self.process.wait(5)}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def cut_power(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(folder, FS_IOC_GOINGDOWN, struct.pack("I", GOING_DOWN_NO_LOG_FLUSH))
    except OSError as error:
        raise unittest.SkipTest(f"this kernel cannot cut the power here: {error}") from error
    finally:
        os.close(folder)


class Store(unittest.TestCase):
    def cut_again_and_again(self, kind, cycles):
        generator = random.Random(kind)
        done = torn = found = entries = 0
        while done < cycles:
            folder = harness.work_directory(f"-power-{kind}")
            directory = harness.work_directory("-history")
            with Mount(folder, kind, 1 << 30) as mount:
                writer = Writer(mount, directory)
                while done < cycles and len(writer.terms) < ENTRIES_MAX:
                    writer.start(done + 1)
                    try:
                        writer.wait_open()
                        before = len(writer.terms)
                        writer.read(generator.choice((0.002, 0.008, 0.02, 0.04)) * harness.SLOW)
                        cut_power(mount.path)
                    finally:
                        writer.kill()
                    entries += len(writer.terms) - before
                    done += 1
                    self.assertTrue(mount.unmount(), "the file system is still in use")
                    self.assertTrue(mount.mount(), "the file system cannot be mounted again")
                writer.start(done + 1)
                try:
                    writer.wait_open()
                finally:
                    writer.kill()
                torn += writer.torn
                found += writer.found
        print(f"    {kind}: {done} cuts, {entries} entries acknowledged, {found} more found, "
              f"{torn} torn tails", flush=True)
        # Else nothing was written, and nothing shown.
        self.assertGreater(entries, 5 * done)

    def test_u10_f02_power_cuts_on_ext4(self):
        self.cut_again_and_again("ext4", 1000 if harness.LONG else 50)

    def test_u10_f02_power_cuts_on_xfs(self):
        self.cut_again_and_again("xfs", 1000 if harness.LONG else 50)


if __name__ == "__main__":
    harness.main()
