// SPDX-License-Identifier: Apache-2.0
// One record has one form, and every other sequence of bytes is refused.
#include "ledger/record.h"

#include <array>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <rapidcheck/gtest.h>
#include <string>

#include "base/error.h"
#include "ledger/commitment.h"
#include "ledger/json.h"
#include "ledger/limits.h"

namespace etalon::ledger {
namespace {

std::string hex(std::uint64_t seed, std::size_t n) {
    std::string text;
    while (text.size() < n) {
        seed = seed * 6364136223846793005U + 1442695040888963407U;
        text += "0123456789abcdef"[seed >> 60];
    }
    return text;
}

/// What people and their programs record; the server's configuration is one of these.
Body random_deed(std::uint64_t seed) {
    const std::string hash = hex(seed, kHashDigits);
    const std::string id = hex(seed + 1, kIdDigits);
    switch (seed / 16 % 6) {
        case 0:
            return ApiKey{"created", seed % 999, "infer,audit", id};
        case 1:
            return Licence{id, "apache-2.0", hash, hex(seed + 6, kHashDigits)};
        case 2:
            return Replay{seed % 10, seed % 3, "checksum", seed % 500, "cpu/avx2"};
        case 3:
            return Review{seed % 10, id, "objection", hash};
        case 4:
            return LiveCheck{hash, seed % 10, hex(seed + 7, kHashDigits), "same"};
        default:
            break;
    }
    Configuration configuration{hash, {}, seed % 2 == 0 ? hash : "", "strict", "none", {}};
    for (std::uint64_t k = 0; k < seed % 4; ++k) {
        configuration.listen.push_back("127.0.0.1:8080");
        configuration.retention.push_back({hex(seed + k, kIdDigits), k, 10 + k});
    }
    return configuration;
}

/// A record of each kind in turn, with values drawn from the seed.
Record random_record(std::uint64_t seed) {
    Record record{10 + seed % 1000, seed % 10, seed % kIntegerMax, Shutdown{}};
    const std::string hash = hex(seed, kHashDigits);
    const std::string id = hex(seed + 1, kIdDigits);
    switch (seed % 14) {
        case 0:
            record.body = Boot{{hash}, "etalon 0.1.0"};
            record.boot = record.seq;
            break;
        case 1:
            break;
        case 2:
            record.body = ModelLoad{hash, "a name", "llama", "cpu", 2, seed % 9999, 7};
            break;
        case 3:
            record.body = Intent{id,
                                 seed % 3,
                                 3,
                                 id,
                                 {id, hex(seed + 2, 32)},
                                 4,
                                 hash,
                                 1 + seed % 128,
                                 9,
                                 seed % 77,
                                 hash,
                                 hex(seed + 3, 64),
                                 hash};
            break;
        case 4: {
            Complete complete{seed % 10, id, {}, seed % 5000, hash, hex(seed + 4, 64)};
            for (std::uint64_t k = 0; k <= seed % 5; ++k)
                complete.answers.push_back({"stop", k, hash, hex(seed + k, 64), hash});
            record.body = complete;
            break;
        }
        case 5:
            record.body = Erase{id, "request"};
            break;
        case 6:
            record.body = ContentRead{seed % 10, "complaint 17",
                                      std::array{"open", "replay", "stored"}.at(seed / 9 % 3)};
            break;
        case 7:
            record.body = EraseRefused{seed % 2 == 0 ? "hold" : "minimum", {id, hex(seed + 5, 32)}};
            break;
        case 8:
            record.body = LogRead{seed % 10, 10 + seed % 90, "export"};
            break;
        default:
            record.body = random_deed(seed);
            break;
    }
    return record;
}

bool refused(std::string_view bytes) {
    try {
        (void)parse_record(bytes);
        return false;
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid) << error.message();
        return true;
    }
}

RC_GTEST_PROP(Record, what_is_written_comes_back_equal, (std::uint64_t seed)) {
    const Record record = random_record(seed);
    const std::string bytes = write_record(record);
    RC_ASSERT(parse_record(bytes) == record);
}

/// The form is that of a JSON library that sorts members and writes no spaces.
RC_GTEST_PROP(Record, a_json_library_writes_the_same_bytes, (std::uint64_t seed)) {
    const std::string bytes = write_record(random_record(seed));
    RC_ASSERT(nlohmann::json::parse(bytes).dump() == bytes);
}

RC_GTEST_PROP(Record, a_changed_byte_is_refused_or_is_another_record, (std::uint64_t seed)) {
    const Record record = random_record(seed);
    const std::string bytes = write_record(record);
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        std::string changed = bytes;
        changed[i] = static_cast<char>(changed[i] ^ static_cast<char>(1U << (seed + i) % 8));
        if (refused(changed)) continue;
        const Record again = parse_record(changed);
        RC_ASSERT(!(again == record));
        if (!std::holds_alternative<Unknown>(again.body)) RC_ASSERT(write_record(again) == changed);
    }
}

