// SPDX-License-Identifier: Apache-2.0
// Sigstore bundles with a DSSE envelope.
#include "weights/internal/oms_bundle.h"

#include <algorithm>
#include <fmt/format.h>
#include <initializer_list>

#include "base/base64.h"
#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/json_text.h"

namespace etalon::weights {

using nlohmann::json;

namespace {

constexpr std::string_view kMediaType = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr std::string_view kPayloadType = "application/vnd.in-toto+json";

void refuse_others(const json& object, const char* what, const std::string& file,
                   std::initializer_list<std::string_view> known) {
    for (const auto& [key, value] : object.items()) {
        if (std::find(known.begin(), known.end(), key) == known.end()) {
            refuse(file, fmt::format("{}.{}", what, printable(key, 80)), "is not known");
        }
    }
}

/// The key that the bundle names, if it names one, is ours. The name proves nothing: it only gives
/// a clearer message than a signature that does not fit.
void check_material(const JsonFields& bundle, const PublicKey& key, const std::string& file) {
    const JsonFields material = bundle.object("verificationMaterial");
    const json& object = bundle.at("verificationMaterial");
    for (const char* other : {"x509CertificateChain", "certificate"}) {
        if (material.has(other)) {
            material.fail(other, "is a certificate; only signatures with a bare key are read");
        }
    }
    refuse_others(object, "verificationMaterial", file,
                  {"publicKey", "tlogEntries", "timestampVerificationData"});
    const JsonFields named = material.object("publicKey");
    // Older signers wrote the key itself and no hint.
    refuse_others(material.at("publicKey"), "publicKey", file, {"hint", "rawBytes", "keyDetails"});
    const std::string hint = named.text_or("hint", "");
    if (!hint.empty() && hint != key.hint()) {
        refuse(file, "signature",
               fmt::format("is made with another key: {} is asked for, it names {}", key.hint(),
                           printable(hint, 64)));
    }
    // Entries of logs and time stamps are not looked at: a bare key needs neither.
    if (material.has("tlogEntries") && !material.at("tlogEntries").is_array()) {
        material.fail("tlogEntries", "is no list");
    }
}

std::string decoded(const JsonFields& fields, const char* key) {
    const auto bytes = from_base64(fields.text(key));
    if (!bytes || bytes->empty()) fields.fail(key, "is no base64");
    return *bytes;
}

}  // namespace

std::string dsse_message(std::string_view payload) {
    return fmt::format("DSSEv1 {} {} {} {}", kPayloadType.size(), kPayloadType, payload.size(),
                       payload);
}

std::string make_bundle(std::string_view statement, const PrivateKey& key) {
    const std::string signature = key.sign(dsse_message(statement));
    nlohmann::ordered_json bundle;
    bundle["mediaType"] = kMediaType;
    bundle["verificationMaterial"]["publicKey"]["hint"] = key.public_key().hint();
    bundle["verificationMaterial"]["tlogEntries"] = json::array();
    nlohmann::ordered_json& envelope = bundle["dsseEnvelope"];
    envelope["payload"] = to_base64(statement);
    envelope["payloadType"] = kPayloadType;
    nlohmann::ordered_json signed_by;
    signed_by["sig"] = to_base64(signature);
    signed_by["keyid"] = "";
    envelope["signatures"] = json::array();
    envelope["signatures"].push_back(std::move(signed_by));
    return bundle.dump() + "\n";
}

std::string open_bundle(std::string_view text, const PublicKey& key, const std::string& file) {
    const json document = parse_json_text(text, "signature", file);
    const JsonFields bundle(document, "signature", file);
    refuse_others(document, "signature", file,
                  {"mediaType", "verificationMaterial", "dsseEnvelope"});
    if (bundle.text("mediaType") != kMediaType) {
        bundle.fail("mediaType", fmt::format("is not {}", kMediaType));
    }
    check_material(bundle, key, file);
    const JsonFields envelope = bundle.object("dsseEnvelope");
    refuse_others(bundle.at("dsseEnvelope"), "dsseEnvelope", file,
                  {"payload", "payloadType", "signatures"});
    if (envelope.text("payloadType") != kPayloadType) {
        envelope.fail("payloadType", fmt::format("is not {}", kPayloadType));
    }
    const json& signatures = envelope.at("signatures");
    if (!signatures.is_array() || signatures.size() != 1) {
        envelope.fail("signatures", "is no list of one signature");
    }
    const JsonFields signature(signatures[0], "signatures", file);
    refuse_others(signatures[0], "signatures", file, {"sig", "keyid"});
    if (!signature.text_or("keyid", "").empty()) signature.fail("keyid", "is not empty");
    const std::string payload = decoded(envelope, "payload");
    if (!key.verifies(dsse_message(payload), decoded(signature, "sig"))) {
        refuse(file, "signature", "does not fit what it signs, or is made with another key");
    }
    return payload;
}

}  // namespace etalon::weights
