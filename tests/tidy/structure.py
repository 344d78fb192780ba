# SPDX-License-Identifier: Apache-2.0
"""Checks of the house: arrows between folders, READMEs, and paths and commands in Markdown."""
import pathlib
import re

from repository import ROOT, at, cpp_files, files, read, suffix
from style import README_LINES

INCLUDE = re.compile(r'^\s*#\s*include\s+"([a-z_0-9]+)/', re.MULTILINE)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
# A path of this repository: one of its folders, then names; no placeholder, no shell.
PATH = re.compile(r"^(?:src|tests|spec|docs|fuzz|bench|cmake|packaging|\.ci)/[\w.\-/*]*$")
PLACEHOLDER = re.compile(r"\b[A-Z]{3,}\b(?!\.(md|txt))|X\b")
KNOWN_UPPER = ("README", "CMakeLists", "CONTRIBUTING", "LICENSE")


def layers():
    """{folder: folders that it may use} from the lines etalon_layer(...) of CMakeLists.txt."""
    found = re.findall(r"^etalon_layer\((\w+)\s+MAY_USE([^)]*)\)", read("CMakeLists.txt"),
                       re.MULTILINE)
    return {name: set(uses.split()) | {name} for name, uses in found}


def arrows():
    allowed = layers()
    for name in cpp_files():
        parts = pathlib.PurePath(name).parts
        if parts[0] != "src" or parts[1] not in allowed:
            continue
        for match in INCLUDE.finditer(read(name)):
            if match.group(1) in allowed and match.group(1) not in allowed[parts[1]]:
                line = read(name).count("\n", 0, match.start(1)) + 1
                yield at(name, line, f"src/{parts[1]} may not use src/{match.group(1)}")


def folder_readmes():
    """Rule 38: 5 to 25 lines in each folder of src/ and in the folders beside it."""
    folders = {"/".join(pathlib.PurePath(name).parts[:2]) for name in files()
               if name.startswith("src/") and name.count("/") > 1}
    folders |= {"tests", "fuzz", "bench", "docs", "packaging", "spec"}
    for folder in sorted(folders):
        readme = f"{folder}/README.md"
        if not (ROOT / readme).is_file():
            yield at(readme, 1, "is missing: what for, may include, first file, where to change")
        elif read(readme).count("\n") not in README_LINES:
            yield at(readme, 1, f"{read(readme).count(chr(10))} lines, 5 to 25 are asked")


def exists(path, folder):
    """Whether a path of Markdown leads to something, seen from its folder, the root or src/."""
    for base in (ROOT, ROOT / folder, ROOT / "src"):
        if "*" in path:
            if any(base.glob(path)):
                return True
        elif (base / path).exists():
            return True
    return False


def markdown_paths():
    """Rule 39: every path in Markdown exists."""
    for name in files():
        if suffix(name) != ".md":
            continue
        folder = pathlib.PurePath(name).parent
        for number, line in enumerate(FENCE.sub(keep_lines, read(name)).splitlines(), 1):
            paths = [span for span in CODE_SPAN.findall(line) if PATH.match(span)]
            paths = [path for path in paths if not is_placeholder(path)]
            paths += [link for link in LINK.findall(line) if "://" not in link and ":" not in link]
            for path in paths:
                if not exists(path, folder):
                    yield at(name, number, f"{path} does not exist")


def is_placeholder(path):
    for known in KNOWN_UPPER:
        path = path.replace(known, "")
    return bool(PLACEHOLDER.search(path))


def keep_lines(match):
    return "\n" * match.group().count("\n")


def commands():
    """Names of the program's commands, as src/cli adds them."""
    found = set()
    for name in cpp_files():
        if name.startswith("src/cli/"):
            found |= set(re.findall(r'add_subcommand\(\s*"([\w-]+)"', read(name)))
    return found


def snippets():
    """The commands shown in README.md exist."""
    known = commands()
    if "README.md" not in files() or not known:
        return
    text = read("README.md")
    for fence in FENCE.finditer(text):
        first = text.count("\n", 0, fence.start()) + 1
        for offset, line in enumerate(fence.group().splitlines()):
            words = line.removeprefix("$ ").split()
            if not words or not line.startswith(("$ ", "./", "build/", "etalon ")):
                continue
            if words[0].startswith("./") and not (ROOT / words[0]).is_file():
                yield at("README.md", first + offset, f"{words[0]} does not exist")
            if words[0].split("/")[-1] == "etalon" and words[1:] and words[1] not in known:
                yield at("README.md", first + offset, f"etalon has no command {words[1]}")


CHECKS = [arrows, folder_readmes, markdown_paths, snippets]
