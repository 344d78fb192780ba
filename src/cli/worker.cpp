// SPDX-License-Identifier: Apache-2.0
// `etalon worker`: what the front starts for each model. Not for people, so no group of --help
// shows it.
#include "worker/worker.h"

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/load.h"

#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::cli {

void add_worker(CLI::App& app) {
    CLI::App* command = app.add_subcommand("worker", "serve a model to the process that starts it");
    command->group("");
    const auto options = std::make_shared<worker::WorkerOptions>();
    command->add_option("--fd", options->fd, "the inherited end of a socket pair")
        ->required()
        ->check(CLI::Range(3, 1 << 20));
    const auto check_backend = [](const std::string& name) {
        return name == "exact" ? "" : check_device_name(name);
    };
    command
        ->add_option("--backend", options->backend, "cpu, cuda:N, auto, or exact (the reference)")
        ->check(CLI::Validator(check_backend, ""));
    command->add_option("--threads", options->threads, "0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command->add_option("--context", options->context, "most tokens of a request; 0: the model's")
        ->check(CLI::Range(0, 1 << 24));
    command->add_option("--cache-bytes", options->cache_bytes, "of keys and values; 0: decide");
    command->add_flag("--strict", options->strict,
                      "refuse to start without a layer of the sandbox");
    command->add_flag("--hash", options->hash, "tell the SHA-256 of the weights");
    command->add_option("--public-key", options->public_key, "refuse a model not signed with it");
    command->add_option("--record", options->record, "file of what was verified before");
    command->add_option("model", options->model, "model file")->required()->option_text("MODEL");
    command->callback([options] { (void)worker::run_worker(*options); });
}

}  // namespace etalon::cli
