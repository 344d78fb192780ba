// SPDX-License-Identifier: Apache-2.0
// SHA-256 against the examples of FIPS 180-4, whole and in pieces.
#include "base/sha256.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace {

using etalon::sha256;
using etalon::Sha256;
using etalon::to_hex;

std::string hash_hex(std::string_view text) {
    return to_hex(sha256(std::as_bytes(std::span(text))));
}

TEST(Sha256, examples_of_the_standard) {
    EXPECT_EQ(hash_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hash_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hash_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hash_hex(std::string(1000000, 'a')),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, a_moved_hash_goes_on) {
    Sha256 first;
    first.update("a");
    Sha256 second = std::move(first);
    second.update("bc");
    EXPECT_EQ(to_hex(second.finish()), hash_hex("abc"));
}

RC_GTEST_PROP(Sha256, pieces_equal_the_whole, (const std::string& text)) {
    const std::size_t cut = *rc::gen::inRange<std::size_t>(0, text.size() + 1);
    Sha256 hash;
    hash.update(std::string_view(text).substr(0, cut));
    hash.update(std::string_view(text).substr(cut));
    RC_ASSERT(to_hex(hash.finish()) == hash_hex(text));
}

TEST(Sha256, digests_come_back_from_their_own_spelling_only) {
    const std::string hex = hash_hex("abc");
    EXPECT_EQ(etalon::digest_from_hex(hex), sha256(std::as_bytes(std::span("abc", 3))));
    EXPECT_FALSE(etalon::digest_from_hex(hex.substr(1)));
    EXPECT_FALSE(etalon::digest_from_hex(hex + "0"));
    for (const std::string_view other : {"BA", "+7", " 8", "0x", "g0", "-1"})
        EXPECT_FALSE(etalon::digest_from_hex(std::string(other) + hex.substr(2))) << other;
}

}  // namespace
