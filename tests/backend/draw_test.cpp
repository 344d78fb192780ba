// SPDX-License-Identifier: Apache-2.0
// Tokens drawn on the device: the token of exact::sample for each row (SMP-1 to SMP-10, ERR-3).
#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "exact/logprobs.h"
#include "exact/sampler.h"

namespace etalon::backend::conformance {
namespace {

/// A row's own parameters, tokens and mask.
struct RowInput {
    exact::SamplingParameters parameters;
    std::vector<std::int32_t> prompt;
    std::vector<std::int32_t> answer;
    std::vector<bool> allowed;
    std::uint64_t position = 0;
    std::uint32_t choice = 0;
    bool drawn = true;
    int n_top = -1;  // no log-probabilities

    std::vector<std::uint32_t> words() const {
        std::vector<std::uint32_t> words((allowed.size() + 31) / 32, 0);
        for (std::size_t id = 0; id < allowed.size(); ++id) {
            if (allowed[id]) words[id / 32] |= 1U << (id % 32);
        }
        return words;
    }
};

template <typename T, std::size_t kSize>
T one_of(Random& random, const std::array<T, kSize>& values) {
    return values[static_cast<std::size_t>(random.below(static_cast<int>(kSize)))];
}

std::vector<std::int32_t> random_tokens(Random& random, int n, int vocab_size) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
    for (std::int32_t& token : tokens)
        token = random.below(vocab_size);
    return tokens;
}

RowInput random_input(Random& random, int vocab_size) {
    RowInput input;
    exact::SamplingParameters& p = input.parameters;
    p.temperature =
        one_of(random, std::array{0.0F, 0.0005F, 0.001F, 0.3F, 0.7F, 1.0F, 2.0F, 100.0F});
    p.top_k = one_of(random, std::array{0, 0, 0, 1, 2, 5, 40, 1000, 1 << 20});
    p.top_p = one_of(random, std::array{1.0F, 1.0F, 0.999999F, 0.95F, 0.9F, 0.5F, 0.01F, 1e-30F});
    p.min_p = one_of(random, std::array{0.0F, 0.0F, 0.0F, 1e-9F, 0.001F, 0.1F, 1.0F});
    p.seed = random.next();
    if (random.below(3) == 0) p.repetition_penalty = one_of(random, std::array{1.0F, 1.1F, 0.5F});
    if (random.below(4) == 0) p.frequency_penalty = random.unit() * 2.0F;
    if (random.below(4) == 0) p.presence_penalty = random.unit() * 2.0F;
    if (random.below(4) == 0) {
        for (int i = 0; i < std::min(20, vocab_size); ++i)
            p.logit_bias.emplace_back(i * (vocab_size / std::min(20, vocab_size)),
                                      random.unit() * 4.0F);
    }
    input.prompt = random_tokens(random, 1 + random.below(60), vocab_size);
    input.answer = random_tokens(random, random.below(60), vocab_size);
    input.position = input.prompt.size() + input.answer.size();
    input.choice = static_cast<std::uint32_t>(random.below(4));
    if (random.below(2) == 0) {
        // None, one, few, or most of the tokens.
        const int share = one_of(random, std::array{0, 0, 3, 50, 97});
        input.allowed.resize(static_cast<std::size_t>(vocab_size));
        for (std::size_t id = 0; id < input.allowed.size(); ++id)
            input.allowed[id] = random.below(100) < share;
        if (random.below(4) != 0)
            input.allowed[static_cast<std::size_t>(random.below(vocab_size))] = true;
    }
    input.drawn = random.below(8) != 0;
    if (random.below(4) == 0) input.n_top = random.below(kTopLogitsMax + 1);
    return input;
}

/// Rows as models have them, as flat as can be, and those of other tests.
enum class Shape : std::uint8_t { peaked, flat, few_values, usual, bits, zero, bad };
constexpr std::array kShapes = {Shape::peaked, Shape::flat, Shape::few_values, Shape::usual,
                                Shape::bits,   Shape::zero, Shape::bad};

std::vector<float> random_row(Random& random, int vocab_size, Shape shape) {
    switch (shape) {
        case Shape::usual:
            return random_floats(random, 1, vocab_size, Fill::usual);
        case Shape::bits:
            return random_floats(random, 1, vocab_size, Fill::bits);
        case Shape::zero:
            return random_floats(random, 1, vocab_size, Fill::zero);
        case Shape::bad:
            return random_floats(random, 1, vocab_size, Fill::bad);
        default:
            break;
    }
    std::vector<float> row(static_cast<std::size_t>(vocab_size));
    for (float& logit : row) {
        const float sum = random.unit() + random.unit() + random.unit() + random.unit();
        if (shape == Shape::peaked) logit = sum * 6.0F;
        if (shape == Shape::flat) logit = 3.0F + random.unit() * 1e-6F;
        // Many tokens of equal P: the logits and the ids decide.
        if (shape == Shape::few_values) logit = static_cast<float>(random.below(5)) * 1e-7F;
    }
    return row;
}

/// What src/exact draws from the same rows.
std::vector<std::int32_t> reference_draws(const std::vector<RowInput>& inputs,
                                          const std::vector<float>& logits, int vocab_size) {
    const auto n = static_cast<std::size_t>(vocab_size);
    std::vector<std::int32_t> tokens;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        const RowInput& input = inputs[i];
        if (!input.drawn) {
            tokens.push_back(vocab_size);
            continue;
        }
        std::vector<float> row(logits.begin() + static_cast<std::ptrdiff_t>(i * n),
                               logits.begin() + static_cast<std::ptrdiff_t>((i + 1) * n));
        const auto flags = std::make_unique<bool[]>(n);
        std::copy(input.allowed.begin(), input.allowed.end(), flags.get());
        const std::span<const bool> allowed(flags.get(), input.allowed.size());
        tokens.push_back(exact::sample(input.parameters, input.prompt, input.answer, allowed,
                                       input.position, input.choice, row)
                             .value_or(kNoToken));
    }
    return tokens;
}

