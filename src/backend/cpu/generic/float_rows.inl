// SPDX-License-Identifier: Apache-2.0
// Operations on one token's row of floats: norm, rotation, quantisation, SwiGLU, RoPE (spec NRM,
// ROT, QNT, SWI, RPE). Included inside the namespace of an instruction set, after its vector.inl
// and lanes.inl.

inline Floats rne(Floats v) {
    const Floats magic = broadcast(0x1.8p23F);
    return sub(add(v, magic), magic);
}

/// MTH-1, in the operations of exact::exp2.
inline Floats exp2(Floats x) {
    const Floats n = rne(x);
    const Floats f = sub(x, n);
    Floats p = broadcast(0x1.5bba14p-10F);
    p = fused(p, f, broadcast(0x1.3cea88p-7F));
    p = fused(p, f, broadcast(0x1.c6b752p-5F));
    p = fused(p, f, broadcast(0x1.ebf9bcp-3F));
    p = fused(p, f, broadcast(0x1.62e42ap-1F));
    p = fused(p, f, broadcast(1.0F));
    return mul(p, power_of_two(nearest(n)));
}

/// z = w * h beside the sum of squares of h. A few lanes at a time stay in registers; each lane
/// adds its elements in ascending order, as SUM-1 says. Past the end zeros are added, which changes
/// no lane.
inline float norm(const float* h, const float* w, std::size_t k, float eps, float* z) {
    constexpr std::size_t kGroup = kSumVectors * kWidth;
    alignas(64) float lanes[exact::kLanes];
    for (std::size_t group = 0; group < exact::kLanes; group += kGroup) {
        Floats sums[kSumVectors];
        for (Floats& sum : sums)
            sum = broadcast(0.0F);
        for (std::size_t begin = group; begin < k; begin += exact::kLanes) {
            if (begin + kGroup <= k) {
                for (std::size_t j = 0; j < kSumVectors; ++j) {
                    const Floats v = load(h + begin + j * kWidth);
                    sums[j] = fused(v, v, sums[j]);
                    store(z + begin + j * kWidth, mul(load(w + begin + j * kWidth), v));  // NRM-2
                }
                continue;
            }
            for (std::size_t j = 0; j < kSumVectors; ++j) {
                const std::size_t i = begin + j * kWidth;
                if (i >= k) break;
                const std::size_t n = k - i < kWidth ? k - i : kWidth;
                const Floats v = load_n(h + i, n);
                sums[j] = fused(v, v, sums[j]);
                store_n(z + i, mul(load_n(w + i, n), v), n);
            }
        }
        for (std::size_t j = 0; j < kSumVectors; ++j)
            store(lanes + group + j * kWidth, sums[j]);
    }
    const float mean = sum_tree(lanes) / static_cast<float>(k);  // NRM-1
    return 1.0F / std::sqrt(mean + eps);
}

/// Butterfly over each block; k is a multiple of the block, x of k floats has room for padded(k).
/// Strides above a vector go two at a time: half the loads and stores.
inline void butterfly(std::size_t block, std::size_t k, float* x) {
    if (block > 1 && kWidth > 1) {
        for (std::size_t i = 0; i < k; i += kWidth)
            store(x + i, butterfly_lanes(load(x + i), block));
    }
    std::size_t stride = kWidth;
    for (; 4 * stride <= block; stride *= 4) {
        for (std::size_t begin = 0; begin < k; begin += 4 * stride) {
            for (std::size_t i = begin; i < begin + stride; i += kWidth) {
                const Floats a = load(x + i);
                const Floats b = load(x + i + stride);
                const Floats c = load(x + i + 2 * stride);
                const Floats d = load(x + i + 3 * stride);
                const Floats a1 = add(a, b);
                const Floats b1 = sub(a, b);
                const Floats c1 = add(c, d);
                const Floats d1 = sub(c, d);
                store(x + i, add(a1, c1));
                store(x + i + stride, add(b1, d1));
                store(x + i + 2 * stride, sub(a1, c1));
                store(x + i + 3 * stride, sub(b1, d1));
            }
        }
    }
    if (2 * stride > block) return;
    for (std::size_t begin = 0; begin < k; begin += 2 * stride) {
        for (std::size_t i = begin; i < begin + stride; i += kWidth) {
            const Floats a = load(x + i);
            const Floats b = load(x + i + stride);
            store(x + i, add(a, b));
            store(x + i + stride, sub(a, b));
        }
    }
}

