// SPDX-License-Identifier: Apache-2.0
// Tenants, their keys, and what each key has used.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/database.h"

namespace etalon::serve {

/// What a key may do; a set of bits.
enum Scope : unsigned {
    kScopeInfer = 1U,        ///< models, answers, tokens
    kScopeMetrics = 2U,      ///< /metrics
    kScopeAudit = 4U,        ///< the files of the ledger's log
    kScopeContentRead = 8U,  ///< what the tenant stored, for a reason that is recorded
};
/// "infer,metrics,audit,content:read" to bits. Errors: usage (an unknown name).
unsigned scopes_of(std::string_view names);
std::string scope_names(unsigned scopes);

struct NewKey {
    std::string tenant = "default";  ///< letters, digits, '-', '_', '.'
    unsigned scopes = kScopeInfer;
    std::optional<std::int64_t> tokens_per_day;       ///< [1, kTokensPerDayMax]
    std::optional<std::int64_t> requests_per_minute;  ///< [1, kRequestsPerMinuteMax]
    std::optional<std::int64_t> expires;              ///< seconds since 1970
};

struct KeyInfo {
    std::int64_t id = 0;
    std::string tenant;
    std::string prefix;  ///< what may be shown of the key
    unsigned scopes = 0;
    std::optional<std::int64_t> tokens_per_day;
    std::optional<std::int64_t> requests_per_minute;
    std::int64_t created = 0;
    std::optional<std::int64_t> expires;
    std::optional<std::int64_t> revoked;
};

struct TenantInfo {
    std::string name;
    std::int64_t created = 0;
};

struct DayUsage {
    std::int64_t requests = 0;
    std::int64_t prompt_tokens = 0;
    std::int64_t answer_tokens = 0;
};

/// Times are seconds since 1970. Errors of all: those of Database.
class Accounts {
  public:
    explicit Accounts(const std::filesystem::path& path) : database_(path) {}

    struct Created {
        std::int64_t id = 0;
        std::string key;  ///< shown once: only its hash is stored
    };
    /// Makes the tenant too if it is new. Errors: usage (a value outside its range).
    Created create_key(const NewKey& key, std::int64_t now);
    std::vector<KeyInfo> list_keys();
    /// False: there is no such key.
    bool revoke_key(std::int64_t id, std::int64_t now);

    std::vector<TenantInfo> list_tenants();
    /// Removes the tenant, its keys and their usage. False: there is no such tenant.
    bool forget_tenant(std::string_view name);
    /// What was removed is in no page of the database either. Errors: unavailable (another program
    /// reads it now).
    void scrub() { database_.scrub(); }

    /// The key with this text, revoked and expired ones included; nullopt: there is none.
    std::optional<KeyInfo> find(std::string_view key);

    DayUsage day_usage(std::int64_t key_id, std::int64_t now);
    void add_usage(std::int64_t key_id, std::int64_t now, const DayUsage& more);

  private:
    Database database_;
};

/// Seconds until the day of the counters ends: days are those of UTC.
std::int64_t seconds_left_of_day(std::int64_t now);

}  // namespace etalon::serve
