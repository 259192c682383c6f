#!/usr/bin/env python3
"""reference.py - makes the reference of libkvclient from its headers: a manual page and a page of HTML.

    client/reference.py --man FILE --html FILE --version VERSION HEADER...

The first comment of a header is its introduction. "/* ---- title ---- */" begins a section. A comment belongs to the
declarations that follow it up to the next empty line. Every declaration of the headers appears; a public function
without a word of explanation, its own or its section's, is an error, so that the reference cannot rot.
"""

import argparse
import html
import re
import sys

SECTION = re.compile(r"^/\* -+ (.*?) -+ \*/$")


class Item:
    """Text, then the code that it is about."""

    def __init__(self, title, text, code):
        self.title, self.text, self.code = title, text, code


def comment_text(lines):
    """The words of a comment, without its stars; the indentation of examples stays."""
    out = []
    for number, line in enumerate(lines):
        line = line.strip("\n")
        line = re.sub(r"^/\* ?" if number == 0 else r"^ ?\*(?!/) ?", "", line)
        out.append(re.sub(r"\s*\*/$", "", line))
    while out and not out[-1].strip():
        out.pop()
    return out


def read_header(path):
    """(introduction, [(section, [Item])])"""
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    at = 0
    while not lines[at].startswith("/*"):
        at += 1
    end = at
    while "*/" not in lines[end]:
        end += 1
    introduction = comment_text(lines[at:end + 1])
    sections = [("", [])]
    at = end + 1
    while at < len(lines):
        line = lines[at]
        section = SECTION.match(line)
        if section:
            sections.append((section.group(1), []))
            at += 1
        elif not line.strip() or line.startswith(("#", "extern \"C\"", "}")) and not line.startswith("};"):
            # What the preprocessor wants is no part of a reference.
            while lines[at].endswith("\\"):
                at += 1
            at += 1
        else:
            block = []
            while at < len(lines) and (lines[at].strip() or inside(block)) and not SECTION.match(lines[at]):
                if not lines[at].startswith("#"):
                    block.append(lines[at])
                at += 1
            sections[-1][1].extend(items_of(block, path))
    return introduction, [section for section in sections if section[1]]


def inside(block):
    """A declaration or a comment that an empty line does not end."""
    text = "\n".join(block)
    return text.count("{") > text.count("}") or text.count("/*") > text.count("*/")


def items_of(block, path):
    """A block may hold several comments, each with what follows it."""
    items, text, code = [], [], []
    at = 0

    def end():
        if code:
            items.append(Item(title_of("\n".join(code)), list(text), body_less(code)))
            del code[:]

    while at < len(block):
        if block[at].startswith("/*"):
            end()
            last = at
            while "*/" not in block[last]:
                last += 1
            if block[last].rstrip().endswith("*/"):
                text = comment_text(block[at:last + 1])
            at = last + 1
        else:
            code.append(block[at])
            at += 1
    if text and not code and not items:
        items.append(Item("", text, []))
    end()
    for item in items:
        if item.title.startswith("kv_") and item.title.endswith("()") and not item.text and "/*" not in "\n".join(
                item.code) and len(items) == 1 and "KV_API" in "\n".join(item.code):
            raise ValueError(f"{path}: {item.title} has no word of explanation")
    return items


def title_of(code):
    plain = re.sub(r"/\*.*?\*/", "", code, flags=re.S)
    function = re.search(r"\b(kv_\w+)\s*\(", plain)
    kind = re.match(r"\s*(?:KV_API\s+)?(struct|enum)\s+(kv_\w+)\s*[{;]", plain)
    if kind:
        return f"{kind.group(1)} {kind.group(2)}"
    typedef = re.match(r"\s*typedef\s+\w+\s+(kv_\w+)\(", plain)
    if typedef:
        return typedef.group(1)
    return function.group(1) + "()" if function else ""


def body_less(code):
    """Inline functions without their bodies, and without what is the compiler's business."""
    text = "\n".join(code)
    text = re.sub(r"\bKV_API\s+", "", text)
    text = re.sub(r"^static inline ([^{]*?)\n\{\n.*?^\}", r"\1;", text, flags=re.S | re.M)
    return text.split("\n")


