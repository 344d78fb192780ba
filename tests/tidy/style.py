# SPDX-License-Identifier: Apache-2.0
"""Checks of form: lengths, first lines, columns, leftovers, calls that are not used here."""
import ast
import pathlib
import re

import cpp_source
from repository import CPP, at, cpp_files, files, read, suffix

FUNCTION_LINES_MAX = 70
KERNEL_LINES_MAX = 250
FILE_LINES_MAX = 1000
FILE_LINES_USUAL = 600
COLUMNS_MAX = 100
README_LINES = range(5, 26)
TEXTS = "sample_texts.py"  # lines of languages, not of code
GENERATED = "generated"  # in one of the first three lines: a table, not a text

COMMENTED_CODE = [
    re.compile(r"^//\s*[\w:<>*&.\[\]\->]+(\s+[\w:]+)?\s*(=[^=]|\().*;$"),
    re.compile(r"^//\s*(if|for|while|switch|return|else|auto|const|int|float)\b.*[;{]$"),
    re.compile(r"^//\s*[{}]\s*$"),
    re.compile(r"^//\s*#\s*(include|define|if|endif)\b"),
]
LEFTOVER = re.compile(r"\b(TO" r"DO|FIX" r"ME|HA" r"CK)\b")

# (expression on code without comments, folders, what to use instead)
BANNED = [
    (r"(?<![\w:.>])s?rand\(", ("",), "the sampler's Philox, or rapidcheck in tests"),
    (r"\bstr(cpy|cat|tok)\(", ("",), "std::string"),
    (r"\bv?sprintf\(", ("",), "fmt::format"),
    (r"\bato[ifl]+\(", ("",), "std::from_chars"),
    (r"(?<![\w:.>])f?gets\(", ("",), "std::getline"),
    (r"\bstd::regex\b", ("",), "a written scanner: std::regex is not linear in its input"),
    (r"\busing namespace (?!std::\w*_?literals|std::chrono_literals)", ("",), "the names used"),
    (r"\bstd::endl\b", ("",), r"'\n'"),
    (r"(?<![\w:.>])system\(", ("src/",), "posix_spawn, and only with a reason"),
    (r"\bstd::(exp|exp2|expm1|pow|log|log2|log10|log1p|sin|cos|tan|tanh|fmod|hypot|cbrt)f?\(",
     ("src/exact/", "src/backend/"), "the programs of exact/math.h: libm differs by machine"),
    (r"(?<![\w:.>])(expf?|exp2f|powf?|logf?|log2f|sinf?|cosf?|tanhf?)\(",
     ("src/exact/", "src/backend/"), "the programs of exact/math.h: libm differs by machine"),
]
# Host names of registries: what is fetched goes through the user's own client and settings.
REGISTRIES = [".".join(parts) for parts in (
    ("pypi", "org"), ("files", "pythonhosted", "org"), ("deb", "debian", "org"),
    ("archive", "ubuntu", "com"), ("registry", "npmjs", "org"), ("proxy", "golang", "org"),
    ("crates", "io"))]


def function_lengths():
    """Rule 1: a function has at most 70 lines, a kernel body at most 250."""
    for name in cpp_files():
        kernel = name.startswith("src/backend/") and suffix(name) in (".inl", ".cu")
        limit = KERNEL_LINES_MAX if kernel else FUNCTION_LINES_MAX
        for line, count, head in cpp_source.functions(read(name)):
            if count > limit:
                yield at(name, line, f"function of {count} lines, at most {limit}: {head[-60:]}")
    for name in files():
        if suffix(name) != ".py":
            continue
        for node in ast.walk(ast.parse(read(name), name)):
            if isinstance(node, ast.FunctionDef):
                count = node.end_lineno - node.lineno + 1
                if count > FUNCTION_LINES_MAX:
                    yield at(name, node.lineno, f"function of {count} lines: {node.name}")


def is_generated(name):
    return any(GENERATED in line for line in read(name).splitlines()[:3])


