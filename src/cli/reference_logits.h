// SPDX-License-Identifier: Apache-2.0
// A file of reference log-probabilities, as tests/quality/reference.py writes it. Little endian:
//   "ETLREF1\n", u32 vocab_size, u32 n_sequences, then for each sequence
//   u32 n_tokens, i32 ids[n_tokens], f32 log_probabilities[n_tokens][vocab_size] (natural logs)
//   const MappedFile map(path);
//   const ReferenceLogits reference(map.bytes(), path);
// Row t belongs to the token that follows token t.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace etalon::cli {

class ReferenceLogits {
  public:
    /// Checks every size and id. `bytes` outlive the object and are aligned as a mapped file is;
    /// `file` is for messages. Errors: invalid.
    ReferenceLogits(std::span<const std::byte> bytes, std::string file);

    int vocab_size() const noexcept { return vocab_size_; }
    std::size_t n_sequences() const noexcept { return sequences_.size(); }
    std::vector<std::int32_t> tokens(std::size_t sequence) const;
    /// [vocab_size]; the values are not checked: NaN or above 0 is the caller's to refuse.
    std::span<const float> log_probabilities(std::size_t sequence, std::size_t position) const;

  private:
    struct Sequence {
        std::size_t n_tokens = 0;
        std::size_t ids_offset = 0;   ///< bytes from the start of the file
        std::size_t rows_offset = 0;  ///< bytes from the start of the file
    };
    std::size_t read_sequence(std::size_t offset);

    [[noreturn]] void refuse(const std::string& why) const;
    std::uint32_t read_u32(std::size_t offset, const char* what) const;

    std::span<const std::byte> bytes_;
    std::string file_;
    int vocab_size_ = 0;
    std::vector<Sequence> sequences_;
};

}  // namespace etalon::cli
