// SPDX-License-Identifier: Apache-2.0
// Recursions of RFC 6962 over nodes that someone else stores.
#include "tlog/tree.h"

#include <bit>

#include "base/error.h"

namespace etalon::tlog {

namespace {

// Leaves and nodes are hashed apart, so that none can stand for the other (RFC 6962 section 2.1).
constexpr char kLeafPrefix = 0;
constexpr char kNodePrefix = 1;

/// The largest power of two below n, n >= 2.
std::uint64_t split_of(std::uint64_t n) noexcept {
    return std::bit_floor(n - 1);
}

/// MTH(D[begin:end]); begin is a multiple of the largest power of two up to end - begin.
Hash range_root(NodeReader& nodes, std::uint64_t begin, std::uint64_t end) {
    const std::uint64_t n = end - begin;
    if (std::has_single_bit(n)) {
        const int level = std::countr_zero(n);
        return nodes.node(level, begin >> level);
    }
    const std::uint64_t k = split_of(n);
    return node_hash(range_root(nodes, begin, begin + k), range_root(nodes, begin + k, end));
}

}  // namespace

Hash leaf_hash(std::string_view entry) {
    Sha256 hash;
    hash.update(std::string_view(&kLeafPrefix, 1));
    hash.update(entry);
    return hash.finish();
}

Hash node_hash(const Hash& left, const Hash& right) {
    Sha256 hash;
    hash.update(std::string_view(&kNodePrefix, 1));
    hash.update(std::as_bytes(std::span(left)));
    hash.update(std::as_bytes(std::span(right)));
    return hash.finish();
}

Hash empty_root() {
    return sha256({});
}

Hash tree_root(NodeReader& nodes, std::uint64_t size) {
    return size == 0 ? empty_root() : range_root(nodes, 0, size);
}

std::vector<Hash> inclusion_proof(NodeReader& nodes, std::uint64_t index, std::uint64_t size) {
    ETALON_ASSERT(index < size && size <= kTreeSizeMax);
    std::vector<Hash> proof;
    std::uint64_t begin = 0;
    std::uint64_t end = size;
    while (end - begin > 1) {  // from the root down: the proof lists the siblings from the leaf up
        const std::uint64_t middle = begin + split_of(end - begin);
        if (index < middle) {
            proof.push_back(range_root(nodes, middle, end));
            end = middle;
        } else {
            proof.push_back(range_root(nodes, begin, middle));
            begin = middle;
        }
    }
    return {proof.rbegin(), proof.rend()};
}

std::vector<Hash> consistency_proof(NodeReader& nodes, std::uint64_t old_size, std::uint64_t size) {
    ETALON_ASSERT(old_size <= size && size <= kTreeSizeMax);
    if (old_size == 0 || old_size == size) return {};
    std::vector<Hash> proof;
    std::uint64_t begin = 0;
    std::uint64_t end = size;
    while (end != old_size) {
        const std::uint64_t middle = begin + split_of(end - begin);
        if (old_size <= middle) {
            proof.push_back(range_root(nodes, middle, end));
            end = middle;
        } else {
            proof.push_back(range_root(nodes, begin, middle));
            begin = middle;
        }
    }
    // Where the old tree is itself a full subtree, who verifies has its hash.
    if (begin != 0) proof.push_back(range_root(nodes, begin, end));
    return {proof.rbegin(), proof.rend()};
}

bool is_included(const Hash& leaf, std::uint64_t index, std::uint64_t size,
                 std::span<const Hash> proof, const Hash& root) {
    if (index >= size) return false;
    std::uint64_t node = index;
    std::uint64_t last = size - 1;
    Hash hash = leaf;
    for (const Hash& sibling : proof) {
        if (last == 0) return false;
        if ((node & 1) != 0 || node == last) {
            hash = node_hash(sibling, hash);
            while ((node & 1) == 0 && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0 && hash == root;
}

bool is_consistent(std::uint64_t old_size, const Hash& old_root, std::uint64_t size,
                   const Hash& root, std::span<const Hash> proof) {
    if (old_size > size) return false;
    if (old_size == size) return proof.empty() && old_root == root;
    if (old_size == 0) return proof.empty() && old_root == empty_root();
    std::size_t next = 0;
    Hash old_hash = old_root;
    if (!std::has_single_bit(old_size)) {
        if (proof.empty()) return false;
        old_hash = proof[next++];
    }
    Hash hash = old_hash;
    std::uint64_t node = old_size - 1;
    std::uint64_t last = size - 1;
    while ((node & 1) != 0) {
        node >>= 1;
        last >>= 1;
    }
    for (; next < proof.size(); ++next) {
        if (last == 0) return false;
        if ((node & 1) != 0 || node == last) {
            old_hash = node_hash(proof[next], old_hash);
            hash = node_hash(proof[next], hash);
            while ((node & 1) == 0 && node != 0) {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(hash, proof[next]);
        }
        node >>= 1;
        last >>= 1;
    }
    return last == 0 && old_hash == old_root && hash == root;
}

Frontier::Frontier(NodeReader& nodes, std::uint64_t size) : size_(size) {
    ETALON_ASSERT(size <= kTreeSizeMax);
    for (int level = 63; level-- > 0;) {
        // The bits of `size` above this one are entries of larger subtrees.
        if ((size >> level & 1) != 0) peaks_.push_back(nodes.node(level, (size >> level) - 1));
    }
}

void Frontier::append(const Hash& leaf) {
    ETALON_ASSERT(size_ < kTreeSizeMax);
    Hash hash = leaf;
    for (std::uint64_t n = size_; (n & 1) != 0; n >>= 1) {
        hash = node_hash(peaks_.back(), hash);
        peaks_.pop_back();
    }
    peaks_.push_back(hash);
    ++size_;
}

Hash Frontier::root() const {
    if (peaks_.empty()) return empty_root();
    Hash hash = peaks_.back();
    for (std::size_t i = peaks_.size() - 1; i-- > 0;)
        hash = node_hash(peaks_[i], hash);
    return hash;
}

}  // namespace etalon::tlog
