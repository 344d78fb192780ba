// SPDX-License-Identifier: Apache-2.0
// The container format safetensors, read as hostile input.
#include "weights/internal/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/json_text.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

namespace {

using nlohmann::json;

constexpr std::size_t kDimensionsMax = 8;
// Products of eight dimensions are checked one after the other; each fits 64 bits below this.
constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 40;

constexpr std::array<std::pair<std::string_view, std::uint64_t>, 12> kDtypeBytes{{
    {"F32", 4},
    {"F16", 2},
    {"BF16", 2},
    {"I8", 1},
    {"U8", 1},
    {"F64", 8},
    {"I16", 2},
    {"U16", 2},
    {"I32", 4},
    {"U32", 4},
    {"I64", 8},
    {"BOOL", 1},
}};

std::uint64_t read_length(std::span<const std::byte> bytes) noexcept {
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kHeaderLengthBytes);  // little endian, as every machine here
    return length;
}

json parse_header(std::string_view text, const std::string& file) {
    json header = parse_json_text(text, "header", file);
    if (!header.is_object()) refuse(file, "header", "is no JSON object");
    return header;
}

/// A field of one entry of the header.
class EntryReader {
  public:
    EntryReader(const json& entry, const std::string& name, const std::string& file)
        : entry_(entry), field_("tensor " + name), file_(file) {
        if (!entry.is_object()) fail("is no JSON object");
    }

    [[noreturn]] void fail(const std::string& reason) const { refuse(file_, field_, reason); }

    const json& member(const char* key) const {
        const auto found = entry_.find(key);
        if (found == entry_.end()) fail(fmt::format("has no {}", key));
        return *found;
    }

    std::vector<std::uint64_t> numbers(const char* key, std::size_t count_max) const {
        const json& list = member(key);
        if (!list.is_array() || list.size() > count_max) {
            fail(fmt::format("{} is no list of at most {} numbers", key, count_max));
        }
        std::vector<std::uint64_t> out;
        for (const json& number : list) {
            if (!number.is_number_unsigned()) fail(fmt::format("{} holds no number", key));
            out.push_back(number.get<std::uint64_t>());
        }
        return out;
    }

    std::string dtype() const {
        const json& value = member("dtype");
        if (!value.is_string()) fail("dtype is no text");
        return value.get<std::string>();
    }

  private:
    const json& entry_;
    std::string field_;
    const std::string& file_;
};

std::uint64_t bytes_of(const std::string& dtype, const EntryReader& reader) {
    for (const auto& [name, bytes] : kDtypeBytes) {
        if (dtype == name) return bytes;
    }
    reader.fail(fmt::format("type {} is not known", dtype));
}

SafetensorsEntry read_entry(const json& value, const std::string& name,
                            std::span<const std::byte> data, const std::string& file) {
    const EntryReader reader(value, name, file);
    SafetensorsEntry entry{name, reader.dtype(), {}, {}};
    std::uint64_t elements = 1;
    for (const std::uint64_t dimension : reader.numbers("shape", kDimensionsMax)) {
        if (dimension < 1 || dimension > kElementsMax || elements > kElementsMax / dimension) {
            reader.fail(fmt::format("a dimension of {} is out of range", dimension));
        }
        elements *= dimension;
        entry.shape.push_back(static_cast<std::int64_t>(dimension));
    }
    const std::uint64_t needed = elements * bytes_of(entry.dtype, reader);
    const auto offsets = reader.numbers("data_offsets", 2);
    if (offsets.size() != 2) reader.fail("data_offsets are not two");
    if (offsets[0] > offsets[1] || offsets[1] > data.size()) {
        reader.fail(fmt::format("data_offsets {} to {}, the file has {} bytes of data", offsets[0],
                                offsets[1], data.size()));
    }
    if (offsets[1] - offsets[0] != needed) {
        reader.fail(
            fmt::format("has {} bytes, its shape needs {}", offsets[1] - offsets[0], needed));
    }
    entry.data = data.subspan(offsets[0], needed);
    return entry;
}

/// The format allows neither shared bytes nor bytes that no tensor has: two readers would not agree
/// on what such a file holds. `entries` are in the order of their data.
void check_order(const std::vector<SafetensorsEntry>& entries, std::span<const std::byte> data,
                 const std::string& file) {
    std::size_t end = 0;
    for (std::size_t i = 0; i < entries.size(); ++i) {
        const auto begin = static_cast<std::size_t>(entries[i].data.data() - data.data());
        const std::string field = "tensor " + entries[i].name;
        if (begin < end) {
            refuse(file, field, fmt::format("overlaps tensor {}", printable(entries[i - 1].name)));
        }
        if (begin > end) {
            refuse(file, field, fmt::format("{} bytes before it belong to none", begin - end));
        }
        end = begin + entries[i].data.size();
    }
    if (end != data.size()) {
        refuse(file, "data", fmt::format("{} bytes are used, the file has {}", end, data.size()));
    }
}

void read_metadata(const json& value, const std::string& file,
                   std::map<std::string, std::string>& out) {
    if (!value.is_object()) refuse(file, "__metadata__", "is no JSON object");
    for (const auto& [key, text] : value.items()) {
        if (!text.is_string()) refuse(file, "__metadata__ " + key, "is no text");
        out[key] = text.get<std::string>();
    }
}

}  // namespace

bool looks_like_safetensors(std::span<const std::byte> bytes) noexcept {
    return bytes.size() > kHeaderLengthBytes && bytes[kHeaderLengthBytes] == std::byte{'{'} &&
           read_length(bytes) <= kSafetensorsHeaderMax;
}

SafetensorsFile parse_safetensors(std::span<const std::byte> bytes, const std::string& file) {
    if (bytes.size() < kHeaderLengthBytes) refuse(file, "header length", "the file ends before it");
    const std::uint64_t length = read_length(bytes);
    const std::uint64_t held = bytes.size() - kHeaderLengthBytes;
    if (length > kSafetensorsHeaderMax || length > held) {
        refuse(file, "header length",
               fmt::format("is {}, the file has {} more bytes, at most {} are read", length, held,
                           kSafetensorsHeaderMax));
    }
    const auto* text = reinterpret_cast<const char*>(bytes.data() + kHeaderLengthBytes);
    const json header = parse_header({text, length}, file);
    const auto data = bytes.subspan(kHeaderLengthBytes + length);
    if (header.size() > kTensorsMax) refuse(file, "header", "names too many tensors");
    SafetensorsFile out;
    for (const auto& [name, value] : header.items()) {
        if (name == "__metadata__") {
            read_metadata(value, file, out.metadata);
            continue;
        }
        if (name.size() > kNameBytesMax) refuse(file, "tensor " + name, "has too long a name");
        out.entries.push_back(read_entry(value, name, data, file));
    }
    std::sort(out.entries.begin(), out.entries.end(), [](const auto& a, const auto& b) {
        return std::pair(a.data.data(), a.name) < std::pair(b.data.data(), b.name);
    });
    check_order(out.entries, data, file);
    return out;
}

}  // namespace etalon::weights
