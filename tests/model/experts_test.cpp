// SPDX-License-Identifier: Apache-2.0
// A model with experts against its import to E8: rotated and rounded, it chooses the same experts
// and gives nearly the same logits (FWD-5, IMP-7).
#include <cmath>
#include <gtest/gtest.h>
#include <vector>

#include "backend/conformance.h"
#include "model/memory.h"
#include "model/session.h"
#include "model/tiny_model.h"
#include "weights/import.h"

namespace etalon::model {
namespace {

using Logits = std::vector<float>;

Logits logits_of(const weights::ModelFile& file, backend::Backend& device) {
    Transformer transformer(file, device, 64);
    Session session(transformer, 64);
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 40; ++i)
        tokens.push_back(i * i % 199);
    Logits all;
    session.on_logits = [&](int, std::span<const float> row) {
        all.insert(all.end(), row.begin(), row.end());
    };
    session.append(tokens, 0, LogitsWanted::all);
    return all;
}

double length(const Logits& a, const Logits& b, double sign) {
    double sum = 0.0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = static_cast<double>(a[i]) + sign * static_cast<double>(b[i]);
        sum += d * d;
    }
    return std::sqrt(sum);
}

TEST(ModelExperts, IMP_7_an_import_gives_nearly_the_same_logits) {  // IMP-1, IMP-3, IMP-7
    const auto device = backend::make_cpu_backend(backend::choose_isa(nullptr), 2);
    const auto source =
        tiny::make_gguf(tiny::experts_config(), [](const auto&) { return exact::Format::f32; });
    const tiny::TemporaryFile destination(".safetensors");
    weights::import_e8(source->file().path(), destination.path(), {});
    const auto e8 = weights::ModelFile::open(destination.path());
    const Logits want = logits_of(source->file(), *device);
    const Logits got = logits_of(e8, *device);
    ASSERT_EQ(got.size(), want.size());
    const double zero_length = length(want, Logits(want.size()), 1.0);
    EXPECT_GT(zero_length, 0.0);
    EXPECT_LT(length(want, got, -1.0) / zero_length, 0.1);
}

TEST(ModelExperts, rooms_of_all_pairs_are_in_the_plan_of_memory) {
    const auto device = backend::make_exact_backend(1);
    auto config = tiny::experts_config();
    const auto two = tiny::make_e8(config);
    config.n_experts_used = 6;
    const auto six = tiny::make_e8(config);
    const auto plan = [&](const auto& model) {
        return memory_plan(model->file(), *device, 64, 100);
    };
    EXPECT_EQ(plan(two).weights, plan(six).weights);
    // 4 hidden_dim and dim floats for each further pair.
    EXPECT_EQ(plan(six).workspace - plan(two).workspace, 100U * 4 * 4 * (4 * 256 + 256));
}

}  // namespace
}  // namespace etalon::model
