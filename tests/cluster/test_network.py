#!/usr/bin/env python3
"""Clients and peers that misbehave: garbage, strangers, slow readers, crowds. Everybody else is served as before."""

import os
import random
import resource
import socket
import time
import unittest

import data
import harness
from harness import SMALL, Client, Cluster, Lost, ReplyError, Unsent, wait_until
from history import Load


def throw(port, payload, read=True):
    """Sends bytes and waits until the other side closes or half a second passes; what came back."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            connection.sendall(payload)
            connection.settimeout(0.5)
            while read:
                more = connection.recv(65536)
                if not more:
                    break
                answer += more
        except OSError:
            pass
    return answer


class Garbage(unittest.TestCase):
    def payloads(self):
        prng = random.Random(11)
        yield b""
        yield b"\x00" * 100_000
        yield b"\xff" * 100_000
        yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
        yield Client.encode(("SET", "a", "b"))
        yield b"*2147483647\r\n$2147483647\r\n"
        yield b"*-7\r\n$-7\r\nx\r\n"
        yield b"*1\r\n$999999999999999999999\r\n"
        for size in (1, 7, 8, 24, 64, 1000, 60_000):
            for _ in range(6):
                yield prng.randbytes(size)

    def test_garbage_on_every_port_harms_nobody(self):
        with Cluster(**SMALL) as cluster, Load(cluster.nodes, clients=3) as load:
            load.wait_ok(50)
            sockets = {node: node.open_sockets() for node in cluster.nodes}
            for node in (cluster.leader(), cluster.followers()[0]):
                for payload in self.payloads():
                    throw(node.peer_port, payload, read=len(payload) < 30)
                    throw(node.client_port, payload, read=False)
                    throw(node.http_port, payload, read=False)
                    throw(node.cluster_client_port, payload, read=False)
            load.wait_ok(100)
            self.assertEqual(3, len(cluster.alive()))
            for node in cluster.nodes:
                wait_until("connections are given back", lambda: node.open_sockets() <= sockets[node] + 5)
            load.check(cluster.nodes)
            # Nobody lost the leader over it.
            self.assertEqual(0, load.count("fail"))

    def test_half_a_greeting_is_not_waited_for_for_ever(self):
        with Cluster(1, handshake_timeout=500) as cluster:
            node = cluster.nodes[0]
            with socket.create_connection(("127.0.0.1", node.peer_port), timeout=10) as connection:
                connection.sendall(b"\x01\x02\x03")
                connection.settimeout(8 * harness.SLOW)
                try:
                    self.assertEqual(b"", connection.recv(10))
                except ConnectionError:
                    pass

    def test_client_that_stops_in_the_middle_of_a_command_is_closed(self):
        with Cluster(1, handshake_timeout=500) as cluster:
            node = cluster.nodes[0]
            with node.client(8) as client:
                client.send_raw(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$100\r\nxyz")
                with self.assertRaises(Lost) as caught:
                    client.read()
                self.assertNotIn("timed out", str(caught.exception))
            with node.client() as client:  # one that is merely silent stays
                client.call("PING")
                time.sleep(1.5)
                self.assertEqual("PONG", client.call("PING"))

    def test_protocol_errors_have_redis_words(self):
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            cases = [
                (b"*1\r\n$abc\r\n", "ERR Protocol error: invalid bulk length"),
                (b"*abc\r\n", "ERR Protocol error: invalid multibulk length"),
                (b"*1\r\n:1\r\n", "ERR Protocol error: expected '$', got ':'"),
            ]
            for payload, words in cases:
                with node.client() as client:
                    client.send_raw(payload)
                    reply = client.read()
                    self.assertIsInstance(reply, ReplyError)
                    self.assertEqual(words, str(reply))
                    with self.assertRaises(Lost):
                        client.read()

    def test_bad_commands_leave_the_connection_usable(self):
        with Cluster(1, **SMALL) as cluster, cluster.nodes[0].client() as client:
            cases = [
                (("NOSUCH", "a"), "ERR unknown command 'NOSUCH', with args beginning with: 'a' "),
                (("GET",), "ERR wrong number of arguments for 'get' command"),
                (("SET", "a"), "ERR wrong number of arguments for 'set' command"),
                (("SET", "a", "b", "PX", "-1"), "ERR invalid expire time in 'set' command"),
                (("SET", "a", "b", "NX", "XX"), "ERR syntax error"),
                (("INCRBY", "n", "x"), "ERR value is not an integer or out of range"),
                (("SELECT", "99"), "ERR DB index is out of range"),
            ]
            for command, words in cases:
                with self.subTest(command=command), self.assertRaises(ReplyError) as caught:
                    client.call(*command)
                self.assertEqual(words, str(caught.exception))
            for command in (("SET", "k" * 65537, "v"), ("SET", "k", "v" * (64 * 1024 + 1))):
                with self.assertRaises(ReplyError) as caught:
                    client.call(*command)
                self.assertEqual("TOOBIG", caught.exception.code)
            self.assertEqual("OK", client.call("SET", "k" * 65536, "v" * (64 * 1024)))
            self.assertEqual("OK", client.call("SET", "text", "abc"))
            with self.assertRaises(ReplyError) as caught:
                client.call("INCR", "text")
            self.assertEqual("ERR value is not an integer or out of range", str(caught.exception))
            client.send_raw(b"PING\r\nGET text\r\n")
            self.assertEqual("PONG", client.read())
            self.assertEqual(b"abc", client.read())


class Strangers(unittest.TestCase):
    def test_cluster_with_another_token_is_refused(self):
        with Cluster(**SMALL) as cluster:
            self.assertEqual("OK", cluster.nodes[0].call("SET", "mine", "1"))
            term = cluster.leader().status()["term"]
            # A node with the same name and addresses of the others, but of another cluster.
            stranger = cluster.followers()[0]
            stranger.kill()
            stranger.data = os.path.join(stranger.directory, "other")
            stranger.start({"cluster-token": "another"})
            time.sleep(3 * harness.SLOW)
            for node in cluster.nodes:
                if node is not stranger:
                    self.assertEqual(b"1", node.call("GET", "mine"))
            self.assertEqual(term, cluster.leader(among=[n for n in cluster.nodes if n is not stranger]).status()["term"])
            with self.assertRaises((ReplyError, Lost)):
                stranger.call("SET", "theirs", "1", timeout=8)
            stranger.kill()
            # Back with its own token and directory it is one of them again.
            stranger.data = os.path.join(stranger.directory, "data")
            stranger.start().wait_serving()
            cluster.wait_converged()
            self.assertEqual(b"1", stranger.call("GET", "mine"))
            self.assertEqual(0, stranger.call("EXISTS", "theirs"))

    def test_directory_of_another_cluster_is_refused_by_its_peers(self):
        with Cluster(**SMALL) as cluster, Cluster(3, **SMALL) as other:
            cluster.nodes[0].call("SET", "who", "cluster")
            other.nodes[0].call("SET", "who", "other")
            moved, lost = cluster.followers()[0], other.followers()[0]
            moved.kill()
            lost.kill()
            # Swapped disks: each starts with the other's data.
            moved.data, lost.data = lost.data, moved.data
            if moved.name == lost.name:
                for node in (moved, lost):
                    node.start()
                time.sleep(2 * harness.SLOW)
                for group, word in ((cluster, b"cluster"), (other, b"other")):
                    for node in group.nodes:
                        if node not in (moved, lost):
                            self.assertEqual(word, node.call("GET", "who"))
            else:
                moved.start()
                self.assertEqual(harness.EXIT_DATA, moved.wait_exit(), moved.log_tail())


class Crowds(unittest.TestCase):
    def test_slow_readers_cost_bounded_memory(self):
        limit = 4 << 20
        with Cluster(1, max_value="1mb", output_limit="4mb", max_inflight="16mb", segment_size="4mb") as cluster:
            node = cluster.nodes[0]
            node.call("SET", "big", b"x" * (1 << 20))
            with node.client(20) as good:
                good.call("GET", "big")
                base = node.memory()
                slow = []
                for _ in range(20):
                    client = Client(node.client_port)
                    client.socket.setblocking(False)
                    slow.append(client)
                request = Client.encode(("GET", "big")) * 2000
                highest = base
                for _ in range(30):
                    for client in slow:
                        try:
                            client.socket.send(request)
                        except OSError:
                            pass
                    begin = time.monotonic()
                    self.assertEqual(1 << 20, len(good.call("GET", "big")))
                    self.assertLess(time.monotonic() - begin, 2 * harness.SLOW)
                    highest = max(highest, node.memory())
                    time.sleep(0.05)
                for client in slow:
                    client.close()
            allowed = 20 * (limit + (2 << 20)) + (64 << 20)
            self.assertLess(highest - base, allowed * harness.SLOW)
            self.assertEqual(1, node.call("EXISTS", "big"))

    def test_deep_pipelines_are_answered_in_order(self):
        with Cluster() as cluster:
            for node in cluster.nodes:
                with node.client(30) as client:
                    commands = []
                    for number in range(5000):
                        commands.append(("SET", f"pipe:{number % 100}", number))
                        commands.append(("GET", f"pipe:{number % 100}"))
                    replies = client.pipeline(commands)
                    for number in range(5000):
                        self.assertEqual("OK", replies[2 * number])
                        self.assertEqual(str(number).encode(), replies[2 * number + 1])

    def test_two_thousand_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 5000:
            raise unittest.SkipTest("the limit of open files is too low")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
        with Cluster(max_connections=2000) as cluster:
            node = cluster.followers()[0]
            base = node.memory()
            crowd = [Client(node.client_port, 20) for _ in range(2000)]
            for number, client in enumerate(crowd):
                client.send("SET", f"crowd:{number}", number)
            for client in crowd:
                self.assertEqual("OK", client.read())
            for number, client in enumerate(crowd):
                client.send("GET", f"crowd:{number}")
            for number, client in enumerate(crowd):
                self.assertEqual(str(number).encode(), client.read())
            per_client = (node.memory() - base) / len(crowd)
            self.assertLess(per_client, 64 * 1024 * harness.SLOW)
            # One more is told so, and the others do not notice.
            with self.assertRaises((ReplyError, Lost)) as caught:
                with node.client() as extra:
                    extra.call("PING")
            if isinstance(caught.exception, ReplyError):
                self.assertEqual("ERR max number of clients reached", str(caught.exception))
            self.assertEqual("PONG", crowd[0].call("PING"))
            for client in crowd:
                client.close()
            wait_until("connections are given back", lambda: node.call("PING") == "PONG")

    def test_connections_that_come_and_go_leave_nothing_behind(self):
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            for _ in range(200):
                with node.client() as client:
                    client.call("SET", "a", "b")
            sockets, memory = node.open_sockets(), node.memory()
            for number in range(1500):
                client = node.client()
                if number % 3:
                    client.send("SET", "a", "b" * 1000)
                client.close()
            wait_until("connections are given back", lambda: node.open_sockets() <= sockets + 2)
            self.assertLess(node.memory() - memory, (8 << 20) * harness.SLOW)

    def test_no_more_files_can_be_opened(self):
        with Cluster(1, start=False) as cluster:
            node = cluster.nodes[0]
            resource_limit = (160, 160)
            node.start()
            node.wait_serving()
            resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, resource_limit)
            with node.client() as old:
                old.call("SET", "a", "b")
                crowd = []
                for _ in range(400):
                    try:
                        crowd.append(Client(node.client_port, 2))
                    except Unsent:
                        break
                for _ in range(50):
                    self.assertEqual(b"b", old.call("GET", "a"))
                used = self.cpu_seconds(node)
                time.sleep(1)
                self.assertLess(self.cpu_seconds(node) - used, 0.6, "it spins")
                for client in crowd:
                    client.close()
            wait_until("new clients are served again", lambda: node.call("GET", "a") == b"b")

    def test_f17_files_cannot_be_made_for_a_while(self):
        """Segments, hints and manifests of a running node wait until it may open files again: nothing is lost."""
        with Cluster(**{**SMALL, "retention": "256kb"}) as cluster:
            node, leader = cluster.followers()[0], cluster.leader()
            usual = resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE)
            data.fill(leader, "before", 40, 8000)
            cluster.wait_converged()
            resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, (8, usual[1]))
            data.fill(leader, "few", 300, 8000)
            wait_until("it says so", lambda: "no more files can be opened" in node.log())
            self.assertIsNone(node.process.poll())
            resource.prlimit(node.process.pid, resource.RLIMIT_NOFILE, usual)
            cluster.wait_converged()
            self.assertIsNone(node.process.poll())
            data.verify(node, "before", 40, 8000)
            data.verify(node, "few", 300, 8000)

    def test_f17_a_few_files_are_kept_for_data_and_peers(self):
        with Cluster(start=False, **{**SMALL, "retention": "256kb"}) as cluster:
            for node in cluster.nodes:
                command = node.command()
                node.command = lambda more=None, command=command: ["prlimit", "--nofile=128:128", *command]
                node.start()
            for node in cluster.nodes:
                node.wait_serving()
            leader = cluster.leader()
            term = leader.status()["term"]
            self.assertIn("max-connections is", leader.log())
            with leader.client(20) as old:
                crowd, refused = [], 0
                for _ in range(200):
                    try:
                        crowd.append(Client(leader.client_port, 5))
                    except Unsent:
                        break
                used, begin = self.cpu_seconds(leader), time.monotonic()
                # Those that came first go on, and so do the files of the log and the other nodes.
                for number in range(150):
                    self.assertEqual("OK", old.call("SET", data.key("few", number), data.value("few", number, 8000)))
                for client in crowd:
                    try:
                        self.assertEqual("PONG", client.call("PING"))
                    except ReplyError as error:
                        self.assertEqual("ERR max number of clients reached", str(error))
                        refused += 1
                    except Lost:
                        refused += 1
                self.assertGreater(refused, 80)
                self.assertLess(refused, len(crowd))
                busy = (self.cpu_seconds(leader) - used) / (time.monotonic() - begin)
                time.sleep(1)  # What it does when nothing is to be done.
                idle = self.cpu_seconds(leader)
                time.sleep(1)
                self.assertLess(self.cpu_seconds(leader) - idle, 0.5, f"it spins; busy: {busy:.2f}")
                for client in crowd:
                    client.close()
            wait_until("new clients are served again", lambda: leader.call("PING") == "PONG", 5)
            self.assertEqual(3, len(cluster.alive()))
            self.assertEqual(term, cluster.leader().status()["term"])
            cluster.wait_converged()
            data.verify(cluster.followers()[0], "few", 150, 8000)

    @staticmethod
    def cpu_seconds(node):
        with open(f"/proc/{node.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Http(unittest.TestCase):
    def test_health_and_metrics(self):
        with Cluster() as cluster:
            data.fill(cluster.nodes[0], "http", 10, 100)
            for node in cluster.nodes:
                for path, words in (("/healthz", b""), ("/readyz", b""), ("/metrics", b"# TYPE"), ("/status", b"{"),
                                    ("/", b"<")):
                    status, body = node.http(path)
                    self.assertEqual(200, status, path)
                    self.assertIn(words, body)
                self.assertEqual(404, node.http("/nothing")[0])


if __name__ == "__main__":
    harness.main()
