// SPDX-License-Identifier: Apache-2.0
// Any bytes as config.json and as generation_config.json: an Error, or a configuration in its
// ranges that our own files store and give back.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "exact/rope.h"
#include "weights/internal/etalon_config.h"
#include "weights/internal/hf_config.h"

namespace {

namespace weights = etalon::weights;

template <typename Read>
void use(const Read& read) {
    try {
        read();
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(bytes), size);
    use([&] {
        const auto config = weights::read_hf_config(text, "input");
        const auto stored = weights::config_to_json(config);
        ETALON_ASSERT(weights::config_to_json(weights::config_from_json(stored, "stored")) ==
                      stored);
        const auto turns = etalon::exact::rope_turns(config.rope);
        ETALON_ASSERT(turns.size() == static_cast<std::size_t>(config.rope.n_dims / 2));
    });
    use([&] { weights::read_hf_end_tokens(text, 1000, "input"); });
    return 0;
}
