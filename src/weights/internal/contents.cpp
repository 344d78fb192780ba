// SPDX-License-Identifier: Apache-2.0
// Checks that all readers share: which tensors a transformer has, and that every scale is finite.
#include "weights/internal/contents.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <unordered_map>

#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::weights {

namespace {

using exact::Format;
using exact::FormatKind;

/// More threads do not make the check faster: it waits for memory.
constexpr int kCheckThreadsMax = 16;
/// Bytes that one task of the check reads.
constexpr std::size_t kCheckBytes = std::size_t{1} << 20;
/// Tasks between two pauses.
constexpr std::size_t kCheckRangesWave = 256;

void add_layer(std::vector<TensorShape>& out, const ModelConfig& config, int index) {
    const std::string prefix = fmt::format("blk.{}.", index);
    const std::int64_t dim = config.dim;
    const std::int64_t hidden = config.hidden_dim;
    const std::int64_t q_dim = std::int64_t{config.n_heads} * config.head_dim;
    const std::int64_t kv_dim = std::int64_t{config.n_kv_heads} * config.head_dim;
    const auto vector = [&](const char* name) {
        out.push_back({prefix + name + ".weight", 1, dim, true, false});
    };
    const auto matrix = [&](const char* name, std::int64_t n_rows, std::int64_t n_cols) {
        out.push_back({prefix + name + ".weight", n_rows, n_cols, false, false});
        out.push_back({prefix + name + ".bias", 1, n_rows, true, true});
    };
    vector("attn_norm");
    matrix("attn_q", q_dim, dim);
    matrix("attn_k", kv_dim, dim);
    matrix("attn_v", kv_dim, dim);
    matrix("attn_output", dim, q_dim);
    vector("ffn_norm");
    matrix("ffn_gate", hidden, dim);
    matrix("ffn_up", hidden, dim);
    matrix("ffn_down", dim, hidden);
}

void check_one(const Tensor& tensor, const TensorShape& shape, const std::string& file) {
    const std::string field = "tensor " + tensor.name;
    if (tensor.n_rows != shape.n_rows || tensor.n_cols != shape.n_cols) {
        refuse(file, field,
               fmt::format("is {} x {}, the configuration says {} x {}", tensor.n_rows,
                           tensor.n_cols, shape.n_rows, shape.n_cols));
    }
    const exact::FormatInfo& info = exact::format_info(tensor.format);
    if (shape.is_vector && tensor.format != Format::f32 && info.kind != FormatKind::floating) {
        refuse(file, field, fmt::format("is {}, must be a floating type", info.name));
    }
    if (info.kind == FormatKind::blocked && shape.n_cols % exact::kBlock != 0) {
        refuse(file, field, "its rows are no whole blocks");
    }
}

/// Rows of one tensor that one task looks at.
struct RowRange {
    const Tensor* tensor;
    std::int64_t begin;
    std::int64_t end;
};

std::vector<RowRange> split_rows(const std::vector<Tensor>& tensors) {
    std::vector<RowRange> out;
    for (const Tensor& tensor : tensors) {
        const std::size_t row = tensor.data.size() / static_cast<std::size_t>(tensor.n_rows) + 1;
        const auto step = static_cast<std::int64_t>(std::max<std::size_t>(kCheckBytes / row, 1));
        // Groups of 16 rows of a tiled tensor stay together.
        const std::int64_t rows = (step + 15) / 16 * 16;
        for (std::int64_t begin = 0; begin < tensor.n_rows; begin += rows)
            out.push_back({&tensor, begin, std::min(begin + rows, tensor.n_rows)});
    }
    return out;
}

constexpr std::int64_t kAllGood = std::numeric_limits<std::int64_t>::max();

/// The first row with a scale that is negative or not finite.
std::int64_t bad_scale(const RowRange& range) {
    for (std::int64_t row = range.begin; row < range.end; ++row) {
        std::uint32_t bits = 0;
        std::memcpy(&bits, range.tensor->scales.data() + row * 4, sizeof(bits));
        constexpr std::uint32_t kInfinity = 0x7F800000;  // and above: NaN and negative values
        if (bits >= kInfinity) return row;
    }
    return kAllGood;
}

/// True when a byte of the rows is -128, which no product rule covers (LIN-2).
bool has_minus_128(const RowRange& range) {
    const auto size = range.tensor->data.size();
    const auto n_rows = static_cast<std::size_t>((range.tensor->n_rows + 15) / 16 * 16);
    const std::size_t padded =
        size % n_rows == 0 ? n_rows : static_cast<std::size_t>(range.tensor->n_rows);
    const std::size_t row = size / padded;
    const auto begin = static_cast<std::size_t>(range.begin) * row;
    // The last range takes the zero rows of the last tile along.
    const bool last = range.end == range.tensor->n_rows;
    const std::size_t end = last ? size : static_cast<std::size_t>(range.end) * row;
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(range.tensor->data.data());
    unsigned found = 0;
    for (std::size_t i = begin; i < end; ++i)
        found |= static_cast<unsigned>(bytes[i] == 0x80);
    return found != 0;
}

std::int64_t first_bad_row(const RowRange& range) {
    const Tensor& tensor = *range.tensor;
    if (tensor.format == Format::e4) return bad_scale(range);  // every code and index is a weight
    if (tensor.format == Format::e8) {
        const std::int64_t row = bad_scale(range);
        return row == kAllGood && has_minus_128(range) ? range.begin : row;
    }
    const auto n_cols = static_cast<std::size_t>(tensor.n_cols);
    const std::size_t bytes = *exact::row_bytes(tensor.format, n_cols);
    for (std::int64_t row = range.begin; row < range.end; ++row) {
        const auto data = tensor.data.subspan(static_cast<std::size_t>(row) * bytes, bytes);
        if (!exact::row_is_finite(tensor.format, data, n_cols)) return row;
    }
    return kAllGood;
}

[[noreturn]] void refuse_row(const Tensor& tensor, std::int64_t row, const std::string& file) {
    const char* reason = "holds infinity or NaN";
    if (tensor.format == Format::e8)
        reason = "or one near it holds -128 or a scale that is negative or not finite";
    if (tensor.format == Format::e4) reason = "has a scale that is negative or not finite";
    refuse(file, "tensor " + tensor.name, fmt::format("row {} {}", row, reason));
}

}  // namespace

