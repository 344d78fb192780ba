#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""langchain-openai and langchain-mistralai as their documentation uses them. Arguments: address,
key, model."""
import sys

import httpx
import openai
from langchain_core.messages import HumanMessage
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from tokenizers import Tokenizer, models

from features import Features

STOP = "assist"  # a word of the answer to QUESTION
QUESTION = "Hi"
NO_CALL = "the client has no such call"


def check_chat(make, checks):
    chat = make(temperature=0)
    answer = chat.invoke(QUESTION)
    checks.true("chat", STOP in answer.content)
    usage = answer.usage_metadata
    checks.equal("usage", usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
    parts = list(chat.stream(QUESTION))
    checks.equal("stream", "".join(part.content for part in parts), answer.content)
    told = [part.usage_metadata for part in parts if part.usage_metadata]
    checks.equal("usage, of a stream", told[-1]["total_tokens"], usage["total_tokens"])
    checks.equal("stop", chat.invoke(QUESTION, stop=[STOP]).content,
                 answer.content.split(STOP, maxsplit=1)[0])


def check_vectors(embeddings, checks):
    vectors = embeddings.embed_documents(["a cat", "a dog"])
    checks.equal("embeddings", len(vectors), 2)
    checks.true("embeddings, they differ", vectors[0] != vectors[1])
    checks.true("embeddings, their length is 1",
                all(abs(sum(x * x for x in v) - 1) < 1e-4 for v in vectors))
    alone = embeddings.embed_query("a cat")
    checks.true("embeddings, alone the same", len(alone) == len(vectors[0]) and
                all(abs(a - b) < 1e-7 for a, b in zip(alone, vectors[0])))


def check_openai(base, key, model, checks):
    options = {"base_url": base + "/v1", "api_key": key, "model": model, "max_retries": 0}

    def make(**more):
        return ChatOpenAI(**options, max_tokens=24, **more)

    check_chat(lambda **more: make(stream_usage=True, **more), checks)
    seeded = make(temperature=1.3, seed=5, logprobs=True)
    one = seeded.invoke(QUESTION)
    checks.equal("seed", seeded.invoke(QUESTION).content, one.content)
    checks.true("logprobs", one.response_metadata["logprobs"]["content"])
    many = make(temperature=1.3, n=2).generate([[HumanMessage(QUESTION)]])
    checks.equal("n", len(many.generations[0]), 2)
    error = checks.raised("errors", lambda: make(temperature=9).invoke(QUESTION),
                          openai.BadRequestError)
    checks.equal("errors, a bad request", error.param, "temperature")
    answer = make(temperature=0, use_responses_api=True).invoke(QUESTION)
    checks.true("responses", STOP in answer.text)
    # Without its own tokenizer, which it would fetch: texts are sent as texts.
    check_vectors(OpenAIEmbeddings(**options, check_embedding_ctx_length=False), checks)


def check_mistral(base, key, model, checks):
    options = {"endpoint": base + "/mistral/v1", "api_key": key, "model": model, "max_retries": 0}

    def make(**more):
        return ChatMistralAI(**options, max_tokens=24, **more)

    check_chat(make, checks)
    seeded = make(temperature=1, random_seed=5)  # the client itself refuses more
    checks.equal("seed", seeded.invoke(QUESTION).content, seeded.invoke(QUESTION).content)
    stranger = ChatMistralAI(**{**options, "model": "none"})
    error = checks.raised("errors", lambda: stranger.invoke(QUESTION), httpx.HTTPStatusError)
    checks.equal("errors, no such model", error.response.status_code, 404)
    # Its tokenizer only measures batches; without one of ours it would fetch another.
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    options["endpoint"] += "/"
    check_vectors(MistralAIEmbeddings(**options, tokenizer=words), checks)


def main():
    base, key, model = sys.argv[1:]
    with_openai = Features("langchain-openai (Python)")
    with_openai.cannot(NO_CALL, "models")
    with_openai.cannot("the openai package below it asks for base64, always", "base64")
    with_openai.run([check_openai], base, key, model)
    with_mistral = Features("langchain-mistralai (Python)")
    with_mistral.cannot(NO_CALL, "models", "base64", "responses", "n", "logprobs")
    with_mistral.run([check_mistral], base, key, model)
    return with_openai.end() | with_mistral.end()


if __name__ == "__main__":
    sys.exit(main())
