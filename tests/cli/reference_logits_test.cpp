// SPDX-License-Identifier: Apache-2.0
// Files of reference logits: what is read, and what is refused with which message.
#include "cli/reference_logits.h"

#include <bit>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "base/error.h"

namespace etalon::cli {
namespace {

/// Words of four bytes, little endian, behind the magic.
class Words {
  public:
    Words() {
        for (const char letter : {'E', 'T', 'L', 'R', 'E', 'F', '1', '\n'})
            bytes_.push_back(static_cast<std::byte>(letter));
    }
    Words& add(std::uint32_t word) {
        for (int shift = 0; shift < 32; shift += 8)
            bytes_.push_back(static_cast<std::byte>(word >> shift & 0xFF));
        return *this;
    }
    Words& add(float value) { return add(std::bit_cast<std::uint32_t>(value)); }
    const std::vector<std::byte>& bytes() const { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
};

/// A vocabulary of two, a sequence of two tokens and one of one token.
Words two_sequences() {
    Words words;
    words.add(2U).add(2U);
    words.add(2U).add(1U).add(0U).add(-0.5F).add(-0.25F).add(-1.0F).add(-2.0F);
    words.add(1U).add(1U).add(-3.0F).add(-4.0F);
    return words;
}

std::string message_of(const std::vector<std::byte>& bytes) {
    try {
        const ReferenceLogits reference(bytes, "r.bin");
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid);
        return error.message();
    }
    return "";
}

TEST(ReferenceLogits, ReadsEverySequence) {
    const std::vector<std::byte> bytes = two_sequences().bytes();
    const ReferenceLogits reference(bytes, "r.bin");
    EXPECT_EQ(reference.vocab_size(), 2);
    ASSERT_EQ(reference.n_sequences(), 2U);
    EXPECT_EQ(reference.tokens(0), (std::vector<std::int32_t>{1, 0}));
    EXPECT_EQ(reference.tokens(1), (std::vector<std::int32_t>{1}));
    EXPECT_EQ(reference.log_probabilities(0, 1)[0], -1.0F);
    EXPECT_EQ(reference.log_probabilities(0, 1)[1], -2.0F);
    EXPECT_EQ(reference.log_probabilities(1, 0)[1], -4.0F);
}

TEST(ReferenceLogits, RefusesEveryTruncation) {
    const std::vector<std::byte> bytes = two_sequences().bytes();
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        const std::vector<std::byte> cut(bytes.begin(), bytes.begin() + static_cast<long>(size));
        EXPECT_NE(message_of(cut), "") << size;
    }
}

TEST(ReferenceLogits, NamesWhatIsWrong) {
    EXPECT_EQ(message_of({}), "reference r.bin: not a file of reference logits (ETLREF1)");
    EXPECT_EQ(message_of(Words().add(0U).add(1U).bytes()),
              "reference r.bin: vocab_size is 0, not in [1, 4194304]");
    EXPECT_EQ(message_of(Words().add(2U).add(0U).bytes()),
              "reference r.bin: n_sequences is 0, not in [1, 65536]");
    EXPECT_EQ(message_of(Words().add(2U).add(1U).add(0xFFFFFFFFU).bytes()),
              "reference r.bin: sequence 0: n_tokens is 4294967295, not in [1, 16777216]");
    EXPECT_EQ(message_of(Words().add(2U).add(1U).add(16777216U).add(0U).bytes()),
              "reference r.bin: sequence 0: 16777216 tokens need 201326592 bytes, file holds 4");
    EXPECT_EQ(message_of(Words().add(2U).add(1U).add(1U).add(2U).add(0.0F).add(0.0F).bytes()),
              "reference r.bin: sequence 0: token id 2 outside the vocabulary of 2");
    EXPECT_EQ(message_of(two_sequences().add(7U).bytes()),
              "reference r.bin: 4 bytes behind the last sequence");
}

}  // namespace
}  // namespace etalon::cli
