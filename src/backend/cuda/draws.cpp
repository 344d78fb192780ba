// SPDX-License-Identifier: Apache-2.0
// Parameters of draws to the card, tokens back (spec SMP).
#include "backend/cuda/draws.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr std::uint64_t kWhole = std::uint64_t{1} << 32;
constexpr std::size_t kRowsRoomMin = 256;
static_assert(kTopLogitsMax <= kRowTopMax);
/// More rows with filters fill the card with a block each.
constexpr std::ptrdiff_t kFilteredMax = 64;

AtOnce at_once_of(std::span<const DrawRow> rows, int vocab_size, bool has_sm90) {
    if (!has_sm90 || vocab_size > kDrawAtOnceMax) return AtOnce::none;
    const auto n_filtered = std::count_if(rows.begin(), rows.end(), [](const DrawRow& row) {
        return row.adjusted == DrawRow::kNoRow && is_filtered(row);
    });
    return n_filtered > 0 && n_filtered <= kFilteredMax ? AtOnce::unadjusted : AtOnce::unfiltered;
}

}  // namespace

void Draws::add_penalties(const Draw& draw, DrawRow& row) {
    const exact::SamplingParameters& parameters = *draw.parameters;
    const bool repetition = parameters.repetition_penalty != 1.0F;
    const bool counts = parameters.frequency_penalty != 0.0F || parameters.presence_penalty != 0.0F;
    if (!repetition && !counts && parameters.logit_bias.empty()) return;
    row.adjusted = n_adjusted_++;
    row.repetition = parameters.repetition_penalty;
    row.frequency = parameters.frequency_penalty;
    row.presence = parameters.presence_penalty;
    row.penalties = place();
    for (const std::int32_t id : draw.answer)
        ++rooms_->counts[static_cast<std::size_t>(id)];
    const auto add = [&](std::span<const std::int32_t> tokens) {
        for (const std::int32_t id : tokens) {
            const auto i = static_cast<std::size_t>(id);
            if (rooms_->seen[i] != 0) continue;
            rooms_->seen[i] = 1;
            words_.push_back(static_cast<std::uint32_t>(id));
            words_.push_back(rooms_->counts[i]);
        }
    };
    if (repetition) add(draw.prompt);
    if (repetition || counts) add(draw.answer);
    row.n_penalties = (place() - row.penalties) / 2;
    const auto forget = [&](std::span<const std::int32_t> tokens) {
        for (const std::int32_t id : tokens) {
            rooms_->counts[static_cast<std::size_t>(id)] = 0;
            rooms_->seen[static_cast<std::size_t>(id)] = 0;
        }
    };
    forget(draw.prompt);
    forget(draw.answer);
    row.biases = place();
    row.n_biases = static_cast<std::int32_t>(parameters.logit_bias.size());
    for (const auto& [id, bias] : parameters.logit_bias) {
        words_.push_back(static_cast<std::uint32_t>(id));
        words_.push_back(std::bit_cast<std::uint32_t>(bias));
    }
}

void Draws::add_row(const Draw& draw, std::size_t index, int vocab_size) {
    const exact::SamplingParameters& parameters = *draw.parameters;
    DrawRow row;
    row.row = static_cast<std::int32_t>(index);
    row.bits = exact::draw_bits(parameters.seed, draw.position, draw.choice);
    row.top_p = parameters.top_p < 1.0F ? exact::share_units(parameters.top_p) : kWhole;
    if (parameters.temperature >= exact::kTemperatureMin)
        row.inverse_temperature = 1.0F / parameters.temperature;
    row.top_k = parameters.top_k;
    // P * 2^32 >= 2^31 * share: P of the first token is 2^31.
    const auto by_min_p =
        static_cast<std::uint32_t>((exact::share_units(parameters.min_p) + 1) / 2);
    row.p_least = by_min_p > 0 ? by_min_p : 1;
    if (!draw.allowed.empty()) {
        const auto n_words = static_cast<std::size_t>((vocab_size + 31) / 32);
        ETALON_ASSERT(draw.allowed.size() == n_words);
        row.mask = place();
        words_.insert(words_.end(), draw.allowed.begin(), draw.allowed.end());
    }
    add_penalties(draw, row);
    if (draw.logprobs != nullptr) {
        ETALON_ASSERT(draw.n_top >= 0 && draw.n_top <= kTopLogitsMax);
        row.n_top = draw.n_top;
        wants_sums_ = true;
    }
    rows_.push_back(row);
}

