#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The program as a user has it: `etalon serve` with the default model, asked over HTTP."""
import base64
import concurrent.futures
import json
import os
import signal
import socket
import struct
import sys
import time

from served import Checks, Server, events

QUESTION = "Hi"  # answered in one sentence, which has the word STOP
STOP = "assist"
AT_ONCE = 8


def content(answer):
    return answer["choices"][0]["message"]["content"]


def streamed(chunks, index=0):
    return "".join(choice["delta"].get("content") or "" for chunk in chunks
                   for choice in chunk["choices"] if choice["index"] == index)


def check_chat(server, checks):
    plain = server.chat(QUESTION, temperature=0, max_tokens=24)
    checks.true("the answer has the word", STOP in content(plain))
    checks.equal("one choice that stopped", plain["choices"][0]["finish_reason"], "stop")
    usage = plain["usage"]
    checks.equal("total", usage["total_tokens"],
                 usage["prompt_tokens"] + usage["completion_tokens"])
    chunks = server.chat(QUESTION, temperature=0, max_tokens=24, stream=True,
                         stream_options={"include_usage": True})
    checks.equal("the stream has the same text", streamed(chunks), content(plain))
    checks.equal("the stream has the same usage", chunks[-1]["usage"]["total_tokens"],
                 usage["total_tokens"])
    checks.equal("the stream has the same digest", chunks[-2]["etalon"]["digests"],
                 plain["etalon"]["digests"])
    for base in ("/openai/v1", "/mistral/v1"):
        other = server.chat(QUESTION, path=base + "/chat/completions", temperature=0,
                            max_tokens=24)
        checks.equal(base, content(other), content(plain))
    cut = server.chat(QUESTION, temperature=0, max_tokens=3)
    checks.equal("max_tokens", cut["choices"][0]["finish_reason"], "length")
    checks.equal("max_tokens counts", cut["usage"]["completion_tokens"], 3)
    stop = server.chat(QUESTION, temperature=0, max_tokens=24, stop=[STOP])
    checks.equal("stop", content(stop), content(plain).split(STOP, maxsplit=1)[0])


def check_seeds(server, checks):
    options = {"temperature": 1.2, "max_tokens": 16}
    first = server.chat("Tell me a story.", seed=11, **options)
    again = server.chat("Tell me a story.", seed=11, **options)
    other = server.chat("Tell me a story.", seed=12, **options)
    checks.equal("one seed, one answer", content(again), content(first))
    checks.equal("one seed, one digest", again["etalon"]["digests"], first["etalon"]["digests"])
    checks.true("each has its receipt", again["etalon"]["receipt"] != first["etalon"]["receipt"])
    checks.true("another seed, another answer", content(other) != content(first))
    drawn = server.chat("Tell me a story.", **options)
    replay = server.chat("Tell me a story.", seed=drawn["etalon"]["seed"], **options)
    checks.equal("the drawn seed replays", content(replay), content(drawn))
    both = server.chat("Tell me a story.", seed=11, n=3, **options)
    texts = [choice["message"]["content"] for choice in both["choices"]]
    checks.equal("n answers", len(texts), 3)
    checks.equal("the first of n is the one alone", texts[0], content(first))
    checks.true("n answers differ", len(set(texts)) > 1)
    chunks = server.chat("Tell me a story.", seed=11, n=3, stream=True, **options)
    checks.equal("n answers streamed", [streamed(chunks, i) for i in range(3)], texts)


def check_logprobs(server, checks):
    answer = server.chat(QUESTION, temperature=0, max_tokens=5, logprobs=True, top_logprobs=2)
    entries = answer["choices"][0]["logprobs"]["content"]
    checks.equal("an entry a token", len(entries), 5)
    checks.equal("the tokens are the text", "".join(e["token"] for e in entries), content(answer))
    checks.true("the likeliest was taken",
                all(e["logprob"] == e["top_logprobs"][0]["logprob"] for e in entries))


