#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""schemathesis against the real server and its own /openapi.json: bodies that the schema allows,
narrowed to short answers, and bodies that it forbids, SECONDS each. No answer is a 5xx or of a
shape that is not described, and what the schema forbids is refused."""
import json
import os
import re
import subprocess
import sys

from features import Checks
from packages import HERE, python_environment
from served import Server

SECONDS = 15
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_schema_conformance", "negative_data_rejection", "unsupported_method")
SHORT = {"max_tokens": 2, "max_completion_tokens": 2, "max_output_tokens": 2, "n": 2}


def narrowed(document, model, short):
    """The document for one model; `short`: for answers of two tokens too, which the server would
    not insist on."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "requestBody" not in operation:
                continue
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            fields, required = schema["properties"], schema["required"]
            if "model" in fields:
                fields["model"] = {"enum": [model] + ([] if "model" in required else [None])}
            for name, most in SHORT.items():
                if short and name in fields:
                    fields[name] = {"type": "integer", "minimum": 1, "maximum": most}
                    required.append(name)
    return document


def answers_of(server):
    """How many requests had which status."""
    found = {}
    for line in server.get("/metrics")[2].splitlines():
        if line.startswith("etalon_requests_total"):
            code = re.search(r'code="(\d+)"', line)[1]
            found[code] = found.get(code, 0) + int(float(line.split()[-1]))
    return found


def explore(mode, server, python, checks):
    file = server.folder / f"openapi-{mode}.json"
    document = json.loads(server.get("/openapi.json")[2])
    document = narrowed(document, server.model, mode == "positive")
    file.write_text(json.dumps(document), encoding="utf-8")
    variables = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    done = subprocess.run(
        [python.parent / "st", "run", file, "--url", server.base, "--header",
         f"Authorization: Bearer {server.key}", "--max-time", str(SECONDS), "--mode", mode,
         "--checks", ",".join(CHECKS), "--seed", "1", "--phases", "coverage,fuzzing",
         "--no-shrink", "--continue-on-failure", "--warnings", "off"],
        cwd=server.folder, env=variables, capture_output=True, text=True, check=False,
        timeout=20 * SECONDS)
    print(done.stdout[-12000:], done.stderr[-2000:])
    checks.equal(f"{mode} bodies: schemathesis found nothing", done.returncode, 0)
    checks.equal(f"{mode} bodies: the server still runs", server.process.poll(), None)


def main():
    checks = Checks()
    python = python_environment("openapi", HERE / "openapi.txt")
    with Server() as server:
        for mode in ("positive", "negative"):
            explore(mode, server, python, checks)
        answers = answers_of(server)
        print(answers)
        checks.equal("no 5xx", [code for code in answers if code.startswith("5")], [])
        checks.true("bodies were accepted and refused",
                    answers.get("200", 0) > 0 and answers.get("400", 0) > 0)
    return checks.end()


if __name__ == "__main__":
    sys.exit(main())
