// SPDX-License-Identifier: Apache-2.0
// dequantize_file FORMAT: reads stored blocks from stdin, writes their weights as binary32 to
// stdout. tests/weights/compare_gguf.py compares them with another implementation.
#include <cstddef>
#include <cstdio>
#include <iterator>
#include <span>
#include <vector>

#include "exact/formats.h"

namespace {

std::vector<std::byte> read_all(std::FILE* file) {
    std::vector<std::byte> bytes;
    std::byte buffer[65536];
    for (;;) {
        const std::size_t n = std::fread(buffer, 1, sizeof(buffer), file);
        if (n == 0) return bytes;
        bytes.insert(bytes.end(), buffer, buffer + n);
    }
}

}  // namespace

int main(int argc, char** argv) {
    namespace exact = etalon::exact;
    const auto format = argc == 2 ? exact::format_from_name(argv[1]) : std::nullopt;
    if (!format || exact::format_info(*format).kind == exact::FormatKind::row_scaled) {
        std::fprintf(stderr, "usage: dequantize_file FORMAT < blocks > floats\n");
        return 2;
    }
    const std::vector<std::byte> bytes = read_all(stdin);
    const exact::FormatInfo& info = exact::format_info(*format);
    const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
    if (bytes.size() % block_bytes != 0) return 2;
    const std::size_t blocks = bytes.size() / block_bytes;
    std::vector<float> weights(blocks * static_cast<std::size_t>(info.block_elements));
    exact::dequantize_row(*format, bytes, weights);
    const std::size_t written = std::fwrite(weights.data(), sizeof(float), weights.size(), stdout);
    return written == weights.size() ? 0 : 1;
}
