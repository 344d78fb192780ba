#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The conformance suite on a card under compute-sanitizer: memcheck and racecheck.

usage: tests/backend/sanitize.py [--tool TOOL]... [--part I/N] [--filter GTEST_FILTER]
                                 [--sanitizer PATH] [PROGRAM]

As many processes run as there are processors. --part runs every N-th test from the I-th on, since
racecheck makes a test some 50 times slower, and those of Draw by far more. Where there is no card
or no compute-sanitizer (it comes with the CUDA toolkit): skipped, exit code 77.

racecheck wants a build with -DETALON_CUDA_RACECHECK=ON and compute-sanitizer 2026.4:
cuda/ptx/barrier.cuh says what it does not follow in another build, and that of CUDA 13.0 (2025.3)
reports reads that bar.arrive orders before a write. pip has newer ones: nvidia-cuda-sanitizer-api.
"""
import argparse
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
SKIPPED = 77
FOUND = 99  # exit code of a process in which the tool found something
SHARDS = 6  # of a process: some tests take far longer than others
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck")
NAMESPACE = "etalon::backend::cuda::"
LINES_MAX = 20  # of a process
FILTER = "*cuda*:*Cuda*:*card*:*Card*"


def part_of(text):
    part, parts = (int(number) for number in text.split("/"))
    if not 0 <= part < parts:
        raise argparse.ArgumentTypeError(f"{text}: I of I/N is 0 to N - 1")
    return part, parts


def findings(output):
    """What the tool found, once for each test and kernel."""
    test = ""
    found = {}
    lines = output.splitlines()
    for line, following in zip(lines, lines[1:] + [""]):
        if line.startswith("[ RUN"):
            test = line.split("] ")[-1]
        elif re.match(r"=+ (Error|Warning|Invalid)", line):
            # racecheck names the kernel in the line itself, memcheck in the one behind it.
            what, _, where = line.lstrip("= ").partition(" at ")
            where = where or following.partition(" at ")[2]
            kernel = where.partition("(")[0].removeprefix("void ").replace(NAMESPACE, "")
            found.setdefault(f"{test}: {what} {kernel}")
    return list(found)


def run_shard(options, tool, shard, shards):
    """Number of tests that passed, and what the tool or a test complained of."""
    environment = dict(os.environ, GTEST_TOTAL_SHARDS=str(shards), GTEST_SHARD_INDEX=str(shard),
                       ETALON_TEST_CARD=options.device)
    done = subprocess.run([options.sanitizer, "--tool", tool, "--error-exitcode", str(FOUND),
                           options.program, f"--gtest_filter={options.filter}"],
                          capture_output=True, text=True, env=environment)
    passed = re.search(r"\[  PASSED  \] (\d+) test", done.stdout)
    n_passed = int(passed[1]) if passed else 0
    if done.returncode == 0:
        return n_passed, ""
    lines = findings(done.stdout) or (done.stdout + done.stderr).splitlines()[-LINES_MAX:]
    return n_passed, f"{tool}, shard {shard} of {shards}: exit code {done.returncode}\n" + \
        "\n".join(lines[:LINES_MAX])


def run_tool(options, tool):
    part, parts = options.part
    n = os.cpu_count()
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(n) as pool:
        results = list(pool.map(
            lambda i: run_shard(options, tool, part + parts * i, parts * n * SHARDS),
            range(n * SHARDS)))
    complaints = [complaint for _, complaint in results if complaint]
    print("\n".join(complaints) if complaints else
          f"{tool}: clean, {sum(count for count, _ in results):,} tests in "
          f"{time.monotonic() - begin:.0f} s", flush=True)
    return sum(count for count, _ in results), len(complaints)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", nargs="?",
                        default=str(ROOT / "build/release/tests/backend/backend_tests"))
    parser.add_argument("--tool", action="append", choices=TOOLS)
    parser.add_argument("--part", type=part_of, default=(0, 1), metavar="I/N")
    parser.add_argument("--filter", default=FILTER)
    parser.add_argument("--sanitizer", default=SANITIZER, metavar="PATH")
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    if shutil.which(options.sanitizer) is None and options.sanitizer != SANITIZER:
        parser.error(f"{options.sanitizer} is no program")
    if shutil.which(options.sanitizer) is None or shutil.which("nvidia-smi") is None:
        print("no card or no compute-sanitizer here")
        return SKIPPED
    n_passed = n_failed = 0
    for tool in options.tool or TOOLS:
        passed, failed = run_tool(options, tool)
        n_passed += passed
        n_failed += failed
        if passed + failed == 0:
            print(f"{tool}: no test has such a name")
            n_failed += 1
    print(f"{n_passed} passed, {n_failed} failed")
    return 1 if n_failed else 0


sys.exit(main())
