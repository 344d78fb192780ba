# SPDX-License-Identifier: Apache-2.0
"""What the ledger costs a server: the same load on `etalon` and on `etalon_without_ledger`, which
links a ledger that keeps nothing, in turn.

    cmake --preset release -DETALON_BENCH=ON && cmake --build build/release
    python3 bench/ledger_cost.py [--streams 32] [--requests 96] [--rounds 7]

Prints the tokens a second of each round and the median of the ratios of neighbours. The goal is
97 %.
"""
import argparse
import concurrent.futures
import os
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/serve"))
from served import Server  # noqa: E402

ANSWER_TOKENS = 64
GOAL = 0.97


def rate(binary, options):
    """Answer tokens a second of one load on a fresh server."""
    os.environ["ETALON_BINARY"] = str(binary)
    with Server() as server:
        def ask(i):
            answer = server.chat(f"Write about the number {i}.", seed=i, temperature=1,
                                 max_tokens=ANSWER_TOKENS, min_tokens=ANSWER_TOKENS)
            return answer["usage"]["completion_tokens"]

        ask(0)
        with concurrent.futures.ThreadPoolExecutor(options.streams) as pool:
            start = time.perf_counter()
            n_tokens = sum(pool.map(ask, range(1, options.requests + 1)))
            return n_tokens / (time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--model", type=pathlib.Path,
                        default=pathlib.Path(os.environ.get("ETALON_TEST_MODEL", "")))
    parser.add_argument("--streams", type=int, default=32)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    os.environ["ETALON_TEST_MODEL"] = str(options.model)
    ratios = []
    for i in range(options.rounds):
        pair = [("with", options.build / "etalon"),
                ("without", options.build / "bench/etalon_without_ledger")]
        if i % 2 == 1:
            pair.reverse()  # neither always runs first
        rates = {name: rate(binary, options) for name, binary in pair}
        ratios.append(rates["with"] / rates["without"])
        print(f"{rates['with']:8.1f} tokens/s with, {rates['without']:8.1f} without: "
              f"{100 * ratios[-1]:.1f} %", flush=True)
    median = statistics.median(ratios)
    print(f"median of {len(ratios)}: {100 * median:.1f} % ({100 * min(ratios):.1f} to "
          f"{100 * max(ratios):.1f}); goal {100 * GOAL:.0f} %")


main()
