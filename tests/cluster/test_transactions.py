#!/usr/bin/env python3
"""Transactions of clients of all nodes while leaders die, stop and hand over: atomic, isolated, and none lost.

Clients move money between accounts, with WATCH and MULTI or with KV.TXN, and every transfer appends its number to a
ledger in the same transaction. The ledger is the order in which transfers took effect, so it can be played again: every
transfer must have changed exactly what it had read, every read of ledger and accounts at one moment must
show what the ledger up to there says, and no less than what was acknowledged before it was asked."""

import random
import threading
import time
import unittest

import harness
from harness import SMALL, Cluster, Lost, ReplyError, Unsent

ACCOUNTS = 6
REFUSED = harness.REFUSED + ("EXECABORT",)


class Bank:
    """Clients in threads, what they did, and the check of all that."""

    def __init__(self, nodes, clients=6, readers=2):
        self.nodes = nodes
        self.lock = threading.Lock()
        self.transfers = {}  # number: {"from", "to", "amount", "read", "outcome"}
        self.reads = []  # (numbers acknowledged before it was asked, ledger, balances)
        self.acknowledged = 0
        self.last = 0
        self.problems = []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number, number >= clients), daemon=True)
                        for number in range(clients + readers)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)

    def wait(self, count):
        """Until so many more transfers are acknowledged."""
        goal = self.acknowledged + count
        harness.wait_until(f"{count} more transfers", lambda: self.acknowledged >= goal or self.problems, 60)

    def _run(self, number, is_reader):
        dice = random.Random(number)
        client = None
        while not self.stopping.is_set():
            try:
                if client is None:
                    client = dice.choice(self.nodes).client()
                if is_reader:
                    self._read(client, dice)
                else:
                    self._transfer(client, dice)
            except (Lost, Unsent):
                if client is not None:
                    client.close()
                client = None
                time.sleep(0.02)
            except ReplyError as error:
                if error.code not in REFUSED and error.code != "UNCERTAIN":
                    self.problems.append(str(error))
                    return
            except Exception as error:  # pylint: disable=broad-except
                self.problems.append(repr(error))
                return
        if client is not None:
            client.close()

    def _read(self, client, dice):
        with self.lock:
            before = {n for n, transfer in self.transfers.items() if transfer["outcome"] == "ok"}
        keys = [f"account:{n}" for n in range(ACCOUNTS)]
        if dice.random() < 0.5:
            gets = [("GET", "ledger")] + [("GET", key) for key in keys]
            reply = client.pipeline([("MULTI",)] + gets + [("EXEC",)])[-1]
        else:
            reply = client.call("MGET", "ledger", *keys)
        if isinstance(reply, ReplyError):
            raise reply
        ledger = [int(number) for number in (reply[0] or b"").split()]
        with self.lock:
            self.reads.append((before, ledger, [int(value or 0) for value in reply[1:]]))

    def _transfer(self, client, dice):
        source, target = dice.sample(range(ACCOUNTS), 2)
        keys = [f"account:{source}", f"account:{target}"]
        is_watch = dice.random() < 0.5
        if is_watch:
            client.call("WATCH", *keys)
        values = client.call("MGET", *keys)
        read = [int(value or 0) for value in values]
        # Now and then what is left is taken, and the account with it.
        amount = read[0] if read[0] != 0 and dice.random() < 0.3 else dice.randint(1, 100)
        if dice.random() < 0.1:
            time.sleep(dice.random() * 0.5)
        with self.lock:
            self.last += 1
            number = self.last
            entry = {"from": source, "to": target, "amount": amount, "read": read, "outcome": "info"}
            self.transfers[number] = entry
        changes = [("SET", keys[0], read[0] - amount) if read[0] != amount else ("DEL", keys[0]),
                   ("SET", keys[1], read[1] + amount), ("APPEND", "ledger", f"{number} ")]
        try:
            if is_watch:
                reply = client.pipeline([("MULTI",)] + changes + [("EXEC",)])[-1]
                done = reply is not None
            else:
                words = ["KV.TXN", "IF", 2]
                for key, value in zip(keys, values):
                    words += ["ABSENT", key] if value is None else ["VALUE", key, "=", value]
                words += ["THEN", len(changes)]
                for change in changes:
                    words += [len(change), *change]
                reply = client.call(*words)
                done = reply[0] == 1
            if isinstance(reply, ReplyError):
                raise reply
        except ReplyError as error:
            if error.code in REFUSED:
                entry["outcome"] = "fail"
            raise
        with self.lock:
            entry["outcome"] = "ok" if done else "fail"
            self.acknowledged += done

    def check(self, test):
        """Plays the ledger again, and holds everything against it."""
        test.assertEqual([], self.problems)
        node = self.nodes[0]
        ledger = [int(number) for number in (node.call("GET", "ledger") or b"").split()]
        test.assertEqual(len(ledger), len(set(ledger)), "a transfer happened twice")
        balances = [0] * ACCOUNTS
        states = [tuple(balances)]
        for number in ledger:
            entry = self.transfers[number]
            test.assertEqual(entry["read"], [balances[entry["from"]], balances[entry["to"]]],
                             f"transfer {number} changed what it had not read: an update was lost")
            balances[entry["from"]] -= entry["amount"]
            balances[entry["to"]] += entry["amount"]
            states.append(tuple(balances))
        final = [int(value or 0) for value in node.call("MGET", *[f"account:{n}" for n in range(ACCOUNTS)])]
        test.assertEqual(balances, final)
        test.assertEqual(0, sum(final))
        there = set(ledger)
        for number, entry in self.transfers.items():
            if entry["outcome"] != "info":
                test.assertEqual(entry["outcome"] == "ok", number in there, f"transfer {number}: {entry}")
        for before, seen, values in self.reads:
            test.assertEqual(ledger[:len(seen)], seen, "a read shows another order of transfers")
            test.assertEqual(states[len(seen)], tuple(values), "a read shows a part of a transfer")
            test.assertTrue(before <= set(seen), "a read does not show what was acknowledged before")
        test.assertGreater(len(self.reads), 50)


