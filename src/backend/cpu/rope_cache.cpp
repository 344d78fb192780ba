// SPDX-License-Identifier: Apache-2.0
// Cosines and sines of a batch's positions.
#include "backend/cpu/rope_cache.h"

#include <algorithm>

namespace etalon::backend::cpu {

void RopeCache::prepare(const RopeTables& rope, std::span<const std::int32_t> positions,
                        ThreadPool& pool) {
    const bool same = rope.pairing == rope_.pairing && rope.magnitude == rope_.magnitude &&
                      rope.turns == rope_.turns && std::ranges::equal(positions, positions_);
    if (same) return;
    rope_ = rope;
    positions_.assign(positions.begin(), positions.end());
    const std::size_t n_pairs = rope.turns.size();
    const bool interleaved = rope.pairing == exact::RopePairing::interleaved;
    row_floats_ = interleaved ? 2 * n_pairs : n_pairs;
    first_.resize(positions.size() * row_floats_);
    second_.resize(positions.size() * row_floats_);
    pool.run(static_cast<int>(positions.size()), [&](int t, int) {
        const std::size_t begin = static_cast<std::size_t>(t) * row_floats_;
        const std::span<float> first(first_.data() + begin, row_floats_);
        const std::span<float> second(second_.data() + begin, row_floats_);
        // Cosines and sines first lie in the front half of each row; the interleaved form is
        // spread from the last pair down, so that no value is lost.
        exact::rope_table(rope.turns, rope.magnitude, positions[static_cast<std::size_t>(t)],
                          first.first(n_pairs), second.first(n_pairs));
        if (!interleaved) return;
        for (std::size_t j = n_pairs; j-- > 0;) {
            const float c = first[j];
            const float s = second[j];
            first[2 * j] = c;
            first[2 * j + 1] = s;
            second[2 * j] = -s;
            second[2 * j + 1] = c;
        }
    });
}

RopeHead RopeCache::head(int t, int head_dim) const noexcept {
    RopeHead head;
    head.head_dim = head_dim;
    head.n_pairs = static_cast<int>(rope_.turns.size());
    head.block = exact::head_rotation_for(head_dim).block;
    head.interleaved = rope_.pairing == exact::RopePairing::interleaved;
    head.first = first_.data() + static_cast<std::size_t>(t) * row_floats_;
    head.second = second_.data() + static_cast<std::size_t>(t) * row_floats_;
    return head;
}

}  // namespace etalon::backend::cpu
