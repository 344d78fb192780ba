// SPDX-License-Identifier: Apache-2.0
// Passes of which each starts before the one ahead of it is finished, with the tokens that this one
// draws (Backend::can_follow): tokens, flags, checksums, log-probabilities, keys and values of
// passes one after the other. Passes are begun as a model does it, so that a card records them and
// runs what it recorded.
#include <algorithm>
#include <array>
#include <atomic>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "exact/logprobs.h"
#include "exact/rope.h"
#include "exact/rotate.h"
#include "exact/sampler.h"

namespace etalon::backend::conformance {
namespace {

constexpr int kDim = 128;
constexpr int kHeads = 2;
constexpr int kHeadDim = 64;
constexpr int kPageTokens = 64;
constexpr float kEps = 1e-5F;
/// Of the passes: one row may have no token at all (ERR-3), one wants log-probabilities, one has a
/// bias, which other kernels draw.
constexpr int kNoneAt = 3;
constexpr int kLogprobsEvery = 3;
constexpr int kBiasEvery = 4;
constexpr int kTop = 4;

struct Step {
    OwnedBatch batch;
    std::vector<exact::SamplingParameters> parameters;
    std::vector<std::uint32_t> none_allowed;
    std::vector<RowLogprobs> logprobs;
    std::vector<Draw> draws;
    std::vector<std::int32_t> tokens;
};

std::uint64_t next_model() {
    static std::atomic<std::uint64_t> number{std::uint64_t{1}
                                             << 40};  // no transformer counts to it
    return ++number;
}

/// One layer of attention between an embedding and a head, and the passes of a chain.
class Chain {
  public:
    Chain(Backend& backend, Random& random, int vocab_size, int n_rows, int n_passes);

    void run(Outcome& outcome);

  private:
    std::unique_ptr<LinearWeights> linear(Random& random, int n_out, int n_in) {
        tensors_.push_back(random_matrix(random, exact::Format::e8, n_out, n_in, Weights::model));
        const weights::Tensor* part = &tensors_.back()->tensor;
        return backend_->load_linear({&part, 1}, {});
    }
    void make_step(int index, Random& random);
    void start(int index, bool follows);
    void operations(const Batch& batch);
    void finish(int index, Outcome& outcome);
    void draw_on_host(Step& step);

