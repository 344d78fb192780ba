#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Truncated and bit-flipped model files: a message that names the file, exit code 5, never a crash.

A flipped bit may leave a file that is valid (another weight, another name); then the command must
succeed. Each broken file is shown and, when it opens, run for one token. Of a folder of Hugging
Face each kind of file is broken in turn; the message names the folder, a part of every path."""
import os
import pathlib
import subprocess
import sys
import tempfile

import tiny_folder
import tiny_model

HEAD_CUTS = 40
DATA_CUTS = 20
FLIPS = 300
FOLDER_FLIPS = 60
FOLDER_FILES = ("config.json", "generation_config.json", "model.safetensors.index.json",
                "model-00001-of-00002.safetensors", "tokenizer.json", "tokenizer_config.json")
OK, INVALID = 0, 5
# The ledger of all these answers: in memory where there is such a file system, for each is synced.
MEMORY = pathlib.Path("/dev/shm")
DATA = tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)


def commands(path):
    yield ["show", str(path), "--tensors"]
    yield ["tokenize", str(path), "hello <|im_end|> \u00e9", "--special"]
    yield ["run", str(path), "hi", "--raw", "--temperature", "0", "--max-tokens", "1",
           "--threads", "1"]


def run(etalon, words):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
    environment["XDG_DATA_HOME"] = DATA.name
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


def check(etalon, path, content, allowed, title, model=None):
    """Writes one broken file and runs the commands on it, or on the model of which it is a part;
    returns faults."""
    path.write_bytes(content)
    faults = []
    path = model or path
    for words in commands(path):
        codes = allowed | ({1} if words[0] == "run" and OK in allowed else set())
        fault = fault_of(run(etalon, words), path, codes)
        if fault:
            faults.append(f"{title}: {words[0]}: {fault}")
    return faults


def head_size(whole):
    """Bytes before the data of the tensors: most of what can break lies there."""
    if whole.startswith(b"GGUF"):
        return whole.rindex(b"output_norm.weight") + 64
    return 8 + int.from_bytes(whole[:8], "little")


def broken_contents(whole):
    """Yields (title, content, allowed exit codes)."""
    head = head_size(whole)
    cuts = [head * i // HEAD_CUTS for i in range(HEAD_CUTS)]
    # Behind the last tensor lies up to 32 bytes of padding, which may be absent.
    cuts += [head + (len(whole) - 64 - head) * i // DATA_CUTS for i in range(DATA_CUTS + 1)]
    for cut in cuts:
        yield f"cut at {cut} of {len(whole)}", whole[:cut], {INVALID}
    state = 12345
    for i in range(FLIPS):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        # The first bytes hold counts and lengths; then the rest of the head; then the tensors.
        reach = (1500, head, len(whole))[i % 3]
        offset = (state >> 20) % min(reach, len(whole))
        broken = bytearray(whole)
        broken[offset] ^= 1 << ((state >> 57) % 8)
        yield f"byte {offset} flipped to {broken[offset]}", bytes(broken), {OK, INVALID}


def flipped_contents(whole, count):
    state = 54321
    for _ in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        offset = (state >> 20) % min(len(whole), 4096)
        broken = bytearray(whole)
        broken[offset] ^= 1 << ((state >> 57) % 8)
        yield f"byte {offset} flipped to {broken[offset]}", bytes(broken), {OK, INVALID}


def check_folder(etalon, model):
    """Each file of a folder, cut and flipped; returns (passed, failed)."""
    passed = failed = 0
    for name in FOLDER_FILES:
        path = model / name
        whole = path.read_bytes()
        cuts = [(f"cut at {size}", whole[:size], {INVALID})
                for size in (1, len(whole) // 3, len(whole) - 1)]
        forms = [("the whole file", whole, {OK}), *cuts, *flipped_contents(whole, FOLDER_FLIPS)]
        for title, content, allowed in forms:
            faults = check(etalon, path, content, allowed, f"{name}, {title}", model)
            print("\n".join(faults), end="\n" if faults else "")
            passed += not faults
            failed += bool(faults)
        path.write_bytes(whole)
    return passed, failed


def check_source(etalon, source, folder):
    """All broken forms of one whole file; returns (passed, failed)."""
    whole = source.read_bytes()
    path = folder / f"broken{source.suffix}"
    passed = failed = 0
    forms = [("the whole file", whole, {OK}), *broken_contents(whole)]
    for title, content, allowed in forms:
        faults = check(etalon, path, content, allowed, f"{source.name}, {title}")
        print("\n".join(faults), end="\n" if faults else "")
        passed += not faults
        failed += bool(faults)
    return passed, failed


def main():
    etalon = os.environ["ETALON_BINARY"]
    total = [0, 0]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        gguf, imported = folder / "tiny.gguf", folder / "tiny.safetensors"
        tiny_model.write(gguf)
        run(etalon, list(commands(gguf))[-1])  # the first answer of an account says more
        done = run(etalon, ["import", str(gguf), str(imported), "--as", "e8"])
        if done.returncode != OK:
            print(done.stderr.decode("utf-8", "replace"))
            total[1] += 1
        for source in (gguf, imported):
            if source.exists():
                total = [a + b for a, b in zip(total, check_source(etalon, source, folder))]
        tiny_folder.write(folder / "tiny-folder", gguf)
        total = [a + b for a, b in zip(total, check_folder(etalon, folder / "tiny-folder"))]
    print(f"{total[0]} passed, {total[1]} failed")
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