void refuse(const std::string& file, std::string_view field, std::string_view reason) {
    throw Error(ExitCode::invalid,
                fmt::format("{}: {} ({})", printable(field), reason, printable(file)));
}

std::vector<TensorShape> model_tensors(const ModelConfig& config) {
    std::vector<TensorShape> out;
    out.push_back({"token_embd.weight", config.vocab_size, config.dim, false, false});
    for (int i = 0; i < config.n_layers; ++i)
        add_layer(out, config, i);
    out.push_back({"output_norm.weight", 1, config.dim, true, false});
    out.push_back({"output.weight", config.vocab_size, config.dim, false, true});
    out.push_back({"output.bias", 1, config.vocab_size, true, true});
    return out;
}

void check_tensors(ModelContents& model, const std::string& file) {
    std::unordered_map<std::string_view, const Tensor*> by_name;
    for (const Tensor& tensor : model.tensors) {
        if (!by_name.emplace(tensor.name, &tensor).second) {
            refuse(file, "tensor " + tensor.name, "is there twice");
        }
    }
    std::size_t known = 0;
    for (const TensorShape& shape : model_tensors(model.config)) {
        const auto found = by_name.find(shape.name);
        if (found == by_name.end()) {
            if (!shape.is_optional) refuse(file, "tensor " + shape.name, "is missing");
            continue;
        }
        check_one(*found->second, shape, file);
        by_name.erase(found);
        ++known;
    }
    if (known != model.tensors.size()) {
        // The first in the order of the file, so that the message does not depend on a hash.
        const auto unknown =
            std::find_if(model.tensors.begin(), model.tensors.end(),
                         [&](const Tensor& tensor) { return by_name.count(tensor.name) != 0; });
        refuse(file, "tensor " + unknown->name, "is not part of a model of this architecture");
    }
    model.config.tied_embeddings =
        std::none_of(model.tensors.begin(), model.tensors.end(),
                     [](const Tensor& tensor) { return tensor.name == "output.weight"; });
}

void check_finite(const std::vector<Tensor>& tensors, const std::string& file,
                  const std::function<void()>& pause) {
    const std::vector<RowRange> ranges = split_rows(tensors);
    ThreadPool pool(std::min(usable_processors(), kCheckThreadsMax));
    for (std::size_t begin = 0; begin < ranges.size(); begin += kCheckRangesWave) {
        const std::size_t n_ranges = std::min(kCheckRangesWave, ranges.size() - begin);
        std::array<std::int64_t, kCheckRangesWave> bad{};
        pool.run(static_cast<int>(n_ranges), [&](int task, int) {
            const auto i = static_cast<std::size_t>(task);
            bad[i] = first_bad_row(ranges[begin + i]);
        });
        for (std::size_t i = 0; i < n_ranges; ++i) {
            if (bad[i] != kAllGood) refuse_row(*ranges[begin + i].tensor, bad[i], file);
        }
        if (pause) pause();
    }
}

void fit_vocabulary(text::TokenizerData& tokenizer, const ModelConfig& config,
                    const std::string& file) {
    const auto rows = static_cast<std::size_t>(config.vocab_size);
    if (tokenizer.tokens.size() > rows) {
        refuse(
            file, "tokenizer",
            fmt::format("has {} tokens, the embedding has {} rows", tokenizer.tokens.size(), rows));
    }
    while (tokenizer.tokens.size() < rows) {
        tokenizer.tokens.push_back(fmt::format("<unused id {}>", tokenizer.tokens.size()));
        tokenizer.types.push_back(text::TokenType::unused);
        if (!tokenizer.scores.empty()) tokenizer.scores.push_back(0.0F);
    }
}

}  // namespace etalon::weights