def check_completions(server, checks):
    body = {"model": "devstral", "prompt": ["One, two, three,", "A, B, C,"], "temperature": 0,
            "max_tokens": 4, "echo": True}
    status, _, text = server.post("/v1/completions", body)
    checks.equal("completions", status, 200)
    both = [choice["text"] for choice in json.loads(text)["choices"]]
    checks.true("echo", both[0].startswith("One, two, three, four"))
    body.update(prompt="A, B, C,", stream=True)
    status, _, text = server.post("/v1/completions", body)
    checks.equal("a streamed completion", "".join(c["choices"][0]["text"] for c in events(text)),
                 both[1])
    status, _, text = server.post("/tokenize", {"prompt": "A, B, C,"})
    tokens = json.loads(text)["tokens"]
    status, _, text = server.post("/detokenize", {"tokens": tokens})
    checks.equal("detokenize", json.loads(text)["prompt"].strip(), "A, B, C,")
    status, _, text = server.post("/v1/completions", {**body, "prompt": tokens, "echo": False,
                                                      "stream": False})
    checks.equal("a prompt of tokens", "A, B, C," + json.loads(text)["choices"][0]["text"],
                 both[1])


def completion(server, **body):
    status, _, text = server.post("/v1/completions", {"model": server.model, **body})
    return json.loads(text)["choices"][0] if status == 200 else json.loads(text)


def check_prompt_logprobs(server, checks):
    """What lm-eval asks for: the log-probabilities of a given text."""
    prompt = "The capital of Belgium is Brussels."
    ids = json.loads(server.post("/tokenize", {"prompt": prompt})[2])["tokens"]
    told = completion(server, prompt=prompt, echo=True, logprobs=2, max_tokens=0)
    logprobs = told["logprobs"]
    checks.equal("the text is the prompt", (told["text"], told["finish_reason"]),
                 (prompt, "length"))
    checks.equal("a value a token", len(logprobs["token_logprobs"]), len(ids))
    checks.equal("the first has none", (logprobs["token_logprobs"][0],
                                        logprobs["top_logprobs"][0]), (None, None))
    checks.true("all others have one", all(p <= 0 for p in logprobs["token_logprobs"][1:]))
    checks.equal("the tokens are the text", "".join(logprobs["tokens"]), prompt)
    checks.equal("offsets", [prompt[o:o + len(t)] for o, t in
                             zip(logprobs["text_offset"], logprobs["tokens"])], logprobs["tokens"])
    same = completion(server, prompt=ids, echo=True, logprobs=2, max_tokens=0)
    checks.equal("ids are the same prompt", same, told)
    drawn = completion(server, prompt=ids[:4], logprobs=0, max_tokens=5, temperature=0,
                       ignore_eos=True)
    whole = completion(server, prompt="".join(logprobs["tokens"][:4]) + drawn["text"], echo=True,
                       logprobs=0, max_tokens=0)
    checks.equal("given is as drawn", whole["logprobs"]["token_logprobs"][4:],
                 drawn["logprobs"]["token_logprobs"])
    both = completion(server, prompt=prompt, echo=True, logprobs=2, max_tokens=3, temperature=0)
    checks.equal("with an answer behind", both["logprobs"]["token_logprobs"][:len(ids)],
                 logprobs["token_logprobs"])
    checks.equal("and its own", len(both["logprobs"]["tokens"]), len(ids) + 3)


def check_embeddings(server, checks):
    texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Interest rates rose."]

    def vectors(**body):
        status, _, text = server.post("/v1/embeddings", {"model": server.model, **body})
        checks.equal("embeddings", status, 200)
        answer = json.loads(text)
        return [entry["embedding"] for entry in answer["data"]], answer["usage"]

    together, usage = vectors(input=texts)
    checks.true("tokens are counted", usage["prompt_tokens"] > 15)
    checks.true("length 1", all(abs(sum(x * x for x in v) - 1) < 1e-5 for v in together))
    dot = lambda a, b: sum(x * y for x, y in zip(a, b))
    checks.true("like texts are closer", dot(together[0], together[1]) >
                dot(together[0], together[2]))
    for text, vector in zip(texts, together):
        checks.equal("alone is as together", vectors(input=text)[0], [vector])
    packed = vectors(input=texts, encoding_format="base64")[0]
    single = [list(struct.unpack(f"<{len(v)}f", base64.b64decode(p)))
              for v, p in zip(together, packed)]
    rounded = [list(struct.unpack(f"<{len(v)}f", struct.pack(f"<{len(v)}f", *v)))
               for v in together]
    checks.equal("base64 has the same floats", single, rounded)
    raw = vectors(input=texts[0], normalize=False)[0][0]
    checks.true("not of length 1", abs(dot(raw, raw) - 1) > 1e-2)
    for title, body, param in [("dimensions", {"dimensions": 7}, "dimensions"),
                               ("too long", {"input": "word " * 9000}, "input"),
                               ("empty", {"input": [""]}, "input[0]"),
                               ("type", {"normalize": 1}, "normalize")]:
        status, _, text = server.post("/v1/embeddings", {"model": server.model, "input": "a",
                                                         **body})
        checks.equal(title, (status, json.loads(text)["param"]), (400, param))


