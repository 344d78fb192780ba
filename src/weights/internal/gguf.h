// SPDX-License-Identifier: Apache-2.0
// The GGUF container, versions 2 and 3: metadata pairs and tensor descriptions. Nothing is copied;
// strings and tensors point into the file.
//   const GgufFile gguf = parse_gguf(bytes, "model.gguf");
//   const GgufValue* name = gguf.find("general.name");
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weights/model_file.h"

namespace etalon::weights {

/// Numbers are those of the format.
enum class GgufType : std::uint32_t {
    u8 = 0,
    i8 = 1,
    u16 = 2,
    i16 = 3,
    u32 = 4,
    i32 = 5,
    f32 = 6,
    boolean = 7,
    string = 8,
    array = 9,
    u64 = 10,
    i64 = 11,
    f64 = 12,
};

/// A value of the metadata. An array has `element_type` and `count`; a scalar has count 1.
struct GgufValue {
    GgufType type = GgufType::u8;  ///< of the value, or of the elements of an array
    bool is_array = false;
    std::uint64_t count = 1;
    std::span<const std::byte> raw;         ///< numbers: count * size of the type
    std::vector<std::string_view> strings;  ///< type string: `count` of them

    bool is_integer() const noexcept;
    bool is_float() const noexcept { return type == GgufType::f32 || type == GgufType::f64; }
    /// Element i of an integer or boolean value; unsigned 64-bit values above the range saturate.
    std::int64_t integer_at(std::uint64_t i) const noexcept;
    double float_at(std::uint64_t i) const noexcept;
};

/// A matrix or vector, or with a third dimension a stack of matrices, one behind the other.
struct GgufTensor : Tensor {
    std::int64_t n_stacked = 1;  ///< matrices of n_rows x n_cols in `data`
};

struct GgufFile {
    std::uint32_t version = 0;
    std::map<std::string_view, GgufValue> values;
    std::vector<GgufTensor> tensors;

    const GgufValue* find(std::string_view key) const noexcept;
};

/// Errors: invalid, naming the field and the reason. Every count, length, offset and size is
/// checked against the file before it is used.
GgufFile parse_gguf(std::span<const std::byte> bytes, const std::string& file);

}  // namespace etalon::weights
