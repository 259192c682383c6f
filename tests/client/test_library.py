#!/usr/bin/env python3
"""libkvclient as a program sees it: what is exported, what it needs, what is installed, the examples against a cluster."""

import os
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402
from harness import Cluster  # noqa: E402

# Every symbol that programs may use. One that goes away, or means something else, needs another soname.
EXPORTED = """
kv_address kv_async_address kv_async_batch kv_async_cancel kv_async_close kv_async_command kv_async_create kv_async_del
kv_async_get kv_async_incr kv_async_scan_close kv_async_scan_next kv_async_scan_open kv_async_set kv_async_ttl kv_async_txn kv_close
kv_command kv_connect kv_del kv_err_name kv_feed_close kv_feed_open kv_feed_pause kv_feed_resume kv_get kv_incr kv_leader
kv_leader_transfer kv_members kv_message kv_options_init_sized kv_pipeline_add kv_pipeline_count kv_pipeline_create
kv_pipeline_destroy kv_pipeline_execute kv_pipeline_result kv_pool_create kv_pool_destroy kv_pool_give kv_pool_take
kv_result_at kv_scan_close kv_scan_next kv_scan_open kv_set kv_set_timeout kv_status kv_stay kv_ttl kv_txn kv_version kv_watch_close kv_watch_next
kv_watch_open
""".split()

# What each example is called with behind the nodes, and what it links beside the library.
ARGUMENTS = {"counter": ("visits",), "threads": ("hits",), "transfer": ("alice", "bob"), "watch": ("config/", "3", "1")}
LIBRARIES = {"loop": ("-luv",), "watch": ("-luv",), "threads": ("-pthread",)}
# Which command of the server an example needs.
NEEDS = {"watch": "KV.WATCH"}


def run(*command, **more):
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **more)


def library_folder():
    return os.path.join(os.path.dirname(harness.BIN), "lib")


def sanitizer_flags():
    with open(os.path.join(harness.BIN, "kvnode"), "rb") as program:
        content = program.read()
    for sign, name in ((b"__asan_init", "address,undefined"), (b"__tsan_init", "thread")):
        if sign in content:
            return [f"-fsanitize={name}"]
    return []


