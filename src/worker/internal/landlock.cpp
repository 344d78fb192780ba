// SPDX-License-Identifier: Apache-2.0
// Landlock by its system calls. The numbers and structures are the kernel's ABI and never change;
// headers older than the running kernel lack the later ones, so they stand here.
#include "worker/internal/landlock.h"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::worker {

namespace {

constexpr long kCreateRuleset = 444;  // one number on every architecture, as all calls since 5.1
constexpr long kAddRule = 445;
constexpr long kRestrictSelf = 446;
constexpr unsigned kAskVersion = 1;   // LANDLOCK_CREATE_RULESET_VERSION
constexpr unsigned kPathBeneath = 1;  // LANDLOCK_RULE_PATH_BENEATH
constexpr std::uint64_t kReadFile = 1U << 2;
constexpr std::uint64_t kReadFolder = 1U << 3;

struct RulesetAttributes {
    std::uint64_t files = 0;
    std::uint64_t network = 0;  // since version 4
    std::uint64_t scoped = 0;   // since version 6
};

struct [[gnu::packed]] PathRule {
    std::uint64_t allowed;
    std::int32_t parent_fd;
};

/// Everything that version `version` can forbid.
RulesetAttributes all_of(int version) {
    RulesetAttributes all;
    int n_file_rights = 13;                // execute ... make_sym
    if (version >= 2) n_file_rights = 14;  // refer
    if (version >= 3) n_file_rights = 15;  // truncate
    if (version >= 5) n_file_rights = 16;  // ioctl of devices
    all.files = (std::uint64_t{1} << n_file_rights) - 1;
    if (version >= 4) all.network = 3;  // bind and connect of TCP
    if (version >= 6) all.scoped = 3;   // abstract sockets, signals
    return all;
}

/// The kernel refuses a structure with bytes that it does not know unless they are zero; a shorter
/// one is fine for all.
std::size_t size_for(int version) {
    if (version >= 6) return sizeof(RulesetAttributes);
    return version >= 4 ? offsetof(RulesetAttributes, scoped)
                        : offsetof(RulesetAttributes, network);
}

std::string reason(const char* what) {
    return fmt::format("{}: {}", what, std::strerror(errno));
}

std::string allow(long ruleset, const std::filesystem::path& path) {
    const int fd = ::open(path.c_str(), O_PATH | O_CLOEXEC);
    if (fd < 0) return reason(printable(path.string()).c_str());
    struct stat status {};
    const bool is_folder = ::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    // Listing a folder is not reading what lies in it: its files have rules of their own.
    const PathRule rule{is_folder ? kReadFolder : kReadFile, fd};
    const long added = ::syscall(kAddRule, ruleset, kPathBeneath, &rule, 0);
    std::string why = added == 0 ? "" : reason("landlock_add_rule");
    ::close(fd);
    return why;
}

}  // namespace

int landlock_version() noexcept {
    const long version = ::syscall(kCreateRuleset, nullptr, 0, kAskVersion);
    return version < 0 ? 0 : static_cast<int>(version);
}

std::string restrict_files(const std::vector<std::filesystem::path>& files) {
    const int version = landlock_version();
    if (version == 0) return reason("landlock_create_ruleset");
    const RulesetAttributes attributes = all_of(version);
    const long ruleset = ::syscall(kCreateRuleset, &attributes, size_for(version), 0);
    if (ruleset < 0) return reason("landlock_create_ruleset");
    std::string why;
    for (const auto& path : files) {
        if (why.empty()) why = allow(ruleset, path);
    }
    if (why.empty() && ::syscall(kRestrictSelf, ruleset, 0) != 0) {
        why = reason("landlock_restrict_self");
    }
    ::close(static_cast<int>(ruleset));
    return why;
}

}  // namespace etalon::worker
