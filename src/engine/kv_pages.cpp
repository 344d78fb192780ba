// SPDX-License-Identifier: Apache-2.0
// Pages of sequences, from the pool and from the prefix tree.
#include "engine/kv_pages.h"

#include <algorithm>

#include "base/error.h"

namespace etalon::engine {

namespace {

PrefixTree::PageTokens page_tokens(std::span<const std::int32_t> tokens, int page) {
    PrefixTree::PageTokens out{};
    const auto from = tokens.subspan(static_cast<std::size_t>(page) * out.size(), out.size());
    std::copy(from.begin(), from.end(), out.begin());
    return out;
}

}  // namespace

int pages_for(std::int64_t n_tokens) noexcept {
    return static_cast<int>((n_tokens + exact::kPageTokens - 1) / exact::kPageTokens);
}

KvPages::KvPages(backend::Backend& device, std::unique_ptr<backend::KvCache> kv)
    : kv_(std::move(kv)), pool_(device, *kv_), tree_(pool_) {}

int KvPages::n_releasable(const PageTable& table) const noexcept {
    const int n_own = static_cast<int>(table.pages.size()) - table.n_shared;
    return n_own + PrefixTree::n_single_user(table.last_shared);
}

void KvPages::attach(const PrefixTree::Partition& partition, std::span<const std::int32_t> tokens,
                     PageTable& table) {
    const int n_pages_max = static_cast<int>((tokens.size() - 1) / exact::kPageTokens);
    while (table.n_shared < n_pages_max) {
        PrefixTree::Node* next =
            tree_.attach(partition, table.last_shared, page_tokens(tokens, table.n_shared));
        if (next == nullptr) return;
        table.last_shared = next;
        table.pages.push_back(PrefixTree::page_of(*next));
        ++table.n_shared;
    }
}

std::optional<int> KvPages::begin(const PrefixTree::Partition& partition,
                                  std::span<const std::int32_t> tokens, int n_spare,
                                  PageTable& table, bool from_cache) {
    ETALON_ASSERT(!tokens.empty());
    ETALON_ASSERT(table.pages.empty());
    if (from_cache) attach(partition, tokens, table);
    const auto n_tokens = static_cast<std::int64_t>(tokens.size());
    const int n_missing = pages_for(n_tokens) - table.n_shared;
    if (n_available() < n_missing + n_spare) {
        release(table);
        return std::nullopt;
    }
    const bool grown = grow(table, n_tokens);
    ETALON_ASSERT(grown);
    n_shared_ += static_cast<std::uint64_t>(table.n_shared);
    return table.n_shared * exact::kPageTokens;
}

bool KvPages::grow(PageTable& table, std::int64_t n_tokens) {
    const int n_missing = pages_for(n_tokens) - static_cast<int>(table.pages.size());
    if (n_missing > n_available()) return false;
    for (int i = 0; i < n_missing; ++i) {
        if (pool_.n_free() == 0) {
            const bool evicted = tree_.evict();
            ETALON_ASSERT(evicted);
            ++n_evicted_;
        }
        table.pages.push_back(pool_.take().value());
    }
    return true;
}

void KvPages::publish(const PrefixTree::Partition& partition,
                      std::span<const std::int32_t> computed, PageTable& table) {
    const int n_full = static_cast<int>(computed.size() / exact::kPageTokens);
    ETALON_ASSERT(static_cast<std::size_t>(n_full) <= table.pages.size());
    for (; table.n_shared < n_full; ++table.n_shared) {
        std::int32_t& page = table.pages[static_cast<std::size_t>(table.n_shared)];
        table.last_shared = tree_.publish(partition, table.last_shared,
                                          page_tokens(computed, table.n_shared), page);
        const std::int32_t in_tree = PrefixTree::page_of(*table.last_shared);
        if (in_tree == page) continue;
        pool_.give_back(page);
        page = in_tree;
        ++n_shared_;
    }
}

void KvPages::release(PageTable& table) {
    tree_.detach(table.last_shared);
    for (std::size_t i = static_cast<std::size_t>(table.n_shared); i < table.pages.size(); ++i)
        pool_.give_back(table.pages[i]);
    table = {};
}

}  // namespace etalon::engine
