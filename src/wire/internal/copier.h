// SPDX-License-Identifier: Apache-2.0
// Copies fields out of a verified frame, each within its limit and all together within the frame.
#pragma once

#include <cstddef>
#include <flatbuffers/flatbuffers.h>
#include <fmt/format.h>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/utf8.h"

namespace etalon::wire {

template <typename T>
using Vector = flatbuffers::Vector<T>;

[[noreturn]] inline void refuse_frame(const char* field, const std::string& why) {
    throw Error(ExitCode::invalid, fmt::format("frame: {}: {}", field, why));
}

/// Copies fields out of a verified frame. `left_` bounds all copies together by the size of the
/// frame: many offsets may point at one string, and each copy of it is counted.
class Copier {
  public:
    explicit Copier(std::size_t frame_bytes) : left_(frame_bytes) {}

    std::string bytes(const char* data, std::size_t size, const char* field, std::size_t max) {
        if (size > max) refuse_frame(field, fmt::format("{} bytes, at most {}", size, max));
        spend(size, field);
        return {data, size};
    }
    std::string text(const flatbuffers::String* value, const char* field, std::size_t max) {
        if (value == nullptr) refuse_frame(field, "is missing");
        std::string copy = bytes(value->c_str(), value->size(), field, max);
        if (!is_utf8(copy)) refuse_frame(field, "is not UTF-8");
        return copy;
    }
    template <typename T>
    std::vector<T> numbers(const Vector<T>* values, const char* field, std::size_t max) {
        const std::size_t n = count(values, field, max);
        spend(n * sizeof(T), field);
        std::vector<T> copy(n);
        for (std::size_t i = 0; i < n; ++i)
            copy[i] = values->Get(static_cast<flatbuffers::uoffset_t>(i));
        return copy;
    }
    /// A list of tables or strings: the number of its entries.
    template <typename T>
    std::size_t count(const Vector<T>* values, const char* field, std::size_t max) {
        if (values == nullptr) refuse_frame(field, "is missing");
        if (values->size() > max) {
            refuse_frame(field, fmt::format("{} entries, at most {}", values->size(), max));
        }
        return values->size();
    }
    /// A list, each entry read by `read_one`.
    template <typename T, typename ReadOne>
    auto list(const Vector<T>* values, const char* field, std::size_t max,
              const ReadOne& read_one) {
        const std::size_t n = count(values, field, max);
        spend(n * sizeof(flatbuffers::uoffset_t), field);
        std::vector<decltype(read_one(values->Get(0)))> items;
        items.reserve(n);
        for (const auto* item : *values)
            items.push_back(read_one(item));
        return items;
    }

  private:
    void spend(std::size_t size, const char* field) {
        if (size > left_) refuse_frame(field, "what it holds is larger than the frame");
        left_ -= size;
    }

    std::size_t left_;
};

template <typename Table>
const Table& present(const Table* table, const char* field) {
    if (table == nullptr) refuse_frame(field, "is missing");
    return *table;
}

}  // namespace etalon::wire
