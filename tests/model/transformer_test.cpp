// SPDX-License-Identifier: Apache-2.0
// Chunks, decoding, cut answers, ragged batches, threads and instruction sets change no bit of a
// tiny model's logits (FWD-1 to FWD-5, DIG-2, ROT-1), E8 and GGUF.
#include "model/transformer.h"

#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/cuda/cuda.h"
#include "exact/attention.h"
#include "model/memory.h"
#include "model/session.h"
#include "model/tiny_model.h"
#include "weights/synthetic.h"

namespace etalon::model {
namespace {

using backend::Backend;
using backend::Isa;
using backend::conformance::Random;
using exact::Format;
using Tokens = std::vector<std::int32_t>;
using Checksums = std::vector<std::uint64_t>;

constexpr int kTokensMax = 160;
constexpr int kPrompt = 150;

/// What a Q4_K_M file looks like, with floats among it.
Format mixed(const std::string& name) {
    if (name.find("attn_v") != std::string::npos || name == "output.weight") return Format::q6_k;
    if (name.find("ffn_down") != std::string::npos) return Format::q5_0;
    if (name.find("blk.1.ffn_up") != std::string::npos) return Format::bf16;
    if (name == "token_embd.weight") return Format::q8_0;
    return Format::q4_k;
}

/// Models by name, written once.
const weights::ModelFile& model_file(const std::string& name) {
    static std::map<std::string, std::unique_ptr<tiny::TemporaryModel>> models;
    auto& model = models[name];
    if (model) return model->file();
    weights::ModelConfig config = tiny::config();
    if (name == "e8") {
        model = tiny::make_e8(config);
    } else if (name == "e4") {
        model = tiny::make_e4(config, {{"attn_q", "attn_k", "attn_v", "ffn_down"}});
    } else if (name == "e8_window") {
        config.sliding_window = 70;
        config.rope.pairing = exact::RopePairing::halves;
        config.rope.n_dims = 32;
        model = tiny::make_e8(config, {{"attn_q", "attn_k", "attn_v", "ffn_down"}});
    } else if (name == "e8_experts") {
        model = tiny::make_e8(tiny::experts_config());
    } else if (name == "e4_experts") {
        model = tiny::make_e4(tiny::experts_config());
    } else if (name == "mixed_experts") {
        model = tiny::make_gguf(tiny::experts_config(), mixed);
    } else if (name == "q8_0_tied") {
        model = tiny::make_gguf(config, [](const auto&) { return Format::q8_0; },
                                {{"attn_q", "attn_k", "attn_v"}, false});
    } else {
        model = tiny::make_gguf(config, mixed);
    }
    return model->file();
}

Tokens random_tokens(std::uint64_t seed, int n) {
    Random random(seed);
    Tokens tokens(static_cast<std::size_t>(n));
    for (std::int32_t& token : tokens)
        token = random.below(tiny::config().vocab_size);
    return tokens;
}

Checksums run(Transformer& transformer, const Tokens& tokens, int chunk) {
    Session session(transformer, transformer.config().context_length);
    session.append(tokens, chunk, LogitsWanted::all);
    return session.checksums();
}

/// By name of the model: what the reference gives for the usual prompt.
const Checksums& reference(const std::string& name) {
    static std::map<std::string, Checksums> known;
    Checksums& checksums = known[name];
    if (checksums.empty()) {
        const auto exact = backend::make_exact_backend(2);
        Transformer transformer(model_file(name), *exact, kTokensMax);
        checksums = run(transformer, random_tokens(1, kPrompt), 0);
    }
    return checksums;
}

/// A model, on the CPU or on the first card.
struct Setup {
    std::string model;
    bool card;
};

class TransformerTest : public testing::TestWithParam<Setup> {
  protected:
    void SetUp() override {
        const std::string why = backend::conformance::why_no_card();
        if (GetParam().card && !why.empty()) GTEST_SKIP() << "no CUDA card is tested: " << why;
        backend_ = GetParam().card ? backend::make_cuda_backend(0)
                                   : backend::make_cpu_backend(backend::choose_isa(nullptr), 1);
        loaded_.emplace(model_file(model()), *backend_, kTokensMax);
    }

