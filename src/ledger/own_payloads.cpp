// SPDX-License-Identifier: Apache-2.0
#include "ledger/own_payloads.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "ledger/commitment.h"
#include "ledger/internal/record_checks.h"
#include "ledger/internal/sealed_answer.h"
#include "ledger/ledger.h"
#include "ledger/receipt.h"
#include "tlog/checkpoint.h"
#include "tlog/note.h"

namespace etalon::ledger {

struct OwnPayloads::Parts {
    std::string origin;
    RecordChecks records;
    Subjects subjects;
    PayloadStore store;
};

OwnPayloads::OwnPayloads(const std::filesystem::path& ledger_folder, std::uint64_t first)
    : parts_(std::make_unique<Parts>(Parts{{},
                                           {},
                                           Subjects(ledger_folder / "keys" / "subjects"),
                                           PayloadStore(ledger_folder / "payloads")})) {
    const tlog::FileSource files = log_files(ledger_folder);
    const auto note = files("checkpoint");
    if (!note) {
        throw Error(ExitCode::not_found,
                    fmt::format("{} has no ledger", printable(ledger_folder.string())));
    }
    // The log is this machine's own: its signature is for others to check.
    const auto checkpoint = tlog::parse_checkpoint(tlog::parse_note(*note).text);
    parts_->origin = checkpoint.origin;
    if (first >= checkpoint.size) return;
    tlog::read_entries(files, first, checkpoint.size, checkpoint.size,
                       [&](std::uint64_t index, std::string_view entry) {
                           parts_->records.take(index, entry);
                           if (parts_->records.intent_at(index) != nullptr) {
                               intents_.push_back(index);
                           }
                       });
    const auto is_closed = [&](std::uint64_t index) {
        return parts_->records.complete_of(index) == nullptr ||
               !parts_->subjects.with_ids(parts_->records.intent_at(index)->subjects);
    };
    intents_.erase(std::remove_if(intents_.begin(), intents_.end(), is_closed), intents_.end());
}

OwnPayloads::~OwnPayloads() = default;
OwnPayloads::OwnPayloads(OwnPayloads&&) noexcept = default;
OwnPayloads& OwnPayloads::operator=(OwnPayloads&&) noexcept = default;

const std::vector<std::uint64_t>& OwnPayloads::intents() const {
    return intents_;
}

std::uint64_t OwnPayloads::n_answers(std::uint64_t intent) const {
    const Complete* complete = parts_->records.complete_of(intent);
    return complete == nullptr ? 0 : complete->answers.size();
}

std::string OwnPayloads::commit_note(std::uint64_t intent, std::string_view note) const {
    const Intent* record = parts_->records.intent_at(intent);
    const auto keys =
        record == nullptr ? std::nullopt : parts_->subjects.with_ids(record->subjects);
    if (!keys) {
        throw Error(ExitCode::not_found,
                    fmt::format("record {} is no intent, or a subject of it was erased", intent));
    }
    const Key key = derive_commit_key(*keys, record->request, record->part);
    return commitment(key, label::kNote, note);
}

std::string OwnPayloads::open(std::uint64_t intent, const AuditorKey& key) const {
    const Intent* record = parts_->records.intent_at(intent);
    const Complete* complete = parts_->records.complete_of(intent);
    if (record == nullptr || complete == nullptr) {
        throw Error(ExitCode::not_found, fmt::format("record {} is no answered intent", intent));
    }
    const auto sealed = sealed_answer(parts_->subjects, parts_->store, intent, *record, *complete);
    if (!sealed) {
        throw Error(ExitCode::not_found,
                    fmt::format("the payload of record {} was erased", intent));
    }
    return open_answer({parts_->origin, intent}, *record, *complete, *sealed, key);
}

std::vector<std::string> payloads_in(const std::string& plaintext) {
    std::vector<std::string> lines;
    std::size_t begin = plaintext.find('\n');  // behind the line of the commit key
    while (begin != std::string::npos && begin + 1 < plaintext.size()) {
        const std::size_t end = plaintext.find('\n', begin + 1);
        if (end == std::string::npos) break;
        lines.push_back(plaintext.substr(begin + 1, end - begin - 1));
        begin = end;
    }
    if (lines.empty()) throw Error(ExitCode::invalid, "the payload holds no answer");
    return lines;
}

}  // namespace etalon::ledger
