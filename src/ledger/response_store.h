// SPDX-License-Identifier: Apache-2.0
// Responses that a client asked to store: the one content that the server opens again, for the
// tenant that stored it. A fresh key encrypts each; the server's own key, the keys of the record's
// subjects and that of the account wrap it, so that destroying any one of them closes it.
//
//   <ledger>/keys/responses          the server's key; in no backup
//   <ledger>/responses/TENANT/ID     one file a response; TENANT is an HMAC of the name
//   <ledger>/responses/TENANT/INDEX  a link to it by the index of its intent
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/subjects.h"

namespace etalon::ledger {

struct StoredLimits {
    std::uint64_t days = 30;          ///< older ones are not given; 0: nothing is stored
    std::uint64_t responses = 10000;  ///< of one tenant
};

/// What stands in clear in a file, and is bound to its content.
struct ResponseHead {
    std::string id;                     ///< as is_response_id()
    std::uint64_t intent = 0;           ///< index of its record
    std::uint64_t made = 0;             ///< seconds since 1970
    std::vector<std::string> subjects;  ///< ids whose keys wrap it, the account's among them
    bool operator==(const ResponseHead&) const = default;
};
struct SealedResponse {
    ResponseHead head;
    std::string wrapped;  ///< the content's key inside its wraps
    std::string ciphertext;
};
struct StoredResponse {
    ResponseHead head;
    std::string content;
};

/// "resp_" and 24 lower-case hexadecimal digits.
bool is_response_id(std::string_view id) noexcept;

/// A file of the store, which may be hostile, and its bytes. Errors: invalid.
SealedResponse parse_sealed_response(std::string_view bytes);
std::string sealed_response_text(const SealedResponse& response);

/// May be used by several threads and processes at once; times are seconds since 1970. An id that
/// is none, that another tenant stored, that is too old or whose subject was erased is not there.
class ResponseStore {
  public:
    /// Makes the server's key. Errors: failure, refused (others may read a key), invalid.
    ResponseStore(const std::filesystem::path& ledger_folder, StoredLimits limits);

    /// A place below the limit of its tenant, for as long as it lives.
    using Place = std::shared_ptr<void>;
    /// nullptr: the tenant has stored as many as it may. Errors: failure.
    Place reserve(const std::string& tenant, std::uint64_t now);

    /// Writes a draft and returns it; publish() gives it its name once it is on disk. A crash
    /// between them leaves no response. Errors: failure.
    std::filesystem::path write(const std::string& tenant, const ResponseHead& head,
                                const std::vector<Subject>& subjects, std::string_view content);
    /// The names are on disk when this returns; the contents have to be before. Errors: failure.
    void publish(const std::vector<std::filesystem::path>& drafts);

    /// Errors of both: failure, invalid (the file was changed).
    std::optional<StoredResponse> get(const std::string& tenant, const std::string& id,
                                      std::uint64_t now) const;
    /// The response of an intent, by its index.
    std::optional<ResponseHead> find(const std::string& tenant, std::uint64_t intent,
                                     std::uint64_t now) const;
    /// Overwrites and deletes it. False: it is not there. Errors: failure.
    bool remove(const std::string& tenant, const std::string& id, std::uint64_t now);

    const StoredLimits& limits() const { return limits_; }

  private:
    struct Counts;

    std::filesystem::path folder_of(std::string_view tenant) const;
    std::optional<SealedResponse> read(const std::filesystem::path& path, std::uint64_t now) const;

    StoredLimits limits_;
    Subjects subjects_;
    Key server_key_;
    std::filesystem::path folder_;
    std::shared_ptr<Counts> counts_;
};

/// Deletes what is too old or closed for ever, and what a crash left of others, whether or not a
/// server runs. Returns how many responses went. Errors: failure, refused, invalid (a key).
std::size_t sweep_responses(const std::filesystem::path& ledger_folder, const StoredLimits& limits,
                            std::uint64_t now);

}  // namespace etalon::ledger
