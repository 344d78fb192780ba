// SPDX-License-Identifier: Apache-2.0
// Tokens drawn on the device: the token of exact::sample for each row (SMP-1 to SMP-10, ERR-3), and
// what comes to the host with them: checksums of the rows (CHK-1) and flags (ERR-1).
#include <algorithm>
#include <array>
#include <bit>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "exact/digest.h"
#include "exact/logprobs.h"
#include "exact/rotate.h"
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

/// Neither penalties, bias, masks nor log-probabilities, and every row is drawn.
RowInput plain_input(Random& random) {
    RowInput input;
    exact::SamplingParameters& p = input.parameters;
    p.temperature = one_of(random, std::array{0.0F, 0.5F, 1.0F});
    p.top_k = one_of(random, std::array{0, 0, 0, 20});
    p.top_p = one_of(random, std::array{1.0F, 1.0F, 0.95F});
    p.min_p = one_of(random, std::array{0.0F, 0.0F, 0.01F});
    p.seed = random.next();
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

/// The inputs as a backend reads them; log-probabilities go to logprobs[i].
struct OwnedDraws {
    OwnedDraws(const std::vector<RowInput>& inputs, std::vector<RowLogprobs>& logprobs) {
        for (const RowInput& input : inputs)
            words.push_back(input.words());
        for (std::size_t i = 0; i < inputs.size(); ++i) {
            const RowInput& input = inputs[i];
            all.push_back({input.drawn ? &input.parameters : nullptr, input.prompt, input.answer,
                           words[i], input.position, input.choice,
                           input.n_top >= 0 ? &logprobs[i] : nullptr, std::max(input.n_top, 0)});
        }
    }

    std::vector<std::vector<std::uint32_t>> words;
    std::vector<Draw> all;
};

void run_draws(int vocab_size, int n_rows, Backend& backend, Random& random, Outcome& outcome,
               bool plain = false) {
    std::vector<float> logits;
    std::vector<RowInput> inputs;
    for (int i = 0; i < n_rows; ++i) {
        const auto row = random_row(random, vocab_size, one_of(random, kShapes));
        logits.insert(logits.end(), row.begin(), row.end());
        inputs.push_back(plain ? plain_input(random) : random_input(random, vocab_size));
    }
    std::vector<std::int32_t> tokens(inputs.size(), vocab_size);  // stays where nothing is drawn
    std::vector<RowLogprobs> logprobs(inputs.size());
    if (backend.can_draw(vocab_size)) {
        const OwnedDraws draws(inputs, logprobs);
        const auto buffer = uploaded(backend, logits);
        OwnedBatch batch(n_rows);
        backend.draw(batch.view(), *buffer, vocab_size, draws.all, tokens);
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

/// --- what comes with the tokens of a pass ---

enum class Rest : std::uint8_t {
    none,
    not_drawn,     ///< a row is not drawn: it comes to the host
    logprobs,      ///< kernels follow that read the tokens
    flags_behind,  ///< an operation behind the draw sets another flag
    logits_again,  ///< behind the draw, others in the same place
};
constexpr std::array kRests = {Rest::none, Rest::not_drawn, Rest::logprobs, Rest::flags_behind,
                               Rest::logits_again};
constexpr std::array kRestNames = {"all", "not_drawn", "logprobs", "flags_behind", "logits_again"};

constexpr int kDim = 64;
constexpr float kEps = 1e-5F;

/// [n_tokens, kDim], one value of token `bad` is not finite.
std::unique_ptr<FloatBuffer> floats_with_bad(Backend& backend, Random& random, int n_tokens,
                                             std::size_t bad) {
    auto floats = random_floats(random, n_tokens, kDim, Fill::usual);
    floats[bad * kDim + static_cast<std::size_t>(random.below(kDim))] =
        std::numeric_limits<float>::quiet_NaN();
    return uploaded(backend, floats);
}

/// What finish() brought, by row: checksums and logits.
void add_rows(Backend& backend, const FloatBuffer& logits, int n_rows, int vocab_size,
              Outcome& outcome) {
    const auto n = static_cast<std::size_t>(vocab_size);
    std::vector<float> row(n);
    for (std::size_t i = 0; i < static_cast<std::size_t>(n_rows); ++i) {
        const std::uint64_t sum = backend.checksum(logits, i, vocab_size);
        backend.download(logits, i * n, row);
        EXPECT_EQ(sum, exact::logits_checksum(row)) << backend.name() << ", row " << i;
        outcome.add("checksum", sum);
        outcome.add("logits", std::span<const float>(row));
    }
}

/// Passes whose tokens are drawn, two of them: a flag or a checksum of the first one shows in the
/// second. The rows that are drawn have neither penalties nor bias, so that one kernel may take
/// all.
void run_pass(int vocab_size, int n_rows, Rest rest, Backend& backend, Random& random,
              Outcome& outcome) {
    const auto matrix = random_matrix(random, exact::Format::e8, vocab_size, kDim, Weights::model);
    const weights::Tensor* part = &matrix->tensor;
    const auto head = backend.load_linear({&part, 1}, {});
    const auto norm = uploaded(backend, random_floats(random, 1, kDim, Fill::usual));
    const auto x = backend.make_activations(n_rows, kDim, kRowInt8);
    const auto x_behind = backend.make_activations(n_rows, kDim, kRowInt8);
    const auto n = static_cast<std::size_t>(n_rows);
    const auto logits = backend.make_floats(n * static_cast<std::size_t>(vocab_size));
    std::vector<std::int32_t> rows;
    for (int i = 0; i < n_rows; ++i)
        rows.push_back(i);
    const std::vector<std::int32_t> backwards(rows.rbegin(), rows.rend());
    for (const std::size_t pass : {0U, 1U}) {
        std::vector<RowInput> inputs;
        for (int i = 0; i < n_rows; ++i)
            inputs.push_back(plain_input(random));
        if (rest == Rest::not_drawn) inputs[n / 2].drawn = false;
        if (rest == Rest::logprobs) inputs[n / 2].n_top = 3;
        // Token 0 failed before, 1 or 2 fails ahead of the logits, 3 behind the draw.
        const auto h = floats_with_bad(backend, random, n_rows, 1 + pass);
        const auto behind = floats_with_bad(backend, random, n_rows, 3);
        OwnedBatch batch(n_rows);
        batch.failed[0] = 1;
        std::vector<std::uint8_t> failed = batch.failed;
        failed[1 + pass] = 1;
        std::vector<std::int32_t> tokens(n, vocab_size);
        std::vector<RowLogprobs> logprobs(n);
        const OwnedDraws draws(inputs, logprobs);

        backend.begin(batch.view());
        backend.norm_quantize(batch.view(), *h, *norm, kEps, exact::rotation_for(kDim), *x);
        backend.logits(batch.view(), *x, *head, rows, *logits);
        if (backend.can_draw(vocab_size)) {
            backend.draw(batch.view(), *logits, vocab_size, draws.all, tokens);
        } else {
            tokens = reference_draws(inputs, downloaded(backend, *logits), vocab_size);
        }
        if (rest == Rest::flags_behind) {
            backend.quantize(batch.view(), *behind, *x_behind);
            failed[3] = 1;
        }
        if (rest == Rest::logits_again) backend.logits(batch.view(), *x, *head, backwards, *logits);
        backend.finish(batch.view());

        EXPECT_EQ(batch.failed, failed) << backend.name() << ", pass " << pass;
        outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
        for (const std::int32_t token : tokens)
            outcome.add("token", static_cast<std::uint64_t>(static_cast<std::uint32_t>(token)));
        add_rows(backend, *logits, n_rows, vocab_size, outcome);
    }
}

void add_passes() {
    struct Size {
        int vocab_size;
        int n_rows;
        bool cards_only;
    };
    // Up to 16 rows are parameters of a kernel.
    constexpr std::array kSizes = {Size{700, 5, false}, Size{700, 40, true}, Size{32769, 5, true},
                                   Size{32769, 17, true}, Size{131072, 5, true}};
    for (const Size& size : kSizes) {
        for (std::size_t i = 0; i < kRests.size(); ++i) {
            const auto add = size.cards_only ? add_card_test : add_test;
            add("DrawPass", fmt::format("n{}_t{}_{}", size.vocab_size, size.n_rows, kRestNames[i]),
                [size, rest = kRests[i]](Backend& backend, Random& random, Outcome& outcome) {
                    run_pass(size.vocab_size, size.n_rows, rest, backend, random, outcome);
                });
        }
    }
}

const bool kRegistered = [] {
    add_passes();
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
    for (const int vocab_size : {700, 32769}) {
        for (const int n_rows : {1, 2, 16, 17, 100}) {
            add_card_test("Draw", fmt::format("plain{}_n{}", n_rows, vocab_size),
                          [=](Backend& backend, Random& random, Outcome& outcome) {
                              run_draws(vocab_size, n_rows, backend, random, outcome, true);
                          });
        }
    }
    for (const int vocab_size : {128256, 131072, 131073}) {
        add_card_test("Draw", fmt::format("n{}", vocab_size),
                      [=](Backend& backend, Random& random, Outcome& outcome) {
                          run_draws(vocab_size, 8, backend, random, outcome);
                      });
    }
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
