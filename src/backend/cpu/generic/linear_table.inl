// SPDX-License-Identifier: Apache-2.0
// The table of linear kernels of one instruction set, over linear.inl and e4.inl.

inline constexpr LinearKernels kLinear = {
    .width = kWidth,
    .eight_offset = kEightOffset,
    .e8_tiles = kE8Tiles,
    .e8_quad_bytes = kE8QuadBytes,
    .e8_groups = kE8Groups,
    .e4_groups = kE4Groups,
    .blocked_groups = kBlockedGroups,
    .e4_tokens_max = kE4TokensMax,
    .e8 = e8,
    .e4 = e4<0>,
    .expand_e4 = expand_e4,
    .blocked = blocked_kernel,
    .dot_floats = dot_floats,
};