/// What src/exact says of the rows that have a token and want it.
void reference_logprobs(const std::vector<RowInput>& inputs, const std::vector<float>& logits,
                        const std::vector<std::int32_t>& tokens,
                        std::vector<RowLogprobs>& logprobs) {
    const std::size_t n = logits.size() / inputs.size();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (!inputs[i].drawn || inputs[i].n_top < 0 || tokens[i] < 0) continue;
        const std::span<const float> row = std::span(logits).subspan(i * n, n);
        RowLogprobs& to = logprobs[i];
        to.sum.largest = *std::max_element(row.begin(), row.end());
        for (const float logit : row)
            to.sum.sum += exact::probability_units(logit, to.sum.largest, 1.0F);
        to.logit = row[static_cast<std::size_t>(tokens[i])];
        for (const auto& [id, value] : exact::Logprobs(row).top(inputs[i].n_top))
            to.top.emplace_back(id, row[static_cast<std::size_t>(id)]);
    }
}

void run_draws(int vocab_size, int n_rows, Backend& backend, Random& random, Outcome& outcome) {
    std::vector<float> logits;
    std::vector<RowInput> inputs;
    for (int i = 0; i < n_rows; ++i) {
        const auto row = random_row(random, vocab_size, one_of(random, kShapes));
        logits.insert(logits.end(), row.begin(), row.end());
        inputs.push_back(random_input(random, vocab_size));
    }
    std::vector<std::int32_t> tokens(inputs.size(), vocab_size);  // stays where nothing is drawn
    std::vector<RowLogprobs> logprobs(inputs.size());
    if (backend.can_draw(vocab_size)) {
        std::vector<Draw> draws;
        std::vector<std::vector<std::uint32_t>> words;
        for (const RowInput& input : inputs)
            words.push_back(input.words());
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const RowInput& input = inputs[i];
            draws.push_back({input.drawn ? &input.parameters : nullptr, input.prompt, input.answer,
                             words[i], input.position, input.choice,
                             input.n_top >= 0 ? &logprobs[i] : nullptr, std::max(input.n_top, 0)});
        }
        const auto buffer = uploaded(backend, logits);
        OwnedBatch batch(n_rows);
        backend.draw(batch.view(), *buffer, vocab_size, draws, tokens);
        outcome.add("logits stay", std::span<const float>(downloaded(backend, *buffer)));
    } else {
        tokens = reference_draws(inputs, logits, vocab_size);
        reference_logprobs(inputs, logits, tokens, logprobs);
        outcome.add("logits stay", std::span<const float>(logits));
    }
    for (const std::int32_t token : tokens)
        outcome.add("token", static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)));
    for (const RowLogprobs& row : logprobs) {
        std::vector<float> values{row.sum.largest, row.logit};
        if (row.sum.sum > 0) values.push_back(row.sum.of(row.logit));
        outcome.add("sum of P", row.sum.sum);
        for (const auto& [id, logit] : row.top) {
            outcome.add("best token", static_cast<std::uint64_t>(id));
            values.push_back(logit);
        }
        outcome.add("log-probabilities", std::span<const float>(values));
    }
}

const bool kRegistered = [] {
    constexpr std::array kSizes = {1,    2,    31,   32,   33,    100,  255,
                                   1000, 1023, 1025, 5000, 32003, 32768};
    for (const int vocab_size : kSizes) {
        const int n_cases = vocab_size <= 5000 ? 12 : 3;
        for (int i = 0; i < n_cases; ++i) {
            add_card_test("Draw", fmt::format("n{}_{}", vocab_size, i),
                          [=](Backend& backend, Random& random, Outcome& outcome) {
                              run_draws(vocab_size, 24, backend, random, outcome);
                          });
        }
    }
    for (const int n_rows : {1, 5, 300}) {
        add_card_test("Draw", fmt::format("rows{}", n_rows),
                      [=](Backend& backend, Random& random, Outcome& outcome) {
                          run_draws(700, n_rows, backend, random, outcome);
                      });
    }
    add_card_test("Draw", "n131072", [](Backend& backend, Random& random, Outcome& outcome) {
        run_draws(131072, 8, backend, random, outcome);
    });
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
