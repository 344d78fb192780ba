// SPDX-License-Identifier: Apache-2.0
// What must hold between the records of a log (docs/ledger.md section 6, steps 7 to 9).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "ledger/record.h"

namespace etalon::ledger {

class RecordChecks {
  public:
    /// The next record, in order. Errors: invalid (step 7 or 8).
    void take(std::uint64_t index, std::string_view entry);

    const std::map<std::string, std::uint64_t>& kinds() const { return kinds_; }
    /// Intents among the records whose complete is not.
    std::uint64_t n_unfinished() const;
    /// The complete record of an intent among the records; nullptr: there is none.
    const Complete* complete_of(std::uint64_t intent) const;
    const Intent* intent_at(std::uint64_t index) const;
    const ModelLoad* load_at(std::uint64_t index) const;
    const std::set<std::string>& auditors() const { return auditors_; }

  private:
    void check_links(const Record& record) const;
    void remember(Record record);
    bool was_seen(std::uint64_t index) const { return first_ && index >= *first_; }

    std::optional<std::uint64_t> first_;  // index of the first record
    std::uint64_t time_us_ = 0;
    std::map<std::string, std::uint64_t> kinds_;
    std::set<std::uint64_t> boots_;
    std::map<std::uint64_t, ModelLoad> loads_;
    std::map<std::uint64_t, Intent> intents_;
    std::map<std::uint64_t, Complete> completes_;  // by intent
    std::set<std::string> erased_;
    std::set<std::string> auditors_;
};

}  // namespace etalon::ledger
