#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How many of 200 requests get the same answer 32 at once as alone: Etalon's server, and
llama-server beside it. The requests are those of tests/serve/equality.py with one choice each;
compared are text, end and number of tokens, which both tell. Alone and together are each asked of
a fresh server.

usage: serve_equality.py --model FILE.gguf [--requests 200] [--at-once 32]
"""
import argparse
import concurrent.futures
import json

import servers  # first: it knows where the requests are
from equality import request


def ask(server, body):
    body = {name: value for name, value in body.items() if name not in ("n", "stream_options")}
    answer = json.loads(servers.post(server, {**body, "stream": False}).read())
    choice = answer["choices"][0]
    return (choice["message"]["content"], choice["finish_reason"],
            answer["usage"]["completion_tokens"])


def ask_all(kind, options, bodies, at_once):
    with kind(options) as server, concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda body: ask(server, body), bodies))


def main():
    parser = argparse.ArgumentParser()
    servers.add_options(parser)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=32)
    options = parser.parse_args()
    bodies = [request(number) for number in range(options.requests)]
    for kind in (servers.Etalon, servers.Llama):
        alone = ask_all(kind, options, bodies, 1)
        together = ask_all(kind, options, bodies, options.at_once)
        same = sum(a == b for a, b in zip(alone, together))
        print(f"{kind.name}: {same} of {len(bodies)} answers {options.at_once} at once equal their "
              f"run alone", flush=True)


if __name__ == "__main__":
    main()
