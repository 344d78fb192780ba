// SPDX-License-Identifier: Apache-2.0
// How long payloads can be opened: at least so many days, at most so many, a tenant. A subject's
// key serves max_days - min_days; then the name gets a new one; max_days after its first record
// the key is destroyed. So each payload can be opened for min_days and not after max_days.
//   min_days 180, max_days 365: a key serves 185 days. What is sealed on its first day closes after
//   365 days, what is sealed on its last day after 180.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/ledger.h"

namespace etalon::ledger {

struct RetentionRule {
    std::string tenant;
    /// Erasure on request is refused before so many days; 0: never refused for that.
    std::uint64_t min_days = 0;
    /// In (min_days, kRetentionDaysMax], or 0: no key ends by its age.
    std::uint64_t max_days = 0;
};

/// "TENANT MIN_DAYS MAX_DAYS", as "default 180 365". Errors: usage.
RetentionRule parse_retention_rule(std::string_view text);

/// The rules of all tenants. Errors: usage (a value outside its range, a tenant twice).
class Retention {
  public:
    Retention() = default;
    explicit Retention(std::vector<RetentionRule> rules);

    const std::vector<RetentionRule>& rules() const { return rules_; }
    /// Without a rule of its own: nothing is refused and nothing ends.
    RetentionRule of(std::string_view tenant) const;

  private:
    std::vector<RetentionRule> rules_;
};

struct RetentionReport {
    std::size_t n_retired = 0;  ///< names that got a new key
    std::size_t n_erased = 0;   ///< keys that were destroyed
    std::size_t n_held = 0;     ///< keys that would have been, but for a legal hold
};

/// What the rules ask for at `now_us`. To be called once a day, whether or not a Ledger of this or
/// another process has the folder open: that one writes the erase records. Errors: those of
/// erase_subject, invalid (the log is damaged).
RetentionReport apply_retention(const LedgerOptions& options, const Retention& retention,
                                std::uint64_t now_us);

/// What a person asks to erase.
struct EraseRequest {
    std::string tenant;
    std::string subject;  ///< as x-etalon-subject named it; empty: the tenant's own account
    std::string reason;   ///< goes to the journal
};
/// Destroys every key that the subject has or had, and returns their ids when the records are on
/// disk. A refusal is a record too. Errors: refused (a legal hold on the subject or its tenant; the
/// tenant's min_days have not passed since a record named it), those of erase_subject, record_now.
std::vector<std::string> erase_on_request(const LedgerOptions& options, const EraseRequest& request,
                                          const Retention& retention, std::uint64_t now_us);

/// The name in the key folder: of a subject, or of the account where `subject` is empty.
std::string subject_name(std::string_view tenant, std::string_view subject);

}  // namespace etalon::ledger
