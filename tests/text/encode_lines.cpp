// SPDX-License-Identifier: Apache-2.0
// encode_lines SOURCE [--special]: reads one text a line, in hexadecimal, and prints the token ids
// of each. SOURCE: tokenizer.model, the JSON of our own files (*.etalon.json), or tokenizer.json.
// It lets compare_tokenizers.py hold the tokenizers against their peers.
#include <cstddef>
#include <cstdio>
#include <iostream>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"

namespace {

using etalon::Error;
using etalon::ExitCode;

etalon::text::TokenizerData read_source(const std::string& path) {
    const std::string content = etalon::read_file(path, etalon::text::kTokenizerFileBytesMax);
    if (path.ends_with(".model")) {
        return etalon::text::read_tokenizer_model(std::as_bytes(std::span(content)), path);
    }
    if (path.ends_with(".etalon.json")) return etalon::text::tokenizer_from_json(content, path);
    return etalon::text::read_tokenizer_json(content, path);
}

std::string from_hex(std::string_view line) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    std::string out;
    for (std::size_t i = 0; i + 1 < line.size(); i += 2) {
        const auto high = kDigits.find(line[i]);
        const auto low = kDigits.find(line[i + 1]);
        if (high == std::string_view::npos || low == std::string_view::npos) {
            throw Error(ExitCode::usage, "a line of the input is not hexadecimal");
        }
        out.push_back(static_cast<char>(high * 16 + low));
    }
    return out;
}

int encode_lines(const std::string& source, bool special) {
    const etalon::text::Tokenizer tokenizer(read_source(source));
    for (std::string line; std::getline(std::cin, line);) {
        const auto ids = tokenizer.encode(from_hex(line), {.special = special, .add_bos = false});
        std::string out;
        for (const auto id : ids)
            out += (out.empty() ? "" : " ") + std::to_string(id);
        std::puts(out.c_str());
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::span arguments(argv, static_cast<std::size_t>(argc));
    if (argc < 2 || argc > 3) {
        std::fputs("usage: encode_lines SOURCE [--special] < lines in hexadecimal\n", stderr);
        return static_cast<int>(ExitCode::usage);
    }
    try {
        return encode_lines(arguments[1], argc == 3 && arguments[2] == std::string("--special"));
    } catch (const Error& error) {
        std::fprintf(stderr, "etalon: error: %s\n", error.what());
        return static_cast<int>(error.code());
    }
}
