// SPDX-License-Identifier: Apache-2.0
// Bodies of requests: every numeric field at its edges, hostile JSON, contents, dialects.
#include <fmt/format.h>
#include <functional>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "serve/api_error.h"
#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/limits.h"

namespace etalon::serve {
namespace {

using nlohmann::json;

/// The body's `param` and message, or {"", ""} where it is accepted.
std::pair<std::string, std::string> refusal(const std::function<void()>& parse) {
    try {
        parse();
    } catch (const ApiError& error) {
        EXPECT_EQ(error.status(), 400);
        const json body = json::parse(error.body("req_1"));
        return {body["param"].is_null() ? "(none)" : body["param"].get<std::string>(),
                body["message"]};
    }
    return {"", ""};
}

std::string chat_with(const std::string& more) {
    return R"({"model":"m","messages":[{"role":"user","content":"x"}])" + more + "}";
}

std::string param_of(const std::string& body, Dialect dialect = Dialect::openai) {
    return refusal([&] { parse_chat_request(body, dialect); }).first;
}

ChatRequest accepted(const std::string& body, Dialect dialect = Dialect::openai) {
    return parse_chat_request(body, dialect);
}

struct NumericField {
    const char* name;
    const char* good;
    const char* too_low;
    const char* too_high;
};

const NumericField kNumericFields[] = {
    {"temperature", "0.7", "-0.1", "2.1"},     {"top_p", "0.9", "-0.1", "1.1"},
    {"top_k", "40", "-2", "4194305"},          {"min_p", "0.1", "-0.1", "1.5"},
    {"repetition_penalty", "1.1", "0", "101"}, {"presence_penalty", "-2", "-2.1", "2.1"},
    {"frequency_penalty", "2", "-2.1", "2.1"}, {"n", "2", "0", "129"},
    {"max_tokens", "5", "0", "16777217"},      {"max_completion_tokens", "5", "0", "16777217"},
    {"min_tokens", "1", "-1", "16777217"},
};

TEST(NumericFields, EachRangeIsKeptAndNamed) {
    for (const NumericField& field : kNumericFields) {
        const auto with = [&](const std::string& value) {
            return chat_with(fmt::format(R"(,"{}":{})", field.name, value));
        };
        EXPECT_EQ(param_of(with(field.good)), "") << field.name;
        EXPECT_EQ(param_of(with("null")), "") << field.name;
        for (const std::string& value :
             {std::string(field.too_low), std::string(field.too_high), std::string("NaN"),
              std::string("-1e308"), std::string("1e308"), std::string("1e999"),
              std::string("Infinity"), std::string("123456789012345678901234567890"),
              std::string("\"1\""), std::string("[1]"), std::string("{}"), std::string("true"),
              std::string("-")}) {
            EXPECT_EQ(param_of(with(value)), field.name) << field.name << " " << value;
        }
    }
}

TEST(NumericFields, IntegersAreWhole) {
    EXPECT_EQ(param_of(chat_with(R"(,"max_tokens":5.5)")), "max_tokens");
    EXPECT_EQ(accepted(chat_with(R"(,"max_tokens":5.0)")).sampling.max_tokens, 5);
    EXPECT_EQ(param_of(chat_with(R"(,"n":1e300)")), "n");
}

TEST(NumericFields, SeedsAreAny64Bits) {
    const auto seed = [](const char* text) {
        return *accepted(chat_with(std::string(R"(,"seed":)") + text)).sampling.seed;
    };
    EXPECT_EQ(seed("7"), 7U);
    EXPECT_EQ(seed("-1"), ~std::uint64_t{0});
    EXPECT_EQ(seed("18446744073709551615"), ~std::uint64_t{0});
    EXPECT_EQ(*accepted(chat_with(R"(,"random_seed":9)"), Dialect::mistral).sampling.seed, 9U);
    EXPECT_EQ(param_of(chat_with(R"(,"seed":1,"random_seed":2)")), "random_seed");
    EXPECT_EQ(param_of(chat_with(R"(,"seed":18446744073709551616)")), "seed");
    EXPECT_EQ(param_of(chat_with(R"(,"seed":1.5)")), "seed");
    const auto drawn = accepted(chat_with("")).sampling.seed;
    ASSERT_TRUE(drawn.has_value());
    EXPECT_LT(*drawn, std::uint64_t{1} << 53);
}

TEST(NumericFields, LogprobsAndBiases) {
    EXPECT_EQ(accepted(chat_with(R"(,"logprobs":true,"top_logprobs":3)")).sampling.top_logprobs, 3);
    EXPECT_EQ(accepted(chat_with(R"(,"logprobs":true)")).sampling.top_logprobs, 0);
    EXPECT_EQ(accepted(chat_with(R"(,"logprobs":false)")).sampling.top_logprobs, std::nullopt);
    EXPECT_EQ(param_of(chat_with(R"(,"top_logprobs":3)")), "top_logprobs");
    EXPECT_EQ(param_of(chat_with(R"(,"logprobs":true,"top_logprobs":21)")), "top_logprobs");
    const auto biases = accepted(chat_with(R"(,"logit_bias":{"7":-100,"3":1.5})")).sampling;
    ASSERT_EQ(biases.logit_bias.size(), 2U);
    EXPECT_EQ(biases.logit_bias[0], std::make_pair(3, 1.5F));
    EXPECT_EQ(param_of(chat_with(R"(,"logit_bias":{"7":101})")), "logit_bias.7");
    EXPECT_EQ(param_of(chat_with(R"(,"logit_bias":{"x":1})")), "logit_bias");
    EXPECT_EQ(param_of(chat_with(R"(,"logit_bias":{"7":1,"07":2})")), "logit_bias");
    EXPECT_EQ(param_of(chat_with(R"(,"logit_bias":{"-7":1})")), "logit_bias");
}

TEST(HostileJson, IsRefusedWithItsPlace) {
    EXPECT_EQ(param_of(""), "(none)");
    EXPECT_EQ(param_of("[]"), "(none)");
    EXPECT_EQ(param_of("{"), "(none)");
    EXPECT_EQ(param_of("nonsense"), "(none)");
    EXPECT_EQ(param_of(chat_with(R"(,"x":1}garbage)")), "x");
    EXPECT_EQ(param_of(chat_with(R"(,"temperature":1,"temperature":2)")), "temperature");
    EXPECT_EQ(param_of(chat_with(",\"user\":\"\xff\xfe\"")), "user");
    EXPECT_EQ(param_of(chat_with(R"(,"user":"\ud800")")), "user");
    std::string deep =
        chat_with(R"(,"tools":)" + std::string(10000, '[') + std::string(10000, ']'));
    EXPECT_EQ(param_of(deep), "tools");
    deep = std::string(10000, '[');
    EXPECT_EQ(param_of(deep), "(none)");
    std::string wide = R"({"model":"m")";
    for (std::size_t i = 0; i <= kFieldsMax; ++i)
        wide += fmt::format(R"(,"f{}":0)", i);
    EXPECT_NE(param_of(wide + "}"), "");
}

TEST(HostileJson, MessagesNeverRepeatTheText) {
    const auto told = refusal([] {
        parse_chat_request(R"({"model":"m","messages":[{"role":"user","content":"SECRET" SECRET)",
                           Dialect::openai);
    });
    EXPECT_EQ(told.second.find("SECRET"), std::string::npos) << told.second;
}

TEST(ChatMessages, RolesAndContents) {
    const ChatRequest request = accepted(
        R"({"model":"m","messages":[{"role":"developer","content":"be brief"},
            {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
            {"role":"assistant","content":null},{"role":"user","content":"c"}]})");
    ASSERT_EQ(request.prompt.messages.size(), 4U);
    EXPECT_EQ(request.prompt.messages[0].role, wire::Role::system);
    EXPECT_EQ(request.prompt.messages[1].content, "ab");
    EXPECT_EQ(request.prompt.messages[2].content, "");
    EXPECT_FALSE(request.prompt.continue_last);
}

TEST(ChatMessages, WhatIsWrongIsNamed) {
    const auto param = [](const std::string& messages) {
        return param_of(R"({"model":"m","messages":)" + messages + "}");
    };
    EXPECT_EQ(param("[]"), "messages");
    EXPECT_EQ(param("\"hi\""), "messages");
    EXPECT_EQ(param("[1]"), "messages[0]");
    EXPECT_EQ(param(R"([{"role":"user"}])"), "messages[0].content");
    EXPECT_EQ(param(R"([{"content":"x"}])"), "messages[0].role");
    EXPECT_EQ(param(R"([{"role":"king","content":"x"}])"), "messages[0].role");
    EXPECT_EQ(param(R"([{"role":"tool","content":"x"}])"), "messages[0].role");
    EXPECT_EQ(param(R"([{"role":"user","content":[{"type":"image_url","image_url":"x"}]}])"),
              "messages[0].content[0]");
    EXPECT_EQ(param(R"([{"role":"assistant","content":"","tool_calls":[{}]}])"),
              "messages[0].tool_calls");
    EXPECT_EQ(param(R"([{"role":"user","content":"x","prefix":true}])"), "messages[0].prefix");
}

TEST(ChatMessages, AnAnswerCanBeContinued) {
    const std::string body =
        R"({"model":"m","messages":[{"role":"user","content":"x"},
            {"role":"assistant","content":"The","prefix":true}]})";
    EXPECT_TRUE(accepted(body, Dialect::mistral).prompt.continue_last);
    const std::string without =
        R"({"model":"m","messages":[{"role":"user","content":"x"},
            {"role":"assistant","content":"The"}]})";
    EXPECT_EQ(param_of(without, Dialect::mistral), "messages");
    EXPECT_FALSE(accepted(without).prompt.continue_last);
    EXPECT_EQ(param_of(chat_with(R"(,"continue_final_message":true)")), "continue_final_message");
}

