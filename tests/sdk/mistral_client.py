#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mistralai SDK as its documentation uses it. Arguments: address, key, model."""
import sys

from mistralai.client import Mistral
from mistralai.client.errors import SDKError

from features import Features

QUESTION = [{"role": "user", "content": "Hi"}]  # the answer is one sentence with the word STOP
STOP = "assist"


def check_chat(client, model, checks):
    options = {"model": model, "messages": QUESTION, "temperature": 0, "max_tokens": 24}
    answer = client.chat.complete(**options)
    text = answer.choices[0].message.content
    checks.true("chat", STOP in text)
    checks.equal("chat, finish", answer.choices[0].finish_reason, "stop")
    checks.equal("usage", answer.usage.total_tokens,
                 answer.usage.prompt_tokens + answer.usage.completion_tokens)
    chunks = [event.data for event in client.chat.stream(**options)]
    checks.equal("stream", "".join(c.choices[0].delta.content or "" for c in chunks), text)
    checks.equal("stream, finish", chunks[-1].choices[0].finish_reason, "stop")
    checks.equal("usage, of a stream", chunks[-1].usage.total_tokens, answer.usage.total_tokens)
    stopped = client.chat.complete(**options, stop=[STOP]).choices[0].message.content
    checks.equal("stop", stopped, text.split(STOP, maxsplit=1)[0])
    prefix = client.chat.complete(model=model, temperature=0, max_tokens=8, messages=QUESTION + [
        {"role": "assistant", "content": text.split(STOP, maxsplit=1)[0] + STOP, "prefix": True}])
    checks.true("prefix", text.endswith(prefix.choices[0].message.content))


def check_sampling(client, model, checks):
    options = {"model": model, "messages": QUESTION, "temperature": 1.3, "max_tokens": 12}
    one = client.chat.complete(**options, random_seed=5)
    two = client.chat.complete(**options, random_seed=5)
    checks.equal("seed", two.choices[0].message.content, one.choices[0].message.content)
    many = client.chat.complete(**options, random_seed=5, n=2)
    checks.equal("n", len(many.choices), 2)
    greedy = client.chat.complete(model=model, messages=QUESTION, temperature=0, max_tokens=4,
                                  logprobs=True, top_logprobs=3).choices[0]
    content = greedy.logprobs.content
    checks.equal("logprobs", "".join(entry.token for entry in content), greedy.message.content)
    checks.true("logprobs, ids", all(entry.token_id == entry.top_logprobs[0].token_id
                                     for entry in content))
    safe = client.chat.complete(**options, safe_prompt=True)
    checks.true("safe_prompt", safe.usage.prompt_tokens > one.usage.prompt_tokens)


def check_others(client, model, checks):
    checks.true("models", model in [one.id for one in client.models.list().data])
    card = client.models.retrieve(model_id=model)
    checks.equal("models, one", card.capabilities.completion_chat, True)
    vectors = client.embeddings.create(model=model, inputs=["a cat", "a dog"]).data
    checks.equal("embeddings", [v.index for v in vectors], [0, 1])
    checks.true("embeddings, they differ", vectors[0].embedding != vectors[1].embedding)


def check_errors(client, model, checks):
    error = checks.raised("errors", lambda: client.chat.complete(
        model=model, messages=QUESTION, temperature=9), SDKError)
    checks.equal("errors, a bad request", error.status_code, 400)
    checks.true("errors, its text", "temperature" in str(error))
    error = checks.raised("errors", lambda: client.fim.complete(
        model=model, prompt="def f(", suffix="return"), SDKError)
    checks.equal("errors, no FIM tokens", error.status_code, 400)


def main():
    base, key, model = sys.argv[1:]
    checks = Features("mistralai (Python)")
    checks.cannot("the client has no such call", "responses")
    checks.cannot("the client asks, but reads lists of numbers alone", "base64")
    for address in (base, base + "/mistral"):
        client = Mistral(api_key=key, server_url=address)
        checks.run((check_chat, check_sampling, check_others, check_errors), client, model)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
