// SPDX-License-Identifier: Apache-2.0
// Walks over rows of floats, and the tree of SUM-1, over the vectors of one instruction set.
// Included inside its namespace, after its vector.inl.

/// Lanes of a sum that are kept in registers at a time.
inline constexpr std::size_t kSumVectors = 8;

/// Calls body(offset, n) for whole vectors (n = kWidth) and for the rest.
template <typename Body>
inline void for_vectors(std::size_t k, const Body& body) {
    std::size_t i = 0;
    for (; i + kWidth <= k; i += kWidth)
        body(i, kWidth);
    if (i < k) body(i, k - i);
}
inline Floats load_n(const float* p, std::size_t n) {
    return n == kWidth ? load(p) : load_partial(p, n);
}
inline void store_n(float* p, Floats v, std::size_t n) {
    if (n == kWidth) {
        store(p, v);
    } else {
        store_partial(p, v, n);
    }
}

/// The halving tree over the 256 lanes (SUM-1).
inline float sum_tree(float* lanes) {
    for (std::size_t half = exact::kLanes / 2; half >= 1; half /= 2) {
        if (half >= kWidth) {
            for (std::size_t l = 0; l < half; l += kWidth) {
                store(lanes + l, add(load(lanes + l), load(lanes + l + half)));
            }
        } else {
            for (std::size_t l = 0; l < half; ++l)
                lanes[l] += lanes[l + half];
        }
    }
    return lanes[0];
}
