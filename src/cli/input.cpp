// SPDX-License-Identifier: Apache-2.0
// Text from stdin, bounded.
#include "cli/input.h"

#include <array>
#include <cstdio>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::cli {

std::string read_stdin(const std::string& what) {
    std::string text;
    std::array<char, 65536> buffer{};
    for (;;) {
        const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), stdin);
        text.append(buffer.data(), n);
        if (text.size() > kTextBytesMax) {
            throw Error(ExitCode::usage,
                        fmt::format("{} has more than {} bytes", what, kTextBytesMax));
        }
        if (n < buffer.size()) break;
    }
    if (std::ferror(stdin) != 0) throw Error(ExitCode::failure, "stdin cannot be read");
    return text;
}

}  // namespace etalon::cli
