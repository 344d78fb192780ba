// SPDX-License-Identifier: Apache-2.0
// Errors carry code, message and hint; text from outside is made safe for a terminal.
#include "base/error.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <string>

#include "base/float_mode.h"

namespace {

using etalon::Error;
using etalon::ExitCode;
using etalon::printable;

TEST(Error, carries_code_message_and_hint) {
    const Error error(ExitCode::invalid, "tensor a: 17 blocks", "download again");
    EXPECT_EQ(error.code(), ExitCode::invalid);
    EXPECT_EQ(error.message(), "tensor a: 17 blocks");
    EXPECT_STREQ(error.what(), "tensor a: 17 blocks");
    EXPECT_EQ(error.hint(), "download again");
}

TEST(Error, exit_codes_are_those_of_the_documents) {
    EXPECT_EQ(static_cast<int>(ExitCode::failure), 1);
    EXPECT_EQ(static_cast<int>(ExitCode::not_found), 3);
    EXPECT_EQ(static_cast<int>(ExitCode::invalid), 5);
}

TEST(AssertionDeathTest, a_broken_guarantee_ends_the_process_with_its_condition) {
    EXPECT_DEATH(ETALON_ASSERT(1 + 1 == 3), "1 \\+ 1 == 3");
}

TEST(Printable, keeps_plain_text_and_utf8) {
    EXPECT_EQ(printable("model.gguf"), "model.gguf");
    EXPECT_EQ(printable("caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
              "caf\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80");
}

TEST(Printable, escapes_what_a_terminal_would_obey) {
    EXPECT_EQ(printable("a\x1b[31mb"), "a\\x1b[31mb");
    EXPECT_EQ(printable(std::string("a\0b\n", 4)), "a\\x00b\\x0a");
    EXPECT_EQ(printable("\x7f"), "\\x7f");
}

TEST(Printable, escapes_bytes_that_are_not_utf8) {
    EXPECT_EQ(printable("\xff"), "\\xff");
    EXPECT_EQ(printable("a\xc3"), "a\\xc3");
    EXPECT_EQ(printable("\x80z"), "\\x80z");
}

TEST(Printable, cuts_long_text) {
    const std::string shown = printable(std::string(1000, 'x'), 50);
    EXPECT_LE(shown.size(), 53U);
    EXPECT_TRUE(shown.ends_with("..."));
}

RC_GTEST_PROP(Printable, has_no_control_byte_whatever_comes_in, (const std::string& text)) {
    for (const char c : printable(text, 1000)) {
        const auto byte = static_cast<unsigned char>(c);
        RC_ASSERT(byte >= 0x20 && byte != 0x7f);
    }
}

TEST(FloatMode, holds_in_this_process) {
    etalon::assert_float_mode();
}

}  // namespace
