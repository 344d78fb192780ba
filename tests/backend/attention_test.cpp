// SPDX-License-Identifier: Apache-2.0
// Attention of ragged batches over a filled cache (ATT-1 to ATT-12, ERR-2).
#include "exact/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "backend/conformance.h"
#include "exact/rope.h"

namespace etalon::backend::conformance {
namespace {

using exact::kPageTokens;

/// What stands in queries, keys and values.
enum class Content : std::uint8_t {
    usual,   ///< scores of some units
    spread,  ///< keys from 2^-20 to 2^20: pages that count nothing beside others (ATT-9)
    values,  ///< value scales zero, smallest, largest (ATT-7)
    ends,    ///< every code of queries, keys and values 127 or -127
    flat,    ///< queries zero, values 127 of one sign: the largest sums (ATT-8)
    far,     ///< some keys so large that exponents leave their range (ERR-2)
    bad,     ///< some queries, keys and values not finite (ERR-1)
};
constexpr std::array<std::pair<Content, const char*>, 7> kContents{{
    {Content::usual, "usual"},
    {Content::spread, "spread"},
    {Content::values, "values"},
    {Content::ends, "ends"},
    {Content::flat, "flat"},
    {Content::far, "far"},
    {Content::bad, "bad"},
}};

struct Sequence {
    int first;  ///< positions before it are in the cache already
    int n;
};

struct Shape {
    int head_dim = 64;
    int n_heads = 3;
    int n_kv_heads = 1;
    int window = 0;
    std::vector<Sequence> sequences{{0, 3}};
    Content content = Content::usual;

