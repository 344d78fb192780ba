#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the weights of random blocks of every GGUF type with those of the package gguf, bit for
bit (FMT-1 to FMT-15). Usage: compare_gguf.py DEQUANTIZE_FILE. Exit code 77
(skipped) when the package is missing."""
import subprocess
import sys

try:
    import gguf
    import numpy as np
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

# name: offsets of the binary16 scales in a block
SCALES = {
    "q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0],
    "q2_k": [80, 82], "q3_k": [108], "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208],
    "iq4_nl": [0], "iq4_xs": [0],
}
FLOATS = {"f32": np.uint32, "f16": np.uint16, "bf16": np.uint16}
BLOCKS = 20000


def finite_scales(rng, count):
    """Random binary16 bits without infinities; zeros, subnormals and the extremes among them."""
    bits = rng.integers(0, 1 << 16, count, dtype=np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] = 0x2E66
    special = np.array([0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00],
                       dtype=np.uint16)
    chosen = rng.random(count) < 0.3
    bits[chosen] = rng.choice(special, int(chosen.sum()))
    return bits


def random_blocks(name, rng):
    block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name.upper()]][1]
    blocks = rng.integers(0, 256, (BLOCKS, block_bytes), dtype=np.uint8)
    blocks[:100] = 0
    blocks[100:200] = 255
    for offset in SCALES[name]:
        scales = finite_scales(rng, BLOCKS)
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks


def random_floats(name, rng):
    if name == "f16":
        return finite_scales(rng, BLOCKS).reshape(1, -1)
    kind = FLOATS[name]
    bits = rng.integers(0, 1 << (8 * kind().itemsize), BLOCKS, dtype=kind)
    mask = kind(0x7F80) if name == "bf16" else kind(0x7F800000)
    bits[(bits & mask) == mask] = 1
    return bits.reshape(1, -1)


def main():
    rng = np.random.default_rng(20240607)
    wrong = 0
    for name in [*FLOATS, *SCALES]:
        stored = random_floats(name, rng) if name in FLOATS else random_blocks(name, rng)
        output = subprocess.run([sys.argv[1], name], input=stored.tobytes(),
                                stdout=subprocess.PIPE, check=True).stdout
        ours = np.frombuffer(output, dtype=np.uint32)
        if name == "f32":
            theirs = stored.reshape(-1)
        elif name == "f16":
            theirs = stored.view(np.float16).astype(np.float32).view(np.uint32).reshape(-1)
        else:
            raw = stored.view(np.uint8)
            kind = gguf.GGMLQuantizationType[name.upper()]
            theirs = gguf.quants.dequantize(raw, kind).astype(np.float32).view(np.uint32)
            theirs = theirs.reshape(-1)
        differ = np.flatnonzero(ours != theirs) if ours.size == theirs.size else [0]
        if len(differ):
            first = int(differ[0])
            wrong += 1
            print(f"{name}: {len(differ)} of {theirs.size} differ, first {first}: "
                  f"{ours[first]:08x}, gguf {theirs[first]:08x}")
        else:
            print(f"{name}: {theirs.size} weights equal")
    print(f"{len(FLOATS) + len(SCALES) - wrong} passed, {wrong} failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
