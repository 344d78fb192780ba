// SPDX-License-Identifier: Apache-2.0
// `etalon config`: what the server would be configured with, and where each value comes from.
#include "serve/config.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/output.h"

#include "base/error.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr int kValueColumns = 48;

struct ConfigOptions {
    bool show_origin = false;
    bool json = false;
};

/// The configuration as `etalon serve` without flags has it.
serve::Config effective_config() {
    serve::Config config = serve::load_config();
    if (!config.models.empty()) return config;
    config.models = {default_model_path().string()};
    if (std::getenv("ETALON_MODEL") != nullptr) config.origins["models"] = "ETALON_MODEL";
    return config;
}

void show(const ConfigOptions& options) {
    const serve::Config config = effective_config();
    ordered_json all = ordered_json::object();
    for (const serve::ConfigKey& key : serve::config_keys()) {
        const ordered_json value =
            std::visit([&](auto field) { return ordered_json(config.*field); }, key.field);
        const auto found = config.origins.find(key.name);
        const std::string origin = found == config.origins.end() ? "default" : found->second;
        if (options.json) {
            all[key.name] = value;
            if (options.show_origin) all[key.name] = {{"value", value}, {"origin", origin}};
            continue;
        }
        // Strings and lists of strings in JSON are TOML too.
        const std::string line =
            fmt::format("{} = {}", key.name,
                        value.dump(-1, ' ', false, ordered_json::error_handler_t::replace));
        print(options.show_origin
                  ? fmt::format("{:<{}} # {}\n", line, kValueColumns, printable(origin, 4096))
                  : line + "\n");
    }
    if (options.json) print_json(all);
}

}  // namespace

void add_config(CLI::App& app) {
    CLI::App* command = app.add_subcommand("config", "show the configuration of the server");
    const auto options = std::make_shared<ConfigOptions>();
    command->add_flag("--show-origin", options->show_origin,
                      "and where each value comes from: a file and line, a variable, default");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { show(*options); });
}

}  // namespace etalon::cli
