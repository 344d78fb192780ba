#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One prompt has one digest (EMB-1, FWD-1 to FWD-4): whatever the threads, the chunks of the prompt
and the instruction set, decoded token by token or computed in one pass, and as src/exact computes
it. For the default model and its E8 import; golden.json says which digests and file these are.

usage: digest.py            checks
       digest.py --golden   prints golden.json as this build has it, computed by src/exact
"""
import hashlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "serve"))
from served import Checks  # noqa: E402

HERE = pathlib.Path(__file__).parent
DATA = tempfile.TemporaryDirectory()  # the ledger of the answers
PROMPT = "What is the capital of Belgium?"
MAX_TOKENS = 16
THREADS = (1, 2, 4)
CHUNKS = (1, 7, 64, 0)
# Every setting once more, in mixtures.
MIXTURES = ((2, 7, 0), (1, 64, 1), (4, 1, -1))
# More than 1,024 keys: attention joins chunks of pages (spec ATT).
LONG_PROMPT = "The quick brown fox jumps over the lazy dog. " * 115


def run(etalon, *arguments, isa=None, stdin=None):
    environment = {k: v for k, v in os.environ.items() if k != "ETALON_ISA"}
    environment["XDG_DATA_HOME"] = DATA.name
    environment["XDG_CONFIG_HOME"] = DATA.name
    if isa:
        environment["ETALON_ISA"] = isa
    done = subprocess.run([str(a) for a in (etalon, *arguments)], env=environment, check=False,
                          input=stdin, capture_output=True)
    if done.returncode != 0:
        return f"exit {done.returncode}: {done.stderr.decode('utf-8', 'replace')}"
    return done.stdout.decode("utf-8", "replace")


def digest(etalon, model, *options, prompt=PROMPT, max_tokens=MAX_TOKENS, isa=None):
    """The answer and its digest line: the whole of stdout."""
    return run(etalon, "run", model, "--max-tokens", max_tokens, "--digest", *options, isa=isa,
               stdin=prompt.encode())


def paths_of(etalon):
    """Instruction sets that this machine has."""
    report = json.loads(run(etalon, "doctor", "--json"))
    return [path["name"].split("/")[1] for path in report["paths"] if path["available"]]


def check_settings(checks, etalon, title, model, isas):
    """One setting changed at a time, then mixtures; returns the common output."""
    expected = digest(etalon, model, "--temperature", 0)
    settings = [(threads, 0, None) for threads in THREADS]
    settings += [(2, chunk, None) for chunk in CHUNKS]
    settings += [(2, 0, isa) for isa in isas]
    settings += [(threads, chunk, isas[i % len(isas)]) for threads, chunk, i in MIXTURES]
    for threads, chunk, isa in settings:
        got = digest(etalon, model, "--temperature", 0, "--threads", threads, "--chunk", chunk,
                     isa=isa)
        checks.equal(f"{title}: {threads} threads, chunk {chunk}, {isa or 'best'}", got, expected)
    return expected


def check_sampled(checks, etalon, title, model, isas):
    options = ("--temperature", 0.9, "--top-p", 0.95, "--top-k", 50, "--seed", 7)
    expected = digest(etalon, model, *options, "--threads", 1)
    for isa in isas:
        got = digest(etalon, model, *options, "--threads", 2, "--chunk", 7, isa=isa)
        checks.equal(f"{title}: sampled, {isa}", got, expected)


def check_long(checks, etalon, title, model, isas):
    options = ("--raw", "--temperature", 0)
    fast = isas[-1]
    expected = digest(etalon, model, *options, prompt=LONG_PROMPT, max_tokens=4, isa=fast)
    slow = bool(os.environ.get("ETALON_SLOW"))
    others = [(fast, 7)]
    # The generic path takes a minute, and attends over the keys of every model alike.
    if len(isas) > 1 and (slow or isas[-2] != "generic" or model.suffix == ".gguf"):
        others.append((isas[-2], 0))
    for isa, chunk in others:
        got = digest(etalon, model, *options, "--chunk", chunk, prompt=LONG_PROMPT, max_tokens=4,
                     isa=isa)
        checks.equal(f"{title}: long prompt, {isa}, chunk {chunk}", got, expected)
    if slow:
        got = digest(etalon, model, *options, "--backend", "exact", prompt=LONG_PROMPT,
                     max_tokens=4)
        checks.equal(f"{title}: long prompt, src/exact", got, expected)


def prove(etalon, model):
    """The two digests of `run --prove`: as decoded, and one teacher-forced pass of src/exact."""
    output = run(etalon, "run", model, "--max-tokens", MAX_TOKENS, "--temperature", 0, "--prove",
                 stdin=PROMPT.encode())
    lines = [line for line in output.splitlines() if line.startswith("digest ")]
    return [line.rsplit(" ", 1)[1] for line in lines] if len(lines) == 2 else [output, "none"]


def digest_of(output):
    """The digest in the last line of an answer, or all of it when there is none."""
    last = output.splitlines()[-1] if output else ""
    return last[len("digest: "):] if last.startswith("digest: ") else output


def check_model(checks, etalon, title, model, isas):
    """All checks of one model; returns its digest."""
    output = check_settings(checks, etalon, title, model, isas)
    decoded, proved = prove(etalon, model)
    checks.equal(f"{title}: --prove", proved, digest_of(output))
    checks.equal(f"{title}: --prove, decoded", decoded, digest_of(output))
    check_sampled(checks, etalon, title, model, isas)
    check_long(checks, etalon, title, model, isas)
    return digest_of(output)


def import_e8(etalon, model, destination, threads):
    """Imports; returns the SHA-256 that the program prints."""
    destination.unlink(missing_ok=True)
    output = run(etalon, "import", model, destination, "--as", "e8", "--threads", threads)
    return output.split(" ")[0]


def file_sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_import(checks, etalon, model, imported):
    """The import does not depend on threads, and its printed hash is the file's."""
    one = import_e8(etalon, model, imported, 1)
    several = import_e8(etalon, model, imported, 4)
    checks.equal("import: 4 threads", several, one)
    checks.equal("import: printed SHA-256", several, file_sha256(imported))
    return several


