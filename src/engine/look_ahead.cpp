// SPDX-License-Identifier: Apache-2.0
// Conditions of looking ahead.
#include "engine/look_ahead.h"

namespace etalon::engine {

namespace {

/// SMP-1 and SMP-2; a bias alone (SMP-3) is the same for every token.
bool reads_tokens(const exact::SamplingParameters& sampling) {
    return sampling.repetition_penalty != 1.0F || sampling.frequency_penalty != 0.0F ||
           sampling.presence_penalty != 0.0F;
}

}  // namespace

bool can_look_ahead(const Share& share) {
    const Sequence& sequence = *share.sequence;
    const Request& request = *sequence.request;
    if (!share.completes() || !share.draft.empty()) return false;
    if (request.embed || sequence.reads_prompt()) return false;
    // The other choices wait for the first one's prompt.
    const bool is_awaited = request.n > 1 && sequence.choice == 0;
    if (is_awaited && sequence.n_computed < sequence.n_prompt()) return false;
    return !request.mask && !reads_tokens(request.sampling);
}

bool would_draft(const Sequence& sequence, int draft_tokens_max) {
    if (draft_tokens_max == 0 || !sequence.request->speculate) return false;
    return !sequence.drafter
                .propose(sequence.tokens, static_cast<std::size_t>(sequence.n_prompt()),
                         sequence.request->prediction, 1)
                .empty();
}

}  // namespace etalon::engine
