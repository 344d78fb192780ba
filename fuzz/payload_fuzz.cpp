// SPDX-License-Identifier: Apache-2.0
// Payloads of answers: an Error, or a value whose bytes are the ones that were read.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "engine/payload.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    try {
        const etalon::engine::Payload payload = etalon::engine::read_payload(bytes);
        ETALON_ASSERT(etalon::engine::write_payload(payload) == bytes);
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
