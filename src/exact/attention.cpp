// SPDX-License-Identifier: Apache-2.0
// Attention of one query head over pages of int8 keys and values (spec ATT-1 to ATT-12).
#include "exact/attention.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "exact/linear.h"
#include "exact/math.h"
#include "exact/rotate.h"

namespace etalon::exact {

namespace {

/// Running result over pages or chunks: o = O / L * 2^16, both relative to 2^M (ATT-9).
struct State {
    bool empty = true;
    int m = 0;
    float l = 0.0F;
    std::vector<float> o;
};

/// What one page contributes (ATT-4 to ATT-8).
struct Page {
    int m = 0;                    // exponent m_b
    int e = 0;                    // exponent e_b of the value scales
    std::int32_t l = 0;           // sum of rne(p 2^16)
    std::vector<std::int32_t> a;  // sum of W v
};

/// Factor 2^(from - to) of a join, 0 below 2^-64 (ATT-9).
float join_factor(int from, int to) {
    return from - to < -64 ? 0.0F : power_of_two(from - to);
}

/// The smallest integer e with x < 2^e, for x > 0 (ATT-7).
int exponent_above(float x) {
    // A scale is 0 or at least 1e-30 / 127, so it is normal: bits hold its exponent.
    return static_cast<int>(std::bit_cast<std::uint32_t>(x) >> 23) - 126;
}

/// t_j of every visible key of the page, and the page's exponent (ATT-4, ATT-5).
bool page_scores(std::span<const std::int8_t> q, float scale_q, const CacheReader& key,
                 Visible range, std::array<float, kPageTokens>& t, int& m) {
    const float c = scale_q * attention_constant(static_cast<int>(q.size()));  // ATT-3
    float largest = -INFINITY;
    for (std::int64_t j = range.first; j <= range.last; ++j) {
        const CachedVector k = key(j);
        const float x = static_cast<float>(dot_i8(q, k.q)) * k.scale;  // ATT-4
        t[static_cast<std::size_t>(j % kPageTokens)] = x * c;
        largest = std::max(largest, x * c);
    }
    const float ceiling = std::ceil(largest);
    if (!(std::abs(ceiling) < kMaxAbsExponent)) return false;  // ERR-2
    m = static_cast<int>(ceiling);                             // ATT-5
    return true;
}

bool page_result(std::span<const std::int8_t> q, float scale_q, const CacheReader& key,
                 const CacheReader& value, Visible range, Page& page) {
    std::array<float, kPageTokens> t{};
    if (!page_scores(q, scale_q, key, range, t, page.m)) return false;
    float scale_max = 0.0F;
    for (std::int64_t j = range.first; j <= range.last; ++j) {
        scale_max = std::max(scale_max, value(j).scale);
    }
    page.e = scale_max > 0.0F ? exponent_above(scale_max) : 0;  // ATT-7
    // In two factors, so that no 2^-e is needed that binary32 does not have.
    const float to_unit = power_of_two(-page.e / 2);
    const float to_unit_rest = power_of_two(-page.e - (-page.e / 2));
    page.l = 0;
    page.a.assign(q.size(), 0);
    for (std::int64_t j = range.first; j <= range.last; ++j) {
        const float below =
            t[static_cast<std::size_t>(j % kPageTokens)] - static_cast<float>(page.m);
        const float d = std::max(below, -32.0F);  // ATT-6
        const float n = rne(d);
        const float p = exp2_poly3(d - n) * power_of_two(static_cast<int>(n));
        page.l += static_cast<std::int32_t>(rne(p * 65536.0F));
        const CachedVector v = value(j);
        const float unit = (v.scale * to_unit) * to_unit_rest;                // in [0, 1)
        const auto w = static_cast<std::int32_t>(rne((p * unit) * 2048.0F));  // ATT-7
        for (std::size_t i = 0; i < q.size(); ++i)
            page.a[i] += w * v.q[i];  // ATT-8
    }
    return true;
}

/// Joins a page into a chunk's state (ATT-9).
void join_page(const Page& page, State& state) {
    if (state.empty) {
        state.empty = false;
        state.m = page.m;
        state.l = static_cast<float>(page.l);
        const float unit = power_of_two(page.e - 11);
        state.o.resize(page.a.size());
        for (std::size_t i = 0; i < page.a.size(); ++i) {
            state.o[i] = static_cast<float>(page.a[i]) * unit;
        }
        return;
    }
    const int m = std::max(state.m, page.m);
    const float s = join_factor(state.m, m);
    const float u = join_factor(page.m, m);
    const float unit = u * power_of_two(page.e - 11);
    state.m = m;
    state.l = state.l * s + static_cast<float>(page.l) * u;
    for (std::size_t i = 0; i < state.o.size(); ++i) {
        state.o[i] = fma(static_cast<float>(page.a[i]), unit, state.o[i] * s);
    }
}

/// Joins a chunk into the result (ATT-10).
void join_chunk(const State& chunk, State& state) {
    if (chunk.empty) return;
    if (state.empty) {
        state = chunk;
        return;
    }
    const int m = std::max(state.m, chunk.m);
    const float s = join_factor(state.m, m);
    const float u = join_factor(chunk.m, m);
    state.m = m;
    state.l = state.l * s + chunk.l * u;
    for (std::size_t i = 0; i < state.o.size(); ++i) {
        state.o[i] = fma(chunk.o[i], u, state.o[i] * s);
    }
}

}  // namespace

Visible visible_keys(std::int64_t position, int sliding_window) noexcept {  // ATT-1
    ETALON_ASSERT(position >= 0 && sliding_window >= 0);
    if (sliding_window == 0) return {0, position};
    return {std::max<std::int64_t>(0, position - sliding_window + 1), position};
}

float attention_constant(int head_dim) noexcept {  // ATT-3
    const int block = head_rotation_for(head_dim).block;
    return (kLog2E / std::sqrt(static_cast<float>(head_dim))) / static_cast<float>(block);
}

bool attend(std::span<const std::int8_t> q, float scale_q, const CacheReader& key,
            const CacheReader& value, Visible visible, std::span<float> o) {
    ETALON_ASSERT(q.size() == o.size());
    ETALON_ASSERT(visible.first >= 0 && visible.first <= visible.last);
    State total;
    State chunk;
    for (std::int64_t first = visible.first; first <= visible.last;) {  // ATT-2
        const std::int64_t page_last = first / kPageTokens * kPageTokens + kPageTokens - 1;
        const Visible range{first, std::min(page_last, visible.last)};
        Page page;
        if (!page_result(q, scale_q, key, value, range, page)) {
            std::fill(o.begin(), o.end(), 0.0F);
            return false;
        }
        join_page(page, chunk);
        first = range.last + 1;
        if (first % kChunkTokens == 0 || first > visible.last) {
            join_chunk(chunk, total);
            chunk = State{};
        }
    }
    const float r = (1.0F / total.l) * 65536.0F;  // ATT-11
    for (std::size_t i = 0; i < o.size(); ++i)
        o[i] = total.o[i] * r;
    return true;
}

}  // namespace etalon::exact
