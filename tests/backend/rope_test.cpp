// SPDX-License-Identifier: Apache-2.0
// RoPE, rotation of heads and the KV cache: queries, and every slot of the cache (RPE-5 to RPE-7,
// ROT-6, QNT-2, ERR-1).
#include "exact/rope.h"

#include <array>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "backend/conformance.h"

namespace etalon::backend::conformance {
namespace {

using exact::RopePairing;

struct Sequence {
    int first;
    int n;
};

struct Shape {
    int head_dim = 64;
    int n_dims = 64;
    int n_heads = 3;
    int n_kv_heads = 1;
    RopePairing pairing = RopePairing::interleaved;
    std::vector<Sequence> sequences{{0, 3}};
    Fill fill = Fill::usual;

    std::string name() const {
        std::string name =
            fmt::format("d{}_r{}_h{}_kv{}_{}_{}", head_dim, n_dims, n_heads, n_kv_heads,
                        pairing == RopePairing::halves ? "halves" : "interleaved", fill_name(fill));
        for (const Sequence& s : sequences)
            name += fmt::format("_{}x{}", s.first, s.n);
        return name;
    }
};

RopeTables tables_of(const Shape& shape, Random& random) {
    constexpr std::array kBases{10000.0F, 5e5F, 1e6F};
    exact::RopeConfig config;
    config.pairing = shape.pairing;
    config.n_dims = shape.n_dims;
    config.base = kBases[static_cast<std::size_t>(random.below(3))];
    RopeTables tables{shape.pairing, {}, random.below(2) == 0 ? 1.0F : 1.2079441F};
    if (shape.n_dims > 0) tables.turns = exact::rope_turns(config);
    return tables;
}

/// Pages that no position has stand in for those before the first of a sequence.
OwnedBatch batch_of(const Shape& shape, int& n_pages) {
    OwnedBatch batch;
    n_pages = 1;
    for (const Sequence& s : shape.sequences) {
        std::vector<std::int32_t> table(static_cast<std::size_t>((s.first + s.n + 63) / 64), 0);
        for (int page = s.first / 64; page <= (s.first + s.n - 1) / 64; ++page)
            table[static_cast<std::size_t>(page)] = n_pages++;
        std::swap(table.back(), table[static_cast<std::size_t>(s.first / 64)]);  // not in order
        batch.add_sequence(s.first, s.n, table);
    }
    return batch;
}

/// Whether the batch writes position `slot` of a page.
std::vector<bool> written_slots(const OwnedBatch& batch, int n_pages) {
    std::vector<bool> written(static_cast<std::size_t>(n_pages) * 64);
    for (std::size_t t = 0; t < batch.positions.size(); ++t) {
        const auto& table = batch.page_tables[static_cast<std::size_t>(batch.sequence_of[t])];
        const auto position = static_cast<std::size_t>(batch.positions[t]);
        written[static_cast<std::size_t>(table[position / 64]) * 64 + position % 64] = true;
    }
    return written;
}

/// Of a slot that was never written only the scale is defined, 0.
void add_slot(const std::string& name, const HostVector& vector, bool written, Outcome& outcome) {
    if (written) {
        outcome.add(name, vector);
    } else {
        outcome.add(name, std::span(&vector.scale, 1));
    }
}

void run_rope(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    int n_pages = 0;
    OwnedBatch batch = batch_of(shape, n_pages);
    const auto n_tokens = static_cast<int>(batch.tokens.size());
    const int heads = shape.n_heads + 2 * shape.n_kv_heads;
    const auto qkv =
        uploaded(backend, random_floats(random, n_tokens * heads, shape.head_dim, shape.fill));
    const auto kv = backend.make_kv_cache({2, shape.n_kv_heads, shape.head_dim, n_pages});
    const auto queries = backend.make_queries(n_tokens + 1, shape.n_heads, shape.head_dim);
    const RopeTables tables = tables_of(shape, random);
    backend.rope_append(batch.view(), *qkv, tables, 1, *kv, *queries);
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
    for (int t = 0; t < n_tokens; ++t) {
        for (int head = 0; head < shape.n_heads; ++head) {
            outcome.add(fmt::format("query of token {} head {}", t, head),
                        backend.read_query(*queries, t, head));
        }
    }
    const std::vector<bool> in_layer_1 = written_slots(batch, n_pages);
    for (int i = 0; i < 2 * n_pages * 64 * shape.n_kv_heads; ++i) {
        const int head = i % shape.n_kv_heads;
        const int slot = i / shape.n_kv_heads % 64;
        const int page = i / shape.n_kv_heads / 64 % n_pages;
        const int layer = i / shape.n_kv_heads / 64 / n_pages;
        const bool written = layer == 1 && in_layer_1[static_cast<std::size_t>(page * 64 + slot)];
        const std::string place =
            fmt::format("layer {} page {} slot {} head {}", layer, page, slot, head);
        add_slot("key " + place, backend.read_key(*kv, layer, page, slot, head), written, outcome);
        add_slot("value " + place, backend.read_value(*kv, layer, page, slot, head), written,
                 outcome);
    }
}

void add(const Shape& shape) {
    add_test("RopeAppend", shape.name(),
             [shape](Backend& backend, Random& random, Outcome& outcome) {
                 run_rope(shape, backend, random, outcome);
             });
}

/// Whole and partial rotary dimensions, on both sides of vectors.
void add_dims(RopePairing pairing) {
    for (const int d : {2, 4, 6, 14, 16, 18, 20, 32, 34, 48, 64, 80, 96, 100, 112, 128, 160, 256}) {
        add({d, d, 3, 1, pairing});
        for (const int r : {2, 6, 16, 24, 32, 50, 64}) {
            if (r < d) add({d, r, 2, 2, pairing, {{5, 2}}});
        }
    }
    add({64, 0, 2, 1, pairing, {{7, 2}}});
    add({512, 512, 1, 1, pairing});
}

void add_batches(RopePairing pairing) {
    for (const auto& [n_heads, n_kv_heads] :
         {std::pair(1, 1), std::pair(4, 1), std::pair(7, 1), std::pair(8, 2), std::pair(12, 4)}) {
        add({32, 32, n_heads, n_kv_heads, pairing, {{0, 5}}});
    }
    for (const int n : {1, 2, 5, 7, 16, 17, 33, 65, 130})
        add({32, 32, 2, 1, pairing, {{60, n}}});
    for (const int first : {0, 63, 64, 127, 1023, 8191, 131071, 16777150})
        add({64, 64, 1, 1, pairing, {{first, 2}}});
    add({64, 64, 3, 1, pairing, {{0, 20}, {63, 1}, {64, 1}, {1000, 3}, {127, 2}}});
    add({80, 80, 2, 2, pairing, {{200000, 1}, {0, 1}, {62, 4}}});
    add({128, 128, 12, 4, pairing, {{0, 3}, {63, 2}}});
    add({64, 64, 9, 3, pairing, {{60, 66}}});
    for (const Fill fill : kFills)
        add({128, 128, 3, 2, pairing, {{0, 9}, {60, 8}}, fill});
    for (const Fill fill : kFills)
        add({80, 48, 3, 2, pairing, {{0, 9}, {60, 8}}, fill});
}

/// More tokens than 128: cards take four at a time, whose values fill runs of slots or do not.
void add_prompts(RopePairing pairing) {
    for (const int d : {64, 128}) {
        add({d, d, 5, 2, pairing, {{0, 133}}});
        add({d, d, 3, 1, pairing, {{61, 1}, {4, 6}, {127, 3}, {1000, 125}}});
        add({d, d, 32, 8, pairing, {{62, 130}}});
        add({d, d, 3, 1, pairing, {{0, 2}, {66, 131}}});  // successive slots of two pages
    }
    for (const Fill fill : kFills) {
        add({128, 128, 3, 2, pairing, {{2, 3}, {64, 130}}, fill});
        for (const int d : {64, 128})
            add({d, d, 3, 2, pairing, {{4, 4}, {64, 130}}, fill});
    }
    add({128, 128, 7, 1, pairing, {{8, 2050}}});  // a warp has more than one head in turn
}

const bool kRegistered = [] {
    for (const RopePairing pairing : {RopePairing::interleaved, RopePairing::halves}) {
        add_dims(pairing);     // RPE-5 to RPE-7, ROT-6
        add_batches(pairing);  // QNT-2, ERR-1, ATT-2
        add_prompts(pairing);
    }
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
