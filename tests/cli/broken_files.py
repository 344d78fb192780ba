#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Truncated and bit-flipped model files: a message that names the file, exit code 5, never a crash.

A flipped bit may leave a file that is valid (another weight, another name); then the command must
succeed. Each broken file is shown and, when it opens, run for one token."""
import os
import pathlib
import subprocess
import sys
import tempfile

import tiny_model

HEAD_CUTS = 40
DATA_CUTS = 20
FLIPS = 300
OK, INVALID = 0, 5


def commands(path):
    yield ["show", str(path), "--tensors"]
    yield ["tokenize", str(path), "hello <|im_end|> \u00e9", "--special"]
    yield ["run", str(path), "hi", "--raw", "--temperature", "0", "--max-tokens", "1",
           "--threads", "1"]


def run(etalon, words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
    return subprocess.run([etalon, *words], env=environment, capture_output=True, check=False,
                          stdin=subprocess.DEVNULL, timeout=120)


def fault_of(done, path, allowed):
    """What is wrong with how a command ended, or an empty string."""
    stderr = done.stderr.decode("utf-8", "replace")
    if done.returncode not in allowed:
        return f"exit {done.returncode}: {stderr}"
    if done.returncode == OK:
        return ""
    if not stderr.startswith("etalon: error: "):
        return f"no message: {stderr}"
    # A file that opens but computes no finite value names the token instead.
    if done.returncode == INVALID and path.name not in stderr:
        return f"the message does not name the file: {stderr}"
    return ""


def check(etalon, path, content, allowed, title):
    """Writes one broken file and runs the commands on it; returns faults."""
    path.write_bytes(content)
    faults = []
    for words in commands(path):
        codes = allowed | ({1} if words[0] == "run" and OK in allowed else set())
        fault = fault_of(run(etalon, words), path, codes)
        if fault:
            faults.append(f"{title}: {words[0]}: {fault}")
    return faults


def broken_contents(whole):
    """Yields (title, content, allowed exit codes)."""
    # Most of what can break is in the head: metadata, vocabulary, tensor directory.
    head = whole.rindex(b"output_norm.weight") + 64
    cuts = [head * i // HEAD_CUTS for i in range(HEAD_CUTS)]
    # Behind the last tensor lies up to 32 bytes of padding, which may be absent.
    cuts += [head + (len(whole) - 64 - head) * i // DATA_CUTS for i in range(DATA_CUTS + 1)]
    for cut in cuts:
        yield f"cut at {cut} of {len(whole)}", whole[:cut], {INVALID}
    state = 12345
    for _ in range(FLIPS):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        offset = (state >> 20) % head
        # Flips of the first bytes of the head, its counts and lengths, are the likeliest to hurt.
        if (state >> 60) % 2 == 0:
            offset %= 1500
        broken = bytearray(whole)
        broken[offset] ^= 1 << ((state >> 57) % 8)
        yield f"byte {offset} flipped to {broken[offset]}", bytes(broken), {OK, INVALID}


def main():
    etalon = os.environ["ETALON_BINARY"]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "tiny.gguf"
        tiny_model.write(source)
        whole = source.read_bytes()
        faults = check(etalon, source, whole, {OK}, "the whole file")
        if faults:
            print("\n".join(faults))
            print("0 passed, 1 failed")
            return 1
        path = pathlib.Path(folder) / "broken.gguf"
        for title, content, allowed in broken_contents(whole):
            faults = check(etalon, path, content, allowed, title)
            print("\n".join(faults), end="\n" if faults else "")
            passed += not faults
            failed += bool(faults)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
