// SPDX-License-Identifier: Apache-2.0
// What a model's files say of its licence. A claim, not a proof.
#pragma once

#include <string>

#include "weights/model_file.h"

namespace etalon::cli {

/// Files give it under different names; empty: they say nothing.
std::string licence_of(const weights::ModelFile& file);

}  // namespace etalon::cli
