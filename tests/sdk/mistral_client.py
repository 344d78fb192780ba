#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mistralai SDK as its documentation uses it. Arguments: address, key, model."""
import pathlib
import sys

from mistralai.client import Mistral
from mistralai.client.errors import SDKError

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "serve"))
from served import Checks  # noqa: E402

QUESTION = [{"role": "user", "content": "Hi"}]  # the answer is one sentence with the word STOP
STOP = "assist"


def check_chat(client, model, checks):
    answer = client.chat.complete(model=model, messages=QUESTION, temperature=0, max_tokens=24)
    text = answer.choices[0].message.content
    checks.true("chat", STOP in text)
    checks.equal("finish", answer.choices[0].finish_reason, "stop")
    chunks = [event.data for event in client.chat.stream(model=model, messages=QUESTION,
                                                         temperature=0, max_tokens=24)]
    checks.equal("stream", "".join(c.choices[0].delta.content or "" for c in chunks), text)
    checks.equal("usage in the last chunk", chunks[-1].usage.total_tokens,
                 answer.usage.total_tokens)
    checks.equal("finish of the stream", chunks[-1].choices[0].finish_reason, "stop")
    prefix = client.chat.complete(model=model, temperature=0, max_tokens=8, messages=QUESTION + [
        {"role": "assistant", "content": text.split(STOP, maxsplit=1)[0] + STOP, "prefix": True}])
    checks.true("prefix", text.endswith(prefix.choices[0].message.content))


def check_sampling(client, model, checks):
    options = {"model": model, "messages": QUESTION, "temperature": 1.3, "max_tokens": 12}
    one = client.chat.complete(**options, random_seed=5)
    two = client.chat.complete(**options, random_seed=5)
    checks.equal("random_seed", two.choices[0].message.content, one.choices[0].message.content)
    many = client.chat.complete(**options, random_seed=5, n=2)
    checks.equal("n", len(many.choices), 2)
    safe = client.chat.complete(**options, safe_prompt=True)
    checks.true("safe_prompt", safe.usage.prompt_tokens > one.usage.prompt_tokens)


def check_others(client, model, checks):
    models = client.models.list().data
    checks.true("models", model in [one.id for one in models])
    card = client.models.retrieve(model_id=model)
    checks.equal("model", card.capabilities.completion_chat, True)


def check_errors(client, model, checks):
    try:
        client.chat.complete(model=model, messages=QUESTION, temperature=9)
        checks.true("a bad request", False)
    except SDKError as error:
        checks.equal("a bad request", error.status_code, 400)
        checks.true("its text", "temperature" in str(error))
    vectors = client.embeddings.create(model=model, inputs=["a cat", "a dog"]).data
    checks.equal("a vector a text", [v.index for v in vectors], [0, 1])
    checks.true("they differ", vectors[0].embedding != vectors[1].embedding)
    try:
        client.fim.complete(model=model, prompt="def f(", suffix="return")
        checks.true("no FIM tokens", False)
    except SDKError as error:
        checks.equal("no FIM tokens", error.status_code, 400)


def main():
    base, key, model = sys.argv[1:]
    checks = Checks()
    for address in (base, base + "/mistral"):
        client = Mistral(api_key=key, server_url=address)
        for check in (check_chat, check_sampling, check_others, check_errors):
            try:
                check(client, model, checks)
            except Exception as error:  # the other checks still run
                checks.failed += 1
                print(f"{address} {check.__name__}: {error!r}")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
