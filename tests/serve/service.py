#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program as a service: configured by a file alone, with TLS, a service manager that listens,
certificates that change under way, and an end that is asked for."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from served import Checks

SECONDS_MAX = 120
UNIT = pathlib.Path(__file__).parents[2] / "packaging" / "etalon.service"


def make_certificate(folder, name):
    """A certificate that signs itself, and its key; returns its DER bytes."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext",
         "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", folder / f"{name}.key", "-out",
         folder / f"{name}.pem"], check=True, capture_output=True)
    return ssl.PEM_cert_to_DER_cert((folder / f"{name}.pem").read_text(encoding="ascii"))


class Service:
    def __init__(self, folder):
        self.folder = folder
        self.etalon = str(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(str(folder / "notify"))
        self.manager.settimeout(SECONDS_MAX)
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
        self.environment.update(XDG_CONFIG_HOME=str(folder / "config"),
                                XDG_DATA_HOME=str(folder / "data"))
        (folder / "config" / "etalon").mkdir(parents=True)
        (folder / "config" / "etalon" / "etalon.toml").write_text(
            f'listen = "127.0.0.1:0"\nmodels = ["{os.environ["ETALON_TEST_MODEL"]}"]\n'
            f'certificate = "{folder / "live.pem"}"\nprivate_key = "{folder / "live.key"}"\n'
            'hosts = ["chat.example.org"]\n', encoding="utf-8")

    def install(self, name):
        for end in ("pem", "key"):
            shutil.copy(self.folder / f"{name}.{end}", self.folder / f"live.{end}")

    def start(self):
        with open(self.folder / "log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [self.etalon, "serve"], stdout=subprocess.DEVNULL, stderr=log,
                env={**self.environment, "NOTIFY_SOCKET": str(self.folder / "notify")})

    def hear(self):
        return self.manager.recv(4096).decode("utf-8")

    def log(self):
        return (self.folder / "log").read_text(encoding="utf-8")

    def run(self, *arguments):
        return subprocess.run([self.etalon, *arguments], env=self.environment, check=False,
                              capture_output=True, text=True, timeout=SECONDS_MAX)

    def connection(self, certificate):
        context = ssl.create_default_context(cafile=self.folder / f"{certificate}.pem")
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=context,
                                           timeout=SECONDS_MAX)

    def get(self, connection, path, host=None):
        key = (self.folder / "config/etalon/local.key").read_text(encoding="ascii").strip()
        headers = {"authorization": f"Bearer {key}"}
        if host:
            headers["host"] = host
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        response.read()
        return response.status

    def shown(self):
        """The certificate that a new client gets."""
        return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", self.port)))


def soon(what):
    end = time.monotonic() + 20
    while not what() and time.monotonic() < end:
        time.sleep(0.05)
    return what()


def check_start(service, checks):
    checks.equal("the manager is told", service.hear(), "READY=1")
    done = service.run("ps", "--json")
    checks.equal("ps trusts the configured certificate", (done.returncode, done.stderr), (0, ""))
    status = json.loads(done.stdout)
    checks.equal("the configured model", status["models"][0]["id"],
                 pathlib.Path(os.environ["ETALON_TEST_MODEL"]).stem)
    service.port = int(status["url"].split(":")[-1])
    origin = json.loads(service.run("config", "--show-origin", "--json").stdout)["models"]["origin"]
    checks.true("its origin", origin.endswith("config/etalon/etalon.toml:2"))


def check_hosts(service, checks):
    for host, status in (("chat.example.org", 200), (f"chat.example.org:{service.port}", 200),
                         (f"localhost:{service.port}", 200), ("evil.example", 421)):
        checks.equal(host, service.get(service.connection("first"), "/v1/models", host), status)


def check_reload(service, checks, first, second):
    checks.true("the first certificate", service.shown() == first)
    old = service.connection("first")
    checks.equal("an open connection", service.get(old, "/livez"), 200)
    service.install("second")
    checks.true("a new file alone changes nothing", service.shown() == first)
    service.process.send_signal(signal.SIGHUP)
    checks.true("SIGHUP does", soon(lambda: service.shown() == second))
    checks.equal("the open connection goes on", service.get(old, "/v1/models"), 200)
    checks.equal("a new one", service.get(service.connection("second"), "/v1/models"), 200)
    (service.folder / "live.pem").write_text("no certificate", encoding="ascii")
    service.process.send_signal(signal.SIGHUP)
    checks.true("a bad file is said", soon(lambda: "cannot use the certificate" in service.log()))
    checks.true("and the last good one stays", service.shown() == second)
    service.install("second")


def check_trust(service, checks):
    url = f"https://127.0.0.1:{service.port}"
    done = service.run("ps", "--server", url, "--ca-file", str(service.folder / "first.pem"))
    checks.equal("another certificate is not trusted", done.returncode, 4)
    done = service.run("ps", "--server", url.replace("127.0.0.1", "localhost"))
    checks.equal("another name of it", done.returncode, 0)
    done = service.run("ps", "--server", url.replace("https", "http"))
    checks.equal("without TLS nobody answers", done.returncode, 69)


def check_unit(checks):
    """The unit says what the program does, and systemd understands it where there is one."""
    unit = UNIT.read_text(encoding="utf-8")
    checks.true("the manager waits", "\nType=notify\n" in unit)
    checks.true("reload is SIGHUP", "\nExecReload=/bin/kill -HUP $MAINPID\n" in unit)
    checks.true("nothing is sent out", "\nIPAddressDeny=any\n" in unit)
    if not shutil.which("systemd-analyze"):
        return
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "etalon.service"
        path.write_text(unit.replace("/usr/bin/etalon", "/bin/true")
                        .replace("User=etalon", "User=daemon")
                        .replace("Group=etalon", "Group=daemon"), encoding="utf-8")
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True,
                              check=False)
        checks.equal("systemd-analyze verify", [line for line in done.stderr.splitlines()
                                                if str(path) in line], [])


def main():
    checks = Checks()
    check_unit(checks)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        first, second = (make_certificate(folder, one) for one in ("first", "second"))
        service = Service(folder)
        service.install("first")
        service.start()
        try:
            check_start(service, checks)
            check_hosts(service, checks)
            check_reload(service, checks, first, second)
            check_trust(service, checks)
            checks.equal("stop", service.run("stop").returncode, 0)
            checks.equal("the manager is told of the end", service.hear(), "STOPPING=1")
            checks.equal("it ended well", service.process.wait(10), 0)
        finally:
            if service.process.poll() is None:
                service.process.kill()
                print(service.log())
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