inline void rotate(const exact::Rotation& rotation, float* x, float* scratch) {
    const auto k = static_cast<std::size_t>(rotation.k);
    const auto block = static_cast<std::size_t>(rotation.block);
    butterfly(block, k, x);
    if (!rotation.dct) return;
    const auto m = static_cast<std::size_t>(rotation.m);
    const float* table = exact::dct_table(rotation.m).data();
    std::memcpy(scratch, x, k * sizeof(float));
    constexpr std::size_t kAtOnce = 4;     // blocks are at least 64 long (ROT-2)
    for (std::size_t i = 0; i < m; ++i) {  // ROT-4
        for (std::size_t p = 0; p < block; p += kAtOnce * kWidth) {
            Floats sums[kAtOnce];
            for (Floats& sum : sums)
                sum = broadcast(0.0F);
            for (std::size_t j = 0; j < m; ++j) {
                const Floats c = broadcast(table[i * m + j]);
                const float* from = scratch + j * block + p;
                for (std::size_t v = 0; v < kAtOnce; ++v) {
                    sums[v] = fused(c, load(from + v * kWidth), sums[v]);
                }
            }
            float* to = x + i * block + p;
            for (std::size_t v = 0; v < kAtOnce; ++v)
                store(to + v * kWidth, sums[v]);
        }
    }
}

inline std::uint32_t amax_bits(const float* x, std::size_t k) {  // QNT-1
    Ints largest = zero_ints();
    for_vectors(k, [&](std::size_t i, std::size_t n) {
        largest = larger(largest, magnitude_bits(load_n(x + i, n)));
    });
    return static_cast<std::uint32_t>(largest_lane(largest));
}

inline exact::QuantizeResult quantize(const float* x, std::size_t k, std::int8_t* q) {
    const std::uint32_t bits = amax_bits(x, k);
    const auto amax = std::bit_cast<float>(bits);
    if (bits >= exact::kInfinityBits || amax < exact::kAmaxMin) {  // QNT-4, ERR-1
        std::memset(q, 0, k);
        return {0.0F, bits < exact::kInfinityBits};
    }
    const Floats inverse = broadcast(127.0F / amax);  // QNT-2
    for_vectors(k, [&](std::size_t i, std::size_t n) {
        const Ints v = nearest(mul(load_n(x + i, n), inverse));
        if (n == kWidth) {
            store_i8(q + i, v);
        } else {
            store_i8_partial(q + i, v, n);
        }
    });
    return {amax / 127.0F, true};
}

/// Sums of 16 successive q; 16 * 127 fits int16.
inline void sum_halves(const std::int8_t* q, std::size_t k, std::int16_t* half_sums) {
    for (std::size_t i = 0; i < k / 16; ++i) {
        int sum = 0;
        for (std::size_t j = 0; j < 16; ++j)
            sum += q[16 * i + j];
        half_sums[i] = static_cast<std::int16_t>(sum);
    }
}

inline bool quantize_blocks(const float* x, std::size_t k, std::int8_t* q, float* scales,
                            std::int16_t* half_sums) {  // QNT-3
    std::uint32_t largest = 0;
    for (std::size_t b = 0; b < k / exact::kBlock; ++b) {
        const float* from = x + b * exact::kBlock;
        Ints block_largest = zero_ints();
        for (std::size_t i = 0; i < exact::kBlock; i += kWidth) {
            block_largest = larger(block_largest, magnitude_bits(load(from + i)));
        }
        const auto bits = static_cast<std::uint32_t>(largest_lane(block_largest));
        largest = bits > largest ? bits : largest;
        const auto amax = std::bit_cast<float>(bits);
        const bool zero = amax < exact::kAmaxMin;  // QNT-4
        const Floats inverse = broadcast(zero ? 0.0F : 127.0F / amax);
        scales[b] = zero ? 0.0F : amax / 127.0F;
        if (bits >= exact::kInfinityBits) break;
        for (std::size_t i = 0; i < exact::kBlock; i += kWidth) {
            store_i8(q + b * exact::kBlock + i, nearest(mul(load(from + i), inverse)));
        }
    }
    if (largest >= exact::kInfinityBits) {  // ERR-1
        std::memset(q, 0, k);
        std::memset(scales, 0, k / exact::kBlock * sizeof(float));
        std::memset(half_sums, 0, k / 16 * sizeof(std::int16_t));
        return false;
    }
    sum_halves(q, k, half_sums);
    return true;
}