/// Room for copies of the rows with penalties or bias. It is in no plan of memory: where there is
/// none the host draws them.
void Draws::make_room(std::size_t vocab, Stream stream) {
    if (static_cast<std::size_t>(n_adjusted_) * vocab <= rooms_->adjusted.size()) return;
    check(cudaStreamSynchronize(stream), "forward pass");
    try {
        rooms_->adjusted.reserve(std::bit_ceil(static_cast<std::size_t>(n_adjusted_)) * vocab);
    } catch (const Error& error) {
        if (error.code() != ExitCode::out_of_memory) throw;
        std::erase_if(rows_, [this](const DrawRow& row) {
            const bool has_none = row.adjusted != DrawRow::kNoRow;
            if (has_none) tokens_[static_cast<std::size_t>(row.row)] = kNotDrawn;
            return has_none;
        });
    }
}

/// Room for `bytes` of parameters, and for what is drawn.
void Draws::make_input_room(std::size_t bytes, Stream stream) {
    // What found no memory is empty afterwards: each is looked at.
    if (bytes > rooms_->input.size() ||
        rows_.size() > std::min(rooms_->drawn.size(), rooms_->sums.size())) {
        check(cudaStreamSynchronize(stream), "forward pass");
        const std::size_t n_rows = std::max(rows_.size(), kRowsRoomMin);
        rooms_->sums.grow(n_rows);
        rooms_->input.grow(bytes);
        rooms_->drawn.grow(n_rows);
    }
    // Nothing that is under way uses them: the pass that had them before is finished.
    sent_.reserve(rooms_->input.size());
    received_.reserve(rooms_->drawn.size() * sizeof(std::int32_t));
}

/// The kernels for rows_, of which n_at_once are drawn at once.
void Draws::launch(const float* logits, int vocab_size, const DrawBack& back, AtOnce at_once,
                   std::size_t n_at_once, Stream stream) {
    const auto n_rows = static_cast<int>(rows_.size());
    // Few rows without words are parameters of the kernel: nothing waits for a copy.
    const bool as_parameters =
        n_at_once == rows_.size() && rows_.size() <= kDrawFewRows && words_.empty() && !wants_sums_;
    const std::size_t row_bytes = rows_.size() * sizeof(DrawRow);
    const std::size_t bytes = row_bytes + words_.size() * sizeof(std::uint32_t);
    make_input_room(bytes, stream);
    // Kernels behind read the tokens on the card; else they go where the host reads them.
    std::int32_t* tokens =
        wants_sums_ ? rooms_->drawn.data() : reinterpret_cast<std::int32_t*>(received_.data());
    tokens_at_ = tokens;
    if (as_parameters) {
        return launch_draw_sm90(logits, vocab_size, rows_, nullptr, n_rows, at_once, nullptr,
                                tokens, back, stream);
    }
    std::memcpy(sent_.data(), rows_.data(), row_bytes);
    if (!words_.empty()) std::memcpy(sent_.data() + row_bytes, words_.data(), bytes - row_bytes);
    check(
        cudaMemcpyAsync(rooms_->input.data(), sent_.data(), bytes, cudaMemcpyHostToDevice, stream),
        "parameters of draws");
    const auto* rows = reinterpret_cast<const DrawRow*>(rooms_->input.data());
    const auto* words = reinterpret_cast<const std::uint32_t*>(rooms_->input.data() + row_bytes);
    if (n_at_once > 0) {
        launch_draw_sm90(logits, vocab_size, {}, rows, n_rows, at_once, words, tokens, back,
                         stream);
    }
    if (n_at_once < rows_.size()) {
        launch_draw(logits, vocab_size, rows, n_rows, words, rooms_->adjusted.data(), at_once,
                    tokens, stream);
    }
    if (!wants_sums_) return;
    received_sums_.reserve(rooms_->sums.size() * sizeof(RowSums));
    launch_logprobs(logits, vocab_size, rows, n_rows, tokens, rooms_->sums.data(), stream);
}