class Transactions(unittest.TestCase):
    def rounds(self, short, long):
        return long if harness.LONG else short

    def test_while_leaders_are_killed(self):
        with Cluster(**SMALL) as cluster, Bank(cluster.nodes) as bank:
            for _ in range(self.rounds(3, 30)):
                bank.wait(60)
                leader = cluster.leader()
                leader.kill()
                cluster.leader(among=cluster.alive())
                bank.wait(40)
                leader.start().wait_serving()
            bank.stop()
            cluster.wait_converged()
            bank.check(self)

    def test_while_leaders_stop_and_leadership_is_handed_over(self):
        with Cluster(**SMALL) as cluster, Bank(cluster.nodes) as bank:
            for at in range(self.rounds(3, 30)):
                bank.wait(40)
                cluster.leader().call("KV.TRANSFER", cluster.followers()[0].name)
                bank.wait(40)
                leader = cluster.leader()
                if at % 2 == 0:
                    leader.terminate()
                else:
                    leader.pause()
                cluster.leader(among=[node for node in cluster.nodes if node is not leader])
                bank.wait(30)
                if at % 2 == 0:
                    leader.start()
                else:
                    leader.resume()
                leader.wait_serving()
            bank.stop()
            cluster.wait_converged()
            bank.check(self)

    def test_followers_alone_see_no_error(self):
        """Nothing fails while nothing breaks: through followers, too, every transfer is done or was overtaken."""
        with Cluster(**SMALL) as cluster, Bank(cluster.followers()) as bank:
            bank.wait(self.rounds(300, 3000))
            bank.stop()
            self.assertEqual(set(), {entry["outcome"] for entry in bank.transfers.values()} - {"ok", "fail"})
            bank.check(self)


if __name__ == "__main__":
    harness.main()
