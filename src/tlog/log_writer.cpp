// SPDX-License-Identifier: Apache-2.0
// The journal is safe before the tiles are written, these are written before the checkpoint is
// signed, and both are safe before the journal is removed.
#include "tlog/log_writer.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "base/error.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

constexpr const char* kCheckpoint = "checkpoint";
constexpr const char* kNewCheckpoint = "checkpoint.new";
constexpr const char* kNewTile = "tile.new";
constexpr const char* kJournal = "journal";

// A group of the journal: magic, number of entries, index of the first, bytes of the body; a
// SHA-256 over these and the body; the body, as a bundle has it. All numbers are big-endian.
constexpr std::string_view kMagic = "etlg";
constexpr std::size_t kHeadBytes = 4 + 4 + 8 + 8;
constexpr std::size_t kGroupHeadBytes = kHeadBytes + sizeof(Hash);
/// A group is committed before it grows longer, and it may be the last of a journal.
constexpr std::size_t kJournalFileBytesMax =
    kJournalBytesMax + kGroupBytesMax + kEntryBytesMax + 2 + kGroupHeadBytes;

std::string_view view_of(const Hash& hash) {
    return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

Hash group_hash(std::string_view head, std::string_view body) {
    Sha256 hash;
    hash.update(head);
    hash.update(body);
    return hash.finish();
}

/// The group at the beginning of `bytes`.
struct Group {
    std::uint64_t first = 0;
    std::uint64_t n_entries = 0;
    std::string_view body;
};

/// False where the bytes are no whole group: the end of what was safe when the power went.
bool parse_group(std::string_view bytes, Group& group) {
    if (bytes.size() < kGroupHeadBytes || bytes.substr(0, kMagic.size()) != kMagic) return false;
    group.n_entries = from_big_endian(bytes.substr(4, 4));
    group.first = from_big_endian(bytes.substr(8, 8));
    const std::uint64_t n_bytes = from_big_endian(bytes.substr(16, 8));
    if (n_bytes > bytes.size() - kGroupHeadBytes) return false;
    group.body = bytes.substr(kGroupHeadBytes, n_bytes);
    const Hash want = group_hash(bytes.substr(0, kHeadBytes), group.body);
    return bytes.substr(kHeadBytes, sizeof(Hash)) == view_of(want);
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "" : path.substr(0, slash);
}

constexpr std::size_t kJournalNameDigits = 20;  // so that names sort as numbers

std::string journal_path(std::uint64_t first) {
    return fmt::format("{}/{:0{}}", kJournal, first, kJournalNameDigits);
}

/// The first entry of a file of the journal, from its name.
std::uint64_t first_of(const std::string& name) {
    std::uint64_t first = 0;
    const std::size_t zeros = std::min(name.find_first_not_of('0'), name.size() - 1);
    if (name.size() != kJournalNameDigits || !parse_decimal(name.substr(zeros), first)) {
        throw Error(ExitCode::invalid,
                    fmt::format("the log's journal has a file {}", printable(name)));
    }
    return first;
}

}  // namespace

LogWriter::LogWriter(Disk& disk, const SigningKey& key, std::size_t journal_bytes_max)
    : disk_(disk), key_(key), journal_bytes_max_(journal_bytes_max) {
    ETALON_ASSERT(journal_bytes_max <= kJournalBytesMax);
    const std::optional<std::string> text = disk_.read(kCheckpoint, kNoteBytesMax);
    if (text) {
        open_log(*text);
    } else {
        begin_log();
    }
    // Whether what was replayed is safe is not known, only that it could be read: it is written
    // once more before anything builds on it.
    publish();
    settle();
}

void LogWriter::begin_log() {
    if (disk_.exists("tile") || !disk_.list(kJournal).empty()) {
        throw Error(ExitCode::invalid, "the log has entries and no checkpoint",
                    "put its checkpoint back, or begin a log in another folder");
    }
    checkpoint_ = {key_.verifier().name, 0, empty_root()};
    sign();
    disk_.make_folder(kJournal);
}

