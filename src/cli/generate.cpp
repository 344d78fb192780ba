// SPDX-License-Identifier: Apache-2.0
// Answers from a session: prefill, then one sampled token after the other.
#include "cli/generate.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>

#include "base/error.h"
#include "exact/digest.h"

namespace etalon::cli {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Drops from the session what differs from the prompt; at least the last prompt token is computed
/// again, since its logits are needed. Returns how many tokens stay.
std::size_t keep_common_prefix(model::Session& session, const std::vector<std::int32_t>& prompt,
                               bool all_checksums) {
    std::size_t common = 0;
    const auto& held = session.tokens();
    const std::size_t limit = all_checksums ? 0 : std::min(held.size(), prompt.size() - 1);
    while (common < limit && held[common] == prompt[common])
        ++common;
    session.truncate(static_cast<int>(common));
    return common;
}

std::int32_t next_token(const exact::SamplingParameters& sampling,
                        std::span<const std::int32_t> prompt, std::span<const std::int32_t> answer,
                        std::span<float> logits) {
    const std::uint64_t position = prompt.size() + answer.size();
    const auto token = exact::sample(sampling, prompt, answer, {}, position, 0, logits);
    if (!token) {
        throw Error(ExitCode::failure,
                    fmt::format("token {}: a logit is not finite (ERR-3)", position));
    }
    return *token;
}

}  // namespace

void generate(model::Session& session, const text::Tokenizer& tokenizer,
              const std::vector<std::int32_t>& prompt, const GenerateOptions& options,
              Answer& answer) {
    if (prompt.empty()) throw Error(ExitCode::usage, "the prompt is empty");
    const auto room = static_cast<std::size_t>(session.n_tokens_max());
    if (prompt.size() >= room) {
        throw Error(ExitCode::usage, fmt::format("the prompt has {} tokens, the context holds {}",
                                                 prompt.size(), room));
    }
    const std::size_t kept = keep_common_prefix(session, prompt, options.all_checksums);
    answer.n_prompt_computed = static_cast<int>(prompt.size() - kept);
    const auto wanted =
        options.all_checksums ? model::LogitsWanted::all : model::LogitsWanted::last;
    Clock::time_point start = Clock::now();
    session.append(std::span(prompt).subspan(kept), options.chunk, wanted);
    answer.prompt_seconds = seconds_since(start);

    start = Clock::now();
    text::StreamDecoder decoder(tokenizer);
    const auto emit = [&](const std::string& text) {
        answer.text += text;
        if (options.on_text && !text.empty()) options.on_text(text);
    };
    for (;;) {
        std::vector<float> logits = session.last_logits();
        const std::int32_t token = next_token(options.sampling, prompt, answer.tokens, logits);
        answer.tokens.push_back(token);
        if (tokenizer.ends_generation(token)) break;
        emit(decoder.push(token));
        // First the ends that the tokens alone decide: a replay derives them.
        if (answer.tokens.size() >= static_cast<std::size_t>(options.max_tokens)) {
            answer.finish = FinishReason::max_tokens;
            break;
        }
        if (session.tokens().size() >= room) {
            answer.finish = FinishReason::context_full;
            break;
        }
        if (options.interrupted && options.interrupted()) {
            answer.finish = FinishReason::interrupted;
            break;
        }
        session.append({&token, 1}, 0, model::LogitsWanted::last);
    }
    emit(decoder.finish());
    answer.answer_seconds = seconds_since(start);
}

Sha256Digest session_digest(const model::Session& session, const std::vector<std::int32_t>& prompt,
                            const Answer& answer) {
    std::vector<std::int32_t> tokens = prompt;
    tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
    ETALON_ASSERT(session.checksums().size() + 1 == tokens.size());
    exact::RunDigest digest;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
        digest.add(static_cast<std::uint32_t>(tokens[i + 1]), session.checksums()[i]);
    }
    return digest.finish();
}

Sha256Digest replay_digest(model::Session& session, const std::vector<std::int32_t>& prompt,
                           const Answer& answer, const exact::SamplingParameters& sampling) {
    std::vector<std::int32_t> tokens = prompt;
    tokens.insert(tokens.end(), answer.tokens.begin(), answer.tokens.end());
    std::vector<std::int32_t> next(tokens.begin() + 1, tokens.end());
    session.on_logits = [&](int position, std::span<const float> logits) {
        const auto i = static_cast<std::size_t>(position);
        if (i + 1 < prompt.size()) return;
        std::vector<float> copy(logits.begin(), logits.end());
        const auto before = std::span(answer.tokens).first(i + 1 - prompt.size());
        next[i] = next_token(sampling, prompt, before, copy);
    };
    session.append(std::span(tokens).first(tokens.size() - 1), 0, model::LogitsWanted::all);
    exact::RunDigest digest;
    for (std::size_t i = 0; i < next.size(); ++i) {
        digest.add(static_cast<std::uint32_t>(next[i]), session.checksums()[i]);
    }
    return digest.finish();
}

}  // namespace etalon::cli
