// SPDX-License-Identifier: Apache-2.0
// A whole ledger: what callers are told is in the log, receipts verify, an erased subject is gone,
// and nothing is told where nothing could be written.
#include "ledger/ledger.h"

#include <atomic>
#include <chrono>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/limits.h"
#include "ledger/receipt.h"
#include "tlog/verify.h"

namespace etalon::ledger {
namespace {

using State = ReceiptResult::State;

tlog::Policy policy_of(const Ledger& ledger) {
    return tlog::parse_policy(fmt::format("log {}\nquorum none\n", ledger.log_key()));
}

std::vector<Record> records_in(const LedgerOptions& options, const tlog::Policy& policy) {
    std::vector<Record> records;
    (void)tlog::verify_log(log_files(options.folder), policy, std::nullopt,
                           [&](std::uint64_t index, std::string_view entry) {
                               records.push_back(parse_record(entry));
                               EXPECT_EQ(records.back().seq, index);
                           });
    return records;
}

std::string ready_receipt(Ledger& ledger, const Ticket& ticket) {
    ledger.publish_now();
    const ReceiptResult result = ledger.receipt(ticket.receipt, "default");
    EXPECT_EQ(result.state, State::ready);
    return result.json;
}

TEST(Ledger, an_answer_leaves_two_records_between_boot_and_shutdown) {
    const Folder folder;
    std::optional<tlog::Policy> policy;
    {
        Ledger ledger(options_in(folder));
        EXPECT_TRUE(ledger.made_local_auditor());
        policy = policy_of(ledger);
        const std::uint64_t load = ledger.model_loaded(some_model());
        const Ticket ticket = ledger.begin_now(some_request(load));
        ledger.complete_now(some_completion(ticket.intent));
    }
    const auto records = records_in(options_in(folder), *policy);
    ASSERT_EQ(records.size(), 5U);
    const char* kinds[] = {"boot", "model_load", "intent", "complete", "shutdown"};
    for (std::size_t i = 0; i < records.size(); ++i)
        EXPECT_EQ(kind_of(records[i]), kinds[i]);
    const auto& complete = std::get<Complete>(records[3].body);
    EXPECT_EQ(complete.intent, 2U);
    EXPECT_EQ(complete.answers.at(0).tokens, 3U);
}

TEST(Ledger, it_goes_on_where_it_ended) {
    const Folder folder;
    std::string origin;
    for (int run = 0; run < 3; ++run) {
        Ledger ledger(options_in(folder));
        if (run == 0) origin = ledger.origin();
        EXPECT_EQ(ledger.origin(), origin);
        EXPECT_EQ(ledger.made_local_auditor(), run == 0);
        const std::uint64_t load = ledger.model_loaded(some_model());
        EXPECT_EQ(load, 3U * static_cast<unsigned>(run) + 1);
    }
}

TEST(Ledger, a_receipt_verifies_and_holds_its_contents) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    const Ticket ticket = ledger.begin_now(some_request(load, 2, 3));
    EXPECT_EQ(ledger.receipt(ticket.receipt, "default").state, State::pending);
    for (std::uint64_t part = 0; part < 2; ++part)
        ledger.complete_now(some_completion(ticket.intent + part, 3));
    const std::string json = ready_receipt(ledger, ticket);

    Held held;
    held.body = some_request(load).body;
    for (std::uint64_t part = 0; part < 2; ++part) {
        HeldPart content;
        for (const auto& answer : some_completion(ticket.intent + part, 3).answers) {
            content.texts.push_back(answer.text);
            content.payloads.push_back(answer.payload);
        }
        held.parts.push_back(content);
    }
    const VerifiedReceipt verified = verify_receipt(json, policy_of(ledger), held);
    EXPECT_EQ(verified.parts.size(), 2U);

