// SPDX-License-Identifier: Apache-2.0
// The GGUF container, versions 2 and 3.
#include "weights/internal/gguf.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

namespace {

using exact::Format;

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr std::size_t kPairBytesMin = 8 + 4 + 1;
constexpr std::size_t kTensorBytesMin = 8 + 4 + 8 + 4 + 8;

std::size_t scalar_bytes(GgufType type) noexcept {
    switch (type) {
        case GgufType::u8:
        case GgufType::i8:
        case GgufType::boolean:
            return 1;
        case GgufType::u16:
        case GgufType::i16:
            return 2;
        case GgufType::u32:
        case GgufType::i32:
        case GgufType::f32:
            return 4;
        case GgufType::u64:
        case GgufType::i64:
        case GgufType::f64:
            return 8;
        default:
            return 0;
    }
}

/// Numbers of the file's tensor types that Etalon computes, and the names of those that it does
/// not.
struct NamedType {
    std::uint32_t id;
    std::string_view name;
    std::optional<Format> format;
};
constexpr std::array<NamedType, 33> kTensorTypes{{
    {0, "F32", Format::f32},        {1, "F16", Format::f16},       {2, "Q4_0", Format::q4_0},
    {3, "Q4_1", Format::q4_1},      {6, "Q5_0", Format::q5_0},     {7, "Q5_1", Format::q5_1},
    {8, "Q8_0", Format::q8_0},      {9, "Q8_1", std::nullopt},     {10, "Q2_K", Format::q2_k},
    {11, "Q3_K", Format::q3_k},     {12, "Q4_K", Format::q4_k},    {13, "Q5_K", Format::q5_k},
    {14, "Q6_K", Format::q6_k},     {15, "Q8_K", std::nullopt},    {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt},   {18, "IQ3_XXS", std::nullopt}, {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", Format::iq4_nl}, {21, "IQ3_S", std::nullopt},   {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", Format::iq4_xs}, {24, "I8", std::nullopt},      {25, "I16", std::nullopt},
    {26, "I32", std::nullopt},      {27, "I64", std::nullopt},     {28, "F64", std::nullopt},
    {29, "IQ1_M", std::nullopt},    {30, "BF16", Format::bf16},    {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},    {39, "MXFP4", std::nullopt},   {40, "NVFP4", std::nullopt},
}};

class GgufParser {
  public:
    GgufParser(std::span<const std::byte> bytes, const std::string& file)
        : bytes_(bytes), file_(file) {}

    GgufFile parse();

  private:
    struct PendingTensor {
        GgufTensor tensor;
        std::uint64_t offset = 0;  // from the start of the data section
        std::uint64_t size = 0;
    };

    std::size_t left() const noexcept { return bytes_.size() - at_; }
    std::span<const std::byte> take(std::uint64_t size, std::string_view field);
    template <typename T>
    T number(std::string_view field);
    std::string_view string(std::uint64_t bytes_max, std::string_view field);
    GgufType type(std::string_view field);
    GgufValue value(std::string_view key);
    void read_pairs(std::uint64_t count);
    PendingTensor tensor(std::uint64_t index);
    void read_shape(GgufTensor& tensor, std::string_view field);
    void place(std::vector<PendingTensor>& pending);
    std::uint64_t alignment() const;
    [[noreturn]] void fail(std::string_view field, const std::string& reason) const {
        refuse(file_, field, reason);
    }

