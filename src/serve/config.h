// SPDX-License-Identifier: Apache-2.0
// etalon.toml, its variables, and the folders of configuration and data.
//   listen = ["127.0.0.1:8080"]
//   models = ["/srv/models/mistral.gguf"]
// Each key has the variable ETALON_KEY (ETALON_LISTEN=a:1,b:2); docs/serving.md lists them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <variant>
#include <vector>

namespace etalon::serve {

using Texts = std::vector<std::string>;

struct Config {
    Texts listen{"127.0.0.1:8080"};  ///< HOST:PORT
    Texts models;                    ///< files; empty: the default model
    Texts hosts;                     ///< further names that the server answers for
    Texts cors_origins;              ///< pages that may call it from a browser
    std::string certificate;
    std::string private_key;
    std::string sandbox = "best-effort";  ///< "strict": a missing layer refuses to start
    std::string device = "auto";          ///< "cpu", "cuda:N"; "auto": a card, else the CPU
    std::int64_t threads = 0;             ///< of each worker; 0: one a processor
    std::int64_t context = 0;             ///< tokens of a request; 0: what the model allows
    std::int64_t cache_bytes = 0;         ///< of keys and values of each worker; 0: it decides
    bool require_signature = false;       ///< only signed models are loaded (docs/signatures.md)
    std::string public_key;               ///< PEM file of the key that signs them
    std::string signing_key;              ///< PEM file that `etalon import` signs with
    std::string verify = "changed";       ///< "always": hash at every start, not on change
    std::int64_t stored_days = 30;        ///< stored responses are given so long; 0: none is stored
    std::int64_t stored_responses = 10000;  ///< of one tenant
    std::int64_t self_check = 100;          ///< one answer of so many is derived again; 0: none
    Texts retention;                        ///< "TENANT MIN_DAYS MAX_DAYS", see ledger/retention.h

    /// Where each key was set, by name: "/etc/etalon/etalon.toml:3", "ETALON_LISTEN"; a key that is
    /// not here has its default.
    std::map<std::string, std::string> origins;
};

/// A key of the file: its name, the field that it sets, and what it may be.
struct ConfigKey {
    const char* name;
    std::variant<Texts Config::*, std::string Config::*, std::int64_t Config::*, bool Config::*>
        field;
    std::int64_t number_max = 0;       ///< of a number, from 0
    std::vector<const char*> choices;  ///< of a text; empty: any
};
const std::vector<ConfigKey>& config_keys();

/// All keys and their values as one canonical JSON object (RFC 8785): the same text, the same
/// configuration.
std::string config_text(const Config& config);

/// "ETALON_CORS_ORIGINS" for cors_origins.
std::string config_variable(const ConfigKey& key);

/// $XDG_CONFIG_HOME/etalon, ~/.config/etalon.
std::filesystem::path config_folder();
/// $XDG_DATA_HOME/etalon, ~/.local/share/etalon.
std::filesystem::path data_folder();
/// etalon.db in data_folder().
std::filesystem::path database_path();

/// /etc/etalon/etalon.toml, above it etalon.toml in config_folder(), above both the variables; key
/// by key. Errors: usage (a key that is not known, or a value of another type or range, with file
/// and line or the variable).
Config load_config();
/// These files, later ones above earlier ones, and no variables; one that is not there says
/// nothing. Errors as above.
Config read_config(std::span<const std::filesystem::path> files);
/// The variables above what `config` has; lists are separated by commas, an empty variable is none.
/// Errors as above.
void read_variables(Config& config);

}  // namespace etalon::serve
