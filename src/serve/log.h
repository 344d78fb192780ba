// SPDX-License-Identifier: Apache-2.0
// Lines for the operator on stderr. Nothing of a prompt or an answer is ever given to these.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::serve {

/// One request, as it is logged: only values of our own making, numbers, and names of routes.
struct AccessLine {
    std::string request_id;
    std::int64_t key_id = 0;  ///< 0: no key
    std::string tenant;
    std::string method;
    std::string route;  ///< the route's pattern, never the path that was asked for
    int status = 0;
    std::string finish;
    std::int64_t prompt_tokens = 0;
    std::int64_t answer_tokens = 0;
    double first_token_seconds = -1.0;  ///< negative: there was none
    double seconds = 0.0;
};

/// {"ts":...,"request":...,...} and a line end.
void log_access(const AccessLine& line);
/// "etalon: MESSAGE" and a line end.
void log_note(std::string_view message);

}  // namespace etalon::serve
