// SPDX-License-Identifier: Apache-2.0
// The prefix cache: a radix tree whose edges are pages of 64 tokens, one tree for each partition (a
// tenant and its cache key). A path from the root is a prefix whose keys and values are computed.
//
// Example, pages written as letters: after sequences ABC and ABD were published in one partition
// the tree has A - B - {C, D}. A new sequence ABE attaches to A and B and computes E itself.
//
// A page in the tree has users: the running sequences that attached to it or published it. Without
// users it stays until room is needed; then the leaf that was used longest ago goes first. After
// forget() nothing from before is found again, and pages from before go with their last user.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "engine/page_pool.h"
#include "exact/attention.h"

namespace etalon::engine {

class PrefixTree {
  public:
    struct Partition {
        std::string tenant;
        std::string cache_key;
        std::uint64_t epoch = 0;  ///< epoch() when the request came
        // NOLINTNEXTLINE(modernize-use-nullptr): it means the zero that the compiler writes.
        auto operator<=>(const Partition&) const = default;
    };
    using PageTokens = std::array<std::int32_t, exact::kPageTokens>;
    class Node;

    /// Pages of evicted nodes go back to `pool`, which outlives the tree.
    explicit PrefixTree(PagePool& pool);
    /// No node has users any more.
    ~PrefixTree();
    PrefixTree(const PrefixTree&) = delete;
    PrefixTree& operator=(const PrefixTree&) = delete;

    /// The child of `parent` (null: of the partition's root) for these tokens, with one user more;
    /// null when there is none. The caller is a user of `parent`.
    Node* attach(const Partition& partition, Node* parent, const PageTokens& tokens);

    /// Puts `page`, filled with these tokens behind `parent`, into the tree; the caller is its
    /// first user. When the tree has such a node already the caller becomes a user of that one: its
    /// page holds the same bits, and `page` stays the caller's.
    Node* publish(const Partition& partition, Node* parent, const PageTokens& tokens,
                  std::int32_t page);

    /// One user less for `node` and every node above it; null does nothing.
    void detach(Node* node);

    /// Gives the page that was used longest ago back to the pool; false when all have users.
    bool evict();

    /// Ends the epoch: its pages without users go back to the pool now, the others when their last
    /// user detaches.
    void forget();
    std::uint64_t epoch() const noexcept { return epoch_; }

    static std::int32_t page_of(const Node& node) noexcept;
    /// Of `node` (may be null) and the nodes above it, those that have one user.
    static int n_single_user(const Node* node) noexcept;
    int n_pages() const noexcept { return n_pages_; }  ///< all nodes
    int n_unused() const noexcept {
        return n_unused_;
    }  ///< nodes without users: evict() frees them

  private:
    using Children = std::map<PageTokens, std::unique_ptr<Node>>;

    Children& children_of(const Partition& partition, Node* parent);
    void add_user(Node& node);
    void touch(Node& node);
    void remove(Node& leaf);

    PagePool* pool_;
    std::map<Partition, Children> roots_;    // partitions that have nodes
    std::map<std::uint64_t, Node*> by_age_;  // leaves without users, by their last use
    std::uint64_t clock_ = 0;                // one tick for each use
    int n_pages_ = 0;
    int n_unused_ = 0;
    std::uint64_t epoch_ = 0;
};

}  // namespace etalon::engine
