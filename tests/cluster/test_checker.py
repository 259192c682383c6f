#!/usr/bin/env python3
"""The checkers of histories must see what is wrong, and nothing else."""

import random
import unittest

import harness
import history


def op(kind, value, invoked, returned, outcome="ok", key="k"):
    made = history.Operation("c", "n", kind, key, value)
    made.invoked, made.returned, made.outcome = invoked, returned, outcome
    return made


class Registers(unittest.TestCase):
    def verdict(self, *operations):
        return history.linearizable(list(operations))

    def test_sequential_history_is_fine(self):
        self.assertTrue(self.verdict(op("get", None, 0, 1), op("set", "a", 2, 3), op("get", "a", 4, 5),
                                     op("del", None, 6, 7), op("get", None, 8, 9)))

    def test_stale_read_is_found(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, 1), op("set", "b", 2, 3), op("get", "a", 4, 5)))

    def test_lost_write_is_found(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, 1), op("get", None, 2, 3)))

    def test_value_from_nowhere_is_found(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, 1), op("get", "z", 2, 3)))

    def test_value_read_before_it_was_written_is_found(self):
        self.assertIs(False, self.verdict(op("get", "a", 0, 1), op("set", "a", 2, 3)))

    def test_reads_that_go_back_are_found(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, 1), op("set", "b", 2, 20),
                                          op("get", "b", 3, 4), op("get", "a", 5, 6)))

    def test_concurrent_write_may_be_seen_or_not(self):
        self.assertTrue(self.verdict(op("set", "a", 0, 1), op("set", "b", 2, 20),
                                     op("get", "a", 3, 4), op("get", "b", 5, 6)))

    def test_refused_write_must_not_appear(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, None, "fail"), op("get", "a", 2, 3)))

    def test_unknown_write_may_appear_late_or_never(self):
        unknown = op("set", "a", 0, None, "info")
        self.assertTrue(self.verdict(unknown, op("get", None, 2, 3), op("get", "a", 4, 5)))
        self.assertTrue(self.verdict(unknown, op("get", None, 2, 3)))

    def test_unknown_write_must_not_appear_and_vanish(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, None, "info"), op("get", "a", 2, 3),
                                          op("get", None, 4, 5)))

    def test_unknown_write_takes_effect_once(self):
        self.assertIs(False, self.verdict(
            op("set", "a", 0, None, "info"), op("get", "a", 1, 2), op("set", "b", 3, 4), op("get", "b", 5, 6),
            op("get", "a", 7, 8)))

    def test_delete_that_was_told_the_wrong_count_is_found(self):
        self.assertIs(False, self.verdict(op("set", "a", 0, 1), op("del", 0, 2, 3)))
        self.assertIs(False, self.verdict(op("del", 1, 2, 3)))
        self.assertTrue(self.verdict(op("set", "a", 0, 1), op("del", 1, 2, 3), op("del", 0, 4, 5)))

    def test_unknown_delete_may_explain_an_absence(self):
        self.assertTrue(self.verdict(op("set", "a", 0, 1), op("del", None, 2, None, "info"),
                                     op("get", "a", 3, 4), op("get", None, 5, 6)))

    def test_unknown_write_may_explain_the_answer_of_a_delete(self):
        unknown = op("set", "a", 0, None, "info")
        self.assertTrue(self.verdict(unknown, op("get", None, 1, 2), op("del", 1, 3, 4)))
        self.assertIs(False, self.verdict(unknown, op("del", 1, 3, 4), op("del", 1, 5, 6)))

    def test_made_up_histories_of_a_true_register_pass_and_changed_ones_fail(self):
        prng = random.Random(7)
        changed_found = 0
        for _ in range(60):
            operations, state, now = [], None, 0
            for serial in range(80):
                now += prng.randrange(1, 10)
                kind = prng.choice(("set", "get", "get", "del"))
                value = f"v{serial}" if kind == "set" else None
                outcome = "info" if kind != "get" and prng.random() < 0.1 else "ok"
                if kind != "get" and (outcome == "ok" or prng.random() < 0.5):
                    state = value
                if kind == "get":
                    value = state
                # The effect is at `now`; call and return lie around it and so overlap others.
                operations.append(op(kind, value, now - prng.randrange(25),
                                     None if outcome == "info" else now + prng.randrange(25), outcome))
            self.assertTrue(history.linearizable(operations))
            reads = [at for at, made in enumerate(operations) if made.kind == "get" and at > 60]
            sets = [made.value for made in operations[:20] if made.kind == "set"]
            if reads and sets and operations[reads[-1]].value != sets[0]:
                operations[reads[-1]].value = sets[0]
                changed_found += history.linearizable(operations) is False
        self.assertGreater(changed_found, 30)


class Counters(unittest.TestCase):
    def problems(self, final, *operations):
        return history.check_counters(list(operations), {"k": final})

    def test_good_counter_is_fine(self):
        self.assertEqual([], self.problems(3, op("incr", 1, 0, 1), op("incr", 2, 2, 3),
                                           op("incr", None, 4, None, "info")))

    def test_double_apply_is_found(self):
        self.assertTrue(self.problems(2, op("incr", 1, 0, 1)))

    def test_lost_increment_is_found(self):
        self.assertTrue(self.problems(1, op("incr", 1, 0, 1), op("incr", 2, 2, 3)))

    def test_same_answer_twice_is_found(self):
        self.assertTrue(self.problems(2, op("incr", 1, 0, 10), op("incr", 1, 1, 9)))

    def test_answer_that_goes_back_is_found(self):
        self.assertTrue(self.problems(2, op("incr", 2, 0, 1), op("incr", 1, 2, 3)))


if __name__ == "__main__":
    harness.main()