    static const std::string& model() { return GetParam().model; }
    Transformer& transformer() { return *loaded_; }

    std::unique_ptr<Backend> backend_;
    std::optional<Transformer> loaded_;
    Tokens prompt_ = random_tokens(1, kPrompt);
};

TEST_P(TransformerTest, every_instruction_set_gives_the_bits_of_the_reference) {
    const Checksums& want = reference(model());
    EXPECT_EQ(want.size(), prompt_.size());
    EXPECT_NE(want.front(), want.back());
    EXPECT_EQ(run(transformer(), prompt_, 0), want);
    if (GetParam().card) return;
    for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512}) {
        if (!backend::isa_is_available(isa)) continue;
        for (const int n_threads : {1, 3}) {
            const auto backend = backend::make_cpu_backend(isa, n_threads);
            Transformer transformer(model_file(model()), *backend, kTokensMax);
            EXPECT_EQ(run(transformer, prompt_, 0), want)
                << backend->name() << ", " << n_threads << " threads";
        }
    }
}

TEST_P(TransformerTest, FWD_4_chunks_change_no_bit) {
    for (const int chunk : {1, 7, 63, 64, 65, 0})
        EXPECT_EQ(run(transformer(), prompt_, chunk), reference(model())) << "chunk " << chunk;
}

TEST_P(TransformerTest, a_small_batch_changes_no_bit) {
    Transformer small(model_file(model()), *backend_, 5);
    EXPECT_EQ(run(small, prompt_, 0), reference(model()));
}

TEST_P(TransformerTest, DIG_2_decoding_gives_the_bits_of_one_pass) {
    Session session(transformer(), 300);
    session.append(std::span(prompt_).first(20), 0, LogitsWanted::all);
    for (int i = 0; i < 60; ++i) {  // the largest logit
        const auto logits = session.last_logits();
        const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
        const auto next = static_cast<std::int32_t>(best);
        session.append({&next, 1}, 0, LogitsWanted::last);
    }
    EXPECT_EQ(session.checksums(), run(transformer(), session.tokens(), 0));
}

TEST_P(TransformerTest, last_logits_are_those_of_all) {
    Session session(transformer(), 300);
    session.append(prompt_, 40, LogitsWanted::last);
    Checksums want(prompt_.size(), 0);
    want.back() = reference(model()).back();
    EXPECT_EQ(session.checksums(), want);
}

TEST_P(TransformerTest, a_cut_session_goes_on_as_a_new_one) {
    for (const int kept : {0, 1, 63, 64, 65, 128}) {
        Session session(transformer(), 300);
        session.append(random_tokens(2, 140), 0, LogitsWanted::all);
        session.truncate(kept);
        Tokens tokens = session.tokens();
        EXPECT_EQ(tokens.size(), static_cast<std::size_t>(kept));
        const Tokens rest = random_tokens(3, 30);
        session.append(rest, 11, LogitsWanted::all);
        tokens.insert(tokens.end(), rest.begin(), rest.end());
        EXPECT_EQ(session.tokens(), tokens);
        EXPECT_EQ(session.checksums(), run(transformer(), tokens, 0)) << kept << " tokens kept";
    }
}

/// Sequences that share a cache and every batch.
struct Ragged {
    std::vector<Tokens> sequences;
    std::vector<std::size_t> done;
    std::vector<std::vector<std::int32_t>> page_tables;

    /// Gives `n_pages` pages to the sequences in turn, the last page first.
    Ragged(std::vector<Tokens> all, int n_pages)
        : sequences(std::move(all)), done(sequences.size()), page_tables(sequences.size()) {
        for (int page = n_pages; page-- > 0;)
            page_tables[static_cast<std::size_t>(page) % page_tables.size()].push_back(page);
    }
};

