// SPDX-License-Identifier: Apache-2.0
// `etalon serve`: the HTTP server.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <optional>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/load.h"
#include "cli/machine.h"
#include "cli/output.h"
#include "cli/signature_flags.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "ledger/subjects.h"
#include "serve/config.h"
#include "serve/local_key.h"
#include "serve/running_server.h"
#include "serve/server.h"
#include "serve/service_manager.h"

namespace etalon::cli {

namespace {

/// As many stand in the record of the configuration.
constexpr std::size_t kListensMax = 64;

struct ServeOptions {
    std::vector<std::string> listen;
    std::vector<std::string> models;
    std::string certificate;
    std::string private_key;
    std::string device;
    std::optional<std::int64_t> threads;
    std::optional<std::int64_t> context;
    std::optional<std::int64_t> cache_bytes;
    SignatureFlags signature;
};

/// The configuration with the flags above it.
serve::Config with_flags(const ServeOptions& options) {
    serve::Config config = serve::load_config();
    if (!options.listen.empty()) config.listen = options.listen;
    if (config.listen.empty()) throw Error(ExitCode::usage, "listen is an empty list");
    if (!options.models.empty()) config.models = options.models;
    if (config.models.empty()) config.models = {default_model_path().string()};
    if (!options.certificate.empty() || !options.private_key.empty()) {
        config.certificate = options.certificate;
        config.private_key = options.private_key;
    }
    if (config.certificate.empty() != config.private_key.empty()) {
        throw Error(ExitCode::usage, "a certificate and its private key come together",
                    "--certificate FILE --private-key FILE");
    }
    if (!options.device.empty()) config.device = options.device;
    config.require_signature = config.require_signature || options.signature.require;
    if (!options.signature.public_key.empty()) config.public_key = options.signature.public_key;
    if (!options.signature.verify.empty()) config.verify = options.signature.verify;
    if (config.listen.size() > kListensMax) {
        throw Error(ExitCode::usage,
                    fmt::format("{} addresses to listen on, at most {} are accepted",
                                config.listen.size(), kListensMax));
    }
    const std::string why = check_device_name(config.device);
    if (!why.empty()) throw Error(ExitCode::usage, "device: " + why);
    config.threads = options.threads.value_or(config.threads);
    config.context = options.context.value_or(config.context);
    config.cache_bytes = options.cache_bytes.value_or(config.cache_bytes);
    return config;
}

/// What the ledger says of it. Tenants get the ids that records have for them.
ledger::Configuration configuration_of(const serve::Config& config) {
    ledger::Configuration record;
    const std::string text = serve::config_text(config);
    record.hash = to_hex(sha256(std::as_bytes(std::span(text))));
    record.sandbox = config.sandbox;
    record.signatures = config.require_signature ? config.verify : "none";
    const ledger::Retention retention = configured_retention();
    for (const ledger::RetentionRule& rule : retention.rules()) {
        const std::string id =
            ledger::subject_id(ledger_folder(""), ledger::tenant_subject(rule.tenant));
        record.retention.push_back({id, rule.min_days, rule.max_days});
    }
    return record;
}

serve::ServerOptions server_options(const serve::Config& config,
                                    const weights::AdmissionOptions& admission) {
    serve::ServerOptions server;
    for (const std::string& listen : config.listen)
        server.listens.push_back(serve::parse_listen(listen));
    for (const std::string& model : config.models) {
        wire::WorkerOptions worker;
        // An absolute path names the same record and key wherever the worker is started.
        if (admission.required) {
            worker.public_key = std::filesystem::absolute(admission.public_key);
            if (!admission.record.empty()) {
                worker.record = std::filesystem::absolute(admission.record);
            }
        }
        worker.model = model;
        worker.backend = config.device;
        worker.threads = static_cast<int>(config.threads);
        worker.context = static_cast<int>(config.context);
        worker.cache_bytes = static_cast<std::uint64_t>(config.cache_bytes);
        worker.hash = true;
        worker.strict = config.sandbox == "strict";
        server.models.push_back(std::move(worker));
    }
    server.database = serve::database_path();
    server.ledger = ledger_folder("");
    server.stored = stored_limits(config);
    server.self_check = config.self_check;
    server.configuration = configuration_of(config);
    server.hosts = config.hosts;
    server.cors_origins = config.cors_origins;
    server.certificate = config.certificate;
    server.private_key = config.private_key;
    return server;
}

/// The server writes it as it opens the ledger.
void record_local_key(const serve::KeyInfo& key) {
    ledger::ApiKey record;
    record.action = "created";
    record.key = static_cast<std::uint64_t>(key.id);
    record.scopes = serve::scope_names(key.scopes);
    record.tenant = ledger::subject_id(ledger_folder(""), ledger::tenant_subject(key.tenant));
    ledger::record_next(ledger_options(), {record});
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

void serve_models(const ServeOptions& options) {
    const serve::Config config = with_flags(options);
    serve::ServerOptions server =
        server_options(config, admission_options(options.signature, config));
    serve::RunningServer running(serve::running_server_path());
    const bool local = std::all_of(server.listens.begin(), server.listens.end(),
                                   [](const auto& listen) { return is_loopback(listen.address); });
    if (local) {
        serve::Accounts accounts(server.database);
        const auto made = serve::ensure_local_key(accounts, serve::local_key_path(), unix_time());
        if (made) record_local_key(*made);
    }
    const serve::ServiceManager manager;
    std::vector<serve::Listen> bound;
    const char* scheme = config.certificate.empty() ? "http" : "https";
    server.on_listening = [&](const std::vector<serve::Listen>& listens) {
        bound = listens;
        std::vector<std::string> urls;
        for (const serve::Listen& listen : listens)
            urls.push_back(fmt::format("{}://{}", scheme, serve::listen_text(listen)));
        running.announce(urls);
    };
    server.on_draining = [&] { manager.say("STOPPING=1"); };
    server.on_ready = [&](const serve::Site& site) {
        manager.say("READY=1");
        greet(bound, site.models.front().id, !config.certificate.empty(), local);
    };
    // A client or a reader of the log that goes away is an error of that write, not our end.
    std::signal(SIGPIPE, SIG_IGN);
    serve::run_server(server);
}

}  // namespace

void add_serve(CLI::App& app) {
    CLI::App* command = app.add_subcommand("serve", "answer over HTTP, as OpenAI and Mistral do");
    const auto options = std::make_shared<ServeOptions>();
    command->footer("What no flag says comes from the configuration: etalon config --show-origin.");
    command->add_option("--listen", options->listen, "HOST:PORT, several times if need be");
    command->add_option("--model", options->models,
                        "model file, several times if need be; the default model if none is "
                        "configured either");
    command->add_option("--certificate", options->certificate, "PEM file: speak TLS");
    command->add_option("--private-key", options->private_key, "PEM file of the certificate's key");
    command->add_option("--device", options->device,
                        "auto, cpu, or cuda:N; auto: the first card that can be used, else cpu");
    const auto number = [&](const char* flag, std::optional<std::int64_t>& value, const char* what,
                            std::int64_t value_max) {
        command->add_option(flag, value, what)->check(CLI::Range(std::int64_t{0}, value_max));
    };
    number("--threads", options->threads, "threads of each worker; 0: one a processor",
           kThreadsMax);
    number("--context", options->context, "tokens of a request; 0: as the model allows", 1 << 24);
    number("--cache-bytes", options->cache_bytes,
           "memory of each worker for keys and values; 0: it decides", std::int64_t{1} << 50);
    add_signature_flags(*command, options->signature);
    command->callback([options] { serve_models(*options); });
}

}  // namespace etalon::cli
