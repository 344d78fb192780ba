// SPDX-License-Identifier: Apache-2.0
// The table of routes and the checks before them.
#include "serve/routes.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {

constexpr unsigned kPublic = 0;

bool matches(const Route& route, const std::string& path) {
    std::string_view pattern = route.path;
    if (const std::size_t brace = pattern.find('{'); brace != std::string_view::npos) {
        const std::string_view end = pattern.substr(pattern.find('}') + 1);
        const std::size_t n_fixed = brace + end.size();
        return path.size() > n_fixed && path.compare(0, brace, pattern, 0, brace) == 0 &&
               path.compare(path.size() - end.size(), end.size(), end) == 0 &&
               path.substr(brace, path.size() - n_fixed).find('/') == std::string::npos;
    }
    if (pattern.back() == '*') {
        pattern.remove_suffix(1);
        return path.size() > pattern.size() && path.compare(0, pattern.size(), pattern) == 0;
    }
    if (pattern.back() != '/') return path == pattern;
    return path.size() > pattern.size() && path.compare(0, pattern.size(), pattern) == 0 &&
           path.find('/', pattern.size()) == std::string::npos;
}

std::string lower(std::string text) {
    for (char& c : text)
        c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

void check_shape(const HttpRequest& head) {
    if (head.path.empty() || head.path.front() != '/') {
        throw field_error("", "the target of the request is no path");
    }
    if (head.path.size() + head.query.size() > kTargetBytesMax) {
        throw field_error("", fmt::format("the target has more than {} bytes", kTargetBytesMax));
    }
}

/// A page in a browser can make a name of its own point to this machine; its requests then carry
/// that name.
void check_host(const Site& site, const HttpRequest& head) {
    const std::string* host = head.header("host");
    if (host == nullptr) throw field_error("", "the Host header is missing or comes twice");
    if (std::find(site.hosts.begin(), site.hosts.end(), lower(*host)) == site.hosts.end()) {
        throw ApiError(
            421, "invalid_request_error", "unknown_host",
            fmt::format("this server does not answer for host {}", printable(*host, 64)));
    }
}

void check_content_type(const HttpRequest& head) {
    if (head.method != "POST") return;
    const std::string* type = head.header("content-type");
    const std::string media = type == nullptr ? "" : lower(type->substr(0, type->find(';')));
    if (media.substr(0, media.find(' ')) == "application/json") return;
    throw ApiError(415, "invalid_request_error", "unsupported_media_type",
                   "the body must be JSON: send content-type: application/json");
}

ApiError no_key(std::string message) {
    ApiError error(401, "authentication_error", "invalid_api_key", std::move(message));
    return error.with_header("www-authenticate", "Bearer");
}

KeyInfo check_key(Site& site, const HttpRequest& head, std::int64_t now) {
    const std::string* header = head.header("authorization");
    if (header == nullptr) {
        throw no_key("no key: send authorization: Bearer KEY; etalon key create makes one");
    }
    constexpr std::size_t kSchemeLength = 7;
    if (header->size() < kSchemeLength || lower(header->substr(0, kSchemeLength)) != "bearer ") {
        throw no_key("the authorization header is not Bearer KEY");
    }
    const auto key = site.accounts->find(std::string_view(*header).substr(kSchemeLength));
    if (!key) throw no_key("the key is not known");
    if (key->revoked) throw no_key("the key was revoked");
    if (key->expires && *key->expires <= now) throw no_key("the key has expired");
    return *key;
}

ApiError too_many(const char* code, std::string message, std::int64_t seconds) {
    ApiError error(429, "rate_limit_error", code, std::move(message));
    return error.with_header("retry-after", std::to_string(std::max<std::int64_t>(seconds, 1)));
}

std::int64_t whole_seconds(double seconds) {
    return static_cast<std::int64_t>(std::ceil(seconds));
}

void check_pace(Site& site, const KeyInfo& key, double steady, HeaderList& headers) {
    if (!key.requests_per_minute) return;
    const Paces::Verdict verdict = site.paces.take(key.id, *key.requests_per_minute, steady);
    headers.emplace_back("x-ratelimit-limit-requests", std::to_string(*key.requests_per_minute));
    headers.emplace_back("x-ratelimit-remaining-requests", std::to_string(verdict.remaining));
    headers.emplace_back("x-ratelimit-reset-requests",
                         fmt::format("{}s", whole_seconds(verdict.seconds_to_full)));
    if (verdict.accepted) return;
    throw too_many("requests_per_minute",
                   fmt::format("the key may ask {} times a minute", *key.requests_per_minute),
                   whole_seconds(verdict.seconds_to_next));
}

void check_day(Site& site, const KeyInfo& key, std::int64_t now, HeaderList& headers) {
    if (!key.tokens_per_day) return;
    const DayUsage usage = site.accounts->day_usage(key.id, now);
    const std::int64_t used = usage.prompt_tokens + usage.answer_tokens;
    const std::int64_t left = std::max<std::int64_t>(*key.tokens_per_day - used, 0);
    const std::int64_t seconds = seconds_left_of_day(now);
    headers.emplace_back("x-ratelimit-limit-tokens", std::to_string(*key.tokens_per_day));
    headers.emplace_back("x-ratelimit-remaining-tokens", std::to_string(left));
    headers.emplace_back("x-ratelimit-reset-tokens", fmt::format("{}s", seconds));
    if (left > 0) return;
    throw too_many("tokens_per_day",
                   fmt::format("the key has used its {} tokens of this day", *key.tokens_per_day),
                   seconds);
}

/// Limits are for what costs tokens; who asks for models or metrics is not counted.
void check_limits(Site& site, const Route& route, const KeyInfo& key, std::int64_t now,
                  double steady, HeaderList& headers) {
    if (std::string_view(route.method) != "POST") return;
    try {
        check_pace(site, key, steady, headers);
        check_day(site, key, now, headers);
    } catch (const ApiError& error) {
        ApiError told = error;
        for (const auto& [name, value] : headers)
            told = told.with_header(name, value);
        throw ApiError(told);
    }
}

const std::string* listed_origin(const Site& site, const HttpRequest& head) {
    const std::string* origin = head.header("origin");
    if (origin == nullptr) return nullptr;
    const auto& origins = site.cors_origins;
    return std::find(origins.begin(), origins.end(), *origin) == origins.end() ? nullptr : origin;
}

}  // namespace

