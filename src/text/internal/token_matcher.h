// SPDX-License-Identifier: Apache-2.0
// Finds tokens that are searched in a text before it is split: control and user-defined ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace etalon::text {

/// A tree over the bytes of the tokens. A match at one position reads at most kSpecialBytesMax
/// bytes, so a scan of a text is linear.
class TokenMatcher {
  public:
    struct Match {
        std::int32_t id;     ///< kNoToken: nothing matches
        std::uint32_t size;  ///< bytes
    };

    /// Errors: invalid (empty, longer than kSpecialBytesMax, more than kSpecialBytesTotalMax).
    void add(std::string_view token, std::int32_t id);

    bool empty() const noexcept { return nodes_.empty(); }

    /// The longest token that begins at text[at].
    Match longest_at(std::string_view text, std::size_t at) const;

  private:
    /// Child of a node by byte: key is node · 256 + byte. Node 0 is the root.
    std::unordered_map<std::uint64_t, std::uint32_t> children_;
    std::vector<std::int32_t> nodes_;  ///< id of the token that ends at a node, or kNoToken
    std::size_t bytes_total_ = 0;
    bool begins_[256] = {};
};

}  // namespace etalon::text
