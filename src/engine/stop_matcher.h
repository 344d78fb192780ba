// SPDX-License-Identifier: Apache-2.0
// Finds stop strings in a text that comes in pieces, and holds back what may become one.
//
// Example, stop strings {"END"}: push("an E") gives "an " and holds "E"; push("ND!") gives "" and
// the match. Had "N!" come instead, "EN!" would have been given at once.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::engine {

class StopMatcher {
  public:
    /// Strings that are not empty; none at all holds nothing back.
    explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

    struct Result {
        std::string text;                 ///< can be shown: no part of a stop string
        std::optional<std::size_t> stop;  ///< index of the stop string that is complete
    };
    /// The match is the one that ends first, and of those that end together the longest. So the
    /// text before it does not depend on the pieces. After a match nothing more is pushed.
    Result push(std::string_view piece);

    /// What is held back; no stop string will be completed any more.
    std::string finish() { return std::move(held_); }

  private:
    std::optional<std::size_t> stop_at_end() const;
    std::size_t prefix_at_end() const;

    std::vector<std::string> stops_;
    std::string held_;  // the longest end of the text that begins a stop string
};

}  // namespace etalon::engine
