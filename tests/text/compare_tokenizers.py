#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds our tokenizers against their peers: the ids of 10,000 texts must be equal.

usage: compare_tokenizers.py ENCODE_LINES [MODEL.gguf]     (else that of ETALON_TEST_MODEL)

The vocabulary and the merges of the GGUF file, with each pre-tokenizer, against the package
`tokenizers` that has the original expressions; a small SentencePiece model with byte fallback,
trained here, against the package `sentencepiece`. Texts are made here, the same on every run.
"""
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

import gguf
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from sample_texts import CODE, EMOJI, LANGUAGES

TEXTS = 10_000
SEED = 20_24

CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = (CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES)
QWEN2 = (CONTRACTION + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|"
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + SPACES)


def random_text(rng, kind, assigned):
    """One text of a kind; kinds take turns, so each has the same share."""
    words = " ".join(LANGUAGES.values()).split()
    if kind == 0:  # a slice of one of the languages, from anywhere
        text = rng.choice(list(LANGUAGES.values()))
        begin = rng.randrange(len(text))
        return text[begin:begin + rng.randrange(1, 200)]
    if kind == 1:  # words of all languages, in any case
        changes = [str.upper, str.lower, str.title, str.swapcase, str]
        return " ".join(rng.choice(changes)(w) for w in rng.choices(words, k=rng.randrange(1, 12)))
    if kind == 2:  # code
        begin = rng.randrange(len(CODE))
        return CODE[begin:begin + rng.randrange(1, 300)]
    if kind == 3:  # emoji, with modifiers and joiners
        return "".join(rng.choice(EMOJI + [" ", "a", "\u200d", "\ufe0f"]) for _ in range(12))
    if kind == 4:  # runs of spaces of every kind between words
        spaces = [" ", " ", " ", "\t", "\n", "\r", "\r\n", "\u00a0", "\u3000", "\u2028", "\x85",
                  "\x0b", "\x0c", "\x1c"]
        return "".join(rng.choice(words + ["1", "'s", "!"]) * rng.randrange(2)
                       + rng.choice(spaces) * rng.randrange(5) for _ in range(8))
    if kind == 5:  # digits of several scripts, with what stands between them
        return "".join(rng.choice("0123456789٣४５²½Ⅷ.,-/:% €x") for _ in range(20))
    if kind == 6:  # contractions, also wrong ones and the long s
        ends = ["'s", "'S", "'t", "'RE", "'ve", "'M", "'ll", "'lL", "'d", "'ſ", "'sa", "''s", "'x",
                "\u2019s", "'", "' s"]
        return " ".join(rng.choice(words) + rng.choice(ends) * rng.randrange(3) for _ in range(5))
    if kind == 7:  # random characters of the whole of Unicode
        return "".join(rng.choice(assigned) for _ in range(rng.randrange(1, 30)))
    if kind == 8:  # letters of both cases, of none, and marks: the hard cases of tekken
        return "".join(rng.choice("aBcDéÉ中文ʰªǅ\u0301\u0308\u0903ßΣς 'नि/\n_1") for _ in range(16))
    data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 40)))  # random bytes
    return data.decode(rng.choice(["latin-1", "utf-8"]), errors="replace")


def make_texts():
    rng = random.Random(SEED)
    # Surrogates are no text; what this Python does not know may be newer than Unicode 15.
    assigned = [chr(c) for c in range(0x110000)
                if unicodedata.category(chr(c)) not in ("Cn", "Cs")]
    special = ["", " ", "  ", "\n", "\u2581", "a\u2581b", "<0x41>", "<s>", "A" * 5000, " " * 300]
    return special + [random_text(rng, i % 10, assigned) for i in range(TEXTS - len(special))]


def our_ids(encode_lines, source, texts):
    lines = "".join(text.encode().hex() + "\n" for text in texts)
    result = subprocess.run([encode_lines, source], input=lines, capture_output=True, text=True,
                            check=False)
    if result.returncode != 0:
        sys.exit(f"{source}: {result.stderr}")
    return [[int(i) for i in line.split()] for line in result.stdout.split("\n")[:-1]]


def compare(name, texts, ours, theirs):
    """Prints one line; returns whether all texts are equal."""
    if len(ours) != len(texts):
        sys.exit(f"{name}: {len(ours)} answers for {len(texts)} texts")
    wrong = [i for i in range(len(texts)) if ours[i] != list(theirs[i])]
    print(f"{name}: {len(texts) - len(wrong)} of {len(texts)} texts have equal ids")
    for i in wrong[:5]:
        print(f"  {texts[i]!r}\n    ours   {ours[i]}\n    theirs {list(theirs[i])}")
    return not wrong


def gguf_fields(path):
    fields = gguf.GGUFReader(path).fields
    return {key.removeprefix("tokenizer.ggml."): fields[key].contents()
            for key in fields if key.startswith("tokenizer.ggml.")}


def byte_level(regex):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(regex), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def peers():
    """Name: pre-tokenizer of the peer, normalizer, ignore_merges."""
    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    digits = pre_tokenizers.Digits(individual_digits=True)
    return {
        "gpt2": (gpt2, None, False),
        "llama3": (byte_level(LLAMA3), None, True),
        "qwen2": (byte_level(QWEN2), normalizers.NFC(), False),
        "smollm": (pre_tokenizers.Sequence([digits, gpt2]), None, False),
        "tekken": (byte_level(TEKKEN), None, True),
    }


def peer_tokenizer(fields, pre_tokenizer, normalizer, ignore_merges):
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    vocab = {token: i for i, token in enumerate(fields["tokens"])}
    tokenizer = Tokenizer(models.BPE(vocab, merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def etalon_json(fields, name, normalize_nfc, ignore_merges):
    """The JSON of our own files, written here by its description."""
    return json.dumps({
        "version": 1, "kind": "byte_bpe", "pretokenizer": name, "tokens": fields["tokens"],
        "types": fields["token_type"], "scores": [],
        "merges": [token for merge in fields["merges"] for token in merge.split(" ")],
        "bos": -1, "eos": -1, "unknown": -1, "padding": -1, "end_of_turn": [],
        "add_bos": False, "add_eos": False, "add_space_prefix": False,
        "normalize_nfc": normalize_nfc, "ignore_merges": ignore_merges, "chat_template": ""})


def compare_byte_bpe(encode_lines, model, folder, texts):
    fields = gguf_fields(model)
    equal = []
    for name, (pre_tokenizer, normalizer, ignore_merges) in peers().items():
        peer = peer_tokenizer(fields, pre_tokenizer, normalizer, ignore_merges)
        theirs = [e.ids for e in peer.encode_batch(texts, add_special_tokens=False)]
        path = os.path.join(folder, name + ".etalon.json")
        with open(path, "w", encoding="utf-8") as file:
            file.write(etalon_json(fields, name, normalizer is not None, ignore_merges))
        equal.append(compare(f"{name}, vocabulary of the GGUF", texts,
                         our_ids(encode_lines, path, texts), theirs))
        # The peer's own file, now with tokens that are searched in the text before it is split.
        peer.add_tokens([AddedToken(text, normalized=False)
                         for text in ("'s a", "\n\n\n", "()", "()[")])
        path = os.path.join(folder, name + ".json")
        peer.save(path)
        theirs = [e.ids for e in peer.encode_batch(texts, add_special_tokens=False)]
        equal.append(compare(f"{name}, tokenizer.json with added tokens", texts,
                         our_ids(encode_lines, path, texts), theirs))
    return equal


def compare_sentencepiece(encode_lines, folder, texts):
    equal = []
    for name, fallback, prefix in (("byte fallback", True, True), ("no prefix", True, False),
                                   ("unknown token", False, True)):
        lines = [text for t in list(LANGUAGES.values()) + [CODE] for text in t.split("\n") if text]
        model = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(lines), model_writer=model, model_type="bpe", vocab_size=1500,
            byte_fallback=fallback, add_dummy_prefix=prefix, normalization_rule_name="identity",
            remove_extra_whitespaces=False, character_coverage=0.98, num_threads=1,
            user_defined_symbols=["'s a", "\n\n", "▁▁", "()", "()["], minloglevel=2)
        path = os.path.join(folder, "tokenizer.model")
        with open(path, "wb") as file:
            file.write(model.getvalue())
        peer = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
        # NUL ends a text in the peer's normaliser.
        clean = [text.replace("\0", "") for text in texts]
        equal.append(compare(f"sentencepiece, {name}", clean, our_ids(encode_lines, path, clean),
                             peer.encode(clean)))
    return equal


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    encode_lines = sys.argv[1]
    model = sys.argv[2] if len(sys.argv) == 3 else os.environ["ETALON_TEST_MODEL"]
    texts = make_texts()
    with tempfile.TemporaryDirectory() as folder:
        equal = compare_byte_bpe(encode_lines, model, folder, texts)
        equal += compare_sentencepiece(encode_lines, folder, texts)
    print(f"{sum(equal)} passed, {len(equal) - sum(equal)} failed")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
