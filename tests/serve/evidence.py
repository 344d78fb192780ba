#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What an audit bundle of a real server holds beside its log: bills of materials that fit CycloneDX
1.7, the operator's signatures of the models, and what the sandbox was."""
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

from served import Checks, Server

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "cli"))
import tiny_model  # noqa: E402  (its folder is known here first)


SECONDS_MAX = 30


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_schema(checks, text):
    """1 where there is nothing to check with."""
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
        validator = JsonStrictValidator(SchemaVersion.V1_7)
        error = validator.validate_str(text)
    except ImportError:
        return 1
    checks.equal("the bill of materials by the schema of CycloneDX", error, None)
    broken = json.loads(text)
    broken["metadata"]["component"]["type"] = "model"
    checks.true("a broken one by it", validator.validate_str(json.dumps(broken)))
    return 0


def wait_for(is_there):
    end = time.monotonic() + SECONDS_MAX
    while not is_there() and time.monotonic() < end:
        time.sleep(0.1)


def properties(component):
    return {one["name"].removeprefix("etalon:"): one["value"] for one in component["properties"]}


def check_bill(checks, bill, model):
    checks.equal("what it is", (bill["bomFormat"], bill["specVersion"]), ("CycloneDX", "1.7"))
    component = bill["metadata"]["component"]
    digest = sha256_of(model)
    checks.equal("the model", (component["type"], component["hashes"]),
                 ("machine-learning-model", [{"alg": "SHA-256", "content": digest}]))
    checks.equal("its files", [(one["name"], one["hashes"][0]["content"], properties(one)["bytes"])
                               for one in component["components"]],
                 [(model.name, digest, str(model.stat().st_size))])
    told = properties(component)
    checks.equal("its hash as records have it", told["model-sha256"], digest)
    checks.true("its quantisation", told["quantisation"])
    checks.equal("its architecture",
                 component["modelCard"]["modelParameters"]["modelArchitecture"], "llama")
    parts = {one["name"]: one for one in bill["components"]}
    program = parts["etalon"]
    checks.equal("the program", (program["type"], program["hashes"][0]["content"]),
                 ("application", sha256_of(pathlib.Path(os.environ["ETALON_BINARY"]).resolve())))
    crypto = next(one for name, one in parts.items() if name.startswith("libcrypto.so"))
    checks.equal("a library that is loaded", crypto["hashes"][0]["content"],
                 sha256_of(pathlib.Path(properties(crypto)["file"])))
    checks.true("a library that is compiled in", "nlohmann_json" in parts)
    refs = {one["bom-ref"] for one in bill["components"]}
    checks.true("what depends on what", set(bill["dependencies"][0]["dependsOn"]) < refs)
    return told


def export(server, name, *options):
    bundle = server.folder / name
    done = server.start("audit", "export", str(bundle), *options)
    return bundle, done


def bill_of(bundle, digest):
    return (bundle / "models" / digest / "bom.cdx.json").read_text(encoding="utf-8")


def told_of(bundle, digest):
    return properties(json.loads(bill_of(bundle, digest))["metadata"]["component"])


def check_whole(checks, server, model, named, public):
    """The model is here and signed; how many checks could not be made."""
    digest = sha256_of(model)
    bundle, done = export(server, "whole", *named, *public)
    checks.equal(f"the export, {done.stderr}", done.returncode, 0)
    checks.equal("it is accepted", server.start("audit", "verify", str(bundle)).returncode, 0)
    skipped = check_schema(checks, bill_of(bundle, digest))
    told = check_bill(checks, json.loads(bill_of(bundle, digest)), model)
    checks.true("the signature was compared", "it fitted" in told["signature"])
    signature = bundle / "models" / digest / "model.sig"
    checks.equal("the signature", signature.read_bytes(),
                 pathlib.Path(f"{model}.sig").read_bytes())
    checks.equal("it verifies from the bundle",
                 server.start("verify", str(model), "--signature", str(signature),
                              *public).returncode, 0)
    sandbox = json.loads((bundle / "sandbox.json").read_text(encoding="utf-8"))
    run = sandbox["runs"][0]
    checks.equal("the run is of the model", run["model"], digest)
    checks.true("what the worker told of its locks",
                any(line.startswith("seccomp:") for line in run["told"]))
    checks.true("what the exporting machine enforces",
                any(one["name"] == "connect"
                    for one in sandbox["exporting_machine"]["probe"]["canaries"]))
    bundle, _ = export(server, "unchecked", *named)
    checks.true("without a key the signature is not compared",
                "not checked" in told_of(bundle, digest)["signature"])
    return skipped


def check_missing(checks, server, model, named, public):
    """A model that is not here, one that is none, a signature that is none, a run without a trace;
    how many checks could not be made."""
    digest = sha256_of(model)
    bundle, done = export(server, "absent")
    checks.equal("it is told", (done.returncode, digest in done.stderr), (0, True))
    skipped = check_schema(checks, bill_of(bundle, digest))
    component = json.loads(bill_of(bundle, digest))["metadata"]["component"]
    checks.equal("no more than is known", ("hashes" in component, "components" in component,
                                           properties(component)["model-file"][:10]),
                 (False, False, "is not on "))
    checks.equal("that bundle too is accepted",
                 server.start("audit", "verify", str(bundle)).returncode, 0)
    broken = model.with_name("broken.gguf")
    broken.write_bytes(model.read_bytes()[:1000])
    bundle, done = export(server, "broken", "--model", str(broken))
    checks.equal("a broken model", (done.returncode, bundle.exists()), (5, False))
    pathlib.Path(f"{model}.sig").write_bytes(b"{}")
    bundle, done = export(server, "bad-signature", *named, *public)
    checks.equal("a signature that is none",
                 ("did NOT hold" in told_of(bundle, digest)["signature"],
                  "did NOT hold" in done.stderr), (True, True))
    shutil.rmtree(server.folder / "data/etalon/ledger/log/sandbox")
    bundle, _ = export(server, "unknown-run", *named)
    sandbox = json.loads((bundle / "sandbox.json").read_text(encoding="utf-8"))
    checks.equal("nothing is said of a run without a trace", sandbox["runs"][0]["told"], None)
    return skipped


def main():
    checks = Checks()
    with tempfile.TemporaryDirectory(prefix="etalon-evidence-") as name:
        model = pathlib.Path(name) / "tiny.gguf"
        tiny_model.write(model)
        os.environ["ETALON_TEST_MODEL"] = str(model)
        with Server() as server:
            key = f"{name}/key.pem"
            server.run("sign", str(model), "--new-key", key)
            _, headers, _ = server.post("/v1/completions", {
                "model": server.model, "prompt": "Hi", "max_tokens": 2})
            wait_for(lambda: server.get(f"/v1/receipts/{headers['x-etalon-receipt']}")[0] == 200)
            given = ("--model", str(model)), ("--public-key", f"{key}.pub")
            skipped = check_whole(checks, server, model, *given)
            skipped += check_missing(checks, server, model, *given)
    print(f"{checks.passed} passed, {checks.failed} failed" +
          (f", {skipped} skipped" if skipped else ""))
    return 1 if checks.failed or not checks.passed else 0


if __name__ == "__main__":
    sys.exit(main())
