// SPDX-License-Identifier: Apache-2.0
// A child that closes the locks and tries them. It reports lines of fields that are separated by
// tabs, then waits while the parent reads what the kernel says of it.
#include "worker/probe.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <memory>
#include <sstream>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/operations.h"
#include "base/error.h"
#include "worker/card.h"

namespace etalon::worker {

namespace {

constexpr const char* kDone = "done\n";
constexpr std::size_t kReportBytesMax = 65536;  // some dozens of lines
/// Lines of /proc/PID/status that speak of locks.
constexpr std::array kStatusKeys{"CapEff",  "CapBnd",          "NoNewPrivs",
                                 "Seccomp", "Seccomp_filters", "Threads"};

std::string line(const Canary& canary) {
    return fmt::format("canary\t{}\t{}\t{:d}\t{:d}\t{}\n", canary.name, canary.layer,
                       canary.expected, canary.refused, canary.result);
}

std::string line(const Error& error) {
    return fmt::format("failed\t{}\t{}\n", static_cast<int>(error.code()), error.message());
}

/// The card, or a line that says why there is none.
std::unique_ptr<backend::Backend> open_card_or_tell(const std::string& device,
                                                    std::string& report) {
    try {
        return open_card(device);
    } catch (const Error& error) {
        report += line(error);
        return nullptr;
    }
}

/// Quantises one row on the card; says that it did.
std::string compute(backend::Backend& card) {
    constexpr std::array<float, 4> kRow{127.0F, -3.0F, 0.0F, 64.0F};
    const std::array<std::int32_t, 1> zero{0};
    const std::vector<std::vector<std::int32_t>> tables(1);
    std::uint8_t failed = 0;
    const auto v = card.make_floats(kRow.size());
    const auto x = card.make_activations(1, static_cast<int>(kRow.size()), backend::kRowInt8);
    card.upload(kRow, *v);
    card.quantize({zero, zero, zero, tables, {&failed, 1}}, *v, *x);
    const std::vector<std::int8_t> codes = card.read(*x, 1).row_q;
    const bool right = std::equal(codes.begin(), codes.end(), kRow.begin(), kRow.end(),
                                  [](std::int8_t code, float value) { return code == value; });
    if (!right || failed != 0) {
        throw Error(ExitCode::invalid, fmt::format("{} computes wrong numbers", card.name()));
    }
    return fmt::format("{}: computes behind the locks", card.name());
}

/// What the child does; it never returns into the caller's code.
[[noreturn]] void run_child(int fd, const std::string& device) {
    const std::filesystem::path readable = "/proc/self/exe";
    std::error_code error;
    const std::filesystem::path itself = std::filesystem::read_symlink(readable, error);
    std::unique_ptr<backend::Backend> card;
    std::string report;
    const Sandbox sandbox =
        close_sandbox({.files = {itself}, .descriptors = {fd}, .open_card = [&] {
                           card = open_card_or_tell(device, report);
                           return card != nullptr;
                       }});
    for (const Layer& layer : sandbox.layers())
        report += fmt::format("layer\t{}\t{:d}\t{}\n", layer.name, layer.on, layer.detail);
    for (const Canary& canary : try_canaries(itself))
        report += line(canary);
    try {
        seal_sandbox(sandbox);
        for (const Canary& canary : try_sealed_canaries(itself))
            report += line(canary);
    } catch (const Error& failed) {
        report += fmt::format("layer\tseal\t0\t{}\n", failed.message());
    }
    try {
        if (card != nullptr) report += fmt::format("computed\t{}\n", compute(*card));
    } catch (const Error& failed) {
        report += line(failed);
    }
    report += kDone;
    for (std::size_t at = 0; at < report.size();) {
        const ssize_t n = ::send(fd, report.data() + at, report.size() - at, MSG_NOSIGNAL);
        if (n <= 0) ::_exit(1);
        at += static_cast<std::size_t>(n);
    }
    char byte = 0;
    (void)::recv(fd, &byte, 1, 0);  // until the parent has looked and closes its end
    ::_exit(0);
}

std::string read_report(int fd) {
    std::string report;
    std::array<char, 4096> part{};
    while (!report.ends_with(kDone) && report.size() < kReportBytesMax) {
        const ssize_t n = ::recv(fd, part.data(), part.size(), 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        report.append(part.data(), static_cast<std::size_t>(n));
    }
    return report;
}

std::vector<std::string> fields_of(const std::string& text) {
    std::vector<std::string> fields;
    std::istringstream in(text);
    for (std::string field; std::getline(in, field, '\t');)
        fields.push_back(field);
    return fields;
}

/// What a child says comes from the program itself, but from a process that was told to misbehave.
ExitCode code_of(const std::string& text) {
    for (const ExitCode code :
         {ExitCode::invalid, ExitCode::out_of_memory, ExitCode::unavailable}) {
        if (text == std::to_string(static_cast<int>(code))) return code;
    }
    return ExitCode::failure;
}

ProbeReport parse(const std::string& text) {
    ProbeReport report;
    std::vector<Layer> layers;
    std::istringstream in(text);
    for (std::string row; std::getline(in, row);) {
        const std::vector<std::string> f = fields_of(row);
        if (f.size() == 4 && f[0] == "layer") layers.push_back({f[1], f[2] == "1", f[3]});
        if (f.size() == 2 && f[0] == "computed") report.computed = f[1];
        if (f.size() == 3 && f[0] == "failed") throw Error(code_of(f[1]), f[2]);
        if (f.size() == 6 && f[0] == "canary") {
            report.canaries.push_back({f[1], f[2], f[3] == "1", f[4] == "1", f[5]});
        }
    }
    report.sandbox = Sandbox(std::move(layers));
    return report;
}

std::vector<std::pair<std::string, std::string>> read_status(pid_t pid) {
    std::vector<std::pair<std::string, std::string>> found;
    std::ifstream in(fmt::format("/proc/{}/status", pid));
    for (std::string row; std::getline(in, row);) {
        const std::size_t colon = row.find(':');
        if (colon == std::string::npos) continue;
        const std::string key = row.substr(0, colon);
        if (std::find(kStatusKeys.begin(), kStatusKeys.end(), key) == kStatusKeys.end()) continue;
        const std::size_t value = row.find_first_not_of(" \t", colon + 1);
        found.emplace_back(key, value == std::string::npos ? "" : row.substr(value));
    }
    return found;
}

}  // namespace

const Canary* ProbeReport::escaped() const noexcept {
    const auto found = std::find_if(canaries.begin(), canaries.end(), [&](const Canary& canary) {
        return !canary.as_expected() && sandbox.is_on(canary.layer);
    });
    return found == canaries.end() ? nullptr : &*found;
}

ProbeReport probe_sandbox(const std::string& device) {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        throw Error(ExitCode::failure, fmt::format("socketpair: {}", std::strerror(errno)));
    }
    std::fflush(stdout);  // what waits there would be written twice
    const pid_t pid = ::fork();
    if (pid == 0) run_child(ends[1], device);
    ::close(ends[1]);
    if (pid < 0) {
        ::close(ends[0]);
        throw Error(ExitCode::failure, fmt::format("fork: {}", std::strerror(errno)));
    }
    const std::string text = read_report(ends[0]);
    ProbeReport report = parse(text);
    report.status = read_status(pid);
    ::close(ends[0]);
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (!text.ends_with(kDone)) {
        throw Error(ExitCode::failure,
                    WIFSIGNALED(status)
                        ? fmt::format("the probe was killed by signal {}", WTERMSIG(status))
                        : fmt::format("the probe left with exit code {}", WEXITSTATUS(status)));
    }
    return report;
}

}  // namespace etalon::worker