/// Runs up to `steps[i]` further tokens of sequence i in one batch; their checksums by sequence.
void step(Transformer& transformer, const std::vector<int>& steps, backend::KvCache& kv,
          Ragged& ragged, std::vector<Checksums>& checksums) {
    backend::conformance::OwnedBatch batch;
    std::vector<std::size_t> sequence_of_row;
    for (std::size_t i = 0; i < steps.size(); ++i) {
        const std::size_t left = ragged.sequences[i].size() - ragged.done[i];
        const std::size_t n = std::min(left, static_cast<std::size_t>(steps[i]));
        const std::size_t before = batch.tokens.size();
        batch.add_sequence(static_cast<int>(ragged.done[i]), static_cast<int>(n),
                           ragged.page_tables[i]);
        for (std::size_t t = 0; t < n; ++t)
            batch.tokens[before + t] = ragged.sequences[i][ragged.done[i] + t];
        sequence_of_row.insert(sequence_of_row.end(), n, i);
        ragged.done[i] += n;
    }
    std::vector<std::int32_t> rows(batch.tokens.size());
    std::iota(rows.begin(), rows.end(), 0);
    const int vocab = transformer.config().vocab_size;
    auto logits = transformer.device().make_floats(rows.size() * static_cast<std::size_t>(vocab));
    transformer.forward(batch.view(), rows, kv, *logits);
    EXPECT_EQ(std::count(batch.failed.begin(), batch.failed.end(), 0),
              static_cast<std::ptrdiff_t>(rows.size()));
    for (std::size_t row = 0; row < rows.size(); ++row) {
        checksums[sequence_of_row[row]].push_back(
            transformer.device().checksum(*logits, row, vocab));
    }
}

TEST_P(TransformerTest, sequences_of_one_batch_are_as_alone) {
    constexpr int kPages = 12;
    Ragged ragged({random_tokens(4, 100), random_tokens(5, 1), random_tokens(6, 67), prompt_},
                  kPages);
    const auto kv = transformer().make_kv_cache(kPages);
    std::vector<Checksums> checksums(ragged.sequences.size());
    step(transformer(), {60, 1, 1, 40}, *kv, ragged, checksums);  // a prompt beside others
    for (int i = 0; i < 7; ++i)
        step(transformer(), {1, 0, 1, 1}, *kv, ragged, checksums);  // answers
    step(transformer(), {33, 0, 59, 60}, *kv, ragged, checksums);
    step(transformer(), {0, 0, 0, 60}, *kv, ragged, checksums);
    for (std::size_t i = 0; i < checksums.size(); ++i) {
        EXPECT_EQ(ragged.done[i], ragged.sequences[i].size());
        EXPECT_EQ(checksums[i], run(transformer(), ragged.sequences[i], 0)) << "sequence " << i;
    }
}

TEST(Synthetic, one_layer_in_memory_computes_as_in_the_file) {
    constexpr const char* kShape = "smollm2-135m";
    const tiny::TemporaryFile on_disk(".safetensors");
    weights::write_synthetic(kShape, Format::e4, 1, on_disk.path());
    const auto file = weights::ModelFile::open(on_disk.path());
    const auto memory = weights::synthetic_in_memory(kShape, Format::e4, 1);
    const auto backend = backend::make_cpu_backend(backend::choose_isa(nullptr), 2);
    Transformer of_file(file, *backend, 8);
    Transformer of_memory(memory, *backend, 8);
    const Tokens tokens = random_tokens(1, 5);
    EXPECT_EQ(run(of_memory, tokens, 0), run(of_file, tokens, 0));
    EXPECT_EQ(needed_memory(memory, *backend, 64, 8), needed_memory(file, *backend, 64, 8));
}

std::vector<Setup> setups() {
    std::vector<Setup> all;
    for (const char* model : {"e8", "e8_window", "e4", "q8_0_tied", "mixed", "e8_experts",
                              "e4_experts", "mixed_experts"}) {
        all.push_back({model, false});
        all.push_back({model, true});
    }
    return all;
}

INSTANTIATE_TEST_SUITE_P(Model, TransformerTest, testing::ValuesIn(setups()),
                         [](const auto& setup) {
                             return setup.param.model + (setup.param.card ? "_cuda" : "_cpu");
                         });

}  // namespace
}  // namespace etalon::model
