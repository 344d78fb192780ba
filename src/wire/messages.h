// SPDX-License-Identifier: Apache-2.0
// What the front and a worker say to each other, as values. encode() and decode() turn them into
// the frames that go over the socket pair; each side treats what it decodes as hostile.
//
// One request, in order (front -> worker: >, worker -> front: <):
//   > Prepare     what is asked
//   < Prepared    the prompt's tokens and what was drawn for it (seed), or Refused and nothing more
//   > Go          the intent is recorded: compute                     (or Cancel: forget it)
//   < PromptLogprobs ...   where they are asked for: every token of the prompt
//   < Token ...   one for each sampled token of each choice
//   < ChoiceEnd   one for each choice
//   < RequestEnd  the last message of the request; after a Cancel too
// What is prepared has its place in the engine: Go cannot fail. A Cancel may cross the last message
// of its request; the worker then ignores it. Tokenize, Detokenize and Embed have one answer each,
// or Refused (an Embed that is cancelled too), as has AskReplay; AskCounters and AskLive have
// theirs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace etalon::wire {

/// Number of a request on one connection, from 1 and ascending; chosen by the front.
using RequestId = std::uint64_t;

enum class Role : std::uint8_t { system, user, assistant };

struct ChatMessage {
    Role role = Role::user;
    std::string content;  ///< UTF-8
    bool operator==(const ChatMessage&) const = default;
};

/// A conversation in the model's layout. `continue_last`: the last message is the assistant's and
/// the answer goes on from it.
struct ChatPrompt {
    std::vector<ChatMessage> messages;
    bool continue_last = false;
    bool operator==(const ChatPrompt&) const = default;
};
/// Text as it is, with the tokens that the vocabulary puts before a text.
struct TextPrompt {
    std::string text;
    bool operator==(const TextPrompt&) const = default;
};
struct TokenPrompt {
    std::vector<std::int32_t> tokens;
    bool operator==(const TokenPrompt&) const = default;
};
/// Code before and behind a gap, for models with FIM tokens.
struct FimPrompt {
    std::string prefix;
    std::string suffix;
    bool operator==(const FimPrompt&) const = default;
};
using Prompt = std::variant<ChatPrompt, TextPrompt, TokenPrompt, FimPrompt>;

/// How tokens are drawn. Ranges are those of exact::SamplingParameters and engine::Request; the
/// worker checks them and names the field.
struct Sampling {
    float temperature = 1.0F;
    int top_k = 0;
    float top_p = 1.0F;
    float min_p = 0.0F;
    float repetition_penalty = 1.0F;
    float presence_penalty = 0.0F;
    float frequency_penalty = 0.0F;
    std::vector<std::pair<std::int32_t, float>> logit_bias;
    std::optional<std::uint64_t> seed;
    int n = 1;
    std::optional<int> max_tokens;  ///< of each answer
    int min_tokens = 0;
    bool ignore_eos = false;
    std::vector<std::int32_t> stop_tokens;
    std::vector<std::string> stop_strings;
    std::optional<int> top_logprobs;  ///< absent: no log-probabilities
    std::string prediction;           ///< text that the answer may repeat; changes no bit
    bool operator==(const Sampling&) const = default;
};

/// --- front to worker ---

struct Prepare {
    RequestId id = 0;
    std::string tenant;
    std::string cache_key;
    int weight = 1;
    Prompt prompt;
    Sampling sampling;
    /// Log-probabilities of the prompt's own tokens too (completions with echo); top_logprobs says
    /// how many.
    bool prompt_logprobs = false;
    bool operator==(const Prepare&) const = default;
};
struct Go {
    RequestId id = 0;
    bool operator==(const Go&) const = default;
};
struct Cancel {
    RequestId id = 0;
    bool operator==(const Cancel&) const = default;
};
struct Tokenize {
    RequestId id = 0;
    Prompt prompt;
    bool operator==(const Tokenize&) const = default;
};
struct Detokenize {
    RequestId id = 0;
    std::vector<std::int32_t> tokens;
    bool operator==(const Detokenize&) const = default;
};
/// Hidden states of the last layer after the output norm, mean over the tokens of each input (VEC-1
/// to VEC-3).
struct Embed {
    RequestId id = 0;
    std::string tenant;
    std::vector<Prompt> inputs;
    bool normalize = true;  ///< to length 1
    bool operator==(const Embed&) const = default;
};
struct AskCounters {
    RequestId id = 0;
    bool operator==(const AskCounters&) const = default;
};
/// A hash over the weights as they lie on the device (docs/live.md).
struct AskLive {
    RequestId id = 0;
    std::string nonce;  ///< 32 bytes as lower-case hex
    bool operator==(const AskLive&) const = default;
};
/// Derive an answer again, when nobody waits for another.
struct AskReplay {
    RequestId id = 0;
    std::string payload;  ///< as engine::write_payload() has it
    bool operator==(const AskReplay&) const = default;
};
/// A subject was erased: no prefix that was computed until now serves a later request.
struct Forget {
    bool operator==(const Forget&) const = default;
};
/// Finish what was prepared or runs, accept nothing new, then leave.
struct Drain {
    bool operator==(const Drain&) const = default;
};