def check_many_at_once(server, checks):
    requests = [{"content": f"Write {n} words about the sea.", "seed": n, "max_tokens": 12,
                 "temperature": 0.5 + n / 10} for n in range(AT_ONCE)]
    alone = [server.chat(**request) for request in requests]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        together = list(pool.map(lambda request: server.chat(**request), requests))
    for one, other in zip(alone, together):
        checks.equal("alone and together", other["etalon"]["digests"],
                     one["etalon"]["digests"])
        checks.equal("alone and together", content(other), content(one))


def metric(server, name):
    text = server.get("/metrics")[2]
    return [float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " ")][0]


def check_leaving(server, checks):
    body = json.dumps({"model": server.model, "stream": True, "ignore_eos": True,
                       "max_tokens": 2000, "messages": [{"role": "user", "content": "Go on."}]})
    head = (f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\n"
            f"authorization: Bearer {server.key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n")
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall((head + body).encode())
        client.recv(4096)
        checks.equal("one runs", metric(server, "etalon_requests_running") >= 1, True)
    end = time.monotonic() + 20
    while metric(server, "etalon_requests_running") > 0 and time.monotonic() < end:
        time.sleep(0.1)
    checks.equal("nobody runs", metric(server, "etalon_requests_running"), 0.0)


def check_errors(server, checks):
    for title, body, status, param in [
            ("temperature", {"temperature": 3}, 400, "temperature"),
            ("tools", {"tools": [{"type": "function"}]}, 400, "tools"),
            ("model", {"model": "none"}, 404, "model"),
            ("too long", {"messages": [{"role": "user", "content": "word " * 9000}]}, 400,
             "messages"),
            ("max_tokens", {"max_tokens": 100000}, 400, "max_tokens")]:
        whole = {"model": server.model, "messages": [{"role": "user", "content": "x"}], **body}
        got, headers, text = server.post("/v1/chat/completions", whole)
        error = json.loads(text)
        checks.equal(title, (got, error["param"], error["error"]["param"]),
                     (status, param, param))
        checks.equal(title + ", id", headers["x-request-id"], error["request_id"])
    checks.equal("no key", server.get("/v1/models", key="none")[0], 401)
    checks.equal("no body", server.post("/v1/chat/completions", "")[0], 400)
    _, headers, _ = server.post("/v1/chat/completions", {
        "model": server.model, "max_tokens": 1, "colour": "red",
        "messages": [{"role": "user", "content": "x"}]})
    checks.equal("ignored", headers["x-etalon-ignored-params"], "colour")


def check_keys(server, checks):
    made = json.loads(server.run("key", "create", "--tenant", "t", "--requests-per-minute", "1",
                                 "--json"))
    checks.equal("a new key", server.get("/v1/models", key=made["key"])[0], 200)
    checks.equal("no scope", server.get("/metrics", key=made["key"])[0], 403)
    body = {"model": server.model, "prompt": "a", "max_tokens": 1}
    checks.equal("the first", server.post("/v1/completions", body, key=made["key"])[0], 200)
    status, headers, _ = server.post("/v1/completions", body, key=made["key"])
    checks.equal("the second", (status, "retry-after" in headers), (429, True))
    server.run("key", "revoke", str(made["id"]))
    checks.equal("revoked", server.get("/v1/models", key=made["key"])[0], 401)
    listed = json.loads(server.run("key", "list", "--json"))
    checks.equal("its tenant", [key["tenant"] for key in listed if key["id"] == made["id"]], ["t"])
    checks.true("the local key", "local" in [key["tenant"] for key in listed])


