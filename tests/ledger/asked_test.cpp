// SPDX-License-Identifier: Apache-2.0
// What others than the writing process do with a ledger: records that they ask for are in the log
// before they go on, and who has an auditor's key opens its payloads.
#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/internal/asked_records.h"
#include "ledger/limits.h"
#include "ledger/own_payloads.h"
#include "ledger/retention.h"
#include "ledger/subjects.h"
#include "tlog/verify.h"

namespace etalon::ledger {
namespace {

std::vector<Body> bodies_in(const LedgerOptions& options) {
    std::vector<Body> bodies;
    (void)tlog::verify_log(
        log_files(options.folder), own_policy(options.folder), std::nullopt,
        [&](std::uint64_t, std::string_view entry) { bodies.push_back(parse_record(entry).body); });
    return bodies;
}

std::ptrdiff_t count_in(const LedgerOptions& options, const Body& body) {
    const auto bodies = bodies_in(options);
    return std::count(bodies.begin(), bodies.end(), body);
}

AuditorKey local_auditor(const LedgerOptions& options) {
    return {read_file(options.folder / kLocalAuditorKey, kPemBytesMax),
            read_file(options.folder / "auditors" / "local.pem", kPemBytesMax)};
}

TEST(Asked, records_find_their_place_whether_or_not_somebody_writes) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    const Body before = LogRead{0, 1, "export"};
    const Body during = LogRead{0, 2, "export"};
    const Body after = LogRead{0, 3, "export"};
    record_now(options, {before});
    {
        Ledger ledger(options);
        const Ticket ticket = ledger.begin_now(some_request(ledger.model_loaded(some_model())));
        record_now(options, {during, ContentRead{ticket.intent, "complaint 4", "open"}});
        ledger.publish_now();
        EXPECT_EQ(count_in(options, during), 1);
        EXPECT_EQ(count_in(options, ContentRead{ticket.intent, "complaint 4", "open"}), 1);
    }
    record_now(options, {after});
    for (const Body& body : {before, during, after})
        EXPECT_EQ(count_in(options, body), 1);
}

TEST(Asked, all_that_people_and_their_programs_record_may_be_asked) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    const std::string hash(kHashDigits, 'a');
    std::uint64_t intent = 0;
    {
        Ledger ledger(options);
        intent = ledger.begin_now(some_request(ledger.model_loaded(some_model()))).intent;
        ledger.complete_now(some_completion(intent));
    }
    const std::string id = subject_id(options.folder, named_subject("default", "anna"));
    EXPECT_EQ(subject_id(options.folder, named_subject("default", "anna")), id);
    const std::string note = OwnPayloads(options.folder, 0).commit_note(intent, "it is wrong");
    EXPECT_NE(note, OwnPayloads(options.folder, 0).commit_note(intent, "it is right"));
    const std::vector<Body> records{
        ApiKey{"created", 7, "infer", id}, Licence{id, "apache-2.0", hash, hash},
        Replay{intent, 0, "match", 0, "cpu"}, Review{intent, id, "objection", note}};
    record_now(options, {records[0], records[1]});
    record_next(options, {records[2], records[3]});
    EXPECT_EQ(count_in(options, records[0]), 1);
    EXPECT_EQ(count_in(options, records[2]), 0);
    { const Ledger ledger(options); }
    for (const Body& body : records)
        EXPECT_EQ(count_in(options, body), 1);
    EXPECT_THROW((void)OwnPayloads(options.folder, 0).commit_note(0, ""), Error);
    (void)erase_subject(options, tenant_subject("default"), "request");
    EXPECT_THROW((void)OwnPayloads(options.folder, 0).commit_note(intent, ""), Error);
}

TEST(Asked, what_a_crash_left_waiting_is_written_by_the_next_program) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    { const Ledger ledger(options); }
    const AskedRecords asked(options.folder / kAskedFolder);
    (void)asked.put({LogRead{0, 1, "export"}});
    { const Ledger ledger(options); }
    EXPECT_EQ(count_in(options, LogRead{0, 1, "export"}), 1);
    EXPECT_TRUE(asked.waiting().empty());
}

