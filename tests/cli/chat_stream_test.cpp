// SPDX-License-Identifier: Apache-2.0
// Events in pieces of any size; what a terminal must not get.
#include "cli/chat_stream.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace etalon::cli {
namespace {

constexpr const char* kAnswer =
    ": ping\n\n"
    "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\\u00fc\"}}],\"usage\":null}\n\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"ezi\"}}]}\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3}}\n\n"
    "data: [DONE]\n\n";

TEST(ChatStream, GivesOneTextHoweverItIsCut) {
    const std::string_view whole = kAnswer;
    for (std::size_t n = 1; n <= whole.size(); ++n) {
        ChatStream stream;
        std::string added;
        for (std::size_t i = 0; i < whole.size(); i += n)
            added += stream.take(whole.substr(i, n));
        ASSERT_EQ(added, "Grüezi") << n;
        ASSERT_EQ(stream.text(), "Grüezi");
        ASSERT_EQ(stream.n_prompt(), 7);
        ASSERT_EQ(stream.n_answer(), 3);
        ASSERT_EQ(stream.error(), "");
    }
}

TEST(ChatStream, KeepsWhatWentWrong) {
    ChatStream stream;
    EXPECT_EQ(stream.take("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"), "a");
    EXPECT_EQ(stream.take("data: {\"error\":{\"message\":\"the worker was lost\"}}\n\n"), "");
    EXPECT_EQ(stream.error(), "the worker was lost");
    EXPECT_EQ(stream.text(), "a");
}

TEST(ChatStream, SkipsOtherShapes) {
    ChatStream stream;
    for (const char* event : {"data: 5\n\n", "data: {}\n\n", "data: {\"choices\":[]}\n\n",
                              "data: {\"choices\":[[]]}\n\n", "data: {\"choices\":{}}\n\n",
                              "data: {\"choices\":[{\"delta\":{\"content\":[]}}]}\n\n",
                              "data: {\"error\":\"x\",\"usage\":{\"prompt_tokens\":\"x\"}}\n\n"})
        EXPECT_EQ(stream.take(event), "") << event;
    EXPECT_EQ(stream.error(), "");
    EXPECT_THROW(stream.take(std::string(2U << 20, 'x')), Error);
}

TEST(TerminalText, HasNoControlCharactersButLineEndsAndTabs) {
    EXPECT_EQ(terminal_text("a\nb\tc é"), "a\nb\tc é");
    EXPECT_EQ(terminal_text("\x1b[2Jx\x07\r\x7f"), "[2Jx");
    EXPECT_EQ(terminal_text("x\xc2\x9b"
                            "31my\xc2\xa0z"),
              "x31my\xc2\xa0z");
}

}  // namespace
}  // namespace etalon::cli
