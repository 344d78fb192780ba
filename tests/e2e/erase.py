#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers about two people by a real server: the auditor opens them with the openssl program and
docs/open-payload.py; one person is erased while the server runs, and neither a bundle nor an old
backup gives what was said about that person again, while the other's answer is still there."""
import json
import os
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests/serve"))

from served import Checks, Server  # noqa: E402

SUBJECTS = ("anna", "bert", "anna, bert", "carl")


def ask(server, subject):
    """(index of the intent, text of the answer)"""
    body = {"model": server.model, "messages": [{"role": "user", "content": f"I am {subject}."}],
            "temperature": 0, "max_tokens": 8}
    status, headers, text = server.post("/v1/chat/completions", body,
                                        headers={"x-etalon-subject": subject})
    assert status == 200, text
    receipt = next(v for k, v in headers.items() if k.lower() == "x-etalon-receipt")
    status = 202
    while status == 202:
        status, _, receipt_text = server.get(f"/v1/receipts/{receipt}")
    part = json.loads(receipt_text)["parts"][0]
    return json.loads(part["intent"])["seq"], json.loads(text)["choices"][0]["message"]["content"]


def opened(server, bundle, index):
    """The texts of a payload by stock openssl; None: the bundle has it not; else the exit code."""
    if not (bundle / f"payloads/{index}.bin").exists():
        return None
    ledger = server.folder / "data/etalon/ledger"
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs/open-payload.py"), str(bundle), str(index),
         str(ledger / "local-auditor.key"), str(ledger / "auditors/local.pem")],
        check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        return done.returncode
    return json.loads(done.stdout.splitlines()[0])["texts"]


def check_refusals(server, checks):
    erase = ("erase", "anna", "--tenant", "local")
    held = server.start(*erase, "--hold", "court of Ghent, 12")
    checks.equal("a hold", held.returncode, 0)
    refused = server.start(*erase)
    checks.equal("a held subject", refused.returncode, 4)
    checks.true("the hold's reason", "court of Ghent, 12" in refused.stderr)
    checks.equal("the hold ends", server.start(*erase, "--release").returncode, 0)
    checks.equal("there is no hold", server.start(*erase, "--release").returncode, 3)
    server.environment["ETALON_RETENTION"] = "local 180 365"
    checks.equal("too early", server.start(*erase).returncode, 4)
    checks.equal("nothing is due", server.start("erase", "--due").returncode, 0)
    server.environment["ETALON_RETENTION"] = "local 365 180"
    checks.equal("no range", server.start(*erase).returncode, 2)
    del server.environment["ETALON_RETENTION"]
    checks.equal("nobody", server.start("erase", "nobody").returncode, 3)
    checks.equal("another tenant's", server.start("erase", "anna").returncode, 3)


def cached_tokens(server):
    """Of a prompt of several pages, asked now."""
    body = {"model": server.model, "messages": [{"role": "user", "content": "I am anna. " * 50}],
            "max_tokens": 1}
    usage = json.loads(server.post("/v1/chat/completions", body)[2])["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"]


def check_erasure(server, checks, keys):
    cached_tokens(server)
    checks.true("a prompt is kept", cached_tokens(server) > 0)
    done = server.start("erase", "anna", "--tenant", "local", "--reason", "letter 17")
    checks.equal("erased", (done.returncode, len(done.stdout.split())), (0, 1))
    checks.equal("the worker has forgotten it", cached_tokens(server), 0)
    checks.true("the backup of keys is named", str(keys) in done.stderr)
    checks.equal("erased twice", server.start("erase", "anna", "--tenant", "local").returncode, 3)
    listed = server.run("ledger", "tail", "--count", "1000", "--kind", "erase")
    checks.equal("its record", len(listed.splitlines()), 1)


def stop(server):
    server.process.terminate()
    server.process.wait(60)


def check_bundles(server, checks, answers):
    """After the server: erased answers are in no bundle, the others open and are checked."""
    bundle = server.folder / "bundle"
    server.run("audit", "export", str(bundle))
    checks.equal("the bundle", server.start("audit", "verify", str(bundle)).returncode, 0)
    for subject, (index, text) in answers.items():
        expected = None if "anna" in subject else [text]
        checks.equal(f"the answer about {subject}", opened(server, bundle, index), expected)
    path = bundle / f"payloads/{answers['bert'][0]}.bin"
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:])
        checks.equal("a changed byte", opened(server, bundle, answers["bert"][0]), 5)


def n_keys(server):
    return len(list((server.folder / "data/etalon/ledger/keys/subjects/ids").iterdir()))


def check_restore(server, checks, backups, n_before):
    """The disk is lost, but for the journal; backups from before the erasure come back."""
    data = server.folder / "data/etalon"
    journal = server.folder / "erased"
    shutil.copy(data / "ledger/keys/subjects/erased", journal)
    shutil.move(data, server.folder / "lost")
    done = server.start("backup", "restore", str(backups / "data"), "--keys",
                        str(backups / "keys"), "--journal", str(journal))
    checks.equal("restored", done.returncode, 0)
    checks.true("the erased key goes again", "1 keys of the backup were erased" in done.stderr)
    checks.equal("keys", n_keys(server), n_before - 1)
    again = server.start("backup", "restore", str(backups / "data"))
    checks.equal("nothing is overwritten", again.returncode, 2)
    checks.true("API keys came back", "etk-" in server.run("key", "list"))


def main():
    if shutil.which("openssl") is None:
        print("no openssl program")
        return 77
    checks = Checks()
    with Server() as server:
        answers = {subject: ask(server, subject) for subject in SUBJECTS}
        check_tenant = json.loads(server.run("key", "list", "--json"))[0]["tenant"]
        checks.equal("the tenant of the local key", check_tenant, "local")
        backups = server.folder / "backups"
        checks.equal("data", server.start("backup", "data", str(backups / "data")).returncode, 0)
        checks.equal("keys", server.start("backup", "keys", str(backups / "keys")).returncode, 0)
        checks.true("listed", str(backups / "keys") in server.run("backup", "list"))
        n_before = n_keys(server)
        check_refusals(server, checks)
        check_erasure(server, checks, backups / "keys")
        checks.true("others go on", ask(server, "bert")[1])
        stop(server)
        check_bundles(server, checks, answers)
        names = [path for path in (server.folder / "data").rglob("*")
                 if path.is_file() and b"anna" in path.read_bytes()]
        checks.equal("files that have the name", names, [])
        check_restore(server, checks, backups, n_before)
    return checks.end()


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
