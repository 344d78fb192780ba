#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One bundle of a real ledger and hundreds of changes to it, by somebody who has the log's key and
repairs what he can. Given a policy with witnesses and a checkpoint that the auditor holds, etalon,
verify/go and verify/node refuse every change at the same step, and accept the bundle.

usage: mutations.py MAKE_BUNDLES     60 changes; with ETALON_SLOW=1 all 500
"""
import base64
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

from attacker import WIDTH, Bundle, Key, canonical, entries_of, sha256
from bad_records import BAD_VALUES, bad_value

ROOT = pathlib.Path(__file__).resolve().parents[2]
ETALON = str(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())
N_CHANGES = 500 if os.environ.get("ETALON_SLOW") else 60
N_RECEIPTS = N_CHANGES // 5
SEED = 1
REFUSED = 5
MODEL = "a" * 64  # as make_bundles names it


# --- the changes: each takes a Bundle that it changes and what else there is ---

def byte(bundle, _):
    bundle.flip(bundle.pick(""))


def byte_repaired(bundle, _):
    # README.md, policy.txt and what is told of models and sandbox are the exporter's word and
    # nothing more; a stamp is signed by its authority, which openssl knows.
    bundle.flip(bundle.pick("log/", "payloads/", "auditors/"))
    bundle.repair()


def record_changed(bundle, _):
    index, entry = bundle.change_record()
    if bundle.numbers.random() < 0.5:
        leaves = bundle.leaves()
        leaves[index] = sha256(b"\0", entry)
        bundle.set_leaves(leaves)
    bundle.repair()


def record_count(bundle, _):
    def change(entries):
        i = bundle.numbers.randrange(len(entries))
        what = bundle.numbers.randrange(3)
        if what == 0:
            del entries[i]
        elif what == 1:
            entries.insert(i, entries[i])
        else:
            entries.append(entries[i])
    bundle.change_records(change)
    bundle.repair()


def line_of_manifest(bundle, _):
    def change(lines):
        i = bundle.numbers.randrange(len(lines))
        what = bundle.numbers.randrange(3)
        if what == 0:
            return lines[:i] + lines[i + 1:]
        if what == 1:
            return lines[:i] + [lines[i]] + lines[i:]
        at = bundle.numbers.randrange(len(lines[i]) - 1)
        other = bytes([lines[i][at] ^ 1])
        # The time of the export is the exporter's word: only its form is looked at.
        if lines[i].startswith(b"made") and at > 4:
            return lines + [b"\n"]
        return lines[:i] + [lines[i][:at] + other + lines[i][at + 1:]] + lines[i + 1:]
    bundle.repair(change)


def line_of_checkpoint(bundle, _):
    text, signatures = bundle.note("log/checkpoint")
    lines = text.splitlines(keepends=True)
    what = bundle.numbers.randrange(5)
    if what < 3:  # the log signs another text, the witnesses' lines stay
        if what == 0:
            lines[1] = b"%d\n" % (int(lines[1]) + bundle.numbers.choice([-1, 1, 256]))
        elif what == 1:
            lines[2] = base64.b64encode(bundle.numbers.randbytes(32)) + b"\n"
        else:
            lines.append(b"extension\n")
        bundle.sign("log/checkpoint", b"".join(lines), others=signatures[1:])
    else:
        i = bundle.numbers.randrange(len(signatures))
        signatures[i:i + 1] = [] if what == 3 else [signatures[i]] * 2
        bundle.files["log/checkpoint"] = text + b"\n" + b"".join(signatures)
    bundle.repair()


def file_gone(bundle, _):
    is_repaired = bundle.numbers.random() < 0.6
    # Behind a new MANIFEST a certificate, or both halves of a payload, may be missing.
    path = bundle.pick(*(["log/", "payloads/", "README", "policy", "sandbox", "stamps/",
                          f"models/{MODEL}/bom"] if is_repaired else [""]))
    del bundle.files[path]
    if is_repaired:
        bundle.repair()


def file_added(bundle, _):
    path = bundle.numbers.choice(["notes.txt", "log/tile/1/000", "log/checkpoint.old",
                                  "payloads/0.bin", "payloads/notes", "auditors/me.pem",
                                  "log/tile/0/999", "log/tile/entries/000.p/7", "-x", ".hidden"])
    bundle.files[path] = bundle.files[bundle.pick("log/", "payloads/")]
    if bundle.numbers.random() < 0.6:
        bundle.repair()


def file_exchanged(bundle, _):
    what = bundle.numbers.randrange(3)
    one, two = bundle.pick("payloads/"), bundle.pick("log/tile/")
    if what == 0:  # the same name, another content
        bundle.files[one], bundle.files[two] = bundle.files[two], bundle.files[one]
    elif what == 1:  # the same content, another name
        bundle.files[bundle.numbers.choice([one, two]) + "x"] = bundle.files.pop(two)
    else:
        bundle.links[one] = "../" * one.count("/") + two
    if what != 2 and bundle.numbers.random() < 0.7:
        bundle.repair()


def evidence(bundle, world):
    """Of models and time: missing, of another model, of other records, of no model of the range."""
    what = bundle.numbers.randrange(9)
    bom, stamp = f"models/{MODEL}/bom.cdx.json", bundle.pick("stamps/").rsplit(".", 1)[0]
    held = world["held note"]
    if what == 0:
        del bundle.files[bundle.numbers.choice([bom, "sandbox.json", stamp + ".tsr",
                                                stamp + ".checkpoint"])]
    elif what == 1:
        bundle.files[bom] = bundle.files[bom].replace(b"a" * 64, b"b" * 64)
    elif what == 2:
        other = "b" * 64
        bundle.files[f"models/{other}/bom.cdx.json"] = other.encode()
    elif what == 3:
        name = bundle.numbers.choice(["notes", "bom.json", "x.sig"])
        bundle.files[f"models/{MODEL}/{name}"] = b"x"
    elif what == 4:  # the stamp of another checkpoint
        bundle.files[stamp + ".checkpoint"] = held
    elif what == 5:
        bundle.files[stamp + ".tsr"] = b"stamp" + sha256(held)
    elif what == 6:  # an honest checkpoint under another size, with its own digest
        size = bundle.numbers.choice(["0", "1", f"0{world['held']}", f"{world['held'] + 1}",
                                      "999999", "9" * 30])
        bundle.files[f"stamps/{size}.checkpoint"] = held
        bundle.files[f"stamps/{size}.tsr"] = b"stamp" + sha256(held)
    elif what == 7:  # of another history
        text, _ = bundle.note("log/checkpoint")
        lines = text.splitlines(keepends=True)
        lines[2] = base64.b64encode(bundle.numbers.randbytes(32)) + b"\n"
        note = b"".join(lines) + b"\n" + bundle.keys["log"].line(b"".join(lines))
        bundle.files[stamp + ".checkpoint"] = note
        bundle.files[stamp + ".tsr"] = b"stamp" + sha256(note)
    else:
        name = bundle.numbers.choice(["stamps/notes", "stamps/x.tsr", "stamps/1.tsr.old",
                                      "stamps/1/1.tsr", "sandbox.json.old", "models/bom.cdx.json"])
        bundle.files[name] = bundle.files[stamp + ".tsr"]
    bundle.repair()


def order_of_records(bundle, _):
    at = []

    def change(entries):
        one, two = bundle.numbers.sample(range(len(entries)), 2)
        entries[one], entries[two] = entries[two], entries[one]
        at.extend([one, two])
    first, entries = bundle.change_records(change)
    if bundle.numbers.random() < 0.5:
        leaves = bundle.leaves()
        for i in at:
            leaves[first + i] = sha256(b"\0", entries[i])
        bundle.set_leaves(leaves)
    bundle.repair()


def order_of_lines(bundle, _):
    def change(lines):
        one, two = bundle.numbers.sample(range(len(lines)), 2)
        lines[one], lines[two] = lines[two], lines[one]
        return lines
    bundle.repair(change)


def truncation(bundle, _):
    path = bundle.pick("log/", "payloads/", "auditors/", "MANIFEST")
    bundle.files[path] = bundle.files[path][:bundle.numbers.randrange(len(bundle.files[path]))]
    if path != "MANIFEST" and bundle.numbers.random() < 0.6:
        bundle.repair()


def fork(bundle, world):
    """Behind what the auditor holds, so that the witnesses alone can tell."""
    index, entry = bundle.change_record(lowest=world["held"])
    _, signatures = bundle.note("log/checkpoint")
    what = bundle.numbers.randrange(4)
    if what == 0:
        bundle.fork(index, sha256(b"\0", entry))
    elif what == 1:
        bundle.fork(index, sha256(b"\0", entry), kept=signatures[1:])
    elif what == 2:
        bundle.fork(index, sha256(b"\0", entry), cosigners=["court"])
    else:  # a key of the attacker's own under the name of a witness
        bundle.fork(index, sha256(b"\0", entry), cosigners=["court"],
                    kept=[bundle.keys["stranger"].line(b"x", name="audit.example/w")])


def fork_with_witnesses(bundle, world):
    """Before what the auditor holds, with the keys of the witnesses too."""
    index = bundle.numbers.randrange(world["held"])
    first = min(int(path.split("/")[3].split(".")[0]) for path in bundle.files
                if path.startswith("log/tile/entries/")) * WIDTH
    leaf = bundle.numbers.randbytes(32)
    if index >= first:  # its record is in the bundle
        index, entry = bundle.change_record()
        if index >= world["held"]:
            index = bundle.numbers.randrange(first)
        else:
            leaf = sha256(b"\0", entry)
    bundle.fork(index, leaf, cosigners=["court", "audit"])


def bad_record(bundle, world):
    """A record that breaks a rule of docs/ledger.md, logged and witnessed like any other."""
    erased = [json.loads(entry)["subject"] for path in bundle.files
              if path.startswith("log/tile/entries/")
              for entry in entries_of(bundle.files[path]) if b'"kind":"erase"' in entry]
    at = {}

    def change(entries):
        records = [json.loads(entry) for entry in entries]
        new = [i for i, record in enumerate(records) if record["seq"] >= world["held"]]
        answers = [i for i in new if records[i]["kind"] in ("intent", "complete")]
        others = [i for i in new if records[i]["kind"] in BAD_VALUES]
        i = bundle.numbers.choice(others if others and bundle.numbers.random() < 0.5 else answers)
        record = records[i]
        at["index"] = i
        if record["kind"] in BAD_VALUES:
            bad_value(record, bundle.numbers)
            at["entry"] = entries[i] = canonical(record)
            return
        is_intent = record["kind"] == "intent"
        what = bundle.numbers.randrange(8)
        name, value = [("v", 2), ("seq", record["seq"] + 1), ("time_us", 0), ("extra", 1),
                       ("boot", record["seq"]), ("request", record["request"].upper() + "0"),
                       ("load", record["seq"]) if is_intent else ("request", "0" * 32),
                       ("subjects", erased) if is_intent else ("intent", record["boot"])][what]
        record[name] = value
        entries[i] = canonical(record)
        if what == 3 and bundle.numbers.random() < 0.5:  # the same values, a space more
            del record[name]
            entries[i] = json.dumps(record, separators=(",", ": "), sort_keys=True).encode()
        at["entry"] = entries[i]
    first, _ = bundle.change_records(change)
    bundle.fork(first + at["index"], sha256(b"\0", at["entry"]), cosigners=["court", "audit"])


def old_checkpoint(bundle, world):
    what = bundle.numbers.randrange(4)
    old = world["old"]
    if what == 0:  # an old bundle, all of it true when it was written
        bundle.files = dict(old)
        payload = bundle.pick("payloads/").rsplit(".", 1)[0]
        del bundle.files[payload + ".bin"], bundle.files[payload + ".cms"]
    elif what == 1:  # the old checkpoint beside the new log
        bundle.files["log/checkpoint"] = old["log/checkpoint"]
    elif what == 2:  # the old witnesses below the new checkpoint
        text, _ = bundle.note("log/checkpoint")
        before = old["log/checkpoint"].splitlines(keepends=True)[-2:]
        bundle.sign("log/checkpoint", text, others=before)
    else:
        bundle.files["log/checkpoint"] = world["held note"]
    head = old if what == 0 or bundle.numbers.random() < 0.3 else None
    if head:
        bundle.files["MANIFEST"] = old["MANIFEST"]
    bundle.repair()


def another_key(bundle, _):
    stranger = bundle.keys["stranger"]
    name, key_id = bundle.keys["log"].name, bundle.keys["log"].id
    for path in ("log/checkpoint", "MANIFEST"):
        text, signatures = bundle.note(path)
        if path == "MANIFEST":
            bundle.repair()
            text, signatures = bundle.note(path)
        elif bundle.numbers.random() < 0.5:
            continue
        own = bundle.numbers.random() < 0.5  # the id of the log's key, or the stranger's own
        line = stranger.line(text, name=name, key_id=key_id if own else None)
        bundle.files[path] = text + b"\n" + line + b"".join(signatures[1:])


CHANGES = [byte, byte_repaired, record_changed, record_count, line_of_manifest, line_of_checkpoint,
           file_gone, file_added, file_exchanged, evidence, order_of_records, order_of_lines,
           truncation, fork, fork_with_witnesses, bad_record, old_checkpoint, another_key]


# --- the verifiers ---

def build_go():
    program = ROOT / "build" / "verify-go"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "",
                   "GOPROXY": "off", "GOCACHE": str(ROOT / "build" / "go-cache")}
    subprocess.run(["go", "build", "-o", program, "."], cwd=ROOT / "verify" / "go", check=True,
                   env=environment)
    return str(program)


def verdict(command):
    """(accepted, what refused it). A crash is neither."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode == 0:
        return True, ""
    if done.returncode != REFUSED:
        raise RuntimeError(f"{command}: exit status {done.returncode}: {done.stderr[-600:]}")
    return False, done.stderr.strip().splitlines()[0]


