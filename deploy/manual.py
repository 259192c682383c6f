#!/usr/bin/env python3
"""manual.py - makes a program's manual page out of what it says on --help, so that the two cannot differ.

    deploy/manual.py --section N --summary TEXT --version VERSION --see TEXT --output FILE PROGRAM
"""

import argparse
import os
import re
import subprocess
import sys

ITEM = re.compile(r"^  (\S.*)$")
COLUMN = re.compile(r"^(.*?\S)(?:\s{2,})(\S.*)$")


def roff(text):
    """Text as it is: no byte of it is a request or an escape."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


class Page:
    """The lines of a page so far, and what the last of them was."""

    def __init__(self):
        self.lines = []
        self.is_item = False
        self.is_described = False

    def add(self, *lines):
        self.lines += lines

    def paragraph(self):
        if self.lines[-1] not in (".PP", "") and not self.lines[-1].startswith(".S"):
            self.add(".PP")
        self.is_item = False

    def item(self, head, description):
        if self.is_item and not self.is_described and self.lines[-1].startswith("\\fB"):
            self.add(".TQ")
        else:
            self.add(".TP")
        self.add("\\fB" + roff(head) + "\\fR")
        self.is_item, self.is_described = True, False
        if description:
            self.describe(description)

    def describe(self, text):
        if self.is_described and text.startswith("takes "):
            self.add(".br")
        self.add(roff(text))
        self.is_described = True

    def head_goes_on(self, text):
        self.lines[-1] = self.lines[-1][:-len("\\fR")] + " " + roff(text) + "\\fR"

    def body(self, lines):
        """What follows the usage."""
        for at, line in enumerate(lines):
            following = lines[at + 1] if at + 1 < len(lines) else ""
            item = ITEM.match(line)
            if not line.strip():
                self.paragraph()
            elif item:
                columns = COLUMN.match(item.group(1))
                self.item(*(columns.groups() if columns else (item.group(1), "")))
            elif line.startswith(" ") and self.is_item:
                if not self.is_described and len(line) - len(line.lstrip()) < 20:
                    self.head_goes_on(line.strip())
                else:
                    self.describe(line.strip())
            elif ITEM.match(following):
                self.add(".SS " + roff(line.strip().rstrip(":")))
                self.is_item = False
            else:
                if self.is_item:
                    self.paragraph()
                self.add(roff(line.strip()))


def make(name, options, text):
    """The page of the program @name, whose --help is @text."""
    page = Page()
    lines = text.rstrip("\n").split("\n")
    # A first line that names the program again says nothing new.
    first = next(at for at, line in enumerate(lines) if line.lower().startswith("usage:"))
    page.add(f'.TH {name.upper()} {options.section} "" "FlashKV {options.version}" "FlashKV"', ".SH NAME",
             f"{name} \\- {roff(options.summary)}", ".SH SYNOPSIS", ".nf")
    at = first
    while at < len(lines) and (at == first or lines[at].startswith("  ")):
        page.add(roff(re.sub(r"^usage:\s*", "", lines[at].strip(), flags=re.IGNORECASE)))
        at += 1
    page.add(".fi", ".SH DESCRIPTION")
    page.body(lines[at:])
    page.add(".SH SEE ALSO", roff(options.see), "")
    return "\n".join(page.lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    for name in ("section", "summary", "version", "see", "output"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("program")
    options = parser.parse_args()
    done = subprocess.run([options.program, "--help"], capture_output=True, encoding="utf-8", check=False)
    if done.returncode != 0 or not done.stdout:
        sys.exit(f"{options.program} --help failed: {done.stderr}")
    with open(options.output, "w", encoding="utf-8") as file:
        file.write(make(os.path.basename(options.program), options, done.stdout))


if __name__ == "__main__":
    main()
