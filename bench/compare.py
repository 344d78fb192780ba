#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Etalon against llama.cpp on this machine: runs in turn, medians, ratio, and the machine's limits.

usage: compare.py --isa avx2|avx512 --model FILE.gguf [--etalon-model FILE] [--threads N] [--json]

First build the peer with bench/peer/build_llama.sh. With --etalon-model (an E8 file, say) each side
reads its own file; else both read the same. A ratio above 1 means that Etalon is faster.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]


def run_json(command, **environment):
    done = subprocess.run(command, check=False, capture_output=True, text=True,
                          env={**os.environ, **environment})
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed ({done.returncode}):\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def etalon_once(options):
    """{"prompt": tokens/s, "generation": tokens/s} and the whole report of one run."""
    report = run_json(
        [options.etalon, "bench", options.etalon_model or options.model, "--json",
         "--prompt", str(options.prompt), "--generate", str(options.generate),
         "--repetitions", "1", "--threads", str(options.threads)], ETALON_ISA=options.isa)
    return {kind: report[kind]["tokens_per_second"] for kind in ("prompt", "generation")}, report


def peer_once(options):
    rows = run_json([options.llama, "-m", options.model, "-p", str(options.prompt),
                     "-n", str(options.generate), "-t", str(options.threads), "-r", "1",
                     "-o", "json"])
    rates = {}
    for row in rows:
        rates["prompt" if row["n_prompt"] else "generation"] = row["avg_ts"]
    return rates


def measure(options):
    """Runs both in turn, so that a change of the machine's speed meets both alike."""
    ours, peers, reports = [], [], []
    for repetition in range(options.repetitions):
        rates, report = etalon_once(options)
        ours.append(rates)
        reports.append(report)
        peers.append(peer_once(options))
        print(f"run {repetition + 1} of {options.repetitions}: {rates} against {peers[-1]}",
              file=sys.stderr)
    return ours, peers, reports


def spread(values):
    ordered = sorted(values)
    return {"median": statistics.median(ordered), "least": ordered[0], "most": ordered[-1]}


def summarise(options, ours, peers, reports):
    tokens = {"prompt": options.prompt, "generation": options.generate}
    rows = []
    for kind in ("prompt", "generation"):
        own, peer = spread([r[kind] for r in ours]), spread([r[kind] for r in peers])
        rows.append({"what": f"{kind} {tokens[kind]}", "etalon": own, "peer": peer,
                     "ratio": own["median"] / peer["median"]})
    middle = reports[len(reports) // 2]
    limits = {name: middle.get(name) for name in (
        "backend", "threads", "bytes_per_token", "read_bytes_per_second", "read_share",
        "integer_operations_per_second", "integer_share")}
    return {"model": options.model, "etalon_model": options.etalon_model or options.model,
            "isa": options.isa, "repetitions": options.repetitions, "rows": rows,
            "machine": limits}


def show(number, unit, scale):
    return "unknown" if number is None else f"{number / scale:.3g} {unit}"


def print_rows(summary):
    print(f"{summary['etalon_model']} against llama.cpp with {summary['model']}, "
          f"{summary['isa']}, {summary['machine']['threads']} threads, "
          f"median of {summary['repetitions']}")
    print("| what | etalon tokens/s | llama.cpp tokens/s | ratio |\n|---|---|---|---|")
    for row in summary["rows"]:
        cells = ["{median:.1f} ({least:.1f}..{most:.1f})".format(**row[side])
                 for side in ("etalon", "peer")]
        print(f"| {row['what']} | {cells[0]} | {cells[1]} | {row['ratio']:.2f} |")
    machine = summary["machine"]
    print(f"machine: reads {show(machine['read_bytes_per_second'], 'GB/s', 1e9)}, "
          f"generation reached {show(machine['read_share'], '%', 0.01)} of it; integer peak "
          f"{show(machine['integer_operations_per_second'], 'TOPS', 1e12)}, the prompt reached "
          f"{show(machine['integer_share'], '%', 0.01)} of it")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--isa", required=True, choices=["avx2", "avx512"])
    parser.add_argument("--model", required=True, help="GGUF file that the peer reads")
    parser.add_argument("--etalon-model", help="file that Etalon reads, if another")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--etalon", default=str(ROOT / "build/release/etalon"))
    parser.add_argument("--llama", help="llama-bench; default: that of build/peer")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.llama = options.llama or str(ROOT / f"build/peer/{options.isa}/bin/llama-bench")
    summary = summarise(options, *measure(options))
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        print_rows(summary)


if __name__ == "__main__":
    main()
