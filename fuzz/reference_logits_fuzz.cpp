// SPDX-License-Identifier: Apache-2.0
// A file of reference logits: refused with an Error, or every row of it can be read.
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cli/reference_logits.h"

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy in words: a mapped file is aligned, the fuzzer's input need not be.
    std::vector<float> aligned((size + sizeof(float) - 1) / sizeof(float));
    const auto bytes = std::as_writable_bytes(std::span(aligned)).first(size);
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<std::byte>(data[i]);
    try {
        const etalon::cli::ReferenceLogits reference(bytes, "input");
        volatile float seen = 0.0F;
        for (std::size_t i = 0; i < reference.n_sequences(); ++i) {
            const std::size_t n_tokens = reference.tokens(i).size();
            for (std::size_t position = 0; position < n_tokens; ++position)
                seen = reference.log_probabilities(i, position).back();
        }
        (void)seen;
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}
