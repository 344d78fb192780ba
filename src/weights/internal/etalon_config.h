// SPDX-License-Identifier: Apache-2.0
// A model's configuration as the JSON text that Etalon's own files carry.
#pragma once

#include <string>
#include <string_view>

#include "weights/model_config.h"

namespace etalon::weights {

/// One line; equal configurations give equal text.
std::string config_to_json(const ModelConfig& config);

/// Exactly what config_to_json was given; ranges are validate()'s. Errors: invalid.
ModelConfig config_from_json(std::string_view text, const std::string& file);

}  // namespace etalon::weights
