#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Stored responses of the real program: given to their tenant alone, gone on from with the same
tokens as the whole conversation, closed by an erasure, whole after a kill, within their limits; and
read by others for a reason that is a record first."""
import concurrent.futures
import http.client
import json
import os
import shutil
import signal
import sys
import threading

from served import Checks, Server

RESPONSES = "/v1/responses"
SHORT = {"temperature": 0, "max_output_tokens": 8}
KILLS = 8


def create(server, body, status=200, **more):
    got, headers, text = server.post(RESPONSES, {"model": server.model, **SHORT, **body}, **more)
    if got != status:
        raise RuntimeError(f"{got}: {text}")
    return {**json.loads(text), "headers": {k.lower(): v for k, v in headers.items()}}


def get(server, response_id, **more):
    return server.get(f"{RESPONSES}/{response_id}", **more)


def text_of(response):
    return response["output"][0]["content"][0]["text"]


def new_key(server, *options):
    return json.loads(server.run("key", "create", "--json", *options))["key"]


def check_stored(server, checks):
    one = create(server, {"input": "Hi", "store": True, "metadata": {"case": "17"}})
    headers = one.pop("headers")
    status, given, text = get(server, one["id"])
    checks.equal("it is given as it was sent", (status, json.loads(text)), (200, one))
    checks.equal("it is marked", given["x-etalon-ai"], "generated")
    checks.equal("it says that it is stored", (one["store"], one["metadata"]),
                 (True, {"case": "17"}))
    checks.true("its receipt", one["etalon"]["receipt"] == headers["x-etalon-receipt"])
    other = new_key(server, "--tenant", "other")
    items = f"{RESPONSES}/{one['id']}/input_items"
    for title, done in [("GET", get(server, one["id"], key=other)),
                        ("items", server.get(items, key=other)),
                        ("DELETE", server.request("DELETE", f"{RESPONSES}/{one['id']}", key=other)),
                        ("going on", server.post(RESPONSES, {
                            "model": server.model, "input": "x",
                            "previous_response_id": one["id"]}, key=other))]:
        checks.equal(f"another tenant, {title}", done[0], 404)
    listed = json.loads(server.get(items)[2])
    checks.equal("its input", [(item["role"], item["content"]) for item in listed["data"]],
                 [("user", [{"type": "input_text", "text": "Hi"}])])
    for store in ({}, {"store": False}, {"store": None}):
        loose = create(server, {"input": "Hi", **store})
        checks.equal("not asked for", (loose["store"], get(server, loose["id"])[0]), (False, 404))
    done = server.request("DELETE", f"{RESPONSES}/{one['id']}")
    checks.equal("deleted", (done[0], json.loads(done[2])),
                 (200, {"id": one["id"], "object": "response", "deleted": True}))
    checks.equal("gone", get(server, one["id"])[0], 404)
    checks.equal("deleted twice", server.request("DELETE", f"{RESPONSES}/{one['id']}")[0], 404)
    for name in ("none", "..%2f..", "resp_" + "0" * 24, "resp_" + "0" * 5000):
        checks.true(f"no {name[:40]}", get(server, name)[0] in (400, 404))


def check_stream(server, checks):
    status, _, text = server.post(RESPONSES, {"model": server.model, "input": "Hi", "stream": True,
                                              "store": True, **SHORT})
    last = json.loads(text.strip().split("data: ")[-1])["response"]
    checks.equal("a stream", (status, json.loads(get(server, last["id"])[2])), (200, last))


def check_conversation(server, checks):
    """Three turns by id have the tokens of the same conversation sent whole."""
    common = {"store": True, "instructions": "Be brief.", "seed": 3}
    turns = ["Name a river.", "And another?", "Which is longer?"]
    whole, last = [], None
    for question in turns:
        asked = {**common, "input": question}
        if last:
            asked["previous_response_id"] = last["id"]
        answer = create(server, asked)
        whole.append({"role": "user", "content": question})
        alone = create(server, {"instructions": "Be brief.", "seed": 3, "input": whole})
        checks.equal(f"{question}: the same answer", answer["etalon"]["digests"],
                     alone["etalon"]["digests"])
        checks.equal(f"{question}: the same prompt", answer["usage"]["input_tokens"],
                     alone["usage"]["input_tokens"])
        checks.equal("the one before", answer["previous_response_id"],
                     last["id"] if last else None)
        whole.append({"role": "assistant", "content": text_of(answer)})
        last = answer
    items = f"{RESPONSES}/{last['id']}/input_items"
    listed = json.loads(server.get(items + "?order=asc")[2])
    checks.equal("all of it", [item["content"][0]["text"] for item in listed["data"]],
                 [message["content"] for message in whole[:-1]])
    pages, after = [], ""
    while True:
        page = json.loads(server.get(f"{items}?limit=2{after}")[2])
        pages += page["data"]
        after = f"&after={page['last_id']}"
        if not page["has_more"]:
            break
    checks.equal("by pages, newest first", pages, listed["data"][::-1])
    for query in ("limit=0", "limit=101", "limit=x", "order=up", "after=none", "before=x"):
        status, _, text = server.get(f"{items}?{query}")
        checks.equal(query, (status, json.loads(text)["param"]), (400, query.split("=")[0]))
    middle = last["previous_response_id"]
    checks.equal("the middle goes", server.request("DELETE", f"{RESPONSES}/{middle}")[0], 200)
    broken = create(server, {"input": "x", "previous_response_id": last["id"]}, status=404)
    checks.equal("and breaks it", (broken["code"], broken["param"]),
                 ("previous_response_not_found", "previous_response_id"))
    checks.equal("the last is still there", get(server, last["id"])[0], 200)
    checks.equal("with its own input", len(json.loads(server.get(items)[2])["data"]), 1)


def stored_files(server):
    folder = server.folder / "data/etalon/ledger/responses"
    return {path.name: path for path in folder.glob("*/resp_*")}


def check_erasure(server, checks):
    anna = {"headers": {"x-etalon-subject": "anna"}}
    bert = {"headers": {"x-etalon-subject": "bert"}}
    first = create(server, {"input": "I am Anna.", "store": True}, **anna)
    second = create(server, {"input": "I am Bert.", "store": True,
                             "previous_response_id": first["id"]}, **bert)
    third = create(server, {"input": "I am Bert.", "store": True}, **bert)
    copies = server.folder / "copies"
    copies.mkdir()
    files = stored_files(server)
    for one in (first, second, third):
        shutil.copy(files[one["id"]], copies)
        checks.equal("it has no words", b"Bert" in files[one["id"]].read_bytes(), False)
    done = server.start("erase", "anna", "--tenant", "local", "--reason", "letter 17")
    checks.equal("erased", done.returncode, 0)
    for one, status in ((first, 404), (second, 404), (third, 200)):
        checks.equal("after the erasure", get(server, one["id"])[0], status)
        checks.equal("its file", one["id"] in stored_files(server), status == 200)
        shutil.copy(copies / one["id"], files[one["id"]])
        checks.equal("its file put back", get(server, one["id"])[0], status)
    going_on = {"input": "x", "previous_response_id": second["id"]}
    checks.equal("nothing goes on from it", create(server, going_on, status=404)["code"],
                 "previous_response_not_found")
    server.run("erase", "--due")
    checks.equal("what cannot be opened is swept", sorted(
        set(stored_files(server)) & {first["id"], second["id"], third["id"]}), [third["id"]])


def intent_of(response):
    return int(response["etalon"]["receipt"].split("-")[1])


def check_content(server, checks):
    """Reading what others of the tenant stored: a reason, its record, then the text."""
    stored = create(server, {"input": "I feel ill.", "store": True})
    loose = create(server, {"input": "I feel ill."})
    path = f"/ledger/content/{intent_of(stored)}"
    reader = new_key(server, "--tenant", "local", "--scope", "content:read")
    checks.equal("scope infer", server.post(path, {"reason": "x"})[0], 403)
    checks.equal("no other use", get(server, stored["id"], key=reader)[0], 403)
    for body in ({}, {"reason": ""}, {"reason": " \n"}, {"reason": 7}, {"reason": "x" * 513}):
        status, _, text = server.post(path, body, key=reader)
        checks.equal(f"reason {str(body)[:20]}", (status, json.loads(text)["param"]),
                     (400, "reason"))
    other = new_key(server, "--tenant", "other", "--scope", "content:read")
    checks.equal("another tenant", server.post(path, {"reason": "x"}, key=other)[0], 404)
    for index in (intent_of(loose), 0, 10 ** 15, "x", "-1", "1" * 30):
        status, _, text = server.post(f"/ledger/content/{index}", {"reason": "x"}, key=reader)
        checks.equal(f"nothing held of {index}", (status, json.loads(text)["code"]),
                     (404, "content_not_held"))
    status, _, text = server.post(path, {"reason": "complaint 17"}, key=reader)
    content = json.loads(text)
    (server.folder / "reader").write_text(reader, encoding="ascii")
    done = server.start("ledger", "open", str(intent_of(stored)), "--reason", "complaint 18",
                        "--key-file", str(server.folder / "reader"))
    checks.equal("the command", (done.returncode, json.loads(done.stdout or "{}").get("response")),
                 (0, content["response"]))
    for index, reason, code in ((intent_of(stored), "", 2), (intent_of(loose), "x", 3)):
        done = server.start("ledger", "open", str(index), "--reason", reason, "--key-file",
                            str(server.folder / "reader"))
        checks.equal(f"the command, {reason}", (done.returncode, done.stdout), (code, ""))
    checks.equal("the content", (status, content["input"][0]["content"][0]["text"],
                                 text_of(content["response"])),
                 (200, "I feel ill.", text_of(stored)))
    return content["record"], intent_of(stored)


def check_records(server, checks, record, intent):
    """After the server: one reading was recorded, and the log holds."""
    lines = server.run("ledger", "tail", "--count", "1000", "--kind", "content_read",
                       "--json").splitlines()
    readings = [json.loads(line) for line in lines]
    checks.equal("their records", [(r["intent"], r["what"], r["reason"]) for r in readings],
                 [(intent, "stored", "complaint 17"), (intent, "stored", "complaint 18")])
    checks.equal("the record that was told", readings[0]["seq"], record)
    checks.equal("the log", server.start("ledger", "verify").returncode, 0)
    bundle = str(server.folder / "bundle")
    server.run("audit", "export", bundle)
    checks.equal("a bundle of it", server.start("audit", "verify", bundle).returncode, 0)
    words = [path for path in (server.folder / "data").rglob("*")
             if path.is_file() and b"I feel ill." in path.read_bytes()]
    checks.equal("files with the words", words, [])


def check_kills(checks):
    """Killed while it stores: what a client was given whole is there, the rest is not half."""
    with Server() as server:
        folder, own = server.folder, server.own_folder
        server.own_folder = False
    known = []
    for i in range(KILLS):
        with Server(folder=folder) as server:
            def ask(n):
                try:
                    known.append(create(server, {"input": f"Say {n}.", "store": True,
                                                 "max_output_tokens": 1}))
                except (OSError, RuntimeError, ValueError, http.client.HTTPException):
                    pass  # killed
            timer = threading.Timer(0.3 + 0.1 * i, server.process.send_signal, [signal.SIGKILL])
            timer.start()
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                list(pool.map(ask, range(200)))
            timer.join()
            server.process.wait(60)
    with Server(folder=folder) as server:
        for one in known:
            one.pop("headers")
            checks.equal("it was stored", json.loads(get(server, one["id"])[2]), one)
        for name in stored_files(server):
            if name.endswith(".new"):
                continue
            checks.equal("whole", get(server, name)[0], 200)
        checks.true(f"{len(known)} were given", known)
    if own:
        shutil.rmtree(folder, ignore_errors=True)


def check_limits(checks):
    """Of their count and age, and none at all."""
    with Server() as first:
        folder = first.folder
        first.own_folder = False
    for variable, value in (("ETALON_STORED_RESPONSES", "2"), ("ETALON_STORED_DAYS", "0")):
        server = Server(folder=folder)
        server.environment[variable] = value
        with server:
            body = {"input": "x", "store": True}
            if variable == "ETALON_STORED_DAYS":
                refused = create(server, body, status=400)
                checks.equal("none is stored", refused["param"], "store")
                checks.equal("what was is gone", stored_files(server), {})
                continue
            kept = [create(server, body) for _ in range(2)]
            full = create(server, body, status=429)
            checks.equal("full", full["code"], "stored_responses_full")
            create(server, {"input": "x"})
            server.request("DELETE", f"{RESPONSES}/{kept[0]['id']}")
            create(server, body)
            large = create(server, {**body, "input": "x" * (3 << 20)}, status=400)
            checks.equal("too large", large["param"], "store")
    shutil.rmtree(folder, ignore_errors=True)


def main():
    checks = Checks()
    with Server() as server:
        check_stored(server, checks)
        check_stream(server, checks)
        check_conversation(server, checks)
        check_erasure(server, checks)
        record, intent = check_content(server, checks)
        server.process.send_signal(signal.SIGTERM)
        server.process.wait(60)
        check_records(server, checks, record, intent)
    check_limits(checks)
    check_kills(checks)
    return checks.end()


if __name__ == "__main__":
    os.umask(0o077)
    sys.exit(main())
