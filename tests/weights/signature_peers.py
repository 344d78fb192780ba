#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Our signatures and those of other programs, each read by the others: the package model-signing,
npm @sigstore/verify where Node is there, openssl with the commands of docs/signatures.md. What one
of them accepts all accept, and a changed bit is refused by all. Installs requirements.txt and
package.json of this folder below build/; a package that cannot be installed is a failure.
"""
import base64
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import venv

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"
ETALON = pathlib.Path(os.environ["ETALON_BINARY"]).resolve()
MUTATIONS = 40
SHARD_BYTES = 65536

# Runs in the environment of model-signing: verdict or signature by its Python interface, which
# knows shards; its command line does not.
THEIRS = """
import sys
import model_signing
what, model, signature, key, shard_bytes = sys.argv[1:]
hashing = model_signing.hashing.Config()
if int(shard_bytes):
    hashing.use_shard_serialization(shard_size=int(shard_bytes))
hashing.set_ignored_paths(paths=["model.sig"])
if what == "sign":
    config = model_signing.signing.Config().use_elliptic_key_signer(private_key=key)
    config.set_hashing_config(hashing).sign(model, signature)
else:
    config = model_signing.verifying.Config().use_elliptic_key_verifier(public_key=key)
    # It writes the size of its own shards as 65536.0 and does not find them by that (1.1.1).
    if int(shard_bytes):
        config.set_hashing_config(hashing)
    config.verify(model, signature)
