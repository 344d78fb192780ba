// SPDX-License-Identifier: Apache-2.0
// Operations of a layer, one by one.
#include "cli/operations_bench.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <numeric>
#include <string_view>

#include "cli/load.h"

#include "exact/attention.h"
#include "model/memory.h"
#include "model/transformer.h"

namespace etalon::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// Sequences of as many tokens each, and the pages that they fill.
struct Tokens {
    std::vector<std::int32_t> ids;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> sequence_of;
    std::vector<std::vector<std::int32_t>> pages;
    std::vector<std::uint8_t> failed;

    Tokens(int n_sequences, int n_before, int n_each, int vocab_size)
        : ids(some_tokens(n_sequences * n_each, vocab_size)), failed(ids.size()) {
        const int n_pages = (n_before + n_each + exact::kPageTokens - 1) / exact::kPageTokens;
        for (int s = 0; s < n_sequences; ++s) {
            pages.emplace_back(static_cast<std::size_t>(n_pages));
            std::iota(pages.back().begin(), pages.back().end(), s * n_pages);
            for (int i = 0; i < n_each; ++i) {
                positions.push_back(n_before + i);
                sequence_of.push_back(s);
            }
        }
    }
    int n_pages() const { return static_cast<int>(pages.size() * pages.front().size()); }
    backend::Batch view() { return {ids, positions, sequence_of, pages, failed}; }
};

double seconds_of(backend::Backend& device, const backend::Batch& batch, int n_layers,
                  const std::function<void(int)>& run) {
    const auto pass = [&](int n_rounds) {
        const Clock::time_point start = Clock::now();
        device.begin(batch);
        for (int i = 0; i < n_rounds * n_layers; ++i)
            run(i % n_layers);
        device.finish(batch);
        return std::chrono::duration<double>(Clock::now() - start).count();
    };
    constexpr double kSecondsMin = 0.02;  // the start and the end of a pass do not count then
    constexpr int kRoundsMax = 200;
    constexpr int kRuns = 5;
    pass(1);
    const int n_rounds = std::clamp(static_cast<int>(kSecondsMin / pass(1)), 1, kRoundsMax);
    std::vector<double> seconds;
    for (int i = 0; i < kRuns; ++i)
        seconds.push_back(pass(n_rounds) / (n_rounds * n_layers));
    std::nth_element(seconds.begin(), seconds.begin() + kRuns / 2, seconds.end());
    return seconds[kRuns / 2];
}

/// Keys that all tokens of a batch see together.
double visible_keys(const std::vector<std::int32_t>& positions, int sliding_window) {
    double n = 0.0;
    for (const std::int32_t position : positions) {
        const auto visible = exact::visible_keys(position, sliding_window);
        n += static_cast<double>(visible.last - visible.first + 1);
    }
    return n;
}

/// The model was loaded, so that it has the tensor.
const weights::Tensor& tensor_of(const weights::ModelFile& file, const std::string& name) {
    const auto& all = file.tensors();
    return *std::find_if(all.begin(), all.end(),
                         [&](const weights::Tensor& tensor) { return tensor.name == name; });
}

OperationsTable measure_table(const weights::ModelFile& file, model::Transformer& transformer,
                              std::string name, Tokens tokens) {
    const weights::ModelConfig& config = file.config();
    backend::Backend& device = transformer.device();
    const auto kv = transformer.make_kv_cache(tokens.n_pages());
    const backend::Batch batch = tokens.view();
    OperationsTable table{std::move(name), batch.n_tokens(), {}};
    // Products of zeros would take less power: h, queries and keys are those of a pass.
    const auto no_logits = device.make_floats(1);
    transformer.forward(batch, {}, *kv, *no_logits);
    for (const model::LayerOperation& operation : transformer.layer_operations(batch, *kv)) {
        OperationTime time;
        time.name = operation.name;
        for (const std::string& matrix : operation.matrices) {
            const weights::Tensor& tensor = tensor_of(file, fmt::format("blk.0.{}.weight", matrix));
            time.bytes += static_cast<double>(tensor.bytes());
            time.operations += 2.0 * static_cast<double>(tensor.n_rows) *
                               static_cast<double>(tensor.n_cols) * batch.n_tokens() *
                               operation.token_share;
        }
        if (operation.name == "attention") {
            const double keys = visible_keys(tokens.positions, config.sliding_window);
            time.operations = 4.0 * config.head_dim * config.n_heads * keys;
            // The tokens of a prompt share its keys; each stream has its own.
            const bool prompt = batch.n_tokens() > 1 && tokens.pages.size() == 1;
            const double read = prompt ? batch.n_tokens() : keys;
            time.bytes = read * 2.0 * config.n_kv_heads * (config.head_dim + double{sizeof(float)});
        }
        time.seconds = seconds_of(device, batch, config.n_layers, operation.run);
        table.rows.push_back(std::move(time));
    }
    return table;
}

}  // namespace

std::vector<OperationsTable> measure_operations(const weights::ModelFile& file,
                                                backend::Backend& device, int n_prompt,
                                                int n_streams, int n_context) {
    const int batch = std::max({n_prompt, n_streams, 1});
    const int n_cached = std::max(n_prompt, n_streams * (n_context + exact::kPageTokens));
    model::check_memory(file, device, n_cached, batch, model::available_memory(device));
    model::Transformer transformer(file, device, batch);
    const int vocab = file.config().vocab_size;
    std::vector<OperationsTable> tables;
    if (n_prompt > 0) {
        tables.push_back(measure_table(file, transformer,
                                       fmt::format("a prompt of {} tokens", n_prompt),
                                       Tokens(1, 0, n_prompt, vocab)));
    }
    if (n_streams > 0) {
        tables.push_back(measure_table(
            file, transformer, fmt::format("{} streams behind {} tokens", n_streams, n_context),
            Tokens(n_streams, n_context, 1, vocab)));
    }
    return tables;
}

}  // namespace etalon::cli
