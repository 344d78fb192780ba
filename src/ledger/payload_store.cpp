// SPDX-License-Identifier: Apache-2.0
// A file: "etalon-sealed/v1 BYTES\n", so many bytes of the wrapped envelope, then the ciphertext.
#include "ledger/payload_store.h"

#include <charconv>
#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/internal/files.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

constexpr std::string_view kStart = "etalon-sealed/v1 ";
constexpr std::uint64_t kFilesPerFolder = 1000;

}  // namespace

StoredPayload parse_stored_payload(std::string_view bytes) {
    const std::size_t line_end = bytes.find('\n');
    std::size_t n_wrapped = 0;
    bool good = line_end != std::string_view::npos && line_end > kStart.size() &&
                bytes.substr(0, kStart.size()) == kStart;
    if (good) {
        const char* end = bytes.data() + line_end;
        const auto [parsed, error] = std::from_chars(bytes.data() + kStart.size(), end, n_wrapped);
        good = error == std::errc() && parsed == end && n_wrapped <= bytes.size() - line_end - 1;
    }
    if (!good) throw Error(ExitCode::invalid, "this is no sealed payload");
    return {std::string(bytes.substr(line_end + 1, n_wrapped)),
            std::string(bytes.substr(line_end + 1 + n_wrapped))};
}

std::filesystem::path PayloadStore::path_of(std::uint64_t intent) const {
    return folder_ / fmt::format("{:07}", intent / kFilesPerFolder) / fmt::format("{}", intent);
}

std::filesystem::path PayloadStore::write(std::uint64_t intent,
                                          const StoredPayload& payload) const {
    std::filesystem::path path = path_of(intent);
    make_private_folder(path.parent_path());
    // NOTE: a crash can leave a file of an index that is given again; it is no record's.
    const std::string start = fmt::format("{}{}\n", kStart, payload.wrapped.size());
    write_file(path, start + payload.wrapped + payload.ciphertext);
    return path;
}

void PayloadStore::sync(const std::vector<std::filesystem::path>& files) {
    sync_files(files);
}

std::optional<StoredPayload> PayloadStore::get(std::uint64_t intent) const {
    const std::filesystem::path path = path_of(intent);
    if (!std::filesystem::exists(path)) return std::nullopt;
    try {
        return parse_stored_payload(read_file(path, kPayloadBytesMax + kEnvelopeBytesMax));
    } catch (const Error& error) {
        throw Error(error.code(),
                    fmt::format("{} ({})", error.message(), printable(path.string())));
    }
}

}  // namespace etalon::ledger
