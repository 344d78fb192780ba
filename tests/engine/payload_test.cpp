// SPDX-License-Identifier: Apache-2.0
// The bytes of payloads: one form for each value, and nothing else is read.
#include "engine/payload.h"

#include <bit>
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck.h>
#include <string>

#include "base/error.h"
#include "engine/limits.h"

namespace etalon::engine {
namespace {

// The example of docs/replay.md.
constexpr std::string_view kExample =
    R"({"answer":{"checksums":"00000000000000010123456789abcdef","finish":"stop",)"
    R"("tokens":[7,2]},"arithmetic":2,"choice":0,"model":{"name":"tiny",)"
    R"("sha256":"0000000000000000000000000000000000000000000000000000000000000000"},)"
    R"("prompt":[1,5,9],"sampling":{"frequency_penalty":"00000000","ignore_eos":false,)"
    R"("logit_bias":[[3,"c0000000"],[7,"3f800000"]],"mask":null,"max_tokens":16,)"
    R"("min_p":"00000000","min_tokens":0,"n":1,"presence_penalty":"00000000",)"
    R"("repetition_penalty":"3f800000","seed":"00000000000000ff","stop_strings":["\n\n"],)"
    R"("stop_tokens":[],"temperature":"3f4ccccd","top_k":0,"top_logprobs":null,)"
    R"("top_p":"3f800000"},"version":1})";

Payload example() {
    Payload payload;
    payload.model_name = "tiny";
    payload.prompt = {1, 5, 9};
    payload.sampling.temperature = 0.8F;
    payload.sampling.logit_bias = {{7, 1.0F}, {3, -2.0F}};
    payload.sampling.seed = 255;
    payload.max_tokens = 16;
    payload.stop_strings = {"\n\n"};
    payload.answer = {7, 2};
    payload.checksums = {1, 0x0123456789abcdef};
    return payload;
}

/// "" when it is read.
std::string refusal(std::string_view bytes) {
    try {
        (void)read_payload(bytes);
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid);
        return error.message();
    }
    return "";
}

std::string replaced(std::string_view from, std::string_view to) {
    std::string text(kExample);
    const std::size_t place = text.find(from);
    EXPECT_NE(place, std::string::npos) << from;
    return text.replace(place, from.size(), to);
}

TEST(Payload, has_the_bytes_of_the_documentation) {
    EXPECT_EQ(write_payload(example()), kExample);
    EXPECT_EQ(write_payload(read_payload(kExample)), kExample);
}

float any_float() {
    const auto bits = *rc::gen::arbitrary<std::uint32_t>();
    // No exponent of 255: infinities and NaN.
    return std::bit_cast<float>((bits >> 23 & 255) == 255 ? bits & 0x807fffffU : bits);
}

std::string any_text(std::size_t bytes_max) {
    std::string text;
    const int n = *rc::gen::inRange(0, 12);
    for (int i = 0; i < n; ++i) {
        text += *rc::gen::element<std::string>("a", "\"", "\\", "\n", "\t", "\r", "\b", "\f",
                                               std::string(1, '\0'), "\x1f", "\x7f", "é", "€", "😀",
                                               "/", "\xe2\x80\xa8");
    }
    while (text.size() > bytes_max)
        text.clear();
    return text;
}

std::vector<std::int32_t> any_tokens(int n_max) {
    std::vector<std::int32_t> tokens;
    const int n = *rc::gen::inRange(0, n_max + 1);
    for (int i = 0; i < n; ++i)
        tokens.push_back(
            *rc::gen::element(0, 1, 9, 10, 49151, INT32_MAX, *rc::gen::inRange(0, 999)));
    return tokens;
}

Payload any_payload() {
    Payload p;
    p.model_name = any_text(kModelNameBytesMax);
    for (std::uint8_t& byte : p.model_sha256)
        byte = *rc::gen::arbitrary<std::uint8_t>();
    p.arithmetic = *rc::gen::inRange(1, 99);
    p.prompt = any_tokens(20);
    p.prompt.push_back(4);
    exact::SamplingParameters& s = p.sampling;
    for (float* value : {&s.temperature, &s.top_p, &s.min_p, &s.repetition_penalty,
                         &s.presence_penalty, &s.frequency_penalty}) {
        *value = any_float();
    }
    s.top_k = *rc::gen::inRange(0, 99);
    s.seed = *rc::gen::arbitrary<std::uint64_t>();
    for (int i = *rc::gen::inRange(0, 5); i > 0; --i)
        s.logit_bias.emplace_back(i * 1000, any_float());
    p.n = *rc::gen::inRange(1, kChoicesMax + 1);
    p.choice = *rc::gen::inRange(0, p.n);
    p.max_tokens = *rc::gen::inRange(20, 99);
    p.min_tokens = *rc::gen::inRange(0, p.max_tokens + 1);
    p.ignore_eos = *rc::gen::arbitrary<bool>();
    p.stop_tokens = any_tokens(4);
    for (int i = *rc::gen::inRange(0, 4); i > 0; --i)
        p.stop_strings.push_back(any_text(kStopBytesMax));
    if (*rc::gen::arbitrary<bool>()) p.top_logprobs = *rc::gen::inRange(0, kTopLogprobsMax + 1);
    if (*rc::gen::arbitrary<bool>()) p.mask = MaskSource{any_text(kMaskKindBytesMax), any_text(99)};
    p.answer = any_tokens(20);
    for (std::size_t i = 0; i < p.answer.size(); ++i)
        p.checksums.push_back(*rc::gen::arbitrary<std::uint64_t>());
    p.finish = *rc::gen::element(FinishReason::stop, FinishReason::length, FinishReason::cancelled,
                                 FinishReason::error);
    return p;
}

void expect_equal(const Payload& a, const Payload& b) {
    const auto bits = [](float value) { return std::bit_cast<std::uint32_t>(value); };
    RC_ASSERT(a.model_name == b.model_name && a.model_sha256 == b.model_sha256);
    RC_ASSERT(a.arithmetic == b.arithmetic && a.prompt == b.prompt && a.answer == b.answer);
    RC_ASSERT(a.checksums == b.checksums && a.finish == b.finish);
    RC_ASSERT(a.n == b.n && a.choice == b.choice && a.max_tokens == b.max_tokens);
    RC_ASSERT(a.min_tokens == b.min_tokens && a.ignore_eos == b.ignore_eos);
    RC_ASSERT(a.stop_tokens == b.stop_tokens && a.stop_strings == b.stop_strings);
    RC_ASSERT(a.top_logprobs == b.top_logprobs && a.mask.has_value() == b.mask.has_value());
    if (a.mask) RC_ASSERT(a.mask->kind == b.mask->kind && a.mask->text == b.mask->text);
    const exact::SamplingParameters& s = a.sampling;
    const exact::SamplingParameters& t = b.sampling;
    RC_ASSERT(s.seed == t.seed && s.top_k == t.top_k);
    RC_ASSERT(bits(s.temperature) == bits(t.temperature) && bits(s.top_p) == bits(t.top_p));
    RC_ASSERT(bits(s.min_p) == bits(t.min_p));
    RC_ASSERT(bits(s.repetition_penalty) == bits(t.repetition_penalty));
    RC_ASSERT(bits(s.presence_penalty) == bits(t.presence_penalty));
    RC_ASSERT(bits(s.frequency_penalty) == bits(t.frequency_penalty));
    RC_ASSERT(s.logit_bias.size() == t.logit_bias.size());
}

TEST(Payload, comes_back_from_its_bytes) {
    EXPECT_TRUE(rc::check("read after write is the same value", [] {
        const Payload payload = any_payload();
        const std::string bytes = write_payload(payload);
        const Payload again = read_payload(bytes);
        expect_equal(payload, again);
        RC_ASSERT(write_payload(again) == bytes);
        // A library writes the same bytes: sorted members, no spaces, shortest escapes.
        RC_ASSERT(nlohmann::json::parse(bytes).dump() == bytes);
    }));
}

TEST(Payload, damaged_bytes_are_refused_or_another_payload) {
    EXPECT_TRUE(rc::check("what is read has one form", [] {
        std::string bytes = write_payload(any_payload());
        const auto place =
            static_cast<std::size_t>(*rc::gen::inRange(0, static_cast<int>(bytes.size())));
        switch (*rc::gen::inRange(0, 4)) {
            case 0:
                bytes.resize(place);
                break;
            case 1:
                bytes[place] = *rc::gen::element('0', '"', ',', ']', '}', '\\', 'f', ' ', '-');
                break;
            case 2:
                bytes.insert(place, 1, *rc::gen::element('0', '"', ',', ' ', '\n', '9'));
                break;
            default:
                bytes.erase(place, 1);
                break;
        }
        try {
            RC_ASSERT(write_payload(read_payload(bytes)) == bytes);
        } catch (const Error& error) {
            RC_ASSERT(error.code() == ExitCode::invalid);
        }
    }));
}

TEST(Payload, every_beginning_of_it_is_refused) {
    for (std::size_t n = 0; n < kExample.size(); ++n)
        EXPECT_NE(refusal(kExample.substr(0, n)), "") << n;
}

TEST(Payload, other_forms_of_the_same_values_are_refused) {
    EXPECT_EQ(refusal(std::string(kExample) + "\n"),
              fmt::format("payload, byte {}: expected nothing more", kExample.size()));
    EXPECT_EQ(refusal(replaced("[7,2]", "[7, 2]")),
              "payload, byte 86: expected tokens, an integer from 0 to 2147483647");
    const std::pair<const char*, const char*> forms[] = {
        {"[7,2]", "[07,2]"},
        {"[7,2]", "[7.0,2]"},
        {"[7,2]", "[7e0,2]"},
        {"[7,2]", "[+7,2]"},
        {"[7,2]", "[-0,2]"},
        {"[7,2]", "[7,2,]"},
        {"abcdef", "ABCDEF"},
        {"3f4ccccd", "3F4CCCCD"},
        {R"(\n\n)", R"(\u000a\n)"},
        {R"(\n\n)", R"(\u0041)"},
        {R"(\n\n)", R"(\/)"},
        {R"(\n\n)", "\n"},
        {R"("tiny")", R"("\u0074iny")"},
        {R"("choice":0,)", R"("choice":0,"choice":0,)"},
        {R"("choice":0,)", ""},
        {"{\"answer\"", "{ \"answer\""},
        {"false", "0"},
        {R"([[3,"c0000000"],[7,"3f800000"]])", R"([[7,"3f800000"],[3,"c0000000"]])"},
        {R"([[3,"c0000000"],[7,"3f800000"]])", R"([[3,"c0000000"],[3,"3f800000"]])"}};
    for (const auto& [from, to] : forms)
        EXPECT_NE(refusal(replaced(from, to)), "") << to;
}

TEST(Payload, another_version_is_named) {
    EXPECT_EQ(refusal(replaced("\"version\":1", "\"version\":2")),
              "payload: version 2 is not known, 1 is");
    EXPECT_EQ(refusal(R"({"all":"different","version":7})"),
              "payload: version 7 is not known, 1 is");
}

TEST(Payload, sizes_and_values_out_of_range_are_refused) {
    const auto with = [](const std::function<void(Payload&)>& change) {
        Payload payload = example();
        change(payload);
        try {
            (void)write_payload(payload);
        } catch (const Error& error) {
            return error.message();
        }
        return std::string();
    };
    EXPECT_EQ(with([](Payload& p) { p.checksums.pop_back(); }),
              "payload: the answer has 2 tokens and 1 checksums");
    EXPECT_EQ(refusal(replaced("0123456789abcdef", "")),
              "payload: the answer has 2 tokens and 1 checksums");
    EXPECT_EQ(with([](Payload& p) { p.choice = 1; }), "payload: choice is 1, accepted are 0 to 0");
    EXPECT_EQ(refusal(replaced("\"choice\":0", "\"choice\":1")),
              "payload: choice is 1, accepted are 0 to 0");
    EXPECT_EQ(with([](Payload& p) { p.n = kChoicesMax + 1; }),
              "payload: n is 129, accepted are 1 to 128");
    EXPECT_EQ(with([](Payload& p) { p.prompt.clear(); }), "payload: the prompt is empty");
    EXPECT_EQ(with([](Payload& p) { p.prompt[0] = -1; }),
              "payload: prompt is -1, accepted are 0 to 2147483647");
    EXPECT_EQ(with([](Payload& p) { p.max_tokens = 1; }),
              "payload: tokens of the answer is 2, accepted are 0 to 1");
    EXPECT_EQ(with([](Payload& p) { p.min_tokens = 17; }),
              "payload: min_tokens is 17, accepted are 0 to 16");
    EXPECT_EQ(with([](Payload& p) { p.sampling.top_p = std::bit_cast<float>(0x7fc00000U); }),
              "payload: a sampling parameter is not finite");
    EXPECT_EQ(refusal(replaced("3f4ccccd", "7f800000")),
              "payload: a sampling parameter is not finite");
    EXPECT_EQ(with([](Payload& p) { p.sampling.logit_bias[1].first = 7; }),
              "payload: logit_bias names a token twice");
    EXPECT_EQ(with([](Payload& p) { p.stop_strings.assign(17, "x"); }),
              "payload: stop_strings has 17 elements, at most 16 are accepted");
    EXPECT_EQ(with([](Payload& p) { p.stop_strings = {std::string(257, 'x')}; }),
              "payload: a stop string has 257 bytes, at most 256 are accepted");
    EXPECT_EQ(with([](Payload& p) { p.stop_strings = {"\xff"}; }),
              "payload: a stop string is not UTF-8");
    EXPECT_EQ(refusal(replaced(R"(\n\n)", "\xff")), "payload: a stop string is not UTF-8");
    EXPECT_EQ(with([](Payload& p) { p.stop_tokens.assign(257, 1); }),
              "payload: stop_tokens has 257 elements, at most 256 are accepted");
    EXPECT_EQ(with([](Payload& p) { p.top_logprobs = 21; }),
              "payload: top_logprobs is 21, accepted are 0 to 20");
    EXPECT_EQ(with([](Payload& p) { p.model_name.assign(513, 'x'); }),
              "payload: model name has 513 bytes, at most 512 are accepted");
    std::string many = "[1";
    for (std::size_t i = 0; i < kStopTokensMax; ++i)
        many += ",1";
    EXPECT_NE(refusal(replaced("\"stop_tokens\":[", "\"stop_tokens\":" + many)).find("at most 256"),
              std::string::npos);
}

TEST(Payload, is_of_a_request_and_gives_it_back) {
    Request request;
    request.prompt = {3, 4};
    request.sampling = example().sampling;
    request.n = 3;
    request.min_tokens = 2;
    request.ignore_eos = true;
    request.stop_tokens = {5};
    request.stop_strings = {"x"};
    request.top_logprobs = 4;
    const Request again = request_of(payload_of(request, 77, 9, 2));
    EXPECT_EQ(again.prompt, request.prompt);
    EXPECT_EQ(again.seed, 77U);
    EXPECT_EQ(again.sampling.seed, 77U);
    EXPECT_EQ(again.sampling.temperature, request.sampling.temperature);
    EXPECT_EQ(again.sampling.logit_bias, request.sampling.logit_bias);
    EXPECT_EQ(again.n, 3);
    EXPECT_EQ(again.max_tokens, 9);
    EXPECT_EQ(again.min_tokens, 2);
    EXPECT_TRUE(again.ignore_eos);
    EXPECT_EQ(again.stop_tokens, request.stop_tokens);
    EXPECT_EQ(again.stop_strings, request.stop_strings);
    EXPECT_EQ(again.top_logprobs, 4);
    EXPECT_EQ(payload_of(request, 77, 9, 2).choice, 2);
}

TEST(Payload, digest_is_of_tokens_and_checksums) {  // DIG-3
    // printf '\7\0\0\0\1\0\0\0\0\0\0\0\2\0\0\0\357\315\253\211\147\105\43\1' | sha256sum
    EXPECT_EQ(to_hex(answer_digest(example())),
              "57f7d4490052241e386d1d0e4ba8db64fc66bbcb36f2e52072218dedcb6c145f");
}

}  // namespace
}  // namespace etalon::engine
