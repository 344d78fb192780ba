# SPDX-License-Identifier: Apache-2.0
"""The tiny model as Hugging Face stores it: two shards, their index and small files."""
import json
import struct

import gguf
import numpy as np

import tiny_model

NAMES = {
    "token_embd": "model.embed_tokens", "output_norm": "model.norm",
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
}


def theirs(name):
    """"blk.0.attn_q.weight" as "model.layers.0.self_attn.q_proj.weight"."""
    parts = name.split(".")
    prefix = f"model.layers.{parts[1]}." if parts[0] == "blk" else ""
    return f"{prefix}{NAMES[parts[-2]]}.{parts[-1]}"


def safetensors(tensors):
    header, data = {}, b""
    for name, values in tensors:
        content = values.astype(np.float32).tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape),
                        "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def tokenizer_json():
    tokens, types, merges, _ = tiny_model.tokens_and_types("")
    control = [i for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL]
    vocab = {token: i for i, token in enumerate(tokens) if i not in control}
    return {
        "added_tokens": [{"id": i, "content": tokens[i], "special": True} for i in control],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    }


def write(folder, source):
    """Writes the model of the GGUF file `source`."""
    folder.mkdir()
    fields = gguf.GGUFReader(source)
    tensors = [(theirs(t.name), gguf.dequantize(t.data, t.tensor_type)) for t in fields.tensors]
    shards = {"model-00001-of-00002.safetensors": tensors[::2],
              "model-00002-of-00002.safetensors": tensors[1::2]}
    for name, part in shards.items():
        (folder / name).write_bytes(safetensors(part))
    texts = {
        "model.safetensors.index.json":
            {"weight_map": {t[0]: name for name, part in shards.items() for t in part}},
        "config.json": {
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
            "head_dim": 32, "vocab_size": len(tensors[0][1]), "max_position_embeddings": 64,
            "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True},
        "generation_config.json": {"eos_token_id": [2, 0]},
        "tokenizer.json": tokenizer_json(),
        "tokenizer_config.json": {"eos_token": "<|im_end|>", "chat_template": tiny_model.CHATML},
    }
    for name, content in texts.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
