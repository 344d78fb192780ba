// SPDX-License-Identifier: Apache-2.0
// The layers of a worker's sandbox, what the kernel says of a process inside, and what came of the
// attempts that it made.
#include "cli/sandbox_report.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/output.h"

#include "base/error.h"
#include "worker/probe.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

std::string verdict(const worker::Canary& canary) {
    if (!canary.expected) return canary.refused ? "refused, but must work" : "works, as it must";
    if (canary.refused) return "refused";
    return canary.result == "it worked" ? "NOT refused" : "NOT refused, failed otherwise";
}

void print_row(const std::string& name, const std::string& value) {
    print(fmt::format("  {:<24}{}\n", name, value));
}

void print_plain(const std::string& device, const worker::ProbeReport& report) {
    for (const worker::Layer& layer : report.sandbox.layers()) {
        print_field(layer.name, fmt::format("{} ({})", layer.on ? "on" : "missing", layer.detail));
    }
    if (!report.computed.empty()) print_field("device", report.computed);
    if (device == "auto" && report.computed.empty()) print_field("device", "no card can be used");
    print("\n/proc/PID/status of a process inside\n");
    for (const auto& [key, value] : report.status)
        print_row(key, value);
    print("\nattempts from inside\n");
    for (const worker::Canary& canary : report.canaries) {
        print_row(canary.name,
                  fmt::format("{} ({}; {})", verdict(canary), canary.result, canary.layer));
    }
}

}  // namespace

ordered_json to_json(const worker::ProbeReport& report) {
    ordered_json layers = ordered_json::array();
    for (const worker::Layer& layer : report.sandbox.layers()) {
        layers.push_back({{"name", layer.name}, {"on", layer.on}, {"detail", layer.detail}});
    }
    ordered_json status = ordered_json::object();
    for (const auto& [key, value] : report.status)
        status[key] = value;
    ordered_json canaries = ordered_json::array();
    for (const worker::Canary& canary : report.canaries) {
        canaries.push_back({{"name", canary.name},
                            {"layer", canary.layer},
                            {"must_be_refused", canary.expected},
                            {"refused", canary.refused},
                            {"result", canary.result}});
    }
    ordered_json json = {{"all_on", report.sandbox.all_on()},
                         {"layers", layers},
                         {"status", status},
                         {"canaries", canaries}};
    if (!report.computed.empty()) json["device"] = report.computed;
    return json;
}

void report_sandbox(const std::string& device, bool json) {
    const worker::ProbeReport report = worker::probe_sandbox(device);
    if (json) {
        print_json(to_json(report));
    } else {
        print_plain(device, report);
    }
    if (const worker::Canary* escaped = report.escaped()) {
        throw Error(ExitCode::invalid, fmt::format("the sandbox does not hold: {}: {}",
                                                   escaped->name, verdict(*escaped)));
    }
}

}  // namespace etalon::cli