const std::vector<Route>& all_routes() {
    static const std::vector<Route> routes{
        {"GET", "/livez", kPublic, handle_live},
        {"GET", "/readyz", kPublic, handle_ready},
        {"GET", "/health", kPublic, handle_ready},
        {"GET", "/version", kScopeInfer, handle_version},
        {"GET", "/openapi.json", kScopeInfer, handle_openapi},
        {"GET", "/metrics", kScopeMetrics, handle_metrics},
        {"GET", "/status", kScopeMetrics, handle_status},
        {"GET", "/v1/models", kScopeInfer, handle_models},
        {"GET", "/v1/models/", kScopeInfer, handle_model},
        {"POST", "/v1/chat/completions", kScopeInfer, handle_chat},
        {"POST", "/v1/completions", kScopeInfer, handle_completions},
        {"POST", "/v1/responses", kScopeInfer, handle_responses},
        {"GET", "/v1/responses/", kScopeInfer, handle_stored},
        {"DELETE", "/v1/responses/", kScopeInfer, handle_stored_delete},
        {"GET", "/v1/responses/{id}/input_items", kScopeInfer, handle_stored_items},
        {"POST", "/v1/fim/completions", kScopeInfer, handle_fim},
        {"POST", "/v1/embeddings", kScopeInfer, handle_embeddings},
        {"GET", "/v1/receipts/", kScopeInfer, handle_receipt},
        {"POST", "/v1/live", kScopeAudit, handle_live_digest},
        {"GET", "/ledger/*", kScopeAudit, handle_log_file},
        {"POST", "/ledger/content/", kScopeContentRead, handle_content},
        {"POST", "/tokenize", kScopeInfer, handle_tokenize},
        {"POST", "/detokenize", kScopeInfer, handle_detokenize},
    };
    return routes;
}

const Route& find_route(const std::string& method, const std::string& path) {
    std::string allowed;
    for (const Route& route : all_routes()) {
        if (!matches(route, path)) continue;
        if (method == route.method) return route;
        allowed += allowed.empty() ? route.method : std::string(", ") + route.method;
    }
    if (allowed.empty()) throw not_found(fmt::format("no route {}", printable(path, 100)));
    ApiError error(405, "invalid_request_error", "method_not_allowed",
                   fmt::format("{} is answered for {} only", printable(path, 100), allowed));
    throw error.with_header("allow", allowed);
}

Admitted admit(Site& site, const HttpRequest& head, std::int64_t now, double steady) {
    check_shape(head);
    check_host(site, head);
    Admitted admitted;
    admitted.target = target_of(head);
    // Who has no key learns nothing of the routes behind it, their existence included.
    const auto is_public = [&](const Route& route) {
        return route.scope == kPublic && matches(route, admitted.target.path);
    };
    const bool open = std::any_of(all_routes().begin(), all_routes().end(), is_public);
    if (!open) admitted.key = check_key(site, head, now);
    admitted.route = &find_route(head.method, admitted.target.path);
    if (admitted.route->scope == kPublic) return admitted;
    if ((admitted.key.scopes & admitted.route->scope) == 0) {
        throw ApiError(
            403, "permission_error", "missing_scope",
            fmt::format("the key lacks the scope {}", scope_names(admitted.route->scope)));
    }
    check_content_type(head);
    check_limits(site, *admitted.route, admitted.key, now, steady, admitted.headers);
    return admitted;
}

HeaderList cors_headers(const Site& site, const HttpRequest& head) {
    const std::string* origin = listed_origin(site, head);
    if (origin == nullptr) return {};
    return {{"access-control-allow-origin", *origin}, {"vary", "origin"}};
}

std::optional<HttpResponse> preflight(const Site& site, const HttpRequest& head) {
    const bool asks =
        head.method == "OPTIONS" && head.header("access-control-request-method") != nullptr;
    if (!asks || listed_origin(site, head) == nullptr) return std::nullopt;
    HttpResponse response{204, "", cors_headers(site, head), ""};
    response.headers.emplace_back("access-control-allow-methods", "GET, POST, DELETE");
    response.headers.emplace_back("access-control-allow-headers", "authorization, content-type");
    response.headers.emplace_back("access-control-max-age", "600");
    return response;
}

}  // namespace etalon::serve
