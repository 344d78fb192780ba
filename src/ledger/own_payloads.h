// SPDX-License-Identifier: Apache-2.0
// The payloads of a ledger on this machine, for who has an auditor's key.
//
//   const OwnPayloads payloads(folder, {17, std::nullopt});
//   record_now(options, {ContentRead{17, "complaint 4", "open"}});
//   print(payloads.open(17, key));
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/seal.h"

namespace etalon::ledger {

class OwnPayloads {
  public:
    /// Reads the records of the published log from `first` on. The log may grow meanwhile. Errors:
    /// not_found (there is no ledger), invalid (the log is damaged).
    OwnPayloads(const std::filesystem::path& ledger_folder, std::uint64_t first);
    ~OwnPayloads();
    OwnPayloads(OwnPayloads&&) noexcept;
    OwnPayloads& operator=(OwnPayloads&&) noexcept;

    /// Indices of the intents that are complete and not erased, ascending.
    const std::vector<std::uint64_t>& intents() const;
    /// How many answers the intent has; 0: it is none, or not complete.
    std::uint64_t n_answers(std::uint64_t intent) const;

    /// The commitment to a note about the answers of the intent (Review::note). Errors: not_found
    /// (no such intent, or a subject of it was erased).
    std::string commit_note(std::uint64_t intent, std::string_view note) const;

    /// The plaintext (docs/ledger.md section 4), compared with its commitments. The reading is not
    /// recorded here: see record_now(). Errors: not_found (no such answer, or it was erased),
    /// refused (it is sealed to others), invalid.
    std::string open(std::uint64_t intent, const AuditorKey& key) const;

  private:
    struct Parts;
    std::unique_ptr<Parts> parts_;
    std::vector<std::uint64_t> intents_;
};

/// The payloads of docs/replay.md in a plaintext, by choice. Errors: invalid.
std::vector<std::string> payloads_in(const std::string& plaintext);

}  // namespace etalon::ledger
