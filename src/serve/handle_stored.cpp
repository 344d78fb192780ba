// SPDX-License-Identifier: Apache-2.0
// The routes of stored responses: for the tenant that stored them, and for its reader of content,
// whose every reading is a record first.
#include "serve/handle_stored.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "base/error.h"
#include "serve/fields.h"
#include "serve/handlers.h"
#include "serve/limits.h"
#include "serve/log.h"
#include "serve/stored_turn.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

constexpr std::string_view kResponses = "/v1/responses/";
constexpr std::string_view kContent = "/ledger/content/";
constexpr std::int64_t kPageItems = 20;  // as public APIs document
constexpr std::int64_t kPageItemsMax = 100;

/// The segment behind `start`.
std::string segment_of(const Call& call, std::string_view start) {
    const std::string rest = call.target.path.substr(start.size());
    return rest.substr(0, rest.find('/'));
}

HttpResponse generated_response(const ordered_json& json) {
    return {200, "application/json", {{"x-etalon-ai", "generated"}}, json_text(json)};
}

/// What is behind '?', by name; of a name that comes twice the last.
std::map<std::string, std::string> query_of(const Call& call) {
    std::map<std::string, std::string> values;
    std::string_view rest = call.request.query;
    while (!rest.empty()) {
        const std::string_view pair = rest.substr(0, rest.find('&'));
        const std::size_t equals = std::min(pair.find('='), pair.size());
        values[percent_decoded(pair.substr(0, equals))] =
            percent_decoded(pair.substr(std::min(equals + 1, pair.size())));
        rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    }
    return values;
}

void refuse_query(const std::map<std::string, std::string>& query,
                  std::initializer_list<const char*> names) {
    for (const char* name : names) {
        const auto found = query.find(name);
        if (found == query.end() || found->second == "false") continue;
        throw unsupported(name, fmt::format("{} is not available on this server", name));
    }
}

std::size_t page_items(const std::map<std::string, std::string>& query) {
    const auto found = query.find("limit");
    if (found == query.end()) return kPageItems;
    std::int64_t limit = 0;
    const char* end = found->second.data() + found->second.size();
    const auto [parsed, error] = std::from_chars(found->second.data(), end, limit);
    if (error != std::errc() || parsed != end || limit < 1 || limit > kPageItemsMax) {
        throw field_error("limit", fmt::format("limit: accepted are 1 to {}", kPageItemsMax));
    }
    return static_cast<std::size_t>(limit);
}

/// What the model was given, oldest first: what is still stored of the turns before, then this one.
std::vector<ordered_json> items_of(const Site& site, const Call& call, const StoredTurn& turn) {
    std::vector<ordered_json> items;
    for (const StoredTurn& earlier : turns_before(site, call, turn, false)) {
        for (const InputItem& item : earlier.input)
            items.push_back(item.json());
        items.push_back(earlier.response.at("output").at(0));
    }
    for (const InputItem& item : turn.input)
        items.push_back(item.json());
    return items;
}

ApiError not_held(const std::string& index) {
    return {404, "invalid_request_error", "content_not_held",
            fmt::format("no response of record {} is stored; what is sealed opens with the key of "
                        "an auditor alone (etalon ledger open)",
                        printable(index, 24))};
}

}  // namespace

Outcome handle_stored(const Site& site, const Call& call) {
    refuse_query(query_of(call), {"stream", "include", "include[]", "starting_after"});
    return generated_response(find_turn(site, call, segment_of(call, kResponses)).response);
}

Outcome handle_stored_items(const Site& site, const Call& call) {
    const auto query = query_of(call);
    refuse_query(query, {"before", "include", "include[]"});
    const std::size_t limit = page_items(query);
    const auto order = query.find("order");
    const bool ascending = order != query.end() && order->second == "asc";
    if (order != query.end() && !ascending && order->second != "desc") {
        throw field_error("order", "order: accepted are asc and desc");
    }
    const StoredTurn turn = find_turn(site, call, segment_of(call, kResponses));
    std::vector<ordered_json> items = items_of(site, call, turn);
    if (!ascending) std::reverse(items.begin(), items.end());
    auto first = items.begin();
    if (const auto after = query.find("after"); after != query.end()) {
        first = std::find_if(items.begin(), items.end(), [&](const ordered_json& item) {
            return item.at("id") == after->second;
        });
        if (first == items.end()) throw field_error("after", "after: there is no such item");
        ++first;
    }
    const bool has_more = static_cast<std::size_t>(items.end() - first) > limit;
    const auto end = has_more ? first + static_cast<std::ptrdiff_t>(limit) : items.end();
    ordered_json json{{"object", "list"}, {"data", ordered_json::array()}};
    for (auto item = first; item != end; ++item)
        json["data"].push_back(std::move(*item));
    const ordered_json& data = json["data"];
    const ordered_json first_id = data.empty() ? ordered_json(nullptr) : data.front().at("id");
    const ordered_json last_id = data.empty() ? ordered_json(nullptr) : data.back().at("id");
    json["first_id"] = first_id;
    json["last_id"] = last_id;
    json["has_more"] = has_more;
    return generated_response(json);
}

Outcome handle_stored_delete(const Site& site, const Call& call) {
    const std::string id = segment_of(call, kResponses);
    bool was_there = false;
    try {
        was_there = site.ledger->responses().remove(call.key.tenant, id,
                                                    static_cast<std::uint64_t>(call.now));
    } catch (const Error& error) {
        log_note(error.message());
        throw ApiError(500, "server_error", "response_unreadable",
                       "the stored response cannot be deleted");
    }
    if (!was_there) {
        throw ApiError(404, "invalid_request_error", "response_not_found",
                       fmt::format("no response {} is stored", printable(id, 64)));
    }
    const ordered_json json{{"id", id}, {"object", "response"}, {"deleted", true}};
    return HttpResponse{200, "application/json", {}, json_text(json)};
}

Outcome handle_content(const Site& /*site*/, const Call& call) {
    const JsonBody json(call.request.body);
    Fields fields(json.object(), "");
    const std::string reason(fields.text("reason", kReasonBytesMax).value_or(""));
    if (reason.find_first_not_of(" \t\r\n") == std::string::npos) {
        throw field_error("reason",
                          "reason is missing: content is read for a reason, which is "
                          "recorded");
    }
    const std::string index = segment_of(call, kContent);
    Reading reading{call.key.tenant, 0, reason};
    const char* end = index.data() + index.size();
    const auto [parsed, error] = std::from_chars(index.data(), end, reading.intent);
    if (error != std::errc() || parsed != end) throw not_held(index);
    return reading;
}

HttpResponse content_response(const Site& site, const Call& call, const Reading& reading,
                              const std::variant<ledger::StoredReading, Error>& recorded) {
    const std::string index = fmt::format("{}", reading.intent);
    if (const auto* error = std::get_if<Error>(&recorded)) {
        if (error->code() == ExitCode::not_found) throw not_held(index);
        log_note(error->message());
        throw ApiError(503, "server_error", "ledger_unavailable",
                       "the reading cannot be recorded, and nothing is shown without that");
    }
    const auto& read = std::get<ledger::StoredReading>(recorded);
    const StoredTurn turn = find_turn(site, call, read.id);
    ordered_json input = ordered_json::array();
    for (const InputItem& item : turn.input)
        input.push_back(item.json());
    return generated_response({{"object", "etalon.content"},
                               {"intent", reading.intent},
                               {"record", read.record},
                               {"input", std::move(input)},
                               {"response", turn.response}});
}

}  // namespace etalon::serve
