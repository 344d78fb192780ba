// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CUDA backend: weights to the card, and the choice of a kernel (spec LIN,
// FMT).
#include <algorithm>
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

/// Tiles of blocked weights that are made on the host before they are sent together.
constexpr std::size_t kTilesAtOnce = 256;

std::size_t sz(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

FormatKind kind_of(Format format) {
    return exact::format_info(format).kind;
}

/// Rows of the tensor in records of tiles of `width` rows, to the card at `to`.
void upload_records(const weights::Tensor& tensor, std::size_t width, DeviceArray<std::byte>& to,
                    Loader& loader) {
    ETALON_ASSERT(to.size() ==
                  cpu::repacked_bytes(tensor.format, width, sz(tensor.n_rows), sz(tensor.n_cols)));
    const std::size_t k = sz(tensor.n_cols);
    const std::size_t n_rows = sz(tensor.n_rows);
    const auto row_bytes = exact::row_bytes(tensor.format, k);
    ETALON_ASSERT(row_bytes.has_value() && tensor.data.size() == n_rows * *row_bytes);
    const std::size_t tile_bytes = cpu::repacked_bytes(tensor.format, width, width, k);
    const std::size_t n_tiles = (n_rows + width - 1) / width;
    const std::size_t at_once = std::min(n_tiles, std::max(kTilesAtOnce, 8192 / width));
    std::vector<std::byte> records(at_once * tile_bytes);
    for (std::size_t first = 0; first < n_tiles; first += at_once) {
        const std::size_t n = std::min(at_once, n_tiles - first);
        loader.threads().run(static_cast<int>(n), [&](int i, int) {
            const std::size_t row = (first + sz(i)) * width;
            const std::size_t rows = std::min(width, n_rows - row);
            cpu::repack_tile(tensor.format, width, 0, k,
                             tensor.data.subspan(row * *row_bytes, rows * *row_bytes), *row_bytes,
                             records.data() + sz(i) * tile_bytes);
        });
        loader.copy(to.data() + first * tile_bytes, std::span(records).first(n * tile_bytes));
    }
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

LinearPart load_part(const weights::Tensor& tensor, Loader& loader) {
    LinearPart part;
    part.format = tensor.format;
    part.n_rows = static_cast<int>(tensor.n_rows);
    part.data = DeviceArray<std::byte>(static_cast<std::size_t>(linear_bytes(tensor)));
    if (kind_of(tensor.format) == FormatKind::blocked) {
        upload_records(tensor, kBlockedWidth, part.data, loader);
    } else {
        ETALON_ASSERT(kind_of(tensor.format) == FormatKind::floating);
        loader.copy(part.data.data(), tensor.data);
    }
    return part;
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

}  // namespace

std::uint64_t linear_bytes(const weights::Tensor& tensor) {
    switch (kind_of(tensor.format)) {
        case FormatKind::blocked:
            return cpu::repacked_bytes(tensor.format, kBlockedWidth, sz(tensor.n_rows),
                                       sz(tensor.n_cols));
        case FormatKind::row_scaled:
            return sz(tensor.n_rows) *
                   (sz(round_up(static_cast<int>(tensor.n_cols), kRowAlignment)) + sizeof(float));
        case FormatKind::floating:
            break;
    }
    return tensor.data.size();
}

std::unique_ptr<CudaLinear> load_linear(std::span<const weights::Tensor* const> parts,
                                        std::span<const float> bias, Loader& loader) {
    ETALON_ASSERT(!parts.empty());
    auto w = std::make_unique<CudaLinear>();
    w->n_cols = static_cast<int>(parts.front()->n_cols);
    for (std::size_t i = 0; i < parts.size();) {
        std::size_t end = i + 1;
        ETALON_ASSERT(parts[i]->n_cols == w->n_cols && parts[i]->n_rows >= 1);
        if (parts[i]->format == Format::e8) {
            while (end < parts.size() && parts[end]->format == Format::e8)
                ++end;
        }
        LinearPart part = parts[i]->format == Format::e8
                              ? load_e8(parts.subspan(i, end - i), loader)
                              : load_part(*parts[i], loader);
        part.first_row = w->n_rows;
        w->n_rows += part.n_rows;
        w->forms_needed |= form_of(part.format);
        w->parts.push_back(std::move(part));
        i = end;
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
        const LinearOut out{y + part.first_row,
                            sz(w.n_rows),
                            w.bias.empty() ? nullptr : w.bias.data() + part.first_row,
                            token_of,
                            n_tokens,
                            store == Store::add,
                            group};
        switch (kind_of(part.format)) {
            case FormatKind::row_scaled: {
                const E8View view{reinterpret_cast<const std::int8_t*>(part.data.data()),
                                  part.d.data(), part.n_rows, input.stride};
                run_e8(view, input, out, device);
                break;
            }
            case FormatKind::blocked:
                launch_linear_blocked({part.format, part.data.data(), part.n_rows, w.n_cols}, input,
                                      out, stream);
                break;
            case FormatKind::floating:
                launch_linear_floats({part.format, part.data.data(), part.n_rows, w.n_cols}, input,
                                     out, stream);
                break;
        }
    }
}

bool can_gate_up_together(const CudaLinear& w, const ActivationsView& x) {
    constexpr int kTurn = 16;  // eight rows of each
    return w.parts.size() == 1 && w.parts.front().format == Format::e8 && w.n_rows % kTurn == 0 &&
           x.row_q != nullptr;
}

void run_gate_up(const CudaLinear& w, const ActivationsView& x, int n_tokens, float* s,
                 const Device& device) {
    ETALON_ASSERT(can_gate_up_together(w, x) && w.n_cols == x.n_cols);
    const LinearPart& part = w.parts.front();
    const E8View view{reinterpret_cast<const std::int8_t*>(part.data.data()), part.d.data(),
                      part.n_rows, x.stride};
    const LinearOut out{s,       sz(w.n_rows / 2), w.bias.empty() ? nullptr : w.bias.data(),
                        nullptr, n_tokens,         false};
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
        upload_records(tensor, 1, embedding->rows, loader);
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
