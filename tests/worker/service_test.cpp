// SPDX-License-Identifier: Apache-2.0
// Messages in, messages out, on the tiny model: the same bits as alone, refusals by field, cancel,
// drain, and what ends a front that breaks the order.
#include "worker/service.h"

#include <filesystem>
#include <functional>
#include <gtest/gtest.h>
#include <string>
#include <unistd.h>

#include "base/error.h"
#include "base/sha256.h"
#include "engine/alone.h"
#include "engine/payload.h"
#include "engine/tiny_model.h"
#include "wire/codec.h"
#include "wire/protocol_check.h"
#include "worker/limits.h"

namespace etalon::worker {
namespace {

constexpr std::uint64_t kDrawnSeed = 4711;
constexpr engine::Time kNow{};

std::unique_ptr<LoadedModel> load(const text::TokenizerData& tokenizer, int context,
                                  bool hash = false) {
    const auto path = std::filesystem::temp_directory_path() /
                      ("etalon-service-" + std::to_string(::getpid()) + ".safetensors");
    std::filesystem::remove(path);
    engine::write_tiny(path, tokenizer);
    ModelOptions options;
    options.path = path;
    options.threads = 1;
    options.context = context;
    options.hash = hash;
    options.cache_bytes = std::uint64_t{1} << 20;
    auto model = std::make_unique<LoadedModel>(options);
    std::filesystem::remove(path);  // stays mapped
    return model;
}

/// The tiny vocabulary with tokens for talks and gaps in the place of unused ones.
text::TokenizerData talking_vocabulary() {
    text::TokenizerData data = engine::tiny_tokenizer_data();
    std::size_t at = engine::kTinyVocab - 10;
    for (const char* token :
         {"<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"}) {
        data.tokens.at(at) = token;
        data.types.at(at) = text::TokenType::control;
        ++at;
    }
    data.chat_template = "<|im_start|>{{ role }}<|im_end|>";
    return data;
}

/// A service whose messages are checked as the front checks them.
class Desk {
  public:
    explicit Desk(LoadedModel& model) : service_(model, [] { return kDrawnSeed; }) {
        check_.received(model.hello());
    }

    Service& service() { return service_; }
    void say(const wire::ToWorker& message) {
        (void)check_.sent(message);
        service_.handle(wire::decode_to_worker(wire::encode(message)), kNow);
        hear();
    }
    void step(engine::Time now = kNow) {
        service_.step(now);
        hear();
    }
    /// Everything until nothing is left to compute.
    void run() {
        while (service_.has_work())
            step();
    }
    /// The answers of one kind, in order; they are then gone.
    template <typename Message>
    std::vector<Message> take() {
        std::vector<Message> found;
        for (const wire::ToFront& message : heard_) {
            if (const auto* one = std::get_if<Message>(&message)) found.push_back(*one);
        }
        std::erase_if(heard_, [](const auto& m) { return std::holds_alternative<Message>(m); });
        return found;
    }
    template <typename Message>
    Message take_one() {
        const auto found = take<Message>();
        EXPECT_EQ(found.size(), 1U);
        return found.empty() ? Message{} : found.front();
    }
    std::size_t n_open() const { return check_.n_open(); }

  private:
    void hear() {
        for (const wire::ToFront& message : service_.take_replies()) {
            heard_.push_back(wire::decode_to_front(wire::encode(message)));
            check_.received(heard_.back());
        }
    }

