// SPDX-License-Identifier: Apache-2.0
// Draws by exact::sample; tokens of the pass before go in where the embedding is read.
#include "engine/following_device.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "exact/logprobs.h"
#include "exact/sampler.h"

namespace etalon::engine {

namespace {

constexpr std::int32_t kUntouched = -3;  // nothing is drawn behind this row
constexpr int kNoRoomEvery = 5;          // rows with penalties or bias

/// Reads all of it.
std::uint64_t sum_of(std::span<const backend::Draw> draws) {
    std::uint64_t sum = 0;
    for (const backend::Draw& draw : draws) {
        if (draw.parameters == nullptr) continue;
        sum = sum * 31 + draw.parameters->seed + draw.parameters->logit_bias.size();
        for (const auto tokens : {draw.prompt, draw.answer})
            sum = std::accumulate(tokens.begin(), tokens.end(), sum * 31);
        sum = std::accumulate(draw.allowed.begin(), draw.allowed.end(), sum);
    }
    return sum;
}

bool is_adjusted(const exact::SamplingParameters& p) {
    return p.repetition_penalty != 1.0F || p.frequency_penalty != 0.0F ||
           p.presence_penalty != 0.0F || !p.logit_bias.empty();
}

backend::RowLogprobs logprobs_of(const std::vector<float>& row, std::int32_t token, int n_top) {
    backend::RowLogprobs to;
    to.sum.largest = *std::max_element(row.begin(), row.end());
    for (const float logit : row)
        to.sum.sum += exact::probability_units(logit, to.sum.largest, 1.0F);
    to.logit = row[static_cast<std::size_t>(token)];
    for (const auto& [id, value] : exact::Logprobs(row).top(n_top))
        to.top.emplace_back(id, row[static_cast<std::size_t>(id)]);
    return to;
}

}  // namespace

FollowingDevice::FollowingDevice()
    : Forwarding(backend::make_cpu_backend(backend::choose_isa(nullptr), 1)) {}

bool FollowingDevice::can_draw(int vocab_size) const {
    return vocab_size > 0;
}

void FollowingDevice::begin(const backend::Batch& batch) {
    before_.clear();
    ++n_passes;
    if (!under_way_.empty()) {
        ETALON_ASSERT(under_way_.size() == 1 && under_way_.front().is_drawn);
        before_ = under_way_.front().drawn;
        ++n_followers;
    }
    under_way_.emplace_back().batch = batch.tokens.data();
}

void FollowingDevice::embed(const backend::Batch& batch, const backend::Embedding& embedding,
                            backend::FloatBuffer& h) {
    std::vector<std::int32_t> tokens(batch.tokens.begin(), batch.tokens.end());
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        if (!backend::is_drawn_before(tokens[t])) continue;
        const std::int32_t drawn = before_.at(backend::row_drawing(tokens[t]));
        ETALON_ASSERT(drawn != kUntouched && drawn != backend::kNotDrawn);
        tokens[t] = std::max(drawn, 0);
        if (drawn == backend::kNoToken) batch.failed[t] = 1;
    }
    backend::Batch known = batch;
    known.tokens = tokens;
    Forwarding::embed(known, embedding, h);
}

void FollowingDevice::draw_row(const backend::Draw& draw, std::vector<float> row, Pass& pass,
                               std::size_t i) {
    const std::vector<float> raw = row;
    const auto flags = std::make_unique<bool[]>(row.size());
    for (std::size_t id = 0; id < row.size() && !draw.allowed.empty(); ++id)
        flags[id] = (draw.allowed[id / 32] >> (id % 32) & 1U) != 0;
    const std::span<const bool> allowed(flags.get(), draw.allowed.empty() ? 0 : row.size());
    pass.drawn[i] = exact::sample(*draw.parameters, draw.prompt, draw.answer, allowed,
                                  draw.position, draw.choice, row)
                        .value_or(backend::kNoToken);
    if (draw.logprobs != nullptr && pass.drawn[i] >= 0)
        pass.logprobs[i] = logprobs_of(raw, pass.drawn[i], draw.n_top);
}

void FollowingDevice::draw(const backend::Batch& batch, const backend::FloatBuffer& logits,
                           int vocab_size, std::span<const backend::Draw> draws,
                           std::span<std::int32_t> tokens) {
    Pass& pass = under_way_.back();
    ETALON_ASSERT(pass.batch == batch.tokens.data() && !pass.is_drawn);
    pass.is_drawn = true;
    pass.draws = draws;
    pass.tokens = tokens;
    pass.given = sum_of(draws);
    pass.drawn.assign(draws.size(), kUntouched);
    pass.logprobs.resize(draws.size());
    for (std::size_t i = 0; i < draws.size(); ++i) {
        pass.checksums.push_back(inner->checksum(logits, i, vocab_size));
        if (draws[i].parameters == nullptr) continue;
        if (is_adjusted(*draws[i].parameters) && draws[i].position % kNoRoomEvery == 0) {
            tokens[i] = pass.drawn[i] = backend::kNotDrawn;
            ++n_not_drawn;
            continue;
        }
        const auto n = static_cast<std::size_t>(vocab_size);
        std::vector<float> row(n);
        inner->download(logits, i * n, row);
        draw_row(draws[i], std::move(row), pass, i);
    }
}

void FollowingDevice::finish(const backend::Batch& batch) {
    ETALON_ASSERT(!under_way_.empty() && under_way_.front().batch == batch.tokens.data());
    Pass& pass = under_way_.front();
    ETALON_ASSERT(pass.given == sum_of(pass.draws));
    for (std::size_t i = 0; i < pass.drawn.size(); ++i) {
        if (pass.drawn[i] == kUntouched || pass.drawn[i] == backend::kNotDrawn) continue;
        pass.tokens[i] = pass.drawn[i];
        if (pass.draws[i].logprobs != nullptr && pass.drawn[i] >= 0)
            *pass.draws[i].logprobs = pass.logprobs[i];
    }
    checksums_ = std::move(pass.checksums);
    under_way_.pop_front();
}

void FollowingDevice::download(const backend::FloatBuffer& from, std::size_t offset,
                               std::span<float> to) {
    ETALON_ASSERT(under_way_.empty());  // else a pass has written over it
    Forwarding::download(from, offset, to);
}

std::uint64_t FollowingDevice::checksum(const backend::FloatBuffer& logits, std::size_t row,
                                        int vocab_size) {
    if (row < checksums_.size()) return checksums_[row];
    ETALON_ASSERT(under_way_.empty());
    return Forwarding::checksum(logits, row, vocab_size);
}

}  // namespace etalon::engine
