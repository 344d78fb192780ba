#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a card with random weights of known shapes and prints the tables of
docs/performance.md: tokens a second of prompts, streams and many requests, and each operation of a
layer alone.

usage: bench/card.py [--etalon build/release/etalon] [--device cuda:0] [--format FORMAT]... [--peer]

Weights are made in memory, one layer for all, and copied to places of their own on the card. All
formats, or those that --format names.
Medians of five runs, of three where the engine has many requests. --peer times the products of a
layer in PyTorch too (bench/peer/torch_products.py).
"""
import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMPT = 2048
# (shape, format, (streams, tokens before, generated tokens)...)
MODELS = [
    ("mistral-7b", "e8", (1, 0, 128), (1, 2048, 128), (8, 0, 128), (16, 0, 128), (32, 512, 128),
     (64, 512, 128), (256, 512, 128)),
    ("mistral-7b", "e4", (1, 0, 128), (8, 0, 128), (64, 512, 128), (256, 512, 128)),
    ("mixtral-8x7b", "e8", (1, 0, 128), (8, 0, 128), (64, 512, 64)),
    ("mistral-large-2", "e8", (1, 0, 32)),
    ("mistral-large-2", "e4", (1, 0, 32)),
    ("mistral-7b", "q8_0", (1, 0, 128), (8, 0, 128), (16, 0, 128), (64, 512, 128)),
    ("mistral-7b", "q4_k", (1, 0, 128), (8, 0, 128), (16, 0, 128), (64, 512, 128)),
]
# Prompts through the engine, of the first shape in these formats, and requests in the first.
ENGINE_FORMATS = ("e8", "e4")
PROMPTS = 32
REQUESTS, REQUEST_PROMPT, REQUEST_ANSWER = 512, 512, 256
# (tokens of a prompt, streams, tokens before them)
OPERATIONS = [(PROMPT, 1, 575), (0, 64, 575), (0, 256, 575)]


def bench(options, model, *arguments):
    command = [options.etalon, "bench", *model, "--device", options.device, "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def row(what, rate, limit):
    print(f"| {what} | {rate['tokens_per_second']:,.0f} | {rate['least']:,.0f} to "
          f"{rate['most']:,.0f} | {limit} |")


def clocks():
    """What the card runs at, where its driver's tool is there."""
    fields = "clocks.sm,clocks.mem,clocks.max.sm,power.limit,driver_version"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"],
                              capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "clocks unknown"
    sm, memory, most, power, driver = done.stdout.splitlines()[0].split(", ")
    return f"after the runs {sm} (at most {most}), memory {memory}, {power}, driver {driver}"


def print_operations(result):
    read = result["read_bytes_per_second"]
    peak = result["integer_operations_per_second"] or float("inf")
    for table in result["tables"]:
        print(f"\nA layer, {table['batch']}:\n")
        print("| operation | us | of the read speed | of the int8 peak |")
        print("|---|---|---|---|")
        for one in table["layer"]:
            shares = [f"{100 * one[what] / one['seconds'] / limit:.0f} %" if one[what] else "-"
                      for what, limit in (("bytes", read), ("operations", peak))]
            print(f"| {one['operation']} | {1e6 * one['seconds']:.1f} | {' | '.join(shares)} |")
        print(f"| all | {1e6 * sum(one['seconds'] for one in table['layer']):.1f} | | |")


def print_machine(result):
    read = result["read_bytes_per_second"] / 1e9
    peak = result["integer_operations_per_second"] / 1e12
    print(f"{result['card']}, reads {read:,.0f} GB/s, int8 peak {peak:,.0f} TOPS")


def print_model(options, shape, form, *generations):
    made = ["--synthetic", shape, "--as", form]
    prompt = bench(options, made, "--prompt", str(PROMPT), "--generate", "0")
    print()
    print_machine(prompt)
    load = prompt["load_bytes_per_second"] / 1e9
    print(f"{prompt['model']}, {form.upper()}, loaded with the first token at {load:,.0f} GB/s:\n")
    print("| what | tokens/s | of the runs | of the limit |")
    print("|---|---|---|---|")
    tops = prompt["prompt"]["tokens_per_second"] * prompt["operations_per_prompt_token"] / 1e12
    row(f"prompt {PROMPT:,}", prompt["prompt"], f"{tops:,.0f} TOPS in linear layers")
    for streams, context, tokens in generations:
        result = bench(options, made, "--prompt", "0", "--generate", str(tokens),
                       "--streams", str(streams), "--context", str(context))
        row(f"{streams} streams, {tokens} tokens behind {context:,}", result["generation"],
            f"{100 * result['read_share']:.0f} % of the read speed")


def print_prompts(options, made):
    many = bench(options, made, "--requests", str(PROMPTS), "--prompt", str(PROMPT),
                 "--generate", "1", "--repetitions", "3")
    rates = {key: PROMPT * many[key] for key in ("answer_tokens_per_second", "least", "most")}
    row(f"{PROMPTS} prompts of {PROMPT:,} tokens, engine",
        {"tokens_per_second": rates["answer_tokens_per_second"], **rates},
        f"{many['steps']:,} steps of {many['batch']:,} tokens")


def print_requests(options, made):
    many = bench(options, made, "--requests", str(REQUESTS), "--prompt", str(REQUEST_PROMPT),
                 "--generate", str(REQUEST_ANSWER), "--repetitions", "3")
    row(f"{REQUESTS} requests of {REQUEST_PROMPT} + {REQUEST_ANSWER} tokens, engine",
        {"tokens_per_second": many["answer_tokens_per_second"], **many}, f"{many['steps']:,} steps")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--etalon", default=str(ROOT / "build/release/etalon"))
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--format", action="append",
                        choices=sorted({model[1] for model in MODELS}))
    parser.add_argument("--peer", action="store_true")
    options = parser.parse_args()
    for shape, form, *generations in MODELS:
        if options.format and form not in options.format:
            continue
        print_model(options, shape, form, *generations)
        made = ["--synthetic", shape, "--as", form]
        if shape == MODELS[0][0] and form in ENGINE_FORMATS:
            print_prompts(options, made)
        if (shape, form) != MODELS[0][:2]:
            continue
        print_requests(options, made)
        for prompt_tokens, streams, context in OPERATIONS:
            print_operations(bench(options, made, "--operations", "--prompt", str(prompt_tokens),
                                   "--streams", str(streams), "--context", str(context)))
    print(f"\n{clocks()}\n", flush=True)
    if options.peer:
        subprocess.run([sys.executable, ROOT / "bench/peer/torch_products.py"], check=True)


if __name__ == "__main__":
    main()
