#!/usr/bin/env python3
"""mutants - plants known bugs in a copy of the sources, one at a time, and expects the tests to find each.

    tests/mutants.py [--seeds N] [PART-OF-A-NAME...]

A mutant is a text that is replaced in one file. It counts as found when the program that is named beside it fails; the
simulator may try N seeds for that. The copy and its build are under build/mutants/ and are kept for the next time.
"""
import argparse
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TREE = os.path.join(ROOT, "build", "mutants")
CHUNK = 20  # seeds at a time

# Name, file, what is there, what takes its place, the programs of which at least one must fail.
MUTANTS = [
    (
        "feed: what one transaction did leaves in several messages",
        "node/eval.c",
        "        if (at->wrote) return EFFECT_FLAG_JOINED;\n",
        "        if (at->wrote) return 0;\n",
        ["test_feed"],
    ),
    (
        "feed: the change behind which it goes on is told again",
        "node/feed.c",
        "if (revision <= feed->told || ",
        "if (revision < feed->told || ",
        ["sim", "test_feed"],
    ),
    (
        "feed: a mark of one that lags passes what was not told",
        "node/feed.c",
        "        resp_put_int(out, (int64_t)feed->told);\n",
        "        resp_put_int(out, (int64_t)store_newest_revision(core->shard.store));\n",
        ["sim"],
    ),
    (
        "feed: a client that stops reading does not stop it",
        "node/feed.c",
        "           session_end(session) - session->sent >= FEED_PAUSE_SIZE;\n",
        "           session_end(session) - session->sent == UINT64_MAX;\n",
        ["test_feed"],
    ),
    (
        "M7: a group that is proven durable is cut as if torn",
        "storage/recover_walk.c",
        "        file->rest = REST_DAMAGED;\n",
        "        file->rest = REST_TORN;\n",
        ["sim", "test_recover"],
    ),
    (
        "M8: a write of the log that failed is tried again",
        "storage/log.c",
        "    CHECK(log->write_pending);\n    if (op->result != OK) {\n",
        "    CHECK(log->write_pending);\n    if (op->result != OK) {\n"
        "        log->config.disk->submit(log->config.disk->context, op);\n        return;\n    }\n"
        "    if (op->result != OK) {\n",
        ["test_every_error"],
    ),
    (
        "M12: a leader whose disk hangs goes on with its heartbeats",
        "raft/replica_send.c",
        "    if (replica->raft.state == RAFT_LEADER && replica_is_stalled(replica)) return;\n    switch",
        "    switch",
        ["sim", "scenarios"],
    ),
    (
        "compaction drops a delete that still hides an older value",
        "storage/store_compact_job.c",
        "    return keyset_marked(&job->deletes, entry->key);\n",
        "    return !keyset_marked(&job->deletes, entry->key);\n",
        ["sim", "test_store_compact"],
    ),
    (
        "a table takes the place of its files before the manifest is durable",
        "storage/store_seal.c",
        "    if (seal->has_table) store_compact_edit(store, next);\n",
        "    if (seal->has_table) {\n        store_compact_edit(store, next);\n"
        "        store_compact_taken(store);\n        seal->has_table = false;\n    }\n",
        ["sim", "test_every_crash"],
    ),
    (
        "a node in quarantine votes and campaigns",
        "raft/guard.c",
        "    return !guard_on(view, GUARD_LOSS) || !view->has_lost;\n",
        "    return view != NULL;\n",
        ["sim", "scenarios"],
    ),
    (
        "a rebuilt group of the log is not held against what stood there",
        "storage/repair.c",
        "    if (gap->has_proof) return chain.low == gap->proof;\n",
        "    if (gap->has_proof) return true;\n",
        ["sim", "test_repair"],
    ),
    (
        "EXEC takes the count of changes of another leader for its own",
        "node/cmd_txn.c",
        "    if (token->term == shard->term &&\n        !batches_touched",
        "    if (token->term <= shard->term &&\n        !batches_touched",
        ["sim", "test_txn"],
    ),
    (
        "a watched key that does not exist again counts as unchanged",
        "node/cmd_txn.c",
        "    if (token->revision <= REVISION_UNKNOWN) return false;\n",
        "    if (token->revision <= REVISION_UNKNOWN) return item.exists == existed;\n",
        ["sim", "test_txn"],
    ),
    (
        "half a transaction stays when it has to wait for a value",
        "node/batch.c",
        "    batch->record.size = mark->size;\n    batch->effect_count = mark->effect_count;\n",
        "    batch->record.size = batch->record.size > mark->size ? batch->record.size : mark->size;\n",
        ["test_batch", "test_nested"],
    ),
    (
        "once: a repeated command is carried out again",
        "node/cmd_once.c",
        "    while (at < once->count && once->entries[at].sequence != sequence) at++;\n",
        "    at = once->count;\n",
        ["sim", "test_once"],
    ),
    (
        "once: what was answered is not remembered",
        "node/cmd_once.c",
        "        remember(once, *entry);\n",
        "        if (entry->sequence % 2 == 1) remember(once, *entry);\n",
        ["sim", "test_once"],
    ),
    (
        "lock: it is taken from its owner",
        "node/cmd_lock.c",
        "    if (!is_own && (item.exists || !is_turn)) {\n",
        "    if (!is_own && !is_turn) {\n",
        ["sim", "test_lock"],
    ),
    (
        "lock: a token is given twice",
        "node/cmd_lock.c",
        "        *token += 1;\n",
        "        *token += *token % 8 == 7 ? 0 : 1;\n",
        ["sim"],
    ),
    (
        "flush: the servers' own keys go, too",
        "node/eval.c",
        "        eval_reserved_restore(eval, buf_slice(&kept));\n",
        "",
        ["sim", "test_once"],
    ),
    (
        "flush: what is on its way outlives it",
        "node/batch.c",
        "        batches->era++;\n",
        "",
        ["sim", "test_batch"],
    ),
    (
        "flush: feeds are not told",
        "node/feed.c",
        "    if (effect->kind == EFFECT_FLUSH) return true;\n",
        "    if (effect->kind == EFFECT_FLUSH) return false;\n",
        ["sim", "test_feed"],
    ),
    (
        "once: what was answered is forgotten too soon",
        "node/cmd_once.c",
        "                     eval->now_ms + eval->shard->config->once_retention_ms, &item);\n",
        "                     eval->now_ms + 1000, &item);\n",
        ["sim"],
    ),
    (
        "lock: anybody can give it back",
        "node/cmd_lock.c",
        "    if (is_own) eval_delete(eval, eval->args[1], &item);\n    resp_put_int(eval->out, is_own ? 1 : 0);\n",
        "    if (item.exists) eval_delete(eval, eval->args[1], &item);\n"
        "    resp_put_int(eval->out, item.exists ? 1 : 0);\n",
        ["sim", "test_lock"],
    ),
    (
        "lock: its owner is told an older token",
        "node/cmd_lock.c",
        "    resp_put_int(eval->out, token);\n",
        "    resp_put_int(eval->out, is_own ? token - 1 : token);\n",
        ["sim", "test_lock"],
    ),
    (
        "expiry: the sweeper deletes what was written anew meanwhile",
        "node/shard.c",
        "        if (!hit.is_flying && !hit.is_hidden) delete_expired(shard, &info);\n        count++;\n",
        "        if (!hit.is_hidden) delete_expired(shard, &info);\n        count++;\n",
        ["sim"],
    ),
    (
        "expiry: time goes back after a start",
        "node/clock.c",
        "    if (clock->base_ms < clock->stamp_ms) clock->base_ms = clock->stamp_ms;\n",
        "    clock->stamp_ms = 0;\n",
        ["test_clock"],
    ),
    (
        "expiry: compaction forgets that it was changed",
        "storage/store_compact_job.c",
        "    return info.revision == entry->revision && !in_run(job, info.place.file);\n",
        "    return info.revision == entry->revision + 1 && !in_run(job, info.place.file);\n",
        ["sim", "test_store_compact"],
    ),
    (
        "expiry: a read by the log shows what has expired",
        "node/shard.c",
        "    if (is_indexed) eval.gone_ms = store_applied_stamp(shard->store);\n",
        "    if (is_indexed) eval.gone_ms = 0;\n",
        ["test_router"],
    ),
    (
        "history: a change is left out",
        "node/stream_history.c",
        "        stream->next = has_jump ? revision_index(previous) : stream->next - 1;\n",
        "        stream->next = has_jump ? revision_index(previous) - 1 : stream->next - 1;\n",
        ["sim", "test_stream"],
    ),
    (
        "history: it does not wait for what was acknowledged",
        "node/stream.c",
        "    if (state == READINDEX_WAITS) return STREAM_MORE;\n",
        "",
        ["sim"],
    ),
    (
        "past: the time that is left is counted from now",
        "node/stream.c",
        "        const uint64_t now_ms = stream->view->past.stamp_ms;\n",
        "        const uint64_t now_ms = eval->now_ms;\n",
        ["sim"],
    ),
]


