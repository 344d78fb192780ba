// SPDX-License-Identifier: Apache-2.0
// The instruction set that is forced is the one that runs; unknown and unavailable ones are
// refused. And the conformance suite itself: it finds one wrong bit.
#include <array>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/operations.h"
#include "base/error.h"

namespace etalon::backend {
namespace {

constexpr std::array kIsas = {Isa::generic, Isa::avx2, Isa::avx512};

TEST(Isa, forced_one_runs) {
    for (const Isa isa : kIsas) {
        if (!isa_is_available(isa)) continue;
        const std::string name(isa_name(isa));
        EXPECT_EQ(choose_isa(name.c_str()), isa);
        EXPECT_EQ(make_cpu_backend(choose_isa(name.c_str()), 1)->name(), "cpu/" + name);
    }
    EXPECT_EQ(make_exact_backend(1)->name(), "exact");
}

TEST(Isa, best_available_runs_when_none_is_forced) {
    Isa best = Isa::generic;
    for (const Isa isa : kIsas) {
        if (isa_is_available(isa)) best = isa;
    }
    EXPECT_EQ(choose_isa(nullptr), best);
    EXPECT_TRUE(isa_is_available(Isa::generic));
}

void expect_usage_error(const char* forced, const std::string& message) {
    try {
        (void)choose_isa(forced);
        ADD_FAILURE() << forced << " was accepted";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::usage);
        EXPECT_EQ(error.message(), message);
        EXPECT_EQ(error.hint().find("available here: generic"), 0U) << error.hint();
    }
}

TEST(Isa, unknown_names_are_usage_errors) {
    for (const char* forced : {"", "AVX2", "avx2 ", "avx", "cpu/avx2", "sse2", "neon"}) {
        expect_usage_error(forced,
                           "ETALON_ISA: unknown instruction set \"" + std::string(forced) + "\"");
    }
    expect_usage_error("\x1b[2J", "ETALON_ISA: unknown instruction set \"\\x1b[2J\"");
}

TEST(Isa, unavailable_ones_are_usage_errors) {
    bool all = true;
    for (const Isa isa : kIsas) {
        if (isa_is_available(isa)) continue;
        all = false;
        const std::string name(isa_name(isa));
        expect_usage_error(name.c_str(), "ETALON_ISA: this machine cannot run " + name);
    }
    if (all) GTEST_SKIP() << "this machine runs every instruction set";
}

using conformance::difference;
using conformance::Outcome;

Outcome outcome_of(std::vector<float> floats) {
    Outcome outcome;
    outcome.add("y", std::span<const float>(floats));
    return outcome;
}

TEST(Conformance, names_the_first_index_and_both_bit_patterns) {
    const Outcome reference = outcome_of({1.0F, 0.0F, 2.0F});
    EXPECT_EQ(difference(reference, reference), "");
    EXPECT_EQ(difference(reference, outcome_of({1.0F, -0.0F, 3.0F})),
              "y[1] is 80000000, the reference has 00000000");
    EXPECT_EQ(difference(reference, outcome_of({1.0F})), "y of 1 words, the reference has y of 3");
    EXPECT_NE(difference(reference, Outcome{}), "");
}

TEST(Conformance, every_nan_is_one) {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_EQ(difference(outcome_of({kNan}), outcome_of({-kNan})), "");
    EXPECT_NE(difference(outcome_of({kNan}), outcome_of({1.0F})), "");
}

}  // namespace
}  // namespace etalon::backend
