// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.model: an Error, or data that make a tokenizer.
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    try {
        const auto proto = std::as_bytes(std::span(bytes, size));
        const etalon::text::Tokenizer tokenizer(etalon::text::read_tokenizer_model(proto, "fuzz"));
        const auto ids = tokenizer.encode("ab  abc\xFF<s>", {.special = true});
        tokenizer.decode(ids, true);
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
