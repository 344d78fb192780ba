// SPDX-License-Identifier: Apache-2.0
// Configuration from TOML.
#include "serve/config.h"

#include <cstdlib>
#include <fmt/format.h>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/file.h"

namespace etalon::serve {

namespace {

constexpr std::size_t kConfigBytesMax = 1 << 20;

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::filesystem::path folder_of(const char* variable, const char* below_home) {
    const std::string chosen = environment(variable);
    const std::filesystem::path base = chosen.empty()
                                           ? std::filesystem::path(environment("HOME")) / below_home
                                           : std::filesystem::path(chosen);
    return base / "etalon";
}

[[noreturn]] void wrong(const std::string& file, const toml::source_region& where,
                        const std::string& what) {
    throw Error(ExitCode::usage, fmt::format("{} ({}, line {})", what, file, where.begin.line));
}

std::string text_of(const toml::node& node, const std::string& file, const std::string& key) {
    if (const auto* text = node.as_string()) return text->get();
    wrong(file, node.source(), fmt::format("{} is not a string", key));
}

/// A list of strings; one string alone is a list too.
std::vector<std::string> texts_of(const toml::node& node, const std::string& file,
                                  const std::string& key) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return {text_of(node, file, key)};
    std::vector<std::string> texts;
    for (const toml::node& one : *array)
        texts.push_back(text_of(one, file, key));
    return texts;
}

void read_key(const std::string& key, const toml::node& node, const std::string& file,
              Config& config) {
    if (key == "listen") {
        config.listen = texts_of(node, file, key);
    } else if (key == "models") {
        config.models = texts_of(node, file, key);
    } else if (key == "hosts") {
        config.hosts = texts_of(node, file, key);
    } else if (key == "cors_origins") {
        config.cors_origins = texts_of(node, file, key);
    } else if (key == "certificate") {
        config.certificate = text_of(node, file, key);
    } else if (key == "private_key") {
        config.private_key = text_of(node, file, key);
    } else if (key == "sandbox") {
        config.sandbox = text_of(node, file, key);
        if (config.sandbox != "strict" && config.sandbox != "best-effort") {
            wrong(file, node.source(), "sandbox is neither strict nor best-effort");
        }
    } else {
        wrong(file, node.source(), fmt::format("unknown key {}", printable(key, 64)));
    }
}

}  // namespace

std::filesystem::path config_folder() {
    return folder_of("XDG_CONFIG_HOME", ".config");
}

std::filesystem::path data_folder() {
    return folder_of("XDG_DATA_HOME", ".local/share");
}

std::filesystem::path database_path() {
    return data_folder() / "etalon.db";
}

Config read_config(const std::filesystem::path& path) {
    const std::string text = read_file(path, kConfigBytesMax);
    const std::string file = printable(path.string());
    Config config;
    try {
        const toml::table table = toml::parse(text, path.string());
        for (const auto& [key, node] : table)
            read_key(std::string(key.str()), node, file, config);
    } catch (const toml::parse_error& error) {
        wrong(file, error.source(), std::string(error.description()));
    }
    return config;
}

Config load_config() {
    Config config;
    const std::filesystem::path candidates[] = {config_folder() / "etalon.toml",
                                                "/etc/etalon/etalon.toml"};
    for (const std::filesystem::path& path : candidates) {
        std::error_code error;
        if (!std::filesystem::exists(path, error)) continue;
        config = read_config(path);
        break;
    }
    const std::string listen = environment("ETALON_LISTEN");
    if (!listen.empty()) config.listen = {listen};
    return config;
}

}  // namespace etalon::serve
