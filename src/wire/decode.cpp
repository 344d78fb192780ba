// SPDX-License-Identifier: Apache-2.0
// Frames to messages. The verifier proves that every offset stays inside the frame; what it lets
// pass and the messages do not allow is refused here, field by field.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <memory>
#include <messages_generated.h>
#include <utility>

#include "base/error.h"
#include "wire/codec.h"
#include "wire/internal/copier.h"
#include "wire/internal/schema.h"
#include "wire/limits.h"

namespace etalon::wire {

namespace {

/// Tables of one frame: the largest list has this many entries of at most two tables each.
constexpr flatbuffers::uoffset_t kTablesMax = 3 * std::max(kChatMessagesMax, kInputsMax);
/// Root, message, prompt, content, chat message: the deepest nesting has five.
constexpr flatbuffers::uoffset_t kDepthMax = 8;

template <typename Enum, typename SchemaEnum>
Enum enum_of(SchemaEnum value, SchemaEnum last, const char* field) {
    if (value > last) {
        refuse_frame(field, fmt::format("{} is no value of it", static_cast<unsigned>(value)));
    }
    return static_cast<Enum>(value);
}

template <typename T>
std::optional<T> optional(const flatbuffers::Optional<T>& value) {
    return value ? std::optional<T>(*value) : std::nullopt;
}

double finite(double value, const char* field) {
    if (!std::isfinite(value)) refuse_frame(field, "is not finite");
    return value;
}

/// --- prompts ---

ChatPrompt read(Copier& in, const schema::ChatPrompt& chat) {
    const auto read_message = [&](const schema::ChatMessage* message) {
        const auto role = enum_of<Role>(message->role(), schema::Role::MAX, "role");
        return ChatMessage{role, in.text(message->content(), "content", kTextBytesMax)};
    };
    return {in.list(chat.messages(), "messages", kChatMessagesMax, read_message),
            chat.continue_last()};
}

Prompt read(Copier& in, const schema::Prompt& prompt) {
    switch (prompt.content_type()) {
        case schema::PromptContent::ChatPrompt:
            return read(in, present(prompt.content_as_ChatPrompt(), "prompt"));
        case schema::PromptContent::TextPrompt: {
            const auto& content = present(prompt.content_as_TextPrompt(), "prompt");
            return TextPrompt{in.text(content.text(), "prompt", kTextBytesMax)};
        }
        case schema::PromptContent::TokenPrompt: {
            const auto& content = present(prompt.content_as_TokenPrompt(), "prompt");
            return TokenPrompt{in.numbers(content.tokens(), "prompt", kTokensMax)};
        }
        case schema::PromptContent::FimPrompt: {
            const auto& content = present(prompt.content_as_FimPrompt(), "prompt");
            std::string prefix = in.text(content.prefix(), "prompt", kTextBytesMax);
            return FimPrompt{std::move(prefix), in.text(content.suffix(), "suffix", kTextBytesMax)};
        }
        case schema::PromptContent::NONE:
            break;
    }
    refuse_frame("prompt", "is of no known kind");
}

Sampling read(Copier& in, const schema::Sampling& sampling) {
    Sampling out;
    out.temperature = sampling.temperature();
    out.top_k = sampling.top_k();
    out.top_p = sampling.top_p();
    out.min_p = sampling.min_p();
    out.repetition_penalty = sampling.repetition_penalty();
    out.presence_penalty = sampling.presence_penalty();
    out.frequency_penalty = sampling.frequency_penalty();
    out.logit_bias =
        in.list(sampling.logit_bias(), "logit_bias", kBiasesMax, [](const schema::Bias* bias) {
            return std::pair<std::int32_t, float>(bias->token(), bias->bias());
        });
    out.seed = optional(sampling.seed());
    out.n = sampling.n();
    out.max_tokens = optional(sampling.max_tokens());
    out.min_tokens = sampling.min_tokens();
    out.ignore_eos = sampling.ignore_eos();
    out.stop_tokens = in.numbers(sampling.stop_tokens(), "stop_tokens", kStopsMax);
    out.stop_strings = in.list(sampling.stop_strings(), "stop_strings", kStopsMax,
                               [&](const flatbuffers::String* stop) {
                                   return in.text(stop, "stop_strings", kTextBytesMax);
                               });
    out.top_logprobs = optional(sampling.top_logprobs());
    out.prediction = in.text(sampling.prediction(), "prediction", kTextBytesMax);
    return out;
}

/// --- front to worker ---

Prepare read(Copier& in, const schema::Prepare& prepare) {
    Prepare out;
    out.id = prepare.id();
    out.tenant = in.text(prepare.tenant(), "tenant", kNameBytesMax);
    out.cache_key = in.text(prepare.cache_key(), "cache_key", kNameBytesMax);
    out.weight = prepare.weight();
    out.prompt = read(in, present(prepare.prompt(), "prompt"));
    out.sampling = read(in, present(prepare.sampling(), "sampling"));
    out.prompt_logprobs = prepare.prompt_logprobs();
    return out;
}

Go read(Copier&, const schema::Go& go) {
    return {go.id()};
}

Cancel read(Copier&, const schema::Cancel& cancel) {
    return {cancel.id()};
}

Tokenize read(Copier& in, const schema::Tokenize& tokenize) {
    return {tokenize.id(), read(in, present(tokenize.prompt(), "prompt"))};
}

Detokenize read(Copier& in, const schema::Detokenize& detokenize) {
    return {detokenize.id(), in.numbers(detokenize.tokens(), "tokens", kTokensMax)};
}

Embed read(Copier& in, const schema::Embed& embed) {
    Embed out;
    out.id = embed.id();
    out.tenant = in.text(embed.tenant(), "tenant", kNameBytesMax);
    out.inputs = in.list(embed.inputs(), "inputs", kInputsMax,
                         [&](const schema::Prompt* prompt) { return read(in, *prompt); });
    out.normalize = embed.normalize();
    return out;
}

AskCounters read(Copier&, const schema::AskCounters& ask) {
    return {ask.id()};
}

AskLive read(Copier& in, const schema::AskLive& ask) {
    return {ask.id(), in.text(ask.nonce(), "nonce", kNameBytesMax)};
}

AskReplay read(Copier& in, const schema::AskReplay& ask) {
    return {ask.id(), in.text(ask.payload(), "payload", kTextBytesMax)};
}

Forget read(Copier&, const schema::Forget&) {
    return {};
}

Drain read(Copier&, const schema::Drain&) {
    return {};
}

/// --- worker to front ---

Hello read(Copier& in, const schema::Hello& hello) {
    Hello out;
    out.model = in.text(hello.model(), "model", kNameBytesMax);
    out.file_sha256 = in.text(hello.file_sha256(), "file_sha256", kNameBytesMax);
    out.architecture = in.text(hello.architecture(), "architecture", kNameBytesMax);
    out.backend = in.text(hello.backend(), "backend", kNameBytesMax);
    out.layout = in.text(hello.layout(), "layout", kNameBytesMax);
    out.has_fim = hello.has_fim();
    out.vocab_size = hello.vocab_size();
    out.context_tokens = hello.context_tokens();
    out.dim = hello.dim();
    out.cache_tokens = hello.cache_tokens();
    out.weights_bytes = hello.weights_bytes();
    out.cache_bytes = hello.cache_bytes();
    out.sandbox = in.text(hello.sandbox(), "sandbox", kErrorBytesMax);
    return out;
}

Failed read(Copier& in, const schema::Failed& failed) {
    return {in.text(failed.message(), "message", kErrorBytesMax), failed.exit_code()};
}

Prepared read(Copier& in, const schema::Prepared& prepared) {
    return {prepared.id(), in.numbers(prepared.prompt(), "prompt", kTokensMax), prepared.seed(),
            prepared.max_tokens()};
}

Refused read(Copier& in, const schema::Refused& refused) {
    Refused out;
    out.id = refused.id();
    out.kind = enum_of<RefusalKind>(refused.kind(), schema::RefusalKind::MAX, "kind");
    out.field = in.text(refused.field(), "field", kNameBytesMax);
    out.message = in.text(refused.message(), "message", kErrorBytesMax);
    return out;
}

TokenLogprob read(Copier& in, const schema::TokenLogprob& logprob) {
    if (std::isnan(logprob.logprob())) refuse_frame("logprob", "is no number");
    const auto& bytes = present(logprob.bytes(), "bytes");
    return {logprob.token(), logprob.logprob(),
            in.bytes(reinterpret_cast<const char*>(bytes.data()), bytes.size(), "bytes",
                     kNameBytesMax)};
}

Logprobs read(Copier& in, const schema::Logprobs& logprobs) {
    Logprobs out;
    out.chosen = read(in, present(logprobs.chosen(), "chosen"));
    out.top = in.list(logprobs.top(), "top", kTopLogprobsMax,
                      [&](const schema::TokenLogprob* one) { return read(in, *one); });
    return out;
}

PromptLogprobs read(Copier& in, const schema::PromptLogprobs& told) {
    return {told.id(), in.list(told.tokens(), "tokens", kPromptLogprobsMax,
                               [&](const schema::Logprobs* one) { return read(in, *one); })};
}

Token read(Copier& in, const schema::Token& token) {
    Token out;
    out.id = token.id();
    out.choice = token.choice();
    out.token = token.token();
    out.checksum = token.checksum();
    out.text = in.text(token.text(), "text", kTextBytesMax);
    if (token.logprobs() != nullptr) out.logprobs = read(in, *token.logprobs());
    return out;
}

ChoiceEnd read(Copier& in, const schema::ChoiceEnd& end) {
    ChoiceEnd out;
    out.id = end.id();
    out.choice = end.choice();
    out.reason = enum_of<EndReason>(end.reason(), schema::EndReason::MAX, "reason");
    out.text = in.text(end.text(), "text", kTextBytesMax);
    if (end.stop_string() != nullptr) {
        out.stop_string = in.text(end.stop_string(), "stop_string", kTextBytesMax);
    }
    out.error = in.text(end.error(), "error", kErrorBytesMax);
    out.digest = in.text(end.digest(), "digest", kNameBytesMax);
    return out;
}

RequestEnd read(Copier&, const schema::RequestEnd& end) {
    return {end.id(),
            end.prompt_tokens(),
            end.cached_tokens(),
            end.answer_tokens(),
            end.drafted_tokens(),
            end.accepted_tokens(),
            finite(end.queued_seconds(), "queued_seconds")};
}

Tokenized read(Copier& in, const schema::Tokenized& tokenized) {
    std::vector<std::int32_t> tokens = in.numbers(tokenized.tokens(), "tokens", kTokensMax);
    return {tokenized.id(), std::move(tokens), in.text(tokenized.text(), "text", kTextBytesMax)};
}

Embedded read(Copier& in, const schema::Embedded& embedded) {
    const auto read_vector = [&](const schema::Vector* vector) {
        std::vector<float> values = in.numbers(vector->values(), "vectors", kVectorMax);
        for (const float value : values)
            (void)finite(value, "vectors");
        return values;
    };
    return {embedded.id(), in.list(embedded.vectors(), "vectors", kInputsMax, read_vector),
            embedded.prompt_tokens()};
}

Counters read(Copier& in, const schema::Counters& counters) {
    const auto read_counter = [&](const schema::Counter* counter) {
        return std::pair<std::string, double>(in.text(counter->name(), "values", kNameBytesMax),
                                              finite(counter->value(), "values"));
    };
    return {counters.id(), in.list(counters.values(), "values", kCountersMax, read_counter)};
}

Live read(Copier& in, const schema::Live& live) {
    return {live.id(), in.text(live.digest(), "digest", kNameBytesMax)};
}

Replayed read(Copier& in, const schema::Replayed& replayed) {
    return {replayed.id(), in.text(replayed.verdict(), "verdict", kNameBytesMax),
            replayed.position()};
}

/// --- roots ---

/// The frame at an address where its numbers can be read: the verifier checks alignment within the
/// frame only.
class Aligned {
  public:
    explicit Aligned(std::string_view frame) : size_(frame.size()) {
        if (frame.empty() || frame.size() > kFrameBytesMax) {
            refuse_frame("message", fmt::format("{} bytes, 1 to {}", frame.size(), kFrameBytesMax));
        }
        const auto address = reinterpret_cast<std::uintptr_t>(frame.data());
        data_ = reinterpret_cast<const std::uint8_t*>(frame.data());
        if (address % alignof(std::uint64_t) == 0) return;
        copy_ = std::make_unique<std::uint64_t[]>(size_ / sizeof(std::uint64_t) + 1);
        std::memcpy(copy_.get(), frame.data(), size_);
        data_ = reinterpret_cast<const std::uint8_t*>(copy_.get());
    }

