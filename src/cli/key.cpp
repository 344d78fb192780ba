// SPDX-License-Identifier: Apache-2.0
// `etalon key create|list|revoke`: who may ask the server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"

#include "base/clock.h"
#include "base/error.h"
#include "ledger/subjects.h"
#include "serve/accounts.h"
#include "serve/config.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr std::int64_t kSecondsOfHour = 3600;
constexpr std::int64_t kSecondsOfDay = 24 * kSecondsOfHour;
constexpr std::int64_t kDaysMax = 36500;

struct KeyOptions {
    std::string tenant = "default";
    std::string scope = "infer";
    std::optional<std::int64_t> tokens_per_day;
    std::optional<std::int64_t> requests_per_minute;
    std::string expires;
    std::int64_t id = 0;
    bool json = false;
};

/// "30d" or "12h" from now.
std::optional<std::int64_t> expiry_of(const std::string& text, std::int64_t now) {
    if (text.empty()) return std::nullopt;
    std::int64_t count = 0;
    const char* unit = text.data() + text.size() - 1;
    const auto [end, error] = std::from_chars(text.data(), unit, count);
    const bool known = *unit == 'd' || *unit == 'h';
    if (error != std::errc() || end != unit || !known || count < 1 || count > kDaysMax) {
        throw Error(ExitCode::usage, fmt::format("--expires: {} is no time", printable(text)),
                    "as in 30d or 12h");
    }
    return now + count * (*unit == 'd' ? kSecondsOfDay : kSecondsOfHour);
}

std::string date_text(std::int64_t time) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(time)));
}

ordered_json optional_json(const std::optional<std::int64_t>& value) {
    return value ? ordered_json(*value) : ordered_json(nullptr);
}

ordered_json date_json(const std::optional<std::int64_t>& time) {
    return time ? ordered_json(date_text(*time)) : ordered_json(nullptr);
}

/// In the ledger, without its secret, when this returns.
void record(std::int64_t id, const char* action, serve::Accounts& accounts) {
    const auto keys = accounts.list_keys();
    const auto key =
        std::find_if(keys.begin(), keys.end(), [&](const auto& one) { return one.id == id; });
    ETALON_ASSERT(key != keys.end());
    ledger::ApiKey record;
    record.action = action;
    record.key = static_cast<std::uint64_t>(id);
    record.scopes = serve::scope_names(key->scopes);
    record.tenant = ledger::subject_id(ledger_folder(""), ledger::tenant_subject(key->tenant));
    ledger::record_now(ledger_options(), {record});
}

void create(const KeyOptions& options) {
    const std::int64_t now = unix_time();
    serve::NewKey key;
    key.tenant = options.tenant;
    key.scopes = serve::scopes_of(options.scope);
    key.tokens_per_day = options.tokens_per_day;
    key.requests_per_minute = options.requests_per_minute;
    key.expires = expiry_of(options.expires, now);
    serve::Accounts accounts(serve::database_path());
    const auto created = accounts.create_key(key, now);
    try {
        record(created.id, "created", accounts);
    } catch (const Error& error) {
        (void)accounts.revoke_key(created.id, now);  // nobody has seen it
        throw Error(error.code(), "no key is given, for it cannot be recorded: " + error.message(),
                    error.hint());
    }
    if (options.json) {
        print_json({{"id", created.id},
                    {"key", created.key},
                    {"tenant", key.tenant},
                    {"scopes", serve::scope_names(key.scopes)},
                    {"expires", date_json(key.expires)}});
        return;
    }
    print(created.key + "\n");
    std::fprintf(stderr, "etalon: key %lld of tenant %s; it is shown this once\n",
                 static_cast<long long>(created.id), key.tenant.c_str());
}

std::string state_text(const serve::KeyInfo& key, std::int64_t now) {
    if (key.revoked) return "revoked";
    if (!key.expires) return "valid";
    return (*key.expires <= now ? "expired " : "until ") + date_text(*key.expires);
}

void list(const KeyOptions& options) {
    serve::Accounts accounts(serve::database_path());
    const std::int64_t now = unix_time();
    ordered_json all = ordered_json::array();
    for (const serve::KeyInfo& key : accounts.list_keys()) {
        if (!options.json) {
            print(fmt::format("{:>4} {:<12} {:<16} {:<14} {}\n", key.id, key.prefix + "...",
                              printable(key.tenant), serve::scope_names(key.scopes),
                              state_text(key, now)));
            continue;
        }
        all.push_back({{"id", key.id},
                       {"prefix", key.prefix},
                       {"tenant", key.tenant},
                       {"scopes", serve::scope_names(key.scopes)},
                       {"tokens_per_day", optional_json(key.tokens_per_day)},
                       {"requests_per_minute", optional_json(key.requests_per_minute)},
                       {"created", date_text(key.created)},
                       {"expires", date_json(key.expires)},
                       {"revoked", date_json(key.revoked)}});
    }
    if (options.json) print_json(all);
}

void revoke(const KeyOptions& options) {
    serve::Accounts accounts(serve::database_path());
    if (!accounts.revoke_key(options.id, unix_time())) {
        throw Error(ExitCode::not_found, fmt::format("there is no key {}", options.id),
                    "etalon key list");
    }
    try {
        record(options.id, "revoked", accounts);
    } catch (const Error& error) {
        throw Error(error.code(),
                    "the key is revoked, but the ledger does not say so: " + error.message(),
                    error.hint());
    }
}

}  // namespace

void add_key(CLI::App& app) {
    CLI::App* command = app.add_subcommand("key", "create, list and revoke keys of the server");
    command->require_subcommand(1);
    const auto options = std::make_shared<KeyOptions>();
    CLI::App* created = command->add_subcommand("create", "make a key and print it, this once");
    created->add_option("--tenant", options->tenant, "whose key it is")->capture_default_str();
    created
        ->add_option("--scope", options->scope,
                     "infer, metrics, audit, content:read, or several with commas")
        ->capture_default_str();
    created->add_option("--tokens-per-day", options->tokens_per_day, "of prompts and answers");
    created->add_option("--requests-per-minute", options->requests_per_minute, "at most");
    created->add_option("--expires", options->expires, "in 30d or 12h, as an example");
    created->add_flag("--json", options->json, "print JSON");
    created->callback([options] { create(*options); });
    CLI::App* listed = command->add_subcommand("list", "show the keys, without their secrets");
    listed->add_flag("--json", options->json, "print JSON");
    listed->callback([options] { list(*options); });
    CLI::App* revoked = command->add_subcommand("revoke", "end a key at once");
    revoked->add_option("ID", options->id, "number of the key, as list shows it")->required();
    revoked->callback([options] { revoke(*options); });
}

}  // namespace etalon::cli
