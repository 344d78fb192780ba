#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs clang over src/; ./test ci calls it.

usage: clang.py alone BUILD CLANG   each source, and each header that none includes first
       clang.py tidy BUILD TIDY     clang-tidy, the sources of a folder in batches:
                                    most of its time goes into what they include

BUILD was configured with the preset debug, where each source has a command of its own. The commands
are GCC's: clang does not know every warning that they name, and cannot read GCC's precompiled
headers. Ends with "N passed, N failed".
"""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
BATCH = 12  # sources: as cmake/compile_options.cmake
GCC_ONLY = re.compile(r" -Winvalid-pch -include \S+cmake_pch\.hxx| -fpch-preprocess")
COMMON = ["-Wno-unknown-warning-option", "-Wno-unused-command-line-argument"]


def flags_of_sources(build):
    """{source: its flags, without compiler, output and its own name}"""
    listed = subprocess.run(["git", "ls-files", "--", "src/*.cpp"], cwd=ROOT, check=True,
                            capture_output=True, text=True).stdout.split()
    known = {str(ROOT / name): name for name in listed}
    found = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        name = known.get(entry["file"])
        if not name:
            continue
        words = shlex.split(GCC_ONLY.sub("", entry["command"]))
        end = words.index("-o")
        start = next(i for i, word in enumerate(words) if word.startswith("-D")
                     or word.startswith("-I"))
        found[name] = words[start:end] + COMMON
    return found


def lone_headers(flags):
    """Headers that no source of their name includes first, with the flags of a neighbour."""
    neighbours = {}
    for name, words in flags.items():
        neighbours.setdefault(name.split("/")[1], words)
    for header in sorted((ROOT / "src").rglob("*.h")):
        folder = header.relative_to(ROOT / "src").parts[0]
        if not header.with_suffix(".cpp").exists() and folder in neighbours:
            yield str(header.relative_to(ROOT / "src")), neighbours[folder]


def run_all(commands):
    """[(title, command, stdin)] over all cores; prints what failed, and the total."""
    def run(one):
        title, command, text = one
        done = subprocess.run(command, cwd=ROOT, input=text, check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        return title, done.returncode, done.stdout
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for title, status, output in pool.map(run, commands):
            if status != 0:
                failed += 1
                print(f"---- {title} failed:\n{output}", flush=True)
    print(f"{len(commands) - failed} passed, {failed} failed")
    return 1 if failed or not commands else 0


def alone(build, clang):
    flags = flags_of_sources(build)
    commands = [(name, [clang, *words, "-fsyntax-only", name], None)
                for name, words in flags.items()]
    for header, words in lone_headers(flags):
        twice = f'#include "{header}"\n' * 2
        commands.append((header, [clang, *words, "-fsyntax-only", "-x", "c++", "-"], twice))
    return run_all(commands)


def tidy(build, tool):
    groups = collections.defaultdict(list)
    for name, words in sorted(flags_of_sources(build).items()):
        # As src/backend/CMakeLists.txt: its sources are compiled one by one.
        own = name if name.startswith("src/backend/") else name.split("/")[1]
        groups[own, tuple(words)].append(name)
    folder = build / "tidy"
    folder.mkdir(exist_ok=True)
    commands = []
    for (own, words), names in groups.items():
        n_batches = -(-len(names) // BATCH)
        for i in range(n_batches):
            batch = folder / f"{own.replace('/', '_')}_{len(commands)}.cpp"
            lines = [f'#include "{ROOT / name}"  // NOLINT\n' for name in names[i::n_batches]]
            batch.write_text("".join(lines))
            commands.append((batch.name, [tool, "--quiet", f"--config-file={ROOT}/.clang-tidy",
                                          str(batch), "--", *words, "-Wreserved-identifier"], None))
    return run_all(commands)


def main(arguments):
    mode, build, tool = arguments
    return {"alone": alone, "tidy": tidy}[mode](pathlib.Path(build).resolve(), tool)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
