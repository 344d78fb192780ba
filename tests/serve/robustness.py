#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What real clients and machines do to a server, against the real program: streams whose clients
leave, a worker that is killed under load, thousands of streams that wait. --full takes the counts
of FULL instead of SHORT."""
import concurrent.futures
import json
import os
import random
import resource
import select
import signal
import socket
import sys
import threading
import time

from served import Checks, Server, events

SHORT = {"leaving": 50, "kills": 1, "idle": 1000}
FULL = {"leaving": 1000, "kills": 20, "idle": 5000}
AT_ONCE = 32
GROWTH_BYTES_MAX = 200 << 20  # of the front, for all idle streams together
SECONDS_MAX = 240
CHAT = "/v1/chat/completions"


def request_bytes(server, body):
    text = json.dumps({"model": server.model, **body})
    return (f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
            f"authorization: Bearer {server.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(text)}\r\n\r\n{text}").encode()


def counters(server):
    """Of the engine, by name."""
    found = {}
    for line in server.get("/metrics")[2].splitlines():
        if line.startswith("etalon_engine_"):
            name, value = line.rsplit(" ", maxsplit=1)
            found[name.split("{")[0].removeprefix("etalon_engine_")] = float(value)
    return found


def check_pages(title, server, checks):
    """Nobody is left, and every page is free or in the prefix cache."""
    end = time.monotonic() + SECONDS_MAX
    while counters(server).get("requests") != 0 and time.monotonic() < end:
        time.sleep(0.2)
    now = counters(server)
    checks.equal(f"{title}: requests left", now.get("requests"), 0)
    checks.equal(f"{title}: sequences left", (now["running"], now["waiting"]), (0, 0))
    checks.equal(f"{title}: pages", now["pages_free"] + now["pages_cached"], now["pages_total"])


def leave(server, number):
    """A stream that its client leaves: at once, in the middle, politely or not."""
    draw = random.Random(number)
    body = {"stream": True, "ignore_eos": True, "max_tokens": 2000, "n": draw.choice([1, 1, 3]),
            "messages": [{"role": "user", "content": f"{number} " + "go on " * draw.randrange(80)}]}
    with socket.create_connection(("127.0.0.1", server.port), SECONDS_MAX) as client:
        client.sendall(request_bytes(server, body))
        for _ in range(draw.randrange(5)):
            client.recv(2000)
        if draw.random() < 0.5:  # RST instead of FIN
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def check_leaving(server, counts, checks):
    before = server.chat("Hi", temperature=0, max_tokens=8)["etalon"]["digests"]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda number: leave(server, number), range(counts["leaving"])))
    check_pages("clients that left", server, checks)
    after = server.chat("Hi", temperature=0, max_tokens=8)["etalon"]["digests"]
    checks.equal("the same bits behind them", after, before)


def worker_of(server):
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children",
              encoding="ascii") as file:
        return [int(pid) for pid in file.read().split()]


class Load:
    """Clients that ask without end; each answer is complete, or says that it failed."""

    def __init__(self, server):
        self.server = server
        self.bodies = [{"messages": [{"role": "user", "content": f"Count to {number}."}],
                        "max_tokens": 12, "seed": number, "temperature": 0.8,
                        "stream": number % 2 == 0} for number in range(AT_ONCE)]
        self.alone = [self.ask(body) for body in self.bodies]
        self.complete = self.failed = 0
        self.lost = []
        self.lock = threading.Lock()
        self.ending = threading.Event()

    def ask(self, body):
        """The digests, or an "error: ..." that the server gave."""
        status, _, text = self.server.post(CHAT, {"model": self.server.model, **body})
        if status != 200:
            return "error: " + json.loads(text)["error"]["message"]
        if not body["stream"]:
            return json.loads(text)["etalon"]["digests"]
        last = text.rstrip().split("\n\n")[-1].removeprefix("data: ")
        if last != "[DONE]":
            return "error: " + json.loads(last)["error"]["message"]
        return events(text)[-1]["etalon"]["digests"]

    def client(self, number):
        while not self.ending.is_set():
            try:
                got = self.ask(self.bodies[number])
            except Exception as error:  # no answer, or one that ends in the middle
                got = error
            with self.lock:
                if got == self.alone[number]:
                    self.complete += 1
                elif isinstance(got, str) and got.startswith("error: "):
                    self.failed += 1
                else:
                    self.lost.append((number, got))
            if isinstance(got, str):
                time.sleep(0.5)

    def done(self):
        with self.lock:
            return self.complete


def check_kills(server, counts, checks):
    load = Load(server)
    checks.equal("nothing failed alone", [a for a in load.alone if isinstance(a, str)], [])
    killed = set()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        clients = [pool.submit(load.client, number) for number in range(AT_ONCE)]
        try:
            for _ in range(counts["kills"]):
                end, enough = time.monotonic() + SECONDS_MAX, load.done() + AT_ONCE // 2
                while load.done() < enough and time.monotonic() < end:
                    time.sleep(0.01)
                pid = worker_of(server)[0]
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
            end, enough = time.monotonic() + SECONDS_MAX, load.done() + AT_ONCE
            while load.done() < enough and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            load.ending.set()
        for client in clients:
            client.result()
    checks.equal("workers killed", len(killed), counts["kills"])
    checks.equal("answers that were lost or wrong", load.lost, [])
    checks.true("some were told of it", load.failed >= counts["kills"])
    checks.true("they go on behind the last one", load.done() >= enough)
    print(f"{counts['kills']} workers killed: {load.done()} answers complete and equal, "
          f"{load.failed} said that they failed, {len(load.lost)} lost")
    check_pages("killed workers", server, checks)


def status_of(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":"))


def check_idle(server, counts, checks):
    server.chat("Hi", max_tokens=4)
    front, worker = server.process.pid, worker_of(server)[0]
    before = {pid: (status_of(pid, "VmRSS"), status_of(pid, "Threads")) for pid in (front, worker)}
    # None may end before they are counted: as long as the context of the default model.
    body = {"stream": True, "ignore_eos": True, "max_tokens": 8000,
            "messages": [{"role": "user", "content": "Go on."}]}
    sent = request_bytes(server, body)
    clients = []
    start = time.monotonic()
    poll = select.poll()
    for _ in range(counts["idle"]):
        client = socket.create_connection(("127.0.0.1", server.port), SECONDS_MAX)
        client.sendall(sent)
        clients.append(client)
    for client in clients:  # the head of the answer: accepted, recorded, in the queue
        checks.equal("accepted", client.recv(12), b"HTTP/1.1 200")
        poll.register(client, select.POLLHUP | select.POLLERR)
    seconds = time.monotonic() - start
    now = counters(server)
    checks.equal("all of them wait or run", now["requests"], counts["idle"])
    after = {pid: (status_of(pid, "VmRSS"), status_of(pid, "Threads")) for pid in (front, worker)}
    growth = [(after[pid][0] - before[pid][0]) << 10 for pid in (front, worker)]
    print(f"{counts['idle']} idle streams, opened in {seconds:.0f} s: the front grew by "
          f"{growth[0] / 2**20:.1f} MiB, the worker by {growth[1] / 2**20:.1f} MiB, "
          f"{after[front][1]} threads of the front, {after[worker][1]} of the worker")
    checks.true("growth of the front", growth[0] < GROWTH_BYTES_MAX)
    checks.equal("no thread more", [after[pid][1] for pid in (front, worker)],
                 [before[pid][1] for pid in (front, worker)])
    checks.equal("nobody was thrown out", poll.poll(0), [])
    for client in clients:
        client.close()
    check_pages("idle streams", server, checks)


def main():
    counts = FULL if "--full" in sys.argv[1:] else SHORT
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 2 * FULL["idle"]  # of the server too
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    checks = Checks()
    for check in (check_leaving, check_kills, check_idle):
        start = time.monotonic()
        with Server() as server:
            try:
                check(server, counts, checks)
            except Exception as error:  # the other checks still run
                checks.failed += 1
                print(f"{check.__name__}: {error!r}")
        print(f"{check.__name__}: {time.monotonic() - start:.0f} s")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