def step_of(why):
    found = re.search(r"\bstep (\d+):", why)
    return found.group(1) if found else "none"


class World:
    def __init__(self, folder, make_bundles):
        self.folder = folder
        subprocess.run([make_bundles, folder], check=True, stdout=subprocess.DEVNULL)
        self.policy, self.held = folder / "policy", folder / "held"
        go, node = build_go(), ["node", str(ROOT / "verify" / "node" / "verify.mjs")]
        self.judges = {"etalon": [ETALON, "audit", "verify"], "go": [go], "node": node}
        self.readers = {"etalon": [ETALON, "ledger", "receipt"], "go": [go, "receipt"],
                        "node": [*node, "receipt"]}
        lines = (folder / "keys").read_text().splitlines()
        names = ("log", "court", "audit", "press")
        self.keys = {name: Key(line, folder) for name, line in zip(names, lines)}
        stranger = hashlib.sha256(b"stranger").digest()
        self.keys["stranger"] = Key("PRIVATE+KEY+stranger.example+01020304+" + base64.b64encode(
            b"\1" + stranger).decode(), folder)
        self.files = self.read("bundle")
        self.known = {"old": self.read("old"), "held note": self.held.read_bytes(),
                      "held": int(self.held.read_text().splitlines()[1])}

    def read(self, name):
        return {str(path.relative_to(self.folder / name)): path.read_bytes()
                for path in (self.folder / name).rglob("*") if path.is_file()}

    def judge(self, bundle):
        checkpoint = {"etalon": "--held", "go": "--checkpoint", "node": "--checkpoint"}
        return {who: verdict([*command, str(bundle), "--policy", str(self.policy),
                              checkpoint[who], str(self.held)])
                for who, command in self.judges.items()}

    def mutant(self, number):
        """(kind, verdicts) of one change, which its number gives."""
        change = CHANGES[number % len(CHANGES)]
        numbers = random.Random(SEED * 1000003 + number)
        bundle = Bundle(self.files, self.keys, numbers)
        while bundle.files == self.files and not bundle.links:
            change(bundle, self.known)
        folder = self.folder / f"mutant-{number}"
        for path, data in bundle.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if path in bundle.links:
                file.symlink_to(bundle.links[path])
            elif data == self.files.get(path):
                os.link(self.folder / "bundle" / path, file)
            else:
                file.write_bytes(data)
        verdicts = self.judge(folder)
        shutil.rmtree(folder)
        return change.__name__, verdicts

    def receipt(self, number):
        """(kind, verdicts) of a receipt with a character of a record, a proof or a key changed."""
        numbers = random.Random(SEED * 1000003 + number)
        receipt = json.loads((self.folder / "receipt.json").read_text())
        parts = receipt["parts"]
        part = numbers.choice(parts)
        what = numbers.randrange(8)
        if what == 0:
            parts.remove(part)
        elif what == 1:
            parts.insert(0, parts.pop())
        elif what == 2:
            part["complete"], part["complete_proof"] = part["intent"], part["intent_proof"]
        elif what == 3:
            part["intent_proof"] = part["complete_proof"]
        else:
            name = numbers.choice([one for one in part if one != "id"])
            at = numbers.randrange(len(part[name]))
            part[name] = part[name][:at] + chr(ord(part[name][at]) ^ 1) + part[name][at + 1:]
        file = self.folder / f"receipt-{number}"
        file.write_text(json.dumps(receipt))
        return "receipt", self.judge_receipt(file)

    def judge_receipt(self, file):
        return {who: verdict([*command, str(file), "--policy", str(self.folder / "receipt.policy"),
                              "--body", str(self.folder / "body")])
                for who, command in self.readers.items()}


