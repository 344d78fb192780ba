# SPDX-License-Identifier: Apache-2.0
"""The front is killed again and again under load, also while it starts: each answer of which a
client has a byte has its intent in the log, each whole answer has its receipt, and the log
verifies, with nothing repaired by hand.

    python3 front_kills.py [--kills 200] [--seed 7]
"""
import argparse
import http.client
import json
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from served import Checks, Server

CLIENTS = 6
WHOLE_MAX = 5
LOAD_SECONDS_MAX = 60
EARLY_SECONDS_MAX = 0.4
RECEIPT_SECONDS_MAX = 30


class Clients:
    """Threads that ask until the server is gone, and keep what they received."""

    def __init__(self, server, seed):
        self.server = server
        self.begun = []  # receipts of answers of which a byte came
        self.whole = []
        self.refused = []
        self.threads = [threading.Thread(target=self.ask, args=(random.Random(seed + i),))
                        for i in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def ask(self, draw):
        try:
            while True:
                self.ask_once(draw)
        except (OSError, http.client.HTTPException):
            pass

    def ask_once(self, draw):
        stream = draw.random() < 0.7
        body = json.dumps({"model": self.server.model, "stream": stream, "seed": draw.randrange(99),
                           "max_tokens": draw.randrange(1, 48), "temperature": draw.choice([0, 1]),
                           "messages": [{"role": "user", "content": f"Count to {draw.random()}."}]})
        connection = self.server.connection()
        connection.request("POST", "/v1/chat/completions", body,
                           {"authorization": f"Bearer {self.server.key}",
                            "content-type": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            self.refused.append(response.status)
            return
        receipt = response.headers["x-etalon-receipt"]
        if not response.read(1):
            return
        self.begun.append(receipt)
        rest = response.read()
        if not stream or rest.endswith(b"data: [DONE]\n\n"):
            self.whole.append(receipt)

    def wait(self, n_whole):
        """Until so many answers are whole and one more has begun."""
        end = time.monotonic() + LOAD_SECONDS_MAX
        while time.monotonic() < end and any(t.is_alive() for t in self.threads) and (
                len(self.whole) < n_whole or len(self.begun) <= len(self.whole)):
            time.sleep(0.001)

    def join(self):
        for thread in self.threads:
            thread.join()


def kill_while_it_starts(folder, draw):
    server = Server(folder=folder)
    process = subprocess.Popen(
        [server.etalon, "serve", "--listen", "127.0.0.1:0", "--model", server.model_file],
        env=server.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(draw.uniform(0, EARLY_SECONDS_MAX))
    process.kill()
    process.wait()


def check_end(server, checks, begun, whole):
    checks.equal("the log verifies", server.start("ledger", "verify").returncode, 0)
    records = [json.loads(line) for line in
               server.run("ledger", "tail", "--json", "--count", "100000000").splitlines()]
    checks.equal("the log has no gap", [record["seq"] for record in records],
                 list(range(len(records))))
    intents = {record["seq"] for record in records if record["kind"] == "intent"}
    for receipt in begun:
        index = int(re.fullmatch(r"rcp-(\d+)-[0-9a-f]{32}", receipt)[1])
        checks.true(f"the intent of {receipt}", index in intents)
    for receipt in whole:
        end = time.monotonic() + RECEIPT_SECONDS_MAX
        status = server.get(f"/v1/receipts/{receipt}")[0]
        while status == 202 and time.monotonic() < end:
            time.sleep(0.1)
            status = server.get(f"/v1/receipts/{receipt}")[0]
        checks.equal(f"the receipt {receipt}", status, 200)
    done = server.start("replay", "--sample", "5%", "--model", server.model_file)
    checks.equal("a sample derives again", done.returncode, 0)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="etalon-killed-"))
    begun, whole, refused, n_early = [], [], [], 0
    try:
        for kill in range(options.kills):
            if kill > 0 and draw.random() < 0.25:
                kill_while_it_starts(folder, draw)
                n_early += 1
                continue
            with Server(folder=folder) as server:
                clients = Clients(server, options.seed * 1000 + kill * CLIENTS)
                clients.wait(draw.randrange(WHOLE_MAX))
                server.process.kill()
                clients.join()
            begun += clients.begun
            whole += clients.whole
            refused += clients.refused
        with Server(folder=folder) as server:
            check_end(server, checks, begun, whole)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{options.kills} kills, {n_early} of them while it started; {len(begun)} answers begun, "
          f"{len(whole)} of them whole; {len(refused)} refused")
    checks.equal("no request is refused", refused, [])
    checks.true("answers were cut", len(begun) > len(whole) > 0)
    checks.true("it was killed while it started", n_early > 0)
    return checks.end()


sys.exit(main())
