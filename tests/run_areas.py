#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs areas of ctest and adds up the cases of every program and script; ./test calls it.

usage: run_areas.py run BUILD RESULTS TITLE [--exclude LABELS] [--only REGEX] AREA...
       run_areas.py record RESULTS TITLE PASSED FAILED SKIPPED SECONDS
       run_areas.py total RESULTS

RESULTS collects one line a stage. `total` prints them and, as its last line, the one total; its
exit status is 1 when a case failed or when nothing passed.
"""
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree

SUMMARY = re.compile(r"^(\d+) passed, (\d+) failed(?:, (\d+) skipped)?\s*$", re.MULTILINE)
GTEST = {
    "passed": re.compile(r"^\[  PASSED  \] (\d+) tests?\.", re.MULTILINE),
    "failed": re.compile(r"^\[  FAILED  \] (\d+) tests?, listed below", re.MULTILINE),
    "skipped": re.compile(r"^\[  SKIPPED \] (\d+) tests?, listed below", re.MULTILINE),
}
SHOWN_LINES = 60  # of the output of a failed program


def count_cases(status, output):
    """(passed, failed, skipped) of one program from its output; a crash is one failed case."""
    last = {name: (expression.findall(output) or ["0"])[-1] for name, expression in GTEST.items()}
    counts = [int(last["passed"]), int(last["failed"]), int(last["skipped"])]
    if not any(counts):
        for passed, failed, skipped in SUMMARY.findall(output)[-1:]:
            counts = [int(passed), int(failed), int(skipped or 0)]
    if status == "skip":
        return [0, 0, 1]
    if status != "run" and counts[1] == 0:
        counts[1] = 1
    if status == "run" and counts[1] > 0:
        return counts
    if not any(counts):
        counts[0] = 1
    return counts


def case_status(case):
    skipped = case.find("skipped")
    if skipped is not None and "SKIP_RETURN_CODE" in (skipped.get("message") or ""):
        return "skip"
    return case.get("status")


def run_areas(build, areas, exclude, only):
    """Runs them as one list, so that what waits for a client lets others compute; for each area
    [passed, failed, skipped] and the seconds that its programs took, added up."""
    report = os.path.join(build, "results.xml")
    if os.path.exists(report):
        os.remove(report)
    command = ["ctest", "--test-dir", build, "-L", f"^({'|'.join(areas)})$", "-Q",
               "--output-junit", report, "-j", str(os.cpu_count() or 1),
               "--test-output-size-passed", "4000000", "--test-output-size-failed", "4000000"]
    if exclude:
        command += ["-LE", exclude]
    if only:
        command += ["-R", only]
    done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    totals = {area: [[0, 0, 0], 0.0] for area in areas}
    if not os.path.exists(report):  # no test of these areas, or ctest itself failed
        totals[areas[0]][0][1] = 0 if done.returncode == 0 else 1
        return totals
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        output = case.findtext("system-out") or ""
        counts = count_cases(case_status(case), output)
        if counts[1] > 0:
            print(f"---- {case.get('name')} failed, the end of its output:")
            print("\n".join(output.splitlines()[-SHOWN_LINES:]))
        elif counts[2] > 0 and counts[0] == 0:
            print(f"---- {case.get('name')} skipped: {output.strip().splitlines()[-1:]}")
        total = totals[case.get("name").split("/")[0]]
        total[0] = [a + b for a, b in zip(total[0], counts)]
        total[1] += float(case.get("time"))
    return totals


def row(title, counts, seconds):
    skipped = f", {counts[2]} skipped" if counts[2] else ""
    return f"{title:28} {seconds:7.1f} s   {counts[0]} passed, {counts[1]} failed{skipped}"


def record(results, title, counts, seconds):
    with open(results, "a", encoding="utf-8") as file:
        file.write("\t".join([title, *map(str, counts), f"{seconds:.1f}"]) + "\n")
    print(row(title, counts, seconds), flush=True)


def main_run(arguments):
    build, results, title, *areas = arguments
    build = os.path.abspath(build)
    exclude = only = ""
    while areas and areas[0] in ("--exclude", "--only"):
        exclude, only = (areas[1], only) if areas[0] == "--exclude" else (exclude, areas[1])
        areas = areas[2:]
    totals = run_areas(build, areas, exclude, only)
    for area, (counts, seconds) in totals.items():
        if any(counts):
            record(results, f"{title}{area}", counts, seconds)


def main_total(results):
    total = [0, 0, 0]
    lines = []
    with open(results, encoding="utf-8") as file:
        for line in file:
            title, passed, failed, skipped, seconds = line.rstrip("\n").split("\t")
            counts = [int(passed), int(failed), int(skipped)]
            lines.append(row(title, counts, float(seconds)))
            total = [a + b for a, b in zip(total, counts)]
    print("\n".join(["", "time per area:", *lines, ""]))
    skipped = f", {total[2]} skipped" if total[2] else ""
    print(f"{total[0]} passed, {total[1]} failed{skipped}")
    return 1 if total[1] or not total[0] else 0


def main(arguments):
    mode, *rest = arguments
    if mode == "run":
        main_run(rest)
    elif mode == "record":
        results, title, passed, failed, skipped, seconds = rest
        record(results, title, [int(passed), int(failed), int(skipped)], float(seconds))
    else:
        return main_total(*rest)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
