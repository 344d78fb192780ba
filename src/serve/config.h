// SPDX-License-Identifier: Apache-2.0
// etalon.toml, and the folders of configuration and data.
//   listen = ["127.0.0.1:8080"]
//   models = ["/srv/models/mistral.gguf"]
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace etalon::serve {

struct Config {
    std::vector<std::string> listen;        ///< HOST:PORT
    std::vector<std::string> models;        ///< files
    std::vector<std::string> hosts;         ///< further names that the server answers for
    std::vector<std::string> cors_origins;  ///< pages that may call it from a browser
    std::string certificate;
    std::string private_key;
    std::string sandbox;  ///< "strict": a missing layer refuses to start; "": best effort
};

/// $XDG_CONFIG_HOME/etalon, ~/.config/etalon.
std::filesystem::path config_folder();
/// $XDG_DATA_HOME/etalon, ~/.local/share/etalon.
std::filesystem::path data_folder();
/// etalon.db in data_folder().
std::filesystem::path database_path();

/// The first of etalon.toml in config_folder() and /etc/etalon/etalon.toml that exists; nothing
/// where there is none. $ETALON_LISTEN, for containers, stands above `listen`. Errors: usage (a
/// key that is not known or has another type, with file and line).
Config load_config();
/// One file. Errors as above, and not_found.
Config read_config(const std::filesystem::path& path);

}  // namespace etalon::serve
