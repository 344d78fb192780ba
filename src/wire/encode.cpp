// SPDX-License-Identifier: Apache-2.0
// Messages to frames.
#include <fmt/format.h>
#include <messages_generated.h>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/utf8.h"
#include "wire/codec.h"
#include "wire/internal/schema.h"
#include "wire/limits.h"

namespace etalon::wire {

namespace {

using flatbuffers::Offset;
using flatbuffers::String;
using Builder = flatbuffers::FlatBufferBuilder;
template <typename T>
using Vector = flatbuffers::Vector<T>;

[[noreturn]] void refuse(const char* field, const std::string& why) {
    throw Error(ExitCode::usage, fmt::format("{}: {}", field, why));
}

void check_size(std::size_t size, std::size_t size_max, const char* field, const char* unit) {
    if (size > size_max) refuse(field, fmt::format("{} {}, at most {}", size, unit, size_max));
}

Offset<String> text(Builder& out, const std::string& value, const char* field,
                    std::size_t bytes_max) {
    check_size(value.size(), bytes_max, field, "bytes");
    if (!is_utf8(value)) refuse(field, "this is not UTF-8");
    return out.CreateString(value);
}

Offset<Vector<std::int32_t>> ids(Builder& out, const std::vector<std::int32_t>& values,
                                 const char* field, std::size_t n_max) {
    check_size(values.size(), n_max, field, "tokens");
    return out.CreateVector(values);
}

/// A list of tables, each written by `write_one`.
template <typename Table, typename Item, typename WriteOne>
Offset<Vector<Offset<Table>>> list(Builder& out, const std::vector<Item>& items, const char* field,
                                   std::size_t n_max, const WriteOne& write_one) {
    check_size(items.size(), n_max, field, "entries");
    std::vector<Offset<Table>> offsets;
    offsets.reserve(items.size());
    for (const Item& item : items)
        offsets.push_back(write_one(item));
    return out.CreateVector(offsets);
}

template <typename T>
flatbuffers::Optional<T> optional_of(const std::optional<T>& value) {
    return value ? flatbuffers::Optional<T>(*value) : flatbuffers::nullopt;
}

/// --- prompts ---

auto write(Builder& out, const ChatPrompt& chat) {
    const auto messages = list<schema::ChatMessage>(
        out, chat.messages, "messages", kChatMessagesMax, [&](const ChatMessage& message) {
            const auto content = text(out, message.content, "messages", kTextBytesMax);
            return schema::CreateChatMessage(out, schema_value<schema::Role>(message.role),
                                             content);
        });
    return schema::CreateChatPrompt(out, messages, chat.continue_last);
}

auto write(Builder& out, const TextPrompt& prompt) {
    return schema::CreateTextPrompt(out, text(out, prompt.text, "prompt", kTextBytesMax));
}

auto write(Builder& out, const TokenPrompt& prompt) {
    return schema::CreateTokenPrompt(out, ids(out, prompt.tokens, "prompt", kTokensMax));
}

auto write(Builder& out, const FimPrompt& prompt) {
    const auto prefix = text(out, prompt.prefix, "prompt", kTextBytesMax);
    const auto suffix = text(out, prompt.suffix, "suffix", kTextBytesMax);
    return schema::CreateFimPrompt(out, prefix, suffix);
}

Offset<schema::Prompt> write(Builder& out, const Prompt& prompt) {
    return std::visit(
        [&](const auto& content) {
            const auto offset = write(out, content);
            return schema::CreatePrompt(out, union_type<schema::PromptContentTraits>(offset),
                                        offset.Union());
        },
        prompt);
}

auto write(Builder& out, const Sampling& sampling) {
    std::vector<schema::Bias> biases;
    check_size(sampling.logit_bias.size(), kBiasesMax, "logit_bias", "entries");
    for (const auto& [token, bias] : sampling.logit_bias)
        biases.emplace_back(token, bias);
    const auto bias = out.CreateVectorOfStructs(biases);
    const auto stop_tokens = ids(out, sampling.stop_tokens, "stop_tokens", kStopsMax);
    const auto stop_strings = list<String>(
        out, sampling.stop_strings, "stop_strings", kStopsMax,
        [&](const std::string& stop) { return text(out, stop, "stop_strings", kTextBytesMax); });
    const auto prediction = text(out, sampling.prediction, "prediction", kTextBytesMax);
    return schema::CreateSampling(
        out, sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p,
        sampling.repetition_penalty, sampling.presence_penalty, sampling.frequency_penalty, bias,
        optional_of(sampling.seed), sampling.n, optional_of(sampling.max_tokens),
        sampling.min_tokens, sampling.ignore_eos, stop_tokens, stop_strings,
        optional_of(sampling.top_logprobs), prediction);
}

/// --- front to worker ---

auto write(Builder& out, const Prepare& prepare) {
    const auto tenant = text(out, prepare.tenant, "tenant", kNameBytesMax);
    const auto cache_key = text(out, prepare.cache_key, "cache_key", kNameBytesMax);
    const auto prompt = write(out, prepare.prompt);
    const auto sampling = write(out, prepare.sampling);
    return schema::CreatePrepare(out, prepare.id, tenant, cache_key, prepare.weight, prompt,
                                 sampling, prepare.prompt_logprobs);
}

auto write(Builder& out, const Go& go) {
    return schema::CreateGo(out, go.id);
}

auto write(Builder& out, const Cancel& cancel) {
    return schema::CreateCancel(out, cancel.id);
}

auto write(Builder& out, const Tokenize& tokenize) {
    return schema::CreateTokenize(out, tokenize.id, write(out, tokenize.prompt));
}

auto write(Builder& out, const Detokenize& detokenize) {
    return schema::CreateDetokenize(out, detokenize.id,
                                    ids(out, detokenize.tokens, "tokens", kTokensMax));
}

auto write(Builder& out, const Embed& embed) {
    const auto tenant = text(out, embed.tenant, "tenant", kNameBytesMax);
    const auto inputs =
        list<schema::Prompt>(out, embed.inputs, "inputs", kInputsMax,
                             [&](const Prompt& prompt) { return write(out, prompt); });
    return schema::CreateEmbed(out, embed.id, tenant, inputs, embed.normalize);
}

auto write(Builder& out, const AskCounters& ask) {
    return schema::CreateAskCounters(out, ask.id);
}

auto write(Builder& out, const AskLive& ask) {
    return schema::CreateAskLive(out, ask.id, text(out, ask.nonce, "nonce", kNameBytesMax));
}

auto write(Builder& out, const AskReplay& ask) {
    return schema::CreateAskReplay(out, ask.id, text(out, ask.payload, "payload", kTextBytesMax));
}

auto write(Builder& out, const Forget&) {
    return schema::CreateForget(out);
}

auto write(Builder& out, const Drain&) {
    return schema::CreateDrain(out);
}

/// --- worker to front ---

auto write(Builder& out, const Hello& hello) {
    const auto name = [&](const std::string& value, const char* field) {
        return text(out, value, field, kNameBytesMax);
    };
    const auto model = name(hello.model, "model");
    const auto hash = name(hello.file_sha256, "file_sha256");
    const auto architecture = name(hello.architecture, "architecture");
    const auto backend = name(hello.backend, "backend");
    const auto layout = name(hello.layout, "layout");
    const auto sandbox = text(out, hello.sandbox, "sandbox", kErrorBytesMax);
    return schema::CreateHello(out, model, hash, architecture, backend, layout, hello.has_fim,
                               hello.vocab_size, hello.context_tokens, hello.dim,
                               hello.cache_tokens, hello.weights_bytes, hello.cache_bytes, sandbox);
}

auto write(Builder& out, const Failed& failed) {
    return schema::CreateFailed(out, text(out, failed.message, "message", kErrorBytesMax),
                                failed.exit_code);
}

auto write(Builder& out, const Prepared& prepared) {
    return schema::CreatePrepared(out, prepared.id, ids(out, prepared.prompt, "prompt", kTokensMax),
                                  prepared.seed, prepared.max_tokens);
}

auto write(Builder& out, const Refused& refused) {
    const auto field = text(out, refused.field, "field", kNameBytesMax);
    const auto message = text(out, refused.message, "message", kErrorBytesMax);
    return schema::CreateRefused(out, refused.id, schema_value<schema::RefusalKind>(refused.kind),
                                 field, message);
}

auto write(Builder& out, const TokenLogprob& logprob) {
    check_size(logprob.bytes.size(), kNameBytesMax, "bytes", "bytes");
    const auto* data = reinterpret_cast<const std::uint8_t*>(logprob.bytes.data());
    const auto bytes = out.CreateVector(data, logprob.bytes.size());
    return schema::CreateTokenLogprob(out, logprob.token, logprob.logprob, bytes);
}

auto write(Builder& out, const Logprobs& logprobs) {
    const auto chosen = write(out, logprobs.chosen);
    const auto top =
        list<schema::TokenLogprob>(out, logprobs.top, "top", kTopLogprobsMax,
                                   [&](const TokenLogprob& one) { return write(out, one); });
    return schema::CreateLogprobs(out, chosen, top);
}

auto write(Builder& out, const PromptLogprobs& told) {
    const auto tokens =
        list<schema::Logprobs>(out, told.tokens, "tokens", kPromptLogprobsMax,
                               [&](const Logprobs& one) { return write(out, one); });
    return schema::CreatePromptLogprobs(out, told.id, tokens);
}

auto write(Builder& out, const Token& token) {
    const auto shown = text(out, token.text, "text", kTextBytesMax);
    Offset<schema::Logprobs> logprobs;
    if (token.logprobs) logprobs = write(out, *token.logprobs);
    return schema::CreateToken(out, token.id, token.choice, token.token, token.checksum, shown,
                               logprobs);
}

auto write(Builder& out, const ChoiceEnd& end) {
    const auto held = text(out, end.text, "text", kTextBytesMax);
    Offset<String> stop_string;
    if (end.stop_string) stop_string = text(out, *end.stop_string, "stop_string", kTextBytesMax);
    const auto error = text(out, end.error, "error", kErrorBytesMax);
    const auto digest = text(out, end.digest, "digest", kNameBytesMax);
    return schema::CreateChoiceEnd(out, end.id, end.choice,
                                   schema_value<schema::EndReason>(end.reason), held, stop_string,
                                   error, digest);
}

auto write(Builder& out, const RequestEnd& end) {
    return schema::CreateRequestEnd(out, end.id, end.prompt_tokens, end.cached_tokens,
                                    end.answer_tokens, end.drafted_tokens, end.accepted_tokens,
                                    end.queued_seconds);
}

auto write(Builder& out, const Tokenized& tokenized) {
    const auto tokens = ids(out, tokenized.tokens, "tokens", kTokensMax);
    const auto shown = text(out, tokenized.text, "text", kTextBytesMax);
    return schema::CreateTokenized(out, tokenized.id, tokens, shown);
}

auto write(Builder& out, const Embedded& embedded) {
    const auto vectors = list<schema::Vector>(
        out, embedded.vectors, "vectors", kInputsMax, [&](const std::vector<float>& values) {
            check_size(values.size(), kVectorMax, "vectors", "numbers");
            return schema::CreateVector(out, out.CreateVector(values));
        });
    return schema::CreateEmbedded(out, embedded.id, vectors, embedded.prompt_tokens);
}

auto write(Builder& out, const Counters& counters) {
    const auto values = list<schema::Counter>(
        out, counters.values, "values", kCountersMax,
        [&](const std::pair<std::string, double>& counter) {
            const auto name = text(out, counter.first, "values", kNameBytesMax);
            return schema::CreateCounter(out, name, counter.second);
        });
    return schema::CreateCounters(out, counters.id, values);
}

auto write(Builder& out, const Live& live) {
    return schema::CreateLive(out, live.id, text(out, live.digest, "digest", kNameBytesMax));
}

auto write(Builder& out, const Replayed& replayed) {
    const auto verdict = text(out, replayed.verdict, "verdict", kNameBytesMax);
    return schema::CreateReplayed(out, replayed.id, verdict, replayed.position);
}

/// Root, direction and the bound of the whole.
template <typename CreateRoot, typename Message>
std::string frame_of(const Message& message, const char* identifier, const CreateRoot& create) {
    Builder out(1024);
    // Zeros are written as all other values are: -0 stays -0.
    out.ForceDefaults(true);
    std::visit(
        [&](const auto& content) { out.Finish(create(out, write(out, content)), identifier); },
        message);
    check_size(out.GetSize(), kFrameBytesMax, "message", "bytes");
    return {reinterpret_cast<const char*>(out.GetBufferPointer()), out.GetSize()};
}

}  // namespace

std::string encode(const ToWorker& message) {
    return frame_of(message, kToWorkerIdentifier, [](Builder& out, auto content) {
        return schema::CreateToWorker(out, union_type<schema::ToWorkerMessageTraits>(content),
                                      content.Union());
    });
}

std::string encode(const ToFront& message) {
    return frame_of(message, kToFrontIdentifier, [](Builder& out, auto content) {
        return schema::CreateToFront(out, union_type<schema::ToFrontMessageTraits>(content),
                                     content.Union());
    });
}

}  // namespace etalon::wire