bool Draws::start(const float* logits, int vocab_size, std::span<const Draw> draws,
                  std::span<std::int32_t> tokens, const DrawBack& back, bool has_sm90,
                  Stream stream) {
    ETALON_ASSERT(rows_.empty());  // a pass draws once
    const auto vocab = static_cast<std::size_t>(vocab_size);
    words_.clear();
    rooms_->counts.resize(vocab, 0);
    rooms_->seen.resize(vocab, 0);
    n_adjusted_ = 0;
    vocab_size_ = vocab_size;
    tokens_ = tokens;
    draws_ = draws;
    wants_sums_ = false;
    for (std::size_t i = 0; i < draws.size(); ++i) {
        if (draws[i].parameters != nullptr) add_row(draws[i], i, vocab_size);
    }
    if (rows_.empty()) return false;
    make_room(vocab, stream);
    if (rows_.empty()) return false;
    const AtOnce at_once = at_once_of(rows_, vocab_size, has_sm90);
    const auto n_at_once =
        static_cast<std::size_t>(std::count_if(rows_.begin(), rows_.end(), [&](const DrawRow& row) {
            return draws_at_once(row, at_once);
        }));
    const bool brings = n_at_once == draws.size();
    launch(logits, vocab_size, brings ? back : DrawBack{}, at_once, n_at_once, stream);
    return brings;
}

std::size_t Draws::place_of(std::size_t row) const {
    const auto number = static_cast<std::int32_t>(row);
    const auto found = std::lower_bound(
        rows_.begin(), rows_.end(), number,
        [](const DrawRow& drawn, std::int32_t wanted) { return drawn.row < wanted; });
    ETALON_ASSERT(found != rows_.end() && found->row == number);
    return static_cast<std::size_t>(found - rows_.begin());
}

void Draws::send(Stream stream) const {
    if (rows_.empty() || !wants_sums_) return;
    check(cudaMemcpyAsync(received_.data(), rooms_->drawn.data(),
                          rows_.size() * sizeof(std::int32_t), cudaMemcpyDeviceToHost, stream),
          "tokens from the card");
    check(cudaMemcpyAsync(received_sums_.data(), rooms_->sums.data(),
                          rows_.size() * sizeof(RowSums), cudaMemcpyDeviceToHost, stream),
          "log-probabilities from the card");
}

void Draws::set_logprobs(std::size_t i, RowLogprobs& to) const {
    RowSums sums;
    std::memcpy(&sums, received_sums_.data() + i * sizeof(sums), sizeof(sums));
    to.sum = {sums.largest, sums.sum};
    to.logit = sums.logit;
    to.top.clear();
    for (int k = 0; k < rows_[i].n_top && sums.top[k].id >= 0; ++k)
        to.top.emplace_back(sums.top[k].id, sums.top[k].logit);
}

void Draws::arrived() {
    for (std::size_t i = 0; i < rows_.size(); ++i) {
        std::int32_t token = kNoToken;
        std::memcpy(&token, received_.data() + i * sizeof(token), sizeof(token));
        const auto row = static_cast<std::size_t>(rows_[i].row);
        tokens_[row] = token;
        if (token >= 0 && rows_[i].n_top >= 0) set_logprobs(i, *draws_[row].logprobs);
    }
    clear();
}

}  // namespace etalon::backend::cuda
