// SPDX-License-Identifier: Apache-2.0
// Answers from a session: prefill, then one sampled token after the other.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "exact/sampler.h"
#include "model/session.h"
#include "text/tokenizer.h"

namespace etalon::cli {

enum class FinishReason : std::uint8_t { stop, max_tokens, context_full, interrupted };

struct Answer {
    std::vector<std::int32_t> tokens;  ///< with the token that ended it, if one did
    std::string text;                  ///< of them, as on_text got it
    FinishReason finish = FinishReason::stop;
    double prompt_seconds = 0.0;
    double answer_seconds = 0.0;
    int n_prompt_computed = 0;  ///< prompt tokens that were not in the session already
};

struct GenerateOptions {
    exact::SamplingParameters sampling;
    int max_tokens = 512;
    int chunk = 0;
    bool all_checksums = false;  ///< checksums of prompt positions too, for a digest
    std::function<void(std::string_view text)> on_text;
    std::function<bool()> interrupted;
};

/// Brings the session to `prompt` (reusing the tokens it shares with it), then answers. Errors:
/// usage (the prompt does not fit in the session, with both counts), failure (ERR-1, ERR-3; then
/// `answer` has the tokens before it).
void generate(model::Session& session, const text::Tokenizer& tokenizer,
              const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
              Answer& answer);

/// DIG-1 over prompt and answer, from the checksums that the session holds.
Sha256Digest session_digest(const model::Session& session, const std::vector<std::int32_t>& prompt,
                            const Answer& answer);

/// DIG-1 computed again by `session` (empty, of another backend): one teacher-forced pass over the
/// same tokens; every token of the answer is sampled again from the new logits and that token, not
/// the given one, enters the digest.
Sha256Digest replay_digest(model::Session& session, const std::vector<std::int32_t>& prompt,
                           const Answer& answer, const exact::SamplingParameters& sampling);

}  // namespace etalon::cli
