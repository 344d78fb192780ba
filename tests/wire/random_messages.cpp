// SPDX-License-Identifier: Apache-2.0
// Random messages: every kind and every field takes part, empty ones too.
#include "wire/random_messages.h"

#include <limits>
#include <random>
#include <string>

namespace etalon::wire {

namespace {

class Source {
  public:
    explicit Source(std::uint64_t seed) : random_(seed) {}

    std::uint64_t bits() { return random_(); }
    std::size_t below(std::size_t n) { return random_() % n; }
    bool flag() { return below(2) == 1; }
    std::int32_t number() { return static_cast<std::int32_t>(bits()); }
    float real() {
        constexpr float kSome[] = {0.0F, -0.0F, 1.0F, -2.5F, 1e-38F, 3e38F};
        return kSome[below(std::size(kSome))];
    }
    std::string text() {
        constexpr const char* kPieces[] = {"a", "é", "€", "😀", "\n", "<|im_end|>", "\x01"};
        std::string out;
        for (std::size_t n = below(8); n > 0; --n)
            out += kPieces[below(std::size(kPieces))];
        if (below(8) == 0) out.push_back('\0');
        return out;
    }
    std::string bytes() {
        std::string out(below(6), '\0');
        for (char& byte : out)
            byte = static_cast<char>(bits());
        return out;
    }
    template <typename Make>
    auto list(const Make& make) {
        std::vector<decltype(make())> out;
        for (std::size_t n = below(5); n > 0; --n)
            out.push_back(make());
        return out;
    }
    std::vector<std::int32_t> numbers() {
        return list([&] { return number(); });
    }

  private:
    std::mt19937_64 random_;
};

Prompt random_prompt(Source& in) {
    switch (in.below(4)) {
        case 0: {
            ChatPrompt chat;
            chat.messages = in.list([&] {
                return ChatMessage{static_cast<Role>(in.below(3)), in.text()};
            });
            chat.continue_last = in.flag();
            return chat;
        }
        case 1:
            return TextPrompt{in.text()};
        case 2:
            return TokenPrompt{in.numbers()};
        default:
            return FimPrompt{in.text(), in.text()};
    }
}

Sampling random_sampling(Source& in) {
    Sampling out;
    out.temperature = in.real();
    out.top_k = in.number();
    out.top_p = in.real();
    out.min_p = in.real();
    out.repetition_penalty = in.real();
    out.presence_penalty = in.real();
    out.frequency_penalty = in.real();
    out.logit_bias =
        in.list([&] { return std::pair<std::int32_t, float>(in.number(), in.real()); });
    if (in.flag()) out.seed = in.bits();
    out.n = in.number();
    if (in.flag()) out.max_tokens = in.number();
    out.min_tokens = in.number();
    out.ignore_eos = in.flag();
    out.stop_tokens = in.numbers();
    out.stop_strings = in.list([&] { return in.text(); });
    if (in.flag()) out.top_logprobs = in.number();
    out.prediction = in.text();
    return out;
}

TokenLogprob random_logprob(Source& in) {
    const float value = in.flag() ? in.real() : -std::numeric_limits<float>::infinity();
    return {in.number(), value, in.bytes()};
}

Token random_token(Source& in) {
    Token token{in.bits(), in.number(), in.number(), in.bits(), in.text(), std::nullopt};
    if (in.flag()) {
        token.logprobs = Logprobs{random_logprob(in), in.list([&] { return random_logprob(in); })};
    }
    return token;
}

Hello random_hello(Source& in) {
    return {in.text(),   in.text(),   in.text(),   in.text(), in.text(), in.flag(), in.number(),
            in.number(), in.number(), in.number(), in.bits(), in.bits(), in.text()};
}

ChoiceEnd random_choice_end(Source& in) {
    ChoiceEnd end{in.bits(), in.number(),  static_cast<EndReason>(in.below(4)),
                  in.text(), std::nullopt, in.text(),
                  in.text()};
    if (in.flag()) end.stop_string = in.text();
    return end;
}

}  // namespace

ToWorker random_to_worker(std::uint64_t seed) {
    Source in(seed);
    switch (in.below(11)) {
        case 0:
            return Prepare{in.bits(),         in.text(),           in.text(), in.number(),
                           random_prompt(in), random_sampling(in), in.flag()};
        case 1:
            return Go{in.bits()};
        case 2:
            return Cancel{in.bits()};
        case 3:
            return Tokenize{in.bits(), random_prompt(in)};
        case 4:
            return Detokenize{in.bits(), in.numbers()};
        case 5:
            return Embed{in.bits(), in.text(), in.list([&] { return random_prompt(in); }),
                         in.flag()};
        case 6:
            return AskCounters{in.bits()};
        case 7:
            return Forget{};
        case 8:
            return AskLive{in.bits(), in.text()};
        case 9:
            return AskReplay{in.bits(), in.text()};
        default:
            return Drain{};
    }
}

ToFront random_to_front(std::uint64_t seed) {
    Source in(seed);
    switch (in.below(13)) {
        case 0:
            return random_hello(in);
        case 1:
            return Failed{in.text(), in.number()};
        case 2:
            return Prepared{in.bits(), in.numbers(), in.bits(), in.number()};
        case 3:
            return Refused{in.bits(), static_cast<RefusalKind>(in.below(5)), in.text(), in.text()};
        case 4:
            return random_token(in);
        case 5:
            return random_choice_end(in);
        case 6:
            return RequestEnd{in.bits(),   in.number(), in.number(), in.number(),
                              in.number(), in.number(), in.real()};
        case 7:
            return Tokenized{in.bits(), in.numbers(), in.text()};
        case 8:
            return Embedded{in.bits(), in.list([&] { return in.list([&] { return in.real(); }); }),
                            in.number()};
        case 10:
            return Live{in.bits(), in.text()};
        case 11:
            return Replayed{in.bits(), in.text(), in.number()};
        case 9:
            return PromptLogprobs{in.bits(), in.list([&] {
                                      return Logprobs{random_logprob(in),
                                                      in.list([&] { return random_logprob(in); })};
                                  })};
        default:
            return Counters{in.bits(), in.list([&] {
                                return std::pair<std::string, double>(in.text(), in.real());
                            })};
    }
}

}  // namespace etalon::wire
