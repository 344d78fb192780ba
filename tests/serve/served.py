# SPDX-License-Identifier: Apache-2.0
"""A server of the real program with the default model, for scripts: started on a free port, with
folders of its own for keys and data, ended at the end.

    with Server() as server:
        status, headers, body = server.post("/v1/chat/completions", {...})
"""
import http.client
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading

START_SECONDS_MAX = 120
ANSWER_SECONDS_MAX = 300


class Server:
    def __init__(self, *options, folder=None):
        """With `folder`, keys and data are there, and stay."""
        self.etalon = str(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())
        self.model_file = os.environ["ETALON_TEST_MODEL"]
        self.model = pathlib.Path(self.model_file).stem
        self.options = options
        self.own_folder = folder is None
        self.folder = folder or pathlib.Path(tempfile.mkdtemp(prefix="etalon-served-"))
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
        self.environment["XDG_CONFIG_HOME"] = str(self.folder / "config")
        self.environment["XDG_DATA_HOME"] = str(self.folder / "data")
        self.log = []

    def __enter__(self):
        self.process = subprocess.Popen(
            [self.etalon, "serve", "--listen", "127.0.0.1:0", "--model", self.model_file,
             *self.options], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True)
        threading.Thread(target=self._read_log, daemon=True).start()
        timer = threading.Timer(START_SECONDS_MAX, self.process.kill)
        timer.start()
        self.greeting = []
        while not any(line.startswith("try:") for line in self.greeting):
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start: " + "".join(self.log))
            self.greeting.append(line)
        timer.cancel()
        self.port = int(self.greeting[0].split("127.0.0.1:")[1].split("/")[0])
        self.key = (self.folder / "config/etalon/local.key").read_text(encoding="ascii").strip()
        self.base = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)

    def start(self, *arguments, stdin=""):
        """Another command with the server's folders, which may fail."""
        return subprocess.run([self.etalon, *arguments], env=self.environment, check=False,
                              capture_output=True, text=True, input=stdin,
                              timeout=ANSWER_SECONDS_MAX)

    def run(self, *arguments):
        """Another command with the server's folders; its stdout."""
        done = subprocess.run([self.etalon, *arguments], env=self.environment, check=True,
                              capture_output=True, text=True)
        return done.stdout

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS_MAX)

    def request(self, method, path, body=None, key=None, headers=None):
        """(status, headers, text)"""
        connection = self.connection()
        sent = {"authorization": f"Bearer {key or self.key}"}
        if body is not None:
            sent["content-type"] = "application/json"
            body = body if isinstance(body, (str, bytes)) else json.dumps(body)
        sent.update(headers or {})
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        text = response.read().decode("utf-8")
        connection.close()
        return response.status, dict(response.getheaders()), text

    def get(self, path, **more):
        return self.request("GET", path, **more)

    def post(self, path, body, **more):
        return self.request("POST", path, body, **more)

    def chat(self, content, path="/v1/chat/completions", **more):
        """The JSON of a chat answer; a failed request is an exception."""
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], **more}
        status, _, text = self.post(path, body)
        if status != 200:
            raise RuntimeError(f"{status}: {text}")
        return events(text) if more.get("stream") else json.loads(text)


def events(text):
    """The objects of an event stream that ends as it should."""
    parts = [part for part in text.split("\n\n") if part and not part.startswith(":")]
    if parts[-1] != "data: [DONE]":
        raise RuntimeError(f"the stream ends with {parts[-1][:200]}")
    return [json.loads(part.removeprefix("data: ")) for part in parts[:-1]]


class Checks:
    """Counts comparisons; each compares with ==."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def equal(self, title, got, expected):
        if got == expected:
            self.passed += 1
            return
        self.failed += 1
        print(f"{title}:\n  got      {got}\n  expected {expected}")

    def true(self, title, value):
        self.equal(title, bool(value), True)

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        return 1 if self.failed or not self.passed else 0
