// SPDX-License-Identifier: Apache-2.0
// The page pool, the prefix tree against a naive list of prefixes, and pages that are zeroed.
#include <algorithm>
#include <deque>
#include <gtest/gtest.h>
#include <memory>
#include <rapidcheck.h>

#include "backend/cuda/cuda.h"
#include "backend/operations.h"
#include "engine/kv_pages.h"
#include "engine/page_pool.h"
#include "engine/prefix_tree.h"

namespace etalon::engine {
namespace {

using Tokens = std::vector<std::int32_t>;

/// A cache without a model: one layer, one head.
struct Cache {
    explicit Cache(int n_pages)
        : device(backend::make_exact_backend(1)), kv(device->make_kv_cache({1, 1, 2, n_pages})) {}
    std::unique_ptr<backend::Backend> device;
    std::unique_ptr<backend::KvCache> kv;
};

/// `n_pages` full pages, page i filled with names[i].
Tokens pages_of(const std::string& names) {
    Tokens tokens;
    for (const char name : names)
        tokens.insert(tokens.end(), exact::kPageTokens, name);
    return tokens;
}

PrefixTree::PageTokens page_of(char name) {
    PrefixTree::PageTokens tokens;
    tokens.fill(name);
    return tokens;
}

TEST(PagePool, gives_each_page_once) {
    Cache cache(3);
    PagePool pool(*cache.device, *cache.kv);
    std::vector<std::int32_t> pages;
    while (const auto page = pool.take())
        pages.push_back(*page);
    std::sort(pages.begin(), pages.end());
    EXPECT_EQ(pages, (std::vector<std::int32_t>{0, 1, 2}));
    pool.give_back(1);
    EXPECT_EQ(pool.n_free(), 1);
    EXPECT_EQ(pool.take(), 1);
}

/// One token at position `slot` of page 1, written as the model does it.
void write_slot(backend::Backend& device, backend::KvCache& kv, int slot) {
    const std::vector<std::int32_t> tokens{0};
    const std::vector<std::int32_t> positions{slot};
    const std::vector<std::int32_t> sequence_of{0};
    const std::vector<std::vector<std::int32_t>> tables{{1}};
    std::vector<std::uint8_t> failed{0};
    const auto qkv = device.make_floats(6);
    device.upload(std::vector<float>{1, 2, 3, 4, 5, 6}, *qkv);
    const auto queries = device.make_queries(1, 1, 2);
    backend::RopeTables rope;
    rope.turns = {1};
    device.rope_append({tokens, positions, sequence_of, tables, failed}, *qkv, rope, 0, kv,
                       *queries);
}

TEST(PagePool, a_page_that_comes_back_is_zeroed) {
    std::vector<std::unique_ptr<backend::Backend>> devices;
    devices.push_back(backend::make_exact_backend(1));
    for (const auto isa : {backend::Isa::generic, backend::Isa::avx2, backend::Isa::avx512}) {
        if (backend::isa_is_available(isa)) devices.push_back(backend::make_cpu_backend(isa, 1));
    }
    const auto cards = backend::cuda_state().devices;
    if (!cards.empty() && cards.front().problem.empty())
        devices.push_back(backend::make_cuda_backend(0));
    for (const auto& device : devices) {
        const auto kv = device->make_kv_cache({1, 1, 2, 2});
        PagePool pool(*device, *kv);
        while (pool.take()) {
        }
        for (const int slot : {0, 5, 63}) {
            write_slot(*device, *kv, slot);
            ASSERT_NE(device->read_key(*kv, 0, 1, slot, 0).scale, 0.0F);
        }
        pool.give_back(1);
        for (int slot = 0; slot < exact::kPageTokens; ++slot) {
            for (const auto& vector :
                 {device->read_key(*kv, 0, 1, slot, 0), device->read_value(*kv, 0, 1, slot, 0)}) {
                EXPECT_EQ(vector.q, (std::vector<std::int8_t>{0, 0})) << device->name();
                EXPECT_EQ(vector.scale, 0.0F);
            }
        }
    }
}

TEST(PrefixTree, partitions_share_nothing) {
    Cache cache(4);
    PagePool pool(*cache.device, *cache.kv);
    PrefixTree tree(pool);
    const PrefixTree::Partition ann{"ann", ""};
    auto* node = tree.publish(ann, nullptr, page_of('A'), pool.take().value());
    EXPECT_EQ(tree.attach({"bob", ""}, nullptr, page_of('A')), nullptr);
    EXPECT_EQ(tree.attach({"ann", "key"}, nullptr, page_of('A')), nullptr);
    EXPECT_EQ(tree.attach(ann, nullptr, page_of('A')), node);
    tree.detach(node);
    tree.detach(node);
}

TEST(PrefixTree, the_leaf_used_longest_ago_goes_first) {
    Cache cache(4);
    PagePool pool(*cache.device, *cache.kv);
    PrefixTree tree(pool);
    const PrefixTree::Partition ann{"ann", ""};
    auto* a = tree.publish(ann, nullptr, page_of('A'), pool.take().value());
    auto* b = tree.publish(ann, a, page_of('B'), pool.take().value());
    auto* c = tree.publish(ann, nullptr, page_of('C'), pool.take().value());
    EXPECT_FALSE(tree.evict());  // all have users
    tree.detach(b);
    tree.detach(c);
    EXPECT_EQ(tree.n_unused(), 3);
    ASSERT_TRUE(tree.evict());  // B: A has a child, C was used later
    EXPECT_EQ(tree.attach(ann, nullptr, page_of('A')), a);
    EXPECT_EQ(tree.attach(ann, a, page_of('B')), nullptr);
    tree.detach(a);
    ASSERT_TRUE(tree.evict());  // C: A was used just now
    EXPECT_EQ(tree.attach(ann, nullptr, page_of('C')), nullptr);
    EXPECT_EQ(tree.n_pages(), 1);
}

TEST(PrefixTree, forgets_what_nobody_uses_now_and_the_rest_with_its_last_user) {
    Cache cache(4);
    PagePool pool(*cache.device, *cache.kv);
    PrefixTree tree(pool);
    const PrefixTree::Partition old{"ann", "", tree.epoch()};
    auto* a = tree.publish(old, nullptr, page_of('A'), pool.take().value());
    auto* b = tree.publish(old, a, page_of('B'), pool.take().value());
    auto* c = tree.publish(old, nullptr, page_of('C'), pool.take().value());
    tree.detach(c);
    tree.forget();
    EXPECT_EQ(tree.n_pages(), 2);  // C is gone
    const PrefixTree::Partition now{"ann", "", tree.epoch()};
    EXPECT_EQ(tree.attach(now, nullptr, page_of('A')), nullptr);
    auto* again = tree.publish(now, nullptr, page_of('A'), pool.take().value());
    EXPECT_NE(again, a);
    EXPECT_EQ(tree.attach(old, nullptr, page_of('A')), a);  // by a choice of the old request
    tree.detach(a);
    tree.detach(b);
    EXPECT_EQ(tree.n_pages(), 1);
    EXPECT_EQ(pool.n_free(), 3);
    tree.detach(again);
    EXPECT_EQ(tree.n_unused(), 1);
}

/// What the cache must do, said slowly: prefixes of published page names, by their last use.
struct NaiveCache {
    struct Entry {
        std::string prefix;
        std::uint64_t used;
    };
    std::vector<Entry> entries;
    std::uint64_t clock = 0;

