// SPDX-License-Identifier: Apache-2.0
// `etalon doctor`: what this machine is, which paths it can run, what would be used.
#include <CLI/CLI.hpp>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <thread>

#include "cli/commands.h"
#include "cli/load.h"
#include "cli/machine.h"
#include "cli/output.h"
#include "cli/sandbox_report.h"

#include "backend/cuda/cuda.h"
#include "backend/operations.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "model/memory.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr std::array kIsas{backend::Isa::generic, backend::Isa::avx2, backend::Isa::avx512};

struct ModelCheck {
    std::string path;
    std::string state;  ///< "absent", "present", "whole", "damaged"
    std::uint64_t bytes = 0;
};

/// The default model is compared with its pinned hash; a model that the user chose has none.
ModelCheck check_default_model() {
    const std::filesystem::path path = default_model_path();
    ModelCheck check{path.string(), "absent", 0};
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return check;
    check.state = "present";
    if (!std::filesystem::is_regular_file(path, error)) return check;
    const MappedFile file(path);
    check.bytes = file.bytes().size();
    if (path.filename() != kDefaultModelFile) return check;
    check.state = to_hex(sha256(file.bytes())) == kDefaultModelSha256 ? "whole" : "damaged";
    return check;
}

/// What --device auto would take, and what there is.
struct Paths {
    backend::Isa isa = backend::choose_isa(std::getenv("ETALON_ISA"));
    std::optional<int> card = chosen_cuda({});
    backend::CudaState cuda = backend::cuda_state();

    std::string isa_state(backend::Isa other) const {
        if (!backend::isa_is_available(other)) return "this processor lacks it";
        if (other != isa) return "available";
        return card ? "available, used with --device cpu" : "used";
    }
    std::string card_state(const backend::CudaDevice& device) const {
        if (!device.problem.empty()) return device.problem;
        return device.index == card ? "used" : "available";
    }
};

void print_cards(const Paths& paths) {
    if (paths.cuda.devices.empty()) print_field("path cuda", paths.cuda.problem);
    for (const backend::CudaDevice& device : paths.cuda.devices) {
        print_field(
            fmt::format("path cuda:{}", device.index),
            fmt::format("{}: {}, compute capability {}.{}, {}", paths.card_state(device),
                        device.name, device.major, device.minor, bytes_text(device.memory_bytes)));
    }
}

void print_plain(const Paths& paths, const ModelCheck& model) {
    print_field("version", "etalon " ETALON_VERSION);
    print_field("processor", processor_name());
    print_field("threads", fmt::format("{} of {} processors", usable_processors(),
                                       std::thread::hardware_concurrency()));
    const std::uint64_t cache_bytes = last_cache_bytes();
    print_field("largest cache", cache_bytes == 0 ? "unknown" : bytes_text(cache_bytes));
    print_field("memory", fmt::format("{}, {} available", bytes_text(total_memory()),
                                      bytes_text(model::available_memory())));
    for (const backend::Isa isa : kIsas) {
        print_field(fmt::format("path cpu/{}", backend::isa_name(isa)), paths.isa_state(isa));
    }
    print_cards(paths);
    print_field("default model", model.path);
    print_field("  state", model.bytes == 0
                               ? model.state
                               : fmt::format("{}, {}", model.state, bytes_text(model.bytes)));
}

void print_machine_json(const Paths& paths, const ModelCheck& model) {
    ordered_json cpu = ordered_json::array();
    for (const backend::Isa isa : kIsas) {
        cpu.push_back({{"name", fmt::format("cpu/{}", backend::isa_name(isa))},
                       {"available", backend::isa_is_available(isa)},
                       {"used", isa == paths.isa && !paths.card}});
    }
    ordered_json cards = ordered_json::array();
    for (const backend::CudaDevice& device : paths.cuda.devices) {
        cards.push_back({{"name", fmt::format("cuda:{}", device.index)},
                         {"card", device.name},
                         {"compute_capability", fmt::format("{}.{}", device.major, device.minor)},
                         {"memory_bytes", device.memory_bytes},
                         {"available", device.problem.empty()},
                         {"used", device.index == paths.card}});
    }
    print_json({{"version", ETALON_VERSION},
                {"processor", processor_name()},
                {"processors", std::thread::hardware_concurrency()},
                {"threads", usable_processors()},
                {"largest_cache_bytes", last_cache_bytes()},
                {"memory_bytes", total_memory()},
                {"available_bytes", model::available_memory()},
                {"paths", cpu},
                {"cards", cards},
                {"cards_problem", paths.cuda.problem},
                {"default_model",
                 {{"path", model.path}, {"state", model.state}, {"bytes", model.bytes}}}});
}

void doctor(bool json) {
    const Paths paths;
    const ModelCheck model = check_default_model();
    if (json) {
        print_machine_json(paths, model);
    } else {
        print_plain(paths, model);
    }
    if (model.state == "damaged") {
        throw Error(ExitCode::invalid,
                    fmt::format("{} is not the file that it should be: its SHA-256 differs",
                                printable(model.path)),
                    "delete the file and run ./run again, which fetches it");
    }
}

}  // namespace

void add_doctor(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("doctor", "say what this machine is and what would be used");
    const auto json = std::make_shared<bool>(false);
    const auto sandbox = std::make_shared<bool>(false);
    command->add_flag("--json", *json, "print JSON");
    CLI::Option* try_sandbox = command->add_flag(
        "--sandbox", *sandbox, "say what the kernel forbids a worker, by trying it");
    const auto device = std::make_shared<std::string>("cpu");
    command
        ->add_option("--device", *device,
                     "with --sandbox: cpu, cuda:N or auto, which is in use then")
        ->check(CLI::Validator(check_device_name, ""))
        ->needs(try_sandbox);
    command->callback(
        [json, sandbox, device] { *sandbox ? report_sandbox(*device, *json) : doctor(*json); });
}

}  // namespace etalon::cli
