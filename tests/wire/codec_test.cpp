// SPDX-License-Identifier: Apache-2.0
// What is encoded comes back equal; what is cut, changed or made by hand comes back as an Error or
// as some message, never as anything else.
#include "wire/codec.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <rapidcheck/gtest.h>
#include <string>

#include "base/error.h"
#include "wire/limits.h"
#include "wire/random_messages.h"

namespace etalon::wire {
namespace {

constexpr int kMutations = 400;  // of each frame

/// True when the bytes are refused as they should be; a message that decodes must encode again.
template <typename Decode>
bool refused(const Decode& decode, const std::string& frame) {
    try {
        (void)encode(decode(frame));
        return false;
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid) << error.message();
        return true;
    }
}

const auto kToWorker = [](const std::string& frame) { return ToWorker(decode_to_worker(frame)); };
const auto kToFront = [](const std::string& frame) { return ToFront(decode_to_front(frame)); };

RC_GTEST_PROP(Codec, what_the_front_says_comes_back_equal, (std::uint64_t seed)) {
    const ToWorker message = random_to_worker(seed);
    RC_ASSERT(decode_to_worker(encode(message)) == message);
}

RC_GTEST_PROP(Codec, what_the_worker_says_comes_back_equal, (std::uint64_t seed)) {
    const ToFront message = random_to_front(seed);
    RC_ASSERT(decode_to_front(encode(message)) == message);
}

RC_GTEST_PROP(Codec, a_frame_of_one_direction_is_none_of_the_other, (std::uint64_t seed)) {
    RC_ASSERT(refused(kToFront, encode(random_to_worker(seed))));
    RC_ASSERT(refused(kToWorker, encode(random_to_front(seed))));
}

RC_GTEST_PROP(Codec, a_frame_that_is_cut_is_refused_or_means_something, (std::uint64_t seed)) {
    const std::string to_worker = encode(random_to_worker(seed));
    const std::string to_front = encode(random_to_front(seed));
    for (std::size_t size = 0; size < to_worker.size(); ++size)
        (void)refused(kToWorker, to_worker.substr(0, size));
    for (std::size_t size = 0; size < to_front.size(); ++size)
        (void)refused(kToFront, to_front.substr(0, size));
}

RC_GTEST_PROP(Codec, a_frame_with_changed_bytes_is_refused_or_means_something,
              (std::uint64_t seed)) {
    std::uint64_t state = seed;
    const auto next = [&] { return state = state * 6364136223846793005U + 1442695040888963407U; };
    const auto change = [&](std::string frame) {
        for (std::uint64_t n = 1 + (next() >> 62); n > 0; --n)
            frame[(next() >> 33) % frame.size()] = static_cast<char>(next() >> 56);
        return frame;
    };
    const std::string to_worker = encode(random_to_worker(seed));
    const std::string to_front = encode(random_to_front(seed));
    for (int i = 0; i < kMutations; ++i) {
        (void)refused(kToWorker, change(to_worker));
        (void)refused(kToFront, change(to_front));
    }
}

TEST(Codec, minus_zero_stays_minus_zero) {
    Prepare prepare;
    prepare.sampling.presence_penalty = -0.0F;
    const ToWorker message = decode_to_worker(encode(ToWorker(prepare)));
    EXPECT_TRUE(std::signbit(std::get<Prepare>(message).sampling.presence_penalty));
}

TEST(Codec, an_odd_address_is_read_as_any_other) {
    const std::string frame = encode(ToWorker(Detokenize{7, {1, 2, 3}}));
    const std::string shifted = "x" + frame;
    EXPECT_EQ(decode_to_worker(std::string_view(shifted).substr(1)),
              ToWorker(Detokenize({7, {1, 2, 3}})));
}

TEST(Codec, text_that_is_not_utf8_is_refused_by_the_sender_with_the_field) {
    Prepare prepare;
    prepare.tenant = "\xff";
    try {
        (void)encode(ToWorker(prepare));
        FAIL() << "it was encoded";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::usage);
        EXPECT_EQ(error.message(), "tenant: this is not UTF-8");
    }
}

TEST(Codec, text_that_is_not_utf8_is_refused_by_the_reader) {
    std::string frame = encode(ToWorker(Tokenize{1, TextPrompt{"needle"}}));
    frame.at(frame.find("needle")) = '\xff';
    EXPECT_THROW((void)decode_to_worker(frame), Error);
}

TEST(Codec, bytes_of_a_token_need_not_be_utf8) {
    Token token;
    token.logprobs = Logprobs{{1, -1.0F, "\xff\xfe"}, {}};
    EXPECT_EQ(decode_to_front(encode(ToFront(token))), ToFront(token));
}

TEST(Codec, numbers_that_are_none_are_refused_by_the_front) {
    Token token;
    token.logprobs = Logprobs{{1, std::numeric_limits<float>::quiet_NaN(), ""}, {}};
    EXPECT_THROW((void)decode_to_front(encode(ToFront(token))), Error);
    RequestEnd end;
    end.queued_seconds = std::numeric_limits<double>::infinity();
    EXPECT_THROW((void)decode_to_front(encode(ToFront(end))), Error);
}

TEST(Codec, a_list_over_its_limit_is_not_sent) {
    Prepare prepare;
    prepare.sampling.stop_tokens.resize(kStopsMax + 1);
    EXPECT_THROW((void)encode(ToWorker(prepare)), Error);
}

/// Two strings of one list that share their bytes decode to more than the frame holds; a few do
/// not, for the frame has room, many are refused.
TEST(Codec, offsets_that_share_a_string_cannot_multiply_it) {
    Prepare prepare;
    const std::string big(4096, 'x');
    prepare.sampling.stop_strings = {big, "a", "a", "a", "a", "a", "a"};
    std::string frame = encode(ToWorker(prepare));
    // The list of offsets: 7, then one offset each, relative to its own place.
    const std::size_t big_at = frame.find(big) - 4;
    std::size_t list_at = std::string::npos;
    const auto word = [&](std::size_t at) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < 4; ++i)
            value |= std::uint32_t{static_cast<unsigned char>(frame[at + i])} << (8 * i);
        return value;
    };
    for (std::size_t at = 0; at + 32 < frame.size(); at += 4) {
        if (word(at) == 7 && at + 4 + word(at + 4) == big_at) list_at = at;
    }
    ASSERT_NE(list_at, std::string::npos);
    for (std::size_t i = 1; i < 7; ++i) {
        const std::size_t at = list_at + 4 + 4 * i;
        const std::size_t offset = big_at - at;
        for (std::size_t k = 0; k < 4; ++k)
            frame[at + k] = static_cast<char>(offset >> (8 * k));
    }
    try {
        (void)decode_to_worker(frame);
        FAIL() << "seven copies of one string were made";
    } catch (const Error& error) {
        EXPECT_EQ(error.message(), "frame: stop_strings: what it holds is larger than the frame");
    }
}

}  // namespace
}  // namespace etalon::wire
