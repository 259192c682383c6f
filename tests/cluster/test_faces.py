#!/usr/bin/env python3
"""What standalone, Sentinel and Redis Cluster clients are told: topology, followers' reads, elections, planned moves."""

import os
import socket
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness  # noqa: E402
from harness import Client, Cluster, ReplyError, wait_until  # noqa: E402

SLOTS = 16384


def text(reply):
    """Bulk strings as text, also within arrays."""
    if isinstance(reply, list):
        return [text(item) for item in reply]
    return reply.decode() if isinstance(reply, bytes) else reply


def fields(reply):
    flat = text(reply)
    return dict(zip(flat[::2], flat[1::2]))


def settled(cluster):
    """Until every node knows all others: what it tells of them is complete."""
    def complete():
        return all(len(node.call("SENTINEL", "SENTINELS", "mymaster")) == len(cluster.nodes) - 1 and
                   "s_down" not in str(node.call("SENTINEL", "SENTINELS", "mymaster")) for node in cluster.alive())
    cluster.leader()
    wait_until("all nodes know each other", complete)


class Sentinel(unittest.TestCase):
    def test_every_node_names_the_same_leader(self):
        with Cluster() as cluster:
            settled(cluster)
            leader = cluster.leader()
            others = {str(node.client_port) for node in cluster.nodes if node is not leader}
            ids = set()
            for node in cluster.nodes:
                address = text(node.call("SENTINEL", "get-master-addr-by-name", "mymaster"))
                self.assertEqual(["127.0.0.1", str(leader.client_port)], address)
                self.assertIsNone(node.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "unknown"))
                masters = [fields(row) for row in node.call("SENTINEL", "MASTERS")]
                self.assertEqual(["mymaster"], [row["name"] for row in masters])
                self.assertEqual("master", masters[0]["flags"])
                self.assertEqual("2", masters[0]["num-slaves"])
                self.assertEqual("2", masters[0]["num-other-sentinels"])
                self.assertEqual("2", masters[0]["quorum"])
                self.assertEqual(masters[0]["runid"], fields(node.call("SENTINEL", "MASTER", "mymaster"))["runid"])
                for name in ("REPLICAS", "SLAVES"):
                    rows = [fields(row) for row in node.call("SENTINEL", name, "mymaster")]
                    self.assertEqual(others, {row["port"] for row in rows})
                    self.assertEqual({"slave"}, {row["flags"] for row in rows})
                    self.assertEqual({"ok"}, {row["master-link-status"] for row in rows})
                rows = [fields(row) for row in node.call("SENTINEL", "SENTINELS", "mymaster")]
                self.assertEqual({str(other.client_port) for other in cluster.nodes if other is not node},
                                 {row["port"] for row in rows})
                self.assertTrue(node.call("SENTINEL", "CKQUORUM", "mymaster").startswith("OK 3 usable"))
                ids.add(node.call("SENTINEL", "MYID"))
                for bad, message in ((("SENTINEL", "MASTER", "x"), "ERR No such master with that name"),
                                     (("SENTINEL", "MASTER"), "ERR wrong number of arguments for 'sentinel|master' command"),
                                     (("SENTINEL", "NOTHING"), "ERR unknown subcommand 'NOTHING'. Try SENTINEL HELP."),
                                     (("SENTINEL", "FAILOVER", "mymaster"), "ERR SENTINEL FAILOVER is not supported: "
                                      "use kvctl member and kvctl leader")):
                    with self.assertRaises(ReplyError) as caught:
                        node.call(*bad)
                    self.assertEqual(message, str(caught.exception))
            self.assertEqual(3, len(ids))
            self.assertEqual({40}, {len(node_id) for node_id in ids})

    def test_the_name_is_an_option_and_a_dead_node_is_shown_as_down(self):
        with Cluster(sentinel_master="orders") as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            self.assertEqual(str(leader.client_port),
                             text(follower.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "orders"))[1])
            self.assertIsNone(follower.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
            follower.kill()

            def shown():
                rows = [fields(row) for row in leader.call("SENTINEL", "REPLICAS", "orders")]
                return {row["port"] for row in rows if "s_down" in row["flags"]} == {str(follower.client_port)}
            wait_until("the dead one is shown", shown)

    def test_who_listens_hears_of_every_change_of_leader(self):
        with Cluster() as cluster:
            settled(cluster)
            listeners = [node.client(timeout=10 * harness.SLOW) for node in cluster.nodes]
            listeners[0].call("SUBSCRIBE", "+switch-master")
            listeners[1].call("PSUBSCRIBE", "*")
            listeners[2].call("HELLO", "2")
            listeners[2].call("PSUBSCRIBE", "+switch*")
            for _ in range(3):
                old, new = cluster.leader(), cluster.followers()[0]
                self.assertEqual(0, cluster.kvctl("leader", "transfer", new.name).returncode)
                told = f"mymaster 127.0.0.1 {old.client_port} 127.0.0.1 {new.client_port}"
                self.assertEqual(["message", "+switch-master", told], text(listeners[0].read()))
                self.assertEqual(["pmessage", "*", "+switch-master", told], text(listeners[1].read()))
                self.assertEqual(["pmessage", "+switch*", "+switch-master", told], text(listeners[2].read()))
            for listener in listeners:
                listener.close()

    def test_questions_wait_while_nobody_leads(self):
        with Cluster(election_timeout=1000) as cluster:
            settled(cluster)
            leader, follower = cluster.leader(), cluster.followers()[0]
            questions = [(follower.client_port, ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster")),
                         (follower.client_port, ("SENTINEL", "MASTERS")),
                         (follower.cluster_client_port, ("CLUSTER", "SLOTS")),
                         (follower.cluster_client_port, ("CLUSTER", "NODES")),
                         (follower.client_port, ("SET", "k", "v"))]
            clients = [Client(port, timeout=10 * harness.SLOW) for port, _ in questions]
            leader.kill()
            time.sleep(0.2)  # Its end is seen by then, the election is not over.
            for client, (_, question) in zip(clients, questions):
                client.send(*question)
            answers = [text(client.read()) for client in clients]
            new = cluster.leader()
            self.assertEqual(["127.0.0.1", str(new.client_port)], answers[0])
            self.assertEqual(str(new.client_port), fields(answers[1][0])["port"])
            self.assertEqual(["127.0.0.1", new.cluster_client_port], answers[2][0][2][:2])
            self.assertIn(f"127.0.0.1:{new.cluster_client_port}@", [line for line in answers[3].splitlines()
                                                                   if line.endswith(" 0-16383")][0])
            self.assertEqual("OK", answers[4])
            for client in clients:
                client.close()

    def test_what_asks_for_no_leader_is_answered_at_once_without_one(self):
        with Cluster(park=5000) as cluster:
            settled(cluster)
            alone = cluster.nodes[0]
            for node in cluster.nodes[1:]:
                node.kill()
            wait_until("nobody leads", lambda: alone.status()["role"] != "leader")
            begin = time.monotonic()
            with alone.client() as client, Client(alone.cluster_client_port) as cluster_client:
                self.assertEqual(2, len(client.call("SENTINEL", "SENTINELS", "mymaster")))
                self.assertEqual(40, len(client.call("SENTINEL", "MYID")))
                self.assertEqual(12182, cluster_client.call("CLUSTER", "KEYSLOT", "foo"))
                self.assertEqual(40, len(cluster_client.call("CLUSTER", "MYID")))
                with self.assertRaises(ReplyError):
                    cluster_client.call("CLUSTER", "NOTHING")
            self.assertLess(time.monotonic() - begin, 2 * harness.SLOW)
            begin = time.monotonic()
            with self.assertRaises(ReplyError) as caught:
                alone.call("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster", timeout=15)
            self.assertEqual("CLUSTERDOWN", caught.exception.code)
            self.assertGreater(time.monotonic() - begin, 4)


class ClusterFace(unittest.TestCase):
    def test_subcommands(self):
        with Cluster() as cluster:
            settled(cluster)
            leader, follower = cluster.leader(), cluster.followers()[0]
            with Client(leader.cluster_client_port) as at_leader, Client(follower.cluster_client_port) as at_follower:
                leader_id, follower_id = (client.call("CLUSTER", "MYID").decode() for client in (at_leader, at_follower))
                for client in (at_leader, at_follower):
                    lines = text(client.call("CLUSTER", "REPLICAS", leader_id))
                    self.assertEqual(2, len(lines))
                    self.assertEqual({leader_id}, {line.split()[3] for line in lines})
                    self.assertEqual(lines, text(client.call("CLUSTER", "SLAVES", leader_id)))
                    self.assertEqual([], client.call("CLUSTER", "LINKS"))
                    self.assertEqual(0, client.call("CLUSTER", "COUNT-FAILURE-REPORTS", leader_id))
                    for bad, message in (
                            (("REPLICAS", follower_id), "ERR The specified node is not a master"),
                            (("REPLICAS", "x"), "ERR Unknown node x"),
                            (("MEET", "1.2.3.4", "6379"), "ERR CLUSTER MEET is not supported: use kvctl member and kvctl leader"),
                            (("FAILOVER",), "ERR CLUSTER FAILOVER is not supported: use kvctl member and kvctl leader"),
                            (("KEYSLOT",), "ERR wrong number of arguments for 'cluster|keyslot' command"),
                            (("COUNTKEYSINSLOT", "16384"), "ERR Invalid slot"),
                            (("GETKEYSINSLOT", "1", "-1"), "ERR Invalid slot or number of keys"),
                            (("WRONG",), "ERR unknown subcommand 'WRONG'. Try CLUSTER HELP.")):
                        with self.assertRaises(ReplyError) as caught:
                            client.call("CLUSTER", *bad)
                        self.assertEqual(message, str(caught.exception))
            with self.assertRaises(ReplyError) as caught:
                leader.call("CLUSTER", "SLOTS")
            self.assertEqual("ERR This instance has cluster support disabled", str(caught.exception))

    def test_keys_of_a_slot(self):
        with Cluster() as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            with leader.client() as client:
                client.pipeline([("SET", f"{{tag}}:{number}", "v") for number in range(300)] +
                                [("SET", f"other:{number}", "v") for number in range(3000)])
                for port in (leader.cluster_client_port, follower.cluster_client_port):
                    with Client(port) as other:
                        slot = other.call("CLUSTER", "KEYSLOT", "{tag}")
                        self.assertEqual(300, other.call("CLUSTER", "COUNTKEYSINSLOT", slot))
                        keys = text(other.call("CLUSTER", "GETKEYSINSLOT", slot, 1000))
                        self.assertEqual({f"{{tag}}:{number}" for number in range(300)}, set(keys))
                        self.assertEqual(300, len(keys))
                        self.assertEqual(7, len(other.call("CLUSTER", "GETKEYSINSLOT", slot, 7)))
                        self.assertEqual([], other.call("CLUSTER", "GETKEYSINSLOT", slot, 0))
                        self.assertEqual(0, other.call("CLUSTER", "COUNTKEYSINSLOT", (slot + 1) % SLOTS) // 100)

    def test_readonly_connections_read_on_followers_what_was_acknowledged(self):
        with Cluster() as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            with leader.client() as writer, Client(follower.cluster_client_port) as reader:
                writer.call("SET", "k", "0")
                with self.assertRaises(ReplyError) as caught:
                    reader.call("GET", "k")
                self.assertEqual("MOVED", caught.exception.code)
                self.assertEqual("OK", reader.call("READONLY"))
                forwarded = int(fields(follower.call("KV.STATUS")).get("forwarded", 0))
                for number in range(300):
                    writer.call("SET", "k", number)
                    self.assertEqual(str(number), text(reader.call("GET", "k")))
                # All reads of a pipeline, several kinds.
                writer.pipeline([("SET", f"p:{number}", number) for number in range(1000)])
                replies = reader.pipeline([("GET", f"p:{number}") for number in range(1000)] +
                                          [("MGET", "p:1", "p:2"), ("EXISTS", "p:1", "no"), ("TTL", "p:1"),
                                           ("TYPE", "no"), ("DBSIZE",)])
                self.assertEqual([str(number) for number in range(1000)], text(replies[:1000]))
                self.assertEqual([["1", "2"], 1, -1, "none", 1001], text(replies[1000:]))
                for write in (("SET", "k", "x"), ("MULTI",)):
                    with self.assertRaises(ReplyError) as caught:
                        reader.call(*write)
                        reader.call("SET", "k", "x")
                    self.assertEqual("MOVED", caught.exception.code)
                reader.call("DISCARD")
                self.assertEqual("OK", reader.call("READWRITE"))
                with self.assertRaises(ReplyError) as caught:
                    reader.call("GET", "k")
                self.assertEqual("MOVED", caught.exception.code)
                self.assertEqual(forwarded, int(fields(follower.call("KV.STATUS")).get("forwarded", 0)))

    def test_reads_of_a_follower_wait_through_an_election(self):
        with Cluster() as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            leader.call("SET", "k", "v")
            with Client(follower.cluster_client_port, timeout=10 * harness.SLOW) as reader:
                reader.call("READONLY")
                leader.kill()
                self.assertEqual(b"v", reader.call("GET", "k"))


class Connections(unittest.TestCase):
    def test_redirect_instead_of_forwarding(self):
        with Cluster() as cluster:
            leader, follower = cluster.leader(), cluster.followers()[0]
            where = f"REDIRECT 127.0.0.1:{leader.client_port}"
            with follower.client() as client:
                self.assertEqual("OK", client.call("SET", "k", "v"))
                self.assertEqual("OK", client.call("CLIENT", "CAPA", "redirect", "something"))
                for command in (("SET", "k", "w"), ("GET", "k"), ("DBSIZE",)):
                    with self.assertRaises(ReplyError) as caught:
                        client.call(*command)
                    self.assertEqual(where, str(caught.exception))
                client.call("MULTI")
                with self.assertRaises(ReplyError) as caught:
                    client.call("INCR", "n")
                self.assertEqual(where, str(caught.exception))
                with self.assertRaises(ReplyError) as caught:
                    client.call("EXEC")
                self.assertEqual("EXECABORT", caught.exception.code)
                client.call("READONLY")
                self.assertEqual(b"v", client.call("GET", "k"))
                self.assertEqual("RESET", client.call("RESET"))
                self.assertEqual("OK", client.call("SET", "k", "w"))
            with leader.client() as client:
                client.call("CLIENT", "CAPA", "redirect")
                self.assertEqual(b"w", client.call("GET", "k"))

    def test_client_subcommands(self):
        with Cluster(1) as cluster:
            node = cluster.nodes[0]
            with node.client() as one, node.client() as two:
                one.call("CLIENT", "SETNAME", "one")
                two.call("CLIENT", "SETNAME", "two")
                two.call("GET", "k")
                first, second = one.call("CLIENT", "ID"), two.call("CLIENT", "ID")
                listed = one.call("CLIENT", "LIST").decode()
                self.assertIn(" name=one ", listed)
                self.assertRegex(listed, " name=two .* cmd=client ")
                self.assertEqual(1, len(one.call("CLIENT", "LIST", "ID", second).splitlines()))
                self.assertEqual(2, len(one.call("CLIENT", "LIST", "ID", second, first).splitlines()))
                self.assertEqual(2, len(one.call("CLIENT", "LIST", "TYPE", "normal").splitlines()))
                self.assertEqual(b"", one.call("CLIENT", "LIST", "TYPE", "replica"))
                for bad, message in ((("LIST", "TYPE", "x"), "ERR Unknown client type 'x'"),
                                     (("LIST", "ID", "x"), "ERR Invalid client ID"),
                                     (("LIST", "WHAT"), "ERR syntax error"),
                                     (("KILL", "ID", "0"), "ERR client-id should be greater than 0"),
                                     (("KILL", "1.2.3.4:5"), "ERR No such client"),
                                     (("KILL", "USER", "x"), "ERR No such user 'x'"),
                                     (("NO-EVICT", "perhaps"), "ERR syntax error"),
                                     (("SETNAME", "a b"),
                                      "ERR Client names cannot contain spaces, newlines or special characters."),
                                     (("SETNAME",), "ERR wrong number of arguments for 'client|setname' command"),
                                     (("MAINT_NOTIFICATIONS", "ON"),
                                      "ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.")):
                    with self.assertRaises(ReplyError) as caught:
                        one.call("CLIENT", *bad)
                    self.assertEqual(message, str(caught.exception))
                self.assertEqual(0, one.call("CLIENT", "KILL", "ID", first))
                self.assertEqual(1, one.call("CLIENT", "KILL", "ID", second, "TYPE", "normal"))
                with self.assertRaises(harness.Lost):
                    two.call("PING")
                self.assertEqual(1, one.call("CLIENT", "KILL", "ID", first, "SKIPME", "no"))
                with self.assertRaises(harness.Lost):
                    one.call("PING")
                    one.call("PING")

    def test_replies_switched_off(self):
        """CLIENT REPLY, on the leader and on a node that forwards; also what waits for the log is silent."""
        with Cluster() as cluster:
            for node in (cluster.leader(), cluster.followers()[0]):
                with node.client() as client:
                    client.send("CLIENT", "REPLY", "OFF")
                    for number in range(200):
                        client.send("SET", f"k:{number}", number)
                        client.send("GET", f"k:{number}")
                    client.send("KEYS", "*")
                    client.send("NOSUCHCOMMAND")
                    client.send("SET", "k")
                    self.assertEqual("OK", client.call("CLIENT", "REPLY", "ON"))
                    client.send("CLIENT", "REPLY", "SKIP")
                    client.send("SET", "skipped", "1")
                    self.assertEqual(b"199", client.call("GET", "k:199"))
                    client.send("CLIENT", "REPLY", "SKIP")
                    client.send("GET", "skipped")
                    self.assertEqual("PONG", client.call("PING"))
                    self.assertEqual(b"1", client.call("GETDEL", "skipped"))
                    self.assertEqual(200, client.call("DBSIZE"))
                    client.call("FLUSHALL")


class PlannedMoves(unittest.TestCase):
    """Transfers and stops of the leader under load: no operation fails."""

    def run_load(self, cluster, make, during):
        """Writers that `make` gives while during() runs: the errors, the longest operation."""
        stop = threading.Event()
        errors, longest, counts = [], [0.0], []

        def work(number):
            operation = make(number)
            count = 0
            while not stop.is_set():
                begin = time.monotonic()
                try:
                    operation(count)
                except (ReplyError, harness.Lost, harness.Unsent) as error:
                    errors.append(f"{type(error).__name__} {error}")
                longest[0] = max(longest[0], time.monotonic() - begin)
                count += 1
            counts.append(count)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        try:
            during()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual([], errors[:5])
        self.assertGreater(min(counts), 20)
        return longest[0]

    def transfers(self, cluster):
        for _ in range(6):
            time.sleep(0.25)
            target = cluster.followers()[0]
            done = cluster.kvctl("leader", "transfer", target.name)
            self.assertEqual(0, done.returncode, done.stderr)
            wait_until("it leads", lambda node=target: node.status()["role"] == "leader")

    def test_transfers_are_not_felt_by_standalone_clients(self):
        with Cluster() as cluster:
            def make(number):
                client = cluster.nodes[number % 3].client()
                return lambda count: client.call("SET", f"k:{number}", count)
            self.run_load(cluster, make, lambda: self.transfers(cluster))

    def test_transfers_cost_cluster_clients_redirections_only(self):
        with Cluster() as cluster:
            def make(number):
                clients = {}

                def operation(count):
                    port = operation.port
                    for _ in range(5):
                        client = clients.setdefault(port, None) or Client(port)
                        clients[port] = client
                        try:
                            client.call("SET", f"k:{number}", count)
                            operation.port = port
                            return
                        except ReplyError as error:
                            if error.code != "MOVED":
                                raise
                            port = int(str(error).rsplit(":", 1)[1])
                    raise harness.Lost("MOVED five times")
                operation.port = cluster.nodes[number % 3].cluster_client_port
                return operation
            self.run_load(cluster, make, lambda: self.transfers(cluster))

    def test_a_stop_of_the_leader_is_not_felt(self):
        """SIGTERM: whoever is connected elsewhere notices nothing, whoever is connected there is told where to go, also on
        a new connection."""
        with Cluster(drain=1500) as cluster:
            settled(cluster)
            leader = cluster.leader()
            others = cluster.followers()

            def make(number):
                client = others[number % 2].client()
                return lambda count: client.call("SET", f"k:{number}", count)

            def stop():
                time.sleep(0.3)
                with Client(leader.cluster_client_port) as old, leader.client() as plain:
                    old.call("SET", "before", "1")
                    leader.process.terminate()
                    wait_until("another one leads", lambda: any(node.status()["role"] == "leader" for node in others))
                    with self.assertRaises(ReplyError) as caught:
                        old.call("SET", "after", "1")
                    self.assertEqual("MOVED", caught.exception.code)
                    self.assertEqual("OK", plain.call("SET", "after", "1"))
                    with leader.client() as late, Client(leader.cluster_client_port) as late_cluster:
                        self.assertEqual("OK", late.call("SET", "late", "1"))
                        with self.assertRaises(ReplyError) as caught:
                            late_cluster.call("SET", "late", "1")
                        self.assertEqual("MOVED", caught.exception.code)
                self.assertEqual(0, leader.wait_exit(20))
                time.sleep(0.5)
            self.run_load(cluster, make, stop)


if __name__ == "__main__":
    harness.main()
