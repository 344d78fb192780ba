// SPDX-License-Identifier: Apache-2.0
// Which shapes a client expects, and what of the path is left once that is known.
#pragma once

#include <string>

#include "serve/http.h"

namespace etalon::serve {

enum class Dialect : std::uint8_t { openai, mistral };

struct Target {
    Dialect dialect = Dialect::openai;
    std::string path;  ///< "/v1/models", whatever the base path was
};

/// /openai/v1 and /mistral/v1 say it; on /v1 the client's own headers do: the Mistral SDKs name
/// themselves, everything else gets the shapes that OpenAI clients read.
Target target_of(const HttpRequest& request);

}  // namespace etalon::serve
