// SPDX-License-Identifier: Apache-2.0
// UTF-8 steps, classes of characters, and normalisation against ICU's own.
#include "text/internal/unicode.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <string>
#include <unicode/unorm2.h>
#include <vector>

namespace etalon::text {
namespace {

using namespace std::string_literals;

struct StepCase {
    std::string bytes;
    Utf8 state;
    int size;
    char32_t value;
};

TEST(Utf8At, table_of_well_and_ill_formed_sequences) {
    const std::vector<StepCase> cases = {
        {"a", Utf8::whole, 1, 'a'},
        {"\0"s, Utf8::whole, 1, 0},
        {"\xC3\xA9", Utf8::whole, 2, 0xE9},
        {"\xE2\x82\xAC!", Utf8::whole, 3, 0x20AC},
        {"\xF0\x9F\x98\x80", Utf8::whole, 4, 0x1F600},
        {"\xF4\x8F\xBF\xBF", Utf8::whole, 4, 0x10FFFF},
        {"\xC3", Utf8::incomplete, 1, 0},
        {"\xF0\x9F\x98", Utf8::incomplete, 3, 0},
        {"\x80", Utf8::wrong, 1, 0},
        {"\xC0\x80", Utf8::wrong, 1, 0},          // overlong
        {"\xE0\x9F\xBF", Utf8::wrong, 1, 0},      // overlong
        {"\xED\xA0\x80", Utf8::wrong, 1, 0},      // surrogate
        {"\xF4\x90\x80\x80", Utf8::wrong, 1, 0},  // above U+10FFFF
        {"\xF0\x9F\x98z", Utf8::wrong, 3, 0},     // the part that belongs together
        {"\xFF", Utf8::wrong, 1, 0},
    };
    for (const auto& c : cases) {
        const auto step = utf8_at(c.bytes, 0);
        EXPECT_EQ(static_cast<int>(step.state), static_cast<int>(c.state)) << c.bytes;
        EXPECT_EQ(int{step.size}, c.size) << c.bytes;
        EXPECT_TRUE(step.value == c.value) << c.bytes;
    }
}

TEST(AppendUtf8, every_character_reads_back) {
    for (char32_t value = 0; value <= 0x10FFFF; ++value) {
        if (value >= 0xD800 && value <= 0xDFFF) continue;
        std::string bytes;
        append_utf8(bytes, value);
        const auto step = utf8_at(bytes, 0);
        ASSERT_EQ(static_cast<int>(step.state), static_cast<int>(Utf8::whole));
        ASSERT_EQ(std::size_t{step.size}, bytes.size());
        ASSERT_TRUE(step.value == value);
    }
}

TEST(ClassesOf, samples_of_each_class) {
    EXPECT_EQ(classes_of('a'), kLetter | kLowerOrBoth);
    EXPECT_EQ(classes_of('A'), kLetter | kUpperOrBoth);
    EXPECT_EQ(classes_of(0x01C5), kLetter | kUpperOrBoth);                 // title case
    EXPECT_EQ(classes_of(0x4E2D), kLetter | kUpperOrBoth | kLowerOrBoth);  // no case
    EXPECT_EQ(classes_of(0x0301), kUpperOrBoth | kLowerOrBoth);            // mark
    EXPECT_EQ(classes_of('7'), kNumber);
    EXPECT_EQ(classes_of(0x2167), kNumber);  // Roman eight
    EXPECT_EQ(classes_of(' '), kSpace);
    EXPECT_EQ(classes_of(0x85), kSpace);
    EXPECT_EQ(classes_of('\n'), kSpace | kNewline);
    EXPECT_EQ(classes_of('\r'), kSpace | kNewline);
    EXPECT_EQ(classes_of(0x1C), 0);    // a separator of ASCII is no White_Space
    EXPECT_EQ(classes_of(0x200B), 0);  // neither is the zero width space
    EXPECT_EQ(classes_of(0x1C89), 0);  // a letter since Unicode 16
    EXPECT_EQ(classes_of(0x10FFFF), 0);
}

std::string icu_nfc(const std::u32string& text) {
    UErrorCode status = U_ZERO_ERROR;
    std::u16string source;
    for (const char32_t c : text) {
        if (c > 0xFFFF) {
            source.push_back(static_cast<char16_t>(0xD7C0 + (c >> 10)));
            source.push_back(static_cast<char16_t>(0xDC00 + (c & 0x3FF)));
        } else {
            source.push_back(static_cast<char16_t>(c));
        }
    }
    std::u16string out(source.size() * 4 + 4, u'\0');
    const auto size = unorm2_normalize(unorm2_getNFCInstance(&status), source.data(),
                                       static_cast<int>(source.size()), out.data(),
                                       static_cast<int>(out.size()), &status);
    EXPECT_TRUE(U_SUCCESS(status));
    out.resize(static_cast<std::size_t>(size));
    std::string bytes;
    for (std::size_t i = 0; i < out.size(); ++i) {
        char32_t c = out[i];
        if (c >= 0xD800 && c <= 0xDBFF) c = ((c - 0xD7C0) << 10) + (out[++i] & 0x3FF);
        append_utf8(bytes, c);
    }
    return bytes;
}

TEST(ToNfc, equals_icu_on_random_texts) {
    // Characters that compose, decompose, reorder or block each other, and any other ones.
    const std::vector<char32_t> hard = {'a',    'q',    0x300,   0x301,  0x323,   0x307,  0x308,
                                        0xE9,   0x1EA5, 0x1100,  0x1161, 0x11A8,  0xAC00, 0x212B,
                                        0x958,  0x93C,  0x1D15E, 0x345,  0x1F80,  0xFB1D, 0x0344,
                                        0x2ADC, 0x0B47, 0x0B3E,  0x0B56, 0x110BA, 0x110A5};
    EXPECT_TRUE(rc::check("to_nfc", [&hard](const std::vector<std::uint32_t>& choices) {
        std::u32string text;
        for (const auto choice : choices) {
            char32_t c = hard[choice % hard.size()];
            if (choice % 7 == 0) c = choice / 7 % 0x110000;
            if (c >= 0xD800 && c <= 0xDFFF) c = 'x';
            text.push_back(c);
        }
        std::string bytes;
        for (const char32_t c : text)
            append_utf8(bytes, c);
        RC_ASSERT(to_nfc(bytes) == icu_nfc(text));
    }));
}

TEST(ToNfc, keeps_bytes_that_are_not_utf8) {
    EXPECT_EQ(to_nfc("e\xCC\x81\xFF\xCC\x81"), "\xC3\xA9\xFF\xCC\x81");
    EXPECT_EQ(to_nfc("\xC3"), "\xC3");
    EXPECT_EQ(to_nfc("\xED\xA0\x80"), "\xED\xA0\x80");
}

}  // namespace
}  // namespace etalon::text