TEST(Asked, a_file_that_asks_for_anything_else_gives_no_record_and_stops_nobody) {
    const Folder folder;
    LedgerOptions options = options_in(folder);
    { const Ledger ledger(options); }
    const AskedRecords asked(options.folder / kAskedFolder);
    const std::string good = write_record({kIntegerMax, 0, 0, LogRead{0, 1, "export"}}) + "\n";
    const std::string boot = write_record({0, 0, 0, Boot{{std::string(64, 'a')}, "x"}}) + "\n";
    for (const std::string& text : {std::string("{"), good + "x", good + boot, std::string("")}) {
        std::string name = std::string(kIdDigits, 'a');
        etalon::write_new_file(options.folder / kAskedFolder / name, text, 0600);
        int n_troubles = 0;
        options.on_trouble = [&](const Error&) { ++n_troubles; };
        { const Ledger ledger(options); }
        EXPECT_EQ(n_troubles, 1) << text;
        EXPECT_TRUE(asked.waiting().empty());
        EXPECT_EQ(count_in(options, LogRead{0, 1, "export"}), 0);
    }
}

TEST(Asked, a_refused_erasure_is_a_record) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    {
        Ledger ledger(options);
        RequestIntent request = some_request(ledger.model_loaded(some_model()));
        request.subjects = {"anna"};
        (void)ledger.begin_now(request);
    }
    Subjects subjects(options.folder / "keys" / "subjects");
    const auto ids = subjects.ids_of(named_subject("default", "anna"));
    const Retention retention({{"default", 180, 0}});
    const auto erase = [&] {
        EXPECT_THROW((void)erase_on_request(options, {"default", "anna", ""}, retention, 1), Error);
    };
    erase();
    EXPECT_EQ(count_in(options, EraseRefused{"minimum", ids}), 1);
    subjects.hold(named_subject("default", "anna"), "a question");
    erase();
    EXPECT_EQ(count_in(options, EraseRefused{"hold", ids}), 1);
}

TEST(OwnPayloads, an_auditor_opens_what_is_complete_and_not_erased) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    std::vector<std::uint64_t> intents;
    {
        Ledger ledger(options);
        const std::uint64_t load = ledger.model_loaded(some_model());
        for (const char* subject : {"anna", "ben", "ben"}) {
            RequestIntent request = some_request(load, 1, 2);
            request.subjects = {subject};
            intents.push_back(ledger.begin_now(request).intent);
            if (intents.size() < 3) ledger.complete_now(some_completion(intents.back(), 2));
        }
    }
    const OwnPayloads before(options.folder, 0);
    EXPECT_EQ(before.intents(), (std::vector<std::uint64_t>{intents[0], intents[1]}));
    EXPECT_EQ(before.n_answers(intents[0]), 2U);
    EXPECT_EQ(before.n_answers(intents[2]), 0U);
    EXPECT_EQ(before.n_answers(0), 0U);
    const AuditorKey key = local_auditor(options);
    const std::string plaintext = before.open(intents[1], key);
    EXPECT_NE(plaintext.find(fmt::format("answer 1 of {}", intents[1])), std::string::npos);
    EXPECT_EQ(payloads_in(plaintext),
              (std::vector<std::string>{"{\"choice\":0}", "{\"choice\":1}"}));
    EXPECT_THROW((void)before.open(intents[2], key), Error);
    EXPECT_THROW((void)before.open(intents[1], {key.key, "no certificate"}), Error);

    (void)erase_subject(options, named_subject("default", "ben"), "request");
    EXPECT_THROW((void)before.open(intents[1], key), Error);
    const OwnPayloads after(options.folder, 0);
    EXPECT_EQ(after.intents(), (std::vector<std::uint64_t>{intents[0]}));
    EXPECT_NO_THROW((void)after.open(intents[0], key));
    EXPECT_THROW((void)payloads_in("{}\n"), Error);
}

}  // namespace
}  // namespace etalon::ledger
