// SPDX-License-Identifier: Apache-2.0
// Configuration from TOML and from variables.
#include "serve/config.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <fmt/format.h>
#include <toml++/toml.h>

#include "base/error.h"
#include "base/file.h"
#include "base/token_key.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {

constexpr std::size_t kConfigBytesMax = 1 << 20;
constexpr const char* kSystemFile = "/etc/etalon/etalon.toml";
constexpr std::int64_t kThreadsMax = 4096;                      // of any machine that is known
constexpr std::int64_t kContextMax = 1 << 24;                   // the longest of any model
constexpr std::int64_t kCacheBytesMax = std::int64_t{1} << 50;  // beyond any memory

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

/// `where`: "FILE, line 3" or a variable.
[[noreturn]] void wrong(const std::string& where, const std::string& what) {
    throw Error(ExitCode::usage, fmt::format("{} ({})", what, where));
}

void check_number(const ConfigKey& key, std::int64_t value, const std::string& where) {
    if (value >= 0 && value <= key.number_max) return;
    wrong(where, fmt::format("{} is {}, accepted are 0 to {}", key.name, value, key.number_max));
}

void check_text(const ConfigKey& key, const std::string& text, const std::string& where) {
    if (key.choices.empty()) return;
    std::string all;
    for (const char* choice : key.choices) {
        if (text == choice) return;
        all += all.empty() ? choice : std::string(", ") + choice;
    }
    wrong(where, fmt::format("{} is {}, accepted are {}", key.name, printable(text, 64), all));
}

std::string config_text(const toml::node& node, const ConfigKey& key, const std::string& where) {
    if (const auto* text = node.as_string()) return text->get();
    wrong(where, fmt::format("{} is not a string", key.name));
}

/// A list of strings; one string alone is a list too.
Texts texts_of(const toml::node& node, const ConfigKey& key, const std::string& where) {
    const toml::array* array = node.as_array();
    if (array == nullptr) {
        if (node.is_string()) return {config_text(node, key, where)};
        wrong(where, fmt::format("{} is neither a string nor a list of strings", key.name));
    }
    Texts texts;
    for (const toml::node& one : *array)
        texts.push_back(config_text(one, key, where));
    return texts;
}

struct FromToml {
    const toml::node& node;
    const ConfigKey& key;
    const std::string& where;
    Config& config;

    void operator()(Texts Config::*field) const { config.*field = texts_of(node, key, where); }
    void operator()(std::string Config::*field) const {
        config.*field = config_text(node, key, where);
        check_text(key, config.*field, where);
    }
    void operator()(std::int64_t Config::*field) const {
        const auto* number = node.as_integer();
        if (number == nullptr) wrong(where, fmt::format("{} is not an integer", key.name));
        config.*field = number->get();
        check_number(key, config.*field, where);
    }
    void operator()(bool Config::*field) const {
        const auto* flag = node.as_boolean();
        if (flag == nullptr) wrong(where, fmt::format("{} is neither true nor false", key.name));
        config.*field = flag->get();
    }
};

struct FromVariable {
    const std::string& text;
    const ConfigKey& key;
    const std::string& where;
    Config& config;

    void operator()(Texts Config::*field) const {
        Texts texts;
        for (std::size_t start = 0; start <= text.size();) {
            const std::size_t comma = std::min(text.find(',', start), text.size());
            texts.push_back(text.substr(start, comma - start));
            if (texts.back().empty()) {
                wrong(where, fmt::format("{} has an empty part between commas", key.name));
            }
            start = comma + 1;
        }
        config.*field = texts;
    }
    void operator()(std::string Config::*field) const {
        check_text(key, text, where);
        config.*field = text;
    }
    void operator()(std::int64_t Config::*field) const {
        std::int64_t number = 0;
        const char* end = text.data() + text.size();
        const auto [parsed, error] = std::from_chars(text.data(), end, number);
        if (error != std::errc() || parsed != end) {
            wrong(where, fmt::format("{} is not an integer", key.name));
        }
        check_number(key, number, where);
        config.*field = number;
    }
    void operator()(bool Config::*field) const {
        if (text != "true" && text != "false") {
            wrong(where, fmt::format("{} is neither true nor false", key.name));
        }
        config.*field = text == "true";
    }
};

