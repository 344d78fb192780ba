// SPDX-License-Identifier: Apache-2.0
// The server: listeners, sessions, workers, signals; one thread.
//   ServerOptions options;
//   options.listens = {{"127.0.0.1", 8080}};
//   options.models = {{.model = "m.gguf"}};
//   run_server(options);   // returns once it was told to end
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "serve/limits.h"
#include "serve/site.h"
#include "serve/worker_link.h"

namespace etalon::serve {

struct Listen {
    std::string address;  ///< an IP address
    std::uint16_t port = 0;
};

struct ServerOptions {
    std::vector<Listen> listens;
    std::vector<wire::WorkerOptions> models;
    std::filesystem::path database;
    std::filesystem::path ledger;  ///< folder
    ledger::StoredLimits stored;   ///< what clients may store
    /// What the ledger says of the configuration, but for `listen`, which is that of the sockets.
    ledger::Configuration configuration;
    std::vector<std::string> hosts;         ///< further values of Host, without a port
    std::vector<std::string> cors_origins;  ///< "https://chat.example.org"
    std::filesystem::path certificate;      ///< PEM; with `private_key`: all listeners speak TLS
    std::filesystem::path private_key;
    StartWorker start_worker = start_worker_process;
    std::int64_t self_check = 0;  ///< one answer of so many is derived again; 0: none
    /// Between two looks at the weights in a worker's memory.
    std::chrono::milliseconds live_check_time = kLiveCheckTime;
    /// The sockets listen: the addresses with the ports that they got.
    std::function<void(const std::vector<Listen>& listens)> on_listening;
    /// Every model is loaded.
    std::function<void(const Site& site)> on_ready;
    /// The first signal to end has come.
    std::function<void()> on_draining;
};

/// "127.0.0.1:8080", "[::1]:8080". Errors: usage.
Listen parse_listen(const std::string& text);
std::string listen_text(const Listen& listen);

/// Serves until SIGTERM or SIGINT: the first lets running answers end (kDrainTime at most), a
/// second one does not. SIGHUP reads the certificate again. Errors: usage (an address that is no
/// loopback without TLS), unavailable (the address is in use), those of Accounts and Ledger, and
/// what a worker said that could not start.
void run_server(const ServerOptions& options);

/// The model's name for requests: the stem of its file.
std::string model_id(const std::filesystem::path& model);

}  // namespace etalon::serve