    std::string name() const {
        std::string name = fmt::format("d{}_h{}_kv{}_w{}_{}", head_dim, n_heads, n_kv_heads, window,
                                       kContents[static_cast<std::size_t>(content)].second);
        constexpr std::size_t kNamed = 10;
        for (std::size_t i = 0; i < std::min(sequences.size(), kNamed); ++i)
            name += fmt::format("_{}x{}", sequences[i].first, sequences[i].n);
        if (sequences.size() > kNamed) name += fmt::format("_and_{}", sequences.size() - kNamed);
        return name;
    }
};

enum class Part : std::uint8_t { query, key, value };

/// A head whose butterfly has one magnitude everywhere: only its first element is not zero.
void fill_one(Random& random, float size, std::span<float> head) {
    std::fill(head.begin(), head.end(), 0.0F);
    head[0] = random.below(2) == 0 ? size : -size;
}

void fill_head(Random& random, Content content, Part part, std::span<float> head) {
    constexpr std::array kValueSizes{0.0F, 1e-28F, 1.0F, 1e10F, 1e36F};
    const auto n = static_cast<int>(head.size());
    float size = part == Part::query ? 1.0F : 0.3F;
    const auto small = random_floats(
        random, 1, n, content == Content::bad && random.below(8) == 0 ? Fill::bad : Fill::usual);
    switch (content) {
        case Content::spread:
            if (part == Part::key) size = std::ldexp(1.0F, random.below(41) - 20);
            break;
        case Content::values:
            if (part == Part::value) size = kValueSizes[static_cast<std::size_t>(random.below(5))];
            break;
        case Content::ends:
            if (part != Part::value) return fill_one(random, 2.0F, head);
            for (float& value : head)  // the scale is just below a power of two
                value = random.below(2) == 0 ? 127.0F * 0x1.fffffep-1F : -127.0F * 0x1.fffffep-1F;
            return;
        case Content::flat:
            std::fill(head.begin(), head.end(),
                      part == Part::query ? 0.0F : 127.0F * 0x1.fffffep-1F);
            return;
        case Content::far:
            if (part == Part::key && random.below(40) == 0) size = 1e12F;
            break;
        case Content::usual:
        case Content::bad:
            break;
    }
    for (std::size_t i = 0; i < head.size(); ++i)
        head[i] = small[i] * size;
}

/// [n_tokens, n_heads + 2 n_kv_heads, head_dim], each element times `size`.
std::vector<float> random_qkv(Random& random, const Shape& shape, int n_tokens, float size) {
    const int heads = shape.n_heads + 2 * shape.n_kv_heads;
    const auto d = static_cast<std::size_t>(shape.head_dim);
    std::vector<float> qkv(static_cast<std::size_t>(n_tokens * heads) * d);
    for (int i = 0; i < n_tokens * heads; ++i) {
        const int head = i % heads;
        const Part part = head < shape.n_heads                      ? Part::query
                          : head < shape.n_heads + shape.n_kv_heads ? Part::key
                                                                    : Part::value;
        const auto row = std::span(qkv).subspan(static_cast<std::size_t>(i) * d, d);
        fill_head(random, shape.content, part, row);
        for (float& value : row)
            value *= size;
    }
    return qkv;
}

/// The cache of one backend and what writes to it.
struct Cache {
    std::unique_ptr<KvCache> kv;
    std::vector<std::vector<std::int32_t>> page_tables;
    RopeTables rope;
};

/// The first position that any token of the sequence sees.
int first_visible(const Shape& shape, const Sequence& s) {
    return static_cast<int>(exact::visible_keys(s.first, shape.window).first);
}

/// Page tables of all sequences out of one pool in random order. Pages that no token sees stand for
/// page 0, which belongs to nobody.
Cache make_cache(Backend& backend, Random& random, const Shape& shape) {
    constexpr int kSparePages = 2;
    Cache cache;
    int n_pages = 1;
    for (const Sequence& s : shape.sequences) {
        n_pages += (s.first + s.n - 1) / kPageTokens - first_visible(shape, s) / kPageTokens + 1;
    }
    std::vector<std::int32_t> pool(static_cast<std::size_t>(n_pages - 1 + kSparePages));
    std::iota(pool.begin(), pool.end(), 1);
    for (std::size_t i = pool.size(); i > 1; --i)
        std::swap(pool[i - 1], pool[static_cast<std::size_t>(random.below(static_cast<int>(i)))]);
    for (const Sequence& s : shape.sequences) {
        const int n = (s.first + s.n - 1) / kPageTokens + 1;
        std::vector<std::int32_t> table(static_cast<std::size_t>(n), 0);
        for (int page = first_visible(shape, s) / kPageTokens; page < n; ++page) {
            table[static_cast<std::size_t>(page)] = pool.back();
            pool.pop_back();
        }
        cache.page_tables.push_back(std::move(table));
    }
    cache.kv = backend.make_kv_cache({2, shape.n_kv_heads, shape.head_dim, n_pages + kSparePages});
    // Without turns a head keeps the magnitude of its codes.
    if (shape.content == Content::ends) return cache;
    exact::RopeConfig config;
    config.n_dims = shape.head_dim;
    cache.rope.turns = exact::rope_turns(config);
    return cache;
}

/// Writes keys and values at positions [first, end) of a sequence.
void append(Backend& backend, Random& random, const Shape& shape, std::size_t sequence, int first,
            int end, float size, Cache& cache) {
    constexpr int kAtOnce = 256;
    for (; first < end; first += kAtOnce) {
        const int n = std::min(kAtOnce, end - first);
        OwnedBatch batch;
        batch.add_sequence(first, n, cache.page_tables[sequence]);
        const auto qkv = uploaded(backend, random_qkv(random, shape, n, size));
        const auto queries = backend.make_queries(n, shape.n_heads, shape.head_dim);
        backend.rope_append(batch.view(), *qkv, cache.rope, 1, *cache.kv, *queries);
    }
}

void run_attention(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    constexpr float kJunk = 1e18F;  // behind the last token: the cache of a longer answer cut short
    Cache cache = make_cache(backend, random, shape);
    OwnedBatch batch;
    for (std::size_t i = 0; i < shape.sequences.size(); ++i) {
        const Sequence& s = shape.sequences[i];
        const int end = s.first + s.n;
        const int page_end = (end + kPageTokens - 1) / kPageTokens * kPageTokens;
        append(backend, random, shape, i, end, page_end, kJunk, cache);
        append(backend, random, shape, i, first_visible(shape, s), s.first, 1.0F, cache);
        batch.add_sequence(s.first, s.n, cache.page_tables[i]);
    }
    const auto n_tokens = static_cast<int>(batch.tokens.size());
    const auto qkv = uploaded(backend, random_qkv(random, shape, n_tokens, 1.0F));
    const auto queries = backend.make_queries(n_tokens + 1, shape.n_heads, shape.head_dim);
    backend.rope_append(batch.view(), *qkv, cache.rope, 1, *cache.kv, *queries);
    outcome.add("failed before", std::span<const std::uint8_t>(batch.failed));
    constexpr int kGuard = 16;
    const int n = n_tokens * shape.n_heads * shape.head_dim + kGuard;
    const auto o = uploaded(backend, random_floats(random, 1, n, Fill::usual));
    backend.attention(batch.view(), *queries, 1, shape.window, *cache.kv, *o);
    outcome.add("o", std::span<const float>(downloaded(backend, *o)));
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
}

void add(const Shape& shape) {
    add_test("Attention", shape.name(),
             [shape](Backend& backend, Random& random, Outcome& outcome) {
                 run_attention(shape, backend, random, outcome);
             });
}

void add_heads() {
    for (const int d : {2, 4, 6, 16, 18, 20, 32, 48, 64, 80, 96, 100, 112, 128, 160, 192, 256}) {
        add({d, 3, 1, 0, {{0, 70}}});
        add({d, 3, 1, 13, {{60, 9}, {3, 1}}});
        add({d, 4, 2, 0, {{190, 1}}, Content::ends});
    }
    add({512, 2, 1, 0, {{100, 3}}, Content::ends});
    for (const auto& [n_heads, n_kv_heads] :
         {std::pair(1, 1), std::pair(2, 1), std::pair(3, 1), std::pair(4, 1), std::pair(7, 1),
          std::pair(8, 2), std::pair(6, 2), std::pair(12, 4), std::pair(14, 2), std::pair(64, 1),
          std::pair(65, 1), std::pair(130, 2)}) {
        add({32, n_heads, n_kv_heads, 0, {{0, 5}, {130, 3}, {63, 2}}});
        add({16, n_heads, n_kv_heads, 20, {{100, 18}}});
    }
}

void add_boundaries() {
    for (const int p : {0, 1, 2, 62, 63, 64, 65, 66, 126, 127, 128, 129, 191, 192}) {
        for (const int window : {0, 1, 7, 63, 64, 65, 100})
            add({64, 3, 1, window, {{p, 1}}});
    }
    for (const int p : {1021, 1022, 1023, 1024, 1025, 2047, 2048, 2049}) {
        for (const int window : {0, 1, 64, 960, 1023, 1024, 1025})
            add({32, 2, 1, window, {{p, 1}}});
        add({32, 2, 2, 0, {{p, 3}}, Content::spread});
        add({32, 2, 2, 1000, {{p, 3}}, Content::far});
    }
    for (const int window : {1, 63, 64, 65, 200}) {
        add({32, 3, 1, window, {{0, 140}}});
        add({32, 3, 1, window, {{100000, 20}}});
        add({32, 2, 1, window, {{131071, 2}, {16777000, 1}}});
    }
}

void add_batches() {
    for (const int n :
         {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 31, 32, 33, 64, 65}) {
        add({32, 4, 2, 0, {{50, n}}});
    }
    const std::vector<std::vector<Sequence>> ragged{
        {{0, 1}, {63, 1}, {64, 1}, {1023, 1}, {1024, 1}},
        {{0, 20}, {100, 1}, {1020, 6}, {5, 1}, {130, 17}},
        {{1500, 1}, {0, 1}},
        {{2100, 1}},
        {{65, 1}, {65, 1}, {65, 1}, {65, 1}, {65, 1}, {65, 1}, {65, 1}, {65, 1}, {65, 1}},
    };
    for (const auto& sequences : ragged) {
        for (const auto& [content, name] : kContents) {
            add({64, 4, 1, 0, sequences, content});
            add({48, 6, 2, 90, sequences, content});
        }
    }
}

/// Heads of 64 and 128 elements: runs of tokens that fill tiles of 16 and 32, runs too short for
/// them, every number of query heads, one chunk and several.
void add_tiles() {
    for (const int d : {64, 128}) {
        for (const int n : {7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 65, 100}) {
            add({d, 4, 1, 0, {{0, n}}});
            add({d, 4, 2, 40, {{53, n}}});
        }
        for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {
            add({d, 2 * group, 2, 0, {{30, 40}, {5, 1}, {200, 9}}});
            add({d, group, 1, 0, {{130, 1}, {64, 2}, {63, 1}}});
        }
        for (const int p : {960, 1000, 1015, 1023, 1024, 2030}) {
            for (const int window : {0, 500, 1100}) {
                add({d, 4, 2, window, {{p, 37}}});
                add({d, 3, 1, window, {{p, 1}, {3, 12}}});
            }
        }
        for (const auto& [content, name] : kContents) {
            add({d, 4, 1, 0, {{20, 70}, {1020, 1}, {300, 3}}, content});
            add({d, 4, 1, 0, {{1010, 33}, {0, 16}}, content});
            add({d, 2, 2, 90, {{190, 40}, {1020, 6}}, content});
        }
        add({d, 8, 2, 0, {{3000, 2}, {4095, 1}}});
    }
}

/// Many streams: more (token, KV head, chunk) than a card has multiprocessors, with one to eight
/// for each.
void add_streams() {
    const auto streams = [](int n) {
        std::vector<Sequence> sequences;
        for (int i = 0; i < n; ++i)
            sequences.push_back({i * 37 % 70 / (i % 3 + 1), 1});
        return sequences;
    };
    for (const int d : {64, 128}) {
        for (const int n : {34, 67, 100})
            add({d, 8, 8, n == 67 ? 20 : 0, streams(n)});
    }
    for (const auto& [content, name] : kContents)
        add({128, 8, 8, 0, streams(33), content});
    auto some = streams(36);
    some[1] = {1030, 3};  // two chunks, and runs too short for a tile
    some[2] = {1020, 6};
    some[3] = {127, 7};
    add({64, 8, 8, 100, some});
    add({128, 16, 8, 0, some});
}

const bool kRegistered = [] {
    add_heads();       // ATT-3, ATT-4, ATT-8, ATT-12
    add_boundaries();  // ATT-1, ATT-2, ATT-9, ATT-10
    add_batches();     // ATT-5 to ATT-11, ERR-2
    add_tiles();       // the same on tensor cores
    add_streams();
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
