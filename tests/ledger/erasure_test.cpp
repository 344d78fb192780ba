// SPDX-License-Identifier: Apache-2.0
// Erasure: what is erased stays closed whatever else is kept, what is held or must be kept is
// refused, and retention closes each payload in its time.
#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "ledger/erase_journal.h"
#include "ledger/folder.h"
#include "ledger/internal/files.h"
#include "ledger/payload_store.h"
#include "ledger/retention.h"
#include "ledger/seal.h"
#include "ledger/subjects.h"
#include "tlog/checkpoint.h"

namespace etalon::ledger {
namespace {

std::uint64_t now_us() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
}

std::filesystem::path keys_of(const LedgerOptions& options) {
    return options.folder / "keys" / "subjects";
}

/// One answer about these subjects; its index.
std::uint64_t answer_about(Ledger& ledger, std::uint64_t load,
                           const std::vector<std::string>& subjects) {
    RequestIntent request = some_request(load);
    request.subjects = subjects;
    const Ticket ticket = ledger.begin_now(request);
    ledger.complete_now(some_completion(ticket.intent));
    ledger.publish_now();
    return ticket.intent;
}

/// The content key of a payload by the auditor's key and every key of `keys`, tried one inside the
/// other in every order: what an attacker with all of them can do. nullopt: it stays closed.
std::optional<std::string> content_key_by_any(const std::filesystem::path& ledger,
                                              const std::string& wrapped,
                                              const std::vector<Subject>& keys) {
    try {
        return open_envelope(wrapped, read_file(ledger / "local-auditor.key", kBytesMax),
                             read_file(ledger / "auditors" / "local.pem", kBytesMax));
    } catch (const Error&) {
        for (const Subject& key : keys) {
            std::string inner;
            try {
                inner = unwrap_envelope(wrapped, {key});
            } catch (const Error&) {
                continue;
            }
            return content_key_by_any(ledger, inner, keys);
        }
    }
    return std::nullopt;
}

/// Keys of all files that look like one, wherever they lie under `folder`.
std::vector<Subject> all_keys(const std::filesystem::path& folder) {
    std::vector<Subject> keys;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        if (entry.path().parent_path().filename() != "ids") continue;
        const std::string text = read_file(entry.path(), kBytesMax);
        keys.push_back({entry.path().filename().string(), key_of_hex(text.substr(0, 64))});
    }
    return keys;
}

std::string origin_of(const std::filesystem::path& ledger) {
    const std::string note = read_file(ledger / "log" / "checkpoint", kBytesMax);
    return note.substr(0, note.find('\n'));
}

bool opens(const std::filesystem::path& ledger, std::uint64_t intent,
           const std::vector<Subject>& keys) {
    const auto stored = PayloadStore(ledger / "payloads").get(intent);
    EXPECT_TRUE(stored.has_value());
    const auto content_key = content_key_by_any(ledger, stored->wrapped, keys);
    if (!content_key) return false;
    Key opened;
    EXPECT_EQ(content_key->size(), opened.bytes.size());
    std::copy(content_key->begin(), content_key->end(), opened.bytes.begin());
    const std::string text = open_payload(stored->ciphertext, opened, {origin_of(ledger), intent});
    return text.find(fmt::format("answer 0 of {}", intent)) != std::string::npos;
}

TEST(Erasure, words_of_an_erased_subject_are_in_no_later_prompt) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    (void)answer_about(ledger, load, {"anna"});
    const std::string id =
        Subjects(keys_of(options_in(folder))).find(named_subject("default", "anna")).value().id;
    RequestIntent request = some_request(load);
    request.subjects = {"anna"};
    request.spoken_of = {id};
    (void)ledger.begin_now(request);
    (void)erase_subject(options_in(folder), named_subject("default", "anna"), "request");
    try {
        (void)ledger.begin_now(request);
        FAIL() << "it would stand under a key that nobody erases";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::not_found);
    }
    request.spoken_of.clear();
    (void)ledger.begin_now(request);  // the name may be used again
}

