#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Etalon's server against llama-server on this machine: tokens a second and time to the first token
at 1, 8 and 32 streams. Runs in turn, medians; above 1 means that Etalon is faster.

usage: serve_load.py --model FILE.gguf [--streams 1,8,32] [--rounds 3] [--answer 64] [--json]

Each stream asks one question after the other; each question is another text of about --words words
and each answer has exactly --answer tokens. Both see the same bytes.
"""
import argparse
import concurrent.futures
import json
import random
import statistics
import sys
import time

import servers

WORDS = ("harbour", "ledger", "stone", "winter", "copper", "river", "answer", "window", "market",
         "paper", "signal", "garden", "engine", "letter", "number", "forest")


def ask(server, number, options):
    """(tokens, seconds to the first text, seconds) of one stream."""
    draw = random.Random(number)
    text = " ".join(draw.choice(WORDS) for _ in range(options.words))
    body = {"messages": [{"role": "user", "content": f"{number}: {text}"}], "temperature": 0,
            "max_tokens": options.answer, "ignore_eos": True, "stream": True,
            "stream_options": {"include_usage": True}}
    start = time.monotonic()
    first = usage = None
    for line in servers.post(server, body):
        if not line.startswith(b"data: {"):
            continue
        if first is None and b'"content":"' in line and b'"content":""' not in line:
            first = time.monotonic() - start
        if b'"usage":{' in line:
            usage = json.loads(line[6:])["usage"]
    if usage["completion_tokens"] != options.answer:
        raise RuntimeError(f"{server.name}: {usage}, asked were {options.answer} tokens")
    return usage["completion_tokens"], first, time.monotonic() - start


def run(server, streams, options, seed):
    """Tokens a second over all streams, and the median time to the first token."""
    each = max(2, options.requests // streams)

    def stream(index):
        return [ask(server, seed + index * each + k, options) for k in range(each)]

    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(streams) as pool:
        done = [one for answers in pool.map(stream, range(streams)) for one in answers]
    seconds = time.monotonic() - start
    return sum(one[0] for one in done) / seconds, statistics.median(one[1] for one in done)


def measure(options):
    """{(server, streams): [(rate, first), ...]}, the servers in turn."""
    found = {}
    for repetition in range(options.rounds):
        for kind in (servers.Etalon, servers.Llama):
            with kind(options) as server:
                ask(server, 0, options)  # the first one pays for what is made once
                for streams in options.streams:
                    rate, first = run(server, streams, options, 1000 * (streams + repetition))
                    found.setdefault((kind.name, streams), []).append((rate, first))
                    print(f"round {repetition + 1}: {kind.name}, {streams} streams: {rate:.1f} "
                          f"tokens/s, first after {first:.3f} s", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser()
    servers.add_options(parser)
    parser.add_argument("--streams", default="1,8,32",
                        type=lambda text: [int(one) for one in text.split(",")])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--words", type=int, default=60)
    parser.add_argument("--answer", type=int, default=64)
    parser.add_argument("--requests", type=int, default=8, help="of all streams, at least 2 each")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measure(options)
    median = {key: [statistics.median(column) for column in zip(*runs)]
              for key, runs in found.items()}
    if options.json:
        print(json.dumps([{"server": name, "streams": streams, "tokens_per_second": rate,
                           "first_token_seconds": first, "runs": found[name, streams]}
                          for (name, streams), (rate, first) in median.items()]))
        return
    print("| streams | Etalon tokens/s | llama-server tokens/s | ratio | first token, Etalon | "
          "llama-server |\n|---|---|---|---|---|---|")
    for streams in options.streams:
        (ours, our_first), (peer, peer_first) = (median[name, streams]
                                                 for name in ("etalon", "llama-server"))
        spread = [f"{min(r for r, _ in found[name, streams]):.0f}.."
                  f"{max(r for r, _ in found[name, streams]):.0f}"
                  for name in ("etalon", "llama-server")]
        print(f"| {streams} | {ours:.0f} ({spread[0]}) | {peer:.0f} ({spread[1]}) | "
              f"**{ours / peer:.1f}** | {our_first:.2f} s | {peer_first:.2f} s |")


if __name__ == "__main__":
    main()
