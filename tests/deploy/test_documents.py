#!/usr/bin/env python3
"""What the documents say of files and options is so: no dead links, and the defaults of kvnode everywhere."""

import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cluster"))

import harness  # noqa: E402

# Shown with an example instead of a default, which depends on the machine.
EXAMPLES = {"name", "cluster", "advertise-client", "advertise-cluster-client", "advertise-peer"}
NOT_YET = {"join"}


def documents():
    """The paths of all documents, from the top of the tree."""
    done = subprocess.run(["find", ".", "-name", "*.md", "-not", "-path", "./build*", "-not", "-path", "./.*"],
                          cwd=harness.TOP, capture_output=True, text=True, check=True)
    return sorted(os.path.normpath(path) for path in done.stdout.splitlines())


def read(path):
    with open(os.path.join(harness.TOP, path), encoding="utf-8") as file:
        return file.read()


def anchors(path):
    """The names of a document's headings, as web pages of repositories make them."""
    heads = re.findall(r"^#+ (.*)$", read(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def defaults():
    """Each option of kvnode with its default, as --help says."""
    done = subprocess.run([os.path.join(harness.BIN, "kvnode"), "--help"], capture_output=True, text=True, check=True)
    texts = {}
    name = None
    for line in done.stdout.splitlines():
        option = re.match(r"  --(\S+) ", line)
        if option:
            name = option.group(1)
            texts[name] = ""
        elif name and line.startswith(" " * 20):
            texts[name] += " " + line.strip()
    return {name: re.search(r"default: (.*)$", text).group(1) for name, text in texts.items() if "default: " in text}


class Documents(unittest.TestCase):
    def test_no_link_is_dead(self):
        seen = 0
        for document in documents():
            for link in re.findall(r"\]\(([^)\s]+)\)", read(document)):
                if re.match(r"[a-z]+:", link):
                    continue
                path, _, anchor = link.partition("#")
                target = os.path.normpath(os.path.join(os.path.dirname(document), path)) if path else document
                self.assertTrue(os.path.exists(os.path.join(harness.TOP, target)), f"{document}: {link}")
                if anchor and target.endswith(".md"):
                    self.assertIn(anchor, anchors(target), f"{document}: {link}")
                seen += 1
        self.assertGreater(seen, 30)

    def test_options_have_the_defaults_that_are_written(self):
        options = defaults()
        self.assertGreater(len(options), 30)
        table = {}
        for line in read("docs/operations.md").splitlines():
            row = re.match(r"\| (`[a-z-]+`(?:, `[a-z-]+`)*) \| (.*?) \| ", line)
            names = re.findall(r"`([a-z-]+)`", row.group(1)) if row else []
            values = re.findall(r"`([^`]+)`", row.group(2)) if row else []
            for at, name in enumerate(names):
                table.setdefault(name, values[at] if values else row.group(2))
        self.assertEqual(options, {name: table.get(name) for name in options})
        file = dict(re.findall(r"^# ([a-z-]+) = (.*)$", read("deploy/kvnode.conf"), re.MULTILINE))
        for name in options.keys() - NOT_YET:
            self.assertIn(name, file)
            if name not in EXAMPLES:
                self.assertEqual(options[name], file[name], name)
        self.assertEqual(set(), file.keys() - options.keys())


if __name__ == "__main__":
    harness.main()
