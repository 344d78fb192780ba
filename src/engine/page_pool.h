// SPDX-License-Identifier: Apache-2.0
// Which pages of the KV cache are free. A page is zeroed as it comes back, so a free page is empty.
#pragma once

#include <cstdint>
#include <exception>
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

    /// nullopt when none is free. Errors: those of the device, once it is lost.
    std::optional<std::int32_t> take();
    /// `page` was taken and is not held any more. A device that is lost is not asked again: what
    /// holds pages ends as usual, and the next take() says why there is none.
    void give_back(std::int32_t page) noexcept;

  private:
    backend::Backend* device_;
    backend::KvCache* kv_;
    std::vector<std::int32_t> free_;  // taken from the back
    std::vector<bool> taken_;         // [n_pages]
    std::exception_ptr lost_;         // what the device said when it could not clear a page
};

}  // namespace etalon::engine
