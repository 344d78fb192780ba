// SPDX-License-Identifier: Apache-2.0
// Keys of subjects: one file of the key folder each. The record has a subject's random id; which
// name that is says the file's name alone, and only with the folder's own secret. Destroying the
// file closes every payload that names the subject and forgets whose id it was. A name can get a
// new id while the key of the former one stays: so keys end by age (ledger/retention.h).
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/erase_journal.h"
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

    /// Every id whose key is there, with the MAC of its name: the present ones and the retired.
    struct Entry {
        std::string id;
        std::string name_mac;  ///< 64 hex digits
        bool retired = false;
    };
    std::vector<Entry> entries() const;
    /// 64 hex digits.
    std::string name_mac(std::string_view name) const;
    /// The ids of one name, likewise.
    std::vector<std::string> ids_of(std::string_view name) const;
    /// The name gets a new id for what is sealed from now on; the key of this one stays. Nothing
    /// happens where the id is retired already.
    void retire(const Entry& entry);
    /// When the key was made, seconds since 1970. Errors: not_found.
    std::uint64_t made(const std::string& id) const;

    /// A legal hold: erase_on_request() and retention refuse the name while it stands.
    void hold(std::string_view name, std::string_view reason);
    /// False: there was none.
    bool release(std::string_view name);
    /// The reason of the hold.
    std::optional<std::string> hold_of(std::string_view name) const;
    std::optional<std::string> hold_of_mac(const std::string& mac_text) const;

    /// Begins to destroy the subject's key: from now on a crash does not save it. Returns its id;
    /// nullopt: there is no such subject.
    std::optional<std::string> begin_erase(std::string_view name, std::string_view basis);
    /// The same for one id; `reason` goes to the journal, as printable ASCII.
    void begin_erase(const Entry& entry, std::string_view basis, std::string_view reason);

    struct Erasure {
        std::string id;
        std::string basis;
    };
    /// Erasures that have begun; the journal has them and their keys are destroyed when this
    /// returns.
    std::vector<Erasure> begun_erasures();
    /// The record of the erasure is on disk.
    void end_erase(const std::string& id);

    EraseJournal journal() const { return EraseJournal(folder_ / "erased"); }
    /// Destroys keys that the journal says were erased: those that a backup brought back. Returns
    /// how many.
    std::size_t replay_journal();

    /// A value that only this folder's owner can make of `text`.
    Sha256Digest mac(std::string_view text) const { return hmac_sha256(secret_, text); }

  private:
    std::filesystem::path path_of(std::string_view name) const;
    void destroy(const std::string& id, const std::string& mac_text) const;
    std::filesystem::path id_path(const std::string& id) const;

    std::filesystem::path folder_;
    Key secret_;
};

}  // namespace etalon::ledger
