// SPDX-License-Identifier: Apache-2.0
// The process of a worker, from the front.
#include "wire/worker_process.h"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "wire/codec.h"
#include "wire/limits.h"

namespace etalon::wire {

namespace {

/// The worker's end of the socket in the worker: the first number behind stderr.
constexpr int kWorkerFd = 3;
/// A worker closes its socket by exiting. Its status follows within microseconds; one that does not
/// come in this time belongs to a worker that closed the socket and stayed.
constexpr int kEndWaitMs = 200;
constexpr int kSignalBase = 128;  // as shells say: 128 + the signal

[[noreturn]] void fail(const char* what, int error) {
    const ExitCode code = error == ENOENT ? ExitCode::not_found : ExitCode::failure;
    throw Error(code, fmt::format("cannot start a worker: {}: {}", what, std::strerror(error)));
}

/// What posix_spawn is told: the socket as kWorkerFd, stderr, nothing else; signals as a fresh
/// process has them.
class SpawnSetup {
  public:
    explicit SpawnSetup(int worker_end) {
        posix_spawn_file_actions_init(&files_);
        posix_spawnattr_init(&attributes_);
        // The socket first: its own number may be that of a stdin or stdout that was closed.
        posix_spawn_file_actions_adddup2(&files_, worker_end, kWorkerFd);
        posix_spawn_file_actions_addopen(&files_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_addopen(&files_, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addclosefrom_np(&files_, kWorkerFd + 1);
        sigset_t none;
        sigset_t all;
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes_, &none);
        posix_spawnattr_setsigdefault(&attributes_, &all);
        // A session of its own: no terminal is the worker's to type into.
        posix_spawnattr_setflags(
            &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    }
    ~SpawnSetup() {
        posix_spawn_file_actions_destroy(&files_);
        posix_spawnattr_destroy(&attributes_);
    }
    SpawnSetup(const SpawnSetup&) = delete;
    SpawnSetup& operator=(const SpawnSetup&) = delete;

    /// Errors: as posix_spawn returns them.
    int spawn(const std::string& executable, std::vector<std::string> arguments, pid_t& pid) const {
        std::vector<char*> argv;
        for (std::string& argument : arguments)
            argv.push_back(argument.data());
        argv.push_back(nullptr);
        std::string isa = "ETALON_ISA=";
        const char* value = std::getenv("ETALON_ISA");
        if (value != nullptr) isa += value;
        std::array<char*, 2> environment{value == nullptr ? nullptr : isa.data(), nullptr};
        return ::posix_spawn(&pid, executable.c_str(), &files_, &attributes_, argv.data(),
                             environment.data());
    }

  private:
    posix_spawn_file_actions_t files_{};
    posix_spawnattr_t attributes_{};
};

std::vector<std::string> arguments_of(const WorkerOptions& options) {
    std::vector<std::string> arguments{"etalon", "worker", "--fd", fmt::format("{}", kWorkerFd)};
    const auto add = [&](const char* name, std::string value) {
        arguments.emplace_back(name);
        arguments.push_back(std::move(value));
    };
    add("--backend", options.backend);
    if (options.threads > 0) add("--threads", fmt::format("{}", options.threads));
    if (options.context > 0) add("--context", fmt::format("{}", options.context));
    if (options.cache_bytes > 0) add("--cache-bytes", fmt::format("{}", options.cache_bytes));
    if (options.strict) arguments.emplace_back("--strict");
    if (options.hash) arguments.emplace_back("--hash");
    if (!options.public_key.empty()) add("--public-key", options.public_key.string());
    if (!options.record.empty()) add("--record", options.record.string());
    arguments.emplace_back("--");  // a model whose name begins with a dash is no option
    arguments.push_back(options.model.string());
    return arguments;
}

}  // namespace

WorkerProcess WorkerProcess::start(const WorkerOptions& options) {
    std::array<int, 2> ends{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
        fail("socketpair", errno);
    }
    pid_t pid = -1;
    const SpawnSetup setup(ends[1]);
    const int error = setup.spawn(options.executable.string(), arguments_of(options), pid);
    ::close(ends[1]);
    if (error != 0) {
        ::close(ends[0]);
        fail(printable(options.executable.string()).c_str(), error);
    }
    return {pid, ends[0]};
}

WorkerProcess::WorkerProcess(pid_t pid, int fd) : pid_(pid), channel_(fd) {}

WorkerProcess::WorkerProcess(WorkerProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      exit_status_(other.exit_status_),
      drain_sent_(other.drain_sent_),
      has_left_(other.has_left_),
      has_ended_(other.has_ended_),
      failed_(std::move(other.failed_)),
      violation_(std::move(other.violation_)),
      channel_(std::move(other.channel_)),
      check_(std::move(other.check_)) {}

WorkerProcess& WorkerProcess::operator=(WorkerProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(exit_status_, other.exit_status_);
    std::swap(drain_sent_, other.drain_sent_);
    std::swap(has_left_, other.has_left_);
    std::swap(has_ended_, other.has_ended_);
    std::swap(failed_, other.failed_);
    std::swap(violation_, other.violation_);
    std::swap(channel_, other.channel_);
    std::swap(check_, other.check_);
    return *this;
}

WorkerProcess::~WorkerProcess() {
    kill();
}

void WorkerProcess::send(const ToWorker& message) {
    const std::string frame = encode(message);
    // These end work or let it end: they go out whatever waits.
    const bool is_small =
        std::holds_alternative<Go>(message) || std::holds_alternative<Cancel>(message) ||
        std::holds_alternative<Forget>(message) || std::holds_alternative<Drain>(message);
    if (!is_small && channel_.n_queued() + frame.size() > kQueuedBytesMax) {
        throw Error(ExitCode::try_later,
                    fmt::format("{} bytes wait for the worker", channel_.n_queued()));
    }
    if (!check_.sent(message)) return;
    drain_sent_ = drain_sent_ || std::holds_alternative<Drain>(message);
    channel_.push(frame);
}

void WorkerProcess::flush() {
    channel_.flush();
}

std::vector<ToFront> WorkerProcess::receive() {
    std::vector<ToFront> messages;
    if (!violation_ && !has_ended_) take_messages(messages);
    if (!messages.empty() || has_left_) return messages;
    if (violation_) throw Error(ExitCode::invalid, *violation_);
    if (channel_.at_end()) end();
    if (has_ended_ && !has_left_) throw Error(ExitCode::unavailable, how_it_ended());
    return messages;
}

void WorkerProcess::take_messages(std::vector<ToFront>& messages) {
    channel_.flush();
    try {
        channel_.read();
        while (const auto frame = channel_.next()) {
            ToFront message = decode_to_front(*frame);
            check_.received(message);
            if (const auto* failed = std::get_if<Failed>(&message)) failed_ = failed->message;
            messages.push_back(std::move(message));
        }
    } catch (const Error& error) {
        violation_ = error.message();
        kill();
    }
}

/// The worker's end is closed: its status, or its death.
void WorkerProcess::end() {
    if (has_ended_) return;
    has_ended_ = true;
    constexpr timespec kMillisecond{0, 1'000'000};
    for (int ms = 0; ms < kEndWaitMs && !exit_status(); ++ms)
        ::nanosleep(&kMillisecond, nullptr);
    kill();
    has_left_ = drain_sent_ && exit_status_ == 0 && !failed_ && check_.n_open() == 0;
}

std::string WorkerProcess::how_it_ended() const {
    const int status = exit_status_.value_or(0);
    if (failed_) return fmt::format("the worker has failed: {}", printable(*failed_));
    if (status > kSignalBase) {
        const char* name = ::sigabbrev_np(status - kSignalBase);
        return fmt::format("the worker was killed by signal {} ({})", status - kSignalBase,
                           name == nullptr ? "unknown" : name);
    }
    return fmt::format("the worker has left with exit code {}", status);
}

std::optional<int> WorkerProcess::exit_status() {
    if (exit_status_ || pid_ < 0) return exit_status_;
    int status = 0;
    const pid_t ended = ::waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) {
        exit_status_ = WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (ended < 0 && errno == ECHILD) {
        exit_status_ = static_cast<int>(ExitCode::failure);  // somebody else has waited for it
    }
    return exit_status_;
}

void WorkerProcess::kill() noexcept {
    if (pid_ < 0 || exit_status()) return;
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_status_ = WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace etalon::wire
