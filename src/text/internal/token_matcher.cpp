// SPDX-License-Identifier: Apache-2.0
// A tree whose edges lie in one hash table: nodes are many, children of a node few.
#include "text/internal/token_matcher.h"

#include "base/error.h"
#include "text/internal/limits.h"
#include "text/tokenizer_data.h"

namespace etalon::text {
namespace {

std::uint64_t edge(std::uint32_t node, char byte) {
    return std::uint64_t{node} << 8 | static_cast<std::uint8_t>(byte);
}

}  // namespace

void TokenMatcher::add(std::string_view token, std::int32_t id) {
    if (token.empty() || token.size() > kSpecialBytesMax) {
        throw Error(ExitCode::invalid, "tokenizer token " + std::to_string(id) +
                                           ": control and added tokens have 1 to " +
                                           std::to_string(kSpecialBytesMax) + " bytes, this one " +
                                           std::to_string(token.size()));
    }
    bytes_total_ += token.size();
    if (bytes_total_ > kSpecialBytesTotalMax) {
        throw Error(ExitCode::invalid,
                    "tokenizer tokens: control and added tokens have more than " +
                        std::to_string(kSpecialBytesTotalMax) + " bytes");
    }
    if (nodes_.empty()) nodes_.push_back(kNoToken);
    begins_[static_cast<std::uint8_t>(token[0])] = true;
    std::uint32_t node = 0;
    for (const char byte : token) {
        const auto next = static_cast<std::uint32_t>(nodes_.size());
        const auto [child, is_new] = children_.try_emplace(edge(node, byte), next);
        if (is_new) nodes_.push_back(kNoToken);
        node = child->second;
    }
    nodes_[node] = id;
}

TokenMatcher::Match TokenMatcher::longest_at(std::string_view text, std::size_t at) const {
    Match longest{kNoToken, 0};
    if (!begins_[static_cast<std::uint8_t>(text[at])]) return longest;
    std::uint32_t node = 0;
    for (std::size_t i = at; i < text.size(); ++i) {
        const auto child = children_.find(edge(node, text[i]));
        if (child == children_.end()) break;
        node = child->second;
        if (nodes_[node] != kNoToken) {
            longest = {nodes_[node], static_cast<std::uint32_t>(i + 1 - at)};
        }
    }
    return longest;
}

}  // namespace etalon::text
