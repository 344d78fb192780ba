#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers of the default model are derived again from their payloads: on every instruction set and
by src/exact, and what was changed, a bit of the weights too, is found at its place. The page
docs/replay.md shows the bytes of a payload."""
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "serve"))
from served import Checks  # noqa: E402

ROOT = pathlib.Path(__file__).parents[2]
# In ./test all: the reference derives every answer.
SLOW = os.environ.get("ETALON_SLOW") == "1"
ANSWERS = (
    ("What is the capital of Belgium?", ("--temperature", "0", "--max-tokens", "12")),
    ("Tell me a story about a lighthouse.",
     ("--temperature", "1", "--seed", "7", "--max-tokens", "40")),
    ("List three colours.",
     ("--temperature", "0.8", "--top-p", "0.9", "--top-k", "50", "--min-p", "0.01", "--seed", "3",
      "--max-tokens", "30")),
    ("Say nothing but yes.", ("--temperature", "0", "--max-tokens", "30")),
    # The context is full before the answer ends.
    ("Count to a hundred.", ("--temperature", "0", "--context", "50")),
)


class Program:
    def __init__(self, folder):
        self.etalon = pathlib.Path(os.environ["ETALON_BINARY"]).resolve()
        self.model = pathlib.Path(os.environ["ETALON_TEST_MODEL"]).resolve()
        self.folder = folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
        self.environment["XDG_DATA_HOME"] = str(folder / "data")
        self.environment["XDG_CONFIG_HOME"] = str(folder / "config")

    def run(self, *arguments, isa=None, **variables):
        environment = self.environment | variables
        if isa:
            environment["ETALON_ISA"] = isa
        return subprocess.run([str(a) for a in (self.etalon, *arguments)], env=environment,
                              check=False, stdin=subprocess.DEVNULL, capture_output=True,
                              text=True)

    def replay(self, *arguments, model=None, **options):
        """Exit code and the list of --json."""
        done = self.run("replay", *arguments, "--model", model or self.model, "--json", **options)
        return done.returncode, json.loads(done.stdout or "[]")

    def isas(self):
        report = json.loads(self.run("doctor", "--json").stdout)
        return [path["name"].split("/")[1] for path in report["paths"] if path["available"]]


def verdicts(outcomes):
    return [outcome["verdict"] for outcome in outcomes]


def make_payloads(checks, program):
    files = []
    for i, (prompt, options) in enumerate(ANSWERS):
        path = program.folder / f"{i}.json"
        done = program.run("run", program.model, "--payload", path, *options, prompt)
        checks.equal(f"run {i}", done.returncode, 0)
        checks.equal(f"mode of {path.name}", stat.S_IMODE(path.stat().st_mode), 0o600)
        payload = json.loads(path.read_text(encoding="utf-8"))
        canonical = json.dumps(payload, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        checks.equal(f"canonical form of {path.name}", path.read_text(encoding="utf-8"), canonical)
        files.append(path)
    return files


def digest_of(payload):
    """DIG-3, by Python alone."""
    answer = payload["answer"]
    sums = [int(answer["checksums"][i:i + 16], 16) for i in range(0, len(answer["checksums"]), 16)]
    pairs = zip(answer["tokens"], sums, strict=True)
    return hashlib.sha256(b"".join(token.to_bytes(4, "little") + one.to_bytes(8, "little")
                                   for token, one in pairs)).hexdigest()


def check_matches(checks, program, files):
    n = len(files)
    for isa in program.isas():
        some = files if SLOW or isa != "generic" else files[:1]  # plain C++ takes its time
        code, outcomes = program.replay(*some, isa=isa)
        checks.equal(f"replay on {isa}", (code, verdicts(outcomes)), (0, ["match"] * len(some)))
    proved = files if SLOW else files[:1]
    code, outcomes = program.replay(*proved, "--exact")
    checks.equal("replay by src/exact", (code, verdicts(outcomes)), (0, ["match"] * len(proved)))
    for path, outcome in zip(proved, outcomes, strict=True):
        text = path.read_bytes()
        checks.equal("digest", outcome["digest"], digest_of(json.loads(text)))
        checks.equal("hash", outcome["payload_sha256"], hashlib.sha256(text).hexdigest())
    code, outcomes = program.replay(program.folder, "--sample", "50%", "--seed", "1")
    checks.equal("half of them", (code, verdicts(outcomes)), (0, ["match"] * ((n + 1) // 2)))
    (program.folder / "etalon").mkdir()
    (program.folder / "etalon/models").symlink_to(program.model.parent)
    done = program.run("replay", files[0], XDG_DATA_HOME=str(program.folder))
    checks.equal("model found by its hash", done.returncode, 0)


def check_interrupt(checks, program):
    """Ctrl-C in the midst of an answer leaves the payload of what was said."""
    path = program.folder / "interrupted.payload"
    command = [program.etalon, "run", program.model, "--payload", path, "--temperature", "0",
               "--max-tokens", "4000", "Count to ten thousand, one number a line."]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, env=program.environment) as running:
        running.stdout.read(1)  # the first text is there
        running.send_signal(signal.SIGINT)
        running.stdout.read()
    checks.equal("interrupted", running.returncode, 130)
    payload = json.loads(path.read_text(encoding="utf-8"))
    checks.equal("its end", payload["answer"]["finish"], "cancelled")
    checks.equal("has an answer", len(payload["answer"]["tokens"]) > 0, True)
    code, outcomes = program.replay(path)
    checks.equal("its replay", (code, verdicts(outcomes)), (0, ["match"]))


def changed(program, path, change):
    payload = json.loads(path.read_text(encoding="utf-8"))
    change(payload)
    other = program.folder / "changed.payload"
    other.write_text(json.dumps(payload, sort_keys=True, separators=(",", ":"),
                                ensure_ascii=False), encoding="utf-8")
    return other


def check_changes(checks, program, files):
    sampled = files[1]

    def difference(title, change, wanted):
        code, outcomes = program.replay(changed(program, sampled, change))
        found = outcomes[0].get("difference", {})
        checks.equal(title, (code, found.get("what"), found.get("position")), (5, *wanted))

    def flip_checksum(payload):
        sums = payload["answer"]["checksums"]
        place = 16 * 5 + 3
        flipped = f"{int(sums[place], 16) ^ 4:x}"
        payload["answer"]["checksums"] = sums[:place] + flipped + sums[place + 1:]

    def set_at(*path, value):
        def change(payload):
            for name in path[:-1]:
                payload = payload[name]
            payload[path[-1]] = value(payload[path[-1]])
        return change

    difference("a bit of a checksum", flip_checksum, ("checksum", 5))
    difference("a token of the answer", set_at("answer", "tokens", 9, value=lambda t: t + 1),
               ("token", 9))
    difference("the end", set_at("answer", "finish", value=lambda f: "stop"), ("end", 39))
    # The logits are others; the token that is drawn from them may be the same.
    difference("a token of the prompt", set_at("prompt", 4, value=lambda t: t + 1),
               ("checksum", 0))
    for title, change in (("the seed", set_at("sampling", "seed", value=lambda s: "0" * 15 + "8")),
                          ("a parameter", set_at("sampling", "temperature",
                                                 value=lambda t: "40000000"))):
        code, outcomes = program.replay(changed(program, sampled, change))
        found = outcomes[0].get("difference", {})
        checks.equal(title, (code, found.get("what")), (5, "token"))
        if not SLOW:
            continue
        again = program.replay(program.folder / "changed.payload", "--exact")
        checks.equal(f"{title}, by src/exact", again[1][0].get("difference"), found)


def check_weights(checks, program, files):
    """One bit in the middle of the weights: refused by its hash, found when the hash is changed
    with it."""
    other = program.folder / "flipped.gguf"
    shutil.copyfile(program.model, other)
    with open(other, "r+b") as file:
        file.seek(other.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    code, outcomes = program.replay(files[1], model=other)
    checks.equal("another model", (code, verdicts(outcomes)), (4, ["not replayed"]))
    sha256 = hashlib.sha256(other.read_bytes()).hexdigest()
    checks.equal("is named", sha256 in outcomes[0]["message"], True)

    def rename(payload):
        payload["model"]["sha256"] = sha256

    path = changed(program, files[1], rename)
    code, outcomes = program.replay(path, model=other)
    checks.equal("one bit of the weights", (code, verdicts(outcomes)), (5, ["mismatch"]))
    found = outcomes[0].get("difference")
    checks.equal("is seen in a checksum", "checksum" in found["what"], True)
    if SLOW:
        again = program.replay(path, "--exact", model=other)
        checks.equal("at the same place by src/exact", again[1][0].get("difference"), found)


def check_page(checks, program):
    """The example of the page is a payload: it is refused for its model and for nothing else."""
    page = (ROOT / "docs/replay.md").read_text(encoding="utf-8")
    example = re.search(r"^```\n(\{\"answer\".*?)^```", page, re.MULTILINE | re.DOTALL)[1]
    path = program.folder / "example.payload"
    path.write_text(example.replace("\n", ""), encoding="utf-8")
    checks.equal("bytes of the example", f"This one has {path.stat().st_size} bytes" in page, True)
    code, outcomes = program.replay(path)
    checks.equal("the example", (code, "of model tiny with" in outcomes[0]["message"]), (4, True))


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        program = Program(pathlib.Path(folder))
        files = make_payloads(checks, program)
        check_matches(checks, program, files)
        check_interrupt(checks, program)
        check_changes(checks, program, files)
        check_weights(checks, program, files)
        check_page(checks, program)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
