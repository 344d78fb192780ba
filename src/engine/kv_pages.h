// SPDX-License-Identifier: Apache-2.0
// The KV cache as sequences see it: pages of their own behind pages that they share through the
// prefix cache.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/page_pool.h"
#include "engine/prefix_tree.h"

namespace etalon::engine {

/// The pages of one sequence; pages[i] holds positions 64 i to 64 i + 63. The first n_shared are in
/// the prefix tree and full, the others are the sequence's own.
struct PageTable {
    std::vector<std::int32_t> pages;
    int n_shared = 0;
    PrefixTree::Node* last_shared = nullptr;
};

/// Pages that `n_tokens` positions need.
int pages_for(std::int64_t n_tokens) noexcept;

class KvPages {
  public:
    /// The backend outlives the object.
    KvPages(backend::Backend& device, std::unique_ptr<backend::KvCache> kv);

    backend::KvCache& cache() noexcept { return *kv_; }
    int n_pages() const noexcept { return pool_.n_pages(); }
    int n_free() const noexcept { return pool_.n_free(); }
    int n_cached() const noexcept { return tree_.n_unused(); }
    /// Pages that can be had: free ones and those that the prefix cache gives up.
    int n_available() const noexcept { return n_free() + n_cached(); }
    /// Pages that can be had once `table` is released, if no other table is: at least so many more.
    int n_releasable(const PageTable& table) const noexcept;
    std::uint64_t n_evicted() const noexcept { return n_evicted_; }
    std::uint64_t n_shared() const noexcept { return n_shared_; }

    /// Fills the empty `table` with pages for all `tokens`, cached ones first: those of the longest
    /// prefix that is in the tree. The last token is always left to be computed: its logits are
    /// wanted. `from_cache` false: none of them may be taken. Returns the tokens found. nullopt,
    /// with nothing changed but ages, when fewer than `n_spare` pages could be had afterwards.
    std::optional<int> begin(const PrefixTree::Partition& partition,
                             std::span<const std::int32_t> tokens, int n_spare, PageTable& table,
                             bool from_cache = true);

    /// Adds pages until `n_tokens` positions have one, evicting cached ones as needed. False, with
    /// nothing changed, when there are not enough.
    bool grow(PageTable& table, std::int64_t n_tokens);

    /// Puts the full pages of `computed` (the tokens whose keys and values are all in the cache)
    /// into the prefix tree. A page that the tree has already is exchanged for the tree's: the bits
    /// are the same.
    void publish(const PrefixTree::Partition& partition, std::span<const std::int32_t> computed,
                 PageTable& table);

    /// PrefixTree::forget().
    void forget() { tree_.forget(); }
    std::uint64_t epoch() const noexcept { return tree_.epoch(); }

    /// Empties `table`: own pages are free and zeroed, shared ones stay in the prefix cache.
    void release(PageTable& table);

  private:
    void attach(const PrefixTree::Partition& partition, std::span<const std::int32_t> tokens,
                PageTable& table);

    std::unique_ptr<backend::KvCache> kv_;
    PagePool pool_;
    PrefixTree tree_;
    std::uint64_t n_evicted_ = 0;
    std::uint64_t n_shared_ = 0;
};

}  // namespace etalon::engine
