// SPDX-License-Identifier: Apache-2.0
// What all answers share.
#include "serve/answer.h"

#include <nlohmann/json.hpp>

namespace etalon::serve {

void Usage::add(const wire::RequestEnd& end) {
    prompt_tokens += end.prompt_tokens;
    cached_tokens += end.cached_tokens;
    answer_tokens += end.answer_tokens;
    drafted_tokens += end.drafted_tokens;
    accepted_tokens += end.accepted_tokens;
    queued_seconds += end.queued_seconds;
}

std::string json_text(const nlohmann::ordered_json& value) {
    return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string event_text(const nlohmann::ordered_json& value) {
    return "data: " + json_text(value) + "\n\n";
}

ApiError refusal_error(const wire::Refused& refused) {
    switch (refused.kind) {
        case wire::RefusalKind::too_long:
            return {400, "invalid_request_error", "context_length_exceeded", refused.message,
                    refused.field};
        case wire::RefusalKind::try_later: {
            ApiError error(429, "rate_limit_error", "queue_full", refused.message);
            return error.with_header("retry-after", "5");
        }
        case wire::RefusalKind::unsupported:
            return unsupported(refused.field, refused.message);
        case wire::RefusalKind::failed:
            return {500, "server_error", "generation_failed", refused.message};
        case wire::RefusalKind::invalid:
            break;
    }
    return field_error(refused.field, refused.message);
}

}  // namespace etalon::serve