def check_by_hand(world):
    """The commands of docs/verify.md, as they stand there: title, whether it went right, output."""
    page = (ROOT / "docs" / "verify.md").read_text(encoding="utf-8")
    begin = page.index("```", page.index("<!-- by hand -->"))
    script = page[page.index("\n", begin) + 1:page.index("```", begin + 3)]
    bundle = world.folder / "by-hand"
    shutil.copytree(world.folder / "bundle", bundle)
    for title, path, code in (("by hand", None, 0), ("by hand, a payload", "payloads", 1),
                              ("by hand, MANIFEST", "MANIFEST", 1)):
        file = bundle / path if path else None
        file = next(file.iterdir()) if file and file.is_dir() else file
        if file:
            whole = file.read_bytes()
            # The first byte of MANIFEST belongs to what is signed and to no hash.
            file.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(["bash", "-euc", script], cwd=folder, check=False,
                                  capture_output=True, text=True, env={
                                      **os.environ, "BUNDLE": str(bundle),
                                      "POLICY": str(world.policy)})
        yield title, done.returncode == code, done.stdout + done.stderr
        if file:
            file.write_bytes(whole)


def main():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory, prefix="etalon-verify-") as name, \
            concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        world = World(pathlib.Path(name), sys.argv[1])
        passed = failed = 0
        whole = {**{f"bundle, {who}": one for who, one in
                    world.judge(world.folder / "bundle").items()},
                 **{f"receipt, {who}": one for who, one in
                    world.judge_receipt(world.folder / "receipt.json").items()}}
        for what, (accepted, why) in whole.items():
            passed, failed = passed + accepted, failed + (not accepted)
            if not accepted:
                print(f"{what}: refused: {why}")
        for what, good, why in check_by_hand(world):
            passed, failed = passed + good, failed + (not good)
            if not good:
                print(f"{what}: {why}")
        counts = {change.__name__: 0 for change in CHANGES}
        counts["receipt"] = 0
        for number, (kind, verdicts) in enumerate(
                [*pool.map(world.mutant, range(N_CHANGES)),
                 *pool.map(world.receipt, range(N_RECEIPTS))]):
            steps = {step_of(why) for _, why in verdicts.values()}
            good = not any(accepted for accepted, _ in verdicts.values())
            good = good and (kind == "receipt" or len(steps) == 1)
            counts[kind] += good
            passed, failed = passed + good, failed + (not good)
            if not good:
                print(f"{kind} {number}: {verdicts}")
    for kind, count in counts.items():
        print(f"{kind:20} {count} refused by all")
        failed += count == 0
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