def check_terminal(server, checks):
    """The commands of a person at a terminal: they find address and key by themselves."""
    plain = content(server.chat(QUESTION, temperature=0, max_tokens=24))
    talk = [QUESTION, "/clear", QUESTION, "/model", "/what", "/system Answer in German.", "/quit"]
    done = server.start("chat", "--temperature", "0", "--max-tokens", "24", "--seed", "1",
                        stdin="\n".join(talk) + "\n")
    checks.equal("a chat ends", done.returncode, 0)
    checks.equal("a chat, forgotten, begins again", done.stdout, (plain + "\n") * 2)
    checks.true("models are listed", f"> {server.model}\n" in done.stderr)
    checks.true("unknown commands are said", "unknown command /what" in done.stderr)
    done = server.start("chat", "--model", "none", stdin="Hi\n")
    checks.true("the server's reason is shown", "the server says 404" in done.stderr)
    status = json.loads(server.run("ps", "--json"))
    model = status["models"][0]
    checks.equal("ps", (model["id"], model["state"], model["requests"], status["url"]),
                 (server.model, "ready", 0, server.base))
    checks.true("ps for people", server.model in server.run("ps"))
    second = server.start("serve", "--listen", "127.0.0.1:0", "--model", server.model_file)
    checks.equal("one server a folder", (second.returncode, str(server.process.pid)
                                         in second.stderr), (69, True))
    made = json.loads(server.run("key", "create", "--json"))
    checks.equal("no scope for status", server.get("/status", key=made["key"])[0], 403)
    server.run("key", "revoke", str(made["id"]))


def check_stop(server, checks):
    checks.equal("stop ends it", server.start("stop").returncode, 0)
    checks.equal("it drained", server.process.wait(1), 0)
    checks.equal("a second stop finds none", server.start("stop").returncode, 3)
    checks.equal("ps finds none", server.start("ps", "--server", server.base).returncode, 69)


def check_ledger(server, checks):
    """An answer's receipt, verified without the log, and its records as a person reads them."""
    body = json.dumps({"model": server.model, "temperature": 0, "max_tokens": 12,
                       "messages": [{"role": "user", "content": QUESTION}]})
    _, headers, text = server.post("/v1/chat/completions", body)
    path = "/v1/receipts/" + headers["x-etalon-receipt"]
    end = time.monotonic() + 60
    status, _, receipt = server.get(path)
    while status == 202 and time.monotonic() < end:
        time.sleep(0.1)
        status, _, receipt = server.get(path)
    checks.equal("a receipt", status, 200)
    made = json.loads(server.run("key", "create", "--tenant", "other", "--json"))
    checks.equal("another tenant's receipt", server.get(path, key=made["key"])[0], 404)
    checks.equal("the log is for auditors", server.get("/ledger/checkpoint")[0], 403)
    auditor = json.loads(server.run("key", "create", "--scope", "audit", "--json"))["key"]
    checkpoint = server.get("/ledger/checkpoint", key=auditor)[2]
    for path_of_none in ("tile/0", "tile", "", "journal", "tile/../journal"):
        checks.equal(f"the log's file '{path_of_none}'",
                     server.get(f"/ledger/{path_of_none}", key=auditor)[0], 404)
    (server.folder / "held").write_text(checkpoint, encoding="utf-8")
    policy = f"log {json.loads(receipt)['log_key']}\nquorum none\n"
    for name, value in (("receipt", receipt), ("policy", policy), ("body", body),
                        ("text", content(json.loads(text))), ("other", "another text")):
        (server.folder / name).write_text(value, encoding="utf-8")
    verify = ("ledger", "receipt", str(server.folder / "receipt"), "--policy",
              str(server.folder / "policy"), "--body", str(server.folder / "body"), "--text")
    for name, code in (("text", 0), ("other", 5)):
        checks.equal(f"verified with {name}",
                     server.start(*verify, str(server.folder / name)).returncode, code)
    part = json.loads(receipt)["parts"][0]
    index = str(json.loads(part["intent"])["seq"])
    listed = server.run("ledger", "tail", "--count", "100000", "--kind", "intent")
    checks.true("the intent is listed", f" {index} " in listed)
    checks.equal("a record as it stands", server.run("ledger", "show", index, "--json"),
                 part["intent"] + "\n")
    card = server.run("ledger", "show", index)
    checks.true("a record as a card", json.loads(part["intent"])["prompt"] in card)
    checks.equal("no such record", server.start("ledger", "show", "1000000").returncode, 3)
    whole = server.run("ledger", "verify", "--held", str(server.folder / "held"))
    checks.true("the whole log verifies", "continued" in whole)
    server.run("audit", "export", str(server.folder / "early"))
    checks.equal("an export beside the server",
                 server.start("audit", "verify", str(server.folder / "early"), "--policy",
                              str(server.folder / "policy")).returncode, 0)
    opened = server.run("ledger", "open", index, "--reason", "complaint 17")
    checks.true("a payload is opened", content(json.loads(text)) in
                json.loads(opened.splitlines()[0])["texts"])
    checks.equal("no reason, no payload", server.start("ledger", "open", index).returncode, 2)
    replays = (index, str(server.folder / "receipt"))
    for name in replays:
        done = server.start("replay", name, "--model", server.model_file)
        checks.equal(f"replay of {name}", (done.returncode, ": match" in done.stdout), (0, True))
    end = time.monotonic() + 30  # until a checkpoint covers the records of the readings
    reads = []
    while len(reads) <= len(replays) and time.monotonic() < end:
        reads = [line.split(maxsplit=3)[3] for line in
                 server.run("ledger", "tail", "--kind", "content_read").splitlines()]
    checks.equal("each reading is a record", reads, [f"open of intent {index}: complaint 17"] +
                 [f"replay of intent {index}: "] * len(replays))