    const auto is_refused = [&](const Held& other) {
        try {
            (void)verify_receipt(json, policy_of(ledger), other);
            return false;
        } catch (const Error& error) {
            return error.code() == ExitCode::invalid;
        }
    };
    Held other = held;
    other.body = "{\"prompt\":\"Hello \"}";
    EXPECT_TRUE(is_refused(other));
    other = held;
    other.parts[1].texts[2] += ".";
    EXPECT_TRUE(is_refused(other));
    other = held;
    other.parts[0].payloads[0] += " ";
    EXPECT_TRUE(is_refused(other));
    other = held;
    std::swap(other.parts[0], other.parts[1]);
    EXPECT_TRUE(is_refused(other));
}

TEST(Ledger, a_receipt_is_made_of_the_stamped_checkpoint_that_covers_it) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    const Ticket ticket = ledger.begin_now(some_request(load));
    ledger.complete_now(some_completion(ticket.intent));
    const std::string plain = ready_receipt(ledger, ticket);
    EXPECT_EQ(verify_receipt(plain, policy_of(ledger), {}).stamp, "");

    ledger.publish_now();
    const std::filesystem::path root = options_in(folder).folder;
    const std::string note = read_file(root / "log" / "checkpoint", 1 << 20);
    const std::uint64_t size = tlog::parse_checkpoint(tlog::parse_note(note).text).size;
    const Stamp stamp = some_stamp(size, note);
    keep_stamp(root, stamp);
    (void)ledger.model_loaded(some_model());  // the newest checkpoint is another one
    ledger.publish_now();
    const VerifiedReceipt verified =
        verify_receipt(ready_receipt(ledger, ticket), policy_of(ledger), {});
    EXPECT_EQ(verified.stamp, stamp.response);
    EXPECT_EQ(verified.notes, std::set<std::string>{note});
    EXPECT_EQ(verified.checkpoint.size, size);

    // Witnesses sign today: a stamped checkpoint that none has seen would not meet their policy.
    tlog::Note cosigned = tlog::parse_note(read_file(root / "log" / "checkpoint", 1 << 20));
    const auto witness = tlog::SigningKey::generate("court.example", tlog::KeyKind::cosignature);
    cosigned.signatures.push_back(witness.cosign(cosigned.text, 1'790'000'000));
    etalon::write_new_file(root / "log" / "cosigned", tlog::note_text(cosigned), 0600);
    EXPECT_EQ(verify_receipt(ready_receipt(ledger, ticket), policy_of(ledger), {}).stamp, "");
}

TEST(Ledger, a_receipt_with_any_changed_character_is_refused_or_says_the_same) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const Ticket ticket = ledger.begin_now(some_request(ledger.model_loaded(some_model())));
    ledger.complete_now(some_completion(ticket.intent));
    const std::string json = ready_receipt(ledger, ticket);
    Held held;
    held.body = some_request(0).body;
    held.parts = {{{some_completion(ticket.intent).answers[0].text}, {}}};
    const auto good = verify_receipt(json, policy_of(ledger), held);
    std::size_t n_refused = 0;
    for (std::size_t i = 0; i < json.size(); ++i) {
        std::string changed = json;
        changed[i] = static_cast<char>(changed[i] ^ 1);
        try {
            const auto again = verify_receipt(changed, policy_of(ledger), held);
            EXPECT_EQ(again.parts[0].intent, good.parts[0].intent) << i;
            EXPECT_EQ(again.parts[0].complete, good.parts[0].complete) << i;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid) << error.message();
            ++n_refused;
        }
    }
    // What may change is outside of the proof: the id, the origin and key that are told beside it.
    EXPECT_GT(n_refused, json.size() * 8 / 10);
}

TEST(Ledger, a_receipt_that_was_fetched_too_early_says_so) {
    const Folder folder;
    const Ledger ledger(options_in(folder));
    const std::string early = R"({"object":"etalon.receipt","id":"rcp-2-00","state":"pending"})";
    try {
        (void)verify_receipt(early, policy_of(ledger), {});
        FAIL() << "it was taken";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid);
        EXPECT_EQ(error.message(), "receipt: it was pending when it was fetched");
        EXPECT_EQ(error.hint(), "fetch it again once the answer has ended");
    }
}

