# SPDX-License-Identifier: Apache-2.0
"""Random load on the real server for an hour: people who come, stream, go away in the middle and
come back with the same question.

    python3 bench/soak.py [--minutes 60] [--people 12] [--seed 1]

At the end nothing may have grown that has no reason to: memory and descriptors of both processes
against those of the first tenth, pages that nobody holds, requests without an end; each answer that
was asked for twice has one digest, and the log verifies.
"""
import argparse
import http.client
import json
import os
import pathlib
import random
import re
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/serve"))
from served import Checks, Server  # noqa: E402

TOPICS = ("rivers", "bread", "tax law", "the moon", "a hospital", "trains", "glass", "bees")
GROWTH_BYTES_MAX = 64 << 20  # of a process after the first tenth: caches are full by then
REPORT_SECONDS = 60


def status_kib(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field))


def worker_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return int(file.read().split()[0])


class Load:
    """What all people share."""

    def __init__(self, server, options):
        self.server = server
        self.end = time.monotonic() + 60 * options.minutes
        self.lock = threading.Lock()
        self.digests = {}
        self.counts = dict.fromkeys(("answers", "left", "busy", "repeated"), 0)
        self.faults = []

    def count(self, name):
        with self.lock:
            self.counts[name] += 1

    def compare(self, question, digests):
        with self.lock:
            if question in self.digests:
                self.counts["repeated"] += 1
                if self.digests[question] != digests:
                    self.faults.append(f"{question}: {digests}, before {self.digests[question]}")
            self.digests[question] = digests

    def person(self, draw):
        while time.monotonic() < self.end:
            try:
                self.ask(draw)
            except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
                with self.lock:
                    self.faults.append(repr(error))
            time.sleep(draw.expovariate(2))

    def ask(self, draw):
        """One request; some of them are left in the middle, some are asked again later."""
        topic, seed = draw.choice(TOPICS), draw.randrange(12)
        body = {"model": self.server.model, "seed": seed, "stream": True, "n": 1 + seed % 3 // 2,
                "temperature": seed % 4 / 3, "max_tokens": 4 + 12 * (seed % 5), "top_p": 0.95,
                "messages": [{"role": "user", "content": f"Tell me about {topic}, {seed} times."}]}
        connection = self.server.connection()
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"authorization": f"Bearer {self.server.key}",
                            "content-type": "application/json"})
        response = connection.getresponse()
        if response.status == 429:
            return self.count("busy")
        if response.status != 200:
            raise ValueError(f"{response.status}: {response.read(500)}")
        if draw.random() < 0.2:
            response.read(draw.randrange(1, 400))
            connection.close()
            return self.count("left")
        last = response.read().decode("utf-8").split("data: ")[-2:]
        if last[-1].strip() != "[DONE]":
            raise ValueError(f"the stream ends with {last[-1]}")
        self.compare((topic, seed), tuple(json.loads(last[0])["etalon"]["digests"]))
        return self.count("answers")


def sample(server):
    """Memory in KiB and descriptors of front and worker."""
    pids = [server.process.pid, worker_of(server.process.pid)]
    return [(status_kib(pid, "VmRSS:"), len(os.listdir(f"/proc/{pid}/fd"))) for pid in pids]


def gauge(server, name):
    lines = server.get("/metrics")[2].splitlines()
    return sum(float(line.split()[-1]) for line in lines if re.match(name + r"[{ ]", line))


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--people", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    checks = Checks()
    with Server() as server:
        load = Load(server, options)
        draws = [random.Random(f"{options.seed} {i}") for i in range(options.people)]
        threads = [threading.Thread(target=load.person, args=(draw,)) for draw in draws]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        time.sleep(6 * options.minutes)
        first = sample(server)
        while any(thread.is_alive() for thread in threads):
            print(f"{(time.monotonic() - start) / 60:5.1f} min: {load.counts}, KiB and descriptors "
                  f"of front and worker {sample(server)}", flush=True)
            for thread in threads:
                thread.join(REPORT_SECONDS / len(threads))
        last = sample(server)
        for name, (kib_first, n_first), (kib, n) in zip(("front", "worker"), first, last):
            growth = 1024 * (kib - kib_first)
            checks.true(f"the {name} grew by {growth} bytes", growth <= GROWTH_BYTES_MAX)
            checks.true(f"the {name} has {n} descriptors, {n_first} before",
                        n <= n_first + 2 * options.people)
        checks.equal("faults", load.faults, [])
        checks.true("answers came twice", load.counts["repeated"] > 0)
        checks.equal("requests that run", gauge(server, "etalon_requests_running"), 0)
        checks.equal("pages that nobody holds", gauge(server, "etalon_engine_pages_total"),
                     gauge(server, "etalon_engine_pages_free") +
                     gauge(server, "etalon_engine_pages_cached"))
        checks.equal("the log verifies", server.start("ledger", "verify").returncode, 0)
    print(load.counts)
    return checks.end()


sys.exit(main())
