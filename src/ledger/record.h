// SPDX-License-Identifier: Apache-2.0
// The records of the ledger as values (docs/ledger.md section 2). Hashes, commitments and ids are
// lower-case hexadecimal text, as they stand in the record.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace etalon::ledger {

inline constexpr std::size_t kIdDigits = 32;    ///< 16 random bytes
inline constexpr std::size_t kHashDigits = 64;  ///< hashes and commitments

struct Boot {
    std::vector<std::string> auditors;  ///< SHA-256 of each certificate, ascending; at least one
    std::string program;
    bool operator==(const Boot&) const = default;
};
struct Shutdown {
    bool operator==(const Shutdown&) const = default;
};
struct ModelLoad {
    std::string model;  ///< hash of the weights
    std::string name;
    std::string architecture;
    std::string backend;
    std::uint64_t arithmetic = 0;
    std::uint64_t context_tokens = 0;
    std::uint64_t vocab_size = 0;
    bool operator==(const ModelLoad&) const = default;
};
struct Intent {
    std::string request;     ///< id, the same in all parts
    std::uint64_t part = 0;  ///< [0, parts)
    std::uint64_t parts = 1;
    std::string tenant;                 ///< id
    std::vector<std::string> subjects;  ///< ids, at least one
    std::uint64_t load = 0;             ///< index of the model's ModelLoad
    std::string model;                  ///< hash
    std::uint64_t answers = 1;          ///< [1, kAnswersMax]
    std::uint64_t max_tokens = 0;
    std::uint64_t prompt_tokens = 0;
    std::string body;  ///< this and the next two: commitments
    std::string prompt;
    std::string sampling;
    bool operator==(const Intent&) const = default;
};
struct Complete {
    struct Answer {
        std::string finish;  ///< "stop", "length", "cancelled", "error"
        std::uint64_t tokens = 0;
        std::string digest;  ///< this and the next two: commitments
        std::string payload;
        std::string text;
        bool operator==(const Answer&) const = default;
    };
    std::uint64_t intent = 0;  ///< index
    std::string request;       ///< id, as there
    std::vector<Answer> answers;
    std::uint64_t payload_bytes = 0;  ///< of the ciphertext
    std::string payload_ciphertext;   ///< hash
    std::string payload_envelope;     ///< hash
    bool operator==(const Complete&) const = default;
};
struct Erase {
    std::string subject;  ///< id
    std::string basis;    ///< "request", "retention"
    bool operator==(const Erase&) const = default;
};
struct LogRead {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
    std::string what;  ///< "export"
    bool operator==(const LogRead&) const = default;
};
struct ContentRead {
    std::uint64_t intent = 0;  ///< index
    std::string reason;        ///< printable ASCII, for people; may be empty
    std::string what;          ///< "open", "replay", "stored"
    bool operator==(const ContentRead&) const = default;
};
struct EraseRefused {
    std::string basis;                  ///< "hold", "minimum"
    std::vector<std::string> subjects;  ///< ids, at least one
    bool operator==(const EraseRefused&) const = default;
};
/// What a server was started with, or goes on with.
struct Configuration {
    struct Rule {
        std::string tenant;  ///< id
        std::uint64_t min_days = 0;
        std::uint64_t max_days = 0;
        bool operator==(const Rule&) const = default;
    };
    std::string hash;                 ///< of all of it, docs/ledger.md
    std::vector<std::string> listen;  ///< HOST:PORT
    std::string certificate;          ///< hash of the file; empty: no TLS
    std::string sandbox;              ///< "strict", "best-effort"
    std::string signatures;           ///< "none", "changed", "always"
    std::vector<Rule> retention;
    bool operator==(const Configuration&) const = default;
};
/// An API key of the server. Nothing here opens anything.
struct ApiKey {
    std::string action;     ///< "created", "revoked", "changed"
    std::uint64_t key = 0;  ///< its number, as `etalon key list` shows it
    std::string scopes;     ///< as there
    std::string tenant;     ///< id
    bool operator==(const ApiKey&) const = default;
};
/// A person accepted the licence of a model.
struct Licence {
    std::string by;       ///< id
    std::string licence;  ///< as the model's file names it
    std::string model;    ///< hash
    std::string text;     ///< hash of what was accepted
    bool operator==(const Licence&) const = default;
};
/// An answer was derived again.
struct Replay {
    std::uint64_t intent = 0;    ///< index
    std::uint64_t answer = 0;    ///< choice
    std::string verdict;         ///< "match", "token", "checksum", "both", "end", "failed"
    std::uint64_t position = 0;  ///< the first token that differs
    std::string backend;         ///< what derived it; empty: nothing could
    bool operator==(const Replay&) const = default;
};
/// A person judged an answer.
struct Review {
    std::uint64_t intent = 0;  ///< index
    std::string by;            ///< id
    std::string verdict;       ///< "ok", "objection"
    std::string note;          ///< commitment
    bool operator==(const Review&) const = default;
};
/// A look at the weights in a worker's memory (docs/live.md).
struct LiveCheck {
    std::string digest;      ///< hash
    std::uint64_t load = 0;  ///< index of the model's ModelLoad
    std::string nonce;       ///< as a hash
    std::string verdict;     ///< "first", "same", "changed"
    bool operator==(const LiveCheck&) const = default;
};
/// A kind that this program does not know; its other members are not looked at.
struct Unknown {
    std::string kind;
    bool operator==(const Unknown&) const = default;
};
using Body =
    std::variant<Boot, Shutdown, ModelLoad, Intent, Complete, Erase, LogRead, ContentRead,
                 EraseRefused, Configuration, ApiKey, Licence, Replay, Review, LiveCheck, Unknown>;

struct Record {
    std::uint64_t seq = 0;  ///< its index in the log
    std::uint64_t boot = 0;
    std::uint64_t time_us = 0;  ///< microseconds since 1970
    Body body;
    bool operator==(const Record&) const = default;
};

/// "intent", ...
std::string_view kind_of(const Record& record) noexcept;

/// The intent that a record of another kind is about.
std::optional<std::uint64_t> intent_of(const Body& body) noexcept;

/// The entry of the log. An Unknown is not written.
std::string write_record(const Record& record);

/// Accepts what write_record gives, and records of unknown kinds. The bytes may be hostile.
/// Errors: invalid.
Record parse_record(std::string_view bytes);

}  // namespace etalon::ledger
