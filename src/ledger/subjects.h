// SPDX-License-Identifier: Apache-2.0
// Keys of subjects: one file of the key folder each. The record has a subject's random id; which
// name that is says the file's name alone, and only with the folder's own secret. Destroying the
// file closes every payload that names the subject and forgets whose id it was.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/internal/crypto.h"

namespace etalon::ledger {

struct Subject {
    std::string id;  ///< 32 hex digits
    Key key;
};

/// "tenant:NAME": the account itself, when a request names no subject.
std::string tenant_subject(std::string_view tenant);
/// A subject of that tenant, as x-etalon-subject names it.
std::string named_subject(std::string_view tenant, std::string_view name);

class Subjects {
  public:
    /// Makes the folder and its secret as needed. Errors: failure, refused (the secret may be read
    /// by others), invalid.
    explicit Subjects(std::filesystem::path folder);

    /// The subject of that name; a new one where it has none. Errors: as above.
    Subject get(std::string_view name);
    std::optional<Subject> find(std::string_view name) const;
    /// The keys with these ids, in this order; nullopt when one of them is gone. Errors: as above.
    std::optional<std::vector<Subject>> with_ids(const std::vector<std::string>& ids) const;

    /// Begins to destroy the subject's key: from now on a crash does not save it. Returns its id;
    /// nullopt: there is no such subject.
    std::optional<std::string> begin_erase(std::string_view name, std::string_view basis);

    struct Erasure {
        std::string id;
        std::string basis;
    };
    /// Erasures that have begun; their keys are destroyed when this returns.
    std::vector<Erasure> begun_erasures();
    /// The record of the erasure is on disk.
    void end_erase(const std::string& id);

    /// A value that only this folder's owner can make of `text`.
    Sha256Digest mac(std::string_view text) const { return hmac_sha256(secret_, text); }

  private:
    std::filesystem::path path_of(std::string_view name) const;
    std::filesystem::path id_path(const std::string& id) const;

    std::filesystem::path folder_;
    Key secret_;
};

}  // namespace etalon::ledger
