// SPDX-License-Identifier: Apache-2.0
// Landlock by its system calls: no library of Debian 12 knows it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace etalon::worker {

/// The kernel's version of Landlock, 0 when there is none.
int landlock_version() noexcept;

/// From here on this process may open `files` for reading and nothing else; where the kernel knows
/// it, no TCP port and no process outside either. "" when it holds, else why not.
std::string restrict_files(const std::vector<std::filesystem::path>& files);

}  // namespace etalon::worker
