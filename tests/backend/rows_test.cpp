// SPDX-License-Identifier: Apache-2.0
// Operations on rows of floats: embedding, norm, quantise, SwiGLU, checksum (EMB-1, NRM-1 to NRM-3,
// SUM-1, ROT-2 to ROT-4, QNT-1 to QNT-4, SWI-1, CHK-1, ERR-1).
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "exact/rotate.h"

namespace etalon::backend::conformance {
namespace {

constexpr std::array kTokenCounts = {1, 2, 3, 5, 8, 17, 33};

/// What the three operations that quantise share.
struct Shape {
    int n_tokens = 1;
    int n_cols = 0;
    unsigned forms = kRowInt8;
    bool rotated = false;
    Fill fill = Fill::usual;

    exact::Rotation rotation() const {
        return rotated ? exact::rotation_for(n_cols) : exact::Rotation{n_cols, 1, n_cols, false};
    }
    std::string name() const {
        std::string forms_name;
        if ((forms & kRowInt8) != 0) forms_name += "r";
        if ((forms & kBlockInt8) != 0) forms_name += "b";
        if ((forms & kFloating) != 0) forms_name += "f";
        return fmt::format("{}_t{}_k{}_{}{}", forms_name, n_tokens, n_cols, fill_name(fill),
                           rotated ? "_rotated" : "");
    }
};

/// A batch whose every fifth token failed before.
OwnedBatch batch_of(const Shape& shape) {
    OwnedBatch batch(shape.n_tokens);
    for (std::size_t t = 0; t < batch.failed.size(); t += 5)
        batch.failed[t] = t % 2 == 0 ? 0 : 1;
    return batch;
}

void read_back(Backend& backend, const Activations& x, const OwnedBatch& batch, Outcome& outcome) {
    outcome.add("x", backend.read(x, static_cast<int>(batch.tokens.size())));
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
}

void run_norm(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    const auto h =
        uploaded(backend, random_floats(random, shape.n_tokens, shape.n_cols, shape.fill));
    const auto w = uploaded(backend, random_floats(random, 1, shape.n_cols, Fill::usual));
    const auto x = backend.make_activations(shape.n_tokens + 1, shape.n_cols, shape.forms);
    for (const float eps : {1e-5F, 0.0F}) {
        OwnedBatch batch = batch_of(shape);
        backend.norm_quantize(batch.view(), *h, *w, eps, shape.rotation(), *x);
        read_back(backend, *x, batch, outcome);
    }
}

void run_quantize(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    const auto v =
        uploaded(backend, random_floats(random, shape.n_tokens, shape.n_cols, shape.fill));
    const auto x = backend.make_activations(shape.n_tokens, shape.n_cols, shape.forms);
    OwnedBatch batch = batch_of(shape);
    backend.quantize(batch.view(), *v, *x);
    read_back(backend, *x, batch, outcome);
}

void run_swiglu(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    // Gate and up are two rows of a fill each, so that a token may be bad in either.
    const auto gate_up =
        uploaded(backend, random_floats(random, 2 * shape.n_tokens, shape.n_cols, shape.fill));
    const auto x = backend.make_activations(shape.n_tokens, shape.n_cols, shape.forms);
    OwnedBatch batch = batch_of(shape);
    backend.swiglu_quantize(batch.view(), *gate_up, shape.rotation(), *x);
    read_back(backend, *x, batch, outcome);
}

using Run = void (*)(const Shape&, Backend&, Random&, Outcome&);

void add_shape(const char* subject, Run run, const Shape& shape) {
    add_test(subject, shape.name(),
             [run, shape](Backend& backend, Random& random, Outcome& outcome) {
                 run(shape, backend, random, outcome);
             });
}

/// Lengths: tails of vectors; each kind of rotation: none (k = 4 m), butterfly alone (64, 1024, 17
/// blocks of 64, 3 blocks of 1024), DCT of every length (m = 3 to 15).
constexpr std::array kAnyColumns = {1,   2,   3,   7,    8,    9,    15,  16,  17,
                                    31,  33,  63,  65,   100,  127,  129, 255, 257,
                                    300, 511, 513, 1001, 2055, 4104, 5000};
constexpr std::array kBlockColumns = {32,  64,  96,  128, 160,  192,  224,  256,  320,  448, 576,
                                      640, 704, 832, 960, 1024, 1088, 1536, 2560, 3072, 4096};

void add_operation(const char* subject, Run run, bool can_rotate) {
    for (const int k : kAnyColumns) {
        for (const unsigned forms : {unsigned{kRowInt8}, unsigned{kFloating}, kRowInt8 | kFloating})
            add_shape(subject, run, {3, k, forms, can_rotate});
    }
    for (const int k : kBlockColumns) {
        for (unsigned forms = 1; forms < 8; ++forms) {
            add_shape(subject, run, {2, k, forms, false});
            if (can_rotate && (forms & kRowInt8) != 0) add_shape(subject, run, {2, k, forms, true});
        }
    }
    for (const int n_tokens : kTokenCounts)
        add_shape(subject, run, {n_tokens, 192, 7, can_rotate});
    for (const Fill fill : kFills) {
        for (const int k : {32, 64, 576, 1024}) {
            add_shape(subject, run, {24, k, 7, false, fill});
            for (const unsigned form : {kRowInt8, kBlockInt8, kFloating})
                add_shape(subject, run, {24, k, form, can_rotate, fill});
        }
        for (const int k : {1, 17, 45, 300})
            add_shape(subject, run, {24, k, kRowInt8 | kFloating, false, fill});
    }
}

/// Rows of E8 models of usual sizes: butterflies over 1,024 (5,120), 2,048 (14,336), 4,096 and
/// 8,192 elements, 1 to 8 blocks of them.
void add_long_rows(const char* subject, Run run, bool can_rotate) {
    for (const int k : {512, 2048, 4096, 5120, 6144, 8192, 12288, 14336, 16384, 28672}) {
        add_shape(subject, run, {3, k, kRowInt8, can_rotate});
        add_shape(subject, run, {1, k, kRowInt8, false, Fill::bits});
    }
    for (const Fill fill : kFills) {
        add_shape(subject, run, {9, 4096, kRowInt8, can_rotate, fill});
        add_shape(subject, run, {5, 14336, kRowInt8, can_rotate, fill});
        add_shape(subject, run, {5, 5120, kRowInt8, can_rotate, fill});
        // With floats too, as a router reads them.
        add_shape(subject, run, {5, 4096, kRowInt8 | kFloating, can_rotate, fill});
        add_shape(subject, run, {3, 6144, kRowInt8 | kFloating, can_rotate, fill});
        // Blocks of 32 alone: a row over 8 thread blocks of a cluster, and over fewer.
        add_shape(subject, run, {5, 14336, kBlockInt8, false, fill});
        add_shape(subject, run, {200, 4096, kBlockInt8, false, fill});
    }
}

void run_embed(exact::Format format, int vocab_size, int dim, Weights kind, Backend& backend,
               Random& random, Outcome& outcome) {
    const auto tensor = random_embedding(random, format, vocab_size, dim, kind);
    const auto embedding = backend.load_embedding(tensor->tensor);
    outcome.add("size", static_cast<std::uint64_t>(embedding->vocab_size) << 32 |
                            static_cast<std::uint64_t>(embedding->dim));
    for (const int n_tokens : {1, 2, 40}) {
        OwnedBatch batch(n_tokens);
        for (std::int32_t& token : batch.tokens)
            token = random.below(vocab_size);
        batch.tokens[0] = vocab_size - 1;
        const auto h =
            uploaded(backend, random_floats(random, 1, n_tokens * dim + 16, Fill::usual));
        backend.embed(batch.view(), *embedding, *h);
        outcome.add("h", std::span<const float>(downloaded(backend, *h)));
        outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
    }
}

void add_embed() {
    constexpr int kVocab = 37;
    for (const exact::Format format : embedding_formats()) {
        const int block = exact::format_info(format).block_elements;
        std::vector<int> dims{block, 3 * block, 512, 768};
        if (block == 1) dims = {4, 12, 20, 36, 60, 68, 576};
        if (format == exact::Format::e8) dims = {4, 8, 12, 20, 28, 36, 60, 64, 68, 576};
        for (const int dim : dims) {
            for (const Weights kind : {Weights::usual, Weights::extreme}) {
                add_test("Embed",
                         fmt::format("{}/k{}{}", exact::format_info(format).name, dim,
                                     kind == Weights::extreme ? "_extreme" : ""),
                         [=](Backend& backend, Random& random, Outcome& outcome) {
                             run_embed(format, kVocab, dim, kind, backend, random, outcome);
                         });
            }
        }
    }
    // More than is loaded at once.
    add_card_test(
        "Embed", "q8_0/n70000_k1024", [](Backend& backend, Random& random, Outcome& outcome) {
            run_embed(exact::Format::q8_0, 70000, 1024, Weights::usual, backend, random, outcome);
        });
}

void run_checksum(int vocab_size, Fill fill, Backend& backend, Random& random, Outcome& outcome) {
    const auto logits = uploaded(backend, random_floats(random, 3, vocab_size, fill));
    for (const std::size_t row : {0, 2, 1})
        outcome.add("checksum", backend.checksum(*logits, row, vocab_size));
}

void add_checksum() {
    for (const int vocab_size : {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 1000, 32003}) {
        for (const Fill fill : {Fill::usual, Fill::bits, Fill::zero}) {
            add_test("Checksum", fmt::format("n{}_{}", vocab_size, fill_name(fill)),
                     [=](Backend& backend, Random& random, Outcome& outcome) {
                         run_checksum(vocab_size, fill, backend, random, outcome);
                     });
        }
    }
}

std::span<const std::uint8_t> bytes_of(const std::vector<std::uint32_t>& words) {
    return {reinterpret_cast<const std::uint8_t*>(words.data()), words.size() * sizeof(words[0])};
}

void run_sampling(int vocab_size, Fill fill, Backend& backend, Random& random, Outcome& outcome) {
    std::vector<float> row = random_floats(random, 1, vocab_size, fill);
    outcome.add("amax", std::uint64_t{backend.amax_bits(row)});
    for (float& value : row) {
        if (!std::isfinite(value)) value = 1.0F;
    }
    // Zeros of both signs are equal, and either may be named.
    const float largest = backend.largest(row) + 0.0F;
    outcome.add("largest", std::span(&largest, 1));
    std::vector<std::uint32_t> p(row.size());
    for (const float inverse : {1.0F, 0.01F, 1.0F / 0.7F, 1000.0F, 1e-7F}) {
        backend.probability_units(row, largest, inverse, p);
        outcome.add("P", bytes_of(p));
    }
    row.back() = -std::numeric_limits<float>::infinity();
    backend.probability_units(row, largest, 1.0F, p);
    outcome.add("P", bytes_of(p));
}

void add_sampling() {
    for (const int vocab_size : {1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 1000, 32003}) {
        for (const Fill fill : {Fill::usual, Fill::bits, Fill::zero}) {
            add_test("Sampling", fmt::format("n{}_{}", vocab_size, fill_name(fill)),
                     [=](Backend& backend, Random& random, Outcome& outcome) {
                         run_sampling(vocab_size, fill, backend, random, outcome);
                     });
        }
    }
}

const bool kRegistered = [] {
    add_operation("NormQuantize", run_norm, true);      // NRM-1 to NRM-3, SUM-1, ROT-2 to ROT-4
    add_operation("Quantize", run_quantize, false);     // QNT-1 to QNT-4, ERR-1
    add_operation("SwigluQuantize", run_swiglu, true);  // SWI-1, ROT-2 to ROT-4
    add_long_rows("NormQuantize", run_norm, true);
    for (const Fill fill : kFills)  // as many rows as a prompt has
        add_shape("NormQuantize", run_norm, {515, 4096, kRowInt8, true, fill});
    add_long_rows("Quantize", run_quantize, false);
    add_long_rows("SwigluQuantize", run_swiglu, true);
    add_embed();     // EMB-1, FMT-1 to FMT-16
    add_checksum();  // CHK-1
    add_sampling();  // QNT-1, SMP-4, SMP-5
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance
