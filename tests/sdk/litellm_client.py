#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""litellm as its documentation uses it. Arguments: address, key, model."""
import base64
import os
import struct
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the internet for prices
import litellm  # noqa: E402

from features import Features  # noqa: E402

litellm.suppress_debug_info = True
QUESTION = [{"role": "user", "content": "Hi"}]  # the answer is one sentence with the word STOP
STOP = "assist"


def check_chat(options, checks):
    options = {**options, "messages": QUESTION, "max_tokens": 24, "temperature": 0}
    answer = litellm.completion(**options)
    text = answer.choices[0].message.content
    checks.true("chat", STOP in text)
    checks.equal("usage", answer.usage.total_tokens,
                 answer.usage.prompt_tokens + answer.usage.completion_tokens)
    parts = list(litellm.completion(**options, stream=True,
                                    stream_options={"include_usage": True}))
    checks.equal("stream", "".join(choice.delta.content or "" for part in parts
                                   for choice in part.choices), text)
    checks.equal("usage, of a stream", parts[-1].usage.total_tokens, answer.usage.total_tokens)
    stopped = litellm.completion(**options, stop=[STOP]).choices[0].message.content
    checks.equal("stop", stopped, text.split(STOP, maxsplit=1)[0])
    error = checks.raised("errors", lambda: litellm.completion(**{**options, "temperature": 9}),
                          litellm.BadRequestError)
    checks.true("errors, a bad request", "temperature" in str(error))


def check_sampling(options, checks):
    options = {**options, "messages": QUESTION, "max_tokens": 12, "temperature": 1.3, "seed": 5}
    one, two = (litellm.completion(**options).choices[0].message.content for _ in range(2))
    checks.equal("seed", two, one)
    checks.equal("n", len(litellm.completion(**options, n=2).choices), 2)
    content = litellm.completion(**options, logprobs=True, top_logprobs=3).choices[0].logprobs
    checks.equal("logprobs", len(content["content"][0]["top_logprobs"]), 3)


def check_others(options, checks):
    plain, packed = (litellm.embedding(**options, input=["a cat"], encoding_format=how)
                     .data[0]["embedding"] for how in ("float", "base64"))
    checks.true("embeddings", len(plain) > 1 and plain != [0] * len(plain))
    if isinstance(packed, str):  # handed on as it came
        packed = struct.unpack(f"<{len(plain)}f", base64.b64decode(packed))
    checks.true("base64", len(packed) == len(plain) and
                all(abs(a - b) < 1e-7 for a, b in zip(packed, plain)))
    answer = litellm.responses(**options, input="Hi", temperature=0, max_output_tokens=24)
    checks.true("responses", STOP in answer.output[-1].content[0].text)


def main():
    address, key, model = sys.argv[1:]
    options = {"api_base": address + "/v1", "api_key": key, "model": "openai/" + model,
               "max_retries": 0}
    checks = Features("litellm (Python)")
    checks.cannot("the client lists models of its own table", "models")
    checks.run((check_chat, check_sampling, check_others), options)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
