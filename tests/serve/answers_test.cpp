// SPDX-License-Identifier: Apache-2.0
// From the worker's messages to JSON and events.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <vector>

#include "serve/generated.h"
#include "serve/http.h"
#include "serve/responses_answer.h"

namespace etalon::serve {
namespace {

using nlohmann::json;

AnswerPlan plan(Dialect dialect = Dialect::openai) {
    AnswerPlan plan;
    plan.id = "chatcmpl-1";
    plan.created = 1000;
    plan.model = "m";
    plan.fingerprint = "f";
    plan.dialect = dialect;
    return plan;
}

wire::Token token(int choice, std::string text) {
    wire::Token token;
    token.choice = choice;
    token.text = std::move(text);
    return token;
}

wire::ChoiceEnd end(int choice, wire::EndReason reason, std::string text = "") {
    wire::ChoiceEnd end;
    end.choice = choice;
    end.reason = reason;
    end.text = std::move(text);
    end.digest = "d" + std::to_string(choice);
    return end;
}

wire::RequestEnd request_end() {
    wire::RequestEnd end;
    end.prompt_tokens = 10;
    end.cached_tokens = 4;
    end.answer_tokens = 3;
    return end;
}

wire::Prepared prepared() {
    wire::Prepared prepared;
    prepared.seed = 7;
    return prepared;
}

/// The objects of a stream; the last string is what is behind "data: " at its end.
std::vector<json> events_of(const std::string& text, std::string* last = nullptr) {
    std::vector<json> events;
    std::size_t at = 0;
    while (at < text.size()) {
        const std::size_t stop = text.find("\n\n", at);
        EXPECT_NE(stop, std::string::npos);
        const std::string line = text.substr(at, stop - at);
        EXPECT_EQ(line.rfind("data: ", 0), 0U) << line;
        if (line == "data: [DONE]") {
            if (last != nullptr) *last = "[DONE]";
        } else {
            events.push_back(json::parse(line.substr(6)));
        }
        at = stop + 2;
    }
    return events;
}

TEST(ChatAnswer, Whole) {
    const auto answer = make_chat_answer(plan());
    answer->take(0, prepared());
    answer->take(0, token(0, "Hel"));
    answer->take(0, token(0, "lo"));
    answer->take(0, end(0, wire::EndReason::stop, "!"));
    EXPECT_EQ(answer->take_text(), "");
    answer->take(0, request_end());
    const json body = json::parse(answer->take_text());
    EXPECT_EQ(body["object"], "chat.completion");
    EXPECT_EQ(body["created"], 1000);
    const json& choice = body["choices"][0];
    EXPECT_EQ(choice["message"]["role"], "assistant");
    EXPECT_EQ(choice["message"]["content"], "Hello!");
    EXPECT_TRUE(choice["message"]["refusal"].is_null());
    EXPECT_TRUE(choice["logprobs"].is_null());
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_EQ(body["usage"]["total_tokens"], 13);
    EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 4);
    EXPECT_EQ(body["etalon"]["seed"], 7);
    EXPECT_EQ(body["etalon"]["digests"], json::array({"d0"}));
}

TEST(ChatAnswer, StreamOfTwoChoices) {
    AnswerPlan two = plan();
    two.stream = true;
    two.include_usage = true;
    two.n = 2;
    const auto answer = make_chat_answer(std::move(two));
    answer->take(0, prepared());
    answer->take(0, token(1, "b"));
    answer->take(0, token(0, "a"));
    answer->take(0, end(1, wire::EndReason::length));
    answer->take(0, end(0, wire::EndReason::stop));
    answer->take(0, request_end());
    std::string last;
    const std::vector<json> events = events_of(answer->take_text(), &last);
    EXPECT_EQ(last, "[DONE]");
    ASSERT_EQ(events.size(), 7U);
    EXPECT_EQ(events[0]["choices"][0]["delta"]["role"], "assistant");
    EXPECT_EQ(events[2]["choices"][0]["index"], 1);
    EXPECT_EQ(events[2]["choices"][0]["delta"]["content"], "b");
    EXPECT_TRUE(events[2]["usage"].is_null());
    EXPECT_EQ(events[4]["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(events[4]["choices"][0]["delta"], json::object());
    EXPECT_EQ(events[5]["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(events[6]["choices"], json::array());
    EXPECT_EQ(events[6]["usage"]["completion_tokens"], 3);
}

TEST(ChatAnswer, UsageComesOnlyWhenAsked) {
    AnswerPlan quiet = plan();
    quiet.stream = true;
    const auto answer = make_chat_answer(std::move(quiet));
    answer->take(0, prepared());
    answer->take(0, end(0, wire::EndReason::stop));
    answer->take(0, request_end());
    const std::vector<json> events = events_of(answer->take_text());
    ASSERT_EQ(events.size(), 2U);
    for (const json& event : events)
        EXPECT_FALSE(event.contains("usage"));
}

TEST(ChatAnswer, MistralHasUsageInItsLastChunk) {
    AnswerPlan mistral = plan(Dialect::mistral);
    mistral.stream = true;
    const auto answer = make_chat_answer(std::move(mistral));
    answer->take(0, prepared());
    answer->take(0, token(0, "a"));
    answer->take(0, end(0, wire::EndReason::length));
    answer->take(0, request_end());
    const std::vector<json> events = events_of(answer->take_text());
    ASSERT_EQ(events.size(), 3U);
    EXPECT_FALSE(events[1].contains("usage"));
    EXPECT_EQ(events[2]["choices"][0]["finish_reason"], "model_length");
    EXPECT_EQ(events[2]["usage"]["total_tokens"], 13);
}

wire::Token with_logprobs(std::string text, float logprob) {
    wire::Token out = token(0, text);
    wire::Logprobs& logprobs = out.logprobs.emplace();
    logprobs.chosen = {5, logprob, text};
    logprobs.top.push_back(logprobs.chosen);
    logprobs.top.push_back({6, -9.0F, "\xff"});
    return out;
}

/// "<s>", " One", " two": a marker, and a space that the text does not have.
wire::PromptLogprobs told_prompt() {
    wire::PromptLogprobs told{1, {}};
    for (const char* bytes : {"<s>", " One", " two"}) {
        wire::Logprobs& one = told.tokens.emplace_back();
        one.chosen = {5, -1.0F, bytes};
        one.top.push_back({6, -0.5F, "x"});
    }
    return told;
}

TEST(CompletionAnswer, EchoWithLogprobsBeginsWithNull) {
    for (const bool stream : {false, true}) {
        AnswerPlan echo = plan();
        echo.stream = stream;
        echo.has_logprobs = true;
        echo.prompt_logprobs = true;
        echo.prefixes = {"One two"};
        const auto answer = make_completion_answer(std::move(echo));
        answer->take(0, wire::Prepared{1, {5, 5, 5}, 7, 10});
        answer->take(0, told_prompt());
        answer->take(0, with_logprobs(" b", -0.5F));
        answer->take(0, end(0, wire::EndReason::length));
        answer->take(0, request_end());
        json choice;
        if (stream) {
            const std::vector<json> events = events_of(answer->take_text());
            choice = events[0]["choices"][0];
            EXPECT_EQ(choice["text"], "One two");
            EXPECT_EQ(events[1]["choices"][0]["logprobs"]["text_offset"], json({7}));
        } else {
            choice = json::parse(answer->take_text())["choices"][0];
            EXPECT_EQ(choice["text"], "One two b");
            EXPECT_EQ(choice["logprobs"]["token_logprobs"].size(), 4U);
            EXPECT_EQ(choice["logprobs"]["text_offset"], json({0, 0, 3, 7}));
        }
        const json& logprobs = choice["logprobs"];
        EXPECT_EQ(logprobs["tokens"][0], "<s>");
        EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
        EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
        EXPECT_EQ(logprobs["token_logprobs"][1], -1.0);
        EXPECT_EQ(logprobs["top_logprobs"][1]["x"], -0.5);
    }
}

TEST(CompletionAnswer, EchoOfIdsIsTheTextOfTheirTokens) {
    AnswerPlan echo = plan();
    echo.has_logprobs = true;
    echo.prompt_logprobs = true;
    echo.prefixes = {std::nullopt};
    echo.only_prefix = true;
    const auto answer = make_completion_answer(std::move(echo));
    answer->take(0, wire::Prepared{1, {5, 5, 5}, 7, 1});
    wire::PromptLogprobs all = told_prompt();
    answer->take(0, wire::PromptLogprobs{1, {all.tokens[0]}});
    answer->take(0, wire::PromptLogprobs{1, {all.tokens[1], all.tokens[2]}});
    answer->take(0, with_logprobs(" b", -0.5F));
    answer->take(0, end(0, wire::EndReason::length));
    answer->take(0, request_end());
    const json choice = json::parse(answer->take_text())["choices"][0];
    EXPECT_EQ(choice["text"], "<s> One two");
    EXPECT_EQ(choice["logprobs"]["text_offset"], json({0, 3, 7}));
}

TEST(ChatAnswer, LogprobsWithoutTheTokenThatEnds) {
    AnswerPlan with = plan();
    with.has_logprobs = true;
    const auto answer = make_chat_answer(std::move(with));
    answer->take(0, prepared());
    answer->take(0, with_logprobs("a", -0.5F));
    answer->take(0, with_logprobs("<end>", -INFINITY));
    answer->take(0, end(0, wire::EndReason::stop));
    answer->take(0, request_end());
    const json body = json::parse(answer->take_text());
    const json& content = body["choices"][0]["logprobs"]["content"];
    ASSERT_EQ(content.size(), 1U);
    EXPECT_EQ(content[0]["token"], "a");
    EXPECT_EQ(content[0]["logprob"], -0.5);
    EXPECT_EQ(content[0]["bytes"], json::array({97}));
    EXPECT_EQ(content[0]["token_id"], 5);
    EXPECT_EQ(content[0]["top_logprobs"][1]["token_id"], 6);
    EXPECT_EQ(content[0]["top_logprobs"][1]["token"], "\xEF\xBF\xBD");
    EXPECT_EQ(content[0]["top_logprobs"][1]["bytes"], json::array({255}));
}

TEST(CompletionAnswer, PartsEchoAndOrder) {
    AnswerPlan parts = plan();
    parts.n_parts = 2;
    parts.prefixes = {"P0 ", "P1 "};
    const auto answer = make_completion_answer(std::move(parts));
    answer->take(0, prepared());
    answer->take(1, prepared());
    answer->take(1, token(0, "one"));
    answer->take(1, end(0, wire::EndReason::stop));
    answer->take(1, request_end());
    answer->take(0, token(0, "zero"));
    answer->take(0, end(0, wire::EndReason::stop));
    answer->take(0, request_end());
    const json body = json::parse(answer->take_text());
    EXPECT_EQ(body["object"], "text_completion");
    EXPECT_EQ(body["choices"][0]["text"], "P0 zero");
    EXPECT_EQ(body["choices"][1]["text"], "P1 one");
    EXPECT_EQ(body["usage"]["prompt_tokens"], 20);
}

TEST(CompletionAnswer, EchoAlone) {
    AnswerPlan only = plan();
    only.prefixes = {"P"};
    only.only_prefix = true;
    const auto answer = make_completion_answer(std::move(only));
    answer->take(0, prepared());
    answer->take(0, token(0, "hidden"));
    answer->take(0, end(0, wire::EndReason::length));
    answer->take(0, request_end());
    EXPECT_EQ(json::parse(answer->take_text())["choices"][0]["text"], "P");
}

TEST(ResponsesAnswer, WholeAndEvents) {
    const ResponsesRequest request =
        parse_responses_request(R"({"model":"m","input":"x","instructions":"brief"})");
    EXPECT_EQ(request.prompt.messages.size(), 2U);
    for (const bool stream : {false, true}) {
        AnswerPlan wanted = plan();
        wanted.stream = stream;
        const auto answer = make_responses_answer(std::move(wanted), request);
        answer->take(0, prepared());
        answer->take(0, token(0, "a"));
        answer->take(0, end(0, wire::EndReason::length, "b"));
        answer->take(0, request_end());
        const std::string text = answer->take_text();
        if (!stream) {
            const json body = json::parse(text);
            EXPECT_EQ(body["status"], "incomplete");
            EXPECT_EQ(body["output"][0]["content"][0]["text"], "ab");
            EXPECT_EQ(body["usage"]["total_tokens"], 13);
            EXPECT_EQ(body["instructions"], "brief");
            continue;
        }
        std::size_t n = 0;
        for (std::size_t at = 0; (at = text.find("event: ", at)) != std::string::npos; ++at)
            EXPECT_NE(text.find("\"sequence_number\":" + std::to_string(n++), at),
                      std::string::npos);
        EXPECT_EQ(n, 10U);
        EXPECT_EQ(text.rfind("event: response.incomplete\ndata: {"), text.rfind("event: "));
    }
}

TEST(ResponsesAnswer, WhatIsStoredComesBackAndIsWhatWasSent) {
    ResponsesRequest request = parse_responses_request(
        R"({"model":"m","input":[{"role":"developer","content":[{"type":"input_text","text":"x"},
            {"type":"input_text","text":"y"}]},{"role":"user","content":"z"}],"store":true,
            "metadata":{"a":"b"},"previous_response_id":"r"})");
    EXPECT_TRUE(request.store);
    EXPECT_EQ(request.previous, "r");
    EXPECT_EQ(request.prompt.messages.at(0), (wire::ChatMessage{wire::Role::system, "xy"}));
    const auto answer = make_responses_answer(plan(), request, {"anna"}, true);
    answer->take(0, prepared());
    answer->take(0, token(0, "a"));
    answer->take(0, end(0, wire::EndReason::stop, "b"));
    const StoredTurn turn = parse_turn(answer->stored_text(request_end()));
    answer->take(0, request_end());
    EXPECT_EQ(turn.response.dump(), answer->take_text());
    EXPECT_EQ(turn.answer(), "ab");
    EXPECT_EQ(turn.previous(), "r");
    EXPECT_EQ(turn.response["metadata"]["a"], "b");
    EXPECT_EQ(turn.subjects, std::vector<std::string>{"anna"});
    EXPECT_TRUE(turn.names_account);
    ASSERT_EQ(turn.input.size(), 2U);
    EXPECT_EQ(turn.input[0].role, "developer");
    EXPECT_EQ(turn.input[0].parts, (std::vector<std::string>{"x", "y"}));
    EXPECT_EQ(turn.input[1].message(), (wire::ChatMessage{wire::Role::user, "z"}));
    for (const char* wrong : {"", "{}", R"({"response":{},"input":[],"subjects":[]})", "[]"})
        EXPECT_THROW((void)parse_turn(wrong), Error) << wrong;
}

TEST(ResponsesRequest, MetadataHasItsLimits) {
    const auto param = [](const std::string& metadata) {
        try {
            parse_responses_request(R"({"model":"m","input":"x","metadata":)" + metadata + "}");
            return std::string();
        } catch (const ApiError& error) {
            return json::parse(error.body("r"))["param"].get<std::string>();
        }
    };
    json names = json::object();
    for (int i = 0; i < 16; ++i)
        names[std::to_string(i)] = std::string(512, 'x');
    EXPECT_EQ(param(names.dump()), "");
    names["more"] = "x";
    EXPECT_EQ(param(names.dump()), "metadata");
    EXPECT_EQ(param(R"({"a":1})"), "metadata.a");
    EXPECT_EQ(param(json{{"a", std::string(513, 'x')}}.dump()), "metadata.a");
    EXPECT_EQ(param(json{{std::string(65, 'x'), "a"}}.dump()), "metadata");
    EXPECT_EQ(param("7"), "metadata");
}

TEST(ResponsesRequest, NoOtherMemoryAndNoTools) {
    for (const char* more : {R"("store":1)", R"("previous_response_id":7)", R"("conversation":"c")",
                             R"("prompt":{"id":"p"})", R"("background":true)", R"("tools":[{}])",
                             R"("truncation":"auto")", R"("n":2)"}) {
        const std::string name = std::string(more).substr(1, std::string(more).find("\":") - 1);
        try {
            parse_responses_request(R"({"model":"m","input":"x",)" + std::string(more) + "}");
            FAIL() << more;
        } catch (const ApiError& error) {
            EXPECT_EQ(json::parse(error.body("r"))["param"], name);
        }
    }
}

TEST(Answer, AnEndWithAnErrorIsOne) {
    const auto answer = make_chat_answer(plan());
    answer->take(0, prepared());
    wire::ChoiceEnd broken = end(0, wire::EndReason::error);
    broken.error = "logits are not finite";
    try {
        answer->take(0, broken);
        FAIL();
    } catch (const ApiError& error) {
        EXPECT_EQ(error.status(), 500);
        EXPECT_EQ(error.message(), "logits are not finite");
    }
}

TEST(Errors, OneBodyForEveryClient) {
    const ApiError error = field_error("n", "n is 0");
    const json body = json::parse(error.body("req_1"));
    EXPECT_EQ(body["object"], "error");
    EXPECT_EQ(body["message"], "n is 0");
    EXPECT_EQ(body["type"], "invalid_request_error");
    EXPECT_EQ(body["param"], "n");
    EXPECT_EQ(body["error"]["message"], "n is 0");
    EXPECT_EQ(body["error"]["param"], "n");
    EXPECT_EQ(body["request_id"], "req_1");
    EXPECT_EQ(error.event("r").rfind("data: {", 0), 0U);
}

TEST(Http, HeadsAndChunks) {
    const HttpResponse response{200, "text/plain", {{"x-a", "1"}}, ""};
    EXPECT_EQ(head_text(response, {true, false, true, 3}),
              "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-a: 1\r\ncontent-length: 3\r\n"
              "connection: keep-alive\r\n\r\n");
    EXPECT_EQ(chunk_text("0123456789abcdefg"), "11\r\n0123456789abcdefg\r\n");
    EXPECT_EQ(percent_decoded("a%2Fb%zz%4"), "a/b%zz%4");
    HttpRequest request;
    request.headers = {{"a", "1"}, {"b", "2"}, {"a", "3"}};
    EXPECT_EQ(request.header("a"), nullptr);
    EXPECT_EQ(*request.header("b"), "2");
}

}  // namespace
}  // namespace etalon::serve
