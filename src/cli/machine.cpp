// SPDX-License-Identifier: Apache-2.0
// What this machine is, and where the default model lies.
#include "cli/machine.h"

#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <string>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::cli {

namespace {

/// Value behind the first "key : value" line of a file; "" when there is none.
std::string field_of(const char* path, std::string_view key) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        if (line.compare(0, key.size(), key) != 0) continue;
        const std::size_t colon = line.find(':');
        if (colon == std::string::npos) continue;
        const std::size_t start = line.find_first_not_of(" \t", colon + 1);
        return start == std::string::npos ? "" : line.substr(start);
    }
    return "";
}

/// The value of an environment variable; "" when it is not set.
std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

}  // namespace

std::string processor_name() {
    // The key is "model name" on x86, "uarch" on RISC-V; Arm kernels give numbers only.
    for (const char* key : {"model name", "uarch"}) {
        const std::string name = field_of("/proc/cpuinfo", key);
        if (!name.empty()) return name;
    }
    utsname names{};
    return ::uname(&names) == 0 ? fmt::format("unknown ({})", names.machine) : "unknown";
}

std::uint64_t total_memory() {
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    const long page_bytes = ::sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page_bytes <= 0) return 0;
    return static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes);
}

std::uint64_t last_cache_bytes() {
    long bytes = 0;
    for (const int level : {_SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE, _SC_LEVEL4_CACHE_SIZE})
        bytes = std::max(bytes, ::sysconf(level));
    return static_cast<std::uint64_t>(bytes);
}

std::filesystem::path default_model_path() {
    const std::string chosen = environment("ETALON_MODEL");
    if (!chosen.empty()) return chosen;
    std::filesystem::path data = environment("XDG_DATA_HOME");
    if (data.empty()) data = std::filesystem::path(environment("HOME")) / ".local" / "share";
    return data / "etalon" / "models" / kDefaultModelFile;
}

}  // namespace etalon::cli
