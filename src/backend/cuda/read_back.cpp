// SPDX-License-Identifier: Apache-2.0
// What the buffers of the card hold, in the order of operations.h.
#include "backend/cuda/read_back.h"

#include "base/error.h"
#include "exact/attention.h"
#include "exact/formats.h"

namespace etalon::backend::cuda {

namespace {

using exact::kBlock;
using exact::kPageTokens;

std::size_t size_of(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

/// One slot of a head's page; `address` gives the place of element i in the page.
template <typename Address>
HostVector read_slot(const DeviceArray<std::int8_t>& codes, const DeviceArray<float>& scales,
                     const KvView& view, std::size_t index, int slot, const Address& address) {
    const std::size_t page_bytes = size_of(kPageTokens) * size_of(view.dim_stride);
    std::vector<std::int8_t> page(page_bytes);
    codes.download(page.data(), page_bytes, index * page_bytes);
    HostVector out{std::vector<std::int8_t>(size_of(view.head_dim)), 0.0F};
    for (int i = 0; i < view.head_dim; ++i)
        out.q[size_of(i)] = page[size_of(address(i))];
    scales.download(&out.scale, 1, index * kPageTokens + size_of(slot));
    return out;
}

}  // namespace

std::size_t page_index(const KvShape& shape, int layer, int page, int head) {
    ETALON_ASSERT(layer >= 0 && layer < shape.n_layers && page >= 0 && page < shape.n_pages);
    ETALON_ASSERT(head >= 0 && head < shape.n_kv_heads);
    return (size_of(layer) * size_of(shape.n_pages) + size_of(page)) * size_of(shape.n_kv_heads) +
           size_of(head);
}

HostActivations read_activations(const CudaActivations& x, int n_tokens) {
    const std::size_t n = size_of(n_tokens);
    const std::size_t k = size_of(x.n_cols);
    HostActivations host;
    const auto copy = [](const auto& from, std::size_t size, auto& to) {
        if (from.empty()) return;
        to.resize(size);
        from.download(to.data(), size);
    };
    const auto copy_codes = [&](const DeviceArray<std::int8_t>& from, auto& to) {
        const std::size_t stride = size_of(x.stride());
        std::vector<std::int8_t> padded;
        copy(from, n * stride, padded);
        to.reserve(n * k);
        for (std::size_t t = 0; t < padded.size() / stride; ++t)
            to.insert(to.end(), padded.data() + t * stride, padded.data() + t * stride + k);
    };
    copy_codes(x.row_q, host.row_q);
    if (x.across) {
        const auto across = host.row_q;
        for (std::size_t i = 0; i < host.row_q.size(); ++i)
            host.row_q[i] = across[size_of(across_place(static_cast<int>(i)))];
    }
    copy(x.row_scales, n, host.row_scales);
    copy_codes(x.block_q, host.block_q);
    copy(x.block_scales, n * (k / kBlock), host.block_scales);
    copy(x.floats, n * k, host.floats);
    return host;
}

HostVector read_query(const CudaQueries& queries, int token, int head) {
    const std::size_t row = size_of(token) * size_of(queries.n_heads) + size_of(head);
    HostVector out{std::vector<std::int8_t>(size_of(queries.head_dim)), 0.0F};
    queries.q.download(out.q.data(), out.q.size(), row * size_of(queries.dim_stride()));
    queries.scales.download(&out.scale, 1, row);
    return out;
}

HostVector read_key(const CudaKvCache& kv, int layer, int page, int slot, int head) {
    return read_slot(kv.keys, kv.key_scales, kv.view(), page_index(kv.shape, layer, page, head),
                     slot, [&](int i) { return (i / 16 * kPageTokens + slot) * 16 + i % 16; });
}

HostVector read_value(const CudaKvCache& kv, int layer, int page, int slot, int head) {
    const int stride = kv.view().dim_stride;
    return read_slot(kv.values, kv.value_scales, kv.view(), page_index(kv.shape, layer, page, head),
                     slot, [&](int i) { return (slot / 4 * stride + i) * 4 + slot % 4; });
}

}  // namespace etalon::backend::cuda
