// SPDX-License-Identifier: Apache-2.0
// Checkpoints, line by line.
#include "tlog/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "base/base64.h"
#include "base/error.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

[[noreturn]] void invalid(const std::string& message) {
    throw Error(ExitCode::invalid, message);
}

}  // namespace

bool parse_decimal(std::string_view text, std::uint64_t& value) {
    if (text.empty() || (text.size() > 1 && text.front() == '0')) return false;
    const char* end = text.data() + text.size();
    const auto [parsed, error] = std::from_chars(text.data(), end, value);
    return error == std::errc() && parsed == end && value <= kTreeSizeMax;
}

Hash parse_hash(std::string_view text) {
    Hash hash{};
    const std::optional<std::string> bytes = from_base64(text);
    if (!bytes || bytes->size() != hash.size()) invalid("a hash is not base64 of 32 bytes");
    std::copy(bytes->begin(), bytes->end(), hash.begin());
    return hash;
}

std::string hash_text(const Hash& hash) {
    return to_base64({reinterpret_cast<const char*>(hash.data()), hash.size()});
}

std::string Checkpoint::text() const {
    return fmt::format("{}\n{}\n{}\n", origin, size, hash_text(root));
}

Checkpoint parse_checkpoint(std::string_view text) {
    Checkpoint checkpoint;
    checkpoint.origin = take_line(text);
    if (checkpoint.origin.empty() || checkpoint.origin.size() > kOriginBytesMax) {
        invalid("the checkpoint has no origin");
    }
    if (!parse_decimal(take_line(text), checkpoint.size)) invalid("the checkpoint has no size");
    checkpoint.root = parse_hash(take_line(text));
    if (!text.empty()) invalid("the checkpoint has lines after its root");
    if (checkpoint.size == 0 && checkpoint.root != empty_root()) {
        invalid("the checkpoint of an empty tree has another root");
    }
    return checkpoint;
}

Checkpoint open_checkpoint(const Note& note, const VerifierKey& log) {
    Checkpoint checkpoint = parse_checkpoint(note.text);
    if (checkpoint.origin != log.name) {
        invalid(fmt::format("the checkpoint is of {}, not of {}", printable(checkpoint.origin),
                            printable(log.name)));
    }
    if (!is_signed_by(note, log)) {
        invalid(fmt::format("the checkpoint has no valid signature of {}", printable(log.name)));
    }
    return checkpoint;
}

}  // namespace etalon::tlog
