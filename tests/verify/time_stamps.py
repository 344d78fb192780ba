#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Time stamps of checkpoints (RFC 3161) by an authority that `openssl ts` is: the courier asks it,
bundles carry what it says, etalon and openssl verify it; what a hostile authority sends is refused.

usage: time_stamps.py MAKE_BUNDLES
"""
import http.server
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time

from mutations import ETALON, ROOT, build_go

POLICY, OTHER_POLICY = "1.2.3.4.1", "1.2.3.4.2"
SETTINGS = f"""
[tsa]
default_tsa = here
[here]
serial = serial
signer_digest = sha256
default_policy = {POLICY}
other_policies = {OTHER_POLICY}
digests = sha256
ess_cert_id_alg = sha256
[ca]
basicConstraints = critical, CA:TRUE
[signer]
extendedKeyUsage = critical, timeStamping
"""
CONNECT_SECONDS_MAX = 20
FLIPPED_EVERY = 61


def openssl(*words, cwd):
    return subprocess.run(["openssl", *map(str, words)], cwd=cwd, check=False, capture_output=True)


class Authority:
    """Signs what it is asked to; `answer(query)` is replaced by what a hostile one does."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        (folder / "settings").write_text(SETTINGS)
        (folder / "serial").write_text("01\n")
        for name, issuing in (("ca", ["-signkey", "ca.key"]),
                              ("signer", ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"])):
            openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj",
                    f"/CN={name} of {folder.name}", cwd=folder)
            done = openssl("x509", "-req", "-in", f"{name}.csr", *issuing, "-out", f"{name}.pem",
                           "-days", "2", "-extfile", "settings", "-extensions", name, cwd=folder)
            if done.returncode != 0:
                raise RuntimeError(done.stderr.decode())
        self.certificate = str(folder / "ca.pem")

    def stamp(self, query):
        (self.folder / "query").write_bytes(query)
        done = openssl("ts", "-reply", "-queryfile", "query", "-config", "settings", "-section",
                       "here", "-inkey", "signer.key", "-signer", "signer.pem", "-out", "reply",
                       cwd=self.folder)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.decode())
        return (self.folder / "reply").read_bytes()

    def query(self, data, *options):
        """A question of its own, with another nonce."""
        (self.folder / "data").write_bytes(data)
        openssl("ts", "-query", "-data", "data", "-sha256", "-cert", *options, "-out", "own",
                cwd=self.folder)
        return (self.folder / "own").read_bytes()


class Place:
    """The authority's address."""

    def __init__(self, answer):
        place = self
        self.answer, self.asked = answer, []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                query = self.rfile.read(int(self.headers["content-length"]))
                place.asked.append((self.path, self.headers["content-type"]))
                status, body = 200, place.answer(query)
                if isinstance(body, int):
                    status, body = body, b""
                self.send_response(status)
                self.send_header("content-type", "application/timestamp-reply")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/tsa/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Checks:
    passed = failed = 0

    def equal(self, title, got, expected):
        self.passed += got == expected
        self.failed += got != expected
        if got != expected:
            print(f"{title}:\n  got      {got}\n  expected {expected}")


def run(*words):
    return subprocess.run([str(word) for word in words], check=False, capture_output=True,
                          text=True, timeout=120)


def check_honest(checks, world, place, courier):
    ledger, note = world / "ledger", (world / "ledger/log/checkpoint").read_bytes()
    done = run(*courier, "--tsa-policy", OTHER_POLICY)
    checks.equal("the courier, " + done.stderr, done.returncode, 0)
    checks.equal("how it asks", place.asked, [("/tsa", "application/timestamp-query")])
    size = note.split(b"\n")[1].decode()
    stamps = ledger / "log/stamps"
    checks.equal("what is kept", sorted(path.name for path in stamps.iterdir()),
                 [f"{size}.checkpoint", f"{size}.tsr"])
    checks.equal("what was stamped", (stamps / f"{size}.checkpoint").read_bytes(), note)
    checks.equal("a size is stamped once", (run(*courier).returncode, len(place.asked)), (0, 1))
    bundle = world / "stamped"
    checks.equal("the export", run(ETALON, "audit", "export", bundle, "--ledger",
                                   ledger).returncode, 0)
    verify = (ETALON, "audit", "verify", bundle, "--policy", world / "receipt.policy")
    told = run(*verify, "--tsa-certificate", place.certificate)
    checks.equal("etalon accepts, " + told.stderr, told.returncode, 0)
    stamped = re.search(rf"time stamp +{size} records: (\S+)Z\n", told.stdout)
    text = openssl("ts", "-reply", "-in", f"{size}.tsr", "-text", cwd=stamps).stdout.decode()
    shown = time.strptime(re.search(r"Time stamp: (.*) GMT", text).group(1), "%b %d %H:%M:%S %Y")
    checks.equal("its time is the one that openssl shows", stamped and stamped.group(1),
                 time.strftime("%Y-%m-%dT%H:%M:%S", shown))
    checks.equal("it was stamped under the policy asked for", OTHER_POLICY in text, True)
    checks.equal("without the certificate it is told", "not looked at" in run(*verify).stdout, True)
    checks.equal("by another authority", run(*verify, "--tsa-certificate",
                                             place.stranger).returncode, 5)
    command = re.search(r"^    (openssl ts -verify .*)$", (bundle / "README.md").read_text(), re.M)
    words = command.group(1).replace("SIZE", size).replace("TSA.pem", place.certificate).split()
    checks.equal("openssl accepts", openssl(*words[1:], cwd=bundle).returncode, 0)
    for who, words in (("go", [build_go()]), ("node", ["node", ROOT / "verify/node/verify.mjs"])):
        done = run(*words, bundle, "--policy", world / "receipt.policy")
        checks.equal(f"{who} accepts, {done.stderr}", done.returncode, 0)