TEST(Ledger, a_receipt_is_for_its_tenant_alone_and_cannot_be_guessed) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const Ticket ticket = ledger.begin_now(some_request(ledger.model_loaded(some_model())));
    ledger.complete_now(some_completion(ticket.intent));
    ledger.publish_now();
    EXPECT_EQ(ledger.receipt(ticket.receipt, "default").state, State::ready);
    EXPECT_EQ(ledger.receipt(ticket.receipt, "other").state, State::unknown);
    std::string guess = ticket.receipt;
    guess.back() = guess.back() == '0' ? '1' : '0';
    EXPECT_EQ(ledger.receipt(guess, "default").state, State::unknown);
    for (const char* id : {"", "rcp-", "rcp-2", "rcp--1-", "rcp-99999999999999999999-"})
        EXPECT_EQ(ledger.receipt(id, "default").state, State::unknown) << id;
}

TEST(Ledger, an_answer_that_the_end_cut_off_has_no_receipt) {
    const Folder folder;
    std::string receipt;
    {
        Ledger ledger(options_in(folder));
        receipt = ledger.begin_now(some_request(ledger.model_loaded(some_model()))).receipt;
        EXPECT_EQ(ledger.receipt(receipt, "default").state, State::pending);
    }
    const Ledger ledger(options_in(folder));
    EXPECT_EQ(ledger.receipt(receipt, "default").state, State::cut_off);
}

TEST(Ledger, an_old_receipt_is_found_after_the_index_was_lost) {
    const Folder folder;
    Ticket ticket;
    {
        Ledger ledger(options_in(folder));
        ticket = ledger.begin_now(some_request(ledger.model_loaded(some_model())));
        ledger.complete_now(some_completion(ticket.intent));
    }
    ASSERT_TRUE(std::filesystem::remove(options_in(folder).folder / "completions.index"));
    const Ledger ledger(options_in(folder));
    EXPECT_EQ(ledger.receipt(ticket.receipt, "default").state, State::ready);
}

TEST(Ledger, one_process_writes) {
    const Folder folder;
    const Ledger ledger(options_in(folder));
    try {
        const Ledger second(options_in(folder));
        FAIL() << "it was opened twice";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::unavailable);
    }
}

TEST(Ledger, a_checkpoint_covers_an_answer_within_two_seconds) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const Ticket ticket = ledger.begin_now(some_request(ledger.model_loaded(some_model())));
    ledger.complete_now(some_completion(ticket.intent));
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    State state = State::pending;
    while (state == State::pending && std::chrono::steady_clock::now() < end) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        state = ledger.receipt(ticket.receipt, "default").state;
    }
    EXPECT_EQ(state, State::ready);
}

TEST(Ledger, many_callers_at_once_are_all_told_and_all_in_the_log) {
    constexpr std::size_t kRequests = 500;
    const Folder folder;
    std::optional<tlog::Policy> policy;
    std::atomic<std::size_t> n_done{0};
    {
        Ledger ledger(options_in(folder));
        policy = policy_of(ledger);
        const std::uint64_t load = ledger.model_loaded(some_model());
        for (std::size_t i = 0; i < kRequests; ++i) {
            ledger.begin(some_request(load), [&](const Began& began) {
                ledger.complete(some_completion(std::get<Ticket>(began).intent),
                                [&](const Error* error) { n_done += error == nullptr ? 1 : 0; });
            });
        }
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (n_done < kRequests && std::chrono::steady_clock::now() < end)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(n_done, kRequests);
    std::map<std::string, std::size_t> kinds;
    for (const Record& record : records_in(options_in(folder), *policy))
        ++kinds[std::string(kind_of(record))];
    EXPECT_EQ(kinds["intent"], kRequests);
    EXPECT_EQ(kinds["complete"], kRequests);
}

TEST(Ledger, a_request_that_no_record_can_hold_is_refused_and_leaves_none) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    RequestIntent request = some_request(load);
    request.subjects.assign(kSubjectsMax + 1, "s");
    EXPECT_THROW((void)ledger.begin_now(request), Error);
    EXPECT_THROW((void)ledger.begin_now(some_request(load, 0)), Error);
    EXPECT_THROW((void)ledger.begin_now(some_request(load, 1, kAnswersMax + 1)), Error);
    EXPECT_EQ(ledger.begin_now(some_request(load)).intent, load + 1);
}

