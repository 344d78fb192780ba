// SPDX-License-Identifier: Apache-2.0
// The table of an instruction set's kernels. Included inside its namespace, last.

constexpr Kernels make_table(const char* name) {
    return {name,         kKeyFlip,   norm,
            rotate,       quantize,   quantize_blocks,
            scale,        swiglu,     join_experts,
            rope_head,    embed,      checksum,
            amax_bits,    largest,    probability_units,
            attend_chunk, join_chunk, finish_row};
}
