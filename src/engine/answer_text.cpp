// SPDX-License-Identifier: Apache-2.0
// Tokens to characters to text without stop strings.
#include "engine/answer_text.h"

#include "base/error.h"

namespace etalon::engine {

AnswerText::AnswerText(const text::Tokenizer& tokenizer, std::vector<std::string> stops,
                       int min_tokens)
    : decoder_(tokenizer), matcher_(std::move(stops)), unsearched_(min_tokens) {}

StopMatcher::Result AnswerText::push(std::int32_t token) {
    ETALON_ASSERT(!stopped_);
    const std::string characters = decoder_.push(token);
    if (unsearched_ > 0) {
        --unsearched_;
        return {characters, std::nullopt};
    }
    StopMatcher::Result result = matcher_.push(characters);
    stopped_ = result.stop.has_value();
    return result;
}

std::string AnswerText::finish() {
    if (stopped_) return "";
    // Bytes that never became a character come out as U+FFFD; a stop string may end with that too.
    StopMatcher::Result rest = matcher_.push(decoder_.finish());
    if (!rest.stop) rest.text += matcher_.finish();
    return rest.text;
}

}  // namespace etalon::engine
