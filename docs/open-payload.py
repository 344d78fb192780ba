#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints a sealed payload of an audit bundle with the openssl program and nothing of Etalon.

usage: open-payload.py BUNDLE INDEX KEY.pem CERTIFICATE.pem

docs/ledger.md section 4 is the format: openssl opens the envelope, which holds the content key, and
gives AES; the counter mode and the tag of GCM (NIST SP 800-38D) are written out below. Exit code 5:
the bytes are not those that were sealed. The key is seen by whoever lists processes meanwhile.
"""
import pathlib
import subprocess
import sys

NONCE_BYTES = 12
TAG_BYTES = 16
REDUCTION = 0xE1 << 120  # x^128 + x^7 + x^2 + x + 1, the first bit is the highest


def openssl(*arguments, stdin=b""):
    return subprocess.run(["openssl", *arguments], input=stdin, check=True,
                          stdout=subprocess.PIPE).stdout


def multiply(a, b):
    product = 0
    for bit in range(127, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ (REDUCTION if b & 1 else 0)
    return product


def hashed(key, additional, sealed):
    """GHASH."""
    padded = b"".join(part + bytes(-len(part) % 16) for part in (additional, sealed))
    padded += (8 * len(additional)).to_bytes(8, "big") + (8 * len(sealed)).to_bytes(8, "big")
    state = 0
    for i in range(0, len(padded), 16):
        state = multiply(state ^ int.from_bytes(padded[i:i + 16], "big"), key)
    return state


def open_gcm(key, additional, ciphertext):
    nonce, tag = ciphertext[:NONCE_BYTES], ciphertext[-TAG_BYTES:]
    sealed = ciphertext[NONCE_BYTES:-TAG_BYTES]
    blocks = openssl("enc", "-aes-256-ecb", "-nopad", "-K", key.hex(),
                     stdin=bytes(16) + nonce + (1).to_bytes(4, "big"))
    expected = hashed(int.from_bytes(blocks[:16], "big"), additional, sealed)
    expected ^= int.from_bytes(blocks[16:], "big")
    if expected != int.from_bytes(tag, "big"):
        sys.exit(5)
    return openssl("enc", "-d", "-aes-256-ctr", "-K", key.hex(), "-iv",
                   (nonce + (2).to_bytes(4, "big")).hex(), stdin=sealed)


def main():
    bundle, index, key, certificate = pathlib.Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]
    origin = (bundle / "log/checkpoint").read_text(encoding="utf-8").split("\n", maxsplit=1)[0]
    content_key = openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-in",
                          str(bundle / f"payloads/{index}.cms"), "-inkey", key, "-recip",
                          certificate)
    additional = f"etalon/payload/v1\n{origin}\n{index}\n".encode()
    ciphertext = (bundle / f"payloads/{index}.bin").read_bytes()
    sys.stdout.buffer.write(open_gcm(content_key, additional, ciphertext))


if __name__ == "__main__":
    main()
