// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CUDA backend: weights to the card, and the choice of a kernel (spec LIN,
// FMT).
#include <algorithm>
#include <array>
#include <cuda_runtime_api.h>

#include "backend/cpu/linear_layout.h"
#include "backend/cuda/common/error.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"
#include "exact/linear.h"

namespace etalon::backend::cuda {

namespace {

using exact::Format;
using exact::FormatKind;

/// Fewer tokens are a stream of weights without a matrix.
constexpr int kSm90TokensMin = 3;
/// Fewer tokens of E4 take what linear_e4_stream.cu has in its registers.
constexpr int kE4FewTokensMin = 9;

/// Of the card, for stored rows of blocked weights.
constexpr std::size_t kRoomBytes = std::size_t{64} << 20;

std::size_t sz(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

FormatKind kind_of(Format format) {
    return exact::format_info(format).kind;
}

/// Rows of the tensor in records of tiles of `width` rows, to the card at `to`.
void load_records(const weights::Tensor& tensor, std::size_t width, std::byte* to, Loader& loader) {
    const std::size_t k = sz(tensor.n_cols);
    const std::size_t n_rows = sz(tensor.n_rows);
    const auto row_bytes = exact::row_bytes(tensor.format, k);
    ETALON_ASSERT(row_bytes.has_value() && tensor.data.size() == n_rows * *row_bytes);
    const std::size_t at_once = std::max<std::size_t>(1, kRoomBytes / *row_bytes / width) * width;
    for (std::size_t first = 0; first < n_rows; first += at_once) {
        const std::size_t n = std::min(at_once, n_rows - first);
        const auto stored = tensor.data.subspan(first * *row_bytes, n * *row_bytes);
        std::byte* rows = loader.scratch(stored.size());
        loader.copy(rows, stored);
        launch_blocked_layout(tensor.format, rows, *row_bytes, static_cast<int>(width),
                              static_cast<int>(n), static_cast<int>(k),
                              to + cpu::repacked_bytes(tensor.format, width, first, k),
                              loader.stream());
    }
}

/// Bytes of the groups of a tensor in E4.
std::size_t e4_bytes(std::int64_t n_rows, std::int64_t n_cols) {
    const std::int64_t n_groups = (n_cols + kE4Columns - 1) / kE4Columns;
    return sz((n_rows + kE4TileRows - 1) / kE4TileRows * n_groups) * kE4GroupBytes;
}

/// E8 tensors that follow each other in the stack: their rows stand together.
LinearPart load_e8(std::span<const weights::Tensor* const> tensors, Loader& loader) {
    LinearPart part;
    part.format = Format::e8;
    const auto n_cols = static_cast<int>(tensors.front()->n_cols);
    const int stride = round_up(n_cols, kRowAlignment);
    ETALON_ASSERT(n_cols % 4 == 0 && sz(n_cols) <= exact::kLinearKMax);
    for (const weights::Tensor* tensor : tensors) {
        const std::size_t n_tiles = (sz(tensor->n_rows) + cpu::kE8TileRows - 1) / cpu::kE8TileRows;
        ETALON_ASSERT(tensor->data.size() == n_tiles * cpu::kE8TileRows * sz(n_cols));
        ETALON_ASSERT(tensor->scales.size() == sz(tensor->n_rows) * sizeof(float));
        part.n_rows += static_cast<int>(tensor->n_rows);
    }
    part.data = DeviceArray<std::byte>(sz(part.n_rows) * sz(stride));
    part.d = DeviceArray<float>(sz(part.n_rows));
    std::size_t row = 0;
    for (const weights::Tensor* tensor : tensors) {
        std::byte* tiles = loader.scratch(tensor->data.size());
        loader.copy(tiles, tensor->data);
        launch_e8_layout(tiles, static_cast<int>(tensor->n_rows), n_cols,
                         reinterpret_cast<std::int8_t*>(part.data.data()) + row * sz(stride),
                         stride, loader.stream());
        loader.copy(part.d.data() + row, tensor->scales);
        row += sz(tensor->n_rows);
    }
    return part;
}

/// Bit s: the values of row s of the table of E4 ascend with the code. All of them ascend or
/// descend (FMT-17), which renumbering relies on (e4.cuh).
std::uint32_t ascending_rows() {
    std::uint32_t bits = 0;
    for (unsigned s = 0; s < exact::kE4Table.size(); ++s)
        bits |= (exact::kE4Table[s].front() < exact::kE4Table[s].back() ? 1U : 0U) << s;
    return bits;
}

/// E4 tensors that follow each other in the stack: their tiles of 16 rows stand together. All but
/// the last one are whole tiles.
LinearPart load_e4(std::span<const weights::Tensor* const> tensors, Loader& loader,
                   Device& device) {
    LinearPart part;
    part.format = Format::e4;
    const auto n_cols = static_cast<int>(tensors.front()->n_cols);
    ETALON_ASSERT(n_cols % exact::kBlock == 0 && sz(n_cols) <= exact::kLinearKMax);
    std::size_t bytes = 0;
    for (const weights::Tensor* tensor : tensors) {
        const std::size_t n_rows = sz(round_up(static_cast<int>(tensor->n_rows), kE4TileRows));
        ETALON_ASSERT(part.n_rows % kE4TileRows == 0);
        ETALON_ASSERT(tensor->data.size() == n_rows * sz(n_cols) / 2);
        ETALON_ASSERT(tensor->indices.size() == n_rows * sz(n_cols) / exact::kBlock);
        ETALON_ASSERT(tensor->scales.size() == sz(tensor->n_rows) * sizeof(float));
        part.n_rows += static_cast<int>(tensor->n_rows);
        bytes += e4_bytes(tensor->n_rows, n_cols);
    }
    part.data = DeviceArray<std::byte>(bytes);
    part.d = DeviceArray<float>(sz(part.n_rows));
    std::size_t row = 0;
    std::byte* to = part.data.data();
    for (const weights::Tensor* tensor : tensors) {
        std::byte* lines = loader.scratch(tensor->data.size() + tensor->indices.size());
        loader.copy(lines, tensor->data);
        loader.copy(lines + tensor->data.size(), tensor->indices);
        launch_e4_layout(lines, lines + tensor->data.size(), static_cast<int>(tensor->n_rows),
                         n_cols, ascending_rows(), to, loader.stream());
        loader.copy(part.d.data() + row, tensor->scales);
        to += e4_bytes(tensor->n_rows, n_cols);
        row += sz(tensor->n_rows);
    }
    device.reserve_e8_rows(sz(part.n_rows) * sz(round_up(n_cols, kRowAlignment)));
    return part;
}

/// Blocked tensors of a format that follow each other in the stack: their tiles of rows stand
/// together. All but the last one are whole tiles.
LinearPart load_blocked(std::span<const weights::Tensor* const> tensors, Loader& loader) {
    LinearPart part;
    part.format = tensors.front()->format;
    std::uint64_t bytes = 0;
    for (const weights::Tensor* tensor : tensors) {
        ETALON_ASSERT(part.n_rows % kBlockedWidth == 0);
        part.n_rows += static_cast<int>(tensor->n_rows);
        bytes += linear_bytes(*tensor);
    }
    part.data = DeviceArray<std::byte>(static_cast<std::size_t>(bytes));
    std::byte* to = part.data.data();
    for (const weights::Tensor* tensor : tensors) {
        load_records(*tensor, kBlockedWidth, to, loader);
        to += linear_bytes(*tensor);
    }
    return part;
}

LinearPart load_floats(const weights::Tensor& tensor, Loader& loader) {
    ETALON_ASSERT(kind_of(tensor.format) == FormatKind::floating);
    LinearPart part;
    part.format = tensor.format;
    part.n_rows = static_cast<int>(tensor.n_rows);
    part.data = DeviceArray<std::byte>(tensor.data.size());
    loader.copy(part.data.data(), tensor.data);
    return part;
}

LinearPart load_part(std::span<const weights::Tensor* const> tensors, Loader& loader,
                     Device& device) {
    const Format format = tensors.front()->format;
    if (format == Format::e8) return load_e8(tensors, loader);
    if (format == Format::e4) return load_e4(tensors, loader, device);
    if (kind_of(format) == FormatKind::blocked) return load_blocked(tensors, loader);
    ETALON_ASSERT(tensors.size() == 1);
    return load_floats(*tensors.front(), loader);
}

void run_e8(const E8View& w, const ActivationsView& x, const LinearOut& out, const Device& device) {
    if (out.group != nullptr) return launch_linear_e8(w, x, out, device.stream());
    const bool sm90 =
        device.has_sm90() && out.token_of == nullptr && out.n_tokens >= kSm90TokensMin;
    if (sm90 && pairs_are_faster(out.n_tokens, w.n_rows, w.stride)) {
        launch_linear_e8_pairs_sm90(w, x, out, device.n_multiprocessors(), device.split_sums(),
                                    device.stream());
    } else if (sm90 && out.n_tokens <= kFewTokensMax) {
        launch_linear_e8_few_sm90(w, x, out, device.n_multiprocessors(), device.stream());
    } else if (sm90) {
        launch_linear_e8_sm90(w, x, out, device.n_multiprocessors(), device.stream());
    } else if (out.n_tokens <= kDecodeTokensMax) {
        launch_linear_e8_decode(w, x, out, device.stream());
    } else if (out.n_tokens <= kStreamTokensMax) {
        launch_linear_e8_stream(w, x, out, device.stream());
    } else {
        launch_linear_e8(w, x, out, device.stream());
    }
}

E4View e4_view(const LinearPart& part, int stride) {
    return {part.data.data(), part.d.data(), part.n_rows, stride};
}

/// The part as E8: its rows of int8 are made anew, in the room of the card.
E8View expanded(const LinearPart& part, int stride, const Device& device) {
    std::int8_t* q = device.e8_rows(sz(part.n_rows) * sz(stride));
    launch_e4_rows(e4_view(part, stride), e4_table(), q, device.stream());
    return {q, part.d.data(), part.n_rows, stride, true};
}

void run_e4(const LinearPart& part, const ActivationsView& x, const LinearOut& out,
            const Device& device) {
    if (x.across) {
        return launch_linear_e4_few_sm90(e4_view(part, x.stride), e4_table(), x, out,
                                         device.n_multiprocessors(), device.stream());
    }
    if (out.n_tokens > kE4StreamTokensMax)
        return run_e8(expanded(part, x.stride, device), x, out, device);
    launch_linear_e4_stream(e4_view(part, x.stride), e4_table(), x, out, device.stream());
}

E8View e8_view(const LinearPart& part, int stride) {
    return {reinterpret_cast<const std::int8_t*>(part.data.data()), part.d.data(), part.n_rows,
            stride};
}

/// The tensors from `first` on that make up one part.
std::size_t n_together(std::span<const weights::Tensor* const> parts, std::size_t first) {
    const Format format = parts[first]->format;
    std::size_t end = first + 1;
    if (kind_of(format) == FormatKind::floating) return 1;
    const int tile_rows = format == Format::e8   ? 1
                          : format == Format::e4 ? kE4TileRows
                                                 : kBlockedWidth;
    const auto is_whole = [&](const weights::Tensor& tensor) {
        return tensor.n_rows % tile_rows == 0;
    };
    while (end < parts.size() && parts[end]->format == format && is_whole(*parts[end - 1]))
        ++end;
    return end - first;
}

}  // namespace

const E4Table& e4_table() {
    static const E4Table table = [] {
        E4Table rows{};
        for (std::size_t s = 0; s < exact::kE4Table.size(); ++s) {
            for (std::size_t i = 0; i < 8; ++i) {
                const int first = exact::kE4Table[s][2 * i];
                const int second = exact::kE4Table[s][2 * i + 1];
                const bool ascends = (ascending_rows() >> s & 1U) != 0;
                const int base = ascends ? first : second;
                const int step = ascends ? second - first : first - second;
                ETALON_ASSERT(step >= 0 && step <= 127);
                const auto at = [&](int value) {
                    return static_cast<std::uint32_t>(static_cast<std::uint8_t>(value))
                           << (8 * (i % 4));
                };
                rows.rows[s][i / 4] |= at(base);
                rows.rows[s][2 + i / 4] |= at(step);
            }
        }
        return rows;
    }();
    return table;
}

std::uint64_t linear_bytes(const weights::Tensor& tensor) {
    switch (kind_of(tensor.format)) {
        case FormatKind::blocked:
            return cpu::repacked_bytes(tensor.format, kBlockedWidth, sz(tensor.n_rows),
                                       sz(tensor.n_cols));
        case FormatKind::row_scaled:
            if (tensor.format == Format::e4)
                return e4_bytes(tensor.n_rows, tensor.n_cols) + tensor.scales.size();
            return sz(tensor.n_rows) *
                   (sz(round_up(static_cast<int>(tensor.n_cols), kRowAlignment)) + sizeof(float));
        case FormatKind::floating:
            break;
    }
    return tensor.data.size();
}

std::uint64_t linear_room_bytes(const weights::Tensor& tensor) {
    if (tensor.format != Format::e4) return 0;
    return sz(tensor.n_rows) * sz(round_up(static_cast<int>(tensor.n_cols), kRowAlignment));
}

std::unique_ptr<CudaLinear> load_linear(std::span<const weights::Tensor* const> parts,
                                        std::span<const float> bias, Loader& loader,
                                        Device& device) {
    ETALON_ASSERT(!parts.empty());
    auto w = std::make_unique<CudaLinear>();
    w->n_cols = static_cast<int>(parts.front()->n_cols);
    for (std::size_t i = 0; i < parts.size();) {
        const auto together = parts.subspan(i, n_together(parts, i));
        for (const weights::Tensor* tensor : together)
            ETALON_ASSERT(tensor->n_cols == w->n_cols && tensor->n_rows >= 1);
        LinearPart part = load_part(together, loader, device);
        part.first_row = w->n_rows;
        w->n_rows += part.n_rows;
        w->forms_needed |= form_of(part.format);
        w->parts.push_back(std::move(part));
        i += together.size();
    }
    ETALON_ASSERT(bias.empty() || bias.size() == sz(w->n_rows));
    w->bias = DeviceArray<float>(bias.size());
    loader.copy(w->bias.data(), std::as_bytes(bias));
    return w;
}

void run_linear(const CudaLinear& w, const ActivationsView& input, unsigned forms,
                const std::int32_t* token_of, int n_tokens, Store store, float* y,
                const Device& device, const std::int32_t* group) {
    ETALON_ASSERT((w.forms_needed & ~forms) == 0 && w.n_cols == input.n_cols);
    const Stream stream = device.stream();
    for (const LinearPart& part : w.parts) {
        ETALON_ASSERT(!input.across || part.format == Format::e4);
        const LinearOut out{y + part.first_row,
                            sz(w.n_rows),
                            w.bias.empty() ? nullptr : w.bias.data() + part.first_row,
                            token_of,
                            n_tokens,
                            store == Store::add,
                            group};
        switch (kind_of(part.format)) {
            case FormatKind::row_scaled:
                if (part.format == Format::e4) {
                    run_e4(part, input, out, device);
                } else {
                    run_e8(e8_view(part, input.stride), input, out, device);
                }
                break;
            case FormatKind::blocked:
                launch_linear_blocked({part.format, part.data.data(), part.n_rows, w.n_cols}, input,
                                      out, device.n_multiprocessors(), stream);
                break;
            case FormatKind::floating:
                launch_linear_floats({part.format, part.data.data(), part.n_rows, w.n_cols}, input,
                                     out, stream);
                break;
        }
    }
}

bool wants_across(const CudaLinear& w, unsigned forms, int n_tokens, const Device& device) {
    // The quantisers of int8 alone, or with floats beside it, give it.
    constexpr unsigned kInt8 = kRowInt8 | kBlockInt8;
    return device.has_sm90() && (forms & kInt8) == kRowInt8 && w.parts.size() == 1 &&
           w.parts.front().format == Format::e4 && n_tokens >= kE4FewTokensMin &&
           n_tokens <= kFewTokensMax;
}

bool gate_up_wants_across(const CudaLinear& w, unsigned forms, int n_tokens, const Device& device) {
    return wants_across(w, forms, n_tokens, device) && w.n_rows % (2 * kE4TileRows) == 0;
}

bool can_gate_up_together(const CudaLinear& w, unsigned forms, bool across, int n_tokens,
                          const Device& device) {
    constexpr int kTurn = 16;  // eight rows of each
    if (!device.has_sm90() || w.parts.size() != 1 || w.n_rows % kTurn != 0 ||
        (forms & kRowInt8) == 0)
        return false;
    const Format format = w.parts.front().format;
    return format == Format::e8 ||
           (format == Format::e4 && (across || n_tokens > kE4StreamTokensMax));
}

void run_gate_up(const CudaLinear& w, const ActivationsView& x, int n_tokens, float* s,
                 const Device& device) {
    ETALON_ASSERT(can_gate_up_together(w, kRowInt8, x.across, n_tokens, device) &&
                  w.n_cols == x.n_cols);
    const LinearPart& part = w.parts.front();
    const LinearOut out{s,       sz(w.n_rows / 2), w.bias.empty() ? nullptr : w.bias.data(),
                        nullptr, n_tokens,         false};
    if (x.across) {
        return launch_gate_up_e4_few_sm90(e4_view(part, x.stride), e4_table(), x, out,
                                          device.n_multiprocessors(), device.stream());
    }
    const E8View view =
        part.format == Format::e8 ? e8_view(part, x.stride) : expanded(part, x.stride, device);
    const bool launched =
        launch_gate_up_e8_sm90(view, x, out, device.n_multiprocessors(), device.stream());
    ETALON_ASSERT(launched);
}

std::uint64_t embedding_bytes(const weights::Tensor& tensor) {
    if (kind_of(tensor.format) != FormatKind::blocked)
        return tensor.data.size() + tensor.scales.size();
    return cpu::repacked_bytes(tensor.format, 1, sz(tensor.n_rows), sz(tensor.n_cols));
}

std::unique_ptr<CudaEmbedding> load_embedding(const weights::Tensor& tensor, Loader& loader) {
    auto embedding = std::make_unique<CudaEmbedding>();
    embedding->vocab_size = static_cast<int>(tensor.n_rows);
    embedding->dim = static_cast<int>(tensor.n_cols);
    embedding->format = tensor.format;
    const std::size_t n_rows = sz(tensor.n_rows);
    if (kind_of(tensor.format) == FormatKind::blocked) {
        const auto bytes = static_cast<std::size_t>(embedding_bytes(tensor));
        embedding->rows = DeviceArray<std::byte>(bytes);
        embedding->row_bytes = bytes / n_rows;
        load_records(tensor, 1, embedding->rows.data(), loader);
        return embedding;
    }
    embedding->row_bytes = tensor.data.size() / n_rows;
    ETALON_ASSERT(tensor.data.size() == n_rows * embedding->row_bytes);
    embedding->rows = DeviceArray<std::byte>(tensor.data.size());
    loader.copy(embedding->rows.data(), tensor.data);
    if (tensor.format == Format::e8) {
        ETALON_ASSERT(embedding->row_bytes == sz(tensor.n_cols));
        ETALON_ASSERT(tensor.scales.size() == n_rows * sizeof(float));
        embedding->d = DeviceArray<float>(n_rows);
        loader.copy(embedding->d.data(), tensor.scales);
    }
    return embedding;
}

}  // namespace etalon::backend::cuda
