#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Quality against a float32 reference of the same weights: the GGUF file as it is, and its E8
import, by `etalon eval`. The reference is computed when texts, model or script have changed."""
import hashlib
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
# Largest mean KL(reference || model) in nats, smallest share of equal top tokens.
BOUNDS = {"GGUF": (0.009, 0.94), "E8 import": (0.009, 0.95)}


def run(*arguments):
    return subprocess.run([str(a) for a in arguments], check=True, stdout=subprocess.PIPE).stdout


def reference_key(model):
    """Changes whenever the reference must be computed again."""
    digest = hashlib.sha256()
    for path in [HERE / "reference.py", *sorted((HERE / "texts").glob("*.txt")), model]:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def make_reference(etalon, model, reference):
    key = reference_key(model)
    key_file = reference.with_suffix(".key")
    if reference.exists() and key_file.exists() and key_file.read_text() == key:
        return
    script = HERE / "reference.py"
    run(sys.executable, script, "--etalon", etalon, "--model", model, reference)
    key_file.write_text(key)


def check(etalon, name, model, reference):
    """Prints the measures of one model; returns how many of its two bounds fail."""
    measures = json.loads(run(etalon, "eval", model, "--reference", reference, "--json"))
    kl, top1 = measures["kl_mean_nats"], measures["top1_agreement"]
    kl_max, top1_min = BOUNDS[name]
    texts = sorted(path.stem for path in (HERE / "texts").glob("*.txt"))
    for text, part in zip(texts, measures["sequences"]):
        print(f"  {text:16} KL {part['kl_mean_nats']:.5f}, "
              f"top-1 {100 * part['top1_agreement']:.1f} %, {part['tokens']} tokens")
    print(f"{name}: KL {kl:.5f} nats (at most {kl_max}), top-1 {100 * top1:.2f} % (at least "
          f"{100 * top1_min:.0f} %), perplexity {measures['perplexity']:.3f}, "
          f"{measures['compared']} tokens")
    return (not kl <= kl_max) + (not top1 >= top1_min)


def main():
    etalon = pathlib.Path(os.environ["ETALON_BINARY"]).resolve()
    model = pathlib.Path(os.environ["ETALON_TEST_MODEL"]).resolve()
    work = etalon.parent / "quality"
    work.mkdir(exist_ok=True)
    reference = work / "reference.bin"
    make_reference(etalon, model, reference)
    imported = work / "imported.safetensors"
    imported.unlink(missing_ok=True)
    failed = check(etalon, "GGUF", model, reference)
    run(etalon, "import", model, imported, "--as", "e8")
    failed += check(etalon, "E8 import", imported, reference)
    print(f"{2 * len(BOUNDS) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
