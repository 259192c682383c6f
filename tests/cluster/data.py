"""data.py - many keys whose values follow from their numbers, so that a node's whole content can be verified."""

import hashlib

BATCH = 64


def value(prefix, number, size):
    """Bytes that no compression makes shorter: what tests want is their weight on the disk."""
    return hashlib.shake_128(f"{prefix}:{number}".encode()).digest(size)


def key(prefix, number):
    return f"{prefix}:{number:08d}"


def fill(node, prefix, count, size, start=0):
    """Writes keys start .. start + count - 1; every one must be acknowledged."""
    with node.client(30) as client:
        for begin in range(start, start + count, BATCH):
            numbers = range(begin, min(begin + BATCH, start + count))
            replies = client.pipeline([("SET", key(prefix, n), value(prefix, n, size)) for n in numbers])
            for number, reply in zip(numbers, replies):
                assert reply == "OK", f"SET {key(prefix, number)}: {reply}"


def verify(node, prefix, count, size, start=0):
    """Reads them all through this node and compares every byte."""
    with node.client(30) as client:
        for begin in range(start, start + count, BATCH):
            numbers = range(begin, min(begin + BATCH, start + count))
            replies = client.pipeline([("GET", key(prefix, n)) for n in numbers])
            for number, reply in zip(numbers, replies):
                wanted = value(prefix, number, size)
                assert reply == wanted, (f"{key(prefix, number)} at {node.name}: "
                                         f"{len(reply) if isinstance(reply, bytes) else reply} instead of {size} bytes")