    Backend* backend_;
    int vocab_size_;
    std::size_t n_rows_;
    std::uint64_t model_ = next_model();
    std::vector<std::unique_ptr<OwnedTensor>> tensors_;
    std::unique_ptr<OwnedTensor> embedding_rows_;
    std::unique_ptr<Embedding> embedding_;
    std::unique_ptr<FloatBuffer> norm_, h_, y_, o_, logits_;
    std::unique_ptr<LinearWeights> qkv_, out_, head_;
    std::unique_ptr<Activations> x_;
    std::unique_ptr<Queries> queries_;
    std::unique_ptr<KvCache> kv_;
    RopeTables rope_;
    std::vector<std::int32_t> rows_;
    std::vector<Step> steps_;
};

Chain::Chain(Backend& backend, Random& random, int vocab_size, int n_rows, int n_passes)
    : backend_(&backend), vocab_size_(vocab_size), n_rows_(static_cast<std::size_t>(n_rows)) {
    embedding_rows_ = random_embedding(random, exact::Format::e8, vocab_size, kDim, Weights::model);
    embedding_ = backend.load_embedding(embedding_rows_->tensor);
    norm_ = uploaded(backend, random_floats(random, 1, kDim, Fill::usual));
    qkv_ = linear(random, (kHeads + 2) * kHeadDim, kDim);
    out_ = linear(random, kDim, kHeads * kHeadDim);
    head_ = linear(random, vocab_size, kDim);
    h_ = backend.make_floats(n_rows_ * kDim);
    y_ = backend.make_floats(n_rows_ * (kHeads + 2) * kHeadDim);
    o_ = backend.make_floats(n_rows_ * kHeads * kHeadDim);
    logits_ = backend.make_floats(n_rows_ * static_cast<std::size_t>(vocab_size));
    x_ = backend.make_activations(n_rows, kDim, kRowInt8);
    queries_ = backend.make_queries(n_rows, kHeads, kHeadDim);
    const int n_pages = (n_passes + kPageTokens - 1) / kPageTokens;
    kv_ = backend.make_kv_cache({1, 1, kHeadDim, n_rows * n_pages});
    exact::RopeConfig config;
    config.n_dims = kHeadDim;
    rope_ = {config.pairing, exact::rope_turns(config), 1.0F};
    for (int row = 0; row < n_rows; ++row)
        rows_.push_back(row);
    steps_.resize(static_cast<std::size_t>(n_passes));
    for (int i = 0; i < n_passes; ++i)
        make_step(i, random);
}

/// The batch but for its tokens, of which the first pass has its own, and the draws.
void Chain::make_step(int index, Random& random) {
    Step& step = steps_[static_cast<std::size_t>(index)];
    const auto n_pages = (static_cast<int>(steps_.size()) + kPageTokens - 1) / kPageTokens;
    step.none_allowed.assign(static_cast<std::size_t>(vocab_size_ + 31) / 32, 0);
    step.parameters.resize(n_rows_);
    step.logprobs.resize(n_rows_);
    step.draws.resize(n_rows_);
    step.tokens.resize(n_rows_, kNotDrawn);
    for (std::size_t row = 0; row < n_rows_; ++row) {
        std::vector<std::int32_t> table;
        for (int page = 0; page < n_pages; ++page)
            table.push_back(static_cast<std::int32_t>(row) * n_pages + page);
        step.batch.add_sequence(index, 1, table);
        step.batch.tokens.back() = random.below(vocab_size_);
        exact::SamplingParameters& parameters = step.parameters[row];
        parameters.temperature = random.below(4) == 0 ? 0.0F : 1.0F;
        parameters.top_k = random.below(4) == 0 ? 20 : 0;
        parameters.seed = random.next();
        step.draws[row].parameters = &parameters;
        step.draws[row].position = static_cast<std::uint64_t>(index) + 1;
    }
    step.batch.failed[n_rows_ / 3] = index % 5 == 1 ? 1 : 0;
    if (index % kBiasEvery == 1) step.parameters[n_rows_ - 1].logit_bias = {{1, 2.0F}, {5, -3.0F}};
    if (index == kNoneAt) step.draws[n_rows_ / 2].allowed = step.none_allowed;
    if (index % kLogprobsEvery == 1) {
        step.draws[0].logprobs = step.logprobs.data();
        step.draws[0].n_top = kTop;
    }
}

void Chain::operations(const Batch& batch) {
    const exact::Rotation rotation = exact::rotation_for(kDim);
    backend_->embed(batch, *embedding_, *h_);
    backend_->norm_linear(batch, *h_, *norm_, kEps, rotation, *x_, *qkv_, *y_);
    backend_->rope_append(batch, *y_, rope_, 0, *kv_, *queries_);
    backend_->attention(batch, *queries_, 0, 0, *kv_, *o_);
    backend_->quantize_linear(batch, *o_, *x_, *out_, *h_);
    backend_->norm_quantize(batch, *h_, *norm_, kEps, rotation, *x_);
    backend_->logits(batch, *x_, *head_, rows_, *logits_);
}

void Chain::start(int index, bool follows) {
    Step& step = steps_[static_cast<std::size_t>(index)];
    for (std::size_t row = 0; row < n_rows_ && index > 0; ++row) {
        const std::int32_t known = steps_[static_cast<std::size_t>(index) - 1].tokens[row];
        step.batch.tokens[row] = follows ? token_drawn_by(row) : std::max(known, 0);
        if (!follows && known == kNoToken) step.batch.failed[row] = 1;
    }
    const Batch batch = step.batch.view();
    if (!backend_->begin(batch, {model_, 0, vocab_size_, rows_, kv_.get(), logits_.get()}))
        operations(batch);
    if (backend_->can_draw(vocab_size_))
        backend_->draw(batch, *logits_, vocab_size_, step.draws, step.tokens);
}

void Chain::draw_on_host(Step& step) {
    const auto n = static_cast<std::size_t>(vocab_size_);
    const auto none = std::make_unique<bool[]>(n);
    for (std::size_t row = 0; row < n_rows_; ++row) {
        const Draw& draw = step.draws[row];
        std::vector<float> logits(n);
        backend_->download(*logits_, row * n, logits);
        const std::vector<float> raw = logits;
        step.tokens[row] =
            exact::sample(*draw.parameters, {}, {}, {none.get(), draw.allowed.empty() ? 0 : n},
                          draw.position, draw.choice, logits)
                .value_or(kNoToken);
        if (draw.logprobs == nullptr) continue;
        RowLogprobs& to = *draw.logprobs;
        to.sum.largest = *std::max_element(raw.begin(), raw.end());
        for (const float logit : raw)
            to.sum.sum += exact::probability_units(logit, to.sum.largest, 1.0F);
        to.logit = raw[static_cast<std::size_t>(step.tokens[row])];
        for (const auto& [id, value] : exact::Logprobs(raw).top(draw.n_top))
            to.top.emplace_back(id, raw[static_cast<std::size_t>(id)]);
    }
}

/// What the pass brought; the next one may be under way.
void Chain::finish(int index, Outcome& outcome) {
    Step& step = steps_[static_cast<std::size_t>(index)];
    backend_->finish(step.batch.view());
    for (std::size_t row = 0; row < n_rows_; ++row) {
        outcome.add(fmt::format("checksum of row {} of pass {}", row, index),
                    backend_->checksum(*logits_, row, vocab_size_));
    }
    if (!backend_->can_draw(vocab_size_)) draw_on_host(step);
    outcome.add(fmt::format("flags of pass {}", index),
                std::span<const std::uint8_t>(step.batch.failed));
    for (std::size_t row = 0; row < n_rows_; ++row) {
        outcome.add(fmt::format("token of row {} of pass {}", row, index),
                    static_cast<std::uint64_t>(static_cast<std::uint32_t>(step.tokens[row])));
    }
    const RowLogprobs& logprobs = step.logprobs.front();
    outcome.add(fmt::format("sum of P of pass {}", index), logprobs.sum.sum);
    outcome.add("logit", std::span(&logprobs.logit, 1));
    for (const auto& [id, logit] : logprobs.top)
        outcome.add("best token", static_cast<std::uint64_t>(id));
}

void Chain::run(Outcome& outcome) {
    const bool follows = backend_->can_follow() && backend_->can_draw(vocab_size_);
    const auto n = static_cast<int>(steps_.size());
    int n_started = 0;
    for (int i = 0; i < n; ++i) {
        const int end = std::min(n, i + (follows ? 2 : 1));
        while (n_started < end) {
            start(n_started, follows);
            ++n_started;
        }
        finish(i, outcome);
    }
    outcome.add("logits of the last pass", std::span<const float>(downloaded(*backend_, *logits_)));
    const int n_pages = (n + kPageTokens - 1) / kPageTokens;
    for (int row = 0; row < static_cast<int>(n_rows_); ++row) {
        for (int position = 0; position < n; ++position) {
            const int page = row * n_pages + position / kPageTokens;
            const std::string place = fmt::format(" of row {} position {}", row, position);
            outcome.add("key" + place,
                        backend_->read_key(*kv_, 0, page, position % kPageTokens, 0));
            outcome.add("value" + place,
                        backend_->read_value(*kv_, 0, page, position % kPageTokens, 0));
        }
    }
}

const bool kRegistered = [] {
    struct Size {
        int vocab_size;
        int n_rows;
        int n_passes;
        bool cards_only;
    };
    // Up to 16 rows are parameters of a kernel; behind 64 positions there is another page.
    constexpr std::array kSizes = {Size{700, 1, 70, false},   Size{700, 5, 70, false},
                                   Size{700, 16, 12, false},  Size{700, 17, 12, true},
                                   Size{700, 64, 12, true},   Size{32769, 3, 12, true},
                                   Size{131072, 2, 12, true}, Size{131073, 2, 12, true}};
    for (const Size& size : kSizes) {
        const auto add = size.cards_only ? add_card_test : add_test;
        add("Follow", fmt::format("n{}_t{}", size.vocab_size, size.n_rows),
            [size](Backend& backend, Random& random, Outcome& outcome) {
                Chain(backend, random, size.vocab_size, size.n_rows, size.n_passes).run(outcome);
            });
    }
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
