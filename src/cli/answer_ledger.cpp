// SPDX-License-Identifier: Apache-2.0
// The ledger of answers that are given without a server.
#include "cli/answer_ledger.h"

#include <cstdio>
#include <fmt/format.h>
#include <utility>

#include "cli/ledger_place.h"

#include "base/error.h"
#include "serve/answer_record.h"
#include "serve/config.h"
#include "serve/running_server.h"

namespace etalon::cli {

namespace {

/// As the server's key of who owns the account.
constexpr const char* kTenant = "local";
constexpr const char* kBesideServer = "ledger-run";
/// Others hold the log for some milliseconds; many of them can stand in line.
constexpr std::chrono::seconds kWriterTime{10};

ledger::LedgerOptions shared_options(const std::string& asked) {
    ledger::LedgerOptions options = ledger_options(asked);
    options.shared = true;
    options.wait = kWriterTime;
    options.on_trouble = [](const Error& error) {
        std::fprintf(stderr, "etalon: ledger: %s\n", printable(error.message(), 1000).c_str());
    };
    if (!asked.empty() || !serve::find_running_server(serve::running_server_path())) return options;
    options.folder = serve::data_folder() / kBesideServer;
    std::fprintf(stderr,
                 "etalon: a server writes the ledger now; this is recorded in --ledger %s\n",
                 printable(options.folder.string()).c_str());
    return options;
}

template <typename Do>
auto or_no_answer(Do what) {
    try {
        return what();
    } catch (const Error& error) {
        throw Error(error.code(),
                    "no answer is given, for it cannot be recorded: " + error.message(),
                    error.hint().empty() ? "--ledger FOLDER names another ledger" : error.hint());
    }
}

}  // namespace

AnswerLedger::AnswerLedger(const std::string& asked) {
    request_.tenant = kTenant;
    ledger_ = or_no_answer([&] { return std::make_unique<ledger::Ledger>(shared_options(asked)); });
    if (!ledger_->made_local_auditor()) return;
    std::fprintf(stderr, "etalon: answers are sealed to a key of this machine, %s\n",
                 printable(ledger_->local_auditor_key().string()).c_str());
}

void AnswerLedger::begin(const engine::Payload& payload) {
    ledger::RequestIntent request = request_;
    request.parts = {serve::intent_part(payload)};
    const ledger::Ticket ticket = or_no_answer([&] {
        return is_loaded_ ? ledger_->begin_now(request)
                          : ledger_->load_and_begin_now(load_, request);
    });
    request_.load = request.load;
    is_loaded_ = true;
    intent_ = ticket.intent;
}

void AnswerLedger::complete(const engine::Payload& payload, const std::string& text) {
    try {
        ledger_->complete_now({intent_, {serve::completed_answer(payload, text)}});
    } catch (const Error& error) {
        throw Error(error.code(),
                    fmt::format("record {} says what was asked, but the answer could not be "
                                "recorded: {}",
                                intent_, error.message()),
                    error.hint());
    }
}

}  // namespace etalon::cli
