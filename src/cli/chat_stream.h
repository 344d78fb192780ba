// SPDX-License-Identifier: Apache-2.0
// The events of a streamed chat answer, as text comes in in pieces.
//   ChatStream stream;
//   print(terminal_text(stream.take(piece)));
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::cli {

class ChatStream {
  public:
    /// The text of the answer that this piece of the body adds. What is no event is skipped; an
    /// event that says what went wrong sets error(). Errors: invalid (an event is over 1 MiB).
    std::string take(std::string_view piece);

    const std::string& text() const noexcept { return text_; }    ///< of the whole answer
    const std::string& error() const noexcept { return error_; }  ///< empty: none
    std::int64_t n_prompt() const noexcept { return n_prompt_; }  ///< tokens; 0 until it is known
    std::int64_t n_answer() const noexcept { return n_answer_; }

  private:
    std::string take_event(std::string_view data);

    std::string rest_;  // of an event that is not whole
    std::string text_;
    std::string error_;
    std::int64_t n_prompt_ = 0;
    std::int64_t n_answer_ = 0;
};

/// Without the control characters that move a terminal's cursor or worse: a model may write any.
std::string terminal_text(std::string_view text);

}  // namespace etalon::cli
