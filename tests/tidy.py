#!/usr/bin/env python3
"""tidy.py - the rules of docs/conventions.md that a machine can check.

    tests/tidy.py              checks the tree
    tests/tidy.py --self-test  plants one violation of each rule and expects it to be found
"""

import os
import re
import subprocess
import sys
import tempfile

SOURCE_LINES_MAX = 800
HEADER_LINES_MAX = 220
# The comments of the public headers are the manual of the library.
HEADER_LINES_EXCEPTIONS = {"client/kv.h": 380, "client/kv_async.h": 320}
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 100
COMMENT_COLUMNS_MAX = 120

CODE = ("storage", "raft", "node", "client", "tests")
PRODUCT = ("storage", "raft", "node", "client")

# Who may include whom; a folder always sees itself.
MAY_INCLUDE = {
    "client/ctl": ("client", "storage", "raft", "node"),  # kvctl works on the files of stopped nodes, too
    "storage": ("storage",),
    "raft": ("storage", "raft"),
    "node": ("storage", "raft", "node"),
    "node/host": ("storage", "raft", "node", "node/host"),
    "client": ("client",),
    "tests": ("storage", "raft", "node", "node/host", "client", "tests"),
}
# Single headers that cross the lines above: the protocol is shared, and so are the bytes it is made of.
ALSO_ALLOWED = {
    "node": ("client/resp.h", "client/slot.h"),
    "node/host": ("client/resp.h", "client/slot.h"),
    "client": ("storage/base/bytes.h", "storage/base/err.h", "storage/base/limits.h"),
}

# What may differ between two runs, or escapes the bounds: none of it where determinism holds.
BANNED = ("time clock_gettime gettimeofday rand random srand getenv setenv "
          "printf fprintf puts perror malloc calloc realloc free strdup strndup "
          "strcpy strcat sprintf vsprintf strtok gets alloca pthread_create sleep usleep").split()
BANNED_EXCEPTIONS = {
    "storage/base/mem.c": {"malloc", "calloc", "realloc", "free"},
    "storage/base/check.c": {"printf", "fprintf"},
}

# The asynchronous client runs on the loop of its program.
UV_ALSO = ("client/kv_async_uv.c",)

# The base is many small things in few files; everywhere else the file's name is the prefix.
PREFIXES = {
    "storage/base/bytes": ("slice_", "buf_", "get_", "put_", "varint_", "bytes_", "reader_"),
    "storage/base/hash": ("hash",),
    "storage/base/check": ("check_", "fatal"),
    "client/kvctl": ("main", "ctl_", "kvctl_"),
    "node/host/main": ("main",),
    "client/examples/config": ("main",),
    "client/examples/counter": ("main",),
    "client/examples/loop": ("main",),
    "client/examples/threads": ("main",),
    "client/examples/transfer": ("main",),
    "client/examples/watch": ("main",),
}

# Nothing in the tree may depend on, or tell of, the machine on which it was written.
FOREIGN = ("/wo" + "rk/", "../sha" + "red", "/ro" + "ot/", "/ho" + "me/", "/tmp/pl" + "an",
           "deb.deb" + "ian.org", "snapshot.deb" + "ian.org")


def without_comments(text):
    """The text with comments and literals blanked, every line and column kept."""
    out = []
    at, end = 0, len(text)
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    while at < end:
        found = pattern.search(text, at)
        if not found:
            out.append(text[at:])
            break
        out.append(text[at:found.start()])
        blank = re.sub(r"[^\n]", " ", found.group())
        if found.group()[0] in "\"'" and len(blank) >= 2:
            blank = found.group()[0] + blank[1:-1] + found.group()[0]
        out.append(blank)
        at = found.end()
    return "".join(out)


def functions(code):
    """(name, first line, last line, is static) of every function; bodies begin and end in column one."""
    lines = code.split("\n")
    start = 0
    at = 0
    while at < len(lines):
        line = lines[at]
        if line == "{":
            head = " ".join(lines[start:at])
            head = head[max(head.rfind(";"), head.rfind("}")) + 1:]
            head = re.sub(r"__attribute__\s*\(\(.*?\)\)\s*\)?", " ", head)
            name = re.search(r"([A-Za-z_]\w*)\s*\(", head)
            last = at
            while last < len(lines) and lines[last] != "}":
                last += 1
            if name:
                yield name.group(1), at, min(last, len(lines) - 1), bool(re.search(r"\bstatic\b", head))
            at = last
            start = last + 1
        elif line.startswith("#") or line == "" or line.startswith("}"):
            start = at + 1
        at += 1


