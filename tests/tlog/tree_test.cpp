// SPDX-License-Identifier: Apache-2.0
// The tree against the recursive definitions of RFC 6962, for every size up to some hundreds.
#include "tlog/tree.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <string>
#include <vector>

namespace etalon::tlog {
namespace {

using Hashes = std::vector<Hash>;

std::size_t split(std::size_t n) {
    std::size_t k = 1;
    while (2 * k < n)
        k *= 2;
    return k;
}

/// MTH of RFC 6962, as it is written there.
Hash mth(std::span<const Hash> d) {
    if (d.empty()) return empty_root();
    if (d.size() == 1) return d[0];
    const std::size_t k = split(d.size());
    return node_hash(mth(d.first(k)), mth(d.subspan(k)));
}

/// PATH of RFC 6962.
Hashes path(std::size_t m, std::span<const Hash> d) {
    if (d.size() == 1) return {};
    const std::size_t k = split(d.size());
    Hashes proof = m < k ? path(m, d.first(k)) : path(m - k, d.subspan(k));
    proof.push_back(m < k ? mth(d.subspan(k)) : mth(d.first(k)));
    return proof;
}

/// SUBPROOF of RFC 6962.
Hashes subproof(std::size_t m, std::span<const Hash> d, bool known) {
    if (m == d.size()) return known ? Hashes{} : Hashes{mth(d)};
    const std::size_t k = split(d.size());
    Hashes proof = m <= k ? subproof(m, d.first(k), known) : subproof(m - k, d.subspan(k), false);
    proof.push_back(m <= k ? mth(d.subspan(k)) : mth(d.first(k)));
    return proof;
}

Hashes leaves(std::size_t n) {
    Hashes all;
    for (std::size_t i = 0; i < n; ++i)
        all.push_back(leaf_hash("entry " + std::to_string(i)));
    return all;
}

class Nodes final : public NodeReader {
  public:
    explicit Nodes(Hashes all) : leaves_(std::move(all)) {}
    Hash node(int level, std::uint64_t index) override {
        return mth(std::span(leaves_).subspan(index << level, std::size_t{1} << level));
    }
    std::span<const Hash> first(std::size_t n) const { return std::span(leaves_).first(n); }

  private:
    Hashes leaves_;
};

TEST(Tree, roots_of_published_vectors) {
    // The vectors that implementations of Certificate Transparency share.
    const std::vector<std::string> entries = {"",         "\0",   "\x10",     "\x20\x21",
                                              "\x30\x31", "@ABC", "PQRSTUVW", "`abcdefghijklmno"};
    std::vector<std::string> inputs = entries;
    inputs[1] = std::string(1, '\0');
    Frontier frontier;
    Hashes roots;
    for (const std::string& input : inputs) {
        frontier.append(leaf_hash(input));
        roots.push_back(frontier.root());
    }
    EXPECT_EQ(to_hex(empty_root()),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(to_hex(roots[0]), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    EXPECT_EQ(to_hex(roots[1]), "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125");
    EXPECT_EQ(to_hex(roots[2]), "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77");
    EXPECT_EQ(to_hex(roots[7]), "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328");
}

TEST(Tree, roots_and_frontiers_are_those_of_the_definition) {
    constexpr std::size_t kSizes = 300;
    Nodes nodes(leaves(kSizes));
    Frontier frontier;
    for (std::size_t n = 0; n <= kSizes; ++n) {
        const Hash want = mth(nodes.first(n));
        EXPECT_EQ(tree_root(nodes, n), want);
        EXPECT_EQ(frontier.root(), want);
        EXPECT_EQ(Frontier(nodes, n).root(), want);
        EXPECT_EQ(frontier.size(), n);
        if (n < kSizes) frontier.append(nodes.first(kSizes)[n]);
    }
}

TEST(Tree, every_inclusion_proof_of_small_trees) {
    constexpr std::size_t kSizes = 70;
    Nodes nodes(leaves(kSizes));
    for (std::size_t n = 1; n <= kSizes; ++n) {
        const Hash root = mth(nodes.first(n));
        for (std::size_t i = 0; i < n; ++i) {
            const Hashes proof = inclusion_proof(nodes, i, n);
            ASSERT_EQ(proof, path(i, nodes.first(n)));
            ASSERT_TRUE(is_included(nodes.first(n)[i], i, n, proof, root));
            ASSERT_FALSE(is_included(nodes.first(n)[i], i + 1, n, proof, root));
            if (n > 1) {
                ASSERT_FALSE(is_included(nodes.first(n)[(i + 1) % n], i, n, proof, root));
            }
        }
    }
}

TEST(Tree, every_consistency_proof_of_small_trees) {
    constexpr std::size_t kSizes = 70;
    Nodes nodes(leaves(kSizes));
    for (std::size_t n = 0; n <= kSizes; ++n) {
        const Hash root = mth(nodes.first(n));
        for (std::size_t m = 0; m <= n; ++m) {
            const Hash old_root = mth(nodes.first(m));
            const Hashes proof = consistency_proof(nodes, m, n);
            if (m > 0) {
                ASSERT_EQ(proof, subproof(m, nodes.first(n), true));
            }
            ASSERT_TRUE(is_consistent(m, old_root, n, root, proof));
            ASSERT_EQ(is_consistent(m, leaf_hash("x"), n, root, proof), false);
            ASSERT_EQ(is_consistent(m, old_root, n, leaf_hash("x"), proof), m == 0 && n > 0);
        }
    }
}

TEST(Tree, changed_proofs_show_nothing) {
    Nodes nodes(leaves(300));
    rc::check([&] {
        const auto n = *rc::gen::inRange<std::size_t>(2, 300);
        const auto i = *rc::gen::inRange<std::size_t>(0, n);
        const auto m = *rc::gen::inRange<std::size_t>(1, n);
        const Hash root = mth(nodes.first(n));
        const Hash old_root = mth(nodes.first(m));
        for (Hashes proof : {inclusion_proof(nodes, i, n), consistency_proof(nodes, m, n)}) {
            switch (*rc::gen::inRange(0, 3)) {
                case 0:
                    proof.push_back(leaf_hash("more"));
                    break;
                case 1:
                    proof.pop_back();
                    break;
                default: {
                    const auto k = *rc::gen::inRange<std::size_t>(0, proof.size());
                    proof[k][*rc::gen::inRange<std::size_t>(0, 32)] ^= 1;
                }
            }
            RC_ASSERT(!is_included(nodes.first(n)[i], i, n, proof, root));
            RC_ASSERT(!is_consistent(m, old_root, n, root, proof));
        }
    });
}

TEST(Tree, sizes_without_bounds_are_no_trap) {
    const Hash hash = leaf_hash("x");
    const Hashes proof(kProofHashesMax, hash);
    EXPECT_FALSE(is_included(hash, UINT64_MAX, UINT64_MAX, proof, hash));
    EXPECT_FALSE(is_included(hash, UINT64_MAX - 1, UINT64_MAX, proof, hash));
    EXPECT_FALSE(is_consistent(UINT64_MAX - 1, hash, UINT64_MAX, hash, proof));
    EXPECT_FALSE(is_included(hash, 0, 0, {}, hash));
}

}  // namespace
}  // namespace etalon::tlog