class Library(unittest.TestCase):
    def check(self, *command, **more):
        done = run(*command, **more)
        self.assertEqual(0, done.returncode, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout

    def test_only_the_public_names_are_exported(self):
        shared = os.path.join(library_folder(), "libkvclient.so")
        lines = self.check("nm", "-D", "--defined-only", "--without-symbol-versions", shared).splitlines()
        names = [line.split()[2] for line in lines if line.split()[1] in "TDBRW"]
        self.assertEqual(sorted(EXPORTED), sorted(names))
        archive = os.path.join(library_folder(), "libkvclient.a")
        lines = self.check("nm", "-g", "--defined-only", archive).splitlines()
        names = [line.split()[2] for line in lines if len(line.split()) == 3]
        self.assertEqual(sorted(EXPORTED), sorted(name for name in names if not name.startswith("__odr_asan")))

    def test_soname_and_what_it_needs(self):
        text = self.check("readelf", "-d", os.path.join(library_folder(), "libkvclient.so"))
        self.assertEqual(["libkvclient.so.0"], re.findall(r"SONAME.*\[(.*)\]", text))
        # A program that only waits for its results needs no libuv.
        self.assertNotIn("libuv", " ".join(re.findall(r"NEEDED.*\[(.*)\]", text)))
        text = self.check("readelf", "-d", os.path.join(harness.BIN, "kvctl"))
        self.assertNotIn("libuv", " ".join(re.findall(r"NEEDED.*\[(.*)\]", text)))

    def test_every_public_name_is_in_the_reference(self):
        man = os.path.join(os.path.dirname(harness.BIN), "reference", "kv.3")
        page = os.path.join(os.path.dirname(harness.BIN), "reference", "kv.html")
        for path in (man, page):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            for name in EXPORTED + ["struct kv_options", "enum kv_err", "kv_done", "struct kv_feed_news"]:
                self.assertIn(name, text, path)
        if shutil.which("mandoc"):
            self.assertEqual("", run("mandoc", "-Tlint", "-Werror", man).stdout)
        elif shutil.which("groff"):
            self.assertEqual("", run("groff", "-man", "-ww", "-z", "-Kutf8", man).stderr)

    def test_headers_stand_alone(self):
        for compiler, language, standard in (("cc", "c", "c11"), ("cc", "c", "c99"), ("c++", "c++", "c++11")):
            if not shutil.which(compiler):
                continue
            done = run(compiler, "-x", language, f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I",
                       harness.TOP, "-fsyntax-only", "-", input='#include "client/kv.h"\nint main(void) { return 0; }\n')
            self.assertEqual(0, done.returncode, f"{language}: {done.stderr}")

    def test_an_installed_library_is_enough(self):
        build = os.path.dirname(harness.BIN)
        prefix = os.path.join(harness.work_directory(), "prefix")
        self.check("cmake", "--install", build, "--prefix", prefix)
        found = [os.path.relpath(os.path.join(folder, name), prefix)
                 for folder, _, names in os.walk(prefix) for name in names]
        for name in ("include/client/kv.h", "include/client/kv_async.h", "include/client/kv_pool.h", "share/man/man3/kv.3"):
            self.assertIn(name, found)
        self.assertTrue(any(name.endswith("/kv.html") for name in found), found)
        folder = next(os.path.join(prefix, os.path.dirname(name)) for name in found if name.endswith("kvclient.pc"))
        if not shutil.which("pkg-config"):
            return
        environment = {**harness.clean_environment(), "PKG_CONFIG_PATH": folder}
        flags = self.check("pkg-config", "--cflags", "--libs", "kvclient", env=environment).split()
        program = os.path.join(prefix, "counter")
        self.check("cc", os.path.join(harness.TOP, "client/examples/counter.c"), *flags, *sanitizer_flags(), "-o", program)
        environment["LD_LIBRARY_PATH"] = os.path.dirname(folder)
        self.assertEqual(2, run(program, env=environment).returncode)  # It starts, and wants arguments.


class Installed(unittest.TestCase):
    """What cmake --install puts where, for those who make packages."""

    def install(self, prefix, destination=""):
        done = run("cmake", "--install", os.path.dirname(harness.BIN), "--prefix", prefix,
                   env={**os.environ, "DESTDIR": destination})
        self.assertEqual(0, done.returncode, done.stderr)
        return destination + prefix

    def test_manual_pages_say_what_help_says(self):
        prefix = self.install(os.path.join(harness.work_directory(), "prefix"))
        for name, section, words in (("kvnode", 8, ("max-index-memory", "SIGHUP")), ("kvctl", 1, ("backup restore", "Exit codes")),
                                     ("kvbench", 1, ("pipeline N", "Exit codes"))):
            path = os.path.join(prefix, "share", "man", f"man{section}", f"{name}.{section}")
            with open(path, encoding="utf-8") as file:
                text = file.read().replace("\\-", "-")
            for word in words:
                self.assertIn(word, text)
            if shutil.which("groff"):
                self.assertEqual("", run("groff", "-man", "-ww", "-z", "-Kutf8", path).stderr)

    def test_the_unit_starts_what_was_installed_and_the_configuration_is_kept(self):
        prefix = self.install(os.path.join(harness.work_directory(), "prefix"))
        unit_path = os.path.join(prefix, "lib", "systemd", "system", "kvnode.service")
        with open(unit_path, encoding="utf-8") as file:
            unit = file.read()
        conf = os.path.join(prefix, "etc", "flashkv", "kvnode.conf")
        self.assertIn(f"ExecStart={prefix}/bin/kvnode --config {conf} --data /var/lib/flashkv\n", unit)
        # Every line of the file is a comment with a default: as it is, the node starts with it.
        done = run(os.path.join(prefix, "bin", "kvnode"), "--config", conf, "--version")
        self.assertEqual(0, done.returncode, done.stderr)
        with open(os.path.join(prefix, "lib", "sysusers.d", "flashkv.conf"), encoding="utf-8") as file:
            self.assertIn("u flashkv", file.read())
        with open(conf, "a", encoding="utf-8") as file:
            file.write("name = mine\n")
        self.install(prefix)
        with open(conf, encoding="utf-8") as file:
            self.assertIn("name = mine\n", file.read())

    def test_a_package_is_configured_in_etc(self):
        root = self.install("/usr", os.path.join(harness.work_directory(), "root"))[:-len("/usr")]
        self.assertTrue(os.path.exists(os.path.join(root, "etc", "flashkv", "kvnode.conf")))
        with open(os.path.join(root, "usr", "lib", "systemd", "system", "kvnode.service"), encoding="utf-8") as file:
            self.assertIn("ExecStart=/usr/bin/kvnode --config /etc/flashkv/kvnode.conf ", file.read())


class Examples(unittest.TestCase):
    """Built as a user would, against the library in the build tree, and run."""

    def test_examples(self):
        examples = os.path.join(harness.TOP, "client", "examples")
        folder = harness.work_directory()
        flags = ["-I", harness.TOP, "-L", library_folder(), "-lkvclient", f"-Wl,-rpath,{library_folder()}",
                 *sanitizer_flags()]
        names = sorted(name[:-2] for name in os.listdir(examples) if name.endswith(".c"))
        with Cluster() as cluster:
            nodes = ",".join(f"127.0.0.1:{node.client_port}" for node in cluster.nodes)
            with cluster.nodes[0].client() as client:
                known = {name: client.call("COMMAND", "INFO", command)[0] for name, command in NEEDS.items()}
            for name in names:
                program = os.path.join(folder, name)
                built = run("cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror",
                            os.path.join(examples, name + ".c"), "-o", program, *flags, *LIBRARIES.get(name, ()))
                self.assertEqual(0, built.returncode, built.stderr)
                if name in known and not known[name]:
                    print(f"SKIPPED {name}: this server has no {NEEDS[name]}")
                    continue
                done = run(program, nodes, *ARGUMENTS.get(name, ()), env=harness.clean_environment())
                self.assertEqual(0, done.returncode, f"{name}: {done.stdout}{done.stderr}")


if __name__ == "__main__":
    harness.main()