class Tidy:
    def __init__(self, root):
        self.root = root
        self.problems = []
        self.includes = {}
        self.checked = 0

    def problem(self, path, line, rule, text):
        self.problems.append(f"{path}:{line}: {rule}: {text}")

    def files(self):
        listed = subprocess.run(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"],
                                capture_output=True, text=True, check=True).stdout.split("\n")
        return sorted(set(name for name in listed if name and os.path.isfile(os.path.join(self.root, name))))

    def run(self):
        for path in self.files():
            full = os.path.join(self.root, path)
            try:
                with open(full, encoding="utf-8") as file:
                    text = file.read()
            except UnicodeDecodeError:
                continue  # inputs of the fuzz targets and the like
            self.checked += 1
            self.check_text(path, text)
            if path.endswith((".c", ".h")) and path.split("/")[0] in CODE:
                self.check_code(path, text)
        self.check_cycles()
        return self.problems

    # ---- every text file --------------------------------------------------------------------------

    def check_text(self, path, text):
        for number, line in enumerate(text.split("\n"), 1):
            for foreign in FOREIGN:
                if foreign in line:
                    self.problem(path, number, "foreign", f"'{foreign}' belongs to one machine or host")
            if re.search(r"\bFIX" + r"ME\b", line):
                self.problem(path, number, "fixme", "mend it, or open an issue")
            if re.search(r"\bTO" + r"DO\b(?!\(#\d+\))", line) and path.endswith((".c", ".h", ".py", ".sh")):
                self.problem(path, number, "todo", "needs the number of an issue: (#12)")
            if line != line.rstrip() and path.endswith((".c", ".h", ".py", ".md", ".sh", ".txt", ".cmake")):
                self.problem(path, number, "space", "blanks at the end of the line")

    # ---- C ----------------------------------------------------------------------------------------

    def folder(self, path):
        for name in ("node/host", "storage", "raft", "node", "client", "tests"):
            if path.startswith(name + "/"):
                return name
        return ""

    def check_code(self, path, text):
        code = without_comments(text)
        lines = text.split("\n")
        count = len(lines) - 1
        # Headers of tests hold fixtures, which are code.
        is_manual = path.endswith(".h") and not path.startswith("tests/")
        limit = HEADER_LINES_EXCEPTIONS.get(path, HEADER_LINES_MAX) if is_manual else SOURCE_LINES_MAX
        if count > limit:
            self.problem(path, count, "size", f"{count} lines, at most {limit}: split the module")
        for number, line in enumerate(lines, 1):
            if len(line) > COMMENT_COLUMNS_MAX and "://" not in line:
                self.problem(path, number, "width", f"{len(line)} columns, at most {COMMENT_COLUMNS_MAX}")
        for number, line in enumerate(code.split("\n"), 1):
            if len(line.rstrip()) > COLUMNS_MAX:
                self.problem(path, number, "width",
                             f"{len(line.rstrip())} columns of code, at most {COLUMNS_MAX}")
        self.check_includes(path, text)
        self.check_words(path, code)
        self.check_functions(path, code)
        if path.endswith(".h"):
            self.check_guard(path, text)

    def check_guard(self, path, text):
        guard = "KV_" + re.sub(r"[^A-Z0-9]", "_", path[:-2].upper()) + "_H"
        if path.startswith("tests/") or path in ("client/kv.h", "client/kv_async.h", "client/kv_pool.h"):
            if not re.search(r"^#ifndef \w+_H$", text, re.M):
                self.problem(path, 1, "guard", "a header needs an include guard")
            return
        # The last two folders name a header well enough: KV_BASE_BYTES_H, KV_HOST_LOOP_H.
        short = "KV_" + "_".join(guard[3:].split("_")[1:])
        if f"#ifndef {guard}\n#define {guard}\n" not in text and f"#ifndef {short}\n#define {short}\n" not in text:
            self.problem(path, 1, "guard", f"the include guard must be {guard}")

    def check_includes(self, path, text):
        folder = self.folder(path)
        self.includes[path] = []
        if path.startswith("client/ctl_"):
            folder = "client/ctl"
        for number, line in enumerate(text.split("\n"), 1):
            system = re.match(r"\s*#\s*include\s+<([^>]+)>", line)
            if system:
                header = system.group(1)
                if header == "uv.h" and folder not in ("node/host", "tests") and path not in UV_ALSO and "/examples/" not in path:
                    self.problem(path, number, "include", "<uv.h> only in node/host/")
                if (header == "raft.h" or header.startswith("raft/")) and folder not in ("raft", "tests"):
                    self.problem(path, number, "include", "<raft.h> only in raft/")
                if header == "assert.h":
                    self.problem(path, number, "include", "<assert.h> is banned, use CHECK")
            own = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if own:
                header = own.group(1)
                self.includes[path].append(header)
                if "/" not in header:
                    self.problem(path, number, "include", f'"{header}": write the full path')
                    continue
                target = self.folder(header)
                if target not in MAY_INCLUDE[folder] and header not in ALSO_ALLOWED.get(folder, ()):
                    if not (path.startswith("client/") and header.startswith("storage/base/")):
                        self.problem(path, number, "order", f'{folder}/ must not include "{header}"')

    def check_words(self, path, code):
        folder = self.folder(path)
        deterministic = folder in ("storage", "raft", "node")
        allowed = BANNED_EXCEPTIONS.get(path, set())
        for number, line in enumerate(code.split("\n"), 1):
            if deterministic:
                for call in re.finditer(r"(?<![\w.>])(\w+)\s*\(", line):
                    if call.group(1) in BANNED and call.group(1) not in allowed:
                        self.problem(path, number, "banned", f"{call.group(1)}() here, see conventions 5 and 6")
            if re.search(r"(?<![\w.>])assert\s*\(", line):
                self.problem(path, number, "assert", "assert() is banned, use CHECK")
            if re.search(r"\bgoto\s+(?!cleanup\b)", line):
                self.problem(path, number, "goto", "goto only to cleanup")
            if re.match(r"\s*#\s*if(def|ndef)?\b.*\bTEST", line):
                self.problem(path, number, "ifdef", "no code for tests in the product")
            if folder != "tests" and re.match(r"typedef\s+(struct|union|enum)\b", line):
                self.problem(path, number, "typedef", "no typedef of structs")
            if folder != "tests" and re.match(r"(struct|union|enum)\s+\w+_t\s*\{", line):
                self.problem(path, number, "name", "no final _t")

    def check_functions(self, path, code):
        for name, first, last, static in functions(code):
            length = last - first + 1
            if length > FUNCTION_LINES_MAX:
                self.problem(path, first + 1, "function",
                             f"{name} has {length} lines, at most {FUNCTION_LINES_MAX}")
            if not static and path.endswith(".c") and path.split("/")[0] in PRODUCT:
                self.check_prefix(path, first, name)
            body = "\n".join(code.split("\n")[first:last])
            if re.search(r"(?<![\w.>])" + re.escape(name) + r"\s*\(", body):
                self.problem(path, first + 1, "recursion", f"{name} calls itself")

    def check_prefix(self, path, line, name):
        stem = path[:-2]
        if name.startswith("raft_"):
            self.problem(path, line + 1, "prefix", f"{name}: raft_* is libraft's")
            return
        module = os.path.basename(stem)
        allowed = PREFIXES.get(stem)
        if allowed is None:
            # log_read.c is part of log: families share the first word. kv_cluster.c exports kv_*.
            word = module.split("_")[0]
            allowed = (word + "_", word + "s_", word + "es_")
        if not name.startswith(allowed):
            self.problem(path, line + 1, "prefix", f"{name}: {path} exports only {', '.join(allowed)}*")

    def check_cycles(self):
        """Headers must include each other in one direction only."""
        state = {}
        for root in self.includes:
            if not root.endswith(".h") or root in state:
                continue
            stack = [(root, iter(self.includes.get(root, ())))]
            state[root] = "open"
            while stack:
                path, rest = stack[-1]
                for header in rest:
                    if state.get(header) == "open":
                        self.problem(path, 1, "cycle", f'"{header}" includes this header again')
                    elif header not in state:
                        state[header] = "open"
                        stack.append((header, iter(self.includes.get(header, ()))))
                        break
                else:
                    state[path] = "done"
                    stack.pop()