TEST(Erasure, closes_every_payload_of_the_subject_and_no_other) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    std::vector<std::uint64_t> of_anna;
    std::vector<std::uint64_t> of_others;
    {
        Ledger ledger(options);
        const std::uint64_t load = ledger.model_loaded(some_model());
        for (int i = 0; i < 4; ++i) {
            of_anna.push_back(answer_about(ledger, load, {"anna"}));
            of_anna.push_back(answer_about(ledger, load, {"anna", "bert"}));
            of_anna.push_back(answer_about(ledger, load, {"bert", "anna", "carl"}));
            of_others.push_back(answer_about(ledger, load, {"bert"}));
            of_others.push_back(answer_about(ledger, load, {"carl", "bert"}));
            of_others.push_back(answer_about(ledger, load, {}));
        }
    }
    // An old backup of the data, without keys.
    const std::filesystem::path backup = folder.path() / "backup";
    std::filesystem::copy(options.folder, backup, std::filesystem::copy_options::recursive);
    std::filesystem::remove_all(backup / "keys");
    for (const std::uint64_t intent : of_anna)
        EXPECT_TRUE(opens(options.folder, intent, all_keys(options.folder)));

    const auto erased = erase_on_request(options, {"default", "anna", "letter 17"}, {}, now_us());
    EXPECT_EQ(erased.size(), 1U);
    const auto left = all_keys(folder.path());
    EXPECT_EQ(left.size(), 3U);  // bert, carl, the account
    for (const std::filesystem::path& ledger : {options.folder, backup}) {
        for (const std::uint64_t intent : of_anna)
            EXPECT_FALSE(opens(ledger, intent, left));
        for (const std::uint64_t intent : of_others)
            EXPECT_TRUE(opens(ledger, intent, left));
    }
    const auto journal = Subjects(keys_of(options)).journal().read();
    ASSERT_EQ(journal.size(), 1U);
    EXPECT_EQ(journal[0].id, erased[0]);
    EXPECT_EQ(journal[0].basis, "request");
    EXPECT_EQ(journal[0].reason, "letter 17");
}

TEST(Erasure, keys_that_a_backup_brings_back_go_by_the_journal) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    std::uint64_t of_anna = 0;
    std::uint64_t of_bert = 0;
    {
        Ledger ledger(options);
        const std::uint64_t load = ledger.model_loaded(some_model());
        of_anna = answer_about(ledger, load, {"anna"});
        of_bert = answer_about(ledger, load, {"bert"});
    }
    const std::filesystem::path old_keys = folder.path() / "old";
    std::filesystem::copy(keys_of(options), old_keys, std::filesystem::copy_options::recursive);
    (void)erase_on_request(options, {"default", "anna", ""}, {}, now_us());
    for (const char* part : {"ids", "names"}) {
        std::filesystem::copy(old_keys / part, keys_of(options) / part,
                              std::filesystem::copy_options::recursive |
                                  std::filesystem::copy_options::overwrite_existing);
    }
    EXPECT_TRUE(opens(options.folder, of_anna, all_keys(options.folder)));  // it came back
    Subjects subjects(keys_of(options));
    EXPECT_EQ(subjects.replay_journal(), 1U);
    EXPECT_FALSE(opens(options.folder, of_anna, all_keys(options.folder)));
    EXPECT_TRUE(opens(options.folder, of_bert, all_keys(options.folder)));
    EXPECT_EQ(subjects.replay_journal(), 0U);
    EXPECT_TRUE(subjects.ids_of(named_subject("default", "anna")).empty());
}

TEST(Erasure, a_legal_hold_on_the_subject_or_its_tenant_refuses) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    {
        Ledger ledger(options);
        (void)answer_about(ledger, ledger.model_loaded(some_model()), {"anna"});
    }
    Subjects subjects(keys_of(options));
    const auto erase = [&] {
        (void)erase_on_request(options, {"default", "anna", ""}, {}, now_us());
    };
    for (const std::string& held : {named_subject("default", "anna"), tenant_subject("default")}) {
        subjects.hold(held, "court of Ghent, 12");
        try {
            erase();
            FAIL() << "it was erased";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::refused);
            EXPECT_NE(error.message().find("court of Ghent, 12"), std::string::npos);
        }
        EXPECT_TRUE(subjects.find(named_subject("default", "anna")).has_value());
        EXPECT_TRUE(subjects.release(held));
        EXPECT_FALSE(subjects.release(held));
    }
    erase();
    EXPECT_FALSE(subjects.find(named_subject("default", "anna")).has_value());
    EXPECT_EQ(code_of(erase), ExitCode::not_found);
}

