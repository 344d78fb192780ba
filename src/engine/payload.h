// SPDX-License-Identifier: Apache-2.0
// A payload: everything that one answer is a function of, and the answer. With the model of that
// hash anybody derives the answer again (replay.h). docs/replay.md describes its bytes.
//
//   Payload payload = payload_of(request, seed, max_tokens, choice);
//   payload.model_sha256 = ...; payload.answer = ...; payload.checksums = ...;
//   std::string bytes = write_payload(payload);   // what is sealed; its SHA-256 is what is logged
//   Payload again = read_payload(bytes);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "engine/event.h"
#include "engine/request.h"
#include "exact/sampler.h"
#include "exact/version.h"

namespace etalon::engine {

/// What a mask (SMP-4) is made from. The payload carries it and does not read it.
struct MaskSource {
    std::string kind;  ///< "json_schema": who knows how to make a TokenMask of the text
    std::string text;  ///< UTF-8
};

struct Payload {
    std::string model_name;       ///< for messages; says nothing that counts
    Sha256Digest model_sha256{};  ///< weights::model_hash
    int arithmetic = exact::kArithmeticVersion;

    std::vector<std::int32_t> prompt;    ///< at least one token
    exact::SamplingParameters sampling;  ///< with the seed that was used
    int n = 1;                           ///< answers of the request, [1, kChoicesMax]
    int choice = 0;                      ///< which of them this is, [0, n)
    int max_tokens = 1;                  ///< that held for this answer: the request's, or the room
    int min_tokens = 0;                  ///< as in Request, and so are the next ones
    bool ignore_eos = false;
    std::vector<std::int32_t> stop_tokens;
    std::vector<std::string> stop_strings;
    std::optional<int> top_logprobs;
    std::optional<MaskSource> mask;  ///< absent: every token was allowed

    std::vector<std::int32_t> answer;      ///< with the token that ended it
    std::vector<std::uint64_t> checksums;  ///< CHK-1 of the logits behind each of them
    FinishReason finish = FinishReason::stop;
};

/// The request's part of a payload: all but model, mask and answer.
Payload payload_of(const Request& request, std::uint64_t seed, int max_tokens, int choice);

/// The payload's request, without its mask, for check_request and the sampler.
Request request_of(const Payload& payload);

/// "stop", "length", "cancelled", "error".
std::string_view finish_name(FinishReason reason) noexcept;

/// DIG-3: what the record of an answer commits to.
Sha256Digest answer_digest(const Payload& payload);

/// Sizes and forms that the bytes of a payload can have, whatever the model. Errors: invalid (the
/// field, what it is, what is accepted).
void check_payload(const Payload& payload);

/// The one form of these values: canonical JSON (RFC 8785), biases by ascending token. Errors: as
/// check_payload.
std::string write_payload(const Payload& payload);

/// Accepts what write_payload gives and nothing else, so that a payload has one hash. Errors:
/// invalid (the place in bytes and what was expected there; as check_payload).
Payload read_payload(std::string_view bytes);

}  // namespace etalon::engine