inline void scale(const float* x, std::size_t k, float factor, float* out) {
    const Floats by = broadcast(factor);
    for_vectors(
        k, [&](std::size_t i, std::size_t n) { store_n(out + i, mul(load_n(x + i, n), by), n); });
}

inline void swiglu(const float* gate, const float* up, std::size_t k, float* out) {
    for_vectors(k, [&](std::size_t i, std::size_t n) {
        const Floats g = load_n(gate + i, n);
        Floats x = mul(negate(g), broadcast(exact::kLog2E));
        x = larger(x, broadcast(-126.0F));  // SWI-1: a NaN becomes the bound
        x = smaller(x, broadcast(126.0F));
        const Floats sigmoid = div(g, add(broadcast(1.0F), exp2(x)));
        store_n(out + i, mul(sigmoid, load_n(up + i, n)), n);
    });
}

inline void join_experts(const float* const* y, const float* weights, std::size_t n, std::size_t k,
                         float* h) {
    for_vectors(k, [&](std::size_t i, std::size_t n_lanes) {
        Floats acc = broadcast(0.0F);
        for (std::size_t e = 0; e < n; ++e)  // MOE-3
            acc = fused(broadcast(weights[e]), load_n(y[e] + i, n_lanes), acc);
        store_n(h + i, add(load_n(h + i, n_lanes), acc), n_lanes);  // RES-1
    });
}

inline void rope_interleaved(const RopeHead& rope, const float* x, float* out) {  // RPE-6
    const auto n_dims = 2 * static_cast<std::size_t>(rope.n_pairs);
    if constexpr (kWidth == 1) {
        for (std::size_t i = 0; i < n_dims; i += 2) {
            out[i] = std::fma(x[i], rope.first[i], x[i + 1] * rope.second[i]);
            out[i + 1] = std::fma(x[i], rope.first[i + 1], x[i + 1] * rope.second[i + 1]);
        }
    } else {
        for_vectors(n_dims, [&](std::size_t i, std::size_t n) {
            const Floats v = load_n(x + i, n);
            const Floats x0 = duplicate_even(v);
            const Floats x1 = duplicate_odd(v);
            const Floats rest = mul(x1, load_n(rope.second + i, n));
            store_n(out + i, fused(x0, load_n(rope.first + i, n), rest), n);
        });
    }
}

inline void rope_halves(const RopeHead& rope, const float* x, float* out) {  // RPE-6
    const auto n_pairs = static_cast<std::size_t>(rope.n_pairs);
    for_vectors(n_pairs, [&](std::size_t i, std::size_t n) {
        const Floats x0 = load_n(x + i, n);
        const Floats x1 = load_n(x + n_pairs + i, n);
        const Floats c = load_n(rope.first + i, n);
        const Floats s = load_n(rope.second + i, n);
        store_n(out + i, fused(x0, c, negate(mul(x1, s))), n);
        store_n(out + n_pairs + i, fused(x0, s, mul(x1, c)), n);
    });
}

inline void rope_head(const RopeHead& rope, const float* x, float* out) {
    const auto head_dim = static_cast<std::size_t>(rope.head_dim);
    const auto n_dims = 2 * static_cast<std::size_t>(rope.n_pairs);
    std::memcpy(out + n_dims, x + n_dims, (head_dim - n_dims) * sizeof(float));
    for (std::size_t i = head_dim; i < padded(head_dim); ++i)
        out[i] = 0.0F;
    if (rope.interleaved) {
        rope_interleaved(rope, x, out);
    } else {
        rope_halves(rope, x, out);
    }
    butterfly(static_cast<std::size_t>(rope.block), head_dim, out);  // ROT-6
}

inline void embed(const std::int8_t* q, float d, std::size_t k, float* out) {  // EMB-1
    const Floats by = broadcast(d);
    std::size_t i = 0;
    for (; i + kWidth <= k; i += kWidth)
        store(out + i, mul(to_floats(load_i8(q + i)), by));
    for (; i < k; ++i)
        out[i] = static_cast<float>(q[i]) * d;
}

/// Products of two numbers below 2^32; sums modulo 2^64, so the order is free (CHK-1).
inline std::uint64_t checksum(const float* logits, std::size_t n) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
        const auto odd = 2 * static_cast<std::uint32_t>(i) + 1;
        sum += std::uint64_t{std::bit_cast<std::uint32_t>(logits[i])} * odd;
    }
    return sum;
}
