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

[[noreturn]] void refuse(const MappedFile& file, const std::string& why) {
    throw Error(ExitCode::invalid,
                fmt::format("reference {}: {}", printable(file.path().string()), why),
                "write it again with tests/quality/reference.py");
}

/// The u32 at `offset`, `what` names it in the message when the file ends before.
std::uint32_t read_u32(const MappedFile& file, std::size_t offset, const char* what) {
    const auto bytes = file.bytes();
    if (offset > bytes.size() || bytes.size() - offset < kWord) {
        refuse(file, fmt::format("the file ends before {} at offset {}", what, offset));
    }
    std::uint32_t value = 0;
    std::memcpy(&value, bytes.data() + offset, kWord);
    return value;
}

}  // namespace

ReferenceLogits::ReferenceLogits(const std::filesystem::path& path) : file_(path) {
    const auto bytes = file_.bytes();
    if (bytes.size() < kMagic.size() ||
        std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0) {
        refuse(file_, "not a file of reference logits (ETLREF1)");
    }
    const std::uint32_t vocab_size = read_u32(file_, kMagic.size(), "vocab_size");
    if (vocab_size < 1 || vocab_size > weights::kVocabMax) {
        refuse(file_,
               fmt::format("vocab_size is {}, not in [1, {}]", vocab_size, weights::kVocabMax));
    }
    vocab_size_ = static_cast<int>(vocab_size);
    const std::uint32_t n_sequences = read_u32(file_, kMagic.size() + kWord, "n_sequences");
    if (n_sequences < 1 || n_sequences > kSequencesMax) {
        refuse(file_, fmt::format("n_sequences is {}, not in [1, {}]", n_sequences, kSequencesMax));
    }
    std::size_t offset = kMagic.size() + 2 * kWord;
    for (std::uint32_t i = 0; i < n_sequences; ++i)
        offset = read_sequence(offset);
    if (offset != bytes.size()) {
        refuse(file_, fmt::format("{} bytes behind the last sequence", bytes.size() - offset));
    }
}

std::size_t ReferenceLogits::read_sequence(std::size_t offset) {
    const std::size_t index = sequences_.size();
    const std::size_t n_tokens = read_u32(file_, offset, "n_tokens");
    if (n_tokens < 1 || n_tokens > static_cast<std::size_t>(weights::kContextMax)) {
        refuse(file_, fmt::format("sequence {}: n_tokens is {}, not in [1, {}]", index, n_tokens,
                                  weights::kContextMax));
    }
    // At most 2^24 tokens of 2^22 + 1 words: far below 2^64.
    const std::size_t needed = n_tokens * kWord * (static_cast<std::size_t>(vocab_size_) + 1);
    const std::size_t held = file_.bytes().size() - offset - kWord;
    if (needed > held) {
        refuse(file_, fmt::format("sequence {}: {} tokens need {} bytes, file holds {}", index,
                                  n_tokens, needed, held));
    }
    const std::size_t ids_offset = offset + kWord;
    sequences_.push_back({n_tokens, ids_offset, ids_offset + n_tokens * kWord});
    for (const std::int32_t id : tokens(index)) {
        if (id < 0 || id >= vocab_size_) {
            refuse(file_, fmt::format("sequence {}: token id {} outside the vocabulary of {}",
                                      index, id, vocab_size_));
        }
    }
    return ids_offset + needed;
}

std::vector<std::int32_t> ReferenceLogits::tokens(std::size_t sequence) const {
    ETALON_ASSERT(sequence < sequences_.size());
    const Sequence& s = sequences_[sequence];
    std::vector<std::int32_t> ids(s.n_tokens);
    std::memcpy(ids.data(), file_.bytes().data() + s.ids_offset, s.n_tokens * kWord);
    return ids;
}

std::span<const float> ReferenceLogits::log_probabilities(std::size_t sequence,
                                                          std::size_t position) const {
    ETALON_ASSERT(sequence < sequences_.size());
    ETALON_ASSERT(position < sequences_[sequence].n_tokens);
    const auto vocab = static_cast<std::size_t>(vocab_size_);
    const std::byte* row =
        file_.bytes().data() + sequences_[sequence].rows_offset + position * vocab * kWord;
    return {reinterpret_cast<const float*>(row), vocab};
}

}  // namespace etalon::cli
