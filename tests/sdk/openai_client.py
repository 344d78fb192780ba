#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The openai SDK as its documentation uses it. Arguments: address, key, model."""
import sys

import openai

from features import Features

QUESTION = [{"role": "user", "content": "Hi"}]  # the answer is one sentence with the word STOP
STOP = "assist"


def check_chat(client, model, checks):
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0,
                                            max_tokens=24)
    text = answer.choices[0].message.content
    checks.true("chat", STOP in text)
    checks.equal("chat, finish", answer.choices[0].finish_reason, "stop")
    checks.equal("usage", answer.usage.total_tokens,
                 answer.usage.prompt_tokens + answer.usage.completion_tokens)
    chunks = list(client.chat.completions.create(
        model=model, messages=QUESTION, temperature=0, max_completion_tokens=24, stream=True,
        stream_options={"include_usage": True}))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    checks.equal("stream", streamed, text)
    checks.equal("usage, of a stream", chunks[-1].usage.total_tokens, answer.usage.total_tokens)
    stop = client.chat.completions.create(model=model, messages=QUESTION, temperature=0,
                                          max_tokens=24, stop=STOP)
    checks.equal("stop", stop.choices[0].message.content, text.split(STOP, maxsplit=1)[0])
    with client.chat.completions.stream(model=model, messages=QUESTION, temperature=0,
                                        max_tokens=24) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion()
    checks.equal("stream, helper", final.choices[0].message.content, text)


def check_sampling(client, model, checks):
    options = {"model": model, "messages": QUESTION, "temperature": 1.3, "max_tokens": 12,
               "seed": 5}
    one = client.chat.completions.create(**options)
    two = client.chat.completions.create(**options)
    checks.equal("seed", two.choices[0].message.content, one.choices[0].message.content)
    many = client.chat.completions.create(**options, n=3)
    checks.equal("n", [choice.index for choice in many.choices], [0, 1, 2])
    checks.equal("n, and seed", many.choices[0].message.content, one.choices[0].message.content)
    logprobs = client.chat.completions.create(model=model, messages=QUESTION, temperature=0,
                                              max_tokens=4, logprobs=True, top_logprobs=3)
    content = logprobs.choices[0].logprobs.content
    checks.equal("logprobs", (len(content), len(content[0].top_logprobs)), (4, 3))
    extra = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=4,
                                           extra_body={"top_k": 1})
    checks.equal("top_k", extra.choices[0].message.content,
                 "".join(entry.token for entry in content))


def check_others(client, model, checks):
    checks.true("models", model in [one.id for one in client.models.list()])
    checks.equal("models, one", client.models.retrieve(model).id, model)
    completion = client.completions.create(model=model, prompt="One, two, three,", max_tokens=4,
                                           temperature=0)
    checks.true("completions", "four" in completion.choices[0].text)
    options = {"model": model, "input": QUESTION, "temperature": 0, "max_output_tokens": 24}
    response = client.responses.create(**options)
    checks.true("responses", STOP in response.output_text)
    events = list(client.responses.create(**options, stream=True))
    checks.equal("responses, streamed", "".join(
        e.delta for e in events if e.type == "response.output_text.delta"), response.output_text)
    checks.equal("responses, the last event", events[-1].type, "response.completed")
    check_stored(client, options, checks)


def check_stored(client, options, checks):
    stored = client.responses.create(**options, store=True, metadata={"case": "17"})
    again = client.responses.retrieve(stored.id)
    checks.equal("responses, stored", again.model_dump(), stored.model_dump())
    following = {**options, "input": "And in French?", "store": True}
    second = client.responses.create(**following, previous_response_id=stored.id)
    whole = [*QUESTION, {"role": "assistant", "content": stored.output_text},
             {"role": "user", "content": "And in French?"}]
    checks.equal("responses, going on", second.output_text,
                 client.responses.create(**{**options, "input": whole}).output_text)
    items = list(client.responses.input_items.list(second.id, order="asc", limit=1))
    checks.equal("responses, their items", [item.content[0].text for item in items],
                 [message["content"] for message in whole])
    client.responses.delete(stored.id)
    checks.true("responses, deleted", checks.raised(
        "responses", lambda: client.responses.retrieve(stored.id), openai.NotFoundError))
    error = checks.raised("responses", lambda: client.responses.create(
        **following, previous_response_id=second.id), openai.NotFoundError)
    checks.equal("responses, going on from nothing", error.code, "previous_response_not_found")


def check_vectors(client, model, checks):
    packed = client.embeddings.create(model=model, input=["a cat", "a dog"]).data
    plain = client.embeddings.create(model=model, input=["a cat"], encoding_format="float").data
    checks.equal("embeddings", [one.index for one in packed], [0, 1])
    checks.true("embeddings, they differ", packed[0].embedding != packed[1].embedding)
    # Without encoding_format the SDK asks for base64.
    checks.equal("base64", len(packed[0].embedding), len(plain[0].embedding))
    checks.true("base64, its floats", all(abs(a - b) < 1e-7 for a, b in zip(
        packed[0].embedding, plain[0].embedding)))
    error = checks.raised("errors", lambda: client.embeddings.create(
        model=model, input="a", dimensions=7), openai.BadRequestError)
    checks.equal("errors, another dimension", error.param, "dimensions")


def check_errors(client, model, checks):
    create = client.chat.completions.create
    error = checks.raised("errors", lambda: create(model=model, messages=QUESTION, temperature=9),
                          openai.BadRequestError)
    checks.equal("errors, a bad request", (error.param, error.code),
                 ("temperature", "invalid_value"))
    checks.true("errors, the id", error.request_id.startswith("req_"))
    error = checks.raised("errors", lambda: create(model="none", messages=QUESTION),
                          openai.NotFoundError)
    checks.equal("errors, no such model", error.code, "model_not_found")
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    error = checks.raised("errors", lambda: create(model=model, messages=QUESTION, tools=tools),
                          openai.BadRequestError)
    checks.equal("errors, tools", error.param, "tools")
    stranger = client.with_options(api_key="none")
    checks.true("errors, no key", checks.raised("errors", stranger.models.list,
                                                openai.AuthenticationError))


def main():
    base, key, model = sys.argv[1:]
    checks = Features("openai (Python)")
    for path in ("/v1", "/openai/v1"):
        client = openai.OpenAI(base_url=base + path, api_key=key, max_retries=0)
        checks.run((check_chat, check_sampling, check_others, check_vectors, check_errors),
                   client, model)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
