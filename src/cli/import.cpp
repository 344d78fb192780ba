// SPDX-License-Identifier: Apache-2.0
// `etalon import SRC DST --as e8`: a float or GGUF model as Etalon's own file.
#include "weights/import.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>

#include "cli/commands.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::cli {

namespace {

volatile std::sig_atomic_t g_interrupted = 0;
void on_interrupt(int) {
    g_interrupted = 1;
}

struct ImportCommandOptions {
    std::string source;
    std::string destination;
    std::string format;
    int threads = 0;
    bool json = false;
};

/// A line that rewrites itself on a terminal; elsewhere a new line every few seconds.
class Progress {
  public:
    void show(std::uint64_t done_bytes, std::uint64_t total_bytes) {
        const Clock::time_point now = Clock::now();
        if (now < next_) return;
        next_ = now + (terminal_ ? kTerminalPeriod : kLogPeriod);
        const double share = static_cast<double>(done_bytes) /
                             static_cast<double>(std::max<std::uint64_t>(total_bytes, 1));
        std::fprintf(stderr, "%simport: %3.0f %% of %s%s", terminal_ ? "\r" : "", 100.0 * share,
                     bytes_text(total_bytes).c_str(), terminal_ ? "" : "\n");
        std::fflush(stderr);
        shown_ = true;
    }
    ~Progress() {
        if (shown_ && terminal_) std::fputs("\r\x1b[K", stderr);
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr std::chrono::milliseconds kTerminalPeriod{200};
    static constexpr std::chrono::milliseconds kLogPeriod{5000};

    bool terminal_ = ::isatty(STDERR_FILENO) != 0;
    // A short import writes no line to a log.
    Clock::time_point next_ = Clock::now() + (terminal_ ? kTerminalPeriod : kLogPeriod);
    bool shown_ = false;
};

void import_model(const ImportCommandOptions& options) {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    ::sigaction(SIGINT, &action, nullptr);
    weights::ImportResult result;
    {
        Progress progress;
        weights::ImportOptions import_options;
        import_options.n_threads = options.threads > 0 ? options.threads : usable_processors();
        import_options.progress = [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
            // Thrown from here so that the import removes its unfinished file.
            if (g_interrupted != 0) throw Error(ExitCode::interrupted, "interrupted");
            progress.show(done_bytes, total_bytes);
        };
        result = weights::import_e8(options.source, options.destination, import_options);
    }
    if (options.json) {
        print_json({{"path", options.destination},
                    {"format", options.format},
                    {"bytes", result.bytes},
                    {"sha256", result.sha256}});
    } else {
        print(fmt::format("{}  {}\n", result.sha256, printable(options.destination)));
    }
}

}  // namespace

void add_import(CLI::App& app) {
    CLI::App* command = app.add_subcommand("import", "write a model as Etalon's own file");
    const auto options = std::make_shared<ImportCommandOptions>();
    command->add_option("SRC", options->source, "model file or folder to read")->required();
    command->add_option("DST", options->destination, ".safetensors file to write")->required();
    command->add_option("--as", options->format, "e8: int8 weights, rotated, a scale a row")
        ->required()
        ->check(CLI::IsMember({"e8"}));
    command->add_option("--threads", options->threads, "threads; 0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { import_model(*options); });
}

}  // namespace etalon::cli