    std::span<const std::byte> bytes_;
    const std::string& file_;
    std::size_t at_ = 0;
    GgufFile out_;
};

std::span<const std::byte> GgufParser::take(std::uint64_t size, std::string_view field) {
    if (size > left()) {
        fail(field, fmt::format("needs {} bytes at offset {}, the file has {} bytes", size, at_,
                                bytes_.size()));
    }
    const auto part = bytes_.subspan(at_, static_cast<std::size_t>(size));
    at_ += part.size();
    return part;
}

template <typename T>
T GgufParser::number(std::string_view field) {
    T out;
    std::memcpy(&out, take(sizeof(T), field).data(), sizeof(T));
    return out;
}

std::string_view GgufParser::string(std::uint64_t bytes_max, std::string_view field) {
    const auto length = number<std::uint64_t>(field);
    if (length > bytes_max) {
        fail(field, fmt::format("a string of {} bytes, at most {} are read", length, bytes_max));
    }
    const auto part = take(length, field);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
}

GgufType GgufParser::type(std::string_view field) {
    const auto id = number<std::uint32_t>(field);
    if (id > static_cast<std::uint32_t>(GgufType::f64)) {
        fail(field, fmt::format("value type {} is unknown", id));
    }
    return static_cast<GgufType>(id);
}

GgufValue GgufParser::value(std::string_view key) {
    GgufValue value;
    value.type = type(key);
    if (value.type == GgufType::array) {
        value.is_array = true;
        value.type = type(key);
        if (value.type == GgufType::array) fail(key, "arrays of arrays are not supported");
        value.count = number<std::uint64_t>(key);
    }
    if (value.type == GgufType::string) {
        constexpr std::size_t kStringBytesMin = 8;
        if (value.count > left() / kStringBytesMin) {
            fail(key, fmt::format("{} strings do not fit in the file", value.count));
        }
        value.strings.reserve(static_cast<std::size_t>(value.count));
        for (std::uint64_t i = 0; i < value.count; ++i)
            value.strings.push_back(string(kStringBytesMax, key));
        return value;
    }
    const std::size_t size = scalar_bytes(value.type);
    if (value.count > left() / size) {
        fail(key, fmt::format("{} values do not fit in the file", value.count));
    }
    value.raw = take(value.count * size, key);
    return value;
}

void GgufParser::read_pairs(std::uint64_t count) {
    if (count > kGgufPairsMax || count > left() / kPairBytesMin) {
        fail("kv_count", fmt::format("{} pairs do not fit", count));
    }
    for (std::uint64_t i = 0; i < count; ++i) {
        const std::string_view key = string(kKeyBytesMax, fmt::format("key {}", i));
        GgufValue pair = value(key);
        if (!out_.values.emplace(key, std::move(pair)).second) fail(key, "is there twice");
    }
}

void GgufParser::read_shape(GgufTensor& tensor, std::string_view field) {
    constexpr std::uint32_t kDimsMax = 4;  // of the format; the last one must be 1
    const auto n_dims = number<std::uint32_t>(field);
    if (n_dims < 1 || n_dims > kDimsMax) fail(field, fmt::format("has {} dimensions", n_dims));
    std::array<std::uint64_t, kDimsMax> dims{1, 1, 1, 1};
    for (std::uint32_t i = 0; i < n_dims; ++i)
        dims[i] = number<std::uint64_t>(field);
    // Each below 2^31: the product of two, and that with the bytes of a block, fits in 64 bits; a
    // stack is held against the file matrix by matrix.
    constexpr auto kExtentMax =
        static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max());
    constexpr std::array<std::uint64_t, kDimsMax> kMost{kExtentMax, kExtentMax, kExpertsMax, 1};
    for (std::uint32_t i = 0; i < kDimsMax; ++i) {
        if (dims[i] == 0 || dims[i] > kMost[i]) {
            fail(field, fmt::format("dimension {} is {}", i, dims[i]));
        }
    }
    tensor.n_cols = static_cast<std::int64_t>(dims[0]);
    tensor.n_rows = static_cast<std::int64_t>(dims[1]);
    tensor.n_stacked = static_cast<std::int64_t>(dims[2]);
}

GgufParser::PendingTensor GgufParser::tensor(std::uint64_t index) {
    PendingTensor pending;
    pending.tensor.name = string(kNameBytesMax, fmt::format("name of tensor {}", index));
    const std::string field = "tensor " + pending.tensor.name;
    read_shape(pending.tensor, field);
    const auto type_id = number<std::uint32_t>(field);
    const auto* known = std::find_if(kTensorTypes.begin(), kTensorTypes.end(),
                                     [&](const NamedType& type) { return type.id == type_id; });
    if (known == kTensorTypes.end()) fail(field, fmt::format("type {} is unknown", type_id));
    if (!known->format) fail(field, fmt::format("type {} is not supported", known->name));
    pending.tensor.format = *known->format;
    pending.offset = number<std::uint64_t>(field);
    const auto n_cols = static_cast<std::size_t>(pending.tensor.n_cols);
    const auto row_bytes = exact::row_bytes(*known->format, n_cols);
    if (!row_bytes) {
        fail(field,
             fmt::format("rows of {} elements are no whole blocks of {}", n_cols, known->name));
    }
    pending.size = *row_bytes * static_cast<std::uint64_t>(pending.tensor.n_rows);
    const auto n_stacked = static_cast<std::uint64_t>(pending.tensor.n_stacked);
    if (pending.size > bytes_.size() / n_stacked && n_stacked > 1) {
        fail(field, fmt::format("{} matrices of {} bytes do not fit in the file", n_stacked,
                                pending.size));
    }
    pending.size *= n_stacked;
    return pending;
}

std::uint64_t GgufParser::alignment() const {
    const GgufValue* value = out_.find("general.alignment");
    if (value == nullptr) return kGgufAlignmentDefault;
    const bool scalar = value->is_integer() && !value->is_array;
    const std::int64_t bytes = scalar ? value->integer_at(0) : 0;
    constexpr std::int64_t kAlignmentMin = 8;  // the format's own
    if (bytes < kAlignmentMin || bytes > static_cast<std::int64_t>(kGgufAlignmentMax) ||
        !std::has_single_bit(static_cast<std::uint64_t>(bytes))) {
        fail("general.alignment",
             fmt::format("must be a power of two from {} to {}", kAlignmentMin, kGgufAlignmentMax));
    }
    return static_cast<std::uint64_t>(bytes);
}

