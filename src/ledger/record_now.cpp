// SPDX-License-Identifier: Apache-2.0
// Records that belong into the log whoever writes it.
#include <algorithm>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "ledger/internal/asked_records.h"
#include "ledger/internal/files.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"
#include "ledger/subjects.h"

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
        } catch (const Error& error) {
            if (error.code() != ExitCode::unavailable) throw;
        }
        if (is_done()) return;
        if (std::chrono::steady_clock::now() > end) {
            throw Error(ExitCode::unavailable,
                        "the program that writes the ledger has not written the record yet");
        }
        std::this_thread::sleep_for(kWriterPause);
    }
}

}  // namespace

void record_now(const LedgerOptions& options, const std::vector<Body>& records) {
    require_own(options.folder);
    const std::filesystem::path file = AskedRecords(options.folder / kAskedFolder).put(records);
    wait_for_writer(options, [&] { return !std::filesystem::exists(file); });
}

void record_next(const LedgerOptions& options, const std::vector<Body>& records) {
    require_own(options.folder);
    (void)AskedRecords(options.folder / kAskedFolder).put(records);
}

std::string subject_id(const std::filesystem::path& ledger_folder, std::string_view name) {
    require_own(ledger_folder);
    return Subjects(ledger_folder / "keys" / "subjects").get(name).id;
}

void record_erasures(const LedgerOptions& options, const std::vector<std::string>& ids) {
    const std::filesystem::path folder = options.folder / "keys" / "subjects";
    (void)Subjects(folder).begun_erasures();  // the keys go now, whoever writes the record
    StoredLimits closed;
    closed.days = kStoredDaysMax;  // by its keys, not by its age: who asks may have other settings
    sweep_responses(options.folder, closed, unix_time_us() / kSecondUs);
    wait_for_writer(options, [&] {
        return std::none_of(ids.begin(), ids.end(), [&](const std::string& id) {
            return std::filesystem::exists(folder / "erasing" / id);
        });
    });
}

std::string erase_subject(const LedgerOptions& options, std::string_view name,
                          std::string_view basis) {
    require_own(options.folder);
    Subjects subjects(options.folder / "keys" / "subjects");
    const auto id = subjects.begin_erase(name, basis);
    if (!id) {
        throw Error(ExitCode::not_found, "the ledger has no subject of that name");
    }
    record_erasures(options, {*id});
    return *id;
}

}  // namespace etalon::ledger
