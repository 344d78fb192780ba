#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The official Python SDKs, unchanged, against `etalon serve` with the default model: only address
and key are given. Installs tests/sdk/requirements.txt into build/sdk-venv, then runs the scripts
*_client.py beside this file there. An SDK that cannot be installed is a failure, not a silence.
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import venv

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "serve"))
from served import Server  # noqa: E402  (its folder is known only now)


def environment():
    """The Python that has the SDKs."""
    folder = HERE.parents[1] / "build" / "sdk-venv"
    requirements = HERE / "requirements.txt"
    stamp = hashlib.sha256(requirements.read_bytes()).hexdigest()
    python = folder / "bin" / "python"
    if not (folder / "stamp").is_file() or (folder / "stamp").read_text() != stamp:
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
                        "--only-binary", ":all:", "-r", requirements], check=True)
        (folder / "stamp").write_text(stamp)
    return python


def run_client(python, script, server):
    """(passed, failed) of one script, from its last line."""
    arguments = [python, HERE / script, server.base, server.key, server.model]
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, env=variables,
                          timeout=1200)
    print(f"== {script}\n{done.stdout}{done.stderr[-4000:]}")
    words = (done.stdout.splitlines() or [""])[-1].split()
    if len(words) != 4 or done.returncode > 1:
        return 0, 1
    return int(words[0]), int(words[2])


def main():
    python = environment()
    passed = failed = 0
    with Server() as server:
        for script in ("openai_client.py", "mistral_client.py", "langchain_client.py"):
            more_passed, more_failed = run_client(python, script, server)
            passed += more_passed
            failed += more_failed
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