    bool has(const std::string& prefix) const {
        return std::any_of(entries.begin(), entries.end(),
                           [&](const Entry& e) { return e.prefix == prefix; });
    }
    std::size_t longest(const std::string& names) const {
        std::size_t n = 0;
        while (n < names.size() && has(names.substr(0, n + 1)))
            ++n;
        return n;
    }
};

/// Publishes and releases one sequence in both; the cached lengths must agree.
void use(KvPages& pages, NaiveCache& naive, const std::string& names) {
    Tokens tokens = pages_of(names);
    tokens.push_back(0);
    PageTable table;
    const int n_free = pages.n_free();
    const int n_cached = pages.begin({"ann", ""}, tokens, 0, table).value();
    RC_ASSERT(n_cached == static_cast<int>(naive.longest(names)) * exact::kPageTokens);
    const int n_new = static_cast<int>(table.pages.size()) - table.n_shared;
    const int n_evicted = std::max(n_new - n_free, 0);
    // Evicts what is no prefix of another entry or of this sequence, oldest use first.
    for (int i = 0; i < n_evicted; ++i) {
        auto victim = naive.entries.end();
        for (auto e = naive.entries.begin(); e != naive.entries.end(); ++e) {
            const bool is_inner =
                std::any_of(naive.entries.begin(), naive.entries.end(), [&](const auto& other) {
                    return other.prefix.size() > e->prefix.size() &&
                           other.prefix.starts_with(e->prefix);
                });
            const bool is_used =
                names.starts_with(e->prefix) &&
                static_cast<int>(e->prefix.size()) * exact::kPageTokens <= n_cached;
            if (is_inner || is_used) continue;
            if (victim == naive.entries.end() || e->used < victim->used) victim = e;
        }
        RC_ASSERT(victim != naive.entries.end());
        naive.entries.erase(victim);
    }
    pages.publish({"ann", ""}, tokens, table);
    pages.release(table);
    for (std::size_t n = names.size(); n > 0; --n) {  // the deepest is let go first
        const std::string prefix = names.substr(0, n);
        std::erase_if(naive.entries, [&](const auto& e) { return e.prefix == prefix; });
        naive.entries.push_back({prefix, ++naive.clock});
    }
}

TEST(KvPages, agree_with_a_naive_cache) {
    EXPECT_TRUE(rc::check("cached prefixes and evictions are those of a list", [] {
        Cache cache(7);
        KvPages pages(*cache.device, std::move(cache.kv));
        NaiveCache naive;
        const int n_uses = *rc::gen::inRange(1, 40);
        for (int i = 0; i < n_uses; ++i) {
            const auto n = *rc::gen::inRange<std::size_t>(0, 5);
            use(pages, naive,
                *rc::gen::container<std::string>(n, rc::gen::elementOf(std::string("ABC"))));
            RC_ASSERT(pages.n_cached() == static_cast<int>(naive.entries.size()));
            RC_ASSERT(pages.n_available() == 7);
        }
    }));
}

TEST(KvPages, a_page_computed_twice_is_kept_once) {
    Cache cache(6);
    KvPages pages(*cache.device, std::move(cache.kv));
    const PrefixTree::Partition ann{"ann", ""};
    const Tokens tokens = pages_of("AB");
    PageTable first;
    PageTable second;
    ASSERT_TRUE(pages.grow(first, 128));
    ASSERT_TRUE(pages.grow(second, 128));
    pages.publish(ann, tokens, first);
    pages.publish(ann, tokens, second);
    EXPECT_EQ(first.pages, second.pages);
    EXPECT_EQ(pages.n_free(), 4);
    EXPECT_EQ(pages.n_shared(), 2U);
    EXPECT_EQ(pages.n_releasable(first), 0);  // each page has two users
    pages.release(first);
    EXPECT_EQ(pages.n_releasable(second), 2);
    EXPECT_EQ(pages.n_cached(), 0);
    pages.release(second);
    EXPECT_EQ(pages.n_cached(), 2);
}

TEST(KvPages, grow_changes_nothing_when_there_is_no_room) {
    Cache cache(3);
    KvPages pages(*cache.device, std::move(cache.kv));
    PageTable first;
    PageTable second;
    ASSERT_TRUE(pages.grow(first, 65));
    EXPECT_FALSE(pages.grow(second, 65));
    EXPECT_TRUE(second.pages.empty());
    EXPECT_EQ(pages.n_free(), 1);
    pages.release(first);
}

TEST(KvPages, the_last_token_is_never_taken_from_the_cache) {
    Cache cache(3);
    KvPages pages(*cache.device, std::move(cache.kv));
    const PrefixTree::Partition ann{"ann", ""};
    const Tokens tokens = pages_of("AB");
    PageTable table;
    ASSERT_TRUE(pages.grow(table, 128));
    pages.publish(ann, tokens, table);
    pages.release(table);
    EXPECT_FALSE(pages.begin(ann, tokens, 2, table).has_value());
    EXPECT_TRUE(table.pages.empty());
    EXPECT_EQ(pages.n_available(), 3);
    EXPECT_EQ(pages.begin(ann, tokens, 1, table), 64);
    EXPECT_EQ(table.pages.size(), 2U);
    pages.release(table);
}

}  // namespace
}  // namespace etalon::engine
