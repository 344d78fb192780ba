// SPDX-License-Identifier: Apache-2.0
// Free pages as a stack: the page that came back last is the warmest.
#include "engine/page_pool.h"

#include "base/error.h"

namespace etalon::engine {

PagePool::PagePool(backend::Backend& device, backend::KvCache& kv)
    : device_(&device), kv_(&kv), taken_(static_cast<std::size_t>(kv.shape.n_pages), false) {
    for (int page = kv.shape.n_pages - 1; page >= 0; --page)
        free_.push_back(page);
}

std::optional<std::int32_t> PagePool::take() {
    if (lost_) std::rethrow_exception(lost_);
    if (free_.empty()) return std::nullopt;
    const std::int32_t page = free_.back();
    free_.pop_back();
    ETALON_ASSERT(!taken_[static_cast<std::size_t>(page)]);
    taken_[static_cast<std::size_t>(page)] = true;
    return page;
}

void PagePool::give_back(std::int32_t page) noexcept {
    ETALON_ASSERT(page >= 0 && page < n_pages());
    ETALON_ASSERT(taken_[static_cast<std::size_t>(page)]);
    taken_[static_cast<std::size_t>(page)] = false;
    free_.push_back(page);
    if (lost_) return;
    try {
        device_->clear_page(*kv_, page);
    } catch (const Error&) {
        lost_ = std::current_exception();
    }
}

}  // namespace etalon::engine
