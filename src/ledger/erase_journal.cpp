// SPDX-License-Identifier: Apache-2.0
// The journal of erasures.
#include "ledger/erase_journal.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <set>
#include <sys/file.h>
#include <unistd.h>

#include "base/error.h"
#include "ledger/internal/files.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/record.h"

namespace etalon::ledger {

namespace {

std::string line_of(const ErasedSubject& erased) {
    return Members()
               .add("basis", erased.basis)
               .add("id", erased.id)
               .add("name_mac", erased.name_mac)
               .add("reason", plain(erased.reason))
               .add("time_us", erased.time_us)
               .text() +
           "\n";
}

ErasedSubject parse_line(std::string_view line) {
    const Object object = parse_object(line);
    Taker taker(object, "erasure");
    ErasedSubject erased;
    erased.basis = taker.text("basis");
    erased.id = taker.hex("id", kIdDigits);
    erased.name_mac = taker.hex("name_mac", kHashDigits);
    erased.reason = taker.text("reason");
    erased.time_us = taker.integer("time_us");
    taker.end();
    return erased;
}

/// The file under a lock, so that two processes write one after the other.
class LockedFile {
  public:
    explicit LockedFile(const std::filesystem::path& path)
        : path_(path), fd_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600)) {
        if (fd_ < 0) fail("open");
        if (::flock(fd_, LOCK_EX) != 0) {
            const int reason = errno;
            ::close(fd_);
            errno = reason;
            fail("lock");
        }
    }
    ~LockedFile() { ::close(fd_); }
    LockedFile(const LockedFile&) = delete;
    LockedFile& operator=(const LockedFile&) = delete;

    /// Puts `text` at `offset`, which becomes the end of what was there.
    void append(std::size_t offset, std::string_view text) const {
        if (::ftruncate(fd_, static_cast<off_t>(offset)) != 0) fail("write");
        while (!text.empty()) {
            const ssize_t n = ::pwrite(fd_, text.data(), text.size(), static_cast<off_t>(offset));
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) fail("write");
            text.remove_prefix(static_cast<std::size_t>(n));
            offset += static_cast<std::size_t>(n);
        }
        if (::fsync(fd_) != 0) fail("sync");
    }

  private:
    [[noreturn]] void fail(const char* doing) const {
        throw Error(ExitCode::failure,
                    fmt::format("cannot {} {}: {}", doing, printable(path_.string()),
                                std::strerror(errno)));
    }

    std::filesystem::path path_;
    int fd_;
};

}  // namespace

std::vector<ErasedSubject> parse_erase_journal(std::string_view text) {
    std::vector<ErasedSubject> all;
    for (std::size_t n = 1;; ++n) {
        const std::size_t end = text.find('\n');
        if (end == std::string_view::npos) return all;
        try {
            all.push_back(parse_line(text.substr(0, end)));
        } catch (const Error& error) {
            throw Error(ExitCode::invalid,
                        fmt::format("journal of erasures, line {}: {}", n, error.message()));
        }
        text.remove_prefix(end + 1);
    }
}

std::vector<ErasedSubject> EraseJournal::read() const {
    if (!std::filesystem::exists(path_)) return {};
    return parse_erase_journal(read_private_file(path_, kJournalBytesMax));
}

void EraseJournal::add(const ErasedSubject& erased) const {
    (void)add_all({erased});
}

std::size_t EraseJournal::add_all(const std::vector<ErasedSubject>& others) const {
    const LockedFile file(path_);
    const std::string text = read_private_file(path_, kJournalBytesMax);
    std::set<std::string> known;
    for (const ErasedSubject& erased : parse_erase_journal(text))
        known.insert(erased.id);
    std::string lines;
    std::size_t n_new = 0;
    for (const ErasedSubject& erased : others) {
        if (!known.insert(erased.id).second) continue;
        lines += line_of(erased);
        ++n_new;
    }
    if (n_new == 0) return 0;
    // Behind the last line end is what a crash cut off: its erasure has not begun.
    const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
    file.append(whole, lines);
    sync_folder(path_.parent_path());
    return n_new;
}

}  // namespace etalon::ledger
