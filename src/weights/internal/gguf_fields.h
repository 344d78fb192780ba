// SPDX-License-Identifier: Apache-2.0
// Typed access to the metadata of a GGUF file; a value of another type or range is refused by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "text/tokenizer_data.h"
#include "weights/internal/gguf.h"

namespace etalon::weights {

/// For integer(): no fallback, the key must be there.
inline constexpr std::int64_t kRequired = -1;

class GgufFields {
  public:
    GgufFields(const GgufFile& gguf, const std::string& file) : gguf_(gguf), file_(file) {}

    const GgufValue* find(std::string_view key) const noexcept { return gguf_.find(key); }
    /// In [value_min, value_max]; the fallback is not checked. A key that must be there has no
    /// fallback.
    std::int64_t integer(std::string_view key, std::optional<std::int64_t> fallback,
                         std::int64_t value_min, std::int64_t value_max) const;
    float number(std::string_view key, std::optional<float> fallback) const;
    bool boolean(std::string_view key, bool fallback) const;
    std::string string(std::string_view key, std::optional<std::string> fallback) const;
    /// An array of strings; nullptr when there is none.
    const GgufValue* strings(std::string_view key) const;
    /// An array of `count` numbers, integers or floats; nullptr when there is none.
    const GgufValue* numbers(std::string_view key, std::uint64_t count, bool floats) const;
    [[noreturn]] void fail(std::string_view key, std::string_view reason) const;

  private:
    const GgufFile& gguf_;
    const std::string& file_;
};

/// tokenizer.ggml.* and tokenizer.chat_template.
text::TokenizerData read_gguf_tokenizer(const GgufFields& fields);

}  // namespace etalon::weights
