#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of others, unchanged, against `etalon serve` with the default model: only address, key
and model are given. Their packages are installed into build/sdk; docs/compatibility.md is the
matrix that comes out, its rows are compared with what was seen. With --write the page is written.

A client that this machine's Python or Node is too old for is skipped by name; one that cannot be
installed is a failure.
"""
import json
import os
import re
import shutil
import subprocess
import sys

from features import FEATURES, Checks
from packages import HERE, fresh, python_environment
from served import Server

ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
PYTHON_MIN = (3, 10)
HEADERS = {"base64": "embeddings as base64", "models": "model list"}
PYTHON_SCRIPTS = ("openai_client.py", "mistral_client.py", "langchain_client.py",
                  "litellm_client.py")
# Scripts of Node by the folder of their package.json; then the packages that a client is made of.
NODE_SCRIPTS = {"node": ("openai_client.mjs", "mistral_client.mjs", "ai_client.mjs"),
                "node22": ("openai_client.mjs", "ai_client.mjs")}
PACKAGES = {"ai with @ai-sdk/openai (Node)": ("ai", "@ai-sdk/openai"),
            "ai with @ai-sdk/mistral (Node)": ("ai", "@ai-sdk/mistral")}
NODE_CLIENTS = {"openai_client.mjs": ("openai (Node)",),
                "mistral_client.mjs": ("@mistralai/mistralai (Node)",),
                "ai_client.mjs": tuple(PACKAGES)}
INTRODUCTION = """# Compatibility

Clients of others against `etalon serve` with the default model; they get an address, a key and a
model and are not changed. `tests/sdk/matrix.py --write` writes this page, and as a test it compares
the page with what it sees. "yes": what the client documents for it was checked, values included. A
letter: the client cannot ask for it.

Tools and structured output are not there yet: a request for them is refused by name.

"""


class Row:
    """A client with its versions, and what was seen of it: features, or why it was not run."""

    def __init__(self, client, versions, not_run=None):
        self.client = client
        self.versions = versions
        self.not_run = not_run
        self.results = {}
        self.reasons = {}

    def name(self):
        return f"{self.client} {', '.join(self.versions)}"


def versions_of(client, pins):
    name = client.rsplit(" (", maxsplit=1)[0]
    return [pins[package] for package in PACKAGES.get(client, (name,))]


def python_pins():
    text = (HERE / "requirements.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^(\S+)==(\S+)$", text, re.MULTILINE))


def node_environment(name):
    """The folder that has the packages; the scripts are copied there, beside them."""
    folder = ROOT / "build" / "sdk" / name

    def install():
        shutil.copy(HERE / name / "package.json", folder)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund",
                        "--no-package-lock", "--ignore-scripts"], cwd=folder, check=True)

    fresh(folder, HERE / name / "package.json", install)
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


def node_version():
    """"20.1.0", or None where there is none or no npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    done = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("v")


def run_client(command, server, pins, checks):
    """The rows of one script."""
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run([*command, server.base, server.key, server.model], capture_output=True,
                          text=True, check=False, env=variables, timeout=1200)
    print(f"== {' '.join(map(str, command))}\n{done.stdout}{done.stderr[-4000:]}")
    totals = re.findall(r"^(\d+) passed, (\d+) failed$", done.stdout, re.MULTILINE)
    checks.passed += sum(int(passed) for passed, _ in totals)
    checks.failed += sum(int(failed) for _, failed in totals)
    checks.equal(f"the end of {command[-1]}", done.returncode in (0, 1) and bool(totals), True)
    rows = []
    for line in done.stdout.splitlines():
        if line.startswith("features "):
            client, results, reasons = json.loads(line.removeprefix("features "))
            row = Row(client, versions_of(client, pins))
            row.results, row.reasons = results, reasons
            rows.append(row)
    return rows


def run_python(server, checks):
    pins = python_pins()
    if sys.version_info < PYTHON_MIN:
        why = f"needs Python {PYTHON_MIN[0]}.{PYTHON_MIN[1]}, here is {sys.version.split()[0]}"
        return [Row(f"{name} (Python)", [version], why) for name, version in pins.items()]
    python = python_environment("python", HERE / "requirements.txt")
    return [row for script in PYTHON_SCRIPTS
            for row in run_client([python, HERE / script], server, pins, checks)]


def run_node(name, server, checks):
    package = json.loads((HERE / name / "package.json").read_text(encoding="utf-8"))
    pins, needed = package["dependencies"], package["engines"]["node"]
    version = node_version()
    if version is None or int(version.split(".")[0]) < int(needed.removeprefix(">=")):
        why = f"needs Node {needed.removeprefix('>=')} or later, here is {version or 'none'}"
        return [Row(client, versions_of(client, pins), why)
                for script in NODE_SCRIPTS[name] for client in NODE_CLIENTS[script]]
    folder = node_environment(name)
    return [row for script in NODE_SCRIPTS[name]
            for row in run_client(["node", folder / script], server, pins, checks)]


def page_of(rows):
    """The page, and its line for each row."""
    reasons = []
    lines = {}
    for row in rows:
        if row.not_run:
            lines[row.name()] = f"| {row.name()} | not run: {row.not_run} |" + " |" * (
                len(FEATURES) - 1)
            continue
        cells = []
        for feature in FEATURES:
            if feature in row.results:
                cells.append("yes" if row.results[feature] else "**fails**")
                continue
            reason = row.reasons.get(feature, "not reached")
            if reason not in reasons:
                reasons.append(reason)
            cells.append("abcdefgh"[reasons.index(reason)])
        lines[row.name()] = f"| {row.name()} | " + " | ".join(cells) + " |"
    head = "| client | " + " | ".join(HEADERS.get(one, one) for one in FEATURES) + " |"
    table = [head, "|---" * (len(FEATURES) + 1) + "|", *lines.values()]
    legend = [f"- {'abcdefgh'[i]}: {reason}" for i, reason in enumerate(reasons)]
    return INTRODUCTION + "\n".join([*table, "", *legend, ""]), lines


def compare(lines, rows, checks):
    """Every client that ran has its line in the page; what did not run here may differ."""
    written = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
    for row in rows:
        old = [line for line in written if line.startswith(f"| {row.name()} |")]
        if row.not_run or (old and "not run:" in old[0]):
            continue
        checks.equal("docs/compatibility.md (tests/sdk/matrix.py --write)", old,
                     [lines[row.name()]])


def main():
    checks = Checks()
    with Server() as server:
        rows = run_python(server, checks)
        for name in NODE_SCRIPTS:
            rows += run_node(name, server, checks)
    page, lines = page_of(rows)
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page, encoding="utf-8")
    compare(lines, rows, checks)
    skipped = [row for row in rows if row.not_run]
    for row in skipped:
        print(f"not run: {row.name()}: {row.not_run}")
    print(f"{checks.passed} passed, {checks.failed} failed, {len(skipped)} skipped")
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main())