/// Turns offsets into spans: aligned, inside the file, and apart from each other.
void GgufParser::place(std::vector<PendingTensor>& pending) {
    const std::uint64_t align = alignment();
    const std::uint64_t start = (at_ + align - 1) / align * align;
    for (PendingTensor& item : pending) {
        const std::string field = "tensor " + item.tensor.name;
        if (item.offset % align != 0) {
            fail(field, fmt::format("offset {} is not aligned to {}", item.offset, align));
        }
        const std::uint64_t room = start < bytes_.size() ? bytes_.size() - start : 0;
        if (item.offset > room || item.size > room - item.offset) {
            fail(field, fmt::format("needs {} bytes at offset {}, the file has {} for tensors",
                                    item.size, item.offset, room));
        }
        item.tensor.data = bytes_.subspan(static_cast<std::size_t>(start + item.offset),
                                          static_cast<std::size_t>(item.size));
    }
    std::vector<const PendingTensor*> order;
    for (const PendingTensor& item : pending)
        order.push_back(&item);
    std::sort(order.begin(), order.end(),
              [](const auto* a, const auto* b) { return a->offset < b->offset; });
    for (std::size_t i = 1; i < order.size(); ++i) {
        if (order[i - 1]->offset + order[i - 1]->size > order[i]->offset) {
            fail("tensor " + order[i]->tensor.name,
                 fmt::format("overlaps tensor {}", printable(order[i - 1]->tensor.name)));
        }
    }
}

GgufFile GgufParser::parse() {
    if (number<std::uint32_t>("magic") != kMagic) fail("magic", "this is not a GGUF file");
    out_.version = number<std::uint32_t>("version");
    if (out_.version != 2 && out_.version != 3) {
        const bool big_endian = (out_.version & 0xFFFFU) == 0;
        fail("version", big_endian ? "big-endian files are not supported"
                                   : fmt::format("{} is not supported, 2 and 3 are", out_.version));
    }
    const auto n_tensors = number<std::uint64_t>("tensor_count");
    const auto n_pairs = number<std::uint64_t>("kv_count");
    read_pairs(n_pairs);
    if (n_tensors > kTensorsMax || n_tensors > left() / kTensorBytesMin) {
        fail("tensor_count", fmt::format("{} tensors do not fit", n_tensors));
    }
    std::vector<PendingTensor> pending;
    std::set<std::string> names;
    for (std::uint64_t i = 0; i < n_tensors; ++i) {
        pending.push_back(tensor(i));
        const std::string& name = pending.back().tensor.name;
        if (!names.insert(name).second) fail("tensor " + name, "is there twice");
    }
    place(pending);
    for (PendingTensor& item : pending)
        out_.tensors.push_back(std::move(item.tensor));
    return std::move(out_);
}

template <typename T>
T load(std::span<const std::byte> raw, std::uint64_t i) noexcept {
    T out;
    std::memcpy(&out, raw.data() + i * sizeof(T), sizeof(T));
    return out;
}

}  // namespace

bool GgufValue::is_integer() const noexcept {
    return type != GgufType::string && type != GgufType::array && !is_float() &&
           type != GgufType::boolean;
}

std::int64_t GgufValue::integer_at(std::uint64_t i) const noexcept {
    ETALON_ASSERT(i < count);
    switch (type) {
        case GgufType::u8:
        case GgufType::boolean:
            return load<std::uint8_t>(raw, i);
        case GgufType::i8:
            return load<std::int8_t>(raw, i);
        case GgufType::u16:
            return load<std::uint16_t>(raw, i);
        case GgufType::i16:
            return load<std::int16_t>(raw, i);
        case GgufType::u32:
            return load<std::uint32_t>(raw, i);
        case GgufType::i32:
            return load<std::int32_t>(raw, i);
        case GgufType::i64:
            return load<std::int64_t>(raw, i);
        case GgufType::u64: {
            constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
            return static_cast<std::int64_t>(std::min(load<std::uint64_t>(raw, i), kMax));
        }
        default:
            ETALON_ASSERT(false);
            return 0;
    }
}

double GgufValue::float_at(std::uint64_t i) const noexcept {
    ETALON_ASSERT(i < count && is_float());
    if (type == GgufType::f64) return load<double>(raw, i);
    return static_cast<double>(load<float>(raw, i));
}

const GgufValue* GgufFile::find(std::string_view key) const noexcept {
    const auto found = values.find(key);
    return found == values.end() ? nullptr : &found->second;
}

GgufFile parse_gguf(std::span<const std::byte> bytes, const std::string& file) {
    return GgufParser(bytes, file).parse();
}

}  // namespace etalon::weights
