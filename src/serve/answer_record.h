// SPDX-License-Identifier: Apache-2.0
// What the ledger is told of one HTTP request: its intents once every prompt is prepared, the
// payload and the commitments of each part once that has ended, however it ended.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/payload.h"
#include "ledger/ledger.h"
#include "serve/http.h"
#include "wire/messages.h"

namespace etalon::serve {

/// What the intent of this answer commits to; nothing of the answer is looked at. Errors: invalid
/// (it is no payload).
ledger::RequestIntent::Part intent_part(const engine::Payload& payload);
/// What the complete record of it commits to; `text` as it was sent. Errors: as above.
ledger::Completion::Answer completed_answer(const engine::Payload& payload, std::string text);

/// Known before the worker is asked.
struct RecordPlan {
    ledger::RequestIntent intent;  ///< its parts are still to come
    std::string model;             ///< name
    std::string model_sha256;      ///< 64 hex digits
};

class AnswerRecord {
  public:
    explicit AnswerRecord(RecordPlan plan) : plan_(std::move(plan)) {}

    /// The next part, as the worker is asked.
    void add_part(const wire::Sampling& sampling);
    /// Prepared, Token and ChoiceEnd of a part. What does not fit the request is not looked at.
    void take(std::size_t part, const wire::ToFront& message);

    /// Every part is prepared. May be called once: the body goes with it. Errors: invalid (the
    /// worker said what no payload can hold).
    ledger::RequestIntent take_intent();
    /// The part as far as it has come; answers without an end are "cancelled". Errors: as above.
    ledger::Completion completion(std::size_t part, std::uint64_t intent) const;

    std::size_t n_parts() const { return parts_.size(); }

  private:
    struct Part {
        engine::Payload payload;  // all but the answer
        std::vector<std::vector<std::int32_t>> tokens;
        std::vector<std::vector<std::uint64_t>> checksums;
        std::vector<std::string> texts;
        std::vector<engine::FinishReason> finishes;
    };

    RecordPlan plan_;
    std::vector<Part> parts_;
};

/// The names in x-etalon-subject, separated by commas; none without it. Errors: ApiError 400.
std::vector<std::string> subjects_of(const HttpRequest& request);

}  // namespace etalon::serve
