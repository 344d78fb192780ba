# SPDX-License-Identifier: Apache-2.0
"""The two servers that bench/serve_load.py and bench/serve_equality.py ask, with one model and the
same number of threads: etalon serve, and llama-server of bench/peer/build_llama.sh."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "serve"))
START_SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 600
SLOTS = 32
SLOT_TOKENS = 512


def add_options(parser):
    parser.add_argument("--model", required=True, help="a GGUF file that both read")
    parser.add_argument("--etalon", default=str(ROOT / "build/release/etalon"))
    parser.add_argument("--llama", default=str(ROOT / "build/peer/avx512/bin/llama-server"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())


class Etalon:
    name = "etalon"

    def __init__(self, options):
        os.environ["ETALON_BINARY"] = options.etalon
        os.environ["ETALON_TEST_MODEL"] = options.model
        from served import Server  # reads the environment
        self.server = Server("--threads", str(options.threads))

    def __enter__(self):
        self.server.__enter__()
        self.port, self.key, self.model = self.server.port, self.server.key, self.server.model
        return self

    def __exit__(self, *error):
        self.server.__exit__(*error)


class Llama:
    """As it comes, but for a slot for each stream."""
    name = "llama-server"

    def __init__(self, options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.key, self.model = "none", pathlib.Path(options.model).stem
        self.command = [options.llama, "--model", options.model, "--host", "127.0.0.1", "--port",
                        str(self.port), "--threads", str(options.threads), "--parallel",
                        str(SLOTS), "--ctx-size", str(SLOTS * SLOT_TOKENS)]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        end = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                    return self
            except OSError:
                time.sleep(0.05)
        self.process.kill()
        raise RuntimeError("llama-server did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(60)


def post(server, body):
    """The response of a chat request, not yet read; the connection is the response's."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS_MAX)
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": server.model, **body}),
                       {"authorization": f"Bearer {server.key}",
                        "content-type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{server.name}: {response.status}: {response.read()[:300]}")
    return response