TEST(Erasure, the_least_time_of_a_tenant_refuses_until_it_has_passed) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    {
        Ledger ledger(options);
        (void)answer_about(ledger, ledger.model_loaded(some_model()), {"anna"});
    }
    (void)Subjects(keys_of(options)).get(named_subject("default", "just made"));
    const Retention retention({{"default", 180, 0}, {"other", 1, 2}});
    for (const char* subject : {"anna", "just made"}) {
        const auto erase_after = [&](std::uint64_t days) {
            (void)erase_on_request(options, {"default", subject, ""}, retention,
                                   now_us() + days * kDayUs);
        };
        EXPECT_EQ(code_of([&] { erase_after(0); }), ExitCode::refused);
        EXPECT_EQ(code_of([&] { erase_after(179); }), ExitCode::refused);
        EXPECT_EQ(code_of([&] { erase_after(181); }), ExitCode::ok);
    }
}

TEST(Retention, each_payload_is_open_for_min_days_and_closed_after_max_days) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    const Retention retention({{"default", 180, 365}});
    const std::uint64_t start = now_us();
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    const std::uint64_t first = answer_about(ledger, load, {"anna"});
    const auto after = [&](std::uint64_t days) {
        return apply_retention(options, retention, start + days * kDayUs);
    };
    EXPECT_EQ(after(184).n_retired, 0U);
    EXPECT_EQ(after(186).n_retired, 2U);  // anna and the account
    EXPECT_EQ(after(187).n_retired, 0U);
    EXPECT_TRUE(opens(options.folder, first, all_keys(options.folder)));
    const std::uint64_t second = answer_about(ledger, load, {"anna"});  // by the new key
    const std::string anna = named_subject("default", "anna");
    EXPECT_EQ(Subjects(keys_of(options)).ids_of(anna).size(), 2U);

    Subjects(keys_of(options)).hold(anna, "a question of the supervisor");
    const RetentionReport held = after(366);
    EXPECT_EQ(held.n_held, 2U);  // the second was made today too: both are as old
    EXPECT_TRUE(opens(options.folder, first, all_keys(options.folder)));
    EXPECT_TRUE(Subjects(keys_of(options)).release(anna));
    EXPECT_EQ(after(366).n_erased, 2U);
    EXPECT_FALSE(opens(options.folder, first, all_keys(options.folder)));
    EXPECT_FALSE(opens(options.folder, second, all_keys(options.folder)));
    for (const ErasedSubject& erased : Subjects(keys_of(options)).journal().read())
        EXPECT_EQ(erased.basis, "retention");
}

TEST(Retention, a_subject_ends_though_the_id_of_its_tenant_ended_before) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    std::uint64_t intent = 0;
    {
        Ledger ledger(options);
        intent = answer_about(ledger, ledger.model_loaded(some_model()), {"anna"});
    }
    (void)erase_subject(options, tenant_subject("default"), "retention");
    EXPECT_TRUE(opens(options.folder, intent, all_keys(options.folder)));
    const Retention retention({{"default", 0, 30}});
    EXPECT_EQ(apply_retention(options, retention, now_us() + 31 * kDayUs).n_erased, 1U);
    EXPECT_FALSE(opens(options.folder, intent, all_keys(options.folder)));
}

TEST(Retention, a_tenant_without_a_rule_keeps_everything) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    {
        Ledger ledger(options);
        (void)answer_about(ledger, ledger.model_loaded(some_model()), {"anna"});
    }
    const Retention retention({{"other", 0, 1}});
    const RetentionReport report = apply_retention(options, retention, now_us() + 30000 * kDayUs);
    EXPECT_EQ(report.n_retired + report.n_erased + report.n_held, 0U);
}