def copy_tree():
    """Brings the copy up to date; files that did not change keep their times, so that little is built again."""
    names = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True,
                           text=True, check=True).stdout.split("\n")
    for name in filter(None, names):
        source = os.path.join(ROOT, name)
        target = os.path.join(TREE, name)
        if not os.path.isfile(source):
            continue
        with open(source, "rb") as file:
            wanted = file.read()
        if os.path.isfile(target):
            with open(target, "rb") as file:
                if file.read() == wanted:
                    continue
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)


def build(targets):
    if not os.path.isfile(os.path.join(TREE, "build", "build.ninja")):
        subprocess.run(["cmake", "-G", "Ninja", "-S", TREE, "-B", os.path.join(TREE, "build"),
                        "-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DKV_TESTS=ON", "-DCMAKE_C_FLAGS=-Wno-error"],
                       check=True, capture_output=True)
    made = subprocess.run(["cmake", "--build", os.path.join(TREE, "build"), "--target", *targets],
                          capture_output=True, text=True, check=False)
    if made.returncode != 0:
        print(made.stdout[-2000:], made.stderr[-2000:])
    return made.returncode == 0


def run(program, *arguments):
    path = os.path.join(TREE, "build", "bin", program)
    try:
        return subprocess.run([path, *arguments], cwd=TREE, capture_output=True, text=True, errors="replace",
                              timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return None


def found_by(program, seeds):
    """How @program found it; None: it did not."""
    if program != "sim":
        ended = run(program)
        if ended is not None and ended.returncode == 0:
            return None
        names = [] if ended is None else re.findall(r"^\[  FAILED  \] ([a-z_]+\.\w+)", ended.stdout, re.M)
        return f"{program}: {names[0] if names else 'ends'}"
    for first in range(1, seeds + 1, CHUNK):
        ended = run("sim", "--seed", str(first), "--seeds", str(min(CHUNK, seeds + 1 - first)))
        if ended is None:
            return f"sim: no end, seeds {first} ..."
        match = re.search(r"^seed (\d+) failed at \d+ ms: (.*)", ended.stdout, re.M)
        if match:
            return f"sim: seed {match[1]}, {match[2][:100]}"
    return None


def try_mutant(mutant, seeds):
    name, path, old, new, programs = mutant
    target = os.path.join(TREE, path)
    with open(target, encoding="utf-8") as file:
        text = file.read()
    if text.count(old) != 1:
        print(f"FAILED  {name}: {path} does not hold the text once")
        return False
    with open(target, "w", encoding="utf-8") as file:
        file.write(text.replace(old, new))
    found = []
    try:
        if not build(programs):
            print(f"FAILED  {name}: it does not build")
            return False
        for program in programs:
            how = found_by(program, seeds)
            if how:
                found.append(how)
    finally:
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
    print(f"{'found ' if found else 'MISSED'}  {name}: {'; '.join(found)}", flush=True)
    return bool(found)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    copy_tree()
    chosen = [m for m in MUTANTS if not arguments.names or any(n in m[0] for n in arguments.names)]
    good = sum(try_mutant(mutant, arguments.seeds) for mutant in chosen)
    print(f"{good} passed, {len(chosen) - good} failed")
    return 0 if chosen and good == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
