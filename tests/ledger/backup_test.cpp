// SPDX-License-Identifier: Apache-2.0
// Backups: what comes back is what was saved, without what was erased since; a changed backup and
// an old one of keys do not come back.
#include "ledger/backup.h"

#include <atomic>
#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/internal/files.h"
#include "ledger/payload_store.h"
#include "ledger/retention.h"
#include "ledger/run_evidence.h"
#include "ledger/seal.h"
#include "ledger/stamps.h"
#include "ledger/subjects.h"
#include "tlog/verify.h"

namespace etalon::ledger {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kNow = 1'800'000'000'000'000;

/// A ledger with an answer about anna and one about bert.
class Backup : public ::testing::Test {
  protected:
    Backup() : options_(options_in(folder_)) {
        Ledger ledger(options_);
        const std::uint64_t load = ledger.model_loaded(some_model());
        for (const char* name : {"anna", "bert"}) {
            RequestIntent request = some_request(load);
            request.subjects = {name};
            const Ticket ticket = ledger.begin_now(request);
            ledger.complete_now(some_completion(ticket.intent));
            intents_.push_back(ticket.intent);
        }
        ledger.publish_now();
        origin_ = ledger.origin();
    }
    fs::path at(const char* name) const { return folder_.path() / name; }

    /// The envelope of an answer opens with the keys in `ledger`; the payload lies in `place`.
    bool opens(const fs::path& ledger, const fs::path& place, std::uint64_t intent,
               const std::string& name) const {
        const auto subject =
            Subjects(ledger / "keys" / "subjects").find(named_subject("default", name));
        if (!subject) return false;
        const auto stored = PayloadStore(place / "payloads").get(intent);
        EXPECT_TRUE(stored.has_value());
        const std::string envelope = unwrap_envelope(stored->wrapped, {*subject});
        const std::string content_key =
            open_envelope(envelope, read_file(options_.folder / "local-auditor.key", kBytesMax),
                          read_file(place / "auditors" / "local.pem", kBytesMax));
        Key key;
        std::copy(content_key.begin(), content_key.end(), key.bytes.begin());
        return open_payload(stored->ciphertext, key, {origin_, intent})
                   .find(fmt::format("answer 0 of {}", intent)) != std::string::npos;
    }