TEST(Erasure, reaches_the_keys_that_a_name_had_before) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    const std::uint64_t before = answer_about(ledger, load, {"anna"});
    Subjects subjects(keys_of(options));
    for (const Subjects::Entry& entry : subjects.entries())
        subjects.retire(entry);
    const std::uint64_t behind = answer_about(ledger, load, {"anna"});
    EXPECT_EQ(erase_on_request(options, {"default", "anna", ""}, {}, now_us()).size(), 2U);
    EXPECT_FALSE(opens(options.folder, before, all_keys(options.folder)));
    EXPECT_FALSE(opens(options.folder, behind, all_keys(options.folder)));
}

TEST(Retention, rules_outside_their_ranges_are_refused) {
    using Rules = std::vector<RetentionRule>;
    for (const Rules& rules : {Rules{{"a", 5, 5}}, Rules{{"a", 6, 5}}, Rules{{"a", 0, 36501}},
                               Rules{{"a", 36501, 0}}, Rules{{"a", 0, 1}, {"a", 0, 2}}}) {
        EXPECT_EQ(code_of([&] { (void)Retention(rules); }), ExitCode::usage);
    }
    EXPECT_EQ(Retention({{"a", 0, 1}, {"b", 36500, 0}}).of("b").min_days, 36500U);
    EXPECT_EQ(Retention().of("c").max_days, 0U);
}

TEST(Retention, a_rule_is_read_from_its_text) {
    const RetentionRule rule = parse_retention_rule("clinic 180 365");
    EXPECT_EQ(rule.tenant, "clinic");
    EXPECT_EQ(rule.min_days, 180U);
    EXPECT_EQ(rule.max_days, 365U);
    for (const char* wrong : {"", "a", "a 1", "a 1 ", "a  1 2", " 1 2", "a 1 2 3", "a -1 2",
                              "a 1 2x", "a 01 2", "a 1 99999999999999999999"}) {
        EXPECT_EQ(code_of([&] { (void)parse_retention_rule(wrong); }), ExitCode::usage) << wrong;
    }
}

ErasedSubject some_erasure(char digit) {
    return {std::string(32, digit), std::string(64, 'e'), "request", "why", 17};
}

TEST(EraseJournal, lines_come_back_and_an_id_stands_once) {
    const Folder folder;
    const EraseJournal journal(folder.path() / "erased");
    EXPECT_TRUE(journal.read().empty());
    journal.add(some_erasure('a'));
    journal.add(some_erasure('b'));
    journal.add(some_erasure('a'));
    const std::vector<ErasedSubject> both{some_erasure('a'), some_erasure('b')};
    EXPECT_EQ(journal.read(), both);
    EXPECT_EQ(journal.add_all({some_erasure('b'), some_erasure('c')}), 1U);
    struct stat status {};
    ASSERT_EQ(::stat((folder.path() / "erased").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(EraseJournal, a_line_that_a_crash_cut_off_at_any_byte_is_left_out_and_overwritten) {
    const Folder folder;
    const std::filesystem::path path = folder.path() / "erased";
    const EraseJournal journal(path);
    journal.add(some_erasure('a'));
    const std::size_t n_first = read_file(path, kBytesMax).size();
    journal.add(some_erasure('b'));
    const std::string whole = read_file(path, kBytesMax);
    for (std::size_t n = n_first; n < whole.size(); ++n) {
        std::ofstream(path, std::ios::trunc | std::ios::binary) << whole.substr(0, n);
        EXPECT_EQ(journal.read(), std::vector<ErasedSubject>{some_erasure('a')});
        journal.add(some_erasure('b'));
        EXPECT_EQ(read_file(path, kBytesMax), whole);
    }
}

TEST(EraseJournal, any_changed_byte_of_its_form_is_refused_or_reads_otherwise) {
    const Folder folder;
    const std::filesystem::path path = folder.path() / "erased";
    EraseJournal(path).add(some_erasure('a'));
    const std::string whole = read_file(path, kBytesMax);
    for (std::size_t i = 0; i < whole.size(); ++i) {
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ 1);
        try {
            const auto read = parse_erase_journal(changed);
            EXPECT_NE(read, std::vector<ErasedSubject>{some_erasure('a')}) << i;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
        }
    }
}

}  // namespace
}  // namespace etalon::ledger
