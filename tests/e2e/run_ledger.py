#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Answers of `etalon run` are in the ledger of who runs it: several at once, one that is killed or
interrupted, a chat that rests, beside a server. What cannot be recorded is not answered."""
import os
import pathlib
import pty
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "serve"))
from served import Checks, Server  # noqa: E402

LONG = ("--raw", "--temperature", "0", "--max-tokens", "6000", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,")
SHORT = ("--temperature", "0", "--max-tokens", "4", "What is the capital of Belgium?")
KINDS = ("boot", "model_load", "intent", "complete", "shutdown")
SECONDS_MAX = 120


class Program:
    def __init__(self, folder):
        self.etalon = str(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())
        self.model = os.environ["ETALON_TEST_MODEL"]
        self.folder = folder
        self.ledger = folder / "data/etalon/ledger"
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("ETALON_")}
        self.environment["XDG_DATA_HOME"] = str(folder / "data")
        self.environment["XDG_CONFIG_HOME"] = str(folder / "config")

    def start(self, *arguments, **more):
        more = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE} | more
        return subprocess.Popen([self.etalon, *arguments], env=self.environment, **more)

    def run(self, *arguments, **more):
        """Exit code, stdout and stderr."""
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=SECONDS_MAX)
        return process.returncode, out.decode(), err.decode()

    def kinds(self, *options):
        """How many records of each kind."""
        code, out, err = self.run("ledger", "tail", "--count", "1000", *options)
        if code != 0:
            raise RuntimeError(err)
        kinds = [line.split()[2] for line in out.splitlines()]
        return {kind: kinds.count(kind) for kind in kinds}

    def more(self, before):
        """How many of KINDS there are more than then."""
        now = self.kinds()
        return [now[kind] - before[kind] for kind in KINDS]

    def replay_all(self, *options):
        """Exit code, matches."""
        code, out, _ = self.run("replay", "--sample", "100%", "--model", self.model, *options)
        return code, out.count(": match")


def check_at_once(checks, program):
    """Three answers at the same time, none of which waits for another's end."""
    before = program.kinds()
    running = [program.start("run", program.model, *LONG) for _ in range(2)]
    for process in running:
        process.stdout.read(1)
    begin = time.monotonic()
    code, _, err = program.run("run", program.model, *SHORT)
    checks.equal("a third answer", (code, err), (0, ""))
    checks.equal("the others still run", [process.poll() for process in running], [None, None])
    print(f"a short answer beside two long ones: {time.monotonic() - begin:.2f} s")
    running[0].kill()
    running[1].send_signal(signal.SIGINT)
    for process in running:
        process.communicate(timeout=SECONDS_MAX)
    checks.equal("their ends", [process.returncode for process in running], [-signal.SIGKILL, 130])
    checks.equal("records", program.more(before), [3, 3, 3, 2, 2])
    checks.equal("the interrupted one", "cancelled" in program.run("ledger", "tail")[1], True)
    checks.equal("all derive again", program.replay_all(), (0, 3))
    checks.equal("verdicts are records", program.kinds().get("replay"), 3)


def check_no_record(checks, program):
    """A disk that takes nothing: no answer, and an error that says so."""
    def no_space():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    code, out, err = program.run("run", program.model, *SHORT, preexec_fn=no_space,
                                 restore_signals=False)  # Python ignores SIGXFSZ
    checks.equal("no record, no answer", (code != 0, out), (True, ""))
    checks.equal("and why", "no answer is given, for it cannot be recorded" in err, True)
    checks.equal("with room again", program.run("run", program.model, *SHORT)[0], 0)
    checks.equal("the log is whole", program.run("ledger", "verify")[0], 0)


class Chat:
    """`etalon run` without a prompt, at a terminal."""

    def __init__(self, program):
        self.terminal, theirs = pty.openpty()
        self.process = program.start("run", program.model, "--temperature", "0", "--max-tokens",
                                     "4", stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        self.wait_for("> ")

    def wait_for(self, text):
        seen = ""
        end = time.monotonic() + SECONDS_MAX
        while text not in seen:
            if not select.select([self.terminal], [], [], end - time.monotonic())[0]:
                raise RuntimeError(f"no {text!r} after {seen!r}")
            seen += os.read(self.terminal, 4096).decode("utf-8", "replace")

    def ask(self, line):
        os.write(self.terminal, line.encode() + b"\n")
        self.wait_for("/s]\r\n> ")

    def end(self):
        os.write(self.terminal, b"\x04")
        code = self.process.wait(SECONDS_MAX)
        os.close(self.terminal)
        return code


def check_chat(checks, program):
    """A chat that waits for a person keeps nobody from the ledger."""
    before = program.kinds()
    chat = Chat(program)
    chat.ask("Hello")
    checks.equal("an answer beside a chat", program.run("run", program.model, *SHORT)[0], 0)
    chat.ask("And now?")
    checks.equal("end of the chat", chat.end(), 0)
    checks.equal("records of both", program.more(before), [2, 2, 3, 3, 2])
    checks.equal("chats derive again", program.replay_all(), (0, before["complete"] + 3))


def check_beside_server(checks, program):
    """A server keeps its log; who runs a model beside it has another one."""
    chat = Chat(program)
    chat.ask("Hello")
    with Server(folder=program.folder) as server:
        code, out, err = program.run("run", program.model, *SHORT)
        other = str(program.ledger.with_name("ledger-run"))
        checks.equal("beside a server", (code, bool(out), other in err), (0, True, True))
        checks.equal("in a ledger of its own", program.kinds("--ledger", other).get("complete"), 1)
        checks.equal("derives again", program.replay_all("--ledger", other), (0, 1))
        server.chat("Hello", max_tokens=2)
        checks.equal("the chat that was there", chat.end(), 0)
    code, _, err = program.run("run", program.model, *SHORT)
    checks.equal("behind the server", (code, err), (0, ""))
    kinds = program.kinds()
    checks.equal("what the server was started with", kinds.get("configuration"), 1)
    checks.equal("its key", kinds.get("key"), 1)
    for ledger in (program.ledger, other):
        bundle = str(program.folder / pathlib.Path(ledger).name)
        code, _, err = program.run("audit", "export", bundle, "--ledger", str(ledger),
                                   "--model", program.model)
        checks.equal("export", (code, err), (0, ""))
        code, out, _ = program.run("audit", "verify", bundle)
        checks.equal("its bundle", (code, out.splitlines()[-1:]), (0, ["accepted"]))


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory() as folder:
        program = Program(pathlib.Path(folder))
        code, _, err = program.run("run", program.model, *SHORT)
        checks.equal("the first answer", (code, "local-auditor.key" in err), (0, True))
        checks.equal("its records", program.kinds(),
                     {kind: 1 for kind in KINDS})
        check_at_once(checks, program)
        check_no_record(checks, program)
        check_chat(checks, program)
        check_beside_server(checks, program)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