RC_GTEST_PROP(Record, a_record_that_is_cut_or_goes_on_is_refused, (std::uint64_t seed)) {
    const std::string bytes = write_record(random_record(seed));
    for (std::size_t size = 0; size < bytes.size(); ++size)
        RC_ASSERT(refused(bytes.substr(0, size)));
    RC_ASSERT(refused(bytes + "\n"));
    RC_ASSERT(refused(bytes + "}"));
}

TEST(Record, other_forms_of_the_same_values_are_refused) {
    const std::string good = R"({"boot":0,"kind":"shutdown","seq":1,"time_us":5,"v":1})";
    EXPECT_FALSE(refused(good));
    for (const char* bad : {
             R"({"boot":0, "kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"kind":"shutdown","boot":0,"seq":1,"time_us":5,"v":1})",
             R"({"boot":0,"boot":0,"kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"boot":00,"kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"boot":0.0,"kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"boot":-0,"kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"boot":0,"kind":"shut\u0064own","seq":1,"time_us":5,"v":1})",
             R"({"boot":0,"kind":"shutdown","seq":1e0,"time_us":5,"v":1})",
             R"({"boot":0,"kind":"shutdown","more":0,"seq":1,"time_us":5,"v":1})",
             R"({"boot":0,"kind":"shutdown","seq":1,"time_us":9007199254740992,"v":1})",
             R"({"boot":0,"kind":"shutdown","seq":1,"time_us":5,"v":2})",
             R"({"boot":1,"kind":"shutdown","seq":1,"time_us":5,"v":1})",
             R"({"boot":0,"kind":"shutdown","seq":1,"time_us":5})",
             R"([])",
             "",
         })
        EXPECT_TRUE(refused(bad)) << bad;
}

/// Words and forms of the kinds that people and their programs write.
TEST(Record, values_that_no_kind_has_are_refused) {
    const std::string id = hex(1, kIdDigits);
    const std::string hash = hex(2, kHashDigits);
    const auto is_refused = [](const Body& body) {
        return refused(write_record({20, 3, 5, body}));
    };
    const Configuration configuration{hash, {"[::1]:8080"}, hash, "best-effort", "always", {}};
    EXPECT_FALSE(is_refused(configuration));
    Configuration changed = configuration;
    changed.certificate = id;
    EXPECT_TRUE(is_refused(changed));
    changed = configuration;
    changed.sandbox = "none";
    EXPECT_TRUE(is_refused(changed));
    changed = configuration;
    changed.signatures = "";
    EXPECT_TRUE(is_refused(changed));
    changed = configuration;
    changed.retention = {{hash, 1, 2}};
    EXPECT_TRUE(is_refused(changed));
    EXPECT_FALSE(is_refused(ApiKey{"revoked", 0, "", id}));
    EXPECT_TRUE(is_refused(ApiKey{"shown", 0, "", id}));
    EXPECT_FALSE(is_refused(Licence{id, "", hash, hash}));
    EXPECT_TRUE(is_refused(Licence{"anna", "", hash, hash}));
    for (const char* verdict : {"match", "token", "checksum", "both", "end", "failed"})
        EXPECT_FALSE(is_refused(Replay{19, 0, verdict, 0, ""})) << verdict;
    EXPECT_TRUE(is_refused(Replay{19, 0, "none", 0, ""}));
    EXPECT_TRUE(is_refused(Replay{20, 0, "match", 0, ""}));
    EXPECT_FALSE(is_refused(Review{19, id, "ok", hash}));
    EXPECT_TRUE(is_refused(Review{20, id, "ok", hash}));
    EXPECT_TRUE(is_refused(Review{19, id, "maybe", hash}));
    EXPECT_TRUE(is_refused(Review{19, id, "ok", "it is fine"}));
    EXPECT_FALSE(is_refused(LiveCheck{hash, 0, hash, "changed"}));
    EXPECT_TRUE(is_refused(LiveCheck{hash, 0, hash, "other"}));
    EXPECT_TRUE(is_refused(LiveCheck{hash, 0, "1", "same"}));
}

