"""redis-py, as clients.py starts it:
    driver.py redis-py check|load standalone|sentinel|cluster PORT,PORT,... [SECONDS]"""

import json
import sys
import time

import redis
from redis.cluster import ClusterNode
from redis.sentinel import Sentinel


def connect(face, ports):
    if face == "cluster":
        return redis.RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port) for port in ports], decode_responses=True)
    if face == "sentinel":
        sentinel = Sentinel([("127.0.0.1", port) for port in ports], decode_responses=True)
        return sentinel.master_for("mymaster", decode_responses=True)
    return redis.Redis(port=ports[0], decode_responses=True)


def check(client, face):
    def key(name):
        return f"{{redis-py:{face}}}{name}"
    assert client.set(key("k"), "v")
    assert client.get(key("k")) == "v"
    assert client.get(key("nothing")) is None
    assert client.set(key("k"), "w", nx=True) is None
    assert client.set(key("k"), "w", get=True, px=100000) == "v"
    assert client.pttl(key("k")) > 90000
    assert client.append(key("k"), "!") == 2
    assert client.incrby(key("n"), 41) == 41
    assert client.incr(key("n")) == 42
    assert client.incrbyfloat(key("f"), 1.5) == 1.5
    assert client.mset({key("a"): "1", key("b"): "2"})
    assert client.mget(key("a"), key("b"), key("c")) == ["1", "2", None]
    assert client.exists(key("a"), key("b"), key("c")) == 2
    assert client.getdel(key("a")) == "1"
    assert client.getrange(key("k"), 0, 0) == "w"
    assert client.expire(key("b"), 100) and client.ttl(key("b")) in (99, 100)
    assert set(client.scan_iter(match=key("*"), count=100)) >= {key("b"), key("k"), key("n")}
    try:
        client.lpush(key("list"), "x")
        raise AssertionError("lpush was taken")
    except redis.RedisError as error:
        # In cluster mode the client itself knows from COMMAND that there is no such command.
        assert "unknown command" in str(error) or "doesn't exist" in str(error), error
    with client.pipeline(transaction=False) as pipeline:
        for number in range(200):
            pipeline.set(key(f"p:{number}"), number).get(key(f"p:{number}"))
        assert pipeline.execute() == [part for number in range(200) for part in (True, str(number))]
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set(key("t"), 1)
        pipeline.incr(key("t"))
        pipeline.get(key("t"))
        replies = pipeline.execute()
        # In cluster mode redis-py gives the replies of a transaction as they came.
        assert replies[0] in (True, "OK") and replies[1:] == [2, "2"], replies
    with client.pipeline(transaction=True) as pipeline:
        pipeline.watch(key("t"))
        client.set(key("t"), "changed")
        pipeline.multi()
        pipeline.set(key("t"), "lost")
        try:
            pipeline.execute()
            raise AssertionError("the watched key had changed")
        except redis.WatchError:
            pass
    assert client.get(key("t")) == "changed"
    listener = client.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    client.publish("news", "hello")
    assert listener.get_message(timeout=5)["data"] == "hello"
    listener.close()


def load(client, face, seconds):
    result = {"operations": 0, "failed": 0, "longest_ms": 0, "last": -1, "errors": []}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        begin = time.monotonic()
        try:
            client.set(f"load:redis-py:{face}", number)
            result["last"] = number
        except redis.RedisError as error:
            result["failed"] += 1
            if len(result["errors"]) < 5:
                result["errors"].append(f"{type(error).__name__} {error}")
        result["operations"] += 1
        result["longest_ms"] = max(result["longest_ms"], int((time.monotonic() - begin) * 1000))
        if number == 0:
            print("running", flush=True)
        number += 1
        time.sleep(0.02)
    print(json.dumps(result))


def main():
    _, mode, face, ports = sys.argv[1:5]
    client = connect(face, [int(port) for port in ports.split(",")])
    if mode == "check":
        check(client, face)
        print("ok")
    else:
        load(client, face, float(sys.argv[5]))


main()