"""


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=False, timeout=600, **options)


def python_of_peer():
    folder = BUILD / "sign-venv"
    requirements = HERE / "requirements.txt"
    stamp = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not (folder / "stamp").is_file() or (folder / "stamp").read_text() != stamp:
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--only-binary", ":all:", "-r", requirements], check=True)
        (folder / "stamp").write_text(stamp)
    return python


def npm_folder():
    """Where @sigstore/verify lies; None where there is no Node."""
    if not shutil.which("node") or not shutil.which("npm"):
        return None
    folder = BUILD / "sign-npm"
    text = (HERE / "package.json").read_text()
    if not (folder / "stamp").is_file() or (folder / "stamp").read_text() != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(text)
        subprocess.run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund",
                        "--silent"], cwd=folder, check=True)
        (folder / "stamp").write_text(text)
    return folder


class Peers:
    """Verdicts of all programs; each case is counted."""

    def __init__(self, folder):
        self.folder = folder
        self.passed = self.failed = self.skipped = 0
        self.python = python_of_peer()
        self.npm = npm_folder()
        self.script = folder / "theirs.py"
        self.script.write_text(THEIRS)

    def expect(self, what, good, detail=""):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print(f"{what}: {detail.strip()[-600:]}")

    def skip(self, what, why):
        self.skipped += 1
        print(f"not run: {what}: {why}")

    def etalon(self, *arguments):
        return run(ETALON, *arguments, env={**os.environ, "XDG_CONFIG_HOME": str(self.folder)})

    def ours(self, model, signature, key):
        done = self.etalon("verify", model, "--signature", signature, "--public-key", key)
        assert done.returncode in (0, 5), done.stderr
        return done.returncode == 0, done.stderr

    def theirs(self, model, signature, key, shard_bytes):
        done = run(self.python, self.script, "verify", model, signature, key, shard_bytes)
        return done.returncode == 0, done.stderr

    def sign_theirs(self, model, signature, key, shard_bytes):
        done = run(self.python, self.script, "sign", model, signature, key, shard_bytes)
        assert done.returncode == 0, done.stderr

    def node(self, signature, key):
        done = run("node", HERE / "verify_bundle.mjs", self.npm, signature, key)
        return done.returncode == 0, done.stderr


def make_models(folder):
    """A file of several shards and a folder with a folder below."""
    numbers = random.Random(1)
    one = folder / "one.gguf"
    one.write_bytes(numbers.randbytes(5 * SHARD_BYTES + 17))
    many = folder / "many"
    (many / "sub").mkdir(parents=True)
    (many / "config.json").write_text('{"dim": 64}\n')
    (many / "model.safetensors").write_bytes(numbers.randbytes(2 * SHARD_BYTES))
    # Sorted by parts of the path or by characters, these two change places.
    (many / "sub" / "a").write_text("a\n")
    (many / "sub-b").write_text("b\n")
    return one, many


def files_of(model):
    return [path for path in sorted(model.rglob("*")) if path.is_file()
            and path.name != "model.sig"] if model.is_dir() else [model]


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    path.write_bytes(content)


def check_model_changes(peers, name, model, verdicts):
    """Every program refuses a flipped bit of each file, a file too many and a file too few."""
    for path in files_of(model):
        whole = path.read_bytes()
        flip(path, 8 * (len(whole) * 2 // 3) + 5)
        for who, verdict in verdicts.items():
            peers.expect(f"{name}: {who} and a bit of {path.name}", not verdict()[0], "accepted")
        path.write_bytes(whole)
    if model.is_dir():
        (model / "extra").write_text("x")
        for who, verdict in verdicts.items():
            peers.expect(f"{name}: {who} and a file too many", not verdict()[0], "accepted")
        (model / "extra").unlink()
        (model / "sub" / "a").unlink()
        for who, verdict in verdicts.items():
            peers.expect(f"{name}: {who} and a file too few", not verdict()[0], "accepted")
        (model / "sub" / "a").write_text("a\n")
    for who, verdict in verdicts.items():
        good, detail = verdict()
        peers.expect(f"{name}: {who} and the whole model", good, detail)


def check_forms(peers, model, key):
    """Both directions, whole files and shards."""
    public = key.with_suffix(".pem.pub")
    for by in ("ours", "theirs"):
        for whole in (False, True):
            signature = peers.folder / f"{model.name}.{by}.{whole}.sig"
            shard_bytes = SHARD_BYTES if by == "theirs" and not whole else 0
            if by == "ours":
                done = peers.etalon("sign", model, "--key", key, "--signature", signature,
                                    *(["--whole-files"] if whole else []))
                assert done.returncode == 0, done.stderr
            else:
                peers.sign_theirs(model, signature, key, shard_bytes)
            verdicts = {
                "etalon": lambda s=signature: peers.ours(model, s, public),
                "model_signing": lambda s=signature, n=shard_bytes:
                    peers.theirs(model, s, public, n)}
            if whole:
                verdicts["model_signing verify key"] = lambda s=signature: command_line(
                    peers, model, s, public)
            name = f"{model.name} signed by {by}, {'files' if whole else 'shards'}"
            check_model_changes(peers, name, model, verdicts)
            yield signature


def command_line(peers, model, signature, public):
    done = run(peers.python.parent / "model_signing", "verify", "key", model, "--signature",
               signature, "--public_key", public)
    return done.returncode == 0, done.stdout + done.stderr


def check_bundles(peers, signatures, public, other, model_of):
    """Verdicts on bundles alone: whole, with another key, and mutated."""
    numbers = random.Random(2)
    for signature in signatures:
        model = model_of[signature]
        judges = {"etalon": lambda s, k, m=model: peers.ours(m, s, k)}
        if peers.npm:
            judges["@sigstore/verify"] = peers.node
        for who, judge in judges.items():
            good, detail = judge(signature, public)
            peers.expect(f"{signature.name}: {who}", good, detail)
            peers.expect(f"{signature.name}: {who}, another key", not judge(signature, other)[0],
                         "accepted")
    if not peers.npm:
        peers.skip("@sigstore/verify", "there is no node with npm on this machine")
    for number in range(MUTATIONS):
        signature = signatures[number % len(signatures)]
        bundle = json.loads(signature.read_text())
        envelope = bundle["dsseEnvelope"]
        field = (envelope, "payload") if number % 2 else (envelope["signatures"][0], "sig")
        content = bytearray(base64.b64decode(field[0][field[1]]))
        bit = numbers.randrange(8 * len(content))
        content[bit // 8] ^= 1 << bit % 8
        field[0][field[1]] = base64.b64encode(content).decode()
        changed = peers.folder / "changed.sig"
        changed.write_text(json.dumps(bundle))
        for who, judge in (("etalon", lambda s, k: peers.ours(model_of[signature], s, k)),
                           *((("@sigstore/verify", peers.node),) if peers.npm else ())):
            peers.expect(f"{signature.name}: {who}, bit {bit} of {field[1]}",
                         not judge(changed, public)[0], "accepted")


def check_openssl(peers, signature, public, model):
    """The commands of docs/signatures.md, as they stand there."""
    if not all(shutil.which(tool) for tool in ("openssl", "jq", "bash")):
        peers.skip("the commands of docs/signatures.md", "needs openssl, jq and bash")
        return
    page = (HERE.parents[1] / "docs" / "signatures.md").read_text()
    begin = page.index("```", page.index("<!-- openssl -->"))
    script = page[page.index("\n", begin) + 1:page.index("```", begin + 3)]
    environment = {**os.environ, "SIG": str(signature), "KEY": str(public), "MODEL": str(model)}
    with tempfile.TemporaryDirectory() as folder:
        done = run("bash", "-euc", script, cwd=folder, env=environment)
        peers.expect("openssl: the signature fits", done.returncode == 0
                     and "Verified OK" in done.stdout, done.stdout + done.stderr)
        peers.expect("sha256sum: the model fits", done.stdout.count(": OK") == len(files_of(model)),
                     done.stdout + done.stderr)
    flip(model / "config.json", 3)
    with tempfile.TemporaryDirectory() as folder:
        done = run("bash", "-euc", script, cwd=folder, env=environment)
        peers.expect("sha256sum: a changed model", done.returncode != 0
                     and "config.json: FAILED" in done.stdout, done.stdout + done.stderr)
    flip(model / "config.json", 3)


def check_p384(peers, model):
    """A key that our program does not make, in a signature that it reads."""
    private, public = peers.folder / "p384.pem", peers.folder / "p384.pub"
    for command in (["openssl", "ecparam", "-name", "secp384r1", "-genkey", "-noout", "-out",
                     private], ["openssl", "ec", "-in", private, "-pubout", "-out", public]):
        subprocess.run(command, check=True, capture_output=True)
    signature = peers.folder / "p384.sig"
    peers.sign_theirs(model, signature, private, 0)
    good, detail = peers.ours(model, signature, public)
    peers.expect("P-384, signed by theirs", good, detail)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        peers = Peers(folder)
        key, other = folder / "mine.pem", folder / "other.pem"
        for one in (key, other):
            done = peers.etalon("sign", "--new-key", one)
            assert done.returncode == 0, done.stderr
        public, others = (path.with_suffix(".pem.pub") for path in (key, other))
        model_of = {}
        for model in make_models(folder):
            for signature in check_forms(peers, model, key):
                model_of[signature] = model
        check_bundles(peers, list(model_of), public, others, model_of)
        check_openssl(peers, folder / "many.ours.True.sig", public, folder / "many")
        check_p384(peers, folder / "many")
    skipped = f", {peers.skipped} skipped" if peers.skipped else ""
    print(f"{peers.passed} passed, {peers.failed} failed{skipped}")
    return 1 if peers.failed or not peers.passed else 0


if __name__ == "__main__":
    sys.exit(main())
