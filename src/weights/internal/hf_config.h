// SPDX-License-Identifier: Apache-2.0
// config.json of Hugging Face, for the architectures Llama, Mistral and Mixtral. What would change
// the result and is not computed is refused, never ignored.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "weights/model_config.h"

namespace etalon::weights {

/// The configuration; ranges are validate()'s. Errors: invalid, with `file`, field and reason.
ModelConfig read_hf_config(std::string_view text, const std::string& file);

/// "eos_token_id" of generation_config.json: a number, a list of numbers, or nothing. Each is in
/// [0, vocab_size). Errors: invalid.
std::vector<std::int32_t> read_hf_end_tokens(std::string_view text, int vocab_size,
                                             const std::string& file);

}  // namespace etalon::weights
