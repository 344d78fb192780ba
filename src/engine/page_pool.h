// SPDX-License-Identifier: Apache-2.0
// Which pages of the KV cache are free. A page is zeroed as it comes back, so a free page is empty.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/operations.h"

namespace etalon::engine {

class PagePool {
  public:
    /// All pages of `kv` are free. Backend and cache outlive the pool.
    PagePool(backend::Backend& device, backend::KvCache& kv);

    int n_pages() const noexcept { return static_cast<int>(taken_.size()); }
    int n_free() const noexcept { return static_cast<int>(free_.size()); }

    /// nullopt when none is free.
    std::optional<std::int32_t> take();
    /// `page` was taken and is not held any more. Throws what the device throws when it is lost;
    /// from then on it is not asked any more, so that what holds pages can end, and none is taken.
    void give_back(std::int32_t page);

  private:
    backend::Backend* device_;
    backend::KvCache* kv_;
    std::vector<std::int32_t> free_;  // taken from the back
    std::vector<bool> taken_;         // [n_pages]
    bool clears_ = true;              // the device is there
};

}  // namespace etalon::engine
