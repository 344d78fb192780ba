// SPDX-License-Identifier: Apache-2.0
// A GGUF file: an Error, or a model that can be used.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "use_model.h"
#include "weights/internal/contents.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const auto bytes = std::as_bytes(std::span(data, size));
        etalon::fuzz::use_model(etalon::weights::read_gguf_model(bytes, "input"));
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