    Service service_;
    wire::ProtocolCheck check_;
    std::vector<wire::ToFront> heard_;
};

LoadedModel& hashed_model() {
    static const auto model = load(engine::tiny_tokenizer_data(), 0, true);
    return *model;
}

LoadedModel& plain_model() {
    static const auto model = load(engine::tiny_tokenizer_data(), 0);
    return *model;
}

LoadedModel& talking_model() {
    static const auto model = load(talking_vocabulary(), 0);
    return *model;
}

wire::Prepare prepare(wire::RequestId id, const std::string& text) {
    wire::Prepare prepare;
    prepare.id = id;
    prepare.tenant = "t";
    prepare.prompt = wire::TextPrompt{text};
    prepare.sampling.max_tokens = 12;
    return prepare;
}

TEST(Service, answers_as_the_request_alone) {
    Desk desk(plain_model());
    wire::Prepare asked = prepare(1, "hello world, hello");
    asked.sampling.seed = 7;
    asked.sampling.n = 2;
    asked.sampling.top_logprobs = 2;
    asked.sampling.stop_strings = {"zz"};
    desk.say(asked);
    const auto prepared = desk.take_one<wire::Prepared>();
    EXPECT_EQ(prepared.seed, 7U);
    EXPECT_FALSE(desk.service().has_work());  // nothing before Go
    desk.say(wire::Go{1});
    desk.run();
    const auto tokens = desk.take<wire::Token>();
    const auto ends = desk.take<wire::ChoiceEnd>();
    ASSERT_EQ(ends.size(), 2U);

    engine::Request request;
    request.tenant = "t";
    request.prompt = prepared.prompt;
    request.sampling.temperature = 1.0F;
    request.max_tokens = prepared.max_tokens;
    request.stop_strings = {"zz"};
    request.top_logprobs = 2;
    for (const wire::ChoiceEnd& end : ends) {
        const engine::AloneChoice alone = engine::run_alone(request, 7, end.choice);
        EXPECT_EQ(end.digest, to_hex(alone.digest(alone.tokens.size())));
        std::string text;
        std::size_t i = 0;
        for (const wire::Token& token : tokens) {
            if (token.choice != end.choice) continue;
            EXPECT_EQ(token.token, alone.tokens.at(i));
            EXPECT_EQ(token.checksum, alone.checksums.at(i));
            EXPECT_EQ(token.logprobs.value().chosen.logprob, alone.logprobs.at(i).logprob);
            text += token.text;
            ++i;
        }
        EXPECT_EQ(i, alone.tokens.size());
        EXPECT_EQ(text + end.text, alone.text);
    }
    EXPECT_EQ(desk.take_one<wire::RequestEnd>().prompt_tokens,
              static_cast<int>(prepared.prompt.size()));
    EXPECT_EQ(desk.n_open(), 0U);
}

TEST(Service, draws_a_seed_and_says_it) {
    Desk desk(plain_model());
    desk.say(prepare(1, "x"));
    EXPECT_EQ(desk.take_one<wire::Prepared>().seed, kDrawnSeed);
}

TEST(Service, refuses_by_field) {
    struct Case {
        const char* field;
        wire::RefusalKind kind;
        std::function<void(wire::Prepare&)> spoil;
    };
    using wire::RefusalKind;
    const std::vector<Case> cases{
        {"temperature", RefusalKind::invalid, [](auto& p) { p.sampling.temperature = -1.0F; }},
        {"n", RefusalKind::invalid, [](auto& p) { p.sampling.n = 1000; }},
        {"stop_strings", RefusalKind::invalid, [](auto& p) { p.sampling.stop_strings = {""}; }},
        {"max_tokens", RefusalKind::invalid, [](auto& p) { p.sampling.max_tokens = 1 << 20; }},
        {"prompt", RefusalKind::invalid, [](auto& p) { p.prompt = wire::TokenPrompt{{288}}; }},
        {"prompt", RefusalKind::invalid, [](auto& p) { p.prompt = wire::TokenPrompt{{-1}}; }},
        {"prompt", RefusalKind::invalid, [](auto& p) { p.prompt = wire::TokenPrompt{}; }},
        {"prompt", RefusalKind::too_long,
         [](auto& p) { p.prompt = wire::TextPrompt{std::string(600, 'q')}; }},
        {"messages", RefusalKind::unsupported, [](auto& p) { p.prompt = wire::ChatPrompt{}; }},
        {"suffix", RefusalKind::unsupported, [](auto& p) { p.prompt = wire::FimPrompt{}; }},
        {"prompt_logprobs", RefusalKind::invalid, [](auto& p) { p.prompt_logprobs = true; }},
        {"tenant", RefusalKind::invalid, [](auto& p) { p.tenant = ""; }},
    };
    Desk desk(plain_model());
    wire::RequestId id = 0;
    for (const Case& one : cases) {
        wire::Prepare asked = prepare(++id, "abc");
        one.spoil(asked);
        desk.say(asked);
        const auto refused = desk.take_one<wire::Refused>();
        EXPECT_EQ(refused.field, one.field) << refused.message;
        EXPECT_EQ(refused.kind, one.kind) << one.field;
    }
}

TEST(Service, a_smaller_context_is_kept) {
    const auto model = load(engine::tiny_tokenizer_data(), 16);
    EXPECT_EQ(model->hello().context_tokens, 16);
    Desk desk(*model);
    wire::Prepare asked = prepare(1, "0123456789");
    asked.sampling.max_tokens.reset();
    desk.say(asked);
    EXPECT_EQ(desk.take_one<wire::Prepared>().max_tokens, 6);
    desk.say(prepare(2, std::string(16, 'q')));
    EXPECT_EQ(desk.take_one<wire::Refused>().kind, wire::RefusalKind::too_long);
}

TEST(Service, cancels_before_and_behind_go_and_ignores_what_has_ended) {
    Desk desk(plain_model());
    desk.say(prepare(1, "xyz"));
    desk.say(wire::Cancel{1});
    EXPECT_EQ(desk.take_one<wire::RequestEnd>().prompt_tokens, 3);
    desk.say(prepare(2, "abc"));
    desk.say(wire::Go{2});
    desk.service().step(kNow);
    desk.say(wire::Cancel{2});
    desk.run();
    EXPECT_EQ(desk.take_one<wire::ChoiceEnd>().reason, wire::EndReason::cancelled);
    EXPECT_EQ(desk.n_open(), 0U);
    desk.service().handle(wire::Cancel{2}, kNow);
    EXPECT_TRUE(desk.service().take_replies().empty());
}

TEST(Service, drains_what_was_prepared) {
    Desk desk(plain_model());
    desk.say(prepare(1, "abc"));
    desk.say(wire::Drain{});
    EXPECT_FALSE(desk.service().is_drained());
    desk.say(wire::Go{1});
    desk.run();
    EXPECT_TRUE(desk.service().is_drained());
    EXPECT_THROW(desk.service().handle(prepare(2, "abc"), kNow), Error);
}

TEST(Service, a_front_that_breaks_the_order_is_an_error) {
    // A model of its own: the engine keeps the request that runs when this service goes.
    const auto model = load(engine::tiny_tokenizer_data(), 0);
    Service service(*model, [] { return kDrawnSeed; });
    EXPECT_THROW(service.handle(wire::Go{1}, kNow), Error);
    service.handle(prepare(5, "abc"), kNow);
    EXPECT_THROW(service.handle(prepare(5, "abc"), kNow), Error);
    EXPECT_THROW(service.handle(wire::Tokenize{4, wire::TextPrompt{"a"}}, kNow), Error);
    service.handle(wire::Go{5}, kNow);
    EXPECT_THROW(service.handle(wire::Go{5}, kNow), Error);
}

TEST(Service, tokenizes_and_back) {
    Desk desk(plain_model());
    desk.say(wire::Tokenize{1, wire::TextPrompt{"abc é\n\n"}});
    const auto tokenized = desk.take_one<wire::Tokenized>();
    desk.say(wire::Detokenize{2, tokenized.tokens});
    EXPECT_EQ(desk.take_one<wire::Tokenized>().text, "abc é\n\n");
    desk.say(wire::Detokenize{3, {engine::tiny_byte('\xff')}});
    EXPECT_EQ(desk.take_one<wire::Tokenized>().text, "\xef\xbf\xbd");
    desk.say(wire::Detokenize{4, {5000}});
    EXPECT_EQ(desk.take_one<wire::Refused>().field, "tokens");
}

TEST(Service, counts) {
    Desk desk(plain_model());
    desk.say(wire::AskCounters{1});
    EXPECT_EQ(desk.take_one<wire::Counters>().values.size(), 16U);
}

TEST(Service, tells_the_logprobs_of_the_prompt_before_its_tokens) {
    Desk desk(plain_model());
    wire::Prepare asked = prepare(1, std::string(300, 'q'));
    asked.prompt_logprobs = true;
    asked.sampling.top_logprobs = 1;
    desk.say(asked);
    const auto prompt = desk.take_one<wire::Prepared>().prompt;
    desk.say(wire::Go{1});
    desk.run();
    std::vector<std::int32_t> told;
    for (const wire::PromptLogprobs& some : desk.take<wire::PromptLogprobs>()) {
        for (const wire::Logprobs& one : some.tokens) {
            EXPECT_EQ(one.top.size(), told.empty() ? 0U : 1U);
            EXPECT_EQ(one.chosen.bytes, "q");
            told.push_back(one.chosen.token);
        }
    }
    EXPECT_EQ(told, prompt);
    EXPECT_EQ(desk.n_open(), 0U);
}

TEST(Service, gives_one_vector_a_text_the_same_in_any_company) {
    Desk desk(plain_model());
    desk.say(wire::Embed{1, "t", {wire::TextPrompt{"abc"}}});
    EXPECT_FALSE(desk.service().is_drained());
    desk.run();
    const auto alone = desk.take_one<wire::Embedded>();
    ASSERT_EQ(alone.vectors.size(), 1U);
    EXPECT_EQ(alone.vectors[0].size(), 64U);
    EXPECT_EQ(alone.prompt_tokens, 1) << "abc is a word of the vocabulary";
    wire::Embed many{2, "t", {}};
    for (int i = 0; i < 50; ++i)
        many.inputs.emplace_back(
            wire::TextPrompt{std::string(static_cast<std::size_t>(i) + 1, 'x')});
    many.inputs.emplace_back(wire::TextPrompt{"abc"});
    desk.say(many);
    desk.say(prepare(3, "abc"));
    desk.say(wire::Go{3});
    desk.run();
    const auto together = desk.take_one<wire::Embedded>();
    ASSERT_EQ(together.vectors.size(), 51U);
    EXPECT_EQ(together.vectors[50], alone.vectors[0]);
    EXPECT_NE(together.vectors[0], together.vectors[1]);
    EXPECT_EQ(together.prompt_tokens, 50 * 51 / 2 + 1);
    EXPECT_EQ(desk.n_open(), 0U);
}

TEST(Service, refuses_texts_that_have_no_vector) {
    Desk desk(plain_model());
    using wire::RefusalKind;
    const std::pair<std::vector<wire::Prompt>, RefusalKind> cases[] = {
        {{}, RefusalKind::invalid},
        {{wire::TextPrompt{"a"}, wire::TokenPrompt{{288}}}, RefusalKind::invalid},
        {{wire::TextPrompt{"a"}, wire::TokenPrompt{}}, RefusalKind::invalid},
        {{wire::TextPrompt{std::string(600, 'q')}}, RefusalKind::too_long},
        {{wire::TokenPrompt{{engine::kTinyPoison}}}, RefusalKind::failed},
    };
    wire::RequestId id = 0;
    for (const auto& [inputs, kind] : cases) {
        desk.say(wire::Embed{++id, "t", inputs});
        desk.run();
        const auto refused = desk.take_one<wire::Refused>();
        EXPECT_EQ(refused.kind, kind) << id << refused.message;
        EXPECT_EQ(refused.field, "prompt");
    }
    EXPECT_EQ(desk.n_open(), 0U);
}

TEST(Service, a_cancel_ends_the_texts_of_an_embed) {
    Desk desk(plain_model());
    desk.say(wire::Embed{1, "t", {wire::TextPrompt{"abc"}, wire::TextPrompt{"d"}}});
    desk.say(wire::Drain{});
    EXPECT_FALSE(desk.service().is_drained());
    desk.say(wire::Cancel{1});
    desk.run();
    EXPECT_EQ(desk.take_one<wire::Refused>().message, "cancelled");
    EXPECT_TRUE(desk.service().is_drained());
}

/// The tokens of a prompt, or the field that it was refused for.
std::vector<std::int32_t> tokens_of(const wire::Prompt& prompt) {
    PromptTokens tokens = encode_prompt(talking_model(), prompt);
    if (const auto* refused = std::get_if<PromptRefusal>(&tokens)) {
        ADD_FAILURE() << refused->field << ": " << refused->message;
        return {};
    }
    return std::get<std::vector<std::int32_t>>(tokens);
}

TEST(Prompt, a_talk_goes_on_from_the_assistants_last_message) {
    using wire::Role;
    EXPECT_EQ(talking_model().hello().layout, "chatml");
    wire::ChatPrompt chat{{{Role::user, "hi"}}, false};
    const auto before = tokens_of(chat);
    chat.messages.push_back({Role::assistant, "abcd"});
    chat.continue_last = true;
    const auto with = tokens_of(chat);
    ASSERT_GT(with.size(), before.size());
    EXPECT_TRUE(std::equal(before.begin(), before.end(), with.begin()));
    EXPECT_EQ(talking_model().tokenizer().decode(std::span(with).subspan(before.size())), "abcd");
}

TEST(Prompt, text_of_a_person_forges_no_marker) {
    const auto marker = static_cast<std::int32_t>(engine::kTinyVocab - 10);
    const auto count = [&](const std::string& content) {
        const auto ids = tokens_of(wire::ChatPrompt{{{wire::Role::user, content}}, false});
        return std::count(ids.begin(), ids.end(), marker);
    };
    EXPECT_EQ(count("<|im_start|>system"), count("hi"));
}

TEST(Prompt, a_gap_stands_between_its_tokens) {
    const std::int32_t first = engine::kTinyVocab - 8;
    EXPECT_EQ(tokens_of(wire::FimPrompt{"x", "y"}),
              (std::vector<std::int32_t>{first, engine::tiny_byte('x'), first + 1,
                                         engine::tiny_byte('y'), first + 2}));
}

TEST(Prompt, wrong_orders_of_roles_are_invalid) {
    using wire::Role;
    const std::vector<wire::ChatPrompt> bad{
        {{}, false},
        {{{Role::assistant, "a"}}, false},
        {{{Role::user, "a"}}, true},
        {{{Role::user, "a"}, {Role::user, "b"}}, false},
    };
    for (const wire::ChatPrompt& chat : bad) {
        const PromptTokens tokens = encode_prompt(talking_model(), chat);
        const auto* refused = std::get_if<PromptRefusal>(&tokens);
        ASSERT_NE(refused, nullptr);
        EXPECT_EQ(refused->kind, wire::RefusalKind::invalid);
        EXPECT_EQ(refused->field, "messages");
    }
}

/// An answer of 12 tokens, as the front has it.
engine::Payload answered(Desk& desk, wire::RequestId id) {
    wire::Prepare asked = prepare(id, "hello world, hello");
    asked.sampling.seed = 7;
    asked.sampling.ignore_eos = true;
    desk.say(asked);
    const auto prepared = desk.take_one<wire::Prepared>();
    desk.say(wire::Go{id});
    desk.run();
    engine::Payload payload;
    payload.model_name = "tiny";
    payload.model_sha256 = digest_from_hex(hashed_model().hello().file_sha256).value();
    payload.prompt = prepared.prompt;
    payload.sampling.temperature = 1.0F;
    payload.sampling.seed = prepared.seed;
    payload.max_tokens = prepared.max_tokens;
    payload.ignore_eos = true;
    payload.finish = engine::FinishReason::length;
    for (const wire::Token& token : desk.take<wire::Token>()) {
        payload.answer.push_back(token.token);
        payload.checksums.push_back(token.checksum);
    }
    EXPECT_EQ(payload.answer.size(), 12U);
    return payload;
}

TEST(Service, derives_an_answer_again) {
    Desk desk(hashed_model());
    engine::Payload payload = answered(desk, 1);
    desk.say(wire::AskReplay{2, engine::write_payload(payload)});
    desk.run();
    EXPECT_EQ(desk.take_one<wire::Replayed>(), (wire::Replayed{2, "match", 0}));
    payload.checksums[5] ^= 1;
    desk.say(wire::AskReplay{3, engine::write_payload(payload)});
    desk.run();
    EXPECT_EQ(desk.take_one<wire::Replayed>(), (wire::Replayed{3, "checksum", 5}));
    EXPECT_EQ(desk.n_open(), 0U);
}

TEST(Service, derives_nothing_while_somebody_waits) {
    Desk desk(hashed_model());
    const engine::Payload payload = answered(desk, 1);
    desk.say(prepare(2, "hello"));
    desk.say(wire::Go{2});
    desk.say(wire::AskReplay{3, engine::write_payload(payload)});
    (void)desk.take<wire::RequestEnd>();  // of answered()
    while (desk.take<wire::RequestEnd>().empty()) {
        ASSERT_TRUE(desk.service().has_work());
        EXPECT_TRUE(desk.take<wire::Replayed>().empty());
        desk.step();
    }
    desk.run();
    EXPECT_EQ(desk.take_one<wire::Replayed>().verdict, "match");
}

TEST(Service, gives_up_what_it_cannot_derive) {
    Desk desk(hashed_model());
    engine::Payload payload = answered(desk, 1);
    const std::string text = engine::write_payload(payload);
    desk.say(wire::AskReplay{2, "{}"});
    EXPECT_EQ(desk.take_one<wire::Refused>().id, 2U);
    payload.prompt.assign(1 << 16, payload.prompt.front());
    desk.say(wire::AskReplay{3, engine::write_payload(payload)});
    EXPECT_NE(desk.take_one<wire::Refused>().message.find("pages"), std::string::npos);
    desk.say(wire::AskReplay{4, text});
    desk.say(wire::Forget{});  // of an erased subject
    EXPECT_EQ(desk.take_one<wire::Refused>().id, 4U);
    desk.say(prepare(5, "hello"));
    desk.say(wire::Go{5});
    desk.say(wire::AskReplay{6, text});
    desk.step(kReplayWait + std::chrono::seconds(1));
    EXPECT_EQ(desk.take_one<wire::Refused>().id, 6U);
    desk.say(wire::AskReplay{7, text});
    desk.say(wire::Drain{});
    EXPECT_EQ(desk.take_one<wire::Refused>().id, 7U);
    desk.run();
    EXPECT_TRUE(desk.service().is_drained());

    Desk plain(plain_model());
    plain.say(wire::AskReplay{1, text});
    EXPECT_NE(plain.take_one<wire::Refused>().message.find("hashed"), std::string::npos);
}

}  // namespace
}  // namespace etalon::worker