using ToWorker = std::variant<Prepare, Go, Cancel, Tokenize, Detokenize, Embed, AskCounters,
                              AskLive, AskReplay, Forget, Drain>;

/// --- worker to front ---

/// The first message of a worker, once the model is loaded and the sandbox is closed.
struct Hello {
    std::string model;         ///< name in the file, or the file's stem
    std::string file_sha256;   ///< of the weights file, lower-case hex; empty when not hashed
    std::string architecture;  ///< "llama"
    std::string backend;       ///< "cpu/avx512"
    std::string layout;        ///< of chats; empty: chats are refused
    bool has_fim = false;
    int vocab_size = 0;
    int context_tokens = 0;
    int dim = 0;
    int cache_tokens = 0;
    std::uint64_t weights_bytes = 0;
    std::uint64_t cache_bytes = 0;
    std::string sandbox;  ///< one line a layer: "seccomp: on", "landlock: missing (kernel 5.10)"
    bool operator==(const Hello&) const = default;
};
/// The worker could not start or cannot go on; it leaves after this.
struct Failed {
    std::string message;
    int exit_code = 1;
    bool operator==(const Failed&) const = default;
};

struct Prepared {
    RequestId id = 0;
    std::vector<std::int32_t> prompt;
    std::uint64_t seed = 0;
    int max_tokens = 0;
    bool operator==(const Prepared&) const = default;
};
enum class RefusalKind : std::uint8_t {
    invalid,      ///< a field is wrong: 400
    too_long,     ///< the prompt does not fit; `message` has both counts: 400
    try_later,    ///< the queue is full: 429
    unsupported,  ///< the model cannot do this (no layout, no FIM tokens): 400
    failed,       ///< a value is not finite: 500
};
struct Refused {
    RequestId id = 0;
    RefusalKind kind = RefusalKind::invalid;
    std::string field;  ///< of Sampling or Prompt, as named there; empty: the whole
    std::string message;
    bool operator==(const Refused&) const = default;
};

struct TokenLogprob {
    std::int32_t token = 0;
    float logprob = 0.0F;
    std::string bytes;  ///< of the token; not always UTF-8
    bool operator==(const TokenLogprob&) const = default;
};
struct Logprobs {
    TokenLogprob chosen;
    std::vector<TokenLogprob> top;
    bool operator==(const Logprobs&) const = default;
};
/// Tokens of the prompt in order, a part of them in each message, all of them before the first
/// Token of the request. The first token of a prompt has nothing before it: its logprob is 0 and
/// its top is empty.
struct PromptLogprobs {
    RequestId id = 0;
    std::vector<Logprobs> tokens;
    bool operator==(const PromptLogprobs&) const = default;
};
struct Token {
    RequestId id = 0;
    int choice = 0;
    std::int32_t token = 0;
    std::uint64_t checksum = 0;  ///< CHK-1
    std::string text;            ///< whole characters that can be shown now
    std::optional<Logprobs> logprobs;
    bool operator==(const Token&) const = default;
};
enum class EndReason : std::uint8_t { stop, length, cancelled, error };
struct ChoiceEnd {
    RequestId id = 0;
    int choice = 0;
    EndReason reason = EndReason::stop;
    std::string text;  ///< held back until now
    std::optional<std::string> stop_string;
    std::string error;
    std::string digest;  ///< DIG-3, lower-case hex
    bool operator==(const ChoiceEnd&) const = default;
};
struct RequestEnd {
    RequestId id = 0;
    int prompt_tokens = 0;
    int cached_tokens = 0;
    int answer_tokens = 0;
    int drafted_tokens = 0;
    int accepted_tokens = 0;
    double queued_seconds = 0.0;
    bool operator==(const RequestEnd&) const = default;
};
/// The answer to Tokenize (tokens alone) and Detokenize (text alone; bytes that are no character
/// give U+FFFD, control tokens nothing).
struct Tokenized {
    RequestId id = 0;
    std::vector<std::int32_t> tokens;
    std::string text;
    bool operator==(const Tokenized&) const = default;
};
struct Embedded {
    RequestId id = 0;
    std::vector<std::vector<float>> vectors;  ///< [inputs][dim]
    int prompt_tokens = 0;
    bool operator==(const Embedded&) const = default;
};
/// Totals since the worker started, by name, as engine::Counters has them.
struct Counters {
    RequestId id = 0;
    std::vector<std::pair<std::string, double>> values;
    bool operator==(const Counters&) const = default;
};

struct Live {
    RequestId id = 0;
    std::string digest;  ///< 32 bytes as lower-case hex
    bool operator==(const Live&) const = default;
};

struct Replayed {
    RequestId id = 0;
    std::string verdict;  ///< "match", "token", "checksum", "both", "end"
    int position = 0;     ///< of the answer's first token that differs; 0 with "match"
    bool operator==(const Replayed&) const = default;
};

using ToFront = std::variant<Hello, Failed, Prepared, Refused, Token, ChoiceEnd, RequestEnd,
                             Tokenized, Embedded, Counters, PromptLogprobs, Live, Replayed>;

}  // namespace etalon::wire
