# SPDX-License-Identifier: Apache-2.0
"""A bundle in the hands of somebody who has keys and repairs what he can, for mutations.py."""
import base64
import hashlib
import json
import re
import struct
import subprocess
import tempfile

WIDTH = 256
# In front of the 32 bytes of a private Ed25519 key in DER.
KEY_HEAD = bytes.fromhex("302e020100300506032b657004220420")


class Key:
    """A private key in the form of golang.org/x/mod/sumdb/note; openssl signs."""

    def __init__(self, text, folder):
        _, _, self.name, key_id, data = text.split("+", 4)
        self.id = bytes.fromhex(key_id)
        seed = base64.b64decode(data)
        self.kind = seed[0]
        self.pem = folder / f"{self.name.replace('/', '_')}.pem"
        body = base64.b64encode(KEY_HEAD + seed[1:]).decode()
        self.pem.write_text(f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n")

    def line(self, text, name=None, key_id=None):
        """A line of signature over the text of a note."""
        time = struct.pack(">Q", 1790000001) if self.kind == 4 else b""
        if self.kind == 4:
            text = b"cosignature/v1\ntime 1790000001\n" + text
        with tempfile.NamedTemporaryFile(dir=self.pem.parent) as file:
            file.write(text)
            file.flush()
            done = subprocess.run(["openssl", "pkeyutl", "-sign", "-rawin", "-inkey", self.pem,
                                   "-in", file.name], capture_output=True, check=True)
        data = (key_id or self.id) + time + done.stdout
        return f"\u2014 {name or self.name} {base64.b64encode(data).decode()}\n".encode()


def canonical(record):
    return json.dumps(record, separators=(",", ":"), sort_keys=True).encode()


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def root_of(leaves):
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256()
    k = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\1", root_of(leaves[:k]), root_of(leaves[k:]))


def entries_of(data):
    found = []
    while data:
        size = struct.unpack(">H", data[:2])[0]
        found.append(data[2:2 + size])
        data = data[2 + size:]
    return found


def entries_bytes(entries):
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


class Bundle:
    """The files of a bundle in memory; what an attacker does to them, and repairs."""

    def __init__(self, files, keys, numbers):
        self.files = dict(files)
        self.keys = keys
        self.numbers = numbers
        self.links = {}

    def pick(self, start, *more):
        paths = [path for path in sorted(self.files)
                 if any(path.startswith(one) for one in (start, *more))]
        return self.numbers.choice(paths)

    def flip(self, path):
        content = bytearray(self.files[path])
        content[self.numbers.randrange(len(content))] ^= 1 << self.numbers.randrange(8)
        self.files[path] = bytes(content)

    def note(self, path):
        """Text and lines of signature."""
        at = self.files[path].rindex(b"\n\n") + 1
        return self.files[path][:at], self.files[path][at + 1:].splitlines(keepends=True)

    def sign(self, path, text, key="log", others=()):
        self.files[path] = text + b"\n" + self.keys[key].line(text) + b"".join(others)

    def repair(self, change=None):
        """MANIFEST with the hashes of what is there, signed by the log's key."""
        head = self.note("MANIFEST")[0].splitlines(keepends=True)[:5]
        lines = [f"file {hashlib.sha256(data).hexdigest()} {len(data)} {path}\n".encode()
                 for path, data in sorted(self.files.items()) if path != "MANIFEST"]
        lines = change(head + lines) if change else head + lines
        self.sign("MANIFEST", b"".join(lines))

    def tiles(self):
        return sorted((path for path in self.files if path.startswith("log/tile/0/")),
                      key=lambda path: path.split(".p")[0])

    def leaves(self):
        data = b"".join(self.files[path] for path in self.tiles())
        return [data[i:i + 32] for i in range(0, len(data), 32)]

    def set_leaves(self, leaves):
        for i, path in enumerate(self.tiles()):
            self.files[path] = b"".join(leaves[i * WIDTH:(i + 1) * WIDTH])

    def change_records(self, change):
        """`change(entries)` of one bundle of entries; returns the path and its first index."""
        path = self.pick("log/tile/entries/")
        entries = entries_of(self.files[path])
        change(entries)
        self.files[path] = entries_bytes(entries)
        first = int(path.split("/")[3].split(".")[0]) * WIDTH
        return first, entries

    def change_record(self, lowest=0):
        """Another value in one record, which stays canonical; returns its index and bytes."""
        at = {}

        def change(entries):
            while True:
                i = self.numbers.randrange(len(entries))
                record = json.loads(entries[i])
                if record["seq"] >= lowest:
                    break
            name = self.numbers.choice([one for one in record if one not in ("kind", "seq", "v")])
            value = record[name]
            if isinstance(value, int):
                record[name] = value + 1
            elif isinstance(value, str) and re.fullmatch("[0-9a-f]{32,64}", value):
                record[name] = hashlib.sha256(value.encode()).hexdigest()[:len(value)]
            elif isinstance(value, str):
                record[name] = value + "x"
            elif isinstance(value, list) and not value:
                value.append("x")
            elif isinstance(value, list) and isinstance(value[0], dict):
                number = next(one for one in value[0] if isinstance(value[0][one], int))
                value[0][number] += 1
            elif isinstance(value, list):
                value[0] = hashlib.sha256(value[0].encode()).hexdigest()[:len(value[0])]
            else:
                value["bytes"] += 1
            entries[i] = canonical(record)
            at["index"], at["entry"] = record["seq"], entries[i]

        self.change_records(change)
        return at["index"], at["entry"]

    def fork(self, index, leaf, cosigners=(), kept=()):
        """The whole tree anew over another leaf, with a checkpoint that the log's key signs."""
        leaves = self.leaves()
        leaves[index] = leaf
        self.set_leaves(leaves)
        origin = self.note("log/checkpoint")[0].split(b"\n")[0]
        text = b"%s\n%d\n%s\n" % (origin, len(leaves), base64.b64encode(root_of(leaves)))
        self.sign("log/checkpoint", text, others=[
            *(self.keys[name].line(text) for name in cosigners), *kept])
        self.repair()