    Folder folder_;
    LedgerOptions options_;
    std::vector<std::uint64_t> intents_;
    std::string origin_;
};

TEST_F(Backup, data_has_no_key) {
    const BackupInfo info = back_up_data(options_.folder, at("data"), {}, kNow);
    EXPECT_EQ(verify_backup(at("data")).n_files, info.n_files);
    std::set<std::string> secrets;
    for (const auto& entry : fs::recursive_directory_iterator(options_.folder / "keys"))
        if (entry.is_regular_file()) secrets.insert(read_file(entry.path(), kBytesMax));
    secrets.erase("");  // the lock
    secrets.insert(read_file(options_.folder / "local-auditor.key", kBytesMax));
    EXPECT_GE(secrets.size(), 8U);
    for (const auto& entry : fs::recursive_directory_iterator(at("data"))) {
        if (!entry.is_regular_file()) continue;
        const std::string bytes = read_file(entry.path(), kBytesMax);
        for (const std::string& secret : secrets)
            EXPECT_EQ(bytes.find(secret), std::string::npos) << entry.path();
    }
}

TEST_F(Backup, comes_back_and_a_new_log_begins) {
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    (void)back_up_keys(options_.folder, at("keys"), 7, kNow);
    LedgerOptions other = options_;
    other.folder = at("restored");
    const RestoreReport report =
        restore_backup({at("data"), at("keys"), std::nullopt}, other.folder, kNow + 6 * kDayUs);
    EXPECT_EQ(report.n_erased, 0U);
    EXPECT_TRUE(opens(other.folder, report.previous, intents_[0], "anna"));
    EXPECT_TRUE(opens(other.folder, report.previous, intents_[1], "bert"));
    {
        Ledger ledger(other);
        EXPECT_NE(ledger.origin(), origin_);
        EXPECT_FALSE(ledger.made_local_auditor());
    }
    // A backup of that has the former log too.
    (void)back_up_data(other.folder, at("again"), {}, kNow);
    EXPECT_TRUE(fs::exists(at("again") / report.previous.lexically_relative(other.folder) / "log" /
                           "checkpoint"));
}

TEST_F(Backup, retention_reaches_the_payloads_of_the_former_log) {
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    (void)back_up_keys(options_.folder, at("keys"), 7, kNow);
    LedgerOptions other = options_;
    other.folder = at("restored");
    const fs::path previous =
        restore_backup({at("data"), at("keys"), std::nullopt}, other.folder, kNow).previous;
    { const Ledger ledger(other); }  // has no record that names anybody
    const Retention retention({{"default", 0, 30}});
    const std::uint64_t now = unix_time_us();
    EXPECT_EQ(apply_retention(other, retention, now + 29 * kDayUs).n_erased, 0U);
    EXPECT_TRUE(opens(other.folder, previous, intents_[0], "anna"));
    EXPECT_EQ(apply_retention(other, retention, now + 31 * kDayUs).n_erased,
              3U);  // the account too
    EXPECT_FALSE(opens(other.folder, previous, intents_[0], "anna"));
    EXPECT_FALSE(opens(other.folder, previous, intents_[1], "bert"));
}

TEST_F(Backup, has_what_others_signed_and_which_keys_were_copied) {
    const fs::path log = options_.folder / "log";
    const std::string note = read_file(log / "checkpoint", kBytesMax);
    const std::uint64_t size = tlog::parse_checkpoint(tlog::parse_note(note).text).size;
    (void)write_new_file(log / "cosigned", note);
    (void)write_new_file(options_.folder / "policy.txt", "quorum none\n");
    keep_stamp(options_.folder, some_stamp(size, note));
    keep_sandbox(options_.folder, 1, "seccomp: on\n");
    (void)back_up_keys(options_.folder, at("keys"), 7, kNow);
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    const fs::path previous =
        restore_backup({at("data"), at("keys"), std::nullopt}, at("restored"), kNow).previous;
    EXPECT_EQ(read_file(previous / "log" / "cosigned", kBytesMax), note);
    EXPECT_EQ(read_file(previous / "policy.txt", kBytesMax), "quorum none\n");
    EXPECT_FALSE(fs::exists(at("restored") / "policy.txt"));  // it names the former log
    EXPECT_EQ(stamped_sizes(previous), std::vector<std::uint64_t>{size});
    EXPECT_EQ(kept_sandbox(previous, 1), "seccomp: on\n");
    const auto listed = key_backups(at("restored"));
    ASSERT_EQ(listed.size(), 1U);
    EXPECT_EQ(listed[0].folder, fs::absolute(at("keys")).string());
}

/// Tiles are replaced by wider ones while they are copied.
TEST_F(Backup, of_a_busy_ledger_is_whole) {
    std::atomic<bool> is_over = false;
    std::thread writer([&] {
        Ledger ledger(options_);
        const std::uint64_t load = ledger.model_loaded(some_model());
        while (!is_over) {
            ledger.complete_now(some_completion(ledger.begin_now(some_request(load)).intent));
            ledger.publish_now();
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        }
    });
    // Partial tiles go by the thousand in a long life of a log: here in a corner of their own.
    std::thread tiles([&] {
        const fs::path folder = options_.folder / "log" / "tile" / "9" / "000.p";
        while (!is_over) {
            fs::create_directories(folder);
            for (int width = 1; width < 20; ++width)
                std::ofstream(folder / std::to_string(width)) << width;
            std::ofstream(options_.folder / "log" / "tile" / "9" / "000") << "full";
            fs::remove_all(folder);
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    });
    const tlog::Policy policy = own_policy(options_.folder);
    for (int i = 0; i < 10; ++i) {
        const fs::path out = at("busy");
        fs::remove_all(out);
        EXPECT_NO_THROW({
            (void)back_up_data(options_.folder, out, {}, kNow);
            (void)verify_backup(out);
            (void)tlog::verify_log(log_files(out), policy, std::nullopt,
                                   [](std::uint64_t, std::string_view) {});
        });
    }
    is_over = true;
    writer.join();
    tiles.join();
}

TEST_F(Backup, what_was_erased_since_stays_closed) {
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    (void)back_up_keys(options_.folder, at("keys"), 7, kNow);
    (void)erase_on_request(options_, {"default", "anna", ""}, {}, kNow);
    const fs::path journal = options_.folder / "keys" / "subjects" / "erased";
    const RestoreReport report =
        restore_backup({at("data"), at("keys"), journal}, at("restored"), kNow);
    EXPECT_EQ(report.n_erased, 1U);
    EXPECT_FALSE(opens(at("restored"), report.previous, intents_[0], "anna"));
    EXPECT_TRUE(opens(at("restored"), report.previous, intents_[1], "bert"));
    // The same from the journal of a later backup of the data.
    (void)back_up_data(options_.folder, at("later"), {}, kNow);
    const RestoreReport second =
        restore_backup({at("later"), at("keys"), std::nullopt}, at("second"), kNow);
    EXPECT_EQ(second.n_erased, 1U);
    EXPECT_FALSE(opens(at("second"), second.previous, intents_[0], "anna"));
}

TEST_F(Backup, of_keys_is_listed_and_expires) {
    EXPECT_TRUE(key_backups(options_.folder).empty());
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    (void)back_up_keys(options_.folder, at("keys"), 1, kNow);
    (void)back_up_keys(options_.folder, at("more"), 31, kNow);
    const auto listed = key_backups(options_.folder);
    ASSERT_EQ(listed.size(), 2U);
    EXPECT_EQ(listed[0].folder, fs::absolute(at("keys")).string());
    EXPECT_EQ(listed[0].expires_us, kNow + kDayUs);
    const auto restore_at = [&](std::uint64_t time_us) {
        (void)restore_backup({at("data"), at("keys"), std::nullopt}, at("restored"), time_us);
    };
    EXPECT_EQ(code_of([&] { restore_at(kNow + kDayUs); }), ExitCode::refused);
    EXPECT_FALSE(fs::exists(at("restored")));
    EXPECT_EQ(code_of([&] { restore_at(kNow + kDayUs - 1); }), ExitCode::ok);
    for (const std::uint64_t days : {0, 32}) {
        EXPECT_EQ(code_of([&] { (void)back_up_keys(options_.folder, at("x"), days, kNow); }),
                  ExitCode::usage);
    }
}

TEST_F(Backup, nothing_is_overwritten_and_parts_are_not_mixed_up) {
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    (void)back_up_keys(options_.folder, at("keys"), 7, kNow);
    EXPECT_EQ(code_of([&] { (void)back_up_data(options_.folder, at("keys"), {}, kNow); }),
              ExitCode::usage);
    EXPECT_EQ(code_of([&] { (void)back_up_data(at("nowhere"), at("x"), {}, kNow); }),
              ExitCode::not_found);
    const auto restore = [&](const fs::path& data, const fs::path& keys, const fs::path& to) {
        return code_of([&] { (void)restore_backup({data, keys, std::nullopt}, to, kNow); });
    };
    EXPECT_EQ(restore(at("keys"), at("keys"), at("x")), ExitCode::usage);
    EXPECT_EQ(restore(at("data"), at("data"), at("x")), ExitCode::usage);
    EXPECT_EQ(restore(at("data"), at("keys"), options_.folder), ExitCode::usage);
    EXPECT_FALSE(fs::exists(at("x")));
}

TEST_F(Backup, any_changed_byte_of_any_file_is_refused) {
    (void)back_up_data(options_.folder, at("data"), {}, kNow);
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(at("data")))
        if (entry.is_regular_file()) files.push_back(entry.path());
    std::size_t n = 0;
    for (const fs::path& path : files) {
        const std::string bytes = read_file(path, kBytesMax);
        // Each byte of MANIFEST; of the others, whose hash is in it, every 37th.
        const std::size_t step = path.filename() == "MANIFEST" ? 1 : 37;
        for (std::size_t i = 0; i < bytes.size(); i += step, ++n) {
            std::string changed = bytes;
            changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 7)));
            std::ofstream(path, std::ios::binary | std::ios::trunc) << changed;
            // A digit of a time is another time: nothing else may pass.
            try {
                const BackupInfo info = verify_backup(at("data"));
                EXPECT_TRUE(info.made_us != kNow || info.expires_us != 0) << path << i;
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ExitCode::invalid);
            }
        }
        std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
    }
    EXPECT_GT(n, 500U);
    (void)verify_backup(at("data"));
    std::ofstream(at("data") / "more") << "x";
    EXPECT_EQ(code_of([&] { (void)verify_backup(at("data")); }), ExitCode::invalid);
    fs::remove(at("data") / "more");
    fs::remove(at("data") / "auditors" / "local.pem");
    EXPECT_EQ(code_of([&] { (void)verify_backup(at("data")); }), ExitCode::invalid);
}

}  // namespace
}  // namespace etalon::ledger
