// SPDX-License-Identifier: Apache-2.0
// When records name each subject, and whose tenant that is.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <string>

namespace etalon::ledger {

struct SubjectUse {
    std::uint64_t first_us = 0;     ///< time of the first intent that names it
    std::uint64_t last_us = 0;      ///< and of the last
    std::set<std::string> tenants;  ///< ids
};

/// Below a ledger's folder: the logs that it had before a restore, each with its payloads.
inline constexpr const char* kPreviousFolder = "previous";

/// By id; of the published log and the former ones, whose payloads the same keys close. Reads all
/// of them: about a million records a second. Errors: invalid (the log is damaged).
std::map<std::string, SubjectUse> read_subject_use(const std::filesystem::path& ledger_folder);

}  // namespace etalon::ledger