    template <typename Root>
    const Root& root(const char* identifier) const {
        flatbuffers::Verifier::Options options;
        options.max_depth = kDepthMax;
        options.max_tables = kTablesMax;
        flatbuffers::Verifier verifier(data_, size_, options);
        if (!verifier.VerifyBuffer<Root>(identifier)) {
            refuse_frame("message", fmt::format("no frame \"{}\" of messages.fbs", identifier));
        }
        return *flatbuffers::GetRoot<Root>(data_);
    }

  private:
    std::size_t size_;
    const std::uint8_t* data_;
    std::unique_ptr<std::uint64_t[]> copy_;
};

}  // namespace

ToWorker decode_to_worker(std::string_view frame) {
    using Type = schema::ToWorkerMessage;
    const Aligned aligned(frame);
    const auto& root = aligned.root<schema::ToWorker>(kToWorkerIdentifier);
    Copier in(frame.size());
    const auto as = [&](const auto* table) { return read(in, present(table, "message")); };
    switch (root.message_type()) {
        case Type::Prepare:
            return as(root.message_as_Prepare());
        case Type::Go:
            return as(root.message_as_Go());
        case Type::Cancel:
            return as(root.message_as_Cancel());
        case Type::Tokenize:
            return as(root.message_as_Tokenize());
        case Type::Detokenize:
            return as(root.message_as_Detokenize());
        case Type::Embed:
            return as(root.message_as_Embed());
        case Type::AskCounters:
            return as(root.message_as_AskCounters());
        case Type::AskLive:
            return as(root.message_as_AskLive());
        case Type::AskReplay:
            return as(root.message_as_AskReplay());
        case Type::Forget:
            return as(root.message_as_Forget());
        case Type::Drain:
            return as(root.message_as_Drain());
        case Type::NONE:
            break;
    }
    refuse_frame("message", "is of no known kind");
}

ToFront decode_to_front(std::string_view frame) {
    using Type = schema::ToFrontMessage;
    const Aligned aligned(frame);
    const auto& root = aligned.root<schema::ToFront>(kToFrontIdentifier);
    Copier in(frame.size());
    const auto as = [&](const auto* table) { return read(in, present(table, "message")); };
    switch (root.message_type()) {
        case Type::Hello:
            return as(root.message_as_Hello());
        case Type::Failed:
            return as(root.message_as_Failed());
        case Type::Prepared:
            return as(root.message_as_Prepared());
        case Type::Refused:
            return as(root.message_as_Refused());
        case Type::Token:
            return as(root.message_as_Token());
        case Type::ChoiceEnd:
            return as(root.message_as_ChoiceEnd());
        case Type::RequestEnd:
            return as(root.message_as_RequestEnd());
        case Type::Tokenized:
            return as(root.message_as_Tokenized());
        case Type::Embedded:
            return as(root.message_as_Embedded());
        case Type::Counters:
            return as(root.message_as_Counters());
        case Type::PromptLogprobs:
            return as(root.message_as_PromptLogprobs());
        case Type::Live:
            return as(root.message_as_Live());
        case Type::Replayed:
            return as(root.message_as_Replayed());
        case Type::NONE:
            break;
    }
    refuse_frame("message", "is of no known kind");
}

}  // namespace etalon::wire
