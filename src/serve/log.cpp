// SPDX-License-Identifier: Apache-2.0
// Lines for the operator.
#include "serve/log.h"

#include <chrono>
#include <cstdio>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/answer.h"

namespace etalon::serve {

namespace {

constexpr double kMilliseconds = 1000.0;

double milliseconds(double seconds) {
    return static_cast<double>(static_cast<std::int64_t>(seconds * kMilliseconds * 10.0)) / 10.0;
}

}  // namespace

void log_access(const AccessLine& line) {
    const auto now = std::chrono::system_clock::now();
    nlohmann::ordered_json json{
        {"ts", fmt::format("{:%Y-%m-%dT%H:%M:%S}Z",
                           fmt::gmtime(std::chrono::system_clock::to_time_t(now)))},
        {"request", line.request_id},
        {"key", line.key_id},
        {"tenant", line.tenant},
        {"method", line.method},
        {"route", line.route},
        {"status", line.status}};
    if (!line.finish.empty()) {
        json["finish"] = line.finish;
        json["prompt_tokens"] = line.prompt_tokens;
        json["answer_tokens"] = line.answer_tokens;
    }
    if (line.first_token_seconds >= 0.0) {
        json["first_token_ms"] = milliseconds(line.first_token_seconds);
    }
    json["ms"] = milliseconds(line.seconds);
    std::fprintf(stderr, "%s\n", json_text(json).c_str());
}

void log_note(std::string_view message) {
    constexpr std::size_t kNoteBytes = 1000;
    std::fprintf(stderr, "etalon: %s\n", printable(message, kNoteBytes).c_str());
}

}  // namespace etalon::serve
