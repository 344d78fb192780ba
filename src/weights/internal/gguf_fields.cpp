// SPDX-License-Identifier: Apache-2.0
// Typed access to the metadata of a GGUF file.
#include "weights/internal/gguf_fields.h"

#include <fmt/format.h>

#include "base/error.h"
#include "weights/internal/contents.h"

namespace etalon::weights {

void GgufFields::fail(std::string_view key, std::string_view reason) const {
    refuse(file_, key, reason);
}

std::int64_t GgufFields::integer(std::string_view key, std::optional<std::int64_t> fallback,
                                 std::int64_t value_min, std::int64_t value_max) const {
    const GgufValue* value = find(key);
    if (value == nullptr) {
        if (!fallback || *fallback == kRequired) fail(key, "is missing");
        return *fallback;
    }
    if (value->is_array || !value->is_integer()) fail(key, "must be an integer");
    const std::int64_t number = value->integer_at(0);
    if (number < value_min || number > value_max) {
        fail(key, fmt::format("{} is outside of {} to {}", number, value_min, value_max));
    }
    return number;
}

float GgufFields::number(std::string_view key, std::optional<float> fallback) const {
    const GgufValue* value = find(key);
    if (value == nullptr) {
        if (!fallback) fail(key, "is missing");
        return *fallback;
    }
    if (value->is_array || !value->is_float()) fail(key, "must be a floating-point number");
    return static_cast<float>(value->float_at(0));
}

bool GgufFields::boolean(std::string_view key, bool fallback) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return fallback;
    if (value->is_array || value->type != GgufType::boolean) fail(key, "must be true or false");
    return value->integer_at(0) != 0;
}

std::string GgufFields::string(std::string_view key, std::optional<std::string> fallback) const {
    const GgufValue* value = find(key);
    if (value == nullptr) {
        if (!fallback) fail(key, "is missing");
        return *fallback;
    }
    if (value->is_array || value->type != GgufType::string) fail(key, "must be a string");
    return std::string(value->strings[0]);
}

const GgufValue* GgufFields::strings(std::string_view key) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return nullptr;
    if (!value->is_array || value->type != GgufType::string) fail(key, "must hold strings");
    return value;
}

const GgufValue* GgufFields::numbers(std::string_view key, std::uint64_t count, bool floats) const {
    const GgufValue* value = find(key);
    if (value == nullptr) return nullptr;
    const bool right_type = floats ? value->is_float() : value->is_integer();
    if (!value->is_array || !right_type) fail(key, "must hold numbers of another type");
    if (value->count != count) {
        fail(key, fmt::format("has {} values, the vocabulary has {}", value->count, count));
    }
    return value;
}

}  // namespace etalon::weights
