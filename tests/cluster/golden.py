#!/usr/bin/env python3
"""golden.py - makes a data directory to be kept: what a real node of today leaves behind after kill -9.

    python3 tests/cluster/golden.py BIN tests/cluster/golden/vN.tar.gz

Run it once for a new version of any format, never over an existing file: test_golden.py starts every later program on
these directories and compares what is in them with content() below, which therefore never changes either."""

import io
import os
import sys
import tarfile
import time

import harness
from harness import Cluster

# The node's own addresses are in its files, and the ports of a test differ: this one is nobody's.
OPTIONS = {"advertise_peer": "golden.invalid:7379", "cluster": "node1=golden.invalid:7379", "segment_size": "64kb",
           "max_value": "2kb", "retention": "64kb", "election_timeout": 100, "heartbeat": 20}
EXPIRY_MS = 4_000_000_000_000  # in the year 2096


def operations():
    """What was asked, in this order: most is overwritten, some is gone, some expires."""
    for number in range(160):
        key = f"key:{number * 7 % 40:02d}"
        if number % 13 == 5:
            yield "DEL", key
        elif number % 11 == 3:
            yield "INCR", "counter"
        elif number % 17 == 9:
            yield "SET", key, f"small {number}"
        elif number % 19 == 4:
            yield "SET", key, f"expires {number}", "PXAT", str(EXPIRY_MS + number)
        else:
            yield "SET", key, (f"value {number} " * 90)[:300 + number * 5]


def content():
    """Key to (value, expiry in milliseconds or -1)."""
    found = {}
    for name, key, *rest in operations():
        if name == "DEL":
            found.pop(key, None)
        elif name == "INCR":
            found[key] = (b"%d" % (int(found.get(key, (b"0",))[0]) + 1), -1)
        else:
            found[key] = (rest[0].encode(), int(rest[2]) if len(rest) == 3 else -1)
    return found


def pack(folder, path):
    """A sparse-minded archive: the same bytes for the same files."""
    with tarfile.open(path, "x:gz", compresslevel=9) as archive:
        for root, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted(files):
                full = os.path.join(root, name)
                with open(full, "rb") as file:
                    data = file.read()
                info = tarfile.TarInfo(os.path.relpath(full, folder))
                info.size, info.mode = len(data), 0o600
                archive.addfile(info, io.BytesIO(data))


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    harness.BIN = os.path.abspath(sys.argv[1])
    with Cluster(1, start=False, **OPTIONS) as cluster:
        node = cluster.nodes[0]
        node.start().wait_serving()
        with node.client(20) as client:
            for operation in operations():
                reply = client.call(*operation)
                assert not isinstance(reply, harness.ReplyError), reply
            if "v1." not in sys.argv[2]:
                client.call("KV.COMPACT")
        time.sleep(2.5)  # for what goes on in the background
        with node.client(20) as client:
            client.call("SET", "last", "not marked")
            node.kill()
        pack(node.data, sys.argv[2])


if __name__ == "__main__":
    main()
