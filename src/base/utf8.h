// SPDX-License-Identifier: Apache-2.0
// Well-formed UTF-8 (Unicode, table 3-7): no overlong forms, no surrogates, nothing over U+10FFFF.
#pragma once

#include <cstddef>
#include <string_view>

namespace etalon {

/// Length of the well-formed sequence at `text[i]`, 0 when there is none.
std::size_t utf8_length(std::string_view text, std::size_t i) noexcept;

bool is_utf8(std::string_view text) noexcept;

}  // namespace etalon
