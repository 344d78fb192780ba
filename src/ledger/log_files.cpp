// SPDX-License-Identifier: Apache-2.0
// What others may read of a ledger's folder.
#include <algorithm>
#include <fmt/format.h>

#include "base/file.h"
#include "ledger/internal/log_key.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"
#include "ledger/stamps.h"

namespace etalon::ledger {

namespace {

/// The journal lies beside these, and is nobody else's.
bool is_log_path(const std::string& path) {
    if (path == "checkpoint" || path == kCosigned || stamp_digits(path)) return true;
    return path.rfind("tile/", 0) == 0 && path.find("..") == std::string::npos &&
           std::all_of(path.begin(), path.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '.';
           });
}

}  // namespace

std::string own_policy_text(const std::filesystem::path& ledger_folder) {
    const std::filesystem::path path = ledger_folder / kPolicyFile;
    if (std::filesystem::exists(path)) return read_file(path, tlog::kPolicyBytesMax);
    return fmt::format("log {}\nquorum none\n", read_log_key(ledger_folder).verifier().text());
}

tlog::Policy own_policy(const std::filesystem::path& ledger_folder) {
    tlog::Policy policy;
    policy.logs.push_back(read_log_key(ledger_folder).verifier());
    policy.quorum = "none";
    return policy;
}

std::optional<std::string> published_checkpoint(const tlog::FileSource& files,
                                                const tlog::VerifierKey& log_key,
                                                std::uint64_t size) {
    auto cosigned = files(kCosigned);
    if (!cosigned) return files("checkpoint");
    const auto checkpoint = tlog::open_checkpoint(tlog::parse_note(*cosigned), log_key);
    return checkpoint.size >= size ? std::move(cosigned) : files("checkpoint");
}

std::optional<std::uint64_t> witnessed_size(const tlog::FileSource& files) {
    const auto note = files(kCosigned);
    if (!note) return std::nullopt;
    return tlog::parse_checkpoint(tlog::parse_note(*note).text).size;
}

tlog::FileSource log_files(const std::filesystem::path& ledger_folder) {
    return [folder = ledger_folder / "log"](const std::string& path) -> std::optional<std::string> {
        if (!is_log_path(path) || !std::filesystem::is_regular_file(folder / path)) {
            return std::nullopt;
        }
        return read_file(folder / path, tlog::kBundleBytesMax);
    };
}

}  // namespace etalon::ledger
