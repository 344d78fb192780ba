// SPDX-License-Identifier: Apache-2.0
// `etalon tokenize MODEL TEXT`: token ids and the bytes they stand for.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/load.h"
#include "cli/output.h"

#include "base/error.h"
#include "text/tokenizer.h"
#include "weights/model_file.h"

namespace etalon::cli {

namespace {

struct TokenizeOptions {
    std::string model;
    std::string text;
    bool special = false;
    bool no_bos = false;
    bool json = false;
};

void tokenize(const TokenizeOptions& options) {
    const auto file = weights::ModelFile::open(options.model);
    const text::Tokenizer tokenizer = load_tokenizer(file);
    const std::string text = options.text == "-" ? read_stdin("the text") : options.text;
    const std::vector<std::int32_t> ids =
        tokenizer.encode(text, {.special = options.special, .add_bos = !options.no_bos});
    if (options.json) {
        std::vector<std::string> pieces;
        for (const std::int32_t id : ids)
            pieces.push_back(printable(tokenizer.token_bytes(id, true)));
        print_json({{"ids", ids}, {"pieces", pieces}});
        return;
    }
    std::string lines;
    for (const std::int32_t id : ids)
        lines += fmt::format("{:>7}  {}\n", id, printable(tokenizer.token_bytes(id, true)));
    print(lines);
}

}  // namespace

void add_tokenize(CLI::App& app) {
    CLI::App* command = app.add_subcommand("tokenize", "print the token ids of a text");
    const auto options = std::make_shared<TokenizeOptions>();
    command->add_option("MODEL", options->model, "model file or folder")->required();
    command->add_option("TEXT", options->text, "text; - reads stdin")->required();
    command->add_flag("--special", options->special,
                      "texts of control tokens become these tokens (never for untrusted text)");
    command->add_flag("--no-bos", options->no_bos, "no beginning token");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { tokenize(*options); });
}

}  // namespace etalon::cli
