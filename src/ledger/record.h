// SPDX-License-Identifier: Apache-2.0
// The records of the ledger as values (docs/ledger.md section 2). Hashes, commitments and ids are
// lower-case hexadecimal text, as they stand in the record.
#pragma once

#include <cstdint>
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
/// A kind that this program does not know; its other members are not looked at.
struct Unknown {
    std::string kind;
    bool operator==(const Unknown&) const = default;
};
using Body = std::variant<Boot, Shutdown, ModelLoad, Intent, Complete, Erase, LogRead, ContentRead,
                          EraseRefused, Unknown>;

struct Record {
    std::uint64_t seq = 0;  ///< its index in the log
    std::uint64_t boot = 0;
    std::uint64_t time_us = 0;  ///< microseconds since 1970
    Body body;
    bool operator==(const Record&) const = default;
};

/// "intent", ...
std::string_view kind_of(const Record& record) noexcept;

/// The entry of the log. An Unknown is not written.
std::string write_record(const Record& record);

/// Accepts what write_record gives, and records of unknown kinds. The bytes may be hostile.
/// Errors: invalid.
Record parse_record(std::string_view bytes);

}  // namespace etalon::ledger
