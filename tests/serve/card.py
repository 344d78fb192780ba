# SPDX-License-Identifier: Apache-2.0
"""A server on a card, with every layer of its worker's sandbox: 200 mixed requests at 32 at once
have the digests that a server on the processor gives, `etalon replay` derives them there again, and
a worker that is killed comes back with the same bits. Without a card: skipped."""
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import time

from served import Checks, Server

N_REQUESTS = 200
SKIPPED = 77


def has_card():
    done = subprocess.run([os.environ["ETALON_BINARY"], "doctor", "--json"], check=True,
                          capture_output=True, text=True)
    return any(card["available"] for card in json.loads(done.stdout)["cards"])


def digests(server, i):
    answer = server.chat(f"Tell me about the number {i}.", seed=i, temperature=i % 3 / 2,
                         top_p=0.95, max_tokens=16 + i % 40, n=2 if i % 7 == 0 else 1)
    return answer["etalon"]["digests"]


def start(device):
    server = Server("--device", device)
    folder = server.folder / "config/etalon"
    folder.mkdir(parents=True)
    (folder / "etalon.toml").write_text('sandbox = "strict"\n', encoding="utf-8")
    return server


def ask_all(server, at_once):
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(lambda i: digests(server, i), range(N_REQUESTS)))


def check_replay(server, checks):
    end = time.monotonic() + 30  # until a checkpoint covers the last answer
    listed = ("ledger", "tail", "--kind", "complete", "--count", "10000")
    while server.run(*listed).count("\n") < N_REQUESTS and time.monotonic() < end:
        time.sleep(0.1)
    done = server.start("replay", "--sample", "100%", "--device", "cpu", "--model",
                        server.model_file)
    lines = done.stdout.splitlines()
    checks.equal("derived again on the processor",
                 (done.returncode, len(lines), done.stdout.count(": match")),
                 (0, sum(2 if i % 7 == 0 else 1 for i in range(N_REQUESTS)), len(lines)))


def check_lost_worker(server, checks, expected):
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        os.kill(int(file.read().split()[0]), signal.SIGKILL)
    end = time.monotonic() + 60
    while server.get("/readyz")[0] == 200 and time.monotonic() < end:
        time.sleep(0.01)
    while server.get("/readyz")[0] != 200 and time.monotonic() < end:
        time.sleep(0.1)
    checks.equal("the new worker gives the same bits", digests(server, 3), expected)


def check_locks(checks):
    done = subprocess.run([os.environ["ETALON_BINARY"], "doctor", "--sandbox", "--device", "cuda:0",
                           "--json"], check=True, capture_output=True, text=True)
    probe = json.loads(done.stdout)
    checks.equal("the card", probe["device"], "cuda:0: computes behind the locks")
    checks.equal("attempts that got through with the card in use",
                 [one["name"] for one in probe["canaries"]
                  if one["refused"] != one["must_be_refused"]], [])


def main():
    if not has_card():
        print("no card can be used here")
        return SKIPPED
    checks = Checks()
    check_locks(checks)
    with start("cuda:0") as server:
        status = json.loads(server.get("/status")[2])
        checks.true("the card computes", status["models"][0]["backend"].startswith("cuda"))
        on_card = ask_all(server, 32)
        check_replay(server, checks)
        check_lost_worker(server, checks, on_card[3])
    with start("cpu") as server:
        for i, (one, other) in enumerate(zip(on_card, ask_all(server, 8))):
            checks.equal(f"request {i}", one, other)
    return checks.end()


sys.exit(main())
