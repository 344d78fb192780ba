// SPDX-License-Identifier: Apache-2.0
// Keys are 256 random bits and are stored as their SHA-256: such a key cannot be guessed from its
// hash, so a slow hash, which protects short passwords, would only cost time at each request.
#include "serve/accounts.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <openssl/rand.h>

#include "base/error.h"
#include "base/sha256.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {

constexpr std::string_view kKeyStart = "etk-";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kShownCharacters = 10;  // "etk-" and 24 of the 256 bits
constexpr std::int64_t kSecondsOfDay = 86400;
constexpr std::array<std::pair<std::string_view, unsigned>, 4> kScopes{
    {{"infer", kScopeInfer},
     {"metrics", kScopeMetrics},
     {"audit", kScopeAudit},
     {"content:read", kScopeContentRead}}};

constexpr const char* kKeyColumns =
    "SELECT keys.id, tenants.name, prefix, scopes, tokens_per_day, requests_per_minute, "
    "keys.created, expires, revoked FROM keys JOIN tenants ON tenants.id = tenant_id ";

KeyInfo key_of(const Statement& row) {
    return {row.integer(0),
            row.text(1),
            row.text(2),
            scopes_of(row.text(3)),
            row.optional_integer(4),
            row.optional_integer(5),
            row.integer(6),
            row.optional_integer(7),
            row.optional_integer(8)};
}

std::string hash_of(std::string_view key) {
    return to_hex(sha256(std::as_bytes(std::span(key))));
}

std::string draw_key() {
    std::array<std::uint8_t, kSecretBytes> secret{};
    ETALON_ASSERT(RAND_bytes(secret.data(), static_cast<int>(secret.size())) == 1);
    return std::string(kKeyStart) + to_hex(secret);
}

bool is_name(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '_' || c == '.';
    });
}

void check_count(const char* name, const std::optional<std::int64_t>& count, std::int64_t high) {
    if (!count || (*count >= 1 && *count <= high)) return;
    throw Error(ExitCode::usage, fmt::format("{} is {}, accepted are 1 to {}", name, *count, high));
}

void check(const NewKey& key, std::int64_t now) {
    if (!is_name(key.tenant) || key.tenant.size() > kTenantBytesMax) {
        throw Error(ExitCode::usage,
                    fmt::format("the tenant's name is not 1 to {} letters, digits, '-', '_', '.'",
                                kTenantBytesMax));
    }
    if (key.scopes == 0) throw Error(ExitCode::usage, "the key has no scope");
    check_count("tokens a day", key.tokens_per_day, kTokensPerDayMax);
    check_count("requests a minute", key.requests_per_minute, kRequestsPerMinuteMax);
    if (key.expires && *key.expires <= now) {
        throw Error(ExitCode::usage, "the key would have expired already");
    }
}

}  // namespace

unsigned scopes_of(std::string_view names) {
    unsigned scopes = 0;
    while (!names.empty()) {
        const std::string_view name = names.substr(0, names.find(','));
        const auto* found = std::find_if(kScopes.begin(), kScopes.end(),
                                         [&](const auto& scope) { return scope.first == name; });
        if (found == kScopes.end()) {
            throw Error(ExitCode::usage, fmt::format("unknown scope {}", printable(name)),
                        "scopes are infer, metrics, audit and content:read");
        }
        scopes |= found->second;
        names.remove_prefix(std::min(names.size(), name.size() + 1));
    }
    return scopes;
}

std::string scope_names(unsigned scopes) {
    std::string names;
    for (const auto& [name, bit] : kScopes) {
        if ((scopes & bit) == 0) continue;
        if (!names.empty()) names += ',';
        names += name;
    }
    return names;
}

std::int64_t seconds_left_of_day(std::int64_t now) {
    return kSecondsOfDay - now % kSecondsOfDay;
}

