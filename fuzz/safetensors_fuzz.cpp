// SPDX-License-Identifier: Apache-2.0
// A safetensors file, and Etalon's own E8 file in it: an Error, or a model that can be used.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "weights/internal/e8_file.h"
#include "weights/internal/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    try {
        const auto bytes = std::as_bytes(std::span(data, size));
        const auto file = etalon::weights::parse_safetensors(bytes, "input");
        if (!etalon::weights::is_e8_file(file)) return 0;
        const auto model = etalon::weights::read_e8_model(file, "input");
        etalon::weights::check_finite(model.tensors, "input");
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
