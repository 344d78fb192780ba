#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""langchain-openai, langchain-mistralai and litellm as their documentation uses them. Arguments:
address, key, model."""
import base64
import os
import pathlib
import struct
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices
import litellm  # noqa: E402
from langchain_mistralai import ChatMistralAI, MistralAIEmbeddings  # noqa: E402
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # noqa: E402
from tokenizers import Tokenizer, models  # noqa: E402

litellm.suppress_debug_info = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "serve"))
from served import Checks  # noqa: E402

STOP = "assist"  # a word of the answer to QUESTION
QUESTION = "Hi"


def check_chat(chat, checks):
    answer = chat.invoke(QUESTION)
    checks.true("chat", STOP in answer.content)
    usage = answer.usage_metadata
    checks.equal("usage", usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])
    checks.equal("stream", "".join(part.content for part in chat.stream(QUESTION)),
                 answer.content)
    checks.equal("stop", chat.invoke(QUESTION, stop=[STOP]).content,
                 answer.content.split(STOP, maxsplit=1)[0])


def check_vectors(embeddings, checks):
    vectors = embeddings.embed_documents(["a cat", "a dog"])
    checks.equal("a vector a text", len(vectors), 2)
    checks.true("they differ", vectors[0] != vectors[1])
    checks.true("their length is 1", all(abs(sum(x * x for x in v) - 1) < 1e-4 for v in vectors))
    alone = embeddings.embed_query("a cat")
    checks.true("alone the same", len(alone) == len(vectors[0]) and
                all(abs(a - b) < 1e-7 for a, b in zip(alone, vectors[0])))


def check_openai(base, key, model, checks):
    options = {"base_url": base + "/v1", "api_key": key, "model": model, "max_tokens": 24,
               "max_retries": 0}
    check_chat(ChatOpenAI(temperature=0, **options), checks)
    seeded = ChatOpenAI(temperature=1.3, seed=5, logprobs=True, **options)
    one = seeded.invoke(QUESTION)
    checks.equal("seed", seeded.invoke(QUESTION).content, one.content)
    checks.true("logprobs", one.response_metadata["logprobs"]["content"])
    # Without its own tokenizer, which it would fetch: texts are sent as texts.
    check_vectors(OpenAIEmbeddings(base_url=base + "/v1", api_key=key, model=model, max_retries=0,
                                   check_embedding_ctx_length=False), checks)


def check_mistral(base, key, model, checks):
    check_chat(ChatMistralAI(endpoint=base + "/mistral/v1", api_key=key, model=model, temperature=0,
                             max_tokens=24, max_retries=0), checks)
    # Its tokenizer only measures batches; without one of ours it would fetch another.
    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    check_vectors(MistralAIEmbeddings(endpoint=base + "/mistral/v1/", api_key=key, model=model,
                                      max_retries=0, tokenizer=words), checks)


def check_litellm(base, key, model, checks):
    options = {"api_base": base + "/v1", "api_key": key, "model": "openai/" + model,
               "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 24,
               "temperature": 0}
    text = litellm.completion(**options).choices[0].message.content
    checks.true("chat", STOP in text)
    parts = [part.choices[0].delta.content or ""
             for part in litellm.completion(**options, stream=True)]
    checks.equal("stream", "".join(parts), text)
    stopped = litellm.completion(**options, stop=[STOP]).choices[0].message.content
    checks.equal("stop", stopped, text.split(STOP, maxsplit=1)[0])
    plain, packed = (litellm.embedding(
        model="openai/" + model, api_base=base + "/v1", api_key=key, input=["a cat"],
        encoding_format=how).data[0]["embedding"] for how in ("float", "base64"))
    checks.true("vectors", len(plain) > 1 and plain != [0] * len(plain))
    if isinstance(packed, str):  # handed on as it came
        packed = struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))
    checks.true("base64 is the same vector", len(packed) == len(plain) and
                all(abs(a - b) < 1e-7 for a, b in zip(packed, plain)))
    try:
        litellm.completion(**{**options, "temperature": 9})
        checks.true("a bad request", False)
    except litellm.BadRequestError as error:
        checks.true("a bad request", "temperature" in str(error))


def main():
    base, key, model = sys.argv[1:]
    checks = Checks()
    for check in (check_openai, check_mistral, check_litellm):
        try:
            check(base, key, model, checks)
        except Exception as error:  # the other checks still run
            checks.failed += 1
            print(f"{check.__name__}: {error!r}")
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
