// SPDX-License-Identifier: Apache-2.0
// The one error type of Etalon. Whatever comes from a file, a user or a peer and is wrong ends as
// an Error; what our own code guarantees is asserted with ETALON_ASSERT instead.
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace etalon {

/// Exit codes of the program; an Error carries the one that it leads to.
enum class ExitCode : int {
    ok = 0,
    failure = 1,
    usage = 2,
    not_found = 3,
    refused = 4,
    invalid = 5,        ///< Invalid input file, or a failed verification.
    out_of_memory = 6,  ///< Does not fit in memory; found before the allocation.
    unavailable = 69,
    try_later = 75,
    interrupted = 130,
};

/// What went wrong, where, and what to do. Messages are lower case without a full stop:
///   throw Error(ExitCode::invalid, "tensor blk.3.attn_q: 17 blocks, file holds 12 (m.gguf)",
///               "download the file again");
class Error : public std::exception {
  public:
    explicit Error(ExitCode code, std::string message, std::string hint = "");

    ExitCode code() const noexcept { return code_; }
    const std::string& message() const noexcept { return message_; }
    const std::string& hint() const noexcept { return hint_; }
    const char* what() const noexcept override { return message_.c_str(); }

  private:
    ExitCode code_;
    std::string message_;
    std::string hint_;
};

/// Ends the process with file, line and condition. Kept in release builds.
[[noreturn]] void assertion_failed(const char* condition, const char* file, int line) noexcept;

/// Text from a file or a user, made safe for a terminal: control and non-UTF-8 bytes are escaped
/// as \xNN and more than `bytes_max` bytes are cut with "...".
std::string printable(std::string_view text, std::size_t bytes_max = 200);

}  // namespace etalon

#define ETALON_ASSERT(condition) \
    ((condition) ? (void)0 : ::etalon::assertion_failed(#condition, __FILE__, __LINE__))
