// SPDX-License-Identifier: Apache-2.0
// One token after the other, as `etalon run` does it.
#include "engine/alone.h"

#include <algorithm>
#include <memory>

#include "base/error.h"
#include "engine/tiny_model.h"
#include "exact/digest.h"
#include "exact/logprobs.h"
#include "exact/sampler.h"
#include "model/session.h"

namespace etalon::engine {

namespace {

bool among(const std::vector<std::int32_t>& ids, std::int32_t id) {
    return std::find(ids.begin(), ids.end(), id) != ids.end();
}

/// The whole text of an answer, searched again from the start of the searched part.
class WholeText {
  public:
    explicit WholeText(const Request& request) : request_(&request), decoder_(tiny_tokenizer()) {}

    /// False when a stop string is complete; the text then ends before it.
    bool add(std::int32_t token) {
        shown_ += decoder_.push(token);
        if (n_tokens_ < request_->min_tokens) start_ = shown_.size();
        ++n_tokens_;
        return !find();
    }
    void finish() {
        shown_ += decoder_.finish();
        (void)find();
    }
    const std::string& text() const { return shown_; }
    std::optional<std::size_t> stop() const { return stop_; }

  private:
    bool find() {
        std::size_t end = std::string::npos;
        for (std::size_t i = 0; i < request_->stop_strings.size(); ++i) {
            const std::string& stop = request_->stop_strings[i];
            const std::size_t at = shown_.find(stop, start_);
            if (at == std::string::npos) continue;
            const bool longer =
                at + stop.size() == end && stop.size() > request_->stop_strings[*stop_].size();
            if (at + stop.size() > end || (at + stop.size() == end && !longer)) continue;
            end = at + stop.size();
            stop_ = i;
        }
        if (!stop_) return false;
        shown_.resize(end - request_->stop_strings[*stop_].size());
        return true;
    }

    const Request* request_;
    text::StreamDecoder decoder_;
    std::string shown_;
    std::size_t start_ = 0;  // of what is searched
    int n_tokens_ = 0;
    std::optional<std::size_t> stop_;
};

struct Run {
    const Request* request;
    int choice;
    AloneChoice answer;
    WholeText text;

    bool ends(std::int32_t token) const {
        return among(request->stop_tokens, token) || (!request->ignore_eos && token == kTinyEnd);
    }
    bool take(const exact::SamplingParameters& parameters, std::vector<float> logits,
              std::uint64_t checksum);
};

/// Draws a token; false when it ends the answer.
bool Run::take(const exact::SamplingParameters& parameters, std::vector<float> logits,
               std::uint64_t checksum) {
    const std::vector<float> raw = logits;
    const auto allowed = std::make_unique<bool[]>(logits.size());
    const bool early = answer.tokens.size() < static_cast<std::size_t>(request->min_tokens);
    for (std::size_t id = 0; id < logits.size(); ++id)
        allowed[id] = !early || !ends(static_cast<std::int32_t>(id));
    const auto token = exact::sample(
        parameters, request->prompt, answer.tokens, {allowed.get(), logits.size()},
        request->prompt.size() + answer.tokens.size(), static_cast<std::uint32_t>(choice), logits);
    if (!token) {
        answer.reason = FinishReason::error;
        return false;
    }
    answer.tokens.push_back(*token);
    answer.checksums.push_back(checksum);
    if (request->top_logprobs) {
        const exact::Logprobs all(raw);
        answer.logprobs.push_back({all.of(*token), all.top(*request->top_logprobs)});
    }
    if (ends(*token)) return false;
    if (!text.add(*token)) return false;
    if (answer.tokens.size() < static_cast<std::size_t>(request->max_tokens.value())) return true;
    answer.reason = FinishReason::length;
    return false;
}

}  // namespace

Sha256Digest AloneChoice::digest(std::size_t n) const {
    exact::RunDigest digest;
    for (std::size_t i = 0; i < n; ++i)
        digest.add(static_cast<std::uint32_t>(tokens[i]), checksums[i]);
    return digest.finish();
}

AloneChoice run_alone(const Request& request, std::uint64_t seed, int choice) {
    return run_alone(request, seed, choice, tiny_reference().transformer);
}

AloneChoice run_alone(const Request& request, std::uint64_t seed, int choice,
                      model::Transformer& transformer) {
    exact::SamplingParameters parameters = request.sampling;
    parameters.seed = seed;
    const auto n = static_cast<int>(request.prompt.size()) + request.max_tokens.value();
    model::Session session(transformer, n);
    Run run{&request, choice, {}, WholeText(request)};
    try {
        session.append(request.prompt, 0, model::LogitsWanted::last);
        while (run.take(parameters, session.last_logits(), session.checksums().back())) {
            const std::int32_t last = run.answer.tokens.back();
            session.append({&last, 1}, 0, model::LogitsWanted::last);
        }
    } catch (const Error&) {  // ERR-1 or ERR-2
        run.answer.reason = FinishReason::error;
    }
    run.answer.stop_string = run.text.stop();
    if (!run.answer.stop_string) run.text.finish();
    run.answer.text = run.text.text();
    return run.answer;
}

}  // namespace etalon::engine
