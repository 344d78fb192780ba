// SPDX-License-Identifier: Apache-2.0
// A pass with logits and the replay of the same tokens, in turn.
#include "cli/all_logits.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <numeric>

#include "cli/load.h"

#include "base/error.h"
#include "engine/limits.h"
#include "engine/replay.h"
#include "model/session.h"

namespace etalon::cli {

namespace {

double seconds_of(const std::function<void()>& work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// The least that any replay computes: keys of all tokens, logits from the last prompt token on.
class Pass {
  public:
    Pass(model::Transformer& transformer, std::span<const std::int32_t> tokens, int n_prompt)
        : transformer_(&transformer),
          tokens_(tokens),
          first_row_(static_cast<std::size_t>(n_prompt) - 1),
          kv_(transformer.make_kv_cache(
              static_cast<int>((tokens.size() + exact::kPageTokens - 1) / exact::kPageTokens))),
          pages_(1) {
        const auto vocab = static_cast<std::size_t>(transformer.config().vocab_size);
        n_rows_max_ = std::clamp<std::size_t>(engine::kReplayLogitsMax / vocab, 1,
                                              static_cast<std::size_t>(transformer.n_tokens_max()));
        logits_ = transformer.device().make_floats(n_rows_max_ * vocab);
        pages_[0].resize(static_cast<std::size_t>(kv_->shape.n_pages));
        std::iota(pages_[0].begin(), pages_[0].end(), 0);
    }

    void run() {
        const auto batch_max = static_cast<std::size_t>(transformer_->n_tokens_max());
        for (std::size_t begin = 0; begin < tokens_.size();) {
            const std::size_t n_without = begin < first_row_ ? first_row_ - begin : 0;
            const std::size_t n =
                std::min({batch_max, tokens_.size() - begin, n_without + n_rows_max_});
            std::vector<std::int32_t> positions(n);
            std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(begin));
            const std::vector<std::int32_t> sequence_of(n, 0);
            std::vector<std::uint8_t> failed(n, 0);
            std::vector<std::int32_t> rows(n > n_without ? n - n_without : 0);
            std::iota(rows.begin(), rows.end(), static_cast<std::int32_t>(n_without));
            transformer_->forward(
                {tokens_.subspan(begin, n), positions, sequence_of, pages_, failed}, rows, *kv_,
                *logits_);
            begin += n;
        }
    }

  private:
    model::Transformer* transformer_;
    std::span<const std::int32_t> tokens_;
    std::size_t first_row_;
    std::unique_ptr<backend::KvCache> kv_;
    std::vector<std::vector<std::int32_t>> pages_;
    std::size_t n_rows_max_ = 1;
    std::unique_ptr<backend::FloatBuffer> logits_;
};

/// An answer of exactly `n_answer` tokens: no token ends it.
engine::Payload answered(model::Session& session, std::vector<std::int32_t> prompt,
                         const exact::SamplingParameters& sampling, int n_answer) {
    engine::Payload payload;
    payload.sampling = sampling;
    payload.prompt = std::move(prompt);
    payload.max_tokens = n_answer;
    payload.ignore_eos = true;
    payload.finish = engine::FinishReason::length;
    session.truncate(0);
    session.append(payload.prompt, 0, model::LogitsWanted::last);
    for (int i = 0; i < n_answer; ++i) {
        std::vector<float> logits = session.last_logits();
        payload.checksums.push_back(session.checksums().back());
        const auto token = exact::sample(sampling, payload.prompt, payload.answer, {},
                                         payload.prompt.size() + payload.answer.size(), 0, logits);
        if (!token) throw Error(ExitCode::failure, "a logit is not finite (ERR-3)");
        payload.answer.push_back(*token);
        if (i + 1 < n_answer) session.append({&*token, 1}, 0, model::LogitsWanted::last);
    }
    return payload;
}

AllLogitsRow measure_row(model::Transformer& transformer, engine::Replayer& replayer,
                         const engine::Payload& payload, int repetitions) {
    std::vector<std::int32_t> tokens = payload.prompt;
    tokens.insert(tokens.end(), payload.answer.begin(), payload.answer.end() - 1);
    AllLogitsRow row;
    row.n_tokens = static_cast<int>(tokens.size());
    Pass pass(transformer, tokens, static_cast<int>(payload.prompt.size()));
    const auto replay = [&] {
        replayer.forget();
        const engine::Verdict verdict = replayer.replay(payload);
        if (!verdict.match()) throw Error(ExitCode::failure, "replay: " + verdict.text());
    };
    replay();  // both have their buffers in memory before the first measurement
    pass.run();
    for (int i = 0; i < repetitions; ++i) {
        row.pass_seconds.push_back(seconds_of([&] { pass.run(); }));
        row.replay_seconds.push_back(seconds_of(replay));
    }
    return row;
}

}  // namespace

std::vector<AllLogitsRow> measure_all_logits(const weights::ModelFile& file,
                                             backend::Backend& device, int n_prompt, int n_answer,
                                             int repetitions, int n_threads) {
    const text::Tokenizer tokenizer = load_tokenizer(file);
    const int batch = std::min(batch_tokens_max(device), n_prompt + n_answer);
    model::Transformer transformer(file, device, batch);
    model::Session session(transformer, n_prompt + n_answer);
    engine::Replayer replayer(transformer, tokenizer, {}, n_threads);
    exact::SamplingParameters one;
    one.temperature = 1.0F;
    one.seed = 1;
    exact::SamplingParameters filtered = one;
    filtered.temperature = 0.7F;
    filtered.top_p = 0.9F;
    const std::pair<const char*, exact::SamplingParameters> ways[] = {
        {"temperature 0", {}}, {"temperature 1", one}, {"temperature 0.7, top-p 0.9", filtered}};
    std::vector<AllLogitsRow> rows;
    for (const auto& [name, sampling] : ways) {
        std::vector<std::int32_t> prompt = some_tokens(n_prompt, file.config().vocab_size);
        const engine::Payload payload = answered(session, std::move(prompt), sampling, n_answer);
        rows.push_back(measure_row(transformer, replayer, payload, repetitions));
        rows.back().sampling = name;
    }
    return rows;
}

}  // namespace etalon::cli
