# SPDX-License-Identifier: Apache-2.0
"""Folders below build/sdk with packages of others, made again when the list of packages changes."""
import hashlib
import pathlib
import shutil
import subprocess
import venv

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "sdk"


def fresh(folder, source, install):
    """Runs `install` unless the folder was made of the same text."""
    stamp = hashlib.sha256(source.read_bytes()).hexdigest()
    if (folder / "stamp").is_file() and (folder / "stamp").read_text(encoding="ascii") == stamp:
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    install()
    (folder / "stamp").write_text(stamp, encoding="ascii")


def python_environment(name, requirements):
    """The Python that has the packages of a list."""
    folder = BUILD / name

    def install():
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet",
                        "--disable-pip-version-check", "--only-binary", ":all:", "-r",
                        requirements], check=True)

    fresh(folder, requirements, install)
    return folder / "bin" / "python"
