// SPDX-License-Identifier: Apache-2.0
// Programs that write one ledger by turns: each leaves the log once its records are there.
#include <chrono>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "base/error.h"
#include "ledger/bundle.h"
#include "ledger/folder.h"
#include "ledger/ledger.h"
#include "ledger/own_payloads.h"
#include "tlog/verify.h"

namespace etalon::ledger {
namespace {

using std::chrono::seconds;

LedgerOptions shared_in(const Folder& folder) {
    LedgerOptions options = options_in(folder);
    options.shared = true;
    options.wait = seconds(20);
    return options;
}

/// A bundle of all records keeps every rule between them. By kind: how many there are.
std::map<std::string, std::uint64_t> kinds_in(const Folder& folder) {
    const LedgerOptions options = options_in(folder);
    std::uint64_t size = 0;
    (void)tlog::verify_log(log_files(options.folder), own_policy(options.folder), std::nullopt,
                           [&](std::uint64_t, std::string_view) { ++size; });
    const auto target = folder.path() / "bundle";
    std::filesystem::remove_all(target);
    (void)export_bundle(options.folder, {0, size}, target, some_evidence());
    return verify_bundle(target, bundle_policy(target), std::nullopt).kinds;
}

TEST(Shared, two_programs_answer_at_the_same_time) {
    const Folder folder;
    {
        Ledger first(shared_in(folder));
        Ledger second(shared_in(folder));
        RequestIntent request = some_request(0);
        const Ticket a = first.load_and_begin_now(some_model(), request);
        RequestIntent other = some_request(0);
        const Ticket b = second.load_and_begin_now(some_model(), other);
        EXPECT_NE(request.load, other.load);
        const Ticket c = first.begin_now(request);  // a chat goes on
        second.complete_now(some_completion(b.intent));
        first.complete_now(some_completion(c.intent));
        first.complete_now(some_completion(a.intent));
    }
    auto kinds = kinds_in(folder);
    const std::map<std::string, std::uint64_t> wanted{
        {"boot", 2}, {"complete", 3}, {"intent", 3}, {"model_load", 2}, {"shutdown", 2}};
    EXPECT_EQ(kinds, wanted);
    const OwnPayloads payloads(options_in(folder).folder, 0);
    EXPECT_EQ(payloads.intents().size(), 3U);
}

TEST(Shared, many_programs_at_once) {
    constexpr std::uint64_t kPrograms = 6;
    const Folder folder;
    std::vector<std::thread> programs;
    for (std::uint64_t i = 0; i < kPrograms; ++i) {
        programs.emplace_back([&] {
            Ledger ledger(shared_in(folder));
            RequestIntent request = some_request(0);
            ledger.complete_now(
                some_completion(ledger.load_and_begin_now(some_model(), request).intent));
        });
    }
    for (std::thread& program : programs)
        program.join();
    auto kinds = kinds_in(folder);
    EXPECT_EQ(kinds["boot"], kPrograms);
    EXPECT_EQ(kinds["complete"], kPrograms);
    EXPECT_EQ(kinds["shutdown"], kPrograms);
}

TEST(Shared, one_that_rests_leaves_the_log_to_others) {
    const Folder folder;
    LedgerOptions patient = options_in(folder);
    patient.wait = seconds(20);
    {
        Ledger resting(shared_in(folder));
        record_now(options_in(folder), {LogRead{0, 1, "export"}});
        const Ledger server(patient);
        EXPECT_THROW(const Ledger another(options_in(folder)), Error);
        LedgerOptions hurried = shared_in(folder);
        hurried.wait = std::chrono::milliseconds(20);
        EXPECT_THROW(const Ledger another(hurried), Error);
    }
    auto kinds = kinds_in(folder);
    EXPECT_EQ(kinds["boot"], 3U);
    EXPECT_EQ(kinds["log_read"], 1U);
    EXPECT_EQ(kinds["shutdown"], 3U);
}

/// A server that came meanwhile keeps the log: what was asked stays in it without an answer.
TEST(Shared, an_answer_that_cannot_be_recorded_is_told) {
    const Folder folder;
    LedgerOptions hurried = shared_in(folder);
    hurried.wait = std::chrono::milliseconds(200);
    LedgerOptions patient = options_in(folder);
    patient.wait = seconds(20);
    {
        Ledger run(hurried);
        RequestIntent request = some_request(0);
        const Ticket ticket = run.load_and_begin_now(some_model(), request);
        {
            const Ledger server(patient);
            EXPECT_THROW(run.complete_now(some_completion(ticket.intent)), Error);
        }
        run.complete_now(some_completion(ticket.intent));
    }
    EXPECT_EQ(kinds_in(folder)["complete"], 1U);
}

}  // namespace
}  // namespace etalon::ledger
