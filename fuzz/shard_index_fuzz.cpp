// SPDX-License-Identifier: Apache-2.0
// Any bytes as model.safetensors.index.json beside two files: an Error, or an index that names
// files of its folder only and agrees with what they hold.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "weights/internal/hf_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    namespace weights = etalon::weights;
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    try {
        const weights::ShardIndex index = weights::read_shard_index(text, "index");
        std::vector<weights::Shard> shards;
        for (const std::string& name : index.files) {
            ETALON_ASSERT(name.find('/') == std::string::npos && name.front() != '.');
            shards.push_back({name, {}});
        }
        // The first file holds "a" and "b", the others hold nothing.
        for (const char* name : {"a", "b"})
            shards.front().content.entries.push_back({name, "F32", {1}, {}});
        weights::check_shards(index, shards, "index");
        ETALON_ASSERT(index.file_of.size() == 2);
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
