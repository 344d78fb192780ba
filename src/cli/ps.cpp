// SPDX-License-Identifier: Apache-2.0
// `etalon ps` and `etalon stop`: the server that runs, and its end.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "cli/api_client.h"
#include "cli/commands.h"
#include "cli/output.h"

#include "base/error.h"
#include "serve/limits.h"
#include "serve/running_server.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kLookTime{50};
/// What a server may take to end, and as long again as a worker may need to leave.
constexpr std::chrono::seconds kPatience = serve::kDrainTime + std::chrono::seconds(15);

std::string duration_text(std::int64_t seconds) {
    constexpr std::int64_t kMinute = 60;
    constexpr std::int64_t kHour = 60 * kMinute;
    constexpr std::int64_t kDay = 24 * kHour;
    if (seconds < 2 * kMinute) return fmt::format("{} s", seconds);
    if (seconds < 2 * kHour) return fmt::format("{} min", seconds / kMinute);
    return seconds < 2 * kDay ? fmt::format("{} h", seconds / kHour)
                              : fmt::format("{} days", seconds / kDay);
}

/// A row of the table; columns that a model which loads does not have yet are empty.
void print_model(const ordered_json& model) {
    const auto count = [&](const char* name) {
        return model.contains(name) ? count_text(model[name].get<std::uint64_t>()) : "";
    };
    const std::string size = model.contains("weights_bytes")
                                 ? bytes_text(model["weights_bytes"].get<std::uint64_t>())
                                 : "";
    print(fmt::format("{:<36} {:<8} {:<12} {:>10} {:>9} {:>8} {:>8}\n",
                      printable(model.value("id", ""), 36), printable(model.value("state", ""), 8),
                      printable(model.value("backend", ""), 12), size, count("context_tokens"),
                      count("requests"), count("waiting")));
}

void ps(const ServerOptions& options, bool json) {
    const ApiClient client(find_server(options));
    const ApiResponse response = client.get("/status");
    if (response.status != 200) throw_api_error(response);
    ordered_json status = ordered_json::parse(response.body, nullptr, false);
    if (!status.is_object() || !status["models"].is_array()) {
        throw Error(ExitCode::invalid, "the status of the server is not understood");
    }
    if (json) {
        status["url"] = client.address().url();
        print_json(status);
        return;
    }
    print(fmt::format("{}, version {}, up {}, {} connections{}\n", client.address().url(),
                      printable(status.value("version", "")),
                      duration_text(status.value("uptime_seconds", std::int64_t{0})),
                      status.value("connections", std::int64_t{0}),
                      status.value("draining", false) ? ", ending" : ""));
    print(fmt::format("{:<36} {:<8} {:<12} {:>10} {:>9} {:>8} {:>8}\n", "MODEL", "STATE", "BACKEND",
                      "SIZE", "CONTEXT", "REQUESTS", "WAITING"));
    for (const ordered_json& model : status["models"])
        print_model(model);
}

/// SIGTERM lets running answers end; a second one does not.
void stop(bool now) {
    const std::filesystem::path path = serve::running_server_path();
    const auto found = serve::find_running_server(path);
    if (!found) {
        throw Error(ExitCode::not_found,
                    fmt::format("no server runs with {}", printable(path.parent_path().string())),
                    "a service is stopped by its manager: systemctl stop etalon");
    }
    for (int i = 0; i < (now ? 2 : 1); ++i) {
        if (::kill(found->pid, SIGTERM) != 0) {
            throw Error(ExitCode::refused, fmt::format("process {} takes no signal from this "
                                                       "account",
                                                       found->pid));
        }
        std::this_thread::sleep_for(kLookTime);  // two that wait together are one
    }
    const auto end = Clock::now() + kPatience;
    while (Clock::now() < end) {
        const auto still = serve::find_running_server(path);
        if (!still || still->pid != found->pid) return;
        std::this_thread::sleep_for(kLookTime);
    }
    throw Error(ExitCode::try_later, fmt::format("process {} has not ended yet", found->pid),
                "etalon stop --now does not wait for running answers");
}

}  // namespace

void add_ps(CLI::App& app) {
    CLI::App* command = app.add_subcommand("ps", "show the running server: models, requests");
    const auto options = std::make_shared<ServerOptions>();
    const auto json = std::make_shared<bool>(false);
    add_server_options(*command, *options);
    command->add_flag("--json", *json, "print JSON");
    command->callback([options, json] { ps(*options, *json); });
}

void add_stop(CLI::App& app) {
    CLI::App* command = app.add_subcommand("stop", "end the running server of this account");
    const auto now = std::make_shared<bool>(false);
    command->add_flag("--now", *now, "do not wait for running answers");
    command->callback([now] { stop(*now); });
}

}  // namespace etalon::cli
