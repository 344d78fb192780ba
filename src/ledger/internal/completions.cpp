// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/completions.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "ledger/record.h"

namespace etalon::ledger {

namespace {

constexpr std::uint64_t kSlotBytes = 8;
/// The file is not synced: what the kernel had not written when the power went is made again from
/// so many last records (it writes within a minute; 1,000 answers a second leave two records each).
constexpr std::uint64_t kRescanned = 131072;

}  // namespace

Completions::Completions(const std::filesystem::path& path, const tlog::FileSource& log,
                         std::uint64_t size)
    : fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (fd_ < 0) {
        throw Error(ExitCode::failure, fmt::format("cannot open {}: {}", printable(path.string()),
                                                   std::strerror(errno)));
    }
    struct stat status {};
    const bool known = ::fstat(fd_, &status) == 0;
    const std::uint64_t n_slots =
        known ? static_cast<std::uint64_t>(status.st_size) / kSlotBytes : 0;
    const std::uint64_t trusted = std::min(n_slots, size);
    const std::uint64_t first = trusted > kRescanned ? trusted - kRescanned : 0;
    tlog::read_entries(log, first, size, size, [&](std::uint64_t index, std::string_view entry) {
        if (entry.find("\"kind\":\"complete\"") == std::string_view::npos) return;
        const Record record = parse_record(entry);
        if (const auto* complete = std::get_if<Complete>(&record.body)) {
            put(complete->intent, index);
        }
    });
}

Completions::~Completions() {
    ::close(fd_);
}

// Slots hold the index; 0 says none: record 0 is a boot.
void Completions::put(std::uint64_t intent, std::uint64_t complete) {
    const auto offset = static_cast<off_t>(intent * kSlotBytes);
    if (::pwrite(fd_, &complete, kSlotBytes, offset) != static_cast<ssize_t>(kSlotBytes)) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot write the index of completions: {}", std::strerror(errno)));
    }
}

std::optional<std::uint64_t> Completions::get(std::uint64_t intent) const {
    std::uint64_t complete = 0;
    const auto offset = static_cast<off_t>(intent * kSlotBytes);
    const bool got =
        ::pread(fd_, &complete, kSlotBytes, offset) == static_cast<ssize_t>(kSlotBytes);
    if (!got || complete == 0) return std::nullopt;
    return complete;
}

}  // namespace etalon::ledger
