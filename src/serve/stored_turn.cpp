// SPDX-License-Identifier: Apache-2.0
#include "serve/stored_turn.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "serve/limits.h"
#include "serve/log.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

constexpr const char* kPrevious = "previous_response_id";

ApiError no_such(const std::string& id) {
    return {404, "invalid_request_error", "response_not_found",
            fmt::format("no response {} is stored", printable(id, 64))};
}

}  // namespace

wire::ChatMessage InputItem::message() const {
    wire::ChatMessage message;
    message.role = role == "user"        ? wire::Role::user
                   : role == "assistant" ? wire::Role::assistant
                                         : wire::Role::system;
    for (const std::string& part : parts)
        message.content += part;
    return message;
}

ordered_json InputItem::json() const {
    const char* type = role == "assistant" ? "output_text" : "input_text";
    ordered_json content = ordered_json::array();
    for (const std::string& part : parts) {
        content.push_back({{"type", type}, {"text", part}});
        if (role == "assistant") content.back()["annotations"] = ordered_json::array();
    }
    return {{"id", id},
            {"type", "message"},
            {"status", "completed"},
            {"role", role},
            {"content", std::move(content)}};
}

std::string StoredTurn::previous() const {
    const ordered_json& id = response.at(kPrevious);
    return id.is_string() ? id.get<std::string>() : "";
}

std::string StoredTurn::answer() const {
    return response.at("output").at(0).at("content").at(0).at("text").get<std::string>();
}

std::string turn_text(const StoredTurn& turn) {
    ordered_json input = ordered_json::array();
    for (const InputItem& item : turn.input)
        input.push_back({{"id", item.id}, {"role", item.role}, {"parts", item.parts}});
    return json_text({{"response", turn.response},
                      {"input", std::move(input)},
                      {"subjects", turn.subjects},
                      {"names_account", turn.names_account}});
}

StoredTurn parse_turn(std::string_view text) {
    try {
        const ordered_json json = ordered_json::parse(text);
        StoredTurn turn;
        turn.response = json.at("response");
        for (const ordered_json& item : json.at("input")) {
            turn.input.push_back({item.at("id").get<std::string>(),
                                  item.at("role").get<std::string>(),
                                  item.at("parts").get<std::vector<std::string>>()});
        }
        turn.subjects = json.at("subjects").get<std::vector<std::string>>();
        turn.names_account = json.at("names_account").get<bool>();
        (void)turn.previous();  // what is read later is there
        (void)turn.answer();
        return turn;
    } catch (const nlohmann::json::exception&) {
        throw Error(ExitCode::invalid, "the stored response is no turn of a conversation");
    }
}

StoredTurn find_turn(const Site& site, const Call& call, const std::string& id) {
    try {
        const auto stored =
            site.ledger->responses().get(call.key.tenant, id, static_cast<std::uint64_t>(call.now));
        if (!stored) throw no_such(id);
        StoredTurn turn = parse_turn(stored->content);
        turn.ids = stored->head.subjects;
        turn.n_bytes = stored->content.size();
        return turn;
    } catch (const Error& error) {
        log_note(error.message());
        throw ApiError(500, "server_error", "response_unreadable",
                       "the stored response cannot be read");
    }
}

std::vector<StoredTurn> turns_before(const Site& site, const Call& call, const StoredTurn& turn,
                                     bool is_whole) {
    std::vector<StoredTurn> turns;
    std::size_t n_bytes = turn.n_bytes;
    for (std::string id = turn.previous(); !id.empty(); id = turns.back().previous()) {
        try {
            turns.push_back(find_turn(site, call, id));
        } catch (const ApiError& error) {
            if (error.status() != 404 || is_whole) throw;
            break;
        }
        n_bytes += turns.back().n_bytes;
        if (turns.size() < kTurnsMax && n_bytes <= kBodyBytesMax) continue;
        throw field_error(kPrevious,
                          fmt::format("{}: the conversation has more than {} turns or {} bytes",
                                      kPrevious, kTurnsMax, kBodyBytesMax));
    }
    std::reverse(turns.begin(), turns.end());
    return turns;
}

}  // namespace etalon::serve
