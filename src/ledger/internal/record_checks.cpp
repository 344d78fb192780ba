// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/record_checks.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::ledger {

namespace {

[[noreturn]] void refuse(int step, std::uint64_t index, std::string_view why) {
    throw Error(ExitCode::invalid, fmt::format("step {}: record {}: {}", step, index, why));
}

}  // namespace

void RecordChecks::take(std::uint64_t index, std::string_view entry) {
    Record record;
    try {
        record = parse_record(entry);
    } catch (const Error& error) {
        refuse(7, index, error.message());
    }
    if (record.seq != index) refuse(7, index, fmt::format("it says that it is {}", record.seq));
    if (record.time_us < time_us_) refuse(7, index, "its time is before the last one's");
    if (!first_) first_ = index;
    time_us_ = record.time_us;
    check_links(record);
    remember(std::move(record));
}

void RecordChecks::check_links(const Record& record) const {
    const std::uint64_t index = record.seq;
    if (record.boot != index && was_seen(record.boot) && boots_.count(record.boot) == 0) {
        refuse(8, index, "its boot is no boot record");
    }
    if (const auto* intent = std::get_if<Intent>(&record.body)) {
        const auto load = loads_.find(intent->load);
        if (was_seen(intent->load) && load == loads_.end()) {
            refuse(8, index, "its load is no model_load record");
        }
        if (load != loads_.end() && load->second.model != intent->model) {
            refuse(8, index, "its load is of another model");
        }
        const bool names_erased =
            erased_.count(intent->tenant) > 0 ||
            std::any_of(intent->subjects.begin(), intent->subjects.end(),
                        [&](const std::string& id) { return erased_.count(id) > 0; });
        if (names_erased) refuse(8, index, "it names a subject that was erased");
    }
    const auto about = intent_of(record.body);
    if (about && was_seen(*about) && intent_at(*about) == nullptr) {
        refuse(8, index, "its intent is no intent record");
    }
    if (const auto* complete = std::get_if<Complete>(&record.body)) {
        if (completes_.count(complete->intent) > 0) refuse(8, index, "its intent is complete");
        if (!was_seen(complete->intent)) return;
        const Intent* intent = intent_at(complete->intent);
        if (intent->request != complete->request) refuse(8, index, "its request is another one");
        if (intent->answers != complete->answers.size()) refuse(8, index, "it lacks answers");
    }
}

void RecordChecks::remember(Record record) {
    ++kinds_[std::string(kind_of(record))];
    if (auto* boot = std::get_if<Boot>(&record.body)) {
        boots_.insert(record.seq);
        auditors_.insert(boot->auditors.begin(), boot->auditors.end());
    } else if (auto* load = std::get_if<ModelLoad>(&record.body)) {
        loads_.emplace(record.seq, std::move(*load));
    } else if (auto* intent = std::get_if<Intent>(&record.body)) {
        intents_.emplace(record.seq, std::move(*intent));
    } else if (auto* complete = std::get_if<Complete>(&record.body)) {
        completes_.emplace(complete->intent, std::move(*complete));
    } else if (auto* erase = std::get_if<Erase>(&record.body)) {
        erased_.insert(erase->subject);
    }
}

const Complete* RecordChecks::complete_of(std::uint64_t intent) const {
    const auto found = completes_.find(intent);
    return found == completes_.end() ? nullptr : &found->second;
}

const Intent* RecordChecks::intent_at(std::uint64_t index) const {
    const auto found = intents_.find(index);
    return found == intents_.end() ? nullptr : &found->second;
}

const ModelLoad* RecordChecks::load_at(std::uint64_t index) const {
    const auto found = loads_.find(index);
    return found == loads_.end() ? nullptr : &found->second;
}

std::uint64_t RecordChecks::n_unfinished() const {
    return static_cast<std::uint64_t>(
        std::count_if(intents_.begin(), intents_.end(),
                      [&](const auto& one) { return completes_.count(one.first) == 0; }));
}

}  // namespace etalon::ledger
