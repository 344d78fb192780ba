// SPDX-License-Identifier: Apache-2.0
// Sealed payloads on disk: one file an intent, outside the log, so that it can be deleted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::ledger {

struct StoredPayload {
    std::string wrapped;  ///< the envelope inside the subjects' wraps
    std::string ciphertext;
};

/// The content of a file of the store, which may be hostile. Errors: invalid (it is not what
/// write() wrote). A file that a crash cut off behind its first line is noticed when it is opened.
StoredPayload parse_stored_payload(std::string_view bytes);

class PayloadStore {
  public:
    explicit PayloadStore(std::filesystem::path folder) : folder_(std::move(folder)) {}

    /// Returns the file, for sync(): until that a crash may lose it. Errors: failure.
    std::filesystem::path write(std::uint64_t intent, const StoredPayload& payload) const;
    static void sync(const std::vector<std::filesystem::path>& files);
    /// nullopt: there is none. Errors: invalid (the file is not what put() wrote).
    std::optional<StoredPayload> get(std::uint64_t intent) const;

  private:
    std::filesystem::path path_of(std::uint64_t intent) const;

    std::filesystem::path folder_;
};

}  // namespace etalon::ledger
