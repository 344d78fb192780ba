// SPDX-License-Identifier: Apache-2.0
// Byte by byte, so that the order of matches is that of the text. What is held is shorter than the
// longest stop string, and both numbers of stop strings and of their bytes are limited (limits.h).
#include "engine/stop_matcher.h"

#include <algorithm>

namespace etalon::engine {

StopMatcher::Result StopMatcher::push(std::string_view piece) {
    Result result;
    if (stops_.empty()) return {std::string(piece), std::nullopt};
    for (const char byte : piece) {
        held_.push_back(byte);
        if (const auto stop = stop_at_end()) {
            held_.resize(held_.size() - stops_[*stop].size());
            result.text += held_;
            held_.clear();
            result.stop = stop;
            return result;
        }
        const std::size_t shown = held_.size() - prefix_at_end();
        result.text.append(held_, 0, shown);
        held_.erase(0, shown);
    }
    return result;
}

/// The longest stop string that ends where the held text ends.
std::optional<std::size_t> StopMatcher::stop_at_end() const {
    std::optional<std::size_t> longest;
    for (std::size_t i = 0; i < stops_.size(); ++i) {
        if (!std::string_view(held_).ends_with(stops_[i])) continue;
        if (!longest || stops_[i].size() > stops_[*longest].size()) longest = i;
    }
    return longest;
}

/// Length of the longest end of the held text with which a stop string begins.
std::size_t StopMatcher::prefix_at_end() const {
    const std::string_view held(held_);
    for (std::size_t n = held.size(); n > 0; --n) {
        const std::string_view end = held.substr(held.size() - n);
        const auto begins = [&](const std::string& stop) { return stop.starts_with(end); };
        if (std::any_of(stops_.begin(), stops_.end(), begins)) return n;
    }
    return 0;
}

}  // namespace etalon::engine
