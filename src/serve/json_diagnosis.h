// SPDX-License-Identifier: Apache-2.0
// Why a body is not JSON, in words that name the field.
#pragma once

#include <string_view>

#include "serve/api_error.h"

namespace etalon::serve {

/// For a body that the fast parser refused: ApiError 400 with the field of the body that holds the
/// fault as `param`, and the place in bytes. Slower than parsing, and used for nothing else.
ApiError diagnose_json(std::string_view text);

}  // namespace etalon::serve
