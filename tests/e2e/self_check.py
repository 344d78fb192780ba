#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A real server that derives each of its answers again: all match, each verdict is a record that
stands behind the answer's, and no word of an answer is in what it says of it."""
import json
import pathlib
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/serve"))

from served import Checks, Server  # noqa: E402

SECONDS_MAX = 300
REQUESTS = [
    {"temperature": 0, "max_tokens": 40},
    {"seed": 5, "temperature": 1.2, "top_p": 0.9, "max_tokens": 30, "n": 3},
    {"seed": 6, "max_tokens": 60, "stop": ["e"], "frequency_penalty": 0.5, "logit_bias": {"42": 3}},
    {"seed": 7, "max_tokens": 25, "logprobs": True, "top_logprobs": 3, "stream": True},
]
N_ANSWERS = 6


def verdicts(server):
    """{verdict: count} of the metrics."""
    text = server.get("/metrics")[2]
    found = {}
    for line in text.splitlines():
        if line.startswith("etalon_self_checks_total{"):
            found[line.split('"')[1]] = int(line.split()[-1])
    return found


def records(server, kind):
    listed = server.run("ledger", "tail", "--count", "1000", "--json", "--kind", kind)
    return [json.loads(line) for line in listed.splitlines()]


def main():
    checks = Checks()
    server = Server()
    server.environment["ETALON_SELF_CHECK"] = "1"
    with server:
        answers = []
        for more in REQUESTS:
            body = {"model": server.model, **more,
                    "messages": [{"role": "user", "content": "Name three rivers of Europe."}]}
            status, _, text = server.post("/v1/chat/completions", body)
            checks.equal("status", status, 200)
            if not more.get("stream"):
                answers += [c["message"]["content"] for c in json.loads(text)["choices"]]
        end = time.monotonic() + SECONDS_MAX
        replays = []  # a verdict is counted before its record is in the ledger
        while len(replays) < N_ANSWERS and time.monotonic() < end:
            time.sleep(0.5)
            replays = records(server, "replay")
        checks.equal("verdicts", verdicts(server), {"match": N_ANSWERS})
        log = "".join(server.log)
        checks.true("no word of an answer in the log",
                    not any(a[:20] in log for a in answers if len(a) > 20))
        completes = {r["intent"]: r["seq"] for r in records(server, "complete")}
        checks.true("each behind its answer",
                    all(r["seq"] > completes[r["intent"]] for r in replays))
        checks.equal("each answer", len({(r["intent"], r["answer"]) for r in replays}), N_ANSWERS)
        checks.equal("the log", server.start("ledger", "verify").returncode, 0)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
