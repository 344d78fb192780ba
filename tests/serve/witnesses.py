# SPDX-License-Identifier: Apache-2.0
"""Witnesses of a server's log: two programs sign its checkpoints through the courier, receipts and
bundles meet a policy that asks for both, and a log that was rolled back finds none."""
import errno
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

from served import Checks, Server

RECEIPT_SECONDS_MAX = 30


class Witness:
    def __init__(self, server, name, log_key):
        self.process = subprocess.Popen(
            [server.etalon, "witness", "--folder", str(server.folder / name), "--name",
             f"{name}.example", "--listen", "127.0.0.1:0", "--log", log_key],
            env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.url = self.process.stdout.readline().split()[-1]
        self.line = self.process.stdout.readline().split(": ")[1].split()[:3]
        self.policy = f"witness {name} {self.line[2]} {self.url}/"
        self.port = int(self.url.rsplit(":", 1)[1])

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def receipt_of(server):
    _, headers, _ = server.post("/v1/chat/completions", {
        "model": server.model, "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]})
    path = f"/v1/receipts/{headers['x-etalon-receipt']}"
    end = time.monotonic() + RECEIPT_SECONDS_MAX
    while server.get(path)[0] == 202 and time.monotonic() < end:
        time.sleep(0.1)
    return path


def raw_answer(port, sent):
    """The status; "" where the connection ended first, as it does when not all was read."""
    got = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(4096):
                got += piece
    except ConnectionError:
        pass
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise
    return got.split(b" ", 2)[1].decode() if got else ""


def check_hostile(witness, checks):
    for sent, statuses in ((b"GET /add-checkpoint HTTP/1.1\r\nhost: x\r\n\r\n", {"405"}),
                           (b"POST /other HTTP/1.1\r\ncontent-length: 0\r\n\r\n", {"404"}),
                           (b"POST /add-checkpoint HTTP/1.1\r\ncontent-length: 3\r\n\r\nold",
                            {"400"}),
                           (b"POST /add-checkpoint HTTP/1.1\r\ncontent-length: 9999999\r\n\r\n",
                            {"413"}),
                           (b"nothing\r\n\r\n", {"400"}),
                           (b"X" * 100000, {"400", ""}), (b"", {""})):
        status = raw_answer(witness.port, sent)
        checks.true(f"the witness told {sent[:40]}: {status}", status in statuses)


def check_policy(server, checks, policy, path, quorum):
    """Receipt and bundle against what asks for the witnesses."""
    receipt = server.folder / "receipt"
    receipt.write_text(server.get(path)[2], encoding="utf-8")
    code = 0 if quorum else 5
    checks.equal("a receipt by the policy",
                 server.start("ledger", "receipt", str(receipt), "--policy", policy).returncode,
                 code)
    bundle = server.folder / f"bundle-{quorum}"
    server.run("audit", "export", str(bundle))
    checks.equal("a bundle by the policy",
                 server.start("audit", "verify", str(bundle), "--policy", policy).returncode,
                 code)


def main():
    checks = Checks()
    with Server() as server:
        path = receipt_of(server)
        log_key = json.loads(server.get(path)[2])["log_key"]
        both = [Witness(server, name, log_key) for name in ("ann", "ben")]
        policy = server.folder / "policy"
        policy.write_text("\n".join([f"log {log_key}", *(one.policy for one in both),
                                     "group both 2 ann ben", "quorum both", ""]), encoding="utf-8")
        check_hostile(both[0], checks)
        check_policy(server, checks, str(policy), path, False)
        courier = ("courier", "--policy", str(policy), "--once")
        ledger = server.folder / "data/etalon/ledger"
        old = shutil.copytree(ledger / "log", server.folder / "old")
        checks.equal("no policy, no courier", server.start("courier", "--once").returncode, 3)
        checks.equal("both sign", server.start(*courier).returncode, 0)
        shutil.copy(policy, ledger / "policy.txt")
        check_policy(server, checks, str(policy), path, True)
        later = receipt_of(server)
        checks.equal("they sign what continues", server.start(*courier).returncode, 0)
        check_policy(server, checks, str(policy), later, 2)
        own = server.folder / "bundle-2"
        checks.equal("the bundle's own policy names them",
                     (own / "policy.txt").read_text(encoding="utf-8"),
                     policy.read_text(encoding="utf-8"))
        checks.equal("one that ends well", both[1].end(), 0)
        receipt_of(server)
        done = server.start("courier", "--once")
        checks.equal("one alone is no quorum",
                     (done.returncode, "witness ben:" in done.stderr), (69, True))
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        shutil.rmtree(ledger / "log")
        shutil.copytree(old, ledger / "log")
        done = server.start("courier", "--once")
        checks.equal("the witness has seen more",
                     (done.returncode, "rolled back" in done.stderr), (69, True))
        both[0].end()
    return checks.end()


sys.exit(main())
