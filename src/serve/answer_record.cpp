// SPDX-License-Identifier: Apache-2.0
// From the worker's messages to records and payloads.
#include "serve/answer_record.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {

constexpr const char* kSubjectHeader = "x-etalon-subject";

/// Engine and wire have the same reasons, each in an enumeration of its own.
engine::FinishReason finish_of(wire::EndReason reason) {
    switch (reason) {
        case wire::EndReason::stop:
            return engine::FinishReason::stop;
        case wire::EndReason::length:
            return engine::FinishReason::length;
        case wire::EndReason::cancelled:
            return engine::FinishReason::cancelled;
        case wire::EndReason::error:
            break;
    }
    return engine::FinishReason::error;
}

/// The bytes of a member of a payload, from `begin` to `end`. A text in a payload has its quotes
/// escaped, so that neither can stand in one.
std::string between(const std::string& payload, std::string_view begin, std::string_view end) {
    const std::size_t first = payload.find(begin) + begin.size();
    const std::size_t last = payload.rfind(end);
    ETALON_ASSERT(first <= last && last < payload.size());
    return payload.substr(first, last - first);
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ')
        text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ')
        text.remove_suffix(1);
    return text;
}

}  // namespace

ledger::RequestIntent::Part intent_part(const engine::Payload& payload) {
    const std::string bytes = engine::write_payload(payload);
    return {between(bytes, R"("prompt":)", R"(,"sampling":)"),
            between(bytes, R"("sampling":)", R"(,"version":)"), payload.prompt.size(),
            static_cast<std::uint64_t>(payload.n), static_cast<std::uint64_t>(payload.max_tokens)};
}

ledger::Completion::Answer completed_answer(const engine::Payload& payload, std::string text) {
    return {std::string(engine::finish_name(payload.finish)), payload.answer.size(),
            to_hex(engine::answer_digest(payload)), engine::write_payload(payload),
            std::move(text)};
}

void AnswerRecord::add_part(const wire::Sampling& sampling) {
    Part part;
    engine::Payload& payload = part.payload;
    payload.model_name = plan_.model;
    const std::optional<Sha256Digest> model = digest_from_hex(plan_.model_sha256);
    ETALON_ASSERT(model);
    payload.model_sha256 = *model;
    payload.sampling.temperature = sampling.temperature;
    payload.sampling.top_k = sampling.top_k;
    payload.sampling.top_p = sampling.top_p;
    payload.sampling.min_p = sampling.min_p;
    payload.sampling.repetition_penalty = sampling.repetition_penalty;
    payload.sampling.presence_penalty = sampling.presence_penalty;
    payload.sampling.frequency_penalty = sampling.frequency_penalty;
    payload.sampling.logit_bias = sampling.logit_bias;
    payload.n = sampling.n;
    payload.min_tokens = sampling.min_tokens;
    payload.ignore_eos = sampling.ignore_eos;
    payload.stop_tokens = sampling.stop_tokens;
    payload.stop_strings = sampling.stop_strings;
    payload.top_logprobs = sampling.top_logprobs;
    const auto n = static_cast<std::size_t>(sampling.n);
    part.tokens.resize(n);
    part.checksums.resize(n);
    part.texts.resize(n);
    part.finishes.assign(n, engine::FinishReason::cancelled);
    parts_.push_back(std::move(part));
}

void AnswerRecord::take(std::size_t index, const wire::ToFront& message) {
    Part& part = parts_.at(index);
    const auto is_choice = [&](int choice) {
        return choice >= 0 && static_cast<std::size_t>(choice) < part.tokens.size();
    };
    if (const auto* prepared = std::get_if<wire::Prepared>(&message)) {
        part.payload.prompt = prepared->prompt;
        part.payload.sampling.seed = prepared->seed;
        part.payload.max_tokens = prepared->max_tokens;
    } else if (const auto* token = std::get_if<wire::Token>(&message)) {
        if (!is_choice(token->choice)) return;
        const auto choice = static_cast<std::size_t>(token->choice);
        part.tokens[choice].push_back(token->token);
        part.checksums[choice].push_back(token->checksum);
        part.texts[choice] += token->text;
    } else if (const auto* end = std::get_if<wire::ChoiceEnd>(&message)) {
        if (!is_choice(end->choice)) return;
        const auto choice = static_cast<std::size_t>(end->choice);
        part.texts[choice] += end->text;
        part.finishes[choice] = finish_of(end->reason);
    }
}

ledger::RequestIntent AnswerRecord::take_intent() {
    for (const Part& part : parts_)
        plan_.intent.parts.push_back(intent_part(part.payload));
    return std::move(plan_.intent);
}

ledger::Completion AnswerRecord::completion(std::size_t index, std::uint64_t intent) const {
    const Part& part = parts_.at(index);
    ledger::Completion completion{intent, {}};
    engine::Payload payload = part.payload;
    for (std::size_t choice = 0; choice < part.tokens.size(); ++choice) {
        payload.choice = static_cast<int>(choice);
        payload.answer = part.tokens[choice];
        payload.checksums = part.checksums[choice];
        payload.finish = part.finishes[choice];
        completion.answers.push_back(completed_answer(payload, part.texts[choice]));
    }
    return completion;
}

std::vector<std::string> subjects_of(const HttpRequest& request) {
    std::vector<std::string> subjects;
    const bool is_there =
        std::any_of(request.headers.begin(), request.headers.end(),
                    [](const auto& header) { return header.first == kSubjectHeader; });
    if (!is_there) return subjects;
    const std::string* header = request.header(kSubjectHeader);
    if (header == nullptr) throw field_error(kSubjectHeader, "the header comes twice");
    std::string_view rest = *header;
    while (true) {
        const std::string_view name = trimmed(rest.substr(0, rest.find(',')));
        if (name.empty() || name.size() > kSubjectBytesMax) {
            throw field_error(kSubjectHeader, fmt::format("{}: a name has 1 to {} bytes",
                                                          kSubjectHeader, kSubjectBytesMax));
        }
        if (std::find(subjects.begin(), subjects.end(), name) == subjects.end()) {
            subjects.emplace_back(name);
        }
        if (subjects.size() > kSubjectsMax) {
            throw field_error(kSubjectHeader,
                              fmt::format("{}: more than {} names", kSubjectHeader, kSubjectsMax));
        }
        const std::size_t comma = rest.find(',');
        if (comma == std::string_view::npos) return subjects;
        rest.remove_prefix(comma + 1);
    }
}

}  // namespace etalon::serve
