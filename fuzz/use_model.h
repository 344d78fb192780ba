// SPDX-License-Identifier: Apache-2.0
// What a program does with a model that was read: nothing of it may end the process.
#pragma once

#include <vector>

#include "base/error.h"
#include "exact/rope.h"
#include "text/prompt_layout.h"
#include "text/tokenizer.h"
#include "weights/internal/contents.h"

namespace etalon::fuzz {

/// Errors: invalid.
inline void use_model(weights::ModelContents model) {
    weights::check_finite(model.tensors, "input");
    const auto& rope = model.config.rope;
    const auto turns = exact::rope_turns(rope);
    ETALON_ASSERT(turns.size() == static_cast<std::size_t>(rope.n_dims / 2));
    std::vector<float> cosines(turns.size());
    std::vector<float> sines(turns.size());
    exact::rope_table(turns, exact::rope_magnitude(rope), model.config.context_length - 1, cosines,
                      sines);
    const text::Tokenizer tokenizer(std::move(model.tokenizer));
    ETALON_ASSERT(tokenizer.vocab_size() == model.config.vocab_size);
    const auto ids = tokenizer.encode("It's 12  ab\n<|im_end|>\xFF", {.special = true});
    (void)tokenizer.decode(ids, true);
    const auto layout = text::layout_of(tokenizer.data());
    if (layout) encode_conversation(tokenizer, *layout, {{text::Role::user, "hi"}});
}

}  // namespace etalon::fuzz
