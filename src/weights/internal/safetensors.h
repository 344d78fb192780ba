// SPDX-License-Identifier: Apache-2.0
// The container format safetensors: eight bytes of header length, a JSON header, then the data.
//   const SafetensorsFile file = parse_safetensors(map.bytes(), path);
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::weights {

/// Of the header's length, in front of it; little endian.
inline constexpr std::size_t kHeaderLengthBytes = 8;

struct SafetensorsEntry {
    std::string name;
    std::string dtype;                ///< "F32", "BF16", "I8", ...
    std::vector<std::int64_t> shape;  ///< every dimension in [1, 2^40], at most 8 of them
    std::span<const std::byte> data;  ///< exactly what dtype and shape need, inside the file
};

struct SafetensorsFile {
    std::map<std::string, std::string> metadata;
    std::vector<SafetensorsEntry> entries;  ///< in the order of their data
};

/// Checks every size. Errors: invalid, with `file`, field and reason.
SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, const std::string& file);

/// True when the first bytes can be those of a safetensors file.
bool looks_like_safetensors(std::span<const std::byte> bytes) noexcept;

}  // namespace etalon::weights