# ---- the rules' own test ---------------------------------------------------------------------------

CLEAN = {
    "storage/base/bytes.h": "#ifndef KV_BASE_BYTES_H\n#define KV_BASE_BYTES_H\n#endif\n",
    "storage/log.h": '#ifndef KV_STORAGE_LOG_H\n#define KV_STORAGE_LOG_H\n#include "storage/base/bytes.h"\n#endif\n',
    "storage/log.c": '#include "storage/log.h"\n\nint log_add(int a)\n{\n    return a + 1; /* not rand() */\n}\n\n'
                     'static int helper(void)\n{\n    return log_add(1);\n}\n\n'
                     'int log_get(void)\n{\n    return helper();\n}\n',
    "storage/base/mem.c": "void *mem_get(unsigned long n)\n{\n    return malloc(n);\n}\n",
    "node/host/host_loop.c": "#include <uv.h>\n\nvoid host_go(void)\n{\n    time(0);\n}\n",
    "README.md": "Words.\n",
}

LONG = "    x++;\n" * (FUNCTION_LINES_MAX + 1)
PLANTED = [
    ("size", "storage/log.c", "int x;\n" * (SOURCE_LINES_MAX + 1)),
    ("size", "storage/log.h", "#ifndef KV_STORAGE_LOG_H\n#define KV_STORAGE_LOG_H\n" + "int x;\n" * HEADER_LINES_MAX + "#endif\n"),
    ("width", "storage/log.c", "/* " + "x" * 120 + " */\n"),
    ("width", "storage/log.c", "int " + "x" * 100 + ";\n"),
    ("function", "storage/log.c", "void log_long(int x)\n{\n" + LONG + "}\n"),
    ("prefix", "storage/log.c", "int other_name(void)\n{\n    return 1;\n}\n"),
    ("prefix", "raft/raft.c", "int raft_own(void)\n{\n    return 1;\n}\n"),
    ("recursion", "storage/log.c", "int log_deep(int n)\n{\n    return log_deep(n - 1);\n}\n"),
    ("include", "storage/log.c", "#include <uv.h>\n"),
    ("include", "node/core.c", "#include <raft.h>\n"),
    ("include", "storage/log.c", "#include <assert.h>\n"),
    ("include", "storage/log.c", '#include "log.h"\n'),
    ("order", "storage/log.c", '#include "raft/wire.h"\n'),
    ("order", "raft/wire.c", '#include "node/core.h"\n'),
    ("order", "node/core.c", '#include "node/host/host_loop.h"\n'),
    ("order", "client/kv.c", '#include "node/core.h"\n'),
    ("order", "node/core.c", '#include "client/kv.h"\n'),
    ("banned", "storage/log.c", "void log_go(void)\n{\n    printf(0);\n}\n"),
    ("banned", "node/core.c", "void core_go(void)\n{\n    x = time(0);\n}\n"),
    ("banned", "raft/wire.c", "void wire_go(void)\n{\n    x = malloc (3);\n}\n"),
    ("assert", "node/host/host_loop.c", "void host_go(void)\n{\n    assert(1);\n}\n"),
    ("goto", "storage/log.c", "void log_go(void)\n{\n    goto out;\n}\n"),
    ("typedef", "storage/log.c", "typedef struct log log;\n"),
    ("name", "storage/log.h", "#ifndef KV_STORAGE_LOG_H\n#define KV_STORAGE_LOG_H\nstruct log_t {\n};\n#endif\n"),
    ("ifdef", "storage/log.c", "#ifdef TESTING\n#endif\n"),
    ("guard", "storage/log.h", "#ifndef LOG_H\n#define LOG_H\n#endif\n"),
    ("guard", "tests/test.h", "int x;\n"),
    ("cycle", "storage/base/bytes.h",
     '#ifndef KV_BASE_BYTES_H\n#define KV_BASE_BYTES_H\n#include "storage/log.h"\n#endif\n'),
    ("foreign", "README.md", "see ../sha" + "red/design.md\n"),
    ("foreign", "deploy/deps", "mirror=http://deb.deb" + "ian.org/debian\n"),
    ("fixme", "README.md", "FIX" + "ME\n"),
    ("todo", "storage/log.c", "/* TO" + "DO: later */\n"),
    ("space", "README.md", "Words. \n"),
]


def check_planted(changes):
    with tempfile.TemporaryDirectory() as root:
        subprocess.run(["git", "init", "-q", root], check=True)
        for path, text in {**CLEAN, **changes}.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write(text)
        return Tidy(root).run()


def self_test():
    passed, failed = 0, 0
    found = check_planted({})
    if found:
        print("a clean tree is refused:", *found, sep="\n  ")
        failed += 1
    else:
        passed += 1
    for rule, path, text in PLANTED:
        found = check_planted({path: text})
        if any(problem.startswith(path + ":") and f": {rule}: " in problem for problem in found) or (
                rule == "cycle" and any(": cycle: " in problem for problem in found)):
            passed += 1
        else:
            print(f"not found: {rule} planted in {path}; found {found}")
            failed += 1
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        print(__doc__, file=sys.stderr)
        return 2
    tidy = Tidy(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    problems = tidy.run()
    for problem in problems:
        print(problem)
    print(f"tidy: {tidy.checked} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
