// SPDX-License-Identifier: Apache-2.0
// What the sampler asks of a whole row of logits (spec SMP-4, SMP-5). Included inside the namespace
// of an instruction set, after float_rows.inl.

/// n >= 1 values that are not NaN.
inline float largest(const float* x, std::size_t n) {
    Floats most = broadcast(x[0]);
    std::size_t i = 0;
    for (; i + kWidth <= n; i += kWidth)
        most = larger(load(x + i), most);
    float result = largest_lane(most);
    for (; i < n; ++i)
        result = x[i] > result ? x[i] : result;
    return result;
}

/// P of SMP-5. Below x = -126 it is 0 as it is at -126, so the argument is clamped.
inline void probability_units(const float* logits, std::size_t n, float largest_logit,
                              float inverse_temperature, std::uint32_t* p) {
    const Floats top = broadcast(largest_logit);
    const Floats inverse = broadcast(inverse_temperature);
    const Floats log2e = broadcast(exact::kLog2E);
    const Floats least = broadcast(-126.0F);
    const Floats unit = broadcast(0x1p31F);
    for_vectors(n, [&](std::size_t i, std::size_t n_lanes) {
        const Floats x = mul(mul(sub(load_n(logits + i, n_lanes), top), inverse), log2e);
        // A lane past the end holds a zero, which may lie above the largest logit: it is clamped
        // at 0 so that no exponent leaves its range.
        const Floats clamped = smaller(larger(x, least), broadcast(0.0F));
        const Floats scaled = mul(exp2(clamped), unit);
        if (n_lanes == kWidth) return store_unsigned(p + i, scaled);
        std::uint32_t lanes[kWidth];
        store_unsigned(lanes, scaled);
        std::memcpy(p + i, lanes, n_lanes * sizeof(lanes[0]));
    });
}