TEST(UnsupportedFields, AreRefusedByNameWhereTheyMeanSomething) {
    for (const char* more :
         {R"("tools":[{"type":"function"}])", R"("tool_choice":"required")", R"("functions":[{}])",
          R"("audio":{"voice":"x"})", R"("store":true)", R"("guardrails":[{}])",
          R"("web_search_options":{"a":1})", R"("prompt_mode":"reasoning")",
          R"("reasoning_effort":"high")", R"("modalities":["audio"])", R"("verbosity":"low")"}) {
        const std::string name = std::string(more).substr(1, std::string(more).find("\":") - 1);
        EXPECT_EQ(param_of(chat_with(std::string(",") + more)), name);
    }
    EXPECT_EQ(param_of(chat_with(R"(,"response_format":{"type":"json_schema"})")),
              "response_format.type");
    for (const char* more :
         {R"("tools":[])", R"("tools":null)", R"("tool_choice":"none")", R"("store":false)",
          R"("response_format":{"type":"text"})", R"("modalities":["text"])"}) {
        EXPECT_EQ(param_of(chat_with(std::string(",") + more)), "") << more;
    }
}

TEST(UnknownFields, AreListed) {
    const ChatRequest request =
        accepted(chat_with(R"(,"colour":"red","user":"u","stream_options":{"shape":1})"));
    EXPECT_EQ(request.ignored,
              (std::vector<std::string>{"stream_options.shape", "user", "colour"}));
}

