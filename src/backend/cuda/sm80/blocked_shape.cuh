// SPDX-License-Identifier: Apache-2.0
// Blocked GGUF formats as the linear kernels see them (spec LIN-4; cpu/linear_layout.h).
#pragma once

#include <cstdint>

#include "backend/cpu/linear_layout.h"
#include "backend/cuda/sm80/blocked_formats.h"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

using cpu::Code;
using exact::Format;

inline constexpr int kBlock = exact::kBlock;

/// A format as constants of the compiler; bytes of a record (cpu/linear_layout.h).
template <Format kFormat>
struct BlockedShape {
    static constexpr cpu::BlockedForm kForm = cpu::blocked_form(kFormat);
    static constexpr cpu::RecordLayout kLayout = cpu::record_layout(kForm, kBlockedWidth);
    static constexpr bool kFourBits = kForm.code == Code::nibble || kForm.code == Code::table;
    static constexpr bool kShared = kForm.scales == cpu::Scales::shared;
    static constexpr bool kHalves = kForm.scales == cpu::Scales::halves;
    static constexpr bool kMinimum = kForm.has_minimum;
    static constexpr int kOffset = kForm.offset;
    static constexpr bool kNeedsSums = kMinimum || kOffset != 0;
    static constexpr int kRecordBlocks = static_cast<int>(kLayout.n_blocks);
    static constexpr int kRecordBytes = static_cast<int>(kLayout.record_bytes);
    static constexpr int kBlockBytes = static_cast<int>(kLayout.block_bytes);
    static constexpr int kHeadBytes = static_cast<int>(kLayout.blocks);  // d and m
    static constexpr int kM = static_cast<int>(kLayout.m);
    static constexpr int kSubMins = static_cast<int>(kLayout.sub_mins);
    static constexpr int kCodes = static_cast<int>(kLayout.codes);
    static_assert(kRecordBytes % 16 == 0 && kBlockBytes % 16 == 0 && kHeadBytes % 16 == 0 &&
                      kCodes % 16 == 0,
                  "copies of 16 bytes");
};

/// Four values of the table of IQ4 by the low 4 bits of each byte (FMT-14).
__device__ inline std::uint32_t table_values(std::uint32_t codes) {
    constexpr std::uint32_t kTable[4] = {0xBFAD9881U, 0xF6EADDCFU, 0x26190D01U, 0x71594535U};
    std::uint32_t selector = codes & 0x07070707U;
    selector |= selector >> 4;
    selector = __byte_perm(selector, 0, 0x4420);
    const std::uint32_t negative = __byte_perm(kTable[0], kTable[1], selector);
    const std::uint32_t positive = __byte_perm(kTable[2], kTable[3], selector);
    const std::uint32_t high = ((codes & 0x08080808U) >> 3) * 0xFFU;
    return (negative & ~high) | (positive & high);
}

}  // namespace etalon::backend::cuda
