// SPDX-License-Identifier: Apache-2.0
// One pass over each log that the keys of this ledger close.
#include "ledger/internal/subject_use.h"

#include <algorithm>

#include "base/error.h"
#include "ledger/ledger.h"
#include "tlog/checkpoint.h"
#include "tlog/note.h"

namespace etalon::ledger {

namespace {

void add_uses(const std::filesystem::path& log_folder, std::map<std::string, SubjectUse>& uses) {
    const tlog::FileSource files = log_files(log_folder);
    const auto note = files("checkpoint");
    if (!note) return;
    // The log is this machine's own: its signature is for others to check.
    const std::uint64_t size = tlog::parse_checkpoint(tlog::parse_note(*note).text).size;
    tlog::read_entries(files, 0, size, size, [&](std::uint64_t, std::string_view entry) {
        const Record record = parse_record(entry);
        const auto* intent = std::get_if<Intent>(&record.body);
        if (intent == nullptr) return;
        std::set<std::string> named(intent->subjects.begin(), intent->subjects.end());
        named.insert(intent->tenant);
        for (const std::string& id : named) {
            SubjectUse& use = uses[id];
            const bool is_first = use.tenants.empty();
            use.first_us = is_first ? record.time_us : std::min(use.first_us, record.time_us);
            use.last_us = std::max(use.last_us, record.time_us);
            use.tenants.insert(intent->tenant);
        }
    });
}

}  // namespace

std::map<std::string, SubjectUse> read_subject_use(const std::filesystem::path& ledger_folder) {
    std::map<std::string, SubjectUse> uses;
    add_uses(ledger_folder, uses);
    const std::filesystem::path previous = ledger_folder / kPreviousFolder;
    if (!std::filesystem::exists(previous)) return uses;
    for (const auto& former : std::filesystem::directory_iterator(previous))
        add_uses(former.path(), uses);
    return uses;
}

}  // namespace etalon::ledger
