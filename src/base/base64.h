// SPDX-License-Identifier: Apache-2.0
// Base64 (RFC 4648 section 4), in its one canonical form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace etalon {

std::string to_base64(std::string_view bytes);

/// nullopt for anything that to_base64() would not write: other characters, line ends, missing
/// padding, bits set behind the last byte. So no two texts stand for the same bytes.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace etalon
