// SPDX-License-Identifier: Apache-2.0
// Time stamps of checkpoints (RFC 3161) as they lie beside the log: log/stamps/SIZE.checkpoint, the
// signed note that was stamped, and log/stamps/SIZE.tsr, what the authority answered. They are kept
// and given away here; tlog/time_stamp.h says what one is worth.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::ledger {

struct Stamp {
    std::uint64_t size = 0;  ///< records that the checkpoint covers
    std::string checkpoint;  ///< a signed note; these bytes were stamped
    std::string response;    ///< DER, a TimeStampResp
};

/// They are on disk when this returns. A size that has a stamp keeps it. Errors: failure.
void keep_stamp(const std::filesystem::path& ledger_folder, const Stamp& stamp);

/// Ascending; empty: there are none.
std::vector<std::uint64_t> stamped_sizes(const std::filesystem::path& ledger_folder);
/// Errors: not_found, invalid (larger than a note or an answer can be).
Stamp read_stamp(const std::filesystem::path& ledger_folder, std::uint64_t size);

/// Of the sizes in ascending order those that say most of records [first, end): inside of them, and
/// the first that covers all; at most kBundleStampsMax, evenly.
std::vector<std::uint64_t> stamps_for(const std::vector<std::uint64_t>& sizes, std::uint64_t first,
                                      std::uint64_t end);

/// The digits of SIZE in "stamps/SIZE.checkpoint" or "stamps/SIZE.tsr"; nullopt: another path.
std::optional<std::string_view> stamp_digits(std::string_view path);

}  // namespace etalon::ledger
