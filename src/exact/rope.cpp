// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (spec RPE-1 to RPE-7). Tables are built with 64-bit integers and
// binary64 + - * /, which every machine rounds alike.
#include "exact/rope.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "exact/math.h"

namespace etalon::exact {

namespace {

__extension__ using u128 = unsigned __int128;

constexpr int kLogFractionBits = 57;  // log2 of a base below 2^40 fits in 63 bits

/// log2(x) of a finite normal x > 0 in units of 2^-57, bit by bit by squaring (RPE-1).
std::int64_t log2_fixed(double x) {
    const auto bits = std::bit_cast<std::uint64_t>(x);
    const auto exponent = static_cast<std::int64_t>(bits >> 52) - 1023;
    std::uint64_t m = ((bits & 0xFFFFFFFFFFFFFU) | 0x10000000000000U) << 11;  // [1, 2) as Q1.63
    std::int64_t log = exponent;
    for (int i = 0; i < kLogFractionBits; ++i) {
        const u128 square = static_cast<u128>(m) * m;  // Q2.126
        const bool above_two = (square >> 127) != 0;
        m = static_cast<std::uint64_t>(square >> (above_two ? 64 : 63));
        log = log * 2 + (above_two ? 1 : 0);
    }
    return log;
}

/// 2^-y / (2 pi) in units of 2^-64, y >= 0 in units of 2^-57 (RPE-2).
std::uint64_t turn_of_exponent(std::uint64_t y) {
    constexpr std::uint64_t kLn2 = 0x58B90BFBE8E7BCD6U;        // ln 2 * 2^63
    constexpr std::uint64_t kOverTwoPi = 0x28BE60DB9391054AU;  // 2^64 / (2 pi)
    constexpr std::uint64_t kOne = std::uint64_t{1} << 63;
    constexpr int kTerms = 24;
    const std::uint64_t whole = y >> kLogFractionBits;
    if (whole >= 64) return 0;
    const std::uint64_t fraction = (y << (64 - kLogFractionBits)) >> 1;  // Q0.63
    const auto z = static_cast<std::uint64_t>((static_cast<u128>(fraction) * kLn2) >> 63);
    std::uint64_t r = kOne;  // exp(-z) by Horner: 1 - z (1 - z/2 (1 - z/3 (...)))
    for (std::uint64_t n = kTerms; n >= 1; --n) {
        r = kOne - static_cast<std::uint64_t>((static_cast<u128>(z) * r) >> 63) / n;
    }
    const auto scaled = static_cast<std::uint64_t>((static_cast<u128>(r) * kOverTwoPi) >> 63);
    return whole == 0 ? scaled : (scaled + (std::uint64_t{1} << (whole - 1))) >> whole;
}

std::uint64_t round_to_turn(double turn) {
    return static_cast<std::uint64_t>(turn + 0.5);
}

double log2_double(double x) {
    return static_cast<double>(log2_fixed(x)) * 0x1p-57;
}

double floor_double(double x) {  // |x| < 2^62
    const auto whole = static_cast<double>(static_cast<std::int64_t>(x));
    return whole > x ? whole - 1.0 : whole;
}

/// RPE-3: the frequencies that Llama-3 stretches: long waves by the factor, middle ones in part.
double scale_llama3(const RopeConfig& config, double turn) {
    const double wavelength = 0x1p64 / turn;
    const auto original = static_cast<double>(config.original_context_length);
    const auto low = static_cast<double>(config.low_freq_factor);
    const auto high = static_cast<double>(config.high_freq_factor);
    const auto factor = static_cast<double>(config.factor);
    if (wavelength < original / high) return turn;
    if (wavelength > original / low) return turn / factor;
    const double smooth = (original / wavelength - low) / (high - low);
    return (1.0 - smooth) * (turn / factor) + smooth * turn;
}

struct YarnRamp {
    double low;
    double high;
};

/// RPE-4: between which pairs YaRN passes from extrapolation to interpolation.
YarnRamp yarn_ramp(const RopeConfig& config) {
    const auto n = static_cast<double>(config.n_dims);
    const auto original = static_cast<double>(config.original_context_length);
    const double log_base = log2_double(static_cast<double>(config.base));
    const auto pair_of = [&](float beta) {
        constexpr double kTwoPi = 6.283185307179586;
        return n * log2_double(original / (static_cast<double>(beta) * kTwoPi)) / (2.0 * log_base);
    };
    const double low = std::max(floor_double(pair_of(config.beta_fast)), 0.0);
    const double high = std::min(-floor_double(-pair_of(config.beta_slow)), n - 1.0);
    return {low, std::max(high, low + 0.001)};
}

double scale_yarn(const RopeConfig& config, const YarnRamp& ramp, std::size_t j, double turn) {
    const double position = (static_cast<double>(j) - ramp.low) / (ramp.high - ramp.low);
    const double share = std::min(std::max(position, 0.0), 1.0);
    return turn / static_cast<double>(config.factor) * share + turn * (1.0 - share);
}

}  // namespace

std::vector<std::uint64_t> rope_turns(const RopeConfig& config) {
    ETALON_ASSERT(config.n_dims >= 2 && config.n_dims % 2 == 0);
    ETALON_ASSERT(config.base > 1.0F);
    const auto n_pairs = static_cast<std::size_t>(config.n_dims / 2);
    const auto log_base = static_cast<std::uint64_t>(log2_fixed(static_cast<double>(config.base)));
    const bool yarn = config.scaling == RopeScaling::yarn;
    const YarnRamp ramp = yarn ? yarn_ramp(config) : YarnRamp{};
    std::vector<std::uint64_t> turns(n_pairs);
    for (std::size_t j = 0; j < n_pairs; ++j) {
        const auto y = static_cast<std::uint64_t>(static_cast<u128>(log_base) * (2 * j) /
                                                  static_cast<unsigned>(config.n_dims));
        turns[j] = turn_of_exponent(y);
        if (!config.frequency_factors.empty()) {
            const auto factor = static_cast<double>(config.frequency_factors[j]);
            turns[j] = round_to_turn(static_cast<double>(turns[j]) / factor);
        }
        const auto turn = static_cast<double>(turns[j]);
        switch (config.scaling) {
            case RopeScaling::none:
                break;
            case RopeScaling::linear:
                turns[j] = round_to_turn(turn / static_cast<double>(config.factor));
                break;
            case RopeScaling::llama3:
                turns[j] = round_to_turn(scale_llama3(config, turn));
                break;
            case RopeScaling::yarn:
                turns[j] = round_to_turn(scale_yarn(config, ramp, j, turn));
                break;
        }
    }
    return turns;
}

float rope_magnitude(const RopeConfig& config) {  // RPE-4
    if (config.scaling != RopeScaling::yarn) return 1.0F;
    if (config.attention_factor > 0.0F) return config.attention_factor;
    constexpr double kLn2Double = 0.6931471805599453;
    const double log_factor = log2_double(static_cast<double>(config.factor)) * kLn2Double;
    return static_cast<float>(0.1 * log_factor + 1.0);
}

void rope_table(std::span<const std::uint64_t> turns, float magnitude, std::int64_t position,
                std::span<float> cos_out, std::span<float> sin_out) {
    ETALON_ASSERT(position >= 0);
    ETALON_ASSERT(cos_out.size() == turns.size() && sin_out.size() == turns.size());
    for (std::size_t j = 0; j < turns.size(); ++j) {  // RPE-5: the product wraps at whole turns
        const SinCos value = sincos_turn(turns[j] * static_cast<std::uint64_t>(position));
        cos_out[j] = value.cos * magnitude;
        sin_out[j] = value.sin * magnitude;
    }
}

void rope_apply(RopePairing pairing, std::span<const float> cos_in, std::span<const float> sin_in,
                std::span<float> head) {
    const std::size_t n_pairs = cos_in.size();
    ETALON_ASSERT(sin_in.size() == n_pairs && 2 * n_pairs <= head.size());
    for (std::size_t j = 0; j < n_pairs; ++j) {
        const bool interleaved = pairing == RopePairing::interleaved;
        const std::size_t first = interleaved ? 2 * j : j;
        const std::size_t second = interleaved ? 2 * j + 1 : j + n_pairs;
        const float x0 = head[first];
        const float x1 = head[second];
        head[first] = fma(x0, cos_in[j], -(x1 * sin_in[j]));  // RPE-6
        head[second] = fma(x0, sin_in[j], x1 * cos_in[j]);
    }
}

}  // namespace etalon::exact
