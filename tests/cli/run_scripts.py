#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs the scripts of this folder (*.txt) against the program. A script is a list of cases:

    # what is shown, then the command, what it reads, its output and its exit code
    $ etalon tokenize {tiny} -
    < hello
    > {"ids": ...
    ! etalon: error: ...
    exit 2

`>` lines are all of stdout, `!` lines all of stderr; `...` stands for any text within a line, a
line of `...` alone for any lines. {model} is the default model, {tiny} and its kin are made here,
{tmp} is an empty folder, {data} that of the account's data. Assignments before the command set its
environment.
"""
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

import tiny_folder
import tiny_model

HERE = pathlib.Path(__file__).parent
SECONDS_MAX = 120


def read_cases(path):
    cases = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("$ "):
            cases.append({"line": number, "command": line[2:], "stdin": [], "stdout": [],
                          "stderr": [], "exit": 0})
        elif line.startswith("exit "):
            cases[-1]["exit"] = int(line[5:])
        elif line[:1] in ("<", ">", "!"):
            stream = {"<": "stdin", ">": "stdout", "!": "stderr"}[line[0]]
            cases[-1][stream].append(line[2:])
        elif line and not line.startswith("#"):
            sys.exit(f"{path}:{number}: not understood: {line}")
    return cases


def pattern_of(lines):
    """The regular expression of expected lines."""
    parts = []
    for line in lines:
        if line == "...":
            parts.append(r"(?:.*\n)*")
        else:
            parts.append(".*".join(re.escape(part) for part in line.split("...")) + r"\n")
    return re.compile("".join(parts))


def run_case(case, etalon, names):
    """Returns what is wrong, or an empty list."""
    fill = lambda text: re.sub(r"\{(\w+)\}", lambda m: str(names.get(m[1], m[0])), text)
    words = shlex.split(fill(case["command"]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
    environment["XDG_DATA_HOME"] = str(names["data"])
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        key, value = words.pop(0).split("=", 1)
        environment[key] = value
    assert words[0] == "etalon", f"line {case['line']}: a command starts with etalon"
    done = subprocess.run([str(etalon), *words[1:]], env=environment, timeout=SECONDS_MAX,
                          input="\n".join(case["stdin"]).encode(), capture_output=True,
                          check=False)
    wrong = []
    if done.returncode != case["exit"]:
        wrong.append(f"exit {done.returncode}, expected {case['exit']}")
    for stream in ("stdout", "stderr"):
        text = getattr(done, stream).decode("utf-8", "replace")
        if text and not text.endswith("\n"):
            text += "\n"
        expected = [fill(line) for line in case[stream]]
        if not pattern_of(expected).fullmatch(text):
            wrong.append(f"{stream} is\n{text}  expected\n" + "\n".join(expected))
    return wrong


def make_models(folder):
    tiny_model.write(folder / "tiny.gguf")
    tiny_model.write(folder / "no_chat.gguf", chat_template="")
    # What a key and value cache of this model needs is more than any machine has: 16 M tokens of
    # 8 layers, 64 heads of 256.
    tiny_model.write(folder / "wide.gguf", layers=8, heads=64, kv_heads=64, head_dim=256,
                     context=1 << 24)
    whole = (folder / "tiny.gguf").read_bytes()
    (folder / "cut.gguf").write_bytes(whole[:len(whole) * 3 // 4])
    (folder / "text.gguf").write_text("this is no model\n")
    (folder / "empty.gguf").write_bytes(b"")
    names = {name: folder / f"{name}.gguf"
             for name in ("tiny", "no_chat", "wide", "cut", "text", "empty")}
    (folder / "work").mkdir()
    names["data"] = folder / "data"
    tiny_folder.write(folder / "shards", folder / "tiny.gguf")
    names["shards"] = folder / "shards"
    names["tmp"] = folder / "work"
    for name, text in (("config", f'# a comment\nlisten = "127.0.0.1:9"\n'
                                  f'models = ["{names["tiny"]}"]\ncontext = 128\n'),
                       ("wrong_config", "colour = 1\n")):
        names[name] = folder / name
        (folder / name / "etalon").mkdir(parents=True)
        (folder / name / "etalon" / "etalon.toml").write_text(text)
    names["missing"] = folder / "missing.gguf"
    return names


def main():
    etalon = pathlib.Path(os.environ["ETALON_BINARY"]).resolve()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        names = make_models(pathlib.Path(folder))
        names["model"] = os.environ["ETALON_TEST_MODEL"]
        # The first answer of an account says where the key is that it is sealed to.
        first = {"line": 0, "command": "etalon run {tiny} --raw --max-tokens 1 hello", "stdin": [],
                 "stdout": ["..."], "stderr": ["..."], "exit": 0}
        assert not run_case(first, etalon, names), "no first answer"
        for path in sorted(HERE.glob("*.txt")):
            if path.name == "CMakeLists.txt":
                continue
            for case in read_cases(path):
                wrong = run_case(case, etalon, names)
                failed += bool(wrong)
                passed += not wrong
                if wrong:
                    print(f"{path.name}:{case['line']}: $ {case['command']}")
                    print("  " + "\n  ".join(wrong))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
