#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Hostile HTTP against the real program: requests that two readers could read differently, sizes,
and numbers that are none in each numeric field of each route. Always 4xx, with the field's name
where there is a field, and the server answers the next request."""
import json
import socket
import sys

from served import Checks, Server

SECONDS_MAX = 60
CHAT = "/v1/chat/completions"
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
            "frequency_penalty", "n", "max_tokens", "min_tokens")
LONGER = ("max_completion_tokens", "seed", "random_seed")
# JSON texts that no numeric field takes; integers take no fractions, which is asked separately.
NO_NUMBERS = ("NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-1e300", "1e300", '"1"', "[1]",
              "{}", "true", "9" * 400, "-" + "9" * 400)
BODIES = {
    CHAT: '"messages":[{"role":"user","content":"x"}]',
    "/v1/completions": '"prompt":"x"',
    "/v1/responses": '"input":"x"',
    "/v1/fim/completions": '"prompt":"x"',
    "/v1/embeddings": '"input":"x"',
}
FIELDS = {
    CHAT: SAMPLING + LONGER + ("top_logprobs",),
    "/v1/completions": SAMPLING + LONGER + ("logprobs",),
    "/v1/responses": SAMPLING + LONGER + ("max_output_tokens",),
    "/v1/fim/completions": SAMPLING + LONGER,
    "/v1/embeddings": ("dimensions", "output_dimension"),
}


def raw(server, sent):
    """Status codes of everything that the server answers before it closes or falls silent."""
    with socket.create_connection(("127.0.0.1", server.port), SECONDS_MAX) as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it closed early: its answer can still be read
        got = b""
        try:
            while part := client.recv(65536):
                got += part
        except ConnectionResetError:
            pass
    return [int(line.split()[1]) for line in got.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def check_numbers(server, checks):
    for route, fields in FIELDS.items():
        for field in fields:
            for text in NO_NUMBERS:
                if (route, field, text) == ("/v1/completions", "logprobs", "true"):
                    continue  # accepted: clients that know the chat route only send it
                short = "" if field.endswith("_tokens") else '"max_tokens":1,'
                body = f'{{"model":"{server.model}",{short}{BODIES[route]},"{field}":{text}}}'
                status, _, answer = server.post(route, body)
                title = f"{route} {field} {text[:20]}"
                checks.true(f"{title}: {status}", 400 <= status < 500)
                checks.true(f"{title} names it: {answer[:300]}",
                            field in (json.loads(answer)["error"]["param"] or ""))


def check_bodies(server, checks):
    for title, body in [
            ("deep arrays", b'{"messages":' + b"[" * 10000 + b"]" * 10000 + b"}"),
            ("deep objects", b'{"messages":' + b'{"a":' * 10000 + b"1" + b"}" * 10001),
            ("never closed", b"[" * 10000),
            ("no UTF-8", b'{"model":"\xff\xfe","messages":[]}'),
            ("half a surrogate", b'{"model":"\\ud800","messages":[]}'),
            ("overlong", b'{"model":"\xc0\xaf"}'), ("a zero", b'{"model":"\0"}'),
            ("empty", b""), ("null", b"null"), ("a list", b"[]"), ("two", b"{}{}"),
            ("a name twice", b'{"model":"a","model":"b"}')]:
        for route in [*BODIES, "/tokenize", "/detokenize"]:
            status = server.post(route, body)[0]
            checks.true(f"{route} {title}: {status}", 400 <= status < 500)


def check_framing(server, checks):
    host = f"Host: 127.0.0.1:{server.port}\r\n"
    head = (f"POST {CHAT} HTTP/1.1\r\n{host}Authorization: Bearer {server.key}\r\n"
            "Content-Type: application/json\r\n")
    inner = f"GET /v1/models HTTP/1.1\r\n{host}Authorization: Bearer {server.key}\r\n\r\n"
    for title, sent in [
            ("length and chunks", head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
             "0\r\n\r\n" + inner),
            ("two lengths", head + "Content-Length: 0\r\nContent-Length: 5\r\n\r\n" + inner),
            ("a signed length", head + "Content-Length: +2\r\n\r\n{}" + inner),
            ("a negative length", head + "Content-Length: -2\r\n\r\n{}" + inner),
            ("a huge length", head + "Content-Length: " + "9" * 40 + "\r\n\r\n{}" + inner),
            ("unknown coding", head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + inner),
            ("a bad chunk", head + "Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n" + inner),
            ("a space before the colon", head + "Content-Length : 2\r\n\r\n{}" + inner),
            ("a folded line", head + "X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}" + inner),
            ("a huge header", head + "X: " + "a" * 100000 + "\r\n\r\n" + inner),
            ("many headers", head + "X: a\r\n" * 20000 + "\r\n" + inner),
            ("a long target", "GET /" + "a" * 5000 + f" HTTP/1.1\r\n{host}\r\n"),
            ("two hosts", f"GET /livez HTTP/1.1\r\n{host}Host: other\r\n\r\n"),
            ("another host", "GET /livez HTTP/1.1\r\nHost: evil.example\r\n\r\n"),
            ("no host", "GET /livez HTTP/1.1\r\n\r\n"), ("no HTTP", "\0\1\2\3\r\n\r\n")]:
        codes = raw(server, sent.encode("latin-1"))
        checks.true(f"{title}: {codes}", all(400 <= code < 500 for code in codes))
        checks.equal(f"{title}, one answer: {codes}", len(codes), 1)
        checks.equal(f"after {title}", server.get("/livez")[0], 200)


def main():
    checks = Checks()
    with Server() as server:
        for check in (check_framing, check_bodies, check_numbers):
            try:
                check(server, checks)
            except Exception as error:  # the other checks still run
                checks.failed += 1
                print(f"{check.__name__}: {error!r}")
        checks.equal("the server still runs", server.process.poll(), None)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
