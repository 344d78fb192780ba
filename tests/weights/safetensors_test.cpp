// SPDX-License-Identifier: Apache-2.0
// Headers of safetensors files that are wrong in one place each.
#include "weights/internal/safetensors.h"

#include "small_models.h"

namespace etalon::weights {
namespace {

using nlohmann::json;

constexpr const char* kSmallFile = "small.safetensors";

SafetensorsFile parse(const std::string& bytes) {
    return parse_safetensors(std::as_bytes(std::span(bytes)), kSmallFile);
}

json entry(const json& shape, const json& offsets, const json& dtype = "F32") {
    return {{"dtype", dtype}, {"shape", shape}, {"data_offsets", offsets}};
}

/// A header, with 16 bytes of data behind it.
void expect_header_refused(const json& header, std::vector<std::string> parts) {
    parts.emplace_back(kSmallFile);
    const std::string bytes = safetensors_of(header, std::string(16, '\0'));
    expect_refused([&] { return parse(bytes); }, parts);
}

void expect_text_refused(const std::string& header, std::vector<std::string> parts) {
    parts.emplace_back(kSmallFile);
    const std::string bytes = raw(std::uint64_t{header.size()}) + header;
    expect_refused([&] { return parse(bytes); }, parts);
}

TEST(Safetensors, entries_come_in_the_order_of_their_data) {
    const json header{{"__metadata__", {{"format", "pt"}}},
                      {"b", entry({2}, {0, 8})},
                      {"a", entry({1, 2}, {8, 16})}};
    const std::string bytes = safetensors_of(header, "0123456789abcdef");
    const SafetensorsFile file = parse(bytes);
    ASSERT_EQ(file.entries.size(), 2U);
    EXPECT_EQ(file.entries[0].name, "b");
    EXPECT_EQ(file.entries[1].name, "a");
    EXPECT_EQ(file.entries[1].shape, (std::vector<std::int64_t>{1, 2}));
    EXPECT_EQ(std::memcmp(file.entries[1].data.data(), "89abcdef", 8), 0);
    EXPECT_EQ(file.metadata.at("format"), "pt");
    EXPECT_EQ(parse(safetensors_of(json::object(), "")).entries.size(), 0U);
}

TEST(Safetensors, wrong_lengths) {
    expect_refused([] { return parse(""); },
                   {"header length", "the file ends before it", kSmallFile});
    expect_refused([] { return parse("1234567"); }, {"header length"});
    expect_refused([] { return parse(raw(std::uint64_t{1})); }, {"header length", "is 1, "});
    expect_refused([] { return parse(raw(~std::uint64_t{0}) + "{}"); },
                   {"header length", "is 18446744073709551615", "at most 100000000"});
    const std::string whole = safetensors_of({{"a", entry({4}, {0, 16})}}, std::string(16, '\0'));
    for (std::size_t size = 0; size < whole.size(); ++size)
        expect_refused([&] { return parse(whole.substr(0, size)); }, {kSmallFile});
    expect_refused([&] { return parse(whole + "x"); }, {"data", "16 bytes are used"});
}

TEST(Safetensors, headers_that_are_no_json) {
    expect_text_refused("", {"header", "is no JSON at byte"});
    expect_text_refused("{\"a\":", {"header", "is no JSON at byte"});
    expect_text_refused("{\"a\": \xFF}", {"header", "is no JSON at byte"});
    expect_text_refused("[1]", {"header", "is no JSON object"});
    expect_text_refused(std::string(100000, '['), {"header", "is nested too deeply"});
    expect_text_refused("{\"a\": 1e999}", {"header", "a number out of range"});
    expect_text_refused(R"({"a": 1, "a": 2})", {"header", "names a twice"});
}

TEST(Safetensors, wrong_entries) {
    const auto refused = [](const json& value, const std::string& reason) {
        expect_header_refused({{"w", value}}, {"tensor w", reason});
    };
    refused(1, "is no JSON object");
    refused(json::object(), "has no dtype");
    refused({{"dtype", "F32"}}, "has no shape");
    refused({{"dtype", "F32"}, {"shape", {4}}}, "has no data_offsets");
    refused(entry({4}, {0, 16}, 7), "dtype is no text");
    refused(entry({4}, {0, 16}, "F8"), "type F8 is not known");
    refused(entry({4}, {0}), "data_offsets are not two");
    refused(entry({4}, {0, 8, 16}), "data_offsets is no list of at most 2 numbers");
    refused(entry({4}, {0, -16}), "data_offsets holds no number");
    refused(entry({4.0}, {0, 16}), "shape holds no number");
    refused(entry({-4}, {0, 16}), "shape holds no number");
    refused(entry({4, 0}, {0, 16}), "a dimension of 0 is out of range");
    refused(entry({1U << 31U, 1U << 31U, 1U << 31U}, {0, 16}), "is out of range");
    refused(entry({~std::uint64_t{0}}, {0, 16}), "a dimension of 18446744073709551615");
    refused(entry(json::array({1, 1, 1, 1, 1, 1, 1, 1, 4}), {0, 16}), "at most 8 numbers");
    refused(entry({4}, {16, 0}), "data_offsets 16 to 0, the file has 16 bytes");
    refused(entry({4}, {0, 17}), "data_offsets 0 to 17, the file has 16 bytes");
    refused(entry({3}, {0, 16}), "has 16 bytes, its shape needs 12");
    expect_header_refused({{std::string(600, 'w'), entry({4}, {0, 16})}}, {"has too long a name"});
}

TEST(Safetensors, overlaps_and_holes) {
    expect_header_refused({{"a", entry({3}, {0, 12})}, {"b", entry({2}, {8, 16})}},
                          {"tensor b", "overlaps tensor a"});
    expect_header_refused({{"a", entry({4}, {0, 16})}, {"b", entry({4}, {0, 16})}},
                          {"tensor b", "overlaps tensor a"});
    expect_header_refused({{"a", entry({1}, {0, 4})}, {"b", entry({2}, {8, 16})}},
                          {"tensor b", "4 bytes before it belong to none"});
    expect_header_refused({{"a", entry({3}, {4, 16})}},
                          {"tensor a", "4 bytes before it belong to none"});
    expect_header_refused({{"a", entry({3}, {0, 12})}},
                          {"data", "12 bytes are used, the file has 16"});
}

TEST(Safetensors, wrong_metadata) {
    expect_header_refused({{"__metadata__", 1}}, {"__metadata__", "is no JSON object"});
    expect_header_refused({{"__metadata__", {{"a\n", 1}}}},
                          {R"(__metadata__ a\x0a)", "is no text"});
}

}  // namespace
}  // namespace etalon::weights
