// SPDX-License-Identifier: Apache-2.0
// Answers of POST /v1/responses, whole or as typed events.
#pragma once

#include <memory>

#include "serve/generated.h"
#include "serve/responses_request.h"

namespace etalon::serve {

/// `request` gives what the answer repeats of it, and with the names of its subjects what is
/// stored of it.
std::unique_ptr<Answer> make_responses_answer(AnswerPlan plan, ResponsesRequest request,
                                              std::vector<std::string> subjects = {},
                                              bool names_account = false);

}  // namespace etalon::serve