void read_file_into(const std::filesystem::path& path, Config& config) {
    const std::string text = read_file(path, kConfigBytesMax);
    const std::string file = printable(path.string());
    const auto where = [&](const toml::source_region& region) {
        return fmt::format("{}, line {}", file, region.begin.line);
    };
    try {
        const toml::table table = toml::parse(text, path.string());
        for (const auto& [name, node] : table) {
            const auto& keys = config_keys();
            // Copied: clang 14 lets no lambda see a structured binding.
            const std::string_view its_name = name.str();
            const auto key = std::find_if(keys.begin(), keys.end(), [&](const ConfigKey& one) {
                return its_name == one.name;
            });
            const std::string line = where(name.source());
            if (key == keys.end()) {
                wrong(line, fmt::format("unknown key {}", printable(its_name, 64)));
            }
            std::visit(FromToml{node, *key, line, config}, key->field);
            config.origins[key->name] =
                fmt::format("{}:{}", path.string(), name.source().begin.line);
        }
    } catch (const toml::parse_error& error) {
        wrong(where(error.source()), std::string(error.description()));
    }
}

}  // namespace

const std::vector<ConfigKey>& config_keys() {
    static const std::vector<ConfigKey> keys{
        {"listen", &Config::listen, 0, {}},
        {"models", &Config::models, 0, {}},
        {"hosts", &Config::hosts, 0, {}},
        {"cors_origins", &Config::cors_origins, 0, {}},
        {"certificate", &Config::certificate, 0, {}},
        {"private_key", &Config::private_key, 0, {}},
        {"sandbox", &Config::sandbox, 0, {"strict", "best-effort"}},
        {"device", &Config::device, 0, {}},
        {"threads", &Config::threads, kThreadsMax, {}},
        {"context", &Config::context, kContextMax, {}},
        {"cache_bytes", &Config::cache_bytes, kCacheBytesMax, {}},
        {"require_signature", &Config::require_signature, 0, {}},
        {"public_key", &Config::public_key, 0, {}},
        {"signing_key", &Config::signing_key, 0, {}},
        {"verify", &Config::verify, 0, {"changed", "always"}},
        {"retention", &Config::retention, 0, {}},
        {"stored_days", &Config::stored_days, ledger::kStoredDaysMax, {}},
        {"stored_responses", &Config::stored_responses, ledger::kStoredResponsesMax, {}},
        {"self_check", &Config::self_check, kSelfCheckMax, {}},
    };
    return keys;
}

std::string config_text(const Config& config) {
    struct Json {
        std::string operator()(const Texts& texts) const {
            std::vector<std::string> all;
            for (const std::string& text : texts)
                all.push_back(ledger::json_string(text));
            return ledger::json_array(all);
        }
        std::string operator()(const std::string& text) const { return ledger::json_string(text); }
        std::string operator()(std::int64_t number) const { return fmt::format("{}", number); }
        std::string operator()(bool flag) const { return flag ? "true" : "false"; }
    };
    ledger::Members members;
    for (const ConfigKey& key : config_keys()) {
        const auto text = [&](auto field) { return Json{}(config.*field); };
        members.add_json(key.name, std::visit(text, key.field));
    }
    return members.text();
}

std::string config_variable(const ConfigKey& key) {
    std::string name = std::string("ETALON_") + key.name;
    for (char& c : name)
        c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    return name;
}

std::filesystem::path config_folder() {
    return folder_of("XDG_CONFIG_HOME", ".config");
}

std::filesystem::path data_folder() {
    return folder_of("XDG_DATA_HOME", ".local/share");
}

std::filesystem::path database_path() {
    return data_folder() / "etalon.db";
}

Config read_config(std::span<const std::filesystem::path> files) {
    Config config;
    for (const std::filesystem::path& file : files) {
        std::error_code error;
        if (std::filesystem::exists(file, error)) read_file_into(file, config);
    }
    return config;
}

void read_variables(Config& config) {
    for (const ConfigKey& key : config_keys()) {
        const std::string variable = config_variable(key);
        const std::string text = environment(variable.c_str());
        if (text.empty()) continue;
        std::visit(FromVariable{text, key, variable, config}, key.field);
        config.origins[key.name] = variable;
    }
}

Config load_config() {
    const std::array<std::filesystem::path, 2> files{kSystemFile, config_folder() / "etalon.toml"};
    Config config = read_config(files);
    read_variables(config);
    if (is_token_key(config.signing_key) && has_pin(config.signing_key)) {
        throw Error(ExitCode::usage,
                    fmt::format("{}: signing_key has a PIN, and records name a hash of the "
                                "configuration",
                                config.origins["signing_key"]),
                    "pin-source=FILE in the place of pin-value");
    }
    return config;
}

}  // namespace etalon::serve