TEST(ChatRequest, StopsLengthsAndCacheKey) {
    const ChatRequest request = accepted(chat_with(
        R"(,"stop":["a","b"],"max_tokens":9,"max_completion_tokens":4,"prompt_cache_key":"k",
            "stream":true,"stream_options":{"include_usage":true},"prediction":
            {"type":"content","content":"p"},"stop_token_ids":[2])"));
    EXPECT_EQ(request.sampling.stop_strings, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(request.sampling.stop_tokens, (std::vector<std::int32_t>{2}));
    EXPECT_EQ(request.sampling.max_tokens, 4);
    EXPECT_EQ(request.cache_key, "k");
    EXPECT_TRUE(request.stream);
    EXPECT_TRUE(request.include_usage);
    EXPECT_EQ(request.sampling.prediction, "p");
    EXPECT_EQ(param_of(chat_with(R"(,"stop":"")")), "stop");
    EXPECT_EQ(param_of(chat_with(R"(,"stop":["a",1])")), "stop[1]");
    EXPECT_EQ(param_of(chat_with(R"(,"min_tokens":5,"max_tokens":4)")), "min_tokens");
}

TEST(ChatRequest, SafePromptStandsFirst) {
    const ChatRequest request = accepted(chat_with(R"(,"safe_prompt":true)"), Dialect::mistral);
    ASSERT_EQ(request.prompt.messages.size(), 2U);
    EXPECT_EQ(request.prompt.messages[0].role, wire::Role::system);
}

TEST(CompletionRequest, Prompts) {
    const auto with = [](const std::string& prompt, const std::string& more = "") {
        return R"({"model":"m","prompt":)" + prompt + more + "}";
    };
    EXPECT_EQ(std::get<wire::TextPrompt>(parse_completion_request(with("\"a\"")).prompts[0]).text,
              "a");
    EXPECT_EQ(parse_completion_request(with(R"(["a","b"])")).prompts.size(), 2U);
    const auto ids = parse_completion_request(with("[1,2,3]"));
    ASSERT_EQ(ids.prompts.size(), 1U);
    EXPECT_EQ(std::get<wire::TokenPrompt>(ids.prompts[0]).tokens.size(), 3U);
    EXPECT_EQ(parse_completion_request(with("[[1],[2,3]]")).prompts.size(), 2U);
    const auto param = [](const std::string& body) {
        return refusal([&] { parse_completion_request(body); }).first;
    };
    EXPECT_EQ(param(with("[]")), "prompt");
    EXPECT_EQ(param(with("[-1]")), "prompt");
    EXPECT_EQ(param(with("7")), "prompt");
    EXPECT_EQ(param(with("[[1],\"a\",{}]")), "prompt[2]");
    EXPECT_EQ(param(with("\"a\"", R"(,"best_of":2)")), "best_of");
    EXPECT_EQ(param(with("\"a\"", R"(,"max_tokens":0)")), "max_tokens");
    EXPECT_EQ(param(with("[1]", R"(,"echo":true)")), "echo");
    const auto told = parse_completion_request(with("[1]", R"(,"echo":true,"logprobs":2)"));
    EXPECT_TRUE(told.prompt_logprobs);
    EXPECT_EQ(told.sampling.top_logprobs, 2);
    EXPECT_EQ(param(with("\"a\"", R"(,"suffix":"z","echo":true,"logprobs":1)")), "echo");
    EXPECT_FALSE(parse_completion_request(with("\"a\"", R"(,"echo":true)")).prompt_logprobs);
    const auto echo = parse_completion_request(with("\"a\"", R"(,"echo":true,"max_tokens":0)"));
    EXPECT_TRUE(echo.only_echo);
    const auto gap = parse_completion_request(with("\"a\"", R"(,"suffix":"z")"));
    EXPECT_EQ(std::get<wire::FimPrompt>(gap.prompts[0]).suffix, "z");
}

TEST(Dialects, PathsAndNamesDecide) {
    HttpRequest request;
    request.path = "/v1/models";
    EXPECT_EQ(target_of(request).dialect, Dialect::openai);
    request.headers = {{"user-agent", "mistral-client-python/1.2.3"}};
    EXPECT_EQ(target_of(request).dialect, Dialect::mistral);
    request.path = "/openai/v1/models";
    EXPECT_EQ(target_of(request).dialect, Dialect::openai);
    EXPECT_EQ(target_of(request).path, "/v1/models");
    request.headers.clear();
    request.path = "/mistral/v1/chat/completions";
    EXPECT_EQ(target_of(request).dialect, Dialect::mistral);
    EXPECT_EQ(target_of(request).path, "/v1/chat/completions");
    request.path = "/mistral/livez";
    EXPECT_EQ(target_of(request).path, "/mistral/livez");
}

}  // namespace
}  // namespace etalon::serve
