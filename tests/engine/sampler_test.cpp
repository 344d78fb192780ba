// SPDX-License-Identifier: Apache-2.0
// The engine's sampler against exact::sample, on ties, borders and large vocabularies.
#include "exact/sampler.h"

#include <chrono>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <memory>
#include <random>
#include <rapidcheck.h>

#include "engine/fast_sampler.h"

namespace etalon::engine {
namespace {

exact::SamplingParameters any_parameters() {
    exact::SamplingParameters p;
    p.temperature = *rc::gen::element(0.0F, 0.1F, 0.7F, 1.0F, 3.0F, 100.0F);
    p.top_k = *rc::gen::element(0, 0, 1, 2, 7, 1000);
    p.top_p = *rc::gen::element(1.0F, 1.0F, 0.999F, 0.9F, 0.5F, 0.25F, 1e-30F);
    p.min_p = *rc::gen::element(0.0F, 0.0F, 1e-6F, 0.05F, 0.5F, 1.0F);
    p.repetition_penalty = *rc::gen::element(1.0F, 1.0F, 1.5F);
    p.presence_penalty = *rc::gen::element(0.0F, 0.5F);
    p.frequency_penalty = *rc::gen::element(0.0F, 0.25F);
    p.seed = *rc::gen::arbitrary<std::uint64_t>();
    return p;
}

/// Each instruction set of this machine, and the reference.
std::vector<std::unique_ptr<backend::Backend>> devices() {
    std::vector<std::unique_ptr<backend::Backend>> all;
    for (const auto isa : {backend::Isa::generic, backend::Isa::avx2, backend::Isa::avx512}) {
        if (backend::isa_is_available(isa)) all.push_back(backend::make_cpu_backend(isa, 1));
    }
    all.push_back(backend::make_exact_backend(1));
    return all;
}

void expect_equals_exact_sample(const backend::Backend& device) {
    FastSampler fast(device);
    EXPECT_TRUE(rc::check("the same token for the same arguments", [&] {
        const exact::SamplingParameters parameters = any_parameters();
        // Few distinct values, so that ties are common.
        const float step = *rc::gen::element(0.01F, 1.0F, 9.0F);
        const auto raw =
            *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-9, 9)));
        std::vector<float> logits;
        for (const int value : raw)
            logits.push_back(static_cast<float>(value) * step);
        const auto last = static_cast<std::int32_t>(raw.size()) - 1;
        const std::vector<std::int32_t> prompt{0, last / 2, 0};
        const std::vector<std::int32_t> answer{last, last / 2, last};
        const auto allowed = std::make_unique<bool[]>(logits.size());
        for (std::size_t i = 0; i < logits.size(); ++i)
            allowed[i] = *rc::gen::inRange(0, 4) > 0;
        const bool masked = *rc::gen::arbitrary<bool>();
        const std::span<const bool> mask(allowed.get(), masked ? logits.size() : 0);
        for (std::uint64_t position = 0; position < 20; ++position) {
            std::vector<float> copy = logits;
            std::vector<float> other = logits;
            const auto wanted = exact::sample(parameters, prompt, answer, mask, position, 3, copy);
            RC_ASSERT(fast.sample(parameters, prompt, answer, mask, position, 3, other) == wanted);
        }
    })) << device.name();
}

TEST(FastSampler, equals_exact_sample) {  // SMP-1 to SMP-8, SMP-10
    for (const auto& device : devices())
        expect_equals_exact_sample(*device);
}

TEST(FastSampler, equals_exact_sample_on_a_large_vocabulary) {
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0.0F, 3.0F);
    std::vector<float> logits(131072);
    const auto device = backend::make_cpu_backend(backend::choose_isa(nullptr), 1);
    FastSampler fast(*device);
    double fast_seconds = 0.0;
    double exact_seconds = 0.0;
    for (int i = 0; i < 12; ++i) {
        for (float& l : logits)
            l = normal(random);
        exact::SamplingParameters parameters;
        parameters.temperature = 0.8F;
        parameters.top_p = i % 3 == 0 ? 1.0F : 0.9F;
        parameters.top_k = i % 3 == 1 ? 50 : 0;
        parameters.min_p = i % 4 == 3 ? 0.01F : 0.0F;
        parameters.seed = static_cast<std::uint64_t>(i);
        std::vector<float> copy = logits;
        std::vector<float> other = logits;
        const auto seconds = [](auto run) {
            const auto start = std::chrono::steady_clock::now();
            run();
            return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        };
        std::optional<std::int32_t> wanted;
        std::optional<std::int32_t> got;
        exact_seconds +=
            seconds([&] { wanted = exact::sample(parameters, {}, {}, {}, 9, 0, copy); });
        fast_seconds += seconds([&] { got = fast.sample(parameters, {}, {}, {}, 9, 0, other); });
        EXPECT_EQ(got, wanted);
    }
    fmt::print("a draw from 131072 tokens: {:.2f} ms, exact::sample {:.2f} ms\n",
               fast_seconds / 12e-3, exact_seconds / 12e-3);
}

}  // namespace
}  // namespace etalon::engine
