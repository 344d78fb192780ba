// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/sealed_answer.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "ledger/commitment.h"

namespace etalon::ledger {

namespace {

/// The commitments of a complete record against what was sealed. Errors: invalid.
void check_plaintext(std::string_view plaintext, std::uint64_t index, const Intent& intent,
                     const Complete& complete) {
    const Error wrong(ExitCode::invalid, "the payload does not have the recorded commitments");
    const std::size_t line_end = plaintext.find('\n');
    const auto head = nlohmann::json::parse(plaintext.substr(0, line_end), nullptr, false);
    const bool good = line_end != std::string_view::npos && head.is_object() &&
                      head.value("intent", nlohmann::json()) == index &&
                      head.value("commit_key", nlohmann::json()).is_string() &&
                      head.value("texts", nlohmann::json()).is_array() &&
                      head["texts"].size() == complete.answers.size();
    if (!good) throw Error(wrong);
    const Key key = key_of_hex(head["commit_key"].get<std::string>());
    plaintext.remove_prefix(line_end + 1);
    for (std::size_t i = 0; i < complete.answers.size(); ++i) {
        const Complete::Answer& answer = complete.answers[i];
        const std::size_t end = plaintext.find('\n');
        if (end == std::string_view::npos || !head["texts"][i].is_string()) throw Error(wrong);
        const std::string payload(plaintext.substr(0, end));
        plaintext.remove_prefix(end + 1);
        const std::string text = head["texts"][i].get<std::string>();
        if (commitment(key, label::kPayload, payload) != answer.payload ||
            commitment(key, label::kText, text) != answer.text) {
            throw Error(wrong);
        }
    }
    if (!plaintext.empty() || intent.answers != complete.answers.size()) throw Error(wrong);
}

}  // namespace

std::optional<SealedPayload> sealed_answer(const Subjects& subjects, const PayloadStore& payloads,
                                           std::uint64_t index, const Intent& intent,
                                           const Complete& complete) {
    const auto keys = subjects.with_ids(intent.subjects);
    auto stored = payloads.get(index);
    if (!keys || !stored) return std::nullopt;
    SealedPayload sealed{std::move(stored->ciphertext), unwrap_envelope(stored->wrapped, *keys)};
    if (sha256_hex(sealed.ciphertext) == complete.payload_ciphertext &&
        sha256_hex(sealed.envelope) == complete.payload_envelope) {
        return sealed;
    }
    throw Error(ExitCode::invalid,
                fmt::format("the payload of record {} is not the recorded one", index));
}

std::string open_answer(const SealContext& context, const Intent& intent, const Complete& complete,
                        const SealedPayload& sealed, const AuditorKey& key) {
    const std::string content = open_envelope(sealed.envelope, key.key, key.certificate);
    Key content_key;
    if (content.size() != content_key.bytes.size()) {
        throw Error(ExitCode::invalid, "the envelope holds no key");
    }
    std::copy(content.begin(), content.end(), content_key.bytes.begin());
    std::string plaintext = open_payload(sealed.ciphertext, content_key, context);
    check_plaintext(plaintext, context.intent, intent, complete);
    return plaintext;
}

}  // namespace etalon::ledger