def print_golden(etalon, model, imported):
    values = {"model_sha256": file_sha256(model), "prompt": PROMPT, "max_tokens": MAX_TOKENS,
              "e8_sha256": import_e8(etalon, model, imported, 2)}
    for name, path in (("digest", model), ("e8_digest", imported)):
        values[name] = digest_of(digest(etalon, path, "--temperature", 0, "--backend", "exact"))
    print(json.dumps(values, indent=2))


def main():
    etalon = pathlib.Path(os.environ["ETALON_BINARY"]).resolve()
    model = pathlib.Path(os.environ["ETALON_TEST_MODEL"]).resolve()
    work = etalon.parent / "e2e"
    work.mkdir(exist_ok=True)
    imported = work / "imported.safetensors"
    if sys.argv[1:] == ["--golden"]:
        print_golden(etalon, model, imported)
        return 0
    checks = Checks()
    isas = paths_of(etalon)
    sha256 = check_import(checks, etalon, model, imported)
    found = {"digest": check_model(checks, etalon, "GGUF", model, isas),
             "e8_sha256": sha256,
             "e8_digest": check_model(checks, etalon, "E8", imported, isas)}
    golden = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
    if golden["model_sha256"] == file_sha256(model):
        readme = (HERE.parents[1] / "README.md").read_text(encoding="utf-8")
        for name, value in found.items():
            checks.equal(f"golden {name}", value, golden[name])
            checks.equal(f"README {name}", golden[name] in readme, True)
    else:
        print(f"golden.json is about another model than {model.name}: not compared")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