def paragraphs(lines):
    """("text" | "code", lines): what is indented by four is code, or stands as it is."""
    out = []
    for line in lines:
        kind = "code" if line.startswith(("    ", "  ")) else "text"
        if not line.strip():
            kind = "gap"
        if out and out[-1][0] == kind and kind != "gap":
            out[-1][1].append(line)
        else:
            out.append((kind, [line]))
    return out


# ---- manual page -----------------------------------------------------------------------------------


def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return "\\&" + text if text.startswith((".", "'")) else text


def man_text(lines):
    out = []
    for kind, part in paragraphs(lines):
        if kind == "gap":
            out.append(".PP")
        elif kind == "code":
            out += [".nf", *(roff(line) for line in part), ".fi"]
        else:
            out += [roff(line) for line in part]
    return out


def make_man(headers, version):
    out = [f'.TH KV 3 "" "FlashKV {version}" "FlashKV"', ".SH NAME", "kv \\- client library of FlashKV", ".SH SYNOPSIS",
           ".nf", "#include <client/kv.h>", "", "cc program.c $(pkg\\-config \\-\\-cflags \\-\\-libs kvclient)", ".fi"]
    for path, (introduction, sections) in headers:
        out += [f'.SH "{path.upper()}"', *man_text(introduction)]
        for title, items in sections:
            if title:
                out.append(f'.SH "{title.upper()}"')
            for item in items:
                if item.title:
                    out.append(f'.SS "{item.title}"')
                if item.code:
                    out += [".nf", ".ft CR", *(roff(line) for line in item.code), ".ft", ".fi"]
                if item.text:
                    out += [".PP", *man_text(item.text)]
    return "\n".join(out) + "\n"


# ---- HTML ------------------------------------------------------------------------------------------

STYLE = ("body{max-width:60em;margin:2em auto;padding:0 1em;font:16px/1.5 sans-serif;color:#222}"
         "pre{background:#f4f4f2;padding:.7em;overflow:auto;font-size:14px}h3{margin-top:2em}"
         "nav{columns:3;font-size:14px}a{color:#05c;text-decoration:none}"
         "@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}a{color:#7af}}")


def anchor(title):
    return re.sub(r"\W+", "-", title).strip("-")


def html_text(lines):
    out = []
    for kind, part in paragraphs(lines):
        if kind == "code":
            out.append("<pre>" + html.escape("\n".join(part)) + "</pre>")
        elif kind == "text":
            out.append("<p>" + html.escape(" ".join(line.strip() for line in part)) + "</p>")
    return out


def make_html(headers, version):
    body, index = [], []
    for path, (introduction, sections) in headers:
        body += [f"<h2>{path}</h2>", *html_text(introduction)]
        for title, items in sections:
            if title:
                body.append(f"<h2>{html.escape(title[0].upper() + title[1:])}</h2>")
            for item in items:
                if item.title:
                    name = html.escape(item.title)
                    index.append(f'<a href="#{anchor(item.title)}">{name}</a>')
                    body.append(f'<h3 id="{anchor(item.title)}">{name}</h3>')
                if item.code:
                    body.append("<pre>" + html.escape("\n".join(item.code)) + "</pre>")
                body += html_text(item.text)
    return "\n".join(["<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
                      '<meta name="viewport" content="width=device-width">',
                      f"<title>libkvclient {version}</title><style>{STYLE}</style></head><body>",
                      f"<h1>libkvclient {version}</h1>", "<nav>" + "<br>\n".join(index) + "</nav>", *body,
                      "</body></html>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--man", required=True)
    parser.add_argument("--html", required=True)
    parser.add_argument("--version", required=True)
    parser.add_argument("headers", nargs="+")
    options = parser.parse_args()
    headers = []
    for path in options.headers:
        name = "/".join(path.split("/")[-2:])
        try:
            headers.append((name, read_header(path)))
        except ValueError as error:
            sys.exit(str(error))
    with open(options.man, "w", encoding="utf-8") as file:
        file.write(make_man(headers, options.version))
    with open(options.html, "w", encoding="utf-8") as file:
        file.write(make_html(headers, options.version))


if __name__ == "__main__":
    main()