void LogWriter::open_log(const std::string& signed_text) {
    checkpoint_ = open_checkpoint(parse_note(signed_text), key_.verifier());
    signed_ = signed_text;
    disk_.make_folder(kJournal);
    const std::vector<std::string> journal = disk_.list(kJournal);
    std::uint64_t first = checkpoint_.size;
    if (!journal.empty()) first = std::min(first, first_of(journal.front()));
    open_tiles(first);
    check_root();
    for (const std::string& name : journal)
        replay_file(std::string(kJournal) + "/" + name);
    if (n_committed_ < checkpoint_.size) {
        throw Error(ExitCode::invalid,
                    fmt::format("the log's journal ends with entry {}, its checkpoint covers {}",
                                n_committed_, checkpoint_.size));
    }
}

/// The state of a log of `size` entries, from files that are safe.
void LogWriter::open_tiles(std::uint64_t size) {
    const FileSource source = files();
    for (int level = 0; level < kTileLevels; ++level) {
        Open& tile = tiles_[static_cast<std::size_t>(level)];
        const std::uint64_t n_hashes = size >> (kTileHeight * level);
        tile.index = n_hashes / kTileWidth;
        tile.width = tile.written = n_hashes % kTileWidth;
        if (tile.width > 0) tile.bytes = read_tile(source, level, tile.index, tile.width);
    }
    bundle_.index = size / kTileWidth;
    bundle_.width = bundle_.written = size % kTileWidth;
    if (bundle_.width > 0) bundle_.bytes = read_bundle(source, bundle_.index, bundle_.width);
    TileReader nodes(source, size);
    frontier_ = Frontier(nodes, size);
    n_committed_ = size;
}

/// While a log is opened: what was signed must come out again.
void LogWriter::check_root() const {
    if (frontier_.size() != checkpoint_.size || frontier_.root() == checkpoint_.root) return;
    throw Error(ExitCode::invalid, "the log's files do not give its checkpoint's root",
                "etalon ledger verify names the first file that differs");
}

void LogWriter::replay_file(const std::string& path) {
    const std::string bytes = disk_.read(path, kJournalFileBytesMax).value_or("");
    std::string_view rest = bytes;
    Group group;
    while (parse_group(rest, group)) {
        rest.remove_prefix(kGroupHeadBytes + group.body.size());
        if (group.first != n_committed_) {
            throw Error(ExitCode::invalid,
                        fmt::format("the log's journal goes on with entry {} after {} entries",
                                    group.first, n_committed_));
        }
        std::string_view body = group.body;
        for (std::uint64_t i = 0; i < group.n_entries; ++i) {
            const std::string_view entry = parse_entries(body, 1).front();
            body.remove_prefix(2 + entry.size());
            grow(entry);
            check_root();
        }
        n_committed_ += group.n_entries;
    }
}

void LogWriter::check_usable() const {
    if (!broken_) return;
    throw Error(ExitCode::unavailable, "the log could not be written and is not written on",
                "make room on its disk, then start again");
}

std::uint64_t LogWriter::add(std::string_view entry) {
    check_usable();
    ETALON_ASSERT(entry.size() <= kEntryBytesMax);
    if (group_bytes_ + entry.size() > kGroupBytesMax) commit();
    const std::uint64_t index = size();
    ETALON_ASSERT(index < kTreeSizeMax);
    group_.emplace_back(entry);
    group_bytes_ += 2 + entry.size();
    return index;
}

void LogWriter::commit() {
    check_usable();
    if (group_.empty()) return;
    broken_ = true;  // until all of it succeeded
    write_group();
    for (const std::string& entry : group_)
        grow(entry);
    n_committed_ += group_.size();
    group_.clear();
    group_bytes_ = 0;
    broken_ = false;
    if (journal_bytes_ > journal_bytes_max_) publish();
}

