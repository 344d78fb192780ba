#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a card with random weights of a known shape and prints the table of docs/performance.md.

usage: bench/card.py [--etalon build/release/etalon] [--shape mistral-7b] [--device cuda:0]

The model is written once, to a file that is removed afterwards. Medians of five runs.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT = 2048
# (streams, tokens before, generated tokens)
GENERATIONS = [(1, 0, 128), (1, 2048, 128), (8, 0, 128), (16, 0, 128), (32, 512, 128),
               (64, 512, 128), (256, 512, 128)]


def bench(options, model, *arguments):
    command = [options.etalon, "bench", *model, "--device", options.device, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def row(what, rate, limit):
    print(f"| {what} | {rate['tokens_per_second']:,.0f} | {rate['least']:,.0f} to "
          f"{rate['most']:,.0f} | {limit} |")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--etalon", default=str(ROOT / "build/release/etalon"))
    parser.add_argument("--shape", default="mistral-7b")
    parser.add_argument("--device", default="cuda:0")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "model.safetensors")
        made = ["--synthetic", options.shape, "--keep", path]
        prompt = bench(options, made, "--prompt", str(PROMPT), "--generate", "0")
        print(f"{prompt['card']}, reads {prompt['read_bytes_per_second'] / 1e9:,.0f} GB/s; "
              f"{prompt['model']}, E8\n")
        print("| what | tokens/s | of 5 runs | of the limit |")
        print("|---|---|---|---|")
        tops = prompt["prompt"]["tokens_per_second"] * prompt["operations_per_prompt_token"] / 1e12
        row(f"prompt {PROMPT:,}", prompt["prompt"], f"{tops:,.0f} TOPS in linear layers")
        for streams, context, tokens in GENERATIONS:
            result = bench(options, [path], "--prompt", "0", "--generate", str(tokens),
                           "--streams", str(streams), "--context", str(context))
            row(f"{streams} streams, {tokens} tokens behind {context:,}", result["generation"],
                f"{100 * result['read_share']:.0f} % of the read speed")


if __name__ == "__main__":
    main()
