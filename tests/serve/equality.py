#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""200 different requests, 32 at once: each answer equals its answer alone, with the prefix cache
cold and warm. Compared are text, finish, log-probabilities, counts of tokens and digests."""
import concurrent.futures
import json
import random
import sys

from served import Checks, Server

REQUESTS = 200
AT_ONCE = 32
SHARED = "You are a careful clerk of a small harbour. Answer in plain words. " * 6


def request(number):
    """Request `number`, the same in every run."""
    draw = random.Random(number)
    subject = draw.choice(["sea", "moon", "law", "rain"])
    question = f"Write {number} words about the {subject}. " + "Be brief. " * draw.randrange(12)
    messages = [{"role": "user", "content": question}]
    if draw.random() < 0.5:
        messages.insert(0, {"role": "system", "content": SHARED})
    body = {"messages": messages, "max_tokens": draw.randint(1, 10), "seed": number,
            "temperature": draw.choice([0, 0.3, 0.7, 1, 1.6])}
    choices = {"top_p": [0.5, 0.9], "top_k": [1, 5, 40], "min_p": [0.05, 0.2], "n": [2],
               "presence_penalty": [-0.5, 1.5], "frequency_penalty": [0.5, 1],
               "repetition_penalty": [1.1, 1.3], "stop": [["."], [" the", "\n"]],
               "ignore_eos": [True], "logit_bias": [{"28": -100, "30": 5}]}
    for field, values in choices.items():
        if draw.random() < 0.25:
            body[field] = draw.choice(values)
    if draw.random() < 0.3:
        body.update(logprobs=True, top_logprobs=draw.randint(0, 5))
    if draw.random() < 0.5:
        body.update(stream=True, stream_options={"include_usage": True})
    return body


def joined(chunks):
    """What the chunks of a stream say together, as `whole` gives it."""
    choices = {}
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        text, entries, finish = choices.get(choice["index"], ("", [], None))
        entries = entries + ((choice.get("logprobs") or {}).get("content") or [])
        text += choice["delta"].get("content") or ""
        choices[choice["index"]] = (text, entries, choice["finish_reason"] or finish)
    digests = [chunk["etalon"] for chunk in chunks if chunk.get("etalon")]
    return [choices[i] for i in sorted(choices)], chunks[-1]["usage"], digests[-1]


def whole(answer):
    choices = [(choice["message"]["content"], (choice["logprobs"] or {}).get("content") or [],
                choice["finish_reason"]) for choice in answer["choices"]]
    return choices, answer["usage"], answer["etalon"]


def ask(server, body):
    """Everything of the answer that must not depend on others, as one text."""
    body = dict(body)
    messages = body.pop("messages")
    answer = server.chat("", **{**body, "messages": messages})
    choices, usage, etalon = joined(answer) if body.get("stream") else whole(answer)
    return json.dumps([choices, usage["prompt_tokens"], usage["completion_tokens"],
                       etalon["digests"]])


def ask_all(server, bodies, at_once):
    def one(body):
        try:
            return ask(server, body)
        except Exception as error:  # differs from every answer
            return f"failed: {error!r}"
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, bodies))


def main():
    bodies = [request(number) for number in range(REQUESTS)]
    checks = Checks()
    with Server() as server:
        alone = ask_all(server, bodies, 1)
    with Server() as server:
        together = {"cold": ask_all(server, bodies, AT_ONCE),
                    "warm": ask_all(server, bodies, AT_ONCE)}
    checks.equal("answers without an error", [a for a in alone if a.startswith("failed")], [])
    for cache, answers in together.items():
        for number, (got, expected) in enumerate(zip(answers, alone)):
            checks.equal(f"{cache}, {bodies[number]}", got, expected)
        same = sum(got == expected for got, expected in zip(answers, alone))
        print(f"{cache} cache: {same}/{REQUESTS} equal their run alone")
    checks.true("the requests differ", len(set(alone)) > REQUESTS // 2)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