void LogWriter::write_group() {
    std::string body;
    body.reserve(group_bytes_);
    for (const std::string& entry : group_)
        append_entry(entry, body);
    std::string bytes(kMagic);
    bytes += big_endian(group_.size(), 4);
    bytes += big_endian(n_committed_, 8);
    bytes += big_endian(body.size(), 8);
    bytes += view_of(group_hash(bytes, body));
    bytes += body;
    const bool is_new = journal_.empty();
    if (is_new) {
        journal_ = journal_path(n_committed_);
        disk_.write(journal_, bytes);
    } else {
        disk_.append(journal_, bytes);
    }
    disk_.sync(journal_);
    if (is_new) disk_.sync_folder(kJournal);
    journal_bytes_ += bytes.size();
}

void LogWriter::grow(std::string_view entry) {
    append_entry(entry, bundle_.bytes);
    ++bundle_.width;
    close_if_full(bundle_, entries_path(bundle_.index, kTileWidth));
    const Hash leaf = leaf_hash(entry);
    frontier_.append(leaf);
    add_hash(0, leaf);
}

void LogWriter::add_hash(int level, const Hash& hash) {
    Open& tile = tiles_[static_cast<std::size_t>(level)];
    tile.bytes += view_of(hash);
    ++tile.width;
    if (tile.width < kTileWidth) return;
    const Hash top = tile_root(tile.bytes);
    close_if_full(tile, tile_path(level, tile.index, kTileWidth));
    if (level + 1 < kTileLevels) add_hash(level + 1, top);
}

void LogWriter::close_if_full(Open& open, std::string path) {
    if (open.width < kTileWidth) return;
    obsolete_.push_back(path + ".p");
    wanted_.push_back({std::move(path), std::move(open.bytes)});
    open = {"", open.index + 1, 0, 0};
}

void LogWriter::want_partial(Open& open, std::string path) {
    if (open.width == open.written) return;
    wanted_.push_back({std::move(path), open.bytes});
    open.written = open.width;
}

void LogWriter::publish() {
    commit();
    broken_ = true;  // until all of it succeeded
    if (bundle_.width > 0) want_partial(bundle_, entries_path(bundle_.index, bundle_.width));
    for (int level = 0; level < kTileLevels; ++level) {
        Open& tile = tiles_[static_cast<std::size_t>(level)];
        if (tile.width > 0) want_partial(tile, tile_path(level, tile.index, tile.width));
    }
    if (!wanted_.empty()) {
        write_wanted();
        checkpoint_.size = n_committed_;
        checkpoint_.root = frontier_.root();
        sign();
    }
    if (journal_bytes_ > journal_bytes_max_) settle();
    broken_ = false;
}

void LogWriter::write_wanted() {
    std::set<std::string> folders;
    for (const Wanted& file : wanted_) {
        const std::string folder = folder_of(file.path);
        if (folders.insert(folder).second) disk_.make_folder(folder);
        // A start writes the last tiles once more, while others read them.
        disk_.write(kNewTile, file.bytes);
        disk_.rename(kNewTile, file.path);
    }
    wanted_.clear();
}

void LogWriter::sign() {
    Note note;
    note.text = checkpoint_.text();
    note.signatures.push_back(key_.sign(note.text));
    signed_ = note_text(note);
    disk_.write(kNewCheckpoint, signed_);
    disk_.sync(kNewCheckpoint);
    disk_.rename(kNewCheckpoint, kCheckpoint);
    disk_.sync_folder("");
}

/// Ends the journal. The folders of partial tiles go last: a start that still finds the journal
/// begins with them.
void LogWriter::settle() {
    disk_.sync_all();
    for (const std::string& name : disk_.list(kJournal))
        disk_.remove(std::string(kJournal) + "/" + name);
    disk_.sync_folder(kJournal);
    for (const std::string& folder : obsolete_)
        disk_.remove_folder(folder);
    obsolete_.clear();
    journal_.clear();
    journal_bytes_ = 0;
}

FileSource LogWriter::files() const {
    return [this](const std::string& path) { return disk_.read(path, kBundleBytesMax); };
}

}  // namespace etalon::tlog