def file_lengths():
    """Rule 2: over 600 lines the folder's README says why; 1,000 is refused."""
    for name in files():
        if suffix(name) not in CPP | {".py", ".cmake", ".sh"} or is_generated(name):
            continue
        count = read(name).count("\n")
        if count >= FILE_LINES_MAX:
            yield at(name, 1, f"{count} lines, {FILE_LINES_MAX} is refused: split it")
        elif count > FILE_LINES_USUAL:
            readme = str(pathlib.PurePath(name).parent / "README.md")
            if readme not in files() or pathlib.PurePath(name).name not in read(readme):
                yield at(name, 1, f"{count} lines: split it, or {readme} says why it is long")


def is_source(name):
    return (suffix(name) in CPP | {".py", ".cmake", ".sh"} or name.endswith("CMakeLists.txt")
            or name in ("run", "test", ".ci/run"))


def licences():
    """Rule 4: the licence is the first line, then one to three lines say what the file is."""
    for name in files():
        if not is_source(name):
            continue
        lines = read(name).splitlines()
        if lines and lines[0].startswith("#!"):
            lines = lines[1:]
        if not lines or "SPDX-License-Identifier: Apache-2.0" not in lines[0]:
            yield at(name, 1, "the first line is not the SPDX licence")
        elif len(lines) > 3 and not lines[1].lstrip().startswith(("//", "#", '"""', 'r"""')):
            yield at(name, 2, "no line says what this file is")


def headers():
    for name in cpp_files():
        if suffix(name) == ".h" and not re.search(r"^#pragma once$", read(name), re.MULTILINE):
            yield at(name, 1, "no #pragma once")


def own_header_first():
    """Rule 5: what a header lacks cannot hide behind what its source included before it, when
    clang.py compiles each source alone."""
    known = set(cpp_files())
    for name in known:
        header = name[:-len(".cpp")] + ".h"
        if name.startswith("src/") and suffix(name) == ".cpp" and header in known:
            first = first_include(read(name))
            if first != header[len("src/"):]:
                yield at(name, 1, f"includes {first} before its own header")


def first_include(text):
    found = re.search(r'^#include [<"]([^>"]+)[>"]', text, re.MULTILINE)
    return found and found.group(1)


def columns():
    """Rule 13: 100 columns, no tabs, no spaces at the end."""
    for name in files():
        if not is_source(name) or name.endswith(TEXTS):
            continue
        for number, line in enumerate(read(name).splitlines(), 1):
            if len(line) > COLUMNS_MAX:
                yield at(name, number, f"{len(line)} columns, at most {COLUMNS_MAX}")
            if line != line.rstrip():
                yield at(name, number, "spaces at the end")
            if "\t" in line:
                yield at(name, number, "a tab")


def head_lines(text):
    """The number of comment lines that open a file."""
    lines = text.splitlines()
    return next((i for i, line in enumerate(lines) if not line.startswith("//")), len(lines))


def leftovers():
    """Rule 13: no commented-out code, nothing put off."""
    for name in files():
        if not (is_source(name) or suffix(name) == ".md"):
            continue
        for number, line in enumerate(read(name).splitlines(), 1):
            if LEFTOVER.search(line):
                yield at(name, number, "work put off: do it, or open an issue")
    for name in cpp_files():
        head = head_lines(read(name))  # may hold an example of use
        for number, comment in cpp_source.comments(read(name)):
            if number > head and any(expression.match(comment) for expression in COMMENTED_CODE):
                yield at(name, number, "commented-out code: remove it")


def banned_calls():
    for name in cpp_files():
        code = cpp_source.without_comments(read(name))
        for expression, folders, instead in BANNED:
            if not name.startswith(folders):
                continue
            for match in re.finditer(expression, code):
                line = code.count("\n", 0, match.start()) + 1
                yield at(name, line, f"{match.group().strip()} is not used here: {instead}")


def build_flags():
    for name in files():
        if name.endswith(("CMakeLists.txt", ".cmake", "CMakePresets.json")):
            for number, line in enumerate(read(name).splitlines(), 1):
                if re.search(r"-f(fast-math|associative-math|finite-math-only)|-Ofast", line):
                    yield at(name, number, "fast math changes bits")


def registry_hosts():
    for name in files():
        if name == "LICENSE":
            continue
        for number, line in enumerate(read(name).splitlines(), 1):
            for host in REGISTRIES:
                if host in line:
                    yield at(name, number, "a registry's host name: use the package manager")


CHECKS = [function_lengths, file_lengths, licences, headers, own_header_first, columns, leftovers,
          banned_calls, build_flags, registry_hosts]
