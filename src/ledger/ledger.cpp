// SPDX-License-Identifier: Apache-2.0
// The public face: hands tasks to the writer's thread.
#include "ledger/ledger.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <thread>

#include "base/file.h"
#include "ledger/internal/asked_records.h"
#include "ledger/internal/log_key.h"
#include "ledger/internal/writer.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

constexpr std::chrono::seconds kWriterTime{10};
constexpr std::chrono::milliseconds kWriterPause{50};

/// What waits on disk is written by the process that has the ledger open, else by this one.
template <typename IsDone>
void wait_for_writer(const LedgerOptions& options, IsDone is_done) {
    const auto end = std::chrono::steady_clock::now() + kWriterTime;
    while (!is_done()) {
        try {
            const Ledger ledger(options);  // writes it as it opens
            continue;
        } catch (const Error& error) {
            if (error.code() != ExitCode::unavailable) throw;
        }
        if (std::chrono::steady_clock::now() > end) {
            throw Error(ExitCode::unavailable,
                        "the program that writes the ledger has not written the record yet");
        }
        std::this_thread::sleep_for(kWriterPause);
    }
}

/// The journal lies beside these, and is nobody else's.
bool is_log_path(const std::string& path) {
    if (path == "checkpoint") return true;
    return path.rfind("tile/", 0) == 0 && path.find("..") == std::string::npos &&
           std::all_of(path.begin(), path.end(), [](char c) {
               return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '/' || c == '.';
           });
}

}  // namespace

Ledger::Ledger(LedgerOptions options) : writer_(std::make_unique<Writer>(std::move(options))) {}

Ledger::~Ledger() = default;

bool Ledger::made_local_auditor() const {
    return writer_->made_local_auditor();
}

std::filesystem::path Ledger::local_auditor_key() const {
    return writer_->local_auditor_key();
}

const std::string& Ledger::origin() const {
    return writer_->key().verifier().name;
}

std::string Ledger::log_key() const {
    return writer_->key().verifier().text();
}

std::uint64_t Ledger::model_loaded(const ModelLoad& load) {
    std::uint64_t index = 0;
    writer_->run_now([&] { index = writer_->add_load(load); });
    return index;
}

void Ledger::begin(RequestIntent request, std::function<void(Began)> done) {
    // Both halves of the task share what the first makes.
    const auto shared =
        std::make_shared<std::pair<RequestIntent, Ticket>>(std::move(request), Ticket{});
    writer_->push({[this, shared] { shared->second = writer_->add_intents(shared->first); },
                   [shared, done = std::move(done)](const Error* error) {
                       done(error == nullptr ? Began(std::move(shared->second)) : Began(*error));
                   }});
}

void Ledger::complete(Completion completion, std::function<void(const Error* error)> done) {
    const auto shared = std::make_shared<Completion>(std::move(completion));
    writer_->push({[this, shared] { writer_->add_complete(*shared); }, std::move(done)});
}

Ticket Ledger::begin_now(RequestIntent request) {
    Ticket ticket;
    writer_->run_now([&] { ticket = writer_->add_intents(request); });
    return ticket;
}

void Ledger::complete_now(Completion completion) {
    writer_->run_now([&] { writer_->add_complete(completion); });
}

ReceiptResult Ledger::receipt(const std::string& id, const std::string& tenant) const {
    return writer_->receipt(id, tenant);
}

void Ledger::publish_now() {
    writer_->run_now([&] { writer_->publish(); });
}

tlog::Policy own_policy(const std::filesystem::path& ledger_folder) {
    tlog::Policy policy;
    policy.logs.push_back(read_log_key(ledger_folder).verifier());
    policy.quorum = "none";
    return policy;
}

tlog::FileSource log_files(const std::filesystem::path& ledger_folder) {
    return [folder = ledger_folder / "log"](const std::string& path) -> std::optional<std::string> {
        if (!is_log_path(path) || !std::filesystem::is_regular_file(folder / path)) {
            return std::nullopt;
        }
        return read_file(folder / path, tlog::kBundleBytesMax);
    };
}

void record_now(const LedgerOptions& options, const std::vector<Body>& records) {
    const std::filesystem::path file = AskedRecords(options.folder / kAskedFolder).put(records);
    wait_for_writer(options, [&] { return !std::filesystem::exists(file); });
}

void record_erasures(const LedgerOptions& options, const std::vector<std::string>& ids) {
    const std::filesystem::path folder = options.folder / "keys" / "subjects";
    (void)Subjects(folder).begun_erasures();  // the keys go now, whoever writes the record
    wait_for_writer(options, [&] {
        return std::none_of(ids.begin(), ids.end(), [&](const std::string& id) {
            return std::filesystem::exists(folder / "erasing" / id);
        });
    });
}

std::string erase_subject(const LedgerOptions& options, std::string_view name,
                          std::string_view basis) {
    Subjects subjects(options.folder / "keys" / "subjects");
    const auto id = subjects.begin_erase(name, basis);
    if (!id) {
        throw Error(ExitCode::not_found, "the ledger has no subject of that name");
    }
    record_erasures(options, {*id});
    return *id;
}

}  // namespace etalon::ledger
