// SPDX-License-Identifier: Apache-2.0
// The writer of a log. Entries are safe once they are in a journal (one fsync for as many as came
// together); tiles and a signed checkpoint follow later and for many at once.
//   LogWriter log(disk, key);
//   const std::uint64_t index = log.add(entry);
//   log.commit();    // the entry is safe
//   log.publish();   // checkpoint and tiles cover it
// Files in the log's folder: "checkpoint", "tile/..." for everybody, "journal/INDEX" for the
// writer. A crash at any moment leaves a log that opens again: what was committed is in it, a
// checkpoint that was published is continued. Nothing is repaired by hand.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/checkpoint.h"
#include "tlog/disk.h"
#include "tlog/tile_reader.h"
#include "tlog/tree.h"

namespace etalon::tlog {

/// Bytes of one group in the journal; add() of more commits first.
inline constexpr std::size_t kGroupBytesMax = 8 << 20;
/// A journal that is longer is ended: what a start after a crash has to read again.
inline constexpr std::size_t kJournalBytesMax = 64 << 20;

class LogWriter {
  public:
    /// Opens the log, or begins one: its origin is the key's name. `disk` outlives the writer.
    /// Errors: invalid (the checkpoint is not of this key, or files that it covers are gone or
    /// changed), failure (system).
    LogWriter(Disk& disk, const SigningKey& key, std::size_t journal_bytes_max = kJournalBytesMax);

    /// The entry's index. It may be lost until commit(). At most kEntryBytesMax bytes.
    std::uint64_t add(std::string_view entry);
    /// Returns once all entries are safe. An error here is the end of this writer: whether the
    /// entries are safe is known only when the log is opened again; add() then throws.
    void commit();
    /// Commits, writes tiles and signs a checkpoint over them. Does nothing when nothing is new.
    /// Errors as of commit().
    void publish();

    std::uint64_t size() const noexcept { return n_committed_ + group_.size(); }
    std::uint64_t committed() const noexcept { return n_committed_; }
    /// The last published checkpoint and the note that carries it.
    const Checkpoint& checkpoint() const noexcept { return checkpoint_; }
    const std::string& signed_checkpoint() const noexcept { return signed_; }

    /// Files of the published tree.
    FileSource files() const;

  private:
    /// A tile or bundle that is not full yet.
    struct Open {
        std::string bytes;
        std::uint64_t index = 0;
        std::uint64_t width = 0;    // hashes or entries in `bytes`
        std::uint64_t written = 0;  // of them: those that a file holds
    };
    /// A file that the next checkpoint needs.
    struct Wanted {
        std::string path;
        std::string bytes;
    };

    void check_usable() const;
    void begin_log();
    void open_log(const std::string& signed_text);
    void open_tiles(std::uint64_t size);
    void check_root() const;
    void replay_file(const std::string& path);
    void write_group();
    void grow(std::string_view entry);
    void add_hash(int level, const Hash& hash);
    void close_if_full(Open& open, std::string path);
    void want_partial(Open& open, std::string path);
    void write_wanted();
    void sign();
    void settle();

    Disk& disk_;
    const SigningKey& key_;
    std::size_t journal_bytes_max_;
    Checkpoint checkpoint_;
    std::string signed_;
    std::vector<std::string> group_;
    std::size_t group_bytes_ = 0;
    std::uint64_t n_committed_ = 0;
    std::string journal_;  // the file that is written on; empty: the next commit begins one
    std::size_t journal_bytes_ = 0;
    Open bundle_;
    std::array<Open, kTileLevels> tiles_;
    Frontier frontier_;
    std::vector<Wanted> wanted_;
    std::vector<std::string> obsolete_;  // folders of partial tiles that are full now
    bool broken_ = false;
};

}  // namespace etalon::tlog
