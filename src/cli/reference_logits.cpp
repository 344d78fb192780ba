// SPDX-License-Identifier: Apache-2.0
// A file of reference log-probabilities.
#include "cli/reference_logits.h"

#include <cstring>
#include <fmt/format.h>
#include <string>

#include "base/error.h"
#include "weights/model_config.h"

namespace etalon::cli {

namespace {

constexpr std::string_view kMagic = "ETLREF1\n";
constexpr std::size_t kWord = 4;  // every field is four bytes, so rows are aligned in the map
constexpr std::uint32_t kSequencesMax = 1 << 16;

}  // namespace

void ReferenceLogits::refuse(const std::string& why) const {
    throw Error(ExitCode::invalid, fmt::format("reference {}: {}", printable(file_), why),
                "write it again with tests/quality/reference.py");
}

/// The u32 at `offset`, `what` names it in the message when the file ends before.
std::uint32_t ReferenceLogits::read_u32(std::size_t offset, const char* what) const {
    if (offset > bytes_.size() || bytes_.size() - offset < kWord) {
        refuse(fmt::format("the file ends before {} at offset {}", what, offset));
    }
    std::uint32_t value = 0;
    std::memcpy(&value, bytes_.data() + offset, kWord);
    return value;
}

ReferenceLogits::ReferenceLogits(std::span<const std::byte> bytes, std::string file)
    : bytes_(bytes), file_(std::move(file)) {
    if (bytes_.size() < kMagic.size() ||
        std::memcmp(bytes_.data(), kMagic.data(), kMagic.size()) != 0) {
        refuse("not a file of reference logits (ETLREF1)");
    }
    const std::uint32_t vocab_size = read_u32(kMagic.size(), "vocab_size");
    if (vocab_size < 1 || vocab_size > weights::kVocabMax) {
        refuse(fmt::format("vocab_size is {}, not in [1, {}]", vocab_size, weights::kVocabMax));
    }
    vocab_size_ = static_cast<int>(vocab_size);
    const std::uint32_t n_sequences = read_u32(kMagic.size() + kWord, "n_sequences");
    if (n_sequences < 1 || n_sequences > kSequencesMax) {
        refuse(fmt::format("n_sequences is {}, not in [1, {}]", n_sequences, kSequencesMax));
    }
    std::size_t offset = kMagic.size() + 2 * kWord;
    for (std::uint32_t i = 0; i < n_sequences; ++i)
        offset = read_sequence(offset);
    if (offset != bytes_.size()) {
        refuse(fmt::format("{} bytes behind the last sequence", bytes_.size() - offset));
    }
}

std::size_t ReferenceLogits::read_sequence(std::size_t offset) {
    const std::size_t index = sequences_.size();
    const std::size_t n_tokens = read_u32(offset, "n_tokens");
    if (n_tokens < 1 || n_tokens > static_cast<std::size_t>(weights::kContextMax)) {
        refuse(fmt::format("sequence {}: n_tokens is {}, not in [1, {}]", index, n_tokens,
                           weights::kContextMax));
    }
    // At most 2^24 tokens of 2^22 + 1 words: far below 2^64.
    const std::size_t needed = n_tokens * kWord * (static_cast<std::size_t>(vocab_size_) + 1);
    const std::size_t held = bytes_.size() - offset - kWord;
    if (needed > held) {
        refuse(fmt::format("sequence {}: {} tokens need {} bytes, file holds {}", index, n_tokens,
                           needed, held));
    }
    const std::size_t ids_offset = offset + kWord;
    sequences_.push_back({n_tokens, ids_offset, ids_offset + n_tokens * kWord});
    for (const std::int32_t id : tokens(index)) {
        if (id < 0 || id >= vocab_size_) {
            refuse(fmt::format("sequence {}: token id {} outside the vocabulary of {}", index, id,
                               vocab_size_));
        }
    }
    return ids_offset + needed;
}

std::vector<std::int32_t> ReferenceLogits::tokens(std::size_t sequence) const {
    ETALON_ASSERT(sequence < sequences_.size());
    const Sequence& s = sequences_[sequence];
    std::vector<std::int32_t> ids(s.n_tokens);
    std::memcpy(ids.data(), bytes_.data() + s.ids_offset, s.n_tokens * kWord);
    return ids;
}

std::span<const float> ReferenceLogits::log_probabilities(std::size_t sequence,
                                                          std::size_t position) const {
    ETALON_ASSERT(sequence < sequences_.size());
    ETALON_ASSERT(position < sequences_[sequence].n_tokens);
    const auto vocab = static_cast<std::size_t>(vocab_size_);
    const std::byte* row =
        bytes_.data() + sequences_[sequence].rows_offset + position * vocab * kWord;
    return {reinterpret_cast<const float*>(row), vocab};
}

}  // namespace etalon::cli
