// SPDX-License-Identifier: Apache-2.0
// Retention on schedule, erasure on request, and what refuses them.
#include "ledger/retention.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <set>

#include "base/clock.h"
#include "base/error.h"
#include "ledger/internal/files.h"
#include "ledger/internal/subject_use.h"
#include "ledger/limits.h"
#include "ledger/subjects.h"
#include "tlog/checkpoint.h"

namespace etalon::ledger {

namespace {

/// A key that no record names yet counts from the moment it was made: its first payload may be
/// under way.
SubjectUse use_of(const std::map<std::string, SubjectUse>& uses, const Subjects& subjects,
                  const std::string& id) {
    const auto found = uses.find(id);
    if (found != uses.end()) return found->second;
    const std::uint64_t made_us = subjects.made(id) * kSecondUs;
    return {made_us, made_us, {}};
}

bool is_days_older(std::uint64_t time_us, std::uint64_t now_us, std::uint64_t days) {
    return now_us >= time_us && now_us - time_us >= days * kDayUs;
}

Subjects subjects_of(const LedgerOptions& options) {
    require_own(options.folder);
    return Subjects(options.folder / "keys" / "subjects");
}

Error held(std::string_view whom, std::string_view reason) {
    return Error(ExitCode::refused,
                 fmt::format("a legal hold keeps the {}: {}", whom, printable(reason)),
                 "etalon erase --release ends the hold");
}

/// For each tenant's id the rule of the tenant and whether it is held. Ids that were erased count
/// too: records of younger subjects name them.
struct TenantRule {
    RetentionRule rule;
    bool is_held = false;
};
std::map<std::string, TenantRule> rules_by_id(const Subjects& subjects,
                                              const Retention& retention) {
    std::map<std::string, TenantRule> rules;
    const auto journal = subjects.journal().read();
    for (const RetentionRule& rule : retention.rules()) {
        const std::string name = tenant_subject(rule.tenant);
        const bool is_held = subjects.hold_of(name).has_value();
        for (const std::string& id : subjects.ids_of(name))
            rules.emplace(id, TenantRule{rule, is_held});
        for (const ErasedSubject& erased : journal) {
            if (erased.name_mac != subjects.name_mac(name)) continue;
            rules.emplace(erased.id, TenantRule{rule, is_held});
        }
    }
    return rules;
}

}  // namespace

RetentionRule parse_retention_rule(std::string_view text) {
    RetentionRule rule;
    std::string_view rest = text;
    rule.tenant = rest.substr(0, rest.find(' '));
    bool good = !rule.tenant.empty();
    for (std::uint64_t* days : {&rule.min_days, &rule.max_days}) {
        rest.remove_prefix(std::min(rest.find(' '), rest.size()));
        good = good && !rest.empty();
        rest.remove_prefix(std::min<std::size_t>(1, rest.size()));
        good = good && tlog::parse_decimal(rest.substr(0, rest.find(' ')), *days);
    }
    if (good && rest.find(' ') == std::string_view::npos) return rule;
    throw Error(ExitCode::usage, fmt::format("{} is no rule of retention", printable(text)),
                "TENANT MIN_DAYS MAX_DAYS, as in: default 180 365");
}

Retention::Retention(std::vector<RetentionRule> rules) : rules_(std::move(rules)) {
    if (rules_.size() > kRetentionRulesMax) {
        throw Error(ExitCode::usage, fmt::format("{} rules of retention, at most {} are accepted",
                                                 rules_.size(), kRetentionRulesMax));
    }
    std::set<std::string> tenants;
    for (const RetentionRule& rule : rules_) {
        const std::string tenant = printable(rule.tenant);
        if (!tenants.insert(rule.tenant).second) {
            throw Error(ExitCode::usage, fmt::format("retention of {} is given twice", tenant));
        }
        const bool good = rule.min_days <= kRetentionDaysMax &&
                          rule.max_days <= kRetentionDaysMax &&
                          (rule.max_days == 0 || rule.max_days > rule.min_days);
        if (good) continue;
        throw Error(ExitCode::usage,
                    fmt::format("retention of {}: min_days {} and max_days {} are no range", tenant,
                                rule.min_days, rule.max_days),
                    fmt::format("min_days < max_days <= {}, or max_days = 0", kRetentionDaysMax));
    }
}

RetentionRule Retention::of(std::string_view tenant) const {
    for (const RetentionRule& rule : rules_)
        if (rule.tenant == tenant) return rule;
    return {std::string(tenant), 0, 0};
}

RetentionReport apply_retention(const LedgerOptions& options, const Retention& retention,
                                std::uint64_t now_us) {
    Subjects subjects = subjects_of(options);
    const auto uses = read_subject_use(options.folder);
    const auto rules = rules_by_id(subjects, retention);
    RetentionReport report;
    std::vector<std::string> begun;
    for (const Subjects::Entry& entry : subjects.entries()) {
        const SubjectUse use = use_of(uses, subjects, entry.id);
        // A tenant's own id is its tenant; a subject's is in the records that name it.
        const std::string tenant = use.tenants.empty() ? entry.id : *use.tenants.begin();
        const auto found = rules.find(tenant);
        if (found == rules.end() || found->second.rule.max_days == 0) continue;
        const RetentionRule& rule = found->second.rule;
        // A run that comes late finds keys that are too old and in use: they serve no more, and end
        // once what they closed last has had its time.
        const bool is_kept =
            rule.min_days > 0 && !is_days_older(use.last_us, now_us, rule.min_days);
        if (is_kept || !is_days_older(use.first_us, now_us, rule.max_days)) {
            const bool serves = !is_days_older(use.first_us, now_us, rule.max_days - rule.min_days);
            if (entry.retired || serves || use.tenants.empty()) continue;
            subjects.retire(entry);
            ++report.n_retired;
            continue;
        }
        if (found->second.is_held || subjects.hold_of_mac(entry.name_mac)) {
            ++report.n_held;
            continue;
        }
        subjects.begin_erase(entry, "retention", "");
        begun.push_back(entry.id);
    }
    report.n_erased = begun.size();
    record_erasures(options, begun);
    return report;
}

std::string subject_name(std::string_view tenant, std::string_view subject) {
    return subject.empty() ? tenant_subject(tenant) : named_subject(tenant, subject);
}

std::vector<std::string> erase_on_request(const LedgerOptions& options, const EraseRequest& request,
                                          const Retention& retention, std::uint64_t now_us) {
    Subjects subjects = subjects_of(options);
    const std::string name = subject_name(request.tenant, request.subject);
    const std::vector<std::string> ids = subjects.ids_of(name);
    if (ids.empty()) {
        throw Error(ExitCode::not_found, "the ledger has no subject of that name",
                    "--tenant says whose subject it is");
    }
    const auto refuse = [&](const char* basis, const Error& error) {
        const std::size_t n = std::min(ids.size(), kRefusedSubjectsMax);
        record_now(options, {EraseRefused{basis, {ids.begin(), ids.begin() + n}}});
        throw Error(error);
    };
    if (const auto reason = subjects.hold_of(name)) refuse("hold", held("subject", *reason));
    if (const auto reason = subjects.hold_of(tenant_subject(request.tenant))) {
        refuse("hold", held("tenant", *reason));
    }
    const std::uint64_t min_days = retention.of(request.tenant).min_days;
    const auto uses =
        min_days == 0 ? std::map<std::string, SubjectUse>() : read_subject_use(options.folder);
    const auto is_young = [&](const std::string& id) {
        return min_days > 0 && !is_days_older(use_of(uses, subjects, id).last_us, now_us, min_days);
    };
    if (std::any_of(ids.begin(), ids.end(), is_young)) {
        refuse("minimum",
               Error(ExitCode::refused,
                     fmt::format("records of tenant {} are kept for {} days, and the last "
                                 "that names the subject is younger",
                                 printable(request.tenant), min_days),
                     "the key retention of etalon.toml"));
    }
    for (const Subjects::Entry& entry : subjects.entries()) {
        if (std::find(ids.begin(), ids.end(), entry.id) == ids.end()) continue;
        subjects.begin_erase(entry, "request", request.reason);
    }
    record_erasures(options, ids);
    return ids;
}

}  // namespace etalon::ledger