def check_audit(server, checks):
    """After the server: a bundle is accepted, a changed one is not, its payload derives again."""
    bundle = server.folder / "bundle"
    server.run("audit", "export", str(bundle))
    verify = ("audit", "verify", str(bundle), "--policy", str(server.folder / "policy"), "--held",
              str(server.folder / "held"))
    done = server.start(*verify)
    checks.equal("the bundle", (done.returncode, done.stdout.splitlines()[-1]), (0, "accepted"))
    entries = next(path for path in sorted((bundle / "log").rglob("*"))
                   if path.is_file() and "entries" in str(path))
    whole = entries.read_bytes()
    entries.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    checks.equal("a changed bundle", server.start(*verify).returncode, 5)
    entries.write_bytes(whole)
    own = max((path for path in server.folder.rglob("ledger/log/tile/entries/**/*")
               if path.is_file()), key=lambda path: path.stat().st_size)
    whole = own.read_bytes()
    own.chmod(0o600)
    own.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    checks.equal("a changed log", server.start("ledger", "verify").returncode, 5)
    own.write_bytes(whole)
    certificate = next((server.folder / "data/etalon/ledger/auditors").glob("*.pem"))
    key = server.folder / "data/etalon/ledger/local-auditor.key"
    (server.folder / "payloads").mkdir()
    sealed = sorted(bundle.glob("payloads/*.bin"))
    n_answers = 0
    for path in sealed:
        opened = server.run("audit", "open", str(bundle), path.stem, "--key", str(key),
                            "--certificate", str(certificate))
        for line in opened.splitlines()[1:]:
            (server.folder / f"payloads/{n_answers}.json").write_text(line, encoding="utf-8")
            n_answers += 1
    done = server.start("replay", str(server.folder / "payloads"), "--model", server.model_file)
    checks.equal("every answer derives again",
                 (done.returncode, done.stdout.count(": match"), n_answers >= len(sealed) > 20),
                 (0, n_answers, True))
    done = server.start("replay", "--sample", "20%", "--model", server.model_file)
    checks.equal("a sample of the ledger derives again",
                 (done.returncode, done.stdout.count(": match") > 2), (0, True))


def worker_of(server):
    with open(f"/proc/{server.process.pid}/task/{server.process.pid}/children",
              encoding="ascii") as file:
        return int(file.read().split()[0])


def check_lost_worker(server, checks):
    before = server.chat(QUESTION, temperature=0, max_tokens=8)
    os.kill(worker_of(server), signal.SIGKILL)
    end = time.monotonic() + 60
    while server.get("/readyz")[0] == 200 and time.monotonic() < end:
        time.sleep(0.01)
    while server.get("/readyz")[0] != 200 and time.monotonic() < end:
        time.sleep(0.1)
    after = server.chat(QUESTION, temperature=0, max_tokens=8)
    checks.equal("the new worker gives the same bits", after["etalon"]["digests"],
                 before["etalon"]["digests"])


def check_silence(server, checks):
    canary = "xylophone-4711-canary"
    server.chat(canary, max_tokens=1)
    server.post("/v1/chat/completions", {"model": server.model, "messages": canary})
    checks.true("there is a log", any('"route"' in line for line in server.log))
    checks.true("no prompt is in the log", not any(canary in line for line in server.log))
    for path in server.folder.rglob("*"):
        if path.is_file():
            checks.true(f"no prompt is in {path.name}", canary.encode() not in path.read_bytes())


def main():
    checks = Checks()
    with Server() as server:
        for check in (check_chat, check_seeds, check_logprobs, check_completions,
                      check_prompt_logprobs, check_embeddings,
                      check_many_at_once, check_leaving, check_errors, check_keys,
                      check_terminal, check_ledger, check_lost_worker, check_silence, check_stop,
                      check_audit):
            try:
                check(server, checks)
            except Exception as error:  # the other checks still run
                checks.failed += 1
                print(f"{check.__name__}: {error!r}")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
