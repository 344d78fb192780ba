// SPDX-License-Identifier: Apache-2.0
// `etalon serve`: the HTTP server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fmt/format.h>
#include <memory>

#include "cli/commands.h"
#include "cli/machine.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/thread_pool.h"
#include "serve/config.h"
#include "serve/local_key.h"
#include "serve/running_server.h"
#include "serve/server.h"

namespace etalon::cli {

namespace {

constexpr const char* kDefaultListen = "127.0.0.1:8080";

struct ServeOptions {
    std::vector<std::string> listen;
    std::vector<std::string> models;
    std::string certificate;
    std::string private_key;
    int threads = 0;
    int context = 0;
};

std::int64_t unix_time() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

/// Flags stand above the file; without both there is a default.
void fill(ServeOptions& options, const serve::Config& config) {
    if (options.listen.empty()) options.listen = config.listen;
    if (options.listen.empty()) options.listen = {kDefaultListen};
    if (options.models.empty()) options.models = config.models;
    if (options.models.empty()) options.models = {default_model_path().string()};
    if (options.certificate.empty()) {
        options.certificate = config.certificate;
        options.private_key = config.private_key;
    }
    if (options.certificate.empty() != options.private_key.empty()) {
        throw Error(ExitCode::usage, "a certificate and its private key come together",
                    "--certificate FILE --private-key FILE");
    }
}

bool is_loopback(const std::string& address) {
    return address.rfind("127.", 0) == 0 || address == "::1";
}

/// How to ask this server, for a person who has just started it.
void greet(const std::vector<serve::Listen>& listens, const std::string& model, bool tls,
           bool has_local_key) {
    const char* scheme = tls ? "https" : "http";
    for (const serve::Listen& listen : listens) {
        print(fmt::format("serving {} on {}://{}/v1\n", printable(model), scheme,
                          serve::listen_text(listen)));
    }
    if (!has_local_key) return;
    // Through stdin: an argument of curl could be read by everybody on the machine.
    print(
        fmt::format("key: {}\n"
                    "try: sed 's/^/authorization: Bearer /' '{}' | curl -H @- \\\n"
                    "  -H 'content-type: application/json' \\\n"
                    "  -d '{{\"model\": \"{}\", \"messages\": [{{\"role\": \"user\", "
                    "\"content\": \"Hello\"}}]}}' \\\n"
                    "  {}://{}/v1/chat/completions\n",
                    serve::local_key_path().string(), serve::local_key_path().string(), model,
                    scheme, serve::listen_text(listens.front())));
}

void serve_models(ServeOptions options) {
    const serve::Config config = serve::load_config();
    fill(options, config);
    serve::ServerOptions server;
    for (const std::string& listen : options.listen)
        server.listens.push_back(serve::parse_listen(listen));
    for (const std::string& model : options.models) {
        wire::WorkerOptions worker;
        worker.model = model;
        worker.threads = options.threads;
        worker.context = options.context;
        worker.hash = true;
        worker.strict = config.sandbox == "strict";
        server.models.push_back(std::move(worker));
    }
    server.database = serve::database_path();
    server.hosts = config.hosts;
    server.cors_origins = config.cors_origins;
    server.certificate = options.certificate;
    server.private_key = options.private_key;
    serve::RunningServer running(serve::running_server_path());
    const bool local = std::all_of(server.listens.begin(), server.listens.end(),
                                   [](const auto& listen) { return is_loopback(listen.address); });
    if (local) {
        serve::Accounts accounts(server.database);
        serve::ensure_local_key(accounts, serve::local_key_path(), unix_time());
    }
    std::vector<serve::Listen> bound;
    const char* scheme = options.certificate.empty() ? "http" : "https";
    server.on_listening = [&](const std::vector<serve::Listen>& listens) {
        bound = listens;
        std::vector<std::string> urls;
        for (const serve::Listen& listen : listens)
            urls.push_back(fmt::format("{}://{}", scheme, serve::listen_text(listen)));
        running.announce(urls);
    };
    server.on_ready = [&](const serve::Site& site) {
        greet(bound, site.models.front().id, !options.certificate.empty(), local);
    };
    // A client or a reader of the log that goes away is an error of that write, not our end.
    std::signal(SIGPIPE, SIG_IGN);
    serve::run_server(server);
}

}  // namespace

void add_serve(CLI::App& app) {
    CLI::App* command = app.add_subcommand("serve", "answer over HTTP, as OpenAI and Mistral do");
    const auto options = std::make_shared<ServeOptions>();
    command->add_option("--listen", options->listen,
                        fmt::format("HOST:PORT, several times if need be; {}", kDefaultListen));
    command->add_option("--model", options->models,
                        "model file, several times if need be; the default model if absent");
    command->add_option("--certificate", options->certificate, "PEM file: speak TLS");
    command->add_option("--private-key", options->private_key, "PEM file of the certificate's key");
    command->add_option("--threads", options->threads, "threads of each worker; 0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command
        ->add_option("--context", options->context, "tokens of a request; 0: as the model allows")
        ->check(CLI::Range(0, 1 << 24));
    command->callback([options] { serve_models(*options); });
}

}  // namespace etalon::cli
