// SPDX-License-Identifier: Apache-2.0
// From the worker's messages to the text that goes to the client. Pure: values in, text out; the
// session decides when and how it is sent.
//   answer->take(0, message);              // each message of each part of the request, in order
//   send(answer->take_text());             // a stream: events; else the body once all have ended
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <utility>

#include "serve/api_error.h"
#include "serve/dialect.h"
#include "wire/messages.h"

namespace etalon::serve {

/// Tokens that a request cost, summed over its parts; known at its end.
struct Usage {
    std::int64_t prompt_tokens = 0;
    std::int64_t cached_tokens = 0;
    std::int64_t answer_tokens = 0;
    std::int64_t drafted_tokens = 0;
    std::int64_t accepted_tokens = 0;
    double queued_seconds = 0.0;

    void add(const wire::RequestEnd& end);
};

class Answer {
  public:
    virtual ~Answer() = default;

    /// Part: which of the request's messages to the worker this answers. Errors: ApiError where
    /// the answer cannot go on; what was not taken yet stays.
    virtual void take(std::size_t part, const wire::ToFront& message) = 0;

    /// What is stored of the answer where the request asks for that, once all of it but this last
    /// message was taken.
    virtual std::string stored_text(const wire::RequestEnd& /*end*/) const { return ""; }

    /// The id of the answer's receipt; before anything of it is taken but Prepared.
    void set_receipt(std::string id) { receipt_ = std::move(id); }

    /// What can be sent now. Streams: whole events.
    std::string take_text() { return std::exchange(text_, {}); }
    const Usage& usage() const { return usage_; }
    /// "stop", "length": of the first choice, for the log; "" before its end.
    const std::string& finish() const { return finish_; }

  protected:
    std::string text_;
    Usage usage_;
    std::string finish_;
    std::string receipt_;
};

/// Compact JSON; bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::ordered_json& value);
/// `data: {...}` and the empty line.
std::string event_text(const nlohmann::ordered_json& value);
inline constexpr const char* kDoneEvent = "data: [DONE]\n\n";
inline constexpr const char* kPingEvent = ": ping\n\n";

/// A refusal of the worker as the client reads it: `field` is the API's name already.
ApiError refusal_error(const wire::Refused& refused);

}  // namespace etalon::serve
