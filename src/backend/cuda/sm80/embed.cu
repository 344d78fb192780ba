// SPDX-License-Identifier: Apache-2.0
// Rows of the embedding (spec EMB-1, FMT).
#include <cuda_runtime.h>

#include "backend/cpu/linear_layout.h"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/convert.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

using exact::Format;

constexpr int kThreads = 256;
constexpr int kFewTokens = 64;
constexpr int kWord = 4;  // bytes of E8 that a thread takes

/// A record of one row (cpu/linear_layout.h with width 1), as the kernel reads it.
struct RecordShape {
    cpu::BlockedForm form;
    cpu::RecordLayout layout;
};

__device__ int byte_at(const std::byte* p) {
    return static_cast<int>(static_cast<unsigned>(*p));
}

__device__ std::uint16_t half_at(const std::byte* p) {
    return static_cast<std::uint16_t>(byte_at(p) | byte_at(p + 1) << 8);
}

/// Code `i` of a block of 32 (store_codes in cpu/linear_layout.cpp).
__device__ int code_at(const cpu::BlockedForm& form, const std::byte* codes, int i) {
    constexpr std::int8_t kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                        1,    13,   25,  38,  53,  69,  89,  113};  // FMT-14
    const int quad = i / 4;
    if (form.code == cpu::Code::nibble || form.code == cpu::Code::table) {
        const int pair = byte_at(codes + quad / 2 * 4 + i % 4);
        const int code = quad % 2 == 0 ? pair & 15 : pair >> 4;
        return form.code == cpu::Code::table ? kTable[code] : code - form.offset;
    }
    const int code = byte_at(codes + i);
    return form.code == cpu::Code::eight ? static_cast<std::int8_t>(code) : code - form.offset;
}

/// Element i of a blocked row: (d sub_scale) q + m sub_min, each operation rounded (FMT).
__device__ float blocked_element(const RecordShape& shape, const std::byte* row, int i) {
    const cpu::RecordLayout& layout = shape.layout;
    const auto n_blocks = static_cast<int>(layout.n_blocks);
    const int b = i / exact::kBlock;
    const std::byte* record = row + b / n_blocks * layout.record_bytes;
    const std::byte* block = record + layout.blocks + b % n_blocks * layout.block_bytes;
    const int half = shape.form.scales == cpu::Scales::halves ? i % exact::kBlock / 16 : 0;
    int sub_scale = 1;
    int sub_min = 1;
    if (shape.form.scales != cpu::Scales::none) {
        sub_scale = static_cast<std::int8_t>(byte_at(block + half));
        if (shape.form.has_minimum) sub_min = byte_at(block + layout.sub_mins + half);
    }
    const int q = code_at(shape.form, block + layout.codes, i % exact::kBlock);
    const float d = float_from_f16(half_at(record));
    const float value = mul(mul(d, static_cast<float>(sub_scale)), static_cast<float>(q));
    if (!shape.form.has_minimum) return value;
    const float m = float_from_f16(half_at(record + layout.m));
    return add(value, mul(m, static_cast<float>(sub_min)));
}

__device__ float element(const EmbeddingView& embedding, const RecordShape& shape,
                         const std::byte* row, std::int32_t id, int i) {
    switch (embedding.format) {
        case Format::e8:
            return mul(static_cast<float>(static_cast<std::int8_t>(byte_at(row + i))),
                       embedding.d[id]);  // EMB-1
        case Format::f32:
            return reinterpret_cast<const float*>(row)[i];
        case Format::f16:
            return float_from_f16(half_at(row + 2 * i));
        case Format::bf16:
            return float_from_bf16(half_at(row + 2 * i));
        default:
            return blocked_element(shape, row, i);
    }
}

/// h = row of the token (EMB-1).
///   in:  rows of the embedding, any alignment of a row but f32's
///   out: h binary32 [T, dim]
///   tile: one token a block, or one block a 256 elements where tokens are few
///   floor: a row read and 4 dim bytes written a token, of the read speed
///   supported: every format but E4
__global__ void __launch_bounds__(kThreads)
    embed_sm80(BatchView batch, EmbeddingView embedding, RecordShape shape, float* h) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const std::int32_t id = batch.tokens[blockIdx.x];
    const std::byte* row = embedding.rows + static_cast<std::size_t>(id) * embedding.row_bytes;
    for (int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
         i < embedding.dim; i += static_cast<int>(gridDim.y) * kThreads) {
        h[std::size_t{blockIdx.x} * embedding.dim + i] = element(embedding, shape, row, id, i);
    }
}

/// The same for E8 (EMB-1).
///   in:  rows of int8, aligned to 4; d binary32
///   out: h binary32 [T, dim]
///   tile: 4 elements a thread, 1024 a block
///   floor: 5 dim bytes a token, of the read speed
///   supported: dim a multiple of 4
__global__ void __launch_bounds__(kThreads) embed_e8_sm80(BatchView batch, const std::int8_t* rows,
                                                          const float* d, int n_words, float4* h) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const int i = static_cast<int>(blockIdx.y) * kThreads + static_cast<int>(threadIdx.x);
    if (i >= n_words) return;
    const auto id = static_cast<std::size_t>(batch.tokens[blockIdx.x]);
    const std::size_t width = static_cast<std::size_t>(n_words);
    const char4 q = reinterpret_cast<const char4*>(rows)[id * width + i];
    const float scale = d[id];
    h[blockIdx.x * width + i] = {
        mul(static_cast<float>(q.x), scale), mul(static_cast<float>(q.y), scale),
        mul(static_cast<float>(q.z), scale), mul(static_cast<float>(q.w), scale)};
}

unsigned blocks_for(int n) {
    return static_cast<unsigned>((n + kThreads - 1) / kThreads);
}

}  // namespace

void launch_embed(const BatchView& batch, const EmbeddingView& embedding, float* h, Stream stream) {
    // The first kernel of a pass: what is ahead of it is a copy, or the start of a recording.
    const auto n_tokens = static_cast<unsigned>(batch.n_tokens);
    const bool whole_words = embedding.dim % kWord == 0 &&
                             embedding.row_bytes == static_cast<std::size_t>(embedding.dim);
    if (embedding.format == Format::e8 && whole_words) {
        const int n_words = embedding.dim / kWord;
        embed_e8_sm80<<<dim3(n_tokens, blocks_for(n_words)), kThreads, 0, stream>>>(
            batch, reinterpret_cast<const std::int8_t*>(embedding.rows), embedding.d, n_words,
            reinterpret_cast<float4*>(h));
        return check_launch("embed");
    }
    RecordShape shape{};
    if (exact::format_info(embedding.format).kind == exact::FormatKind::blocked) {
        shape.form = cpu::blocked_form(embedding.format);
        shape.layout = cpu::record_layout(shape.form, 1);
    }
    const dim3 grid(n_tokens, batch.n_tokens <= kFewTokens ? blocks_for(embedding.dim) : 1);
    embed_sm80<<<grid, kThreads, 0, stream>>>(batch, embedding, shape, h);
    check_launch("embed");
}

}  // namespace etalon::backend::cuda