TEST(Record, the_largest_configuration_is_an_entry) {
    Configuration configuration{hex(1, 64), {}, hex(2, 64), "best-effort", "changed", {}};
    for (int i = 0; i < 64; ++i)
        configuration.listen.push_back("[1234:1234:1234:1234:1234:1234:123.123.123.123]:65535");
    for (std::size_t i = 0; i < kRetentionRulesMax; ++i)
        configuration.retention.push_back(
            {hex(i, kIdDigits), kRetentionDaysMax, kRetentionDaysMax});
    const std::string bytes = write_record({kIntegerMax, 0, kIntegerMax, configuration});
    EXPECT_LE(bytes.size(), kRecordBytesMax);
    EXPECT_FALSE(refused(bytes));
}

TEST(Record, an_unknown_kind_is_read_with_what_every_record_has) {
    const Record record =
        parse_record(R"({"boot":3,"kind":"weather","rain":true,"seq":7,"time_us":5,"v":1})");
    EXPECT_EQ(kind_of(record), "weather");
    EXPECT_EQ(record.seq, 7U);
    EXPECT_TRUE(refused(R"({"boot":9,"kind":"weather","seq":7,"time_us":5,"v":1})"));
}

TEST(Record, depth_is_bounded) {
    const auto nested = [](int depth) {
        return R"({"boot":0,"kind":"odd","more":)" + std::string(depth, '[') +
               std::string(depth, ']') + R"(,"seq":1,"time_us":5,"v":1})";
    };
    EXPECT_FALSE(refused(nested(kRecordDepthMax - 1)));
    EXPECT_TRUE(refused(nested(kRecordDepthMax)));
    EXPECT_TRUE(refused(nested(10000)));
}

TEST(Record, the_largest_complete_record_is_an_entry) {
    Complete complete{1, hex(1, kIdDigits), {}, kIntegerMax, hex(2, 64), hex(3, 64)};
    for (std::size_t i = 0; i < kAnswersMax; ++i) {
        complete.answers.push_back(
            {"cancelled", kIntegerMax, hex(i, 64), hex(i + 1, 64), hex(i + 2, 64)});
    }
    const std::string bytes = write_record({kIntegerMax, 0, kIntegerMax, complete});
    EXPECT_LE(bytes.size(), kRecordBytesMax);
    EXPECT_FALSE(refused(bytes));
}

TEST(Commitment, the_example_of_the_page) {
    EXPECT_EQ(commitment(Key{}, label::kText, "Hello"),
              "f108a267a83816957700090aa4a24638de479b77e7054a48d73aff82ed827187");
}

TEST(Json, a_string_is_escaped_as_a_json_library_does) {
    std::string text = "\u00e9\u2028";
    for (char c = 1; c < 127; ++c)
        text += c;
    text += '\x7f';
    EXPECT_EQ(nlohmann::json::parse(json_string(text)).get<std::string>(), text);
    EXPECT_EQ(json_string("a\"\\\n\x01"), R"("a\"\\\n\u0001")");
}

TEST(Json, a_name_of_a_model_becomes_plain) {
    EXPECT_EQ(plain("Mod\u00e8le \"7B\"\n"), "Mod??le ?7B??");
    EXPECT_TRUE(is_plain(plain(std::string(10000, '\xff'))));
}

}  // namespace
}  // namespace etalon::ledger
