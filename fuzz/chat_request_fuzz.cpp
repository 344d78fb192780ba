// SPDX-License-Identifier: Apache-2.0
// Bodies of requests, for each route's parser in turn: a refusal of status 400 with a body that is
// JSON, or a request whose numbers are in their ranges.
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/limits.h"
#include "serve/responses_request.h"

namespace {

namespace serve = etalon::serve;

void check(const etalon::wire::Sampling& sampling) {
    ETALON_ASSERT(sampling.temperature >= 0.0F && sampling.temperature <= 2.0F);
    ETALON_ASSERT(sampling.top_p > 0.0F && sampling.top_p <= 1.0F);
    ETALON_ASSERT(sampling.n >= 1 && sampling.n <= serve::kChoicesMax);
    ETALON_ASSERT(sampling.max_tokens.value_or(1) >= 1);
    ETALON_ASSERT(sampling.stop_strings.size() <= serve::kStopStringsMax);
    ETALON_ASSERT(sampling.seed.has_value());
}

/// The first byte chooses the parser, the rest is the body.
void parse(unsigned which, std::string_view body) {
    switch (which % 5) {
        case 0:
            check(serve::parse_chat_request(body, serve::Dialect::openai).sampling);
            break;
        case 1:
            check(serve::parse_chat_request(body, serve::Dialect::mistral).sampling);
            break;
        case 2:
            check(serve::parse_completion_request(body).sampling);
            break;
        case 3:
            check(serve::parse_responses_request(body).sampling);
            break;
        default:
            check(serve::parse_fim_request(body).sampling);
            break;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0 || size > serve::kBodyBytesMax) return 0;
    const std::string_view body(reinterpret_cast<const char*>(data) + 1, size - 1);
    try {
        parse(data[0], body);
    } catch (const serve::ApiError& error) {
        ETALON_ASSERT(error.status() == 400);
        ETALON_ASSERT(nlohmann::json::accept(error.body("req_1")));
    }
    return 0;
}
