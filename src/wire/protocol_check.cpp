// SPDX-License-Identifier: Apache-2.0
// What a worker may say next.
#include "wire/protocol_check.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/sha256.h"
#include "wire/limits.h"

namespace etalon::wire {

namespace {

constexpr std::array<std::string_view, 5> kVerdicts{"match", "token", "checksum", "both", "end"};
constexpr std::size_t kDigestDigits = 64;  // SHA-256 in hexadecimal

[[noreturn]] void refuse(const std::string& why) {
    throw Error(ExitCode::invalid, "the worker broke the protocol: " + why);
}

void require(bool holds, const char* what) {
    if (!holds) refuse(what);
}

bool is_digest(const std::string& text) {
    return text.size() == kDigestDigits && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

}  // namespace

void ProtocolCheck::open(RequestId id, Open open) {
    ETALON_ASSERT(id > last_id_);
    ETALON_ASSERT(!draining_);
    last_id_ = id;
    open_.emplace(id, std::move(open));
}

bool ProtocolCheck::sent(const ToWorker& message) {
    if (const auto* prepare = std::get_if<Prepare>(&message)) {
        Open request(Phase::preparing);
        request.seed = prepare->sampling.seed;
        request.top_logprobs = prepare->sampling.top_logprobs;
        request.max_tokens = prepare->sampling.max_tokens;
        request.n = prepare->sampling.n;
        request.prompt_logprobs = prepare->prompt_logprobs;
        open(prepare->id, std::move(request));
    } else if (const auto* go = std::get_if<Go>(&message)) {
        const auto found = open_.find(go->id);
        ETALON_ASSERT(found != open_.end() && found->second.phase == Phase::prepared);
        ETALON_ASSERT(!found->second.cancelled);
        found->second.phase = Phase::running;
    } else if (const auto* cancel = std::get_if<Cancel>(&message)) {
        const auto found = open_.find(cancel->id);
        if (found == open_.end()) return false;
        return !std::exchange(found->second.cancelled, true);
    } else if (const auto* tokenize = std::get_if<Tokenize>(&message)) {
        open(tokenize->id, Open(Phase::tokenizing));
    } else if (const auto* detokenize = std::get_if<Detokenize>(&message)) {
        open(detokenize->id, Open(Phase::tokenizing));
    } else if (const auto* embed = std::get_if<Embed>(&message)) {
        Open asked(Phase::embedding);
        asked.n_inputs = embed->inputs.size();
        open(embed->id, std::move(asked));
    } else if (const auto* ask = std::get_if<AskCounters>(&message)) {
        open(ask->id, Open(Phase::counting));
    } else if (const auto* live = std::get_if<AskLive>(&message)) {
        open(live->id, Open(Phase::proving));
    } else if (const auto* replay = std::get_if<AskReplay>(&message)) {
        open(replay->id, Open(Phase::replaying));
    } else if (std::holds_alternative<Drain>(message)) {
        draining_ = true;
    }
    return true;
}

void ProtocolCheck::received(const ToFront& message) {
    require(!has_failed_, "a message behind Failed");
    const bool may_be_first =
        std::holds_alternative<Hello>(message) || std::holds_alternative<Failed>(message);
    require(hello_ || may_be_first, "the first message is not Hello");
    std::visit([this](const auto& content) { take(content); }, message);
}

ProtocolCheck::Open& ProtocolCheck::find(RequestId id, const char* what) {
    const auto found = open_.find(id);
    if (found == open_.end()) {
        refuse(fmt::format("{} for request {}, which is unknown or has ended", what, id));
    }
    return found->second;
}

ProtocolCheck::Open& ProtocolCheck::find(RequestId id, Phase phase, const char* what) {
    Open& open = find(id, what);
    if (open.phase != phase) refuse(fmt::format("{} for request {}, out of order", what, id));
    return open;
}

ProtocolCheck::Choice& ProtocolCheck::find_choice(Open& open, int choice, const char* what) {
    const bool exists = choice >= 0 && static_cast<std::size_t>(choice) < open.choices.size();
    if (!exists) refuse(fmt::format("{} of choice {}, there are {}", what, choice, open.n));
    Choice& found = open.choices[static_cast<std::size_t>(choice)];
    if (found.ended) refuse(fmt::format("{} of choice {}, which has ended", what, choice));
    return found;
}

void ProtocolCheck::check_token(std::int32_t token, const char* what) const {
    if (token >= 0 && token < hello_->vocab_size) return;
    refuse(fmt::format("{}: token {}, the vocabulary has {}", what, token, hello_->vocab_size));
}

void ProtocolCheck::check_tokens(const std::vector<std::int32_t>& tokens, const char* what) const {
    for (const std::int32_t token : tokens)
        check_token(token, what);
}

void ProtocolCheck::check_logprobs(const Open& open, const Token& token) const {
    require(token.logprobs.has_value() == open.top_logprobs.has_value(),
            "Token: log-probabilities that are not as asked");
    if (!token.logprobs) return;
    require(token.logprobs->chosen.token == token.token, "Token: log-probability of another token");
    check_top(open, *token.logprobs, "Token");
}

void ProtocolCheck::check_top(const Open& open, const Logprobs& logprobs, const char* what) const {
    const auto n = static_cast<std::size_t>(std::max(0, open.top_logprobs.value_or(0)));
    if (logprobs.top.size() > n) refuse(fmt::format("{}: more log-probabilities than asked", what));
    for (const TokenLogprob& one : logprobs.top)
        check_token(one.token, what);
}

void ProtocolCheck::take(const Hello& hello) {
    require(!hello_, "Hello twice");
    require(hello.vocab_size >= 1 && hello.vocab_size <= kVocabMax, "Hello: vocab_size");
    const auto in_tokens = [](int n) {
        return n >= 1 && static_cast<std::size_t>(n) <= kTokensMax;
    };
    require(in_tokens(hello.context_tokens), "Hello: context_tokens");
    require(hello.cache_tokens >= 1, "Hello: cache_tokens");
    require(hello.dim >= 1 && static_cast<std::size_t>(hello.dim) <= kVectorMax, "Hello: dim");
    require(hello.file_sha256.empty() || is_digest(hello.file_sha256), "Hello: file_sha256");
    hello_ = hello;
}

void ProtocolCheck::take(const Failed& failed) {
    require(failed.exit_code > 0 && failed.exit_code < 128, "Failed: exit_code");
    has_failed_ = true;
}

void ProtocolCheck::take(const Prepared& prepared) {
    Open& open = find(prepared.id, Phase::preparing, "Prepared");
    check_tokens(prepared.prompt, "Prepared");
    const auto context = static_cast<std::size_t>(hello_->context_tokens);
    require(!prepared.prompt.empty() && prepared.prompt.size() <= context,
            "Prepared: the prompt does not fit");
    require(open.n >= 1 && open.n <= kChoicesMax, "Prepared: so many choices are not accepted");
    require(!open.seed || *open.seed == prepared.seed, "Prepared: another seed than asked");
    const bool fits = prepared.max_tokens >= 1 && prepared.max_tokens <= hello_->context_tokens;
    require(fits, "Prepared: max_tokens");
    require(!open.max_tokens || prepared.max_tokens <= *open.max_tokens,
            "Prepared: more tokens than asked");
    open.max_tokens = prepared.max_tokens;
    open.n_prompt = static_cast<int>(prepared.prompt.size());
    open.choices.resize(static_cast<std::size_t>(open.n));
    open.phase = Phase::prepared;
}

void ProtocolCheck::take(const Refused& refused) {
    const Open& open = find(refused.id, "Refused");
    const bool may = open.phase != Phase::prepared && open.phase != Phase::running &&
                     open.phase != Phase::counting && open.phase != Phase::proving;
    require(may, "Refused: out of order");
    open_.erase(refused.id);
}

void ProtocolCheck::take(const PromptLogprobs& told) {
    Open& open = find(told.id, Phase::running, "PromptLogprobs");
    require(open.prompt_logprobs, "PromptLogprobs: nobody asked");
    require(told.tokens.size() <= static_cast<std::size_t>(open.n_prompt - open.n_prompt_told),
            "PromptLogprobs: more tokens than the prompt has");
    for (const Logprobs& one : told.tokens) {
        check_token(one.chosen.token, "PromptLogprobs");
        check_top(open, one, "PromptLogprobs");
    }
    open.n_prompt_told += static_cast<int>(told.tokens.size());
}

void ProtocolCheck::take(const Token& token) {
    Open& open = find(token.id, Phase::running, "Token");
    require(!open.prompt_logprobs || open.n_prompt_told == open.n_prompt,
            "Token: before the log-probabilities of the prompt");
    Choice& choice = find_choice(open, token.choice, "Token");
    check_token(token.token, "Token");
    check_logprobs(open, token);
    require(choice.n_tokens < open.max_tokens.value_or(0), "Token: more than max_tokens");
    ++choice.n_tokens;
}

void ProtocolCheck::take(const ChoiceEnd& end) {
    Open& open = find(end.id, Phase::running, "ChoiceEnd");
    find_choice(open, end.choice, "ChoiceEnd").ended = true;
    require(is_digest(end.digest), "ChoiceEnd: digest");
    require(end.reason != EndReason::cancelled || open.cancelled, "ChoiceEnd: cancelled by nobody");
    require(!end.stop_string || end.reason == EndReason::stop, "ChoiceEnd: stop_string");
    require(end.error.empty() == (end.reason != EndReason::error), "ChoiceEnd: error");
}

void ProtocolCheck::take(const RequestEnd& end) {
    Open& open = find(end.id, "RequestEnd");
    const bool forgotten = open.phase == Phase::prepared && open.cancelled;
    require(open.phase == Phase::running || forgotten, "RequestEnd: out of order");
    std::int64_t n_answer = 0;
    for (const Choice& choice : open.choices) {
        require(choice.ended || forgotten, "RequestEnd: a choice has not ended");
        n_answer += choice.n_tokens;
    }
    require(end.prompt_tokens == open.n_prompt, "RequestEnd: prompt_tokens");
    require(end.answer_tokens == n_answer, "RequestEnd: answer_tokens");
    require(end.cached_tokens >= 0 && end.cached_tokens <= end.prompt_tokens,
            "RequestEnd: cached_tokens");
    require(end.accepted_tokens >= 0 && end.accepted_tokens <= end.drafted_tokens,
            "RequestEnd: accepted_tokens");
    require(end.queued_seconds >= 0.0, "RequestEnd: queued_seconds");
    open_.erase(end.id);
}

void ProtocolCheck::take(const Tokenized& tokenized) {
    (void)find(tokenized.id, Phase::tokenizing, "Tokenized");
    check_tokens(tokenized.tokens, "Tokenized");
    open_.erase(tokenized.id);
}

void ProtocolCheck::take(const Embedded& embedded) {
    const Open& open = find(embedded.id, Phase::embedding, "Embedded");
    require(embedded.vectors.size() == open.n_inputs, "Embedded: not one vector an input");
    require(embedded.prompt_tokens >= 0, "Embedded: prompt_tokens");
    for (const auto& vector : embedded.vectors) {
        require(vector.size() == static_cast<std::size_t>(hello_->dim), "Embedded: dim");
    }
    open_.erase(embedded.id);
}

void ProtocolCheck::take(const Counters& counters) {
    (void)find(counters.id, Phase::counting, "Counters");
    open_.erase(counters.id);
}

void ProtocolCheck::take(const Live& live) {
    (void)find(live.id, Phase::proving, "Live");
    require(digest_from_hex(live.digest).has_value(), "Live: the digest is no SHA-256");
    open_.erase(live.id);
}

void ProtocolCheck::take(const Replayed& replayed) {
    (void)find(replayed.id, Phase::replaying, "Replayed");
    const bool is_known =
        std::find(kVerdicts.begin(), kVerdicts.end(), replayed.verdict) != kVerdicts.end();
    require(is_known, "Replayed: the verdict is not known");
    require(replayed.position >= 0, "Replayed: position");
    open_.erase(replayed.id);
}

}  // namespace etalon::wire
