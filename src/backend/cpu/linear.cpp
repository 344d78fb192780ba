// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CPU backend: weights as the kernels read them, input in panels, and the
// split of a product over threads (spec LIN, RES-1).
#include "backend/cpu/linear.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/aligned.h"
#include "backend/cpu/linear_kernels.h"
#include "base/error.h"
#include "exact/linear.h"

namespace etalon::backend::cpu {

namespace {

using exact::Format;
using exact::FormatKind;
using exact::kBlock;

/// Tasks for each thread: with fewer, one slow thread makes all wait.
constexpr int kTasksPerThread = 8;
/// Rows of floats that one task multiplies.
constexpr std::size_t kFloatRows = 4;

std::size_t sz(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

const LinearKernels& kernels_of(Isa isa) {
#if defined(__x86_64__)
    if (isa == Isa::avx2) return kAvx2Linear;
    if (isa == Isa::avx512) return kAvx512Linear;
#endif
    ETALON_ASSERT(isa == Isa::generic);
    return kGenericLinear;
}

/// One tensor of a stack.
struct Part {
    Format format = Format::e8;
    ActivationForm form = kRowInt8;
    std::size_t first_row = 0;  ///< in the stack
    std::size_t n_rows = 0;
    std::size_t unit_rows = 0;           ///< rows of one task
    std::span<const std::byte> mapped;   ///< e8: tiles; e4: lines; floating: rows
    std::span<const std::byte> indices;  ///< e4
    AlignedVector<std::byte> records;    ///< blocked
    AlignedVector<float> d;              ///< e8, e4: [n_rows, up to a whole tile]
};

/// Rows [row, row + part.unit_rows) of a part: what one task multiplies.
struct Unit {
    const Part* part = nullptr;
    std::size_t row = 0;
};

struct CpuLinear final : LinearWeights {
    std::vector<Part> parts;
    AlignedVector<float> bias;
    std::vector<Unit> units;
    const LinearKernels* kernels = nullptr;  ///< whose layout the records have
    bool has_e8 = false;
    bool has_e4 = false;
};

void load_mapped(const weights::Tensor& tensor, const LinearKernels& kernels, Part& part) {
    const std::size_t n_tiles = (part.n_rows + kE8TileRows - 1) / kE8TileRows;
    const std::size_t n_weights = n_tiles * kE8TileRows * sz(tensor.n_cols);
    const bool e4 = tensor.format == Format::e4;
    ETALON_ASSERT(e4 || tensor.format == Format::e8);
    ETALON_ASSERT(sz(tensor.n_cols) % (e4 ? kE4LineColumns : 4) == 0);
    ETALON_ASSERT(sz(tensor.n_cols) <= exact::kLinearKMax);
    ETALON_ASSERT(tensor.data.size() == (e4 ? n_weights / 2 : n_weights));
    ETALON_ASSERT(tensor.indices.size() == (e4 ? n_weights / 32 : 0));
    ETALON_ASSERT(tensor.scales.size() == part.n_rows * sizeof(float));
    part.mapped = tensor.data;
    part.indices = tensor.indices;
    part.d.resize(n_tiles * kE8TileRows);
    std::memcpy(part.d.data(), tensor.scales.data(), tensor.scales.size());
    part.unit_rows = sz(kernels.e8_tiles) * kE8TileRows;
}

void load_blocked(const weights::Tensor& tensor, const LinearKernels& kernels, ThreadPool& pool,
                  Part& part) {
    const std::size_t k = sz(tensor.n_cols);
    const std::size_t width = kernels.width;
    const auto row_bytes = exact::row_bytes(tensor.format, k);
    ETALON_ASSERT(row_bytes.has_value() && tensor.data.size() == part.n_rows * *row_bytes);
    const std::size_t tile_bytes = repacked_bytes(tensor.format, width, width, k);
    const std::size_t n_tiles = (part.n_rows + width - 1) / width;
    part.records.resize(n_tiles * tile_bytes);
    pool.run(static_cast<int>(n_tiles), [&](int i, int) {
        const std::size_t first = sz(i) * width;
        const std::size_t n = std::min(width, part.n_rows - first);
        repack_tile(tensor.format, width, kernels.eight_offset, k,
                    tensor.data.subspan(first * *row_bytes, n * *row_bytes), *row_bytes,
                    part.records.data() + sz(i) * tile_bytes);
    });
    part.unit_rows = width;
}

void group_tokens(int n_tokens, std::span<const int> sizes, std::vector<TokenGroup>& groups) {
    groups.clear();
    for (int first = 0; first < n_tokens;) {
        const auto size =
            std::find_if(sizes.begin(), sizes.end(), [&](int s) { return s <= n_tokens - first; });
        ETALON_ASSERT(size != sizes.end());
        groups.push_back({first, *size});
        first += *size;
    }
}

template <typename T>
void grow(AlignedVector<T>& vector, std::size_t size) {
    if (vector.size() < size) vector.resize(size);
}

/// Token `index` of the output is token `rows[index]` of x, or `index` itself.
std::size_t token_of(std::span<const std::int32_t> rows, int index) {
    return rows.empty() ? sz(index) : sz(rows[sz(index)]);
}

/// Four elements as int16 in the order 0 2 1 3.
void widen_quad(const std::int8_t* q, std::int8_t* out) noexcept {
    const std::int16_t wide[4] = {q[0], q[2], q[1], q[3]};
    std::memcpy(out, wide, sizeof(wide));
}

void pack_quads(const CpuActivations& x, std::span<const std::int32_t> rows,
                const TokenGroup& group, std::size_t quad_bytes, LinearPanels& panels) {
    const std::size_t k = sz(x.n_cols);
    const std::size_t n = sz(group.n);
    std::int8_t* panel = panels.rows.data() + sz(group.first) * (k / 4) * quad_bytes;
    for (std::size_t t = 0; t < n; ++t) {
        const std::int8_t* q =
            x.row_q.data() + token_of(rows, group.first + static_cast<int>(t)) * k;
        for (std::size_t quad = 0; quad < k / 4; ++quad) {
            std::int8_t* to = panel + (quad * n + t) * quad_bytes;
            if (quad_bytes == 4) {
                std::memcpy(to, q + 4 * quad, 4);
            } else {
                widen_quad(q + 4 * quad, to);
            }
        }
    }
}

void pack_runs(const CpuActivations& x, std::span<const std::int32_t> rows, const TokenGroup& group,
               LinearPanels& panels) {
    const std::size_t k = sz(x.n_cols);
    const std::size_t n = sz(group.n);
    std::int8_t* panel = panels.runs.data() + sz(group.first) * k;
    for (std::size_t t = 0; t < n; ++t) {
        const std::int8_t* q =
            x.row_q.data() + token_of(rows, group.first + static_cast<int>(t)) * k;
        for (std::size_t run = 0; run < k / kE4LineColumns; ++run) {
            std::memcpy(panel + (run * n + t) * kE4LineColumns, q + run * kE4LineColumns,
                        kE4LineColumns);
        }
    }
}

/// Scales and sums of tokens, which all panels of rows share.
void pack_scales(const CpuActivations& x, std::span<const std::int32_t> rows,
                 const TokenGroup& group, LinearPanels& panels) {
    const std::size_t k = sz(x.n_cols);
    for (int index = group.first; index < group.first + group.n; ++index) {
        const std::size_t token = token_of(rows, index);
        const std::int8_t* q = x.row_q.data() + token * k;
        std::int32_t sum = 0;
        for (std::size_t i = 0; i < k; ++i)
            sum += q[i];
        panels.row_sums[sz(index)] = sum;
        panels.row_scales[sz(index)] = x.row_scales[token];
    }
}

void pack_blocks(const CpuActivations& x, std::span<const std::int32_t> rows,
                 const TokenGroup& group, LinearPanels& panels) {
    const std::size_t n_blocks = sz(x.n_cols) / kBlock;
    const std::size_t n = sz(group.n);
    QuantizedBlock* panel = panels.blocks.data() + sz(group.first) * n_blocks;
    for (std::size_t t = 0; t < n; ++t) {
        const std::size_t first = token_of(rows, group.first + static_cast<int>(t)) * n_blocks;
        for (std::size_t b = 0; b < n_blocks; ++b) {
            QuantizedBlock& to = panel[b * n + t];
            std::memcpy(to.q, x.block_q.data() + (first + b) * kBlock, kBlock);
            const std::int16_t* sums = x.half_sums.data() + 2 * (first + b);
            to.a = x.block_scales[first + b];
            to.half_sums[0] = sums[0];
            to.half_sums[1] = sums[1];
            to.sum = to.half_sums[0] + to.half_sums[1];
        }
    }
}

/// Whether so many tokens meet E4 weights as they are in the file.
bool takes_runs(const CpuLinear& w, int n_tokens) {
    return w.has_e4 && n_tokens <= w.kernels->e4_tokens_max;
}
/// Whether tiles of E8 are multiplied, those of E4 in them.
bool takes_quads(const CpuLinear& w, int n_tokens) {
    return w.has_e8 || (w.has_e4 && !takes_runs(w, n_tokens));
}

void pack_row_int8(const CpuActivations& x, std::span<const std::int32_t> rows, int n_tokens,
                   const CpuLinear& w, ThreadPool& pool, LinearPanels& panels) {
    const std::size_t n = sz(n_tokens);
    const std::size_t k = sz(x.n_cols);
    const auto quad_bytes = sz(w.kernels->e8_quad_bytes);
    const auto for_groups = [&](const std::vector<TokenGroup>& groups, const auto& pack_group) {
        pool.run(static_cast<int>(groups.size()), [&](int i, int) { pack_group(groups[sz(i)]); });
    };
    grow(panels.row_scales, n);
    grow(panels.row_sums, n);
    const bool quads = takes_quads(w, n_tokens);
    if (quads) {
        group_tokens(n_tokens, w.kernels->e8_groups, panels.row_groups);
        grow(panels.rows, n * (k / 4) * quad_bytes);
        for_groups(panels.row_groups, [&](const TokenGroup& group) {
            pack_quads(x, rows, group, quad_bytes, panels);
            pack_scales(x, rows, group, panels);
        });
    }
    if (!takes_runs(w, n_tokens)) return;
    group_tokens(n_tokens, w.kernels->e4_groups, panels.run_groups);
    grow(panels.runs, n * k);
    for_groups(panels.run_groups, [&](const TokenGroup& group) {
        pack_runs(x, rows, group, panels);
        if (!quads) pack_scales(x, rows, group, panels);
    });
}

void pack(const CpuActivations& x, std::span<const std::int32_t> rows, int n_tokens,
          const CpuLinear& w, ThreadPool& pool, LinearPanels& panels) {
    panels.row_groups.clear();
    panels.run_groups.clear();
    panels.block_groups.clear();
    if ((w.forms_needed & kRowInt8) != 0) pack_row_int8(x, rows, n_tokens, w, pool, panels);
    if ((w.forms_needed & kBlockInt8) != 0) {
        group_tokens(n_tokens, w.kernels->blocked_groups, panels.block_groups);
        grow(panels.blocks, sz(n_tokens) * (sz(x.n_cols) / kBlock));
        pool.run(static_cast<int>(panels.block_groups.size()),
                 [&](int i, int) { pack_blocks(x, rows, panels.block_groups[sz(i)], panels); });
    }
}

/// One call of Linear::run.
struct Product {
    const LinearKernels& kernels;
    const CpuLinear& w;
    const CpuActivations& x;
    std::span<const std::int32_t> rows;
    int n_tokens;
    const LinearPanels& panels;
    Store store;
    float* y;

    LinearOutput output(const Unit& unit, int first_token) const;
    /// Share `share` of `n_shares` of the tokens. `room` is the thread's own.
    void run_unit(const Unit& unit, int share, int n_shares, AlignedVector<std::byte>& room) const;
    RowPanel row_panel(const AlignedVector<std::int8_t>& panel, std::size_t element_bytes,
                       const TokenGroup& group) const;
    /// `lines`: the unit's tiles.
    void run_e8(const Unit& unit, const std::byte* lines, const TokenGroup& group) const;
    E4Tile e4_tile(const Part& part, std::size_t row) const;
    void run_e4(const Unit& unit, const TokenGroup& group) const;
    void expand(const Unit& unit, AlignedVector<std::byte>& room) const;
    void run_floats(const Unit& unit, int first_token, int end_token) const;
};

LinearOutput Product::output(const Unit& unit, int first_token) const {
    const std::size_t row = unit.part->first_row + unit.row;
    return {y + sz(first_token) * sz(w.n_rows) + row, sz(w.n_rows),
            w.bias.empty() ? nullptr : w.bias.data() + row, store == Store::add,
            std::min(unit.part->unit_rows, unit.part->n_rows - unit.row)};
}

RowPanel Product::row_panel(const AlignedVector<std::int8_t>& panel, std::size_t element_bytes,
                            const TokenGroup& group) const {
    const std::size_t first = sz(group.first);
    return {panel.data() + first * sz(w.n_cols) * element_bytes, panels.row_scales.data() + first,
            panels.row_sums.data() + first, group.n};
}

void Product::run_e8(const Unit& unit, const std::byte* lines, const TokenGroup& group) const {
    const LinearOutput out = output(unit, group.first);
    const auto n_tiles = static_cast<int>((out.n_rows + kE8TileRows - 1) / kE8TileRows);
    kernels.e8({lines, unit.part->d.data() + unit.row, n_tiles}, sz(w.n_cols),
               row_panel(panels.rows, sz(kernels.e8_quad_bytes) / 4, group), out);
}

E4Tile Product::e4_tile(const Part& part, std::size_t row) const {
    const std::size_t weight = row * sz(w.n_cols);
    return {part.mapped.data() + weight / 2, part.indices.data() + weight / 32,
            part.d.data() + row};
}

void Product::run_e4(const Unit& unit, const TokenGroup& group) const {
    const LinearOutput out = output(unit, group.first);
    const RowPanel panel = row_panel(panels.runs, 1, group);
    for (std::size_t row = 0; row < out.n_rows; row += kE8TileRows) {
        const LinearOutput tile{out.y + row, out.stride,
                                out.bias == nullptr ? nullptr : out.bias + row, out.add,
                                std::min(kE8TileRows, out.n_rows - row)};
        kernels.e4(e4_tile(*unit.part, unit.row + row), sz(w.n_cols), panel, tile);
    }
}

void Product::expand(const Unit& unit, AlignedVector<std::byte>& room) const {
    const std::size_t k = sz(w.n_cols);
    grow(room, unit.part->unit_rows * k);
    for (std::size_t row = 0; row < output(unit, 0).n_rows; row += kE8TileRows)
        kernels.expand_e4(e4_tile(*unit.part, unit.row + row), k, room.data() + row * k);
}

void Product::run_floats(const Unit& unit, int first_token, int end_token) const {
    const std::size_t k = sz(w.n_cols);
    const std::size_t bytes = *exact::row_bytes(unit.part->format, k);
    std::vector<float> row(k);
    for (std::size_t r = 0; r < output(unit, first_token).n_rows; ++r) {
        exact::dequantize_row(unit.part->format,
                              unit.part->mapped.subspan((unit.row + r) * bytes, bytes), row);
        for (int t = first_token; t < end_token; ++t) {
            const LinearOutput out = output(unit, t);
            float v = kernels.dot_floats(row.data(), x.floats.data() + token_of(rows, t) * k, k);
            if (out.bias != nullptr) v += out.bias[r];
            out.y[r] = out.add ? out.y[r] + v : v;  // RES-1
        }
    }
}

void Product::run_unit(const Unit& unit, int share, int n_shares,
                       AlignedVector<std::byte>& room) const {
    const Part& part = *unit.part;
    const bool e4 = part.format == Format::e4;
    const bool runs = e4 && takes_runs(w, n_tokens);
    const auto bound = [&](int i, std::size_t n) { return sz(i) * n / sz(n_shares); };
    if (part.form == kFloating) {
        const std::size_t n = sz(n_tokens);
        return run_floats(unit, static_cast<int>(bound(share, n)),
                          static_cast<int>(bound(share + 1, n)));
    }
    const auto& groups = part.form == kBlockInt8 ? panels.block_groups
                         : runs                  ? panels.run_groups
                                                 : panels.row_groups;
    const std::size_t begin = bound(share, groups.size());
    const std::size_t end = bound(share + 1, groups.size());
    const std::size_t k = sz(w.n_cols);
    if (part.form == kRowInt8) {
        if (e4 && !runs && begin < end) expand(unit, room);
        const std::byte* lines = e4 ? room.data() : part.mapped.data() + unit.row * k;
        for (std::size_t g = begin; g < end; ++g)
            runs ? run_e4(unit, groups[g]) : run_e8(unit, lines, groups[g]);
        return;
    }
    const BlockedKernel kernel = kernels.blocked(part.format);
    const std::size_t tile = unit.row / kernels.width;
    const std::byte* records =
        part.records.data() + tile * repacked_bytes(part.format, kernels.width, kernels.width, k);
    for (std::size_t g = begin; g < end; ++g) {
        const BlockPanel panel{panels.blocks.data() + sz(groups[g].first) * (k / kBlock),
                               groups[g].n};
        kernel(records, k, panel, output(unit, groups[g].first));
    }
}

}  // namespace

Linear::Linear(Isa isa) : kernels_(kernels_of(isa)) {}

std::uint64_t Linear::bytes(const weights::Tensor& tensor) const {
    if (form_of(tensor.format) != kBlockInt8) return tensor.bytes();
    return repacked_bytes(tensor.format, kernels_.width, sz(tensor.n_rows), sz(tensor.n_cols));
}

std::unique_ptr<LinearWeights> Linear::load(ThreadPool& pool,
                                            std::span<const weights::Tensor* const> parts,
                                            std::span<const float> bias) const {
    ETALON_ASSERT(!parts.empty());
    auto w = std::make_unique<CpuLinear>();
    w->kernels = &kernels_;
    w->n_cols = static_cast<int>(parts.front()->n_cols);
    w->parts.reserve(parts.size());  // units point to parts
    for (const weights::Tensor* tensor : parts) {
        ETALON_ASSERT(tensor->n_cols == w->n_cols && tensor->n_rows >= 1);
        Part& part = w->parts.emplace_back();
        part.format = tensor->format;
        part.form = form_of(tensor->format);
        part.first_row = sz(w->n_rows);
        part.n_rows = sz(tensor->n_rows);
        if (part.form == kRowInt8) {
            load_mapped(*tensor, kernels_, part);
            (tensor->format == Format::e4 ? w->has_e4 : w->has_e8) = true;
        } else if (part.form == kBlockInt8) {
            load_blocked(*tensor, kernels_, pool, part);
        } else {
            part.mapped = tensor->data;
            part.unit_rows = kFloatRows;
        }
        for (std::size_t row = 0; row < part.n_rows; row += part.unit_rows) {
            w->units.push_back({&part, row});
        }
        w->n_rows += static_cast<int>(tensor->n_rows);
        w->forms_needed |= part.form;
    }
    ETALON_ASSERT(bias.empty() || bias.size() == sz(w->n_rows));
    w->bias.assign(bias.begin(), bias.end());
    return w;
}

void Linear::run(ThreadPool& pool, const CpuActivations& x, const LinearWeights& base, int n_tokens,
                 std::span<const std::int32_t> rows, Store store, float* y) {
    const auto& w = static_cast<const CpuLinear&>(base);
    ETALON_ASSERT(w.kernels == &kernels_ && w.n_cols == x.n_cols);
    if (!rows.empty()) n_tokens = static_cast<int>(rows.size());
    pack(x, rows, n_tokens, w, pool, panels_);
    tiles_.resize(sz(pool.n_threads()));
    const Product product{kernels_, w, x, rows, n_tokens, panels_, store, y};
    // A task is a range of units, so that a thread reads weights in one stream. Few units and many
    // threads: the tokens are split as well.
    const auto n_units = static_cast<int>(w.units.size());
    const int n_tasks = kTasksPerThread * pool.n_threads();
    const int n_ranges = std::min(n_units, n_tasks);
    const int n_groups =
        static_cast<int>(std::max({panels_.row_groups.size(), panels_.run_groups.size(),
                                   panels_.block_groups.size(), std::size_t{1}}));
    const int n_shares = std::clamp(n_tasks / n_units, 1, n_groups);
    pool.run(n_ranges * n_shares, [&](int i, int thread) {
        const auto bound = [&](int range) { return sz(range) * sz(n_units) / sz(n_ranges); };
        const int range = i / n_shares;
        for (std::size_t unit = bound(range); unit < bound(range + 1); ++unit)
            product.run_unit(w.units[unit], i % n_shares, n_shares, tiles_[sz(thread)]);
    });
}

}  // namespace etalon::backend::cpu
