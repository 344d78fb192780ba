# SPDX-License-Identifier: Apache-2.0
"""Float32 reference of a Llama GGUF file in NumPy: the log-probabilities at every token of the
texts beside this file, written as src/cli/reference_logits.h describes.

Nothing is shared with Etalon but the token ids: weights are decoded by the package gguf, the
transformer is the few lines below.
"""
import argparse
import json
import pathlib
import struct
import subprocess
import sys

import gguf
import numpy as np

TEXTS = pathlib.Path(__file__).parent / "texts"
# At most this many tokens of a text: the file holds 4 bytes for each token and vocabulary entry.
TOKENS_MAX = 320
MAGIC = b"ETLREF1\n"


class Weights:
    """Metadata and decoded tensors of a GGUF file."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        self.tensors = {t.name: t for t in reader.tensors}
        self.fields = reader.fields

    def number(self, key, default=None):
        field = self.fields.get(key)
        if field is None:
            if default is None:
                sys.exit(f"reference.py: the file has no {key}")
            return default
        return field.parts[field.data[0]][0].item()

    def matrix(self, name):
        tensor = self.tensors[name]
        decoded = gguf.dequantize(tensor.data, tensor.tensor_type)
        return np.ascontiguousarray(decoded, dtype=np.float32)


def rms_norm(h, weight, eps):
    mean = np.mean(h * h, axis=-1, keepdims=True, dtype=np.float32)
    scale = 1.0 / np.sqrt(mean + np.float32(eps))
    return (h * scale * weight).astype(np.float32)


def rope(x, base):
    """Rotates x[n, heads, head_dim] in interleaved pairs, as GGUF files of Llama models want."""
    n, _, head_dim = x.shape
    frequencies = base ** (-np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    angles = np.arange(n, dtype=np.float64)[:, None] * frequencies
    cos = np.cos(angles).astype(np.float32)[:, None, :]
    sin = np.sin(angles).astype(np.float32)[:, None, :]
    even, odd = x[..., 0::2], x[..., 1::2]
    return np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1).reshape(x.shape)


def softmax(scores):
    scores = scores - scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores)
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(q, k, v):
    """Causal attention, q[n, heads, d], k and v[n, kv_heads, d] -> [n, heads * d]."""
    n, heads, head_dim = q.shape
    group = heads // k.shape[1]
    mask = np.triu(np.full((n, n), -np.inf, dtype=np.float32), k=1)
    out = np.empty_like(q)
    for head in range(heads):
        keys, values = k[:, head // group], v[:, head // group]
        scores = q[:, head] @ keys.T / np.float32(np.sqrt(head_dim)) + mask
        out[:, head] = softmax(scores) @ values
    return out.reshape(n, heads * head_dim)


def run_layer(weights, index, sequences, config):
    """One layer over all sequences, so that every matrix is decoded once."""
    name = f"blk.{index}."
    eps, heads, kv_heads, base = config
    matrices = {key: weights.matrix(f"{name}{key}.weight")
                for key in ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output",
                            "ffn_norm", "ffn_gate", "ffn_up", "ffn_down")}
    for i, h in enumerate(sequences):
        n = h.shape[0]
        x = rms_norm(h, matrices["attn_norm"], eps)
        q = rope((x @ matrices["attn_q"].T).reshape(n, heads, -1), base)
        k = rope((x @ matrices["attn_k"].T).reshape(n, kv_heads, -1), base)
        v = (x @ matrices["attn_v"].T).reshape(n, kv_heads, -1)
        h = h + attention(q, k, v) @ matrices["attn_output"].T
        x = rms_norm(h, matrices["ffn_norm"], eps)
        gate = x @ matrices["ffn_gate"].T
        silu = gate / (1.0 + np.exp(-gate))
        sequences[i] = h + (silu * (x @ matrices["ffn_up"].T)) @ matrices["ffn_down"].T


def log_probabilities(weights, ids_of_texts):
    """Yields log-probabilities [n, vocab] for each list of ids."""
    eps = weights.number("llama.attention.layer_norm_rms_epsilon")
    heads = weights.number("llama.attention.head_count")
    kv_heads = weights.number("llama.attention.head_count_kv", heads)
    base = weights.number("llama.rope.freq_base", 10000.0)
    embeddings = weights.matrix("token_embd.weight")
    sequences = [embeddings[ids] for ids in ids_of_texts]
    for index in range(weights.number("llama.block_count")):
        run_layer(weights, index, sequences, (eps, heads, kv_heads, base))
    norm = weights.matrix("output_norm.weight")
    tied = "output.weight" not in weights.tensors
    head = embeddings if tied else weights.matrix("output.weight")
    for h in sequences:
        logits = rms_norm(h, norm, eps) @ head.T
        largest = logits.max(axis=-1, keepdims=True).astype(np.float64)
        total = np.exp(logits - largest).sum(axis=-1, keepdims=True)
        yield (logits - (largest + np.log(total))).astype(np.float32)


def tokenize(etalon, model, path):
    answer = subprocess.run([etalon, "tokenize", model, "-", "--json"], check=True,
                            input=path.read_bytes(), stdout=subprocess.PIPE)
    return json.loads(answer.stdout)["ids"][:TOKENS_MAX]


def write_reference(etalon, model, destination):
    weights = Weights(model)
    ids_of_texts = [tokenize(etalon, model, path) for path in sorted(TEXTS.glob("*.txt"))]
    vocab_size = weights.tensors["token_embd.weight"].shape[1]
    unfinished = pathlib.Path(f"{destination}.part")
    with open(unfinished, "wb") as out:
        out.write(MAGIC + struct.pack("<II", vocab_size, len(ids_of_texts)))
        for ids, rows in zip(ids_of_texts, log_probabilities(weights, ids_of_texts)):
            out.write(struct.pack("<I", len(ids)))
            out.write(np.asarray(ids, dtype="<i4").tobytes())
            out.write(rows.astype("<f4").tobytes())
    unfinished.rename(destination)
    return sum(len(ids) for ids in ids_of_texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--etalon", required=True, help="the program, for its tokenizer")
    parser.add_argument("--model", required=True, help="GGUF file of the llama architecture")
    parser.add_argument("destination")
    options = parser.parse_args()
    n_tokens = write_reference(options.etalon, options.model, options.destination)
    print(f"{options.destination}: {n_tokens} tokens")


if __name__ == "__main__":
    main()
