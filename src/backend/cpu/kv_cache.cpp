// SPDX-License-Identifier: Apache-2.0
// Keys and values in pages.
#include "backend/cpu/kv_cache.h"

#include <algorithm>

#include "base/error.h"
#include "exact/attention.h"

namespace etalon::backend::cpu {

namespace {

constexpr std::size_t kSlots = exact::kPageTokens;

std::size_t size_of(int n) noexcept {
    return static_cast<std::size_t>(n);
}

}  // namespace

CpuKvCache::CpuKvCache(const KvShape& kv_shape, std::uint8_t key_flip)
    : key_flip_(key_flip),
      key_quads_((size_of(kv_shape.head_dim) + 3) / 4),
      value_dims_(padded(size_of(kv_shape.head_dim))) {
    ETALON_ASSERT(kv_shape.n_layers >= 1 && kv_shape.n_pages >= 1 && kv_shape.n_kv_heads >= 1);
    ETALON_ASSERT(kv_shape.head_dim >= 1 && size_of(kv_shape.head_dim) <= kHeadDimMax);
    shape = kv_shape;
    const std::size_t pages =
        size_of(shape.n_layers) * size_of(shape.n_pages) * size_of(shape.n_kv_heads);
    keys_.resize(pages * key_quads_ * kSlots * 4);
    values_.resize(pages * value_dims_ * kSlots);
    key_scales_.resize(pages * kSlots);
    value_scales_.resize(pages * kSlots);
}

std::size_t CpuKvCache::page_index(int layer, int page, int kv_head) const noexcept {
    ETALON_ASSERT(layer >= 0 && layer < shape.n_layers);
    ETALON_ASSERT(page >= 0 && page < shape.n_pages);
    ETALON_ASSERT(kv_head >= 0 && kv_head < shape.n_kv_heads);
    return (size_of(layer) * size_of(shape.n_pages) + size_of(page)) * size_of(shape.n_kv_heads) +
           size_of(kv_head);
}

KvHeadView CpuKvCache::head(int layer, int kv_head) const noexcept {
    const std::size_t first = page_index(layer, 0, kv_head);
    const std::size_t n_heads = size_of(shape.n_kv_heads);
    KvHeadView view;
    view.keys = keys_.data() + first * key_quads_ * kSlots * 4;
    view.values = values_.data() + first * value_dims_ * kSlots;
    view.key_scales = key_scales_.data() + first * kSlots;
    view.value_scales = value_scales_.data() + first * kSlots;
    view.keys_stride = n_heads * key_quads_ * kSlots * 4;
    view.values_stride = n_heads * value_dims_ * kSlots;
    view.scales_stride = n_heads * kSlots;
    return view;
}

void CpuKvCache::write_key(int layer, int page, int slot, int kv_head, const std::int8_t* q,
                           float scale) {
    const std::size_t index = page_index(layer, page, kv_head);
    std::uint8_t* to = keys_.data() + index * key_quads_ * kSlots * 4 + size_of(slot) * 4;
    for (std::size_t d = 0; d < size_of(shape.head_dim); ++d) {
        to[d / 4 * kSlots * 4 + d % 4] = static_cast<std::uint8_t>(q[d]) ^ key_flip_;
    }
    key_scales_[index * kSlots + size_of(slot)] = scale;
}

void CpuKvCache::write_value(int layer, int page, int slot, int kv_head, const std::int8_t* q,
                             float scale) {
    const std::size_t index = page_index(layer, page, kv_head);
    std::int8_t* to = values_.data() + index * value_dims_ * kSlots +
                      size_of(slot) / 4 * value_dims_ * 4 + size_of(slot) % 4;
    for (std::size_t d = 0; d < size_of(shape.head_dim); ++d)
        to[4 * d] = q[d];
    value_scales_[index * kSlots + size_of(slot)] = scale;
}

HostVector CpuKvCache::read_key(int layer, int page, int slot, int kv_head) const {
    const std::size_t index = page_index(layer, page, kv_head);
    const std::uint8_t* from = keys_.data() + index * key_quads_ * kSlots * 4 + size_of(slot) * 4;
    HostVector out{std::vector<std::int8_t>(size_of(shape.head_dim)),
                   key_scales_[index * kSlots + size_of(slot)]};
    for (std::size_t d = 0; d < out.q.size(); ++d) {
        out.q[d] = static_cast<std::int8_t>(from[d / 4 * kSlots * 4 + d % 4] ^ key_flip_);
    }
    return out;
}

HostVector CpuKvCache::read_value(int layer, int page, int slot, int kv_head) const {
    const std::size_t index = page_index(layer, page, kv_head);
    const std::int8_t* from = values_.data() + index * value_dims_ * kSlots +
                              size_of(slot) / 4 * value_dims_ * 4 + size_of(slot) % 4;
    HostVector out{std::vector<std::int8_t>(size_of(shape.head_dim)),
                   value_scales_[index * kSlots + size_of(slot)]};
    for (std::size_t d = 0; d < out.q.size(); ++d)
        out.q[d] = from[4 * d];
    return out;
}

void CpuKvCache::clear_page(int page) {
    const std::size_t n_heads = size_of(shape.n_kv_heads);
    for (int layer = 0; layer < shape.n_layers; ++layer) {
        const std::size_t first = page_index(layer, page, 0);
        const auto fill = [&](auto& all, std::size_t head_size, auto value) {
            std::fill_n(all.data() + first * head_size, n_heads * head_size, value);
        };
        fill(keys_, key_quads_ * kSlots * 4, key_flip_);  // the flip of a zero
        fill(values_, value_dims_ * kSlots, std::int8_t{0});
        fill(key_scales_, kSlots, 0.0F);
        fill(value_scales_, kSlots, 0.0F);
    }
}

}  // namespace etalon::backend::cpu