def check_hostile(checks, world, place, courier, authority, stranger):
    stamps = world / "ledger/log/stamps"
    note = (world / "ledger/log/checkpoint").read_bytes()
    policy = ("--tsa-policy", OTHER_POLICY)
    cases = [
        ("another nonce", lambda _: authority.stamp(authority.query(note)), (), 5, "nonce"),
        ("no nonce", lambda _: authority.stamp(authority.query(note, "-no_nonce")), (), 5,
         "nonce"),
        ("another digest", lambda _: authority.stamp(authority.query(b"x")), (), 5, "imprint"),
        ("another policy", lambda _: authority.stamp(authority.query(note)), policy, 5, "policy"),
        ("another authority", stranger.stamp, (), 5, "certificate"),
        ("not granted", authority.stamp, ("--tsa-policy", "1.2.3.9"), 5, "reject"),
        ("no DER", lambda _: b"granted", (), 5, "no DER"),
        ("nothing", lambda _: b"", (), 5, "no DER"),
        ("bytes behind it", lambda query: authority.stamp(query) + b"x", (), 5, "no DER"),
        ("cut", lambda query: authority.stamp(query)[:-1], (), 5, "no DER"),
        ("huge", lambda query: authority.stamp(query) + bytes(1 << 20), (), 5, "more than"),
        ("an error", lambda _: 503, (), 69, "says 503"),
    ]
    for title, answer, options, code, why in cases:
        shutil.rmtree(stamps, ignore_errors=True)
        place.answer = answer
        done = run(*courier, *options)
        checks.equal(f"{title}: {done.stderr}",
                     (done.returncode, why in done.stderr, stamps.exists()), (code, True, False))


def check_flipped(checks, world, place, courier, authority):
    """A changed bit anywhere in an answer: refused, or openssl finds too that nothing changed."""
    stamps = world / "ledger/log/stamps"
    size = len(authority.stamp(authority.query(b"note")))
    verdicts = []
    for at in range(0, size, FLIPPED_EVERY):
        def flip(query, at=at):
            whole = authority.stamp(query)
            return whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:]
        shutil.rmtree(stamps, ignore_errors=True)
        place.answer = flip
        verdicts.append(run(*courier).returncode)
        if verdicts[-1] == 0:
            stamp = next(stamps.glob("*.tsr"))
            done = openssl("ts", "-verify", "-data", f"{stamp.stem}.checkpoint", "-in", stamp.name,
                           "-CAfile", place.certificate, cwd=stamps)
            checks.equal(f"openssl, byte {at}", done.returncode, 0)
    checks.equal(f"refused or true: {verdicts}", set(verdicts) <= {0, 5}, True)
    checks.equal("most are refused", verdicts.count(5) > len(verdicts) / 2, True)


def check_usage(checks, world, place, courier):
    plain = (*courier[:5], "--tsa", place.url)
    checks.equal("no certificate", run(*plain).returncode, 2)
    checks.equal("a file without one",
                 run(*plain, "--tsa-certificate", world / "policy").returncode, 2)
    checks.equal("no object identifier",
                 run(*courier, "--tsa-policy", "fast").returncode, 2)
    checks.equal("no URL", run(*courier[:5], "--tsa", "tsa.example", "--tsa-certificate",
                               place.certificate).returncode, 2)


def check_deadline(checks, world):
    """Somebody who lets connections wait does not hold the courier up."""
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(busy.getsockname())
        policy = world / "slow.policy"
        lines = (world / "policy").read_text().splitlines()
        slow = [f"{line} http://127.0.0.1:{busy.getsockname()[1]}"
                if line.startswith("witness court ") else line for line in lines]
        policy.write_text("\n".join(slow) + "\n")
        began = time.monotonic()
        done = run(ETALON, "courier", "--ledger", world / "ledger", "--once", "--policy", policy)
        checks.equal(f"a witness that cannot be reached: {done.stderr}",
                     (done.returncode, "cannot reach" in done.stderr), (69, True))
        took = time.monotonic() - began
        checks.equal("it was given up in time", took < CONNECT_SECONDS_MAX, True)
        for one in waiting:
            one.close()


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="etalon-stamps-") as name:
        world = pathlib.Path(name)
        subprocess.run([sys.argv[1], world], check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(world / "ledger/log/stamps")  # of nobody
        authority, stranger = Authority(world / "tsa"), Authority(world / "stranger")
        place = Place(authority.stamp)
        place.certificate, place.stranger = authority.certificate, stranger.certificate
        courier = (ETALON, "courier", "--ledger", world / "ledger", "--once", "--tsa", place.url,
                   "--tsa-certificate", place.certificate)
        check_honest(checks, world, place, courier)
        check_flipped(checks, world, place, courier, authority)
        check_hostile(checks, world, place, courier, authority, stranger)
        check_usage(checks, world, place, courier)
        check_deadline(checks, world)
        place.server.shutdown()
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main())
