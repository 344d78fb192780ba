#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keys that stay in a token (SoftHSM): a model is signed and payloads are opened by them, and what
is wrong with a token is said without its PIN."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "serve"))
from served import Checks  # noqa: E402

PIN = "84263517"
TOKEN = "etalon-test"


class Place:
    def __init__(self, folder):
        self.folder = folder
        self.etalon = str(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
        self.environment |= {"XDG_DATA_HOME": str(folder / "data"),
                             "XDG_CONFIG_HOME": str(folder / "config"),
                             "SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
        (folder / "tokens").mkdir()
        (folder / "softhsm2.conf").write_text(
            f"directories.tokendir = {folder}/tokens\nobjectstore.backend = file\n")
        (folder / "pin").write_text(PIN)
        self.tool("softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--so-pin",
                  "12345678", "--pin", PIN)

    def tool(self, *command):
        done = subprocess.run(command, env=self.environment, cwd=self.folder, check=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return done.stdout

    def run(self, *arguments, **environment):
        return subprocess.run([self.etalon, *arguments], env=self.environment | environment,
                              cwd=self.folder, check=False, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def key(self, name, *algorithm):
        """Makes a pair of keys and a certificate NAME.pem; the key is then in the token alone."""
        self.tool("openssl", "req", "-x509", *algorithm, "-nodes", "-keyout", f"{name}.key",
                  "-out", f"{name}.pem", "-days", "30", "-subj", f"/CN={name}")
        self.tool("openssl", "x509", "-in", f"{name}.pem", "-pubkey", "-noout", "-out",
                  f"{name}.pub")
        number = f"{len(list(self.folder.glob('*.pub'))):02x}"
        self.tool("softhsm2-util", "--import", f"{name}.key", "--token", TOKEN, "--label", name,
                  "--id", number, "--pin", PIN)
        (self.folder / f"{name}.key").unlink()

    def uri(self, name, pin="pin-source=pin", token=TOKEN):
        return f"pkcs11:token={token};object={name}?{pin}"


P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("-newkey", "rsa:2048")


def check_signature(place, checks):
    model = place.folder / "model.gguf"
    shutil.copyfile(os.environ["ETALON_TEST_MODEL"], model)
    place.key("signer", *P256)
    signed = place.run("sign", "model.gguf", "--key", place.uri("signer"))
    checks.equal("sign: " + signed.stderr, signed.returncode, 0)
    verified = ("verify", "model.gguf", "--public-key")
    checks.equal("verify", place.run(*verified, "signer.pub").returncode, 0)
    place.key("other", *RSA)
    checks.equal("of another key", place.run(*verified, "other.pub").returncode != 0, True)
    refused = place.run("sign", "model.gguf", "--key", place.uri("other"))
    checks.true("RSA signs no model", "is no key on P-256" in refused.stderr)


def check_opening(place, checks):
    name = "auditor"
    place.key(name, *RSA)
    ledger = place.folder / "ledger"
    data = {"XDG_DATA_HOME": str(ledger)}
    auditors = ledger / "etalon/ledger/auditors"
    auditors.mkdir(parents=True, mode=0o700)
    shutil.copyfile(place.folder / f"{name}.pem", auditors / f"{name}.pem")
    asked = place.run("run", os.environ["ETALON_TEST_MODEL"], "--temperature", "0", "--max-tokens",
                      "4", "What is the capital of Belgium?", **data)
    checks.equal("run: " + asked.stderr, asked.returncode, 0)
    listed = place.run("ledger", "tail", "--json", "--kind", "intent", **data)
    index = str(json.loads(listed.stdout)["seq"])
    opens = ("ledger", "open", index, "--reason", "test", "--certificate", f"{name}.pem", "--key")
    opened = place.run(*opens, place.uri(name), **data)
    checks.equal("opens: " + opened.stderr, opened.returncode, 0)
    checks.true("the text", asked.stdout.strip() in opened.stdout)
    replayed = place.run("replay", index, "--model", os.environ["ETALON_TEST_MODEL"], "--reason",
                         "test", "--certificate", f"{name}.pem", "--key", place.uri(name), **data)
    checks.true("replay: " + replayed.stderr, "match" in replayed.stdout)
    bundle = place.run("audit", "export", "bundle", **data)
    checks.equal("export: " + bundle.stderr, bundle.returncode, 0)
    opened = place.run("audit", "open", "bundle", index, "--certificate", f"{name}.pem",
                       "--key", place.uri(name), **data)
    checks.true("from the bundle: " + opened.stderr, asked.stdout.strip() in opened.stdout)
    wrong = place.run(*opens, place.uri("signer"), **data)
    checks.equal("another key does not open", wrong.returncode, 4)


def check_troubles(place, checks):
    sign = ("sign", "model.gguf", "--key")
    cases = {
        "no such key": (place.uri("nobody"), {}),
        "no such token": (place.uri("signer", token="nothing"), {}),
        "another PIN": (place.uri("signer", "pin-value=99999999"), {}),
        "no file of the PIN": (place.uri("signer", "pin-source=missing"), {}),
        "no PIN": (f"pkcs11:token={TOKEN};object=signer", {}),
        "no module": (place.uri("signer"), {"PKCS11_MODULE_PATH": "/nowhere.so"}),
        "no engine": (place.uri("signer"), {"OPENSSL_ENGINES": "/nowhere"}),
        "no name": ("pkcs11:", {}),
    }
    for title, (name, environment) in cases.items():
        done = place.run(*sign, name, **environment)
        checks.equal(f"{title}: {done.stderr}", done.returncode, 69)
        checks.true(f"{title}: the name", "pkcs11:" in done.stderr)
        checks.true(f"{title}: no PIN", "99999999" not in done.stderr)
        # An empty one would be a try that the token counts.
        checks.equal(f"{title}: is asked", "the name has no PIN" in done.stderr,
                     title in ("no PIN", "no name"))
    with_pin = place.uri("signer", f"pin-value={PIN}")
    configured = place.run(*sign[:2], ETALON_SIGNING_KEY=with_pin)
    checks.equal("a PIN in the configuration", configured.returncode, 2)
    checks.true("is not shown", PIN not in configured.stdout + configured.stderr)
    (place.folder / "model.gguf.sig").unlink()
    configured = place.run("sign", "model.gguf", "--whole-files", ETALON_SIGNING_KEY=place.uri(
        "signer", "pin-source=pin").replace("pkcs11", "PKCS11"))
    checks.equal("the name of its file: " + configured.stderr, configured.returncode, 0)
    long = place.run(*sign, "pkcs11:" + "a" * 5000)
    checks.equal("a long name", long.returncode, 2)


def main():
    checks = Checks()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="etalon-tokens-"))
    try:
        place = Place(folder)
        check_signature(place, checks)
        check_opening(place, checks)
        check_troubles(place, checks)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
