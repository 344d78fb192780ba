// SPDX-License-Identifier: Apache-2.0
// What is refused, with the field and both counts, and what is accepted at its border.
#include "engine/request.h"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

#include "engine/limits.h"

namespace etalon::engine {
namespace {

constexpr Room kRoom{
    .vocab_size = 100, .context_tokens = 512, .cache_tokens = 256, .kv_token_bytes = 1000};

Request good() {
    Request request;
    request.tenant = "ann";
    request.prompt = {1, 2, 3};
    return request;
}

/// The field for which the changed request is refused, "" when it is accepted.
std::string field_of(const std::function<void(Request&)>& change) {
    Request request = good();
    change(request);
    const auto refusal = check_request(request, kRoom);
    if (!refusal) return "";
    EXPECT_EQ(refusal->error.code(), ExitCode::usage);
    EXPECT_FALSE(refusal->error.message().empty());
    return refusal->field;
}

TEST(Request, a_prompt_that_does_not_fit_is_refused_with_both_counts) {
    Request request = good();
    request.prompt.assign(512, 1);
    const auto refusal = check_request(request, kRoom);
    ASSERT_TRUE(refusal.has_value());
    EXPECT_EQ(refusal->field, "prompt");
    EXPECT_NE(refusal->error.message().find("512 tokens"), std::string::npos);
    EXPECT_NE(refusal->error.message().find("context holds 512"), std::string::npos);
}

TEST(Request, prompt_and_answer_must_fit_together) {
    Request request = good();
    request.max_tokens = 510;
    auto refusal = check_request(request, kRoom);
    ASSERT_TRUE(refusal.has_value());
    EXPECT_EQ(refusal->field, "max_tokens");
    EXPECT_NE(refusal->error.message().find("513, the context holds 512"), std::string::npos);
    request.max_tokens = 255;  // 3 + 255 - 1 = 257 positions
    refusal = check_request(request, kRoom);
    ASSERT_TRUE(refusal.has_value());
    EXPECT_EQ(refusal->field, "max_tokens");
    EXPECT_NE(refusal->error.message().find("257000 bytes"), std::string::npos);
    EXPECT_NE(refusal->error.message().find("256000 exist"), std::string::npos);
    request.max_tokens = 254;
    EXPECT_FALSE(check_request(request, kRoom).has_value());
}

TEST(Request, choices_that_no_queue_holds_are_refused_for_good) {
    const Room large{.vocab_size = 100,
                     .context_tokens = 1 << 24,
                     .cache_tokens = 1 << 24,
                     .kv_token_bytes = 1000};
    Request request = good();
    request.prompt.assign(1 << 20, 1);
    request.n = 100;
    EXPECT_EQ(check_request(request, large)->field, "n");
    request.n = 10;
    EXPECT_FALSE(check_request(request, large).has_value());
}

TEST(Request, an_answer_without_a_limit_gets_what_is_left) {
    Request request = good();
    EXPECT_EQ(answer_tokens_max(request, kRoom), 254);
    request.max_tokens = 7;
    EXPECT_EQ(answer_tokens_max(request, kRoom), 7);
    request.max_tokens.reset();
    request.prompt.assign(256, 1);
    ASSERT_FALSE(check_request(request, kRoom).has_value());
    EXPECT_EQ(answer_tokens_max(request, kRoom), 1);
    request.prompt.assign(257, 1);
    EXPECT_EQ(check_request(request, kRoom)->field, "prompt");
}

TEST(Request, fields_outside_their_range_are_named) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinity = std::numeric_limits<float>::infinity();
    EXPECT_EQ(field_of([](Request&) {}), "");
    EXPECT_EQ(field_of([](Request& r) { r.tenant = ""; }), "tenant");
    EXPECT_EQ(field_of([](Request& r) { r.tenant.assign(kTenantBytesMax + 1, 'a'); }), "tenant");
    EXPECT_EQ(field_of([](Request& r) { r.cache_key.assign(1000, 'a'); }), "cache_key");
    EXPECT_EQ(field_of([](Request& r) { r.weight = 0; }), "weight");
    EXPECT_EQ(field_of([](Request& r) { r.n = 0; }), "n");
    EXPECT_EQ(field_of([](Request& r) { r.n = kChoicesMax + 1; }), "n");
    EXPECT_EQ(field_of([](Request& r) { r.prompt.clear(); }), "prompt");
    EXPECT_EQ(field_of([](Request& r) { r.prompt.push_back(100); }), "prompt");
    EXPECT_EQ(field_of([](Request& r) { r.prompt.push_back(-1); }), "prompt");
    EXPECT_EQ(field_of([](Request& r) { r.prediction = {1, 100}; }), "prediction");
    EXPECT_EQ(field_of([](Request& r) { r.prediction.assign(513, 1); }), "prediction");
    EXPECT_EQ(field_of([](Request& r) { r.max_tokens = 0; }), "max_tokens");
    EXPECT_EQ(field_of([](Request& r) { r.max_tokens = INT32_MAX; }), "max_tokens");
    EXPECT_EQ(field_of([](Request& r) { r.min_tokens = -1; }), "min_tokens");
    EXPECT_EQ(field_of([](Request& r) { r.max_tokens = 4, r.min_tokens = 5; }), "min_tokens");
    EXPECT_EQ(field_of([](Request& r) { r.top_logprobs = 21; }), "top_logprobs");
    EXPECT_EQ(field_of([](Request& r) { r.stop_tokens = {100}; }), "stop_tokens");
    EXPECT_EQ(field_of([](Request& r) { r.stop_strings = {""}; }), "stop");
    EXPECT_EQ(field_of([](Request& r) { r.stop_strings = {"\xA9x"}; }), "stop");
    EXPECT_EQ(field_of([](Request& r) { r.stop_strings = {std::string(257, 'a')}; }), "stop");
    EXPECT_EQ(field_of([](Request& r) { r.stop_strings.assign(17, "a"); }), "stop");
    const auto sampling = [](float exact::SamplingParameters::*field, float value) {
        return field_of([=](Request& r) { r.sampling.*field = value; });
    };
    using P = exact::SamplingParameters;
    for (const float bad : {nan, infinity, -infinity, -101.0F, 101.0F}) {
        EXPECT_EQ(sampling(&P::temperature, bad), "temperature");
        EXPECT_EQ(sampling(&P::top_p, bad), "top_p");
        EXPECT_EQ(sampling(&P::min_p, bad), "min_p");
        EXPECT_EQ(sampling(&P::repetition_penalty, bad), "repetition_penalty");
        EXPECT_EQ(sampling(&P::presence_penalty, bad), "presence_penalty");
        EXPECT_EQ(sampling(&P::frequency_penalty, bad), "frequency_penalty");
    }
    EXPECT_EQ(sampling(&P::top_p, 0.0F), "top_p");
    EXPECT_EQ(field_of([](Request& r) { r.sampling.top_k = -1; }), "top_k");
    EXPECT_EQ(field_of([=](Request& r) { r.sampling.logit_bias = {{1, nan}}; }), "logit_bias");
    EXPECT_EQ(field_of([](Request& r) { r.sampling.logit_bias = {{1, 0}, {1, 0}}; }), "logit_bias");
    EXPECT_EQ(field_of([](Request& r) { r.sampling.logit_bias = {{100, 0}}; }), "logit_bias");
}

}  // namespace
}  // namespace etalon::engine
