// SPDX-License-Identifier: Apache-2.0
// The journal of erasures: whose keys were destroyed, so that no backup brings them back. A file of
// lines that only grows, each a JSON object as docs/ledger.md section 2 writes them:
//   {"basis":"request","id":"5f..","name_mac":"a0..","reason":"letter 17","time_us":1700000000}
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::ledger {

struct ErasedSubject {
    std::string id;        ///< 32 hex digits
    std::string name_mac;  ///< 64 hex digits; says the name only with the key folder's secret
    std::string basis;     ///< "request", "retention"
    std::string reason;    ///< printable ASCII, for people
    std::uint64_t time_us = 0;
    bool operator==(const ErasedSubject&) const = default;
};

/// The lines of a journal. The text may be hostile. What stands behind the last line end is a line
/// that a crash cut off, and is left out. Errors: invalid (with the number of the line).
std::vector<ErasedSubject> parse_erase_journal(std::string_view text);

class EraseJournal {
  public:
    explicit EraseJournal(std::filesystem::path path) : path_(std::move(path)) {}

    /// Empty where there is no file. Errors: invalid, refused (others may read it).
    std::vector<ErasedSubject> read() const;
    /// On disk when this returns; nothing where the id is there already. Processes may do this at
    /// once. Errors: failure, as read().
    void add(const ErasedSubject& erased) const;
    /// Adds what another journal has. Returns how many were new.
    std::size_t add_all(const std::vector<ErasedSubject>& others) const;

  private:
    std::filesystem::path path_;
};

}  // namespace etalon::ledger
