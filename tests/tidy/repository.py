# SPDX-License-Identifier: Apache-2.0
"""The files of the repository, as git lists them, and one finding as tidy prints it."""
import functools
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
CPP = {".h", ".cpp", ".inl", ".cu", ".cuh"}
# Data, not text of ours: their bytes are what they are.
DATA_FOLDERS = ("fuzz/corpus/", "spec/vectors/", "tests/quality/texts/", "tests/text/texts/")


@functools.lru_cache(maxsize=None)
def files():
    """Paths relative to the root, sorted: tracked ones, and new ones that git does not ignore."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others",
               "--exclude-standard"]
    try:
        listed = subprocess.run(command, check=True, capture_output=True).stdout.decode()
        names = [name for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        names = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*")
                 if path.is_file() and path.relative_to(ROOT).parts[0] not in ("build", ".git")]
    return sorted({name for name in names
                   if (ROOT / name).is_file() and not name.startswith(DATA_FOLDERS)})


@functools.lru_cache(maxsize=None)
def read(name):
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def suffix(name):
    return pathlib.PurePath(name).suffix


def cpp_files():
    return [name for name in files() if suffix(name) in CPP]


def at(name, line, message):
    return f"{name}:{line}: {message}"
