// SPDX-License-Identifier: Apache-2.0
// The order of messages.h, kept by the front: what a worker may say next, given what it was asked.
// Pure: no process, no socket.
//
//   ProtocolCheck check;
//   check.sent(prepare);        // before a message goes out
//   check.received(prepared);   // throws when the worker may not say this now
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "wire/messages.h"

namespace etalon::wire {

class ProtocolCheck {
  public:
    /// Asserts that the front keeps the order: ids ascend, Go behind Prepared and once, no request
    /// behind Drain. False: a Cancel for a request that has ended or was cancelled; it need not go.
    bool sent(const ToWorker& message);

    /// Errors: invalid. Refused are: anything before Hello and anything behind Failed; an id that
    /// is unknown or has ended; an answer of another kind than asked; a token outside the
    /// vocabulary; a choice that does not exist or has ended; more tokens than max_tokens;
    /// log-probabilities that nobody asked for; counts that do not add up.
    void received(const ToFront& message);

    const std::optional<Hello>& hello() const noexcept { return hello_; }
    /// Requests and questions whose last message has not come.
    std::size_t n_open() const noexcept { return open_.size(); }

  private:
    enum class Phase : std::uint8_t {
        preparing,   ///< Prepare was sent: Prepared or Refused
        prepared,    ///< Prepared has come: RequestEnd, and only behind a Cancel
        running,     ///< Go was sent: Token, ChoiceEnd, RequestEnd
        tokenizing,  ///< Tokenize or Detokenize was sent: Tokenized or Refused
        embedding,   ///< Embed was sent: Embedded or Refused
        counting,    ///< AskCounters was sent: Counters
        proving,     ///< AskLive was sent: Live
        replaying,   ///< AskReplay was sent: Replayed or Refused
    };
    struct Choice {
        int n_tokens = 0;
        bool ended = false;
    };
    struct Open {
        explicit Open(Phase its_phase) : phase(its_phase) {}
        Phase phase;
        bool cancelled = false;
        int n = 1;                    ///< choices that were asked for
        std::vector<Choice> choices;  ///< [n] from Prepared on
        std::optional<std::uint64_t> seed;
        std::optional<int> top_logprobs;
        std::optional<int> max_tokens;  ///< asked for; from Prepared on what it says
        int n_prompt = 0;
        bool prompt_logprobs = false;
        int n_prompt_told = 0;     ///< tokens of PromptLogprobs that have come
        std::size_t n_inputs = 0;  ///< of Embed
    };

    void open(RequestId id, Open open);
    Open& find(RequestId id, const char* what);
    Open& find(RequestId id, Phase phase, const char* what);
    Choice& find_choice(Open& open, int choice, const char* what);
    void check_tokens(const std::vector<std::int32_t>& tokens, const char* what) const;
    void check_token(std::int32_t token, const char* what) const;
    void check_logprobs(const Open& open, const Token& token) const;
    void check_top(const Open& open, const Logprobs& logprobs, const char* what) const;

    void take(const Hello& hello);
    void take(const Failed& failed);
    void take(const Prepared& prepared);
    void take(const Refused& refused);
    void take(const PromptLogprobs& told);
    void take(const Token& token);
    void take(const ChoiceEnd& end);
    void take(const RequestEnd& end);
    void take(const Tokenized& tokenized);
    void take(const Embedded& embedded);
    void take(const Counters& counters);
    void take(const Live& live);
    void take(const Replayed& replayed);

    std::optional<Hello> hello_;
    bool has_failed_ = false;
    bool draining_ = false;
    RequestId last_id_ = 0;
    std::map<RequestId, Open> open_;
};

}  // namespace etalon::wire
