// SPDX-License-Identifier: Apache-2.0
// The text of one answer, from its tokens: whole UTF-8 characters, ended before a stop string.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/stop_matcher.h"
#include "text/tokenizer.h"

namespace etalon::engine {

class AnswerText {
  public:
    /// The texts of the first `min_tokens` tokens are shown without a search: a stop string counts
    /// when it begins behind them, or in a character that they have left unfinished. The tokenizer
    /// outlives the object.
    AnswerText(const text::Tokenizer& tokenizer, std::vector<std::string> stops, int min_tokens);

    /// The next token of the answer, one that does not end it. After a stop nothing follows.
    StopMatcher::Result push(std::int32_t token);

    /// The rest of the text, once; "" after a stop string.
    std::string finish();

  private:
    text::StreamDecoder decoder_;
    StopMatcher matcher_;
    int unsearched_;  // tokens whose text is not searched
    bool stopped_ = false;
};

}  // namespace etalon::engine