Accounts::Created Accounts::create_key(const NewKey& key, std::int64_t now) {
    check(key, now);
    const std::string text = draw_key();
    Statement(database_, "INSERT OR IGNORE INTO tenants(name, created) VALUES(?, ?)")
        .bind(1, std::string_view(key.tenant))
        .bind(2, now)
        .run();
    Statement insert(database_,
                     "INSERT INTO keys(tenant_id, hash, prefix, scopes, tokens_per_day, "
                     "requests_per_minute, created, expires) "
                     "SELECT id, ?, ?, ?, ?, ?, ?, ? FROM tenants WHERE name = ?");
    insert.bind(1, std::string_view(hash_of(text)))
        .bind(2, std::string_view(text).substr(0, kShownCharacters))
        .bind(3, std::string_view(scope_names(key.scopes)))
        .bind(4, key.tokens_per_day)
        .bind(5, key.requests_per_minute)
        .bind(6, now)
        .bind(7, key.expires)
        .bind(8, std::string_view(key.tenant));
    insert.run();
    return {database_.last_id(), text};
}

std::vector<TenantInfo> Accounts::list_tenants() {
    Statement ask(database_, "SELECT name, created FROM tenants ORDER BY id");
    std::vector<TenantInfo> tenants;
    while (ask.next())
        tenants.push_back({ask.text(0), ask.integer(1)});
    return tenants;
}

bool Accounts::forget_tenant(std::string_view name) {
    constexpr const char* kUsage =
        "DELETE FROM usage WHERE key_id IN (SELECT keys.id FROM keys JOIN tenants "
        "ON tenants.id = tenant_id WHERE name = ?)";
    constexpr const char* kStatements[] = {
        kUsage, "DELETE FROM keys WHERE tenant_id = (SELECT id FROM tenants WHERE name = ?)",
        "DELETE FROM tenants WHERE name = ?"};
    database_.run("BEGIN IMMEDIATE");
    try {
        for (const char* statement : kStatements)
            Statement(database_, statement).bind(1, name).run();
    } catch (const Error&) {
        database_.run("ROLLBACK");
        throw;
    }
    const bool was_there = database_.n_changed() > 0;
    database_.run("COMMIT");
    return was_there;
}

std::vector<KeyInfo> Accounts::list_keys() {
    Statement ask(database_, fmt::format("{} ORDER BY keys.id", kKeyColumns).c_str());
    std::vector<KeyInfo> keys;
    while (ask.next())
        keys.push_back(key_of(ask));
    return keys;
}

bool Accounts::revoke_key(std::int64_t id, std::int64_t now) {
    Statement(database_, "UPDATE keys SET revoked = coalesce(revoked, ?) WHERE id = ?")
        .bind(1, now)
        .bind(2, id)
        .run();
    return database_.n_changed() > 0;
}

std::optional<KeyInfo> Accounts::find(std::string_view key) {
    const std::size_t length = kKeyStart.size() + 2 * kSecretBytes;
    if (key.size() != length || key.substr(0, kKeyStart.size()) != kKeyStart) return std::nullopt;
    Statement ask(database_, fmt::format("{} WHERE hash = ?", kKeyColumns).c_str());
    const std::string hash = hash_of(key);
    ask.bind(1, std::string_view(hash));
    if (!ask.next()) return std::nullopt;
    return key_of(ask);
}

DayUsage Accounts::day_usage(std::int64_t key_id, std::int64_t now) {
    Statement ask(database_,
                  "SELECT requests, prompt_tokens, answer_tokens FROM usage "
                  "WHERE key_id = ? AND day = ?");
    ask.bind(1, key_id).bind(2, now / kSecondsOfDay);
    if (!ask.next()) return {};
    return {ask.integer(0), ask.integer(1), ask.integer(2)};
}

void Accounts::add_usage(std::int64_t key_id, std::int64_t now, const DayUsage& more) {
    Statement add(database_,
                  "INSERT INTO usage(key_id, day, requests, prompt_tokens, answer_tokens) "
                  "VALUES(?1, ?2, ?3, ?4, ?5) ON CONFLICT(key_id, day) DO UPDATE SET "
                  "requests = requests + ?3, prompt_tokens = prompt_tokens + ?4, "
                  "answer_tokens = answer_tokens + ?5");
    add.bind(1, key_id)
        .bind(2, now / kSecondsOfDay)
        .bind(3, more.requests)
        .bind(4, more.prompt_tokens)
        .bind(5, more.answer_tokens)
        .run();
}

}  // namespace etalon::serve
