// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/bundle_readme.h"

namespace etalon::ledger {

namespace {

constexpr std::string_view kReadme =
    R"text(# Audit bundle

`docs/ledger.md` of Etalon describes every byte of this folder and each step of its verification.

    etalon audit verify .                                  with the policy in this folder
    etalon audit verify . --policy FILE --held CHECKPOINT  with what you hold yourself

The second form is the one that proves something: a policy that came another way names the log, and
a checkpoint that you kept shows that nothing before it was changed. `docs/verify.md` has the same
check without our program, in Go, in JavaScript and by hand:

    verify . --policy FILE --checkpoint CHECKPOINT
    node verify.mjs . --policy FILE --checkpoint CHECKPOINT

A payload, by an auditor's private key:

    etalon audit open . INDEX --key KEY.pem --certificate CERTIFICATE.pem
    openssl cms -decrypt -binary -inform DER -in payloads/INDEX.cms -inkey KEY.pem \
        -recip CERTIFICATE.pem -out content.key            only the content key, 32 bytes

## Models

`models/HASH` is about the model that records name by HASH, which is

    sha256sum MODEL.gguf                                   of a model that is one file
    sha256sum *.safetensors | sha256sum                    of several, in their folder

`bom.cdx.json` is a bill of materials, CycloneDX 1.7: files and their hashes, quantisation, licence
as the file states it, the program that made this bundle and its libraries. What could not be found
out stands there as such. The form (Python package cyclonedx-python-lib[json-validation]) and the
files:

    python3 -c 'import sys, cyclonedx.schema, cyclonedx.validation.json as v; sys.exit(
        v.JsonStrictValidator(cyclonedx.schema.SchemaVersion.V1_7).validate_str(
            open(sys.argv[1]).read()))' models/HASH/bom.cdx.json
    jq -r '.metadata.component.components[]? | "\(.hashes[0].content)  \(.name)"' \
        models/HASH/bom.cdx.json >SHA256SUMS
    (cd MODEL-FOLDER && sha256sum -c) <SHA256SUMS

`model.sig` is the signature of the model (OpenSSF Model Signing v1.0) where the operator has one.
With the model and the public key, which come another way:

    etalon verify MODEL --signature models/HASH/model.sig --public-key KEY.pem.pub

`docs/signatures.md` has the same check without our program.

## Sandbox

`sandbox.json` has, for each load of a model, what the worker told of its locks, and what the kernel
of the exporting machine enforced when this bundle was made; which is which stands there. On any
machine:

    etalon doctor --sandbox

## Time

`stamps/SIZE.tsr` is the answer of a time stamping authority (RFC 3161) for the file
`stamps/SIZE.checkpoint`, a checkpoint of the first SIZE records: they were there at that time. With
the authority's certificate, which comes another way:

    etalon audit verify . --tsa-certificate TSA.pem
    openssl ts -verify -data stamps/SIZE.checkpoint -in stamps/SIZE.tsr -CAfile TSA.pem
    openssl ts -reply -in stamps/SIZE.tsr -text            what it says, unverified

Without stamps in this folder, none was asked for.
)text";

}  // namespace

std::string_view bundle_readme() noexcept {
    return kReadme;
}

}  // namespace etalon::ledger
