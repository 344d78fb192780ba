// SPDX-License-Identifier: Apache-2.0
// One suite for all backends: an operation runs on the CPU backend of every instruction set of this
// machine, with 1 thread and with 2 or 3, and on the first card with the kernels that are best for
// it and with those of every card; each must give the bits of the reference.
//
//   add_test("Quantize", "k64_t3", [](Backend& backend, Random& random, Outcome& outcome) {
//       ... inputs from `random`, an operation of `backend`, its results into `outcome` ...
//   });
//
// registers Quantize/generic.k64_t3, Quantize/avx2.k64_t3, Quantize/avx512.k64_t3,
// Quantize/cuda.k64_t3 and Quantize/cuda_sm80.k64_t3.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/operations.h"

namespace etalon::backend::conformance {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;  ///< everything is about ten times as slow
#else
inline constexpr bool kSanitized = false;
#endif

/// SplitMix64: the same numbers everywhere.
class Random {
  public:
    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
    std::uint64_t next() noexcept;
    /// In [0, n), n >= 1.
    int below(int n) noexcept;
    /// In [-1, 1).
    float unit() noexcept;

  private:
    std::uint64_t state_;
};

/// What a test fills its floats with.
enum class Fill : std::uint8_t {
    usual,      ///< [-1, 1) times a power of two of the row
    bits,       ///< any finite bit pattern, half of the rows small enough not to overflow
    subnormal,  ///< subnormals only
    huge,       ///< magnitudes from 2^64: squares overflow
    equal,      ///< one magnitude a row: every code is 127 or -127
    same,       ///< one value a row: codes of one sign, whose sums are the largest
    zero,       ///< +0 and -0
    bad,        ///< usual; a NaN or an infinity in some rows
};
inline constexpr Fill kFills[] = {Fill::usual, Fill::bits, Fill::subnormal, Fill::huge,
                                  Fill::equal, Fill::same, Fill::zero,      Fill::bad};
std::string_view fill_name(Fill fill) noexcept;
/// [n_rows, n_cols]
std::vector<float> random_floats(Random& random, int n_rows, int n_cols, Fill fill);

/// What an operation gave, array by array, as words of 32 bits.
class Outcome {
  public:
    struct Array {
        std::string name;
        std::vector<std::uint32_t> words;
    };

    /// A NaN counts as any other: its bits differ between machines, and no rule reads them.
    void add(std::string name, std::span<const float> floats);
    void add(std::string name, std::span<const std::int8_t> codes);
    void add(std::string name, std::span<const std::uint8_t> flags);
    void add(std::string name, std::uint64_t number);
    void add(const std::string& name, const HostVector& vector);
    void add(const std::string& name, const HostActivations& x);

    const std::vector<Array>& arrays() const noexcept { return arrays_; }

  private:
    std::vector<Array> arrays_;
};

/// "" when both are equal, else the first array, index and pair of bit patterns that differ.
std::string difference(const Outcome& reference, const Outcome& tested);

/// Calls `backend` and puts all that it gave into `outcome`; called several times with equal seeds.
using Body = std::function<void(Backend& backend, Random& random, Outcome& outcome)>;
/// Registers SUBJECT/ISA.NAME for each instruction set. The seed comes from subject and name.
void add_test(const std::string& subject, const std::string& name, Body body);
/// The same for cards alone: an operation that the CPU backend does not have, or large shapes that
/// only cards tell apart.
void add_card_test(const std::string& subject, const std::string& name, Body body);

/// Owns what a Batch points to. Without sequences: `n_tokens` tokens at positions 0, 1, ...
struct OwnedBatch {
    explicit OwnedBatch(int n_tokens);
    OwnedBatch() = default;
    /// Appends tokens at positions [first, first + n) of a new sequence with this page table.
    void add_sequence(int first, int n, std::vector<std::int32_t> page_table);
    Batch view();

    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> sequence_of;
    std::vector<std::vector<std::int32_t>> page_tables;
    std::vector<std::uint8_t> failed;
};

/// Why there is no card to test; empty when the first one can be used.
std::string why_no_card();

/// A buffer on the device that holds `floats`.
std::unique_ptr<FloatBuffer> uploaded(Backend& backend, std::span<const float> floats);
/// All of a buffer.
std::vector<float> downloaded(Backend& backend, const FloatBuffer& buffer);

}  // namespace etalon::backend::conformance
