// SPDX-License-Identifier: Apache-2.0
// The bundle of a model signature and the statement in it. The first byte chooses: the bundle as it
// stands, or a statement. Refused with an Error, or a statement whose
// files are in order and whole, and which comes back equal when it is written again.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "weights/internal/oms_bundle.h"
#include "weights/internal/oms_statement.h"

namespace {

namespace weights = etalon::weights;

const weights::PrivateKey& key() {
    static const weights::PrivateKey made = weights::PrivateKey::generate();
    return made;
}

void check(weights::Statement statement) {
    ETALON_ASSERT(!statement.files.empty());
    const std::string* last = nullptr;
    for (const weights::SignedFile& file : statement.files) {
        ETALON_ASSERT(last == nullptr || *last < file.name);
        ETALON_ASSERT(file.name == weights::kOnlyFile || weights::is_plain_name(file.name));
        ETALON_ASSERT(!file.ranges.empty());
        std::uint64_t next = 0;
        for (const weights::SignedRange& range : file.ranges) {
            if (!statement.has_shards()) continue;
            ETALON_ASSERT(range.begin == next && range.end > range.begin);
            ETALON_ASSERT(range.end - range.begin <= statement.shard_bytes);
            next = range.end;
        }
        last = &file.name;
    }
    const std::string text = weights::format_statement(statement);
    const weights::Statement again = weights::parse_statement(text, "again");
    ETALON_ASSERT(again.root == statement.root && again.files.size() == statement.files.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
    try {
        if (data[0] % 2 == 0) {
            // A key of this process has signed no input.
            (void)weights::open_bundle(text, key().public_key(), "input");
            etalon::assertion_failed("a bundle that nobody signed", __FILE__, __LINE__);
        }
        check(weights::parse_statement(text, "input"));
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
