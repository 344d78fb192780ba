// SPDX-License-Identifier: Apache-2.0
// What a request answers alone: a session on the reference backend, exact::sample, and the text by
// a search over all of it. Knows nothing of the engine's scheduler, pages, matcher or speculation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/event.h"
#include "engine/request.h"
#include "model/transformer.h"

namespace etalon::engine {

struct AloneChoice {
    std::vector<std::int32_t> tokens;
    std::vector<std::uint64_t> checksums;
    std::vector<TokenLogprobs> logprobs;  ///< empty when none are asked for
    FinishReason reason = FinishReason::stop;
    std::string text;
    std::optional<std::size_t> stop_string;

    /// DIG-3 over the first `n` tokens.
    Sha256Digest digest(std::size_t n) const;
};

/// One choice; `max_tokens` is set and the whole fits in the tiny model's context.
AloneChoice run_alone(const Request& request, std::uint64_t seed, int choice);
/// The same on another model with the tiny one's vocabulary.
AloneChoice run_alone(const Request& request, std::uint64_t seed, int choice,
                      model::Transformer& transformer);

}  // namespace etalon::engine
