// SPDX-License-Identifier: Apache-2.0
// One turn of a conversation as POST /v1/responses stores it: what the client sent, what it got.
// A turn knows the one before it, so that nothing is stored twice, and deleting one deletes it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "serve/site.h"
#include "wire/messages.h"

namespace etalon::serve {

/// A message as the client sent it.
struct InputItem {
    std::string id;    ///< "msg_..."
    std::string role;  ///< "system", "developer", "user", "assistant"
    std::vector<std::string> parts;

    wire::ChatMessage message() const;
    nlohmann::ordered_json json() const;
};

struct StoredTurn {
    nlohmann::ordered_json response;    ///< as it was sent
    std::vector<InputItem> input;       ///< of this request alone
    std::vector<std::string> subjects;  ///< names, those of the turns before among them
    bool names_account = false;         ///< the tenant is one of them
    std::vector<std::string> ids{};     ///< of the subjects; not part of the content
    std::size_t n_bytes = 0;            ///< as it is stored; likewise

    std::string previous() const;  ///< id of the turn before; "": none
    std::string answer() const;    ///< text
};

/// The content that the ledger stores, and back. Errors: invalid.
std::string turn_text(const StoredTurn& turn);
StoredTurn parse_turn(std::string_view text);

/// The turn with this id. Errors: ApiError 404 where this tenant has none, 500 where the file was
/// changed.
StoredTurn find_turn(const Site& site, const Call& call, const std::string& id);

/// The turns before `turn`, oldest first; as far as they are still stored where `is_whole` is
/// false. Errors: as find_turn, and ApiError 400 for more than kTurnsMax, or texts of more than
/// kBodyBytesMax.
std::vector<StoredTurn> turns_before(const Site& site, const Call& call, const StoredTurn& turn,
                                     bool is_whole);

}  // namespace etalon::serve
