// SPDX-License-Identifier: Apache-2.0
// The Merkle tree of RFC 6962 section 2.1: hashes, roots and the two proofs.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/sha256.h"

namespace etalon::tlog {

using Hash = Sha256Digest;

/// Trees of other implementations index with signed 64 bits.
inline constexpr std::uint64_t kTreeSizeMax = (std::uint64_t{1} << 63) - 1;
/// No proof of a tree of kTreeSizeMax entries has more hashes.
inline constexpr std::size_t kProofHashesMax = 63;

Hash leaf_hash(std::string_view entry);
Hash node_hash(const Hash& left, const Hash& right);
/// The root of the tree without entries.
Hash empty_root();

/// Gives nodes of a tree: node(level, i) is the root of the full subtree over the entries
/// [i << level, (i + 1) << level). Level 0 holds the leaves.
class NodeReader {
  public:
    virtual ~NodeReader() = default;
    /// Errors: invalid, where the node cannot be had.
    virtual Hash node(int level, std::uint64_t index) = 0;
};

/// The root over the first `size` entries.
Hash tree_root(NodeReader& nodes, std::uint64_t size);

/// PATH(index, D[size]) of RFC 6962; index < size.
std::vector<Hash> inclusion_proof(NodeReader& nodes, std::uint64_t index, std::uint64_t size);
/// PROOF(old_size, D[size]) of RFC 6962; old_size <= size. Empty for 0 and for equal sizes.
std::vector<Hash> consistency_proof(NodeReader& nodes, std::uint64_t old_size, std::uint64_t size);

/// Whether `proof` shows that `leaf` is entry `index` of the tree (RFC 9162 section 2.1.3.2).
/// All of it may be hostile.
bool is_included(const Hash& leaf, std::uint64_t index, std::uint64_t size,
                 std::span<const Hash> proof, const Hash& root);
/// Whether `proof` shows that the larger tree begins with the smaller (RFC 9162 section 2.1.4.2).
bool is_consistent(std::uint64_t old_size, const Hash& old_root, std::uint64_t size,
                   const Hash& root, std::span<const Hash> proof);

/// The right edge of a growing tree: one hash a set bit of its size.
class Frontier {
  public:
    Frontier() = default;
    /// Of a tree that is stored.
    Frontier(NodeReader& nodes, std::uint64_t size);

    void append(const Hash& leaf);
    std::uint64_t size() const noexcept { return size_; }
    Hash root() const;

  private:
    std::vector<Hash> peaks_;  // full subtrees, largest first
    std::uint64_t size_ = 0;
};

}  // namespace etalon::tlog
