// SPDX-License-Identifier: Apache-2.0
// Start, and the loop: read what the front says, compute one step, write what came of it.
#include "worker/worker.h"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <poll.h>
#include <sys/random.h>

#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "model/memory.h"
#include "weights/admission.h"
#include "wire/channel.h"
#include "wire/codec.h"
#include "wire/limits.h"
#include "worker/card.h"
#include "worker/limits.h"
#include "worker/loaded_model.h"
#include "worker/sandbox.h"
#include "worker/service.h"

namespace etalon::worker {

namespace {

engine::Time now() {
    return std::chrono::steady_clock::now().time_since_epoch();
}

std::uint64_t random_bits() {
    std::uint64_t bits = 0;
    if (::getrandom(&bits, sizeof(bits), 0) != static_cast<ssize_t>(sizeof(bits))) {
        throw Error(ExitCode::failure, fmt::format("getrandom: {}", std::strerror(errno)));
    }
    return bits;
}

/// Libraries that read files of the system when they are first used do it before the sandbox
/// closes.
void wake_libraries() {
    (void)sha256({});
    (void)std::chrono::steady_clock::now();
}

void ignore_signals_of_the_group() {
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE})
        std::signal(signal, SIG_IGN);
}

/// Why a strict worker does not start, or nothing.
void require_all(const Sandbox& sandbox) {
    for (const Layer& layer : sandbox.layers()) {
        if (layer.on) continue;
        throw Error(ExitCode::refused,
                    fmt::format("sandbox: {} is missing: {}", layer.name, layer.detail),
                    "etalon doctor --sandbox says what the system offers; without strict the "
                    "worker starts all the same");
    }
}

SandboxOptions sandbox_options(const WorkerOptions& options, const weights::Admission& admission,
                               int channel_fd) {
    SandboxOptions sandbox{readable_files(options.model), admission.descriptors(), {}};
    for (std::filesystem::path& path : admission.readable())
        sandbox.files.push_back(std::move(path));
    sandbox.descriptors.push_back(channel_fd);
    return sandbox;
}

int verifying_threads(int n_threads) {
    return n_threads > 0 ? n_threads : usable_processors();
}

class Loop {
  public:
    Loop(wire::Channel& channel, Service& service) : channel_(&channel), service_(&service) {}

    /// Until the front has left or everything is drained.
    void run() {
        while (!channel_->at_end()) {
            wait();
            channel_->flush();
            // A front that does not read gets no more to read: nothing is computed, for anybody,
            // and nothing new is heard. Slow clients are the front's matter; it reads always.
            if (channel_->n_queued() > kUnsentBytesMax) continue;
            hear();
            service_->step(now());
            say();
            if (service_->is_drained() && !channel_->wants_write()) return;
        }
    }

  private:
    void wait() {
        const bool blocked = channel_->n_queued() > kUnsentBytesMax;
        short events = blocked ? 0 : POLLIN;
        if (channel_->wants_write()) events |= POLLOUT;
        pollfd socket{channel_->fd(), events, 0};
        const bool busy = !blocked && (service_->has_work() || unheard_);
        if (::poll(&socket, 1, busy ? 0 : -1) < 0 && errno != EINTR) {
            throw Error(ExitCode::failure, fmt::format("poll: {}", std::strerror(errno)));
        }
        // Without POLLIN a front that died shows as this alone; reading then finds the end.
        if ((socket.revents & (POLLHUP | POLLERR)) != 0) channel_->read();
    }

    void hear() {
        if (!unheard_) channel_->read();
        unheard_ = false;
        while (const auto frame = channel_->next()) {
            service_->handle(wire::decode_to_worker(*frame), now());
            say();
            // The rest stays where it is until the front has read the answers.
            unheard_ = channel_->n_queued() > kUnsentBytesMax;
            if (unheard_) return;
        }
    }

    void say() {
        for (const wire::ToFront& reply : service_->take_replies())
            channel_->push(wire::encode(reply));
    }

    wire::Channel* channel_;
    Service* service_;
    bool unheard_ = false;  // frames may wait in the channel, which no poll shows
};

void serve(const WorkerOptions& options, wire::Channel& channel) {
    ModelOptions model_options;
    model_options.path = options.model;
    model_options.backend = options.backend;
    model_options.isa = std::getenv("ETALON_ISA");
    model_options.threads = options.threads;
    model_options.context = options.context;
    model_options.cache_bytes = options.cache_bytes;
    model_options.hash = options.hash;
    model_options.available_bytes = model::available_memory();
    model_options.entropy = random_bits();
    wake_libraries();
    // Owners and modes are looked at from outside of the sandbox, where user ids are the system's;
    // what the signature says is hostile until it is verified, and read inside.
    weights::AdmissionOptions admission_options;
    admission_options.required = !options.public_key.empty();
    admission_options.public_key = options.public_key;
    admission_options.record = options.record;
    admission_options.file_sha256 = options.hash;
    weights::Admission admission(options.model, admission_options);
    SandboxOptions locks = sandbox_options(options, admission, channel.fd());
    std::unique_ptr<backend::Backend> card;
    locks.open_card = [&] {
        card = open_card(options.backend);
        return card != nullptr;
    };
    const Sandbox sandbox = close_sandbox(locks);
    if (options.strict) require_all(sandbox);
    model_options.check = admission.verify(verifying_threads(options.threads));
    model_options.sha256 = admission.admitted().file_sha256;
    LoadedModel model(model_options, std::move(card));
    seal_sandbox(sandbox);
    wire::Hello hello = model.hello();
    hello.sandbox = sandbox.text();
    channel.push(wire::encode(hello));
    Service service(model, random_bits);
    Loop(channel, service).run();
}

/// The last words; a front that is gone or does not read misses them.
void say_failed(wire::Channel& channel, const std::string& message, ExitCode code) {
    constexpr std::size_t kMessageBytes = 1000;
    const wire::Failed failed{printable(message, kMessageBytes), static_cast<int>(code)};
    channel.push(wire::encode(failed));
}

}  // namespace

int run_worker(const WorkerOptions& options) {
    ignore_signals_of_the_group();
    wire::Channel channel(options.fd);
    try {
        serve(options, channel);
    } catch (const Error& error) {
        say_failed(channel, error.message(), error.code());
        throw;
    } catch (const std::bad_alloc&) {
        say_failed(channel, "out of memory", ExitCode::out_of_memory);
        throw;
    }
    return 0;
}

}  // namespace etalon::worker
