"""Lock libraries for Python. driver.py LIBRARY PORT OTHER-PORT: prints ok, or raises."""

import importlib.metadata
import logging
import sys
import time

import redis


def until(what, condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class RedlockPy:
    def __init__(self, client):
        import redlock
        self.redlock = redlock.Redlock([client], retry_count=1)
        self.lock = None

    def acquire(self, name, ttl):
        self.lock = self.redlock.lock(name, ttl)
        return bool(self.lock)

    def release(self):
        self.redlock.unlock(self.lock)

    extend = None


class Pottery:
    def __init__(self, client):
        self.client = client
        self.lock = None

    def acquire(self, name, ttl):
        from pottery import Redlock
        self.lock = Redlock(key=name, masters={self.client}, auto_release_time=ttl / 1000)
        taken = self.lock.acquire(blocking=False)
        assert bool(self.lock.locked()) == taken, "locked()"
        return taken

    def extend(self):
        self.lock.extend()

    def release(self):
        from pottery import ReleaseUnlockedLock
        try:
            self.lock.release()
        except ReleaseUnlockedLock:
            pass


def key_of(library, name):
    return f"redlock:{name}" if library == "pottery" else name


def check(library, one, other):
    kind = {"redlock-py": RedlockPy, "pottery": Pottery}[library]
    name = f"lock-{library}"
    key = key_of(library, name)
    first, second = kind(one), kind(other)
    assert first.acquire(name, 5000)
    assert 4000 < other.pttl(key) <= 5000, other.pttl(key)
    assert not second.acquire(name, 5000)
    if kind.extend is not None:
        until("some of it is over", lambda: other.pttl(key) < 4900)
        first.extend()
        assert other.pttl(key) > 4900
    first.release()
    assert one.get(key) is None
    # Whose lock is over takes nothing from the next one.
    assert first.acquire(name, 300)
    until("it is over", lambda: other.get(key) is None)
    assert second.acquire(name, 5000)
    first.release()
    assert one.get(key) is not None
    second.release()
    assert one.get(key) is None


def main():
    library, port, other = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    logging.basicConfig(level=logging.CRITICAL)
    failed = []
    handler = logging.Handler()
    handler.emit = failed.append
    logging.getLogger().addHandler(handler)
    importlib.metadata.version(library)
    check(library, redis.Redis(port=port, socket_timeout=10), redis.Redis(port=other, socket_timeout=10))
    # redlock-py tells of a script that was refused only here.
    errors = [record.getMessage() for record in failed if record.levelno >= logging.ERROR]
    assert not errors, errors
    print("ok")


main()
