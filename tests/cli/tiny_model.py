# SPDX-License-Identifier: Apache-2.0
"""A tiny Llama model as a GGUF file, with weights from a generator that is the same everywhere."""
import gguf
import numpy as np

CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + "
          "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_alphabet():
    """The GPT-2 letters of the 256 bytes, in the order of the bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, hidden = {}, 0
    for byte in range(256):
        if byte in shown:
            letters[byte] = chr(byte)
        else:
            letters[byte] = chr(256 + hidden)
            hidden += 1
    return [letters[byte] for byte in range(256)]


class Generator:
    """A linear congruential generator: no library decides what the weights are."""

    def __init__(self):
        self.state = np.uint64(20240229)

    def matrix(self, rows, cols):
        values = np.empty(rows * cols, dtype=np.float32)
        state = int(self.state)
        for i in range(values.size):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            values[i] = (state >> 40) / 2**24 - 0.5
        self.state = np.uint64(state)
        return values.reshape(rows, cols)


def tokens_and_types(chat_template):
    tokens = CONTROL + byte_alphabet() + ["he", "ll", "hell"]
    types = [gguf.TokenType.CONTROL] * len(CONTROL) + [gguf.TokenType.NORMAL] * 259
    merges = ["h e", "l l", "he ll"]
    return tokens, types, merges, chat_template


def write_tokenizer(writer, chat_template):
    tokens, types, merges, template = tokens_and_types(chat_template)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    if template:
        writer.add_chat_template(template)
    return len(tokens)


def write(path, *, layers=2, heads=2, kv_heads=1, head_dim=32, context=64, name="tiny",
          chat_template=CHATML, quantization=gguf.GGMLQuantizationType.Q8_0):
    dim, hidden = 64, 128
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_block_count(layers)
    writer.add_context_length(context)
    writer.add_embedding_length(dim)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    vocab_size = write_tokenizer(writer, chat_template)
    writer.add_vocab_size(vocab_size)
    generator = Generator()

    def add_matrix(tensor_name, rows, cols):
        data = gguf.quantize(generator.matrix(rows, cols), quantization)
        writer.add_tensor(tensor_name, data, raw_dtype=quantization)

    add_matrix("token_embd.weight", vocab_size, dim)
    for layer in range(layers):
        block = f"blk.{layer}."
        writer.add_tensor(block + "attn_norm.weight", np.ones(dim, dtype=np.float32))
        add_matrix(block + "attn_q.weight", heads * head_dim, dim)
        add_matrix(block + "attn_k.weight", kv_heads * head_dim, dim)
        add_matrix(block + "attn_v.weight", kv_heads * head_dim, dim)
        add_matrix(block + "attn_output.weight", dim, heads * head_dim)
        writer.add_tensor(block + "ffn_norm.weight", np.ones(dim, dtype=np.float32))
        add_matrix(block + "ffn_gate.weight", hidden, dim)
        add_matrix(block + "ffn_up.weight", hidden, dim)
        add_matrix(block + "ffn_down.weight", dim, hidden)
    writer.add_tensor("output_norm.weight", np.ones(dim, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
