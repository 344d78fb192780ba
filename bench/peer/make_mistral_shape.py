#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF file of the shape of Mistral 7B, Q8_0, few layers, random weights, no tokenizer.

usage: make_mistral_shape.py OUT.gguf [LAYERS]     needs the package gguf (tests/requirements.txt)

What the model says is noise; what it costs is what a real one costs. Tensors of one shape share
their bytes in memory, not in the file.
"""
import sys

import gguf
import numpy as np

DIM, HIDDEN, HEADS, KV_HEADS, VOCABULARY = 4096, 14336, 32, 8, 32768
BLOCK_BYTES, BLOCK = 34, 32  # a binary16 scale, then 32 int8
SEED = 7


def random_q8_0(rows, columns, rng):
    """[rows, columns / 32 * 34] bytes: blocks with weights of standard deviation about 0.02."""
    blocks = rng.integers(0, 256, (rows, columns // BLOCK, BLOCK_BYTES), dtype=np.uint8)
    blocks[blocks == 128] = 129  # -128 does not occur in Q8_0
    scale = rng.uniform(2e-4, 3.5e-4, (rows, columns // BLOCK, 1)).astype(np.float16)
    blocks[..., :2] = scale.view(np.uint8)
    return blocks.reshape(rows, -1)


def add_settings(writer, n_layers):
    writer.add_name(f"mistral-7b-shape-{n_layers}-layers")
    writer.add_context_length(32768)
    writer.add_embedding_length(DIM)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(DIM // HEADS)
    writer.add_rope_freq_base(1e6)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_tokenizer_model("none")


def main(out, n_layers):
    rng = np.random.default_rng(SEED)
    kv_dim = KV_HEADS * (DIM // HEADS)
    layer = {
        "attn_q": (DIM, DIM), "attn_k": (kv_dim, DIM), "attn_v": (kv_dim, DIM),
        "attn_output": (DIM, DIM), "ffn_gate": (HIDDEN, DIM), "ffn_up": (HIDDEN, DIM),
        "ffn_down": (DIM, HIDDEN),
    }
    made = {}
    writer = gguf.GGUFWriter(out, "llama")
    add_settings(writer, n_layers)

    def add(name, shape):
        if shape not in made:
            made[shape] = random_q8_0(*shape, rng)
        writer.add_tensor(name, made[shape], raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    ones = np.ones(DIM, dtype=np.float32)
    add("token_embd.weight", (VOCABULARY, DIM))
    add("output.weight", (VOCABULARY, DIM))
    writer.add_tensor("output_norm.weight", ones)
    for index in range(n_layers):
        writer.add_tensor(f"blk.{index}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{index}.ffn_norm.weight", ones)
        for name, shape in layer.items():
            add(f"blk.{index}.{name}.weight", shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 4)
