// SPDX-License-Identifier: Apache-2.0
// A log that grows, on a real folder and on a disk that loses power at every point.
#include "tlog/log_writer.h"

#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <random>

#include "base/error.h"
#include "tlog/crash_disk.h"
#include "tlog/verify.h"

namespace etalon::tlog {
namespace {

std::string entry_of(std::uint64_t index) {
    std::string entry = fmt::format("entry {} ", index);
    entry.resize(entry.size() + index * 7919 % 300, 'x');
    return entry;
}

Policy policy_of(const SigningKey& key) {
    return parse_policy(fmt::format("log {}\nquorum none\n", key.verifier().text()));
}

/// Verifies all of a log: its entries are those of entry_of(), and it continues `held`.
std::uint64_t verified_size(const FileSource& files, const SigningKey& key,
                            const std::optional<Checkpoint>& held = std::nullopt) {
    std::uint64_t n = 0;
    const LogReport report =
        verify_log(files, policy_of(key), held, [&](std::uint64_t index, std::string_view entry) {
            EXPECT_EQ(index, n++);
            EXPECT_EQ(entry, entry_of(index));
        });
    EXPECT_EQ(report.checkpoint.size, n);
    return n;
}

class LogWriterTest : public testing::Test {
  protected:
    SigningKey key_ = SigningKey::generate("log.example/test");
    CrashDisk disk_;
};

TEST_F(LogWriterTest, every_size_verifies_and_opens_again) {
    for (std::uint64_t n = 0; n < 600; ++n) {
        LogWriter log(disk_, key_);
        ASSERT_EQ(log.size(), n);
        ASSERT_EQ(verified_size(log.files(), key_), n);
        ASSERT_EQ(log.add(entry_of(n)), n);
        log.publish();
        ASSERT_EQ(log.checkpoint().size, n + 1);
        ASSERT_EQ(disk_.read("checkpoint", 1 << 20), log.signed_checkpoint());
    }
}

TEST_F(LogWriterTest, a_large_log_has_tiles_of_three_levels) {
    constexpr std::uint64_t kEntries = 66000;
    LogWriter log(disk_, key_, 1 << 20);
    for (std::uint64_t i = 0; i < kEntries; ++i) {
        log.add(entry_of(i));
        if (i % 5000 == 17) log.publish();
        if (i % 777 == 0) log.commit();
    }
    log.publish();
    EXPECT_EQ(verified_size(log.files(), key_), kEntries);
    EXPECT_TRUE(disk_.exists("tile/2/000.p/1"));
    EXPECT_FALSE(disk_.exists("tile/0/000.p"));  // partial tiles go once they are full
    TileReader nodes(log.files(), kEntries);
    for (const std::uint64_t index : {0UL, 255UL, 256UL, 65535UL, 65536UL, 65999UL}) {
        const auto proof = inclusion_proof(nodes, index, kEntries);
        EXPECT_TRUE(
            is_included(leaf_hash(entry_of(index)), index, kEntries, proof, log.checkpoint().root));
    }
    EXPECT_EQ(LogWriter(disk_, key_).size(), kEntries);
}

TEST_F(LogWriterTest, what_is_committed_is_there_without_being_published) {
    {
        LogWriter log(disk_, key_);
        for (std::uint64_t i = 0; i < 300; ++i)
            log.add(entry_of(i));
        log.commit();
        log.add(entry_of(300));
        EXPECT_EQ(log.committed(), 300U);
        EXPECT_EQ(log.checkpoint().size, 0U);
    }
    const LogWriter log(disk_, key_);
    EXPECT_EQ(verified_size(log.files(), key_), 300U);
}

TEST_F(LogWriterTest, other_keys_and_lost_files_are_refused) {
    {
        LogWriter log(disk_, key_);
        for (std::uint64_t i = 0; i < 300; ++i)
            log.add(entry_of(i));
        log.publish();
    }
    EXPECT_EQ(LogWriter(disk_, key_).size(), 300U);  // ends the journal: only tiles are left
    const SigningKey other = SigningKey::generate("log.example/test");
    EXPECT_THROW(LogWriter(disk_, other), Error);
    for (const char* path : {"tile/0/000", "tile/0/001.p/44", "tile/1/000.p/1",
                             "tile/entries/001.p/44", "checkpoint"}) {
        const std::string bytes = disk_.read(path, 1 << 20).value();
        // A start reads what the log goes on from; the rest is read by who verifies.
        const bool at_start = std::string(path) != "tile/0/000";
        const FileSource files = [&](const std::string& p) { return disk_.read(p, 1 << 26); };
        disk_.remove(path);
        if (at_start) {
            EXPECT_THROW(LogWriter(disk_, key_), Error) << path;
        }
        EXPECT_THROW(verify_log(files, policy_of(key_)), Error) << path;
        std::string changed = bytes;
        changed[10] ^= 1;
        disk_.write(path, changed);
        const bool is_entry = std::string(path).find("entries") != std::string::npos;
        if (at_start && !is_entry) {
            EXPECT_THROW(LogWriter(disk_, key_), Error) << path;
        }
        EXPECT_THROW(verify_log(files, policy_of(key_)), Error) << path;
        disk_.remove(path);
        disk_.write(path, bytes);
    }
    EXPECT_EQ(LogWriter(disk_, key_).size(), 300U);
}

TEST_F(LogWriterTest, a_shorter_or_other_log_is_no_continuation) {
    CrashDisk forked;
    std::optional<Checkpoint> held;
    {
        LogWriter log(disk_, key_);
        for (std::uint64_t i = 0; i < 40; ++i)
            log.add(entry_of(i));
        log.publish();
        held = log.checkpoint();
        EXPECT_EQ(verified_size(log.files(), key_, held), 40U);
    }
    LogWriter log(forked, key_);
    for (std::uint64_t i = 0; i < 39; ++i)
        log.add(entry_of(i));
    log.publish();
    EXPECT_THROW(verify_log(log.files(), policy_of(key_), held), Error);
    log.add("another entry");
    log.publish();
    EXPECT_THROW(verify_log(log.files(), policy_of(key_), held), Error);
    log.add("one more");
    log.publish();
    EXPECT_THROW(verify_log(log.files(), policy_of(key_), held), Error);
}

/// Writes until the power goes; what is returned was said to be safe.
std::uint64_t write_until_power_goes(CrashDisk& disk, const SigningKey& key, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::uint64_t safe = 0;
    try {
        LogWriter log(disk, key, 20000);  // the journal ends every hundred entries
        safe = log.committed();
        while (log.size() < 1000) {
            const std::uint64_t n = 1 + random() % 40;
            for (std::uint64_t i = 0; i < n; ++i)
                log.add(entry_of(log.size()));
            log.commit();
            safe = log.committed();
            if (random() % 3 == 0) log.publish();
        }
        log.publish();
    } catch (const PowerLost&) {
        return safe;
    }
    disk.lose_power_at(0);
    return safe;
}

TEST_F(LogWriterTest, power_may_go_at_any_moment) {
    CrashDisk whole;
    write_until_power_goes(whole, key_, 1);
    const int n_changes = whole.n_changes();
    ASSERT_GT(n_changes, 250);
    std::uint64_t n_lost = 0;
    for (int moment = 1; moment <= n_changes; ++moment) {
        CrashDisk disk;
        disk.lose_power_at(moment);
        std::uint64_t safe = write_until_power_goes(disk, key_, 1);
        disk.restart(static_cast<std::uint64_t>(moment));
        // The power goes again while the log is opened, then once more while it grows.
        for (const int again : {1 + moment % 23, 5 + moment % 61}) {
            disk.lose_power_at(again);
            safe = std::max(safe, write_until_power_goes(disk, key_, 2));
            disk.restart(static_cast<std::uint64_t>(moment * 7 + again));
        }
        LogWriter log(disk, key_);
        ASSERT_GE(log.size(), safe) << "moment " << moment;
        n_lost += log.size() == safe ? 1 : 0;
        ASSERT_EQ(verified_size(log.files(), key_), log.size()) << "moment " << moment;
        TileReader nodes(log.files(), log.size());
        for (const std::string& seen : disk.checkpoints_seen()) {
            const Checkpoint held = open_checkpoint(parse_note(seen), key_.verifier());
            ASSERT_LE(held.size, log.size()) << "moment " << moment;
            ASSERT_EQ(tree_root(nodes, held.size), held.root) << "moment " << moment;
        }
    }
    EXPECT_GT(n_lost, 0U);
}

TEST_F(LogWriterTest, a_writer_that_failed_writes_no_more) {
    LogWriter log(disk_, key_);
    log.add(entry_of(0));
    disk_.lose_power_at(1);
    EXPECT_THROW(log.commit(), PowerLost);
    EXPECT_THROW(log.add(entry_of(1)), Error);
    EXPECT_THROW(log.publish(), Error);
}

TEST(FolderDisk, a_log_in_a_folder_and_one_writer) {
    const std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) / "etalon_tlog_folder" / "log";
    std::filesystem::remove_all(folder.parent_path());
    const SigningKey key = SigningKey::generate("log.example/folder");
    {
        FolderDisk disk(folder);
        EXPECT_THROW(FolderDisk second(folder), Error);
        LogWriter log(disk, key);
        for (std::uint64_t i = 0; i < 700; ++i)
            log.add(entry_of(i));
        log.publish();
        log.add(entry_of(700));
        log.commit();
    }
    FolderDisk disk(folder);
    const LogWriter log(disk, key);
    EXPECT_EQ(verified_size(log.files(), key), 701U);
    const auto mode = std::filesystem::status(folder / "tile").permissions();
    EXPECT_EQ(mode, std::filesystem::perms::owner_all);
    std::filesystem::remove_all(folder.parent_path());
}

}  // namespace
}  // namespace etalon::tlog