/// The folder of the log cannot be written: nobody is told that an intent is safe, and once it
/// can be written again the ledger goes on by itself.
TEST(Ledger, without_a_disk_nothing_begins) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    ledger.publish_now();
    const auto log = options_in(folder).folder / "log";
    const auto away = options_in(folder).folder / "log-away";
    std::filesystem::rename(log, away);
    std::ofstream(log) << "a file where the folder was";
    for (int i = 0; i < 3; ++i)
        EXPECT_THROW((void)ledger.begin_now(some_request(load)), Error);
    std::filesystem::remove(log);
    std::filesystem::rename(away, log);
    const Ticket ticket = ledger.begin_now(some_request(load));
    ledger.complete_now(some_completion(ticket.intent));
    (void)verify_receipt(ready_receipt(ledger, ticket), policy_of(ledger), {});
}

TEST(Ledger, an_erased_subject_has_no_receipt_and_no_later_record) {
    const Folder folder;
    Ledger ledger(options_in(folder));
    const std::uint64_t load = ledger.model_loaded(some_model());
    RequestIntent of_both = some_request(load);
    of_both.subjects = {"patient-1", "patient-2"};
    RequestIntent of_one = some_request(load);
    of_one.subjects = {"patient-2"};
    const Ticket both = ledger.begin_now(of_both);
    ledger.complete_now(some_completion(both.intent));
    const Ticket one = ledger.begin_now(of_one);
    ledger.complete_now(some_completion(one.intent));
    const Ticket open = ledger.begin_now(of_both);
    ledger.publish_now();
    EXPECT_EQ(ledger.receipt(both.receipt, "default").state, State::ready);

    const std::string id =
        erase_subject(options_in(folder), named_subject("default", "patient-1"), "request");
    EXPECT_EQ(ledger.receipt(both.receipt, "default").state, State::erased);
    EXPECT_EQ(ledger.receipt(one.receipt, "default").state, State::ready);
    ledger.complete_now(some_completion(open.intent));  // it was running
    ledger.publish_now();
    EXPECT_EQ(ledger.receipt(open.receipt, "default").state, State::erased);
    EXPECT_THROW(
        (void)erase_subject(options_in(folder), named_subject("default", "patient-1"), "request"),
        Error);

    const Ticket later = ledger.begin_now(of_both);  // the name may come again: as somebody new
    ledger.publish_now();
    bool erased = false;
    for (const Record& record : records_in(options_in(folder), policy_of(ledger))) {
        if (const auto* erase = std::get_if<Erase>(&record.body)) erased = erase->subject == id;
        const auto* intent = std::get_if<Intent>(&record.body);
        if (intent == nullptr) continue;
        const auto& subjects = intent->subjects;
        const bool names = std::find(subjects.begin(), subjects.end(), id) != subjects.end();
        EXPECT_EQ(names, record.seq == both.intent || record.seq == open.intent);
        EXPECT_TRUE(!names || !erased);
    }
    EXPECT_TRUE(erased);
    EXPECT_GT(later.intent, open.intent);
}

TEST(Ledger, an_erasure_while_nobody_writes_is_recorded) {
    const Folder folder;
    std::optional<tlog::Policy> policy;
    {
        Ledger ledger(options_in(folder));
        policy = policy_of(ledger);
        (void)ledger.begin_now(some_request(ledger.model_loaded(some_model())));
    }
    const std::string id = erase_subject(options_in(folder), tenant_subject("default"), "request");
    std::size_t n = 0;
    for (const Record& record : records_in(options_in(folder), *policy)) {
        const auto* erase = std::get_if<Erase>(&record.body);
        if (erase != nullptr && erase->subject == id) ++n;
    }
    EXPECT_EQ(n, 1U);
}

}  // namespace
}  // namespace etalon::ledger
