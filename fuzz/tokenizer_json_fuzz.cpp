// SPDX-License-Identifier: Apache-2.0
// Any bytes as a tokenizer.json (what follows a zero byte: its tokenizer_config.json) and as the
// JSON of our own files: an Error, or data that make a tokenizer and come back exactly.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"

namespace {

using etalon::Error;
using etalon::ExitCode;
using etalon::text::TokenizerData;

template <typename Read>
void use(const Read& read) {
    TokenizerData data;
    try {
        data = read();
    } catch (const Error& error) {
        ETALON_ASSERT(error.code() == ExitCode::invalid);
        return;
    }
    const auto stored = etalon::text::tokenizer_to_json(data);
    ETALON_ASSERT(etalon::text::tokenizer_from_json(stored, "fuzz") == data);
    try {
        const etalon::text::Tokenizer tokenizer(data);
        const auto ids = tokenizer.encode("It's 12  ab\n<|im_end|>\xFF", {.special = true});
        tokenizer.decode(ids, true);
    } catch (const Error& error) {
        ETALON_ASSERT(error.code() == ExitCode::invalid);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    const std::string_view input(reinterpret_cast<const char*>(bytes), size);
    const auto zero = input.find('\0');
    const auto json = input.substr(0, zero);
    const auto config = zero == std::string_view::npos ? "" : input.substr(zero + 1);
    use([&] { return etalon::text::read_tokenizer_json(json, "fuzz", config); });
    use([&] { return etalon::text::tokenizer_from_json(json, "fuzz"); });
    return 0;
}
