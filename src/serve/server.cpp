// SPDX-License-Identifier: Apache-2.0
// Listeners, workers and signals on one thread.
#include "serve/server.h"

#include <algorithm>
#include <boost/asio/ssl/context.hpp>
#include <charconv>
#include <csignal>
#include <fmt/format.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "exact/version.h"
#include "ledger/json.h"
#include "ledger/ledger.h"
#include "ledger/run_evidence.h"
#include "serve/boost.h"
#include "serve/dispatcher.h"
#include "serve/front_sandbox.h"
#include "serve/limits.h"
#include "serve/listener.h"
#include "serve/log.h"
#include "serve/session.h"
#include "serve/weights_watch.h"

namespace etalon::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::seconds kCloseTime{2};  // for sessions that are told to end now
constexpr std::chrono::milliseconds kClosePause{100};
constexpr const char* kAlias = "devstral";      // what one client asks for by default
constexpr std::chrono::seconds kLedgerTime{5};  // for `etalon run`, which writes it for a moment
constexpr std::size_t kCertificateBytesMax = 1 << 20;

/// Each connection is a descriptor; the usual soft limit of 1,024 is meant for select().
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

std::shared_ptr<asio::ssl::context> load_tls(const ServerOptions& options) {
    auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
    error_code error;
    context->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1, error);
    context->use_certificate_chain_file(options.certificate.string(), error);
    if (!error) {
        context->use_private_key_file(options.private_key.string(), asio::ssl::context::pem, error);
    }
    if (error) {
        throw Error(ExitCode::usage,
                    fmt::format("cannot use the certificate: {} ({}, {})", error.message(),
                                printable(options.certificate.string()),
                                printable(options.private_key.string())),
                    "both are PEM files: the chain, and the key that belongs to it");
    }
    return context;
}

std::string file_hash(const std::filesystem::path& path) {
    const std::string bytes = read_file(path, kCertificateBytesMax);
    return to_hex(sha256(std::as_bytes(std::span(bytes))));
}

class Server {
  public:
    explicit Server(const ServerOptions& options)
        : options_(options),
          accounts_(options.database),
          checks_(options.self_check),
          context_{io_, site_, dispatchers_, checks_, {}, 0},
          signals_(io_),
          drain_timer_(io_) {
        site_.accounts = &accounts_;
        site_.version = ETALON_VERSION;
        site_.started = unix_time();
        site_.cors_origins = options.cors_origins;
        if (!options.certificate.empty()) tls_ = load_tls(options);
    }

    void run() {
        raise_descriptor_limit();
        listen();
        watch_signals();
        for (std::size_t i = 0; i < options_.models.size(); ++i)
            add_model(i);
        for (const auto& dispatcher : dispatchers_)
            dispatcher->start();
        if (options_.self_check > 0) check_answers_of_all();
        for (tcp::acceptor& acceptor : acceptors_)
            asio::co_spawn(io_, accept(&acceptor), [](const std::exception_ptr& error) {
                if (error) std::rethrow_exception(error);
            });
        if (options_.on_listening) options_.on_listening(listens_);
        refuse_connections();
        open_ledger();
        io_.run();
        end_sessions();
        close_ledger();
        if (hopeless_) throw Error(*hopeless_);
    }

  private:
    /// Behind refuse_connections(): its thread is bound by that too.
    void open_ledger() {
        ledger::LedgerOptions options;
        options.folder = options_.ledger;
        options.program = std::string("etalon ") + ETALON_VERSION;
        options.stored = options_.stored;
        options.wait = kLedgerTime;
        options.on_trouble = [](const Error& error) {
            log_note(fmt::format("ledger: {}", error.message()));
        };
        options.on_erased = [this] {
            asio::post(io_, [this] {
                checks_.forget();
                for (const auto& dispatcher : dispatchers_)
                    dispatcher->forget();
            });
        };
        ledger_ = std::make_unique<ledger::Ledger>(std::move(options));
        site_.ledger = ledger_.get();
        sweep_responses();
        site_.log_files = ledger::log_files(options_.ledger);
        ledger_->record(configuration());
        if (!ledger_->seals_to_local_auditor()) return;
        log_note(fmt::format(
            "no auditor's certificate is in {}: payloads are sealed to a key of "
            "this machine, {}",
            (options_.ledger / "auditors").string(), ledger_->local_auditor_key().string()));
    }

    void sweep_responses() {
        try {
            ledger::sweep_responses(options_.ledger, options_.stored,
                                    static_cast<std::uint64_t>(unix_time()));
        } catch (const Error& error) {
            log_note(fmt::format("stored responses: {}", error.message()));
        }
    }

    ledger::Configuration configuration() const {
        ledger::Configuration configuration = options_.configuration;
        for (const Listen& listen : listens_)
            configuration.listen.push_back(listen_text(listen));
        if (tls_) configuration.certificate = file_hash(options_.certificate);
        return configuration;
    }

    /// What its thread has posted is looked at before the loop goes.
    void close_ledger() {
        ledger_.reset();
        io_.restart();
        io_.poll();
    }

    void listen() {
        for (const Listen& wanted : options_.listens) {
            error_code error;
            const auto address = asio::ip::make_address(wanted.address, error);
            if (!error && !address.is_loopback() && !tls_) {
                throw Error(ExitCode::usage,
                            fmt::format("{} is reached from other machines, and keys and prompts "
                                        "would travel in clear",
                                        listen_text(wanted)),
                            "give a certificate (--certificate, --private-key), or listen on "
                            "127.0.0.1");
            }
            tcp::acceptor acceptor = open_listener(io_, wanted);
            listens_.push_back({wanted.address, acceptor.local_endpoint().port()});
            acceptors_.push_back(std::move(acceptor));
        }
        collect_hosts();
    }

    void collect_hosts() {
        for (const Listen& listen : listens_) {
            std::vector<std::string> names = options_.hosts;
            const bool v6 = listen.address.find(':') != std::string::npos;
            names.push_back(v6 ? fmt::format("[{}]", listen.address) : listen.address);
            if (asio::ip::make_address(listen.address).is_loopback()) names.push_back("localhost");
            for (const std::string& name : names) {
                site_.hosts.push_back(fmt::format("{}:{}", name, listen.port));
                site_.hosts.push_back(name);
            }
        }
    }

    void add_model(std::size_t index) {
        const wire::WorkerOptions& worker = options_.models[index];
        ServedModel model;
        model.id = model_id(worker.model);
        if (index == 0) model.aliases.emplace_back(kAlias);
        model.created = unix_time();
        for (const ServedModel& other : site_.models) {
            if (other.id == model.id) {
                throw Error(ExitCode::usage, fmt::format("two models are named {}", model.id));
            }
        }
        site_.models.push_back(std::move(model));
        Dispatcher::Events events;
        events.on_state = [this, index](const std::optional<wire::Hello>& hello) {
            on_state(index, hello);
        };
        events.on_hopeless = [this](const Error& error) {
            hopeless_ = error;
            stop();
        };
        events.on_lost = [this](const Error& error) {
            log_note(fmt::format("worker lost: {}", error.message()));
            site_.metrics.worker_restarted();
        };
        events.on_left = [this] {
            if (++n_left_ == dispatchers_.size()) stop();
        };
        dispatchers_.push_back(std::make_unique<Dispatcher>(
            io_, [this, worker] { return options_.start_worker(worker); }, std::move(events)));
    }

    void on_state(std::size_t index, const std::optional<wire::Hello>& hello) {
        ServedModel& model = site_.models[index];
        model.hello.reset();
        if (!hello || !record_load(model, *hello)) return;
        model.hello = hello;
        watch_model(index);
        auto& aliases = model.aliases;
        const bool is_new =
            hello->model != model.id && !hello->model.empty() &&
            std::find(aliases.begin(), aliases.end(), hello->model) == aliases.end();
        if (is_new) aliases.push_back(hello->model);
        const bool all = std::all_of(site_.models.begin(), site_.models.end(),
                                     [](const ServedModel& one) { return one.hello; });
        if (!all || was_ready_) return;
        was_ready_ = true;
        if (options_.on_ready) options_.on_ready(site_);
    }

    void watch_model(std::size_t index) {
        WeightsWatch watch;
        watch.period = options_.live_check_time;
        watch.is_wanted = [this, index, load = site_.models[index].load] {
            return ledger_ && site_.models[index].hello && site_.models[index].load == load;
        };
        watch.on_check = [this, index](const WeightsCheck& check) { take_check(index, check); };
        asio::co_spawn(io_, watch_weights(io_, *dispatchers_[index], std::move(watch)),
                       [](const std::exception_ptr& fault) { report(fault); });
    }

    /// What changed is replaced whether or not a record can say so.
    void take_check(std::size_t index, const WeightsCheck& check) {
        const ServedModel& model = site_.models[index];
        try {
            ledger_->record(
                ledger::LiveCheck{check.digest, model.load, check.nonce, check.verdict});
        } catch (const Error& error) {
            log_note(fmt::format("{}: its weights in memory: {}; not recorded: {}", model.id,
                                 check.verdict, error.message()));
        }
        if (check.verdict != "changed") return;
        dispatchers_[index]->replace_worker(Error(
            ExitCode::invalid, fmt::format("{}: its weights in memory have changed", model.id)));
    }

    void check_answers_of_all() {
        for (std::size_t i = 0; i < dispatchers_.size(); ++i) {
            const auto on_answer = [this, i](const HeldAnswer& answer, const wire::ToFront& said) {
                take_replay(site_.models[i], answer, said);
            };
            asio::co_spawn(io_, check_answers(io_, *dispatchers_[i], checks_, on_answer),
                           [](const std::exception_ptr& fault) { report(fault); });
        }
    }

    /// What cannot be derived says nothing of the answer, and has no record.
    void take_replay(const ServedModel& model, const HeldAnswer& answer,
                     const wire::ToFront& said) {
        const auto* replayed = std::get_if<wire::Replayed>(&said);
        site_.metrics.self_checked(replayed == nullptr ? "none" : replayed->verdict);
        if (replayed == nullptr || !ledger_ || !model.hello) return;
        ledger::Replay record{answer.intent, answer.choice, replayed->verdict,
                              static_cast<std::uint64_t>(replayed->position),
                              ledger::plain(model.hello->backend)};
        const std::string text = fmt::format("self-check: {}: answer {} of record {}: {}", model.id,
                                             answer.choice, answer.intent, replayed->verdict);
        if (replayed->verdict != "match") log_note(text);
        try {
            ledger_->record(std::move(record));
        } catch (const Error& error) {
            log_note(fmt::format("{}; not recorded: {}", text, error.message()));
        }
    }

    /// False: it could not be recorded, and the server ends.
    bool record_load(ServedModel& model, const wire::Hello& hello) {
        ledger::ModelLoad load;
        load.model = hello.file_sha256;
        load.name = model.id;
        load.architecture = hello.architecture;
        load.backend = hello.backend;
        load.arithmetic = exact::kArithmeticVersion;
        load.context_tokens = static_cast<std::uint64_t>(hello.context_tokens);
        load.vocab_size = static_cast<std::uint64_t>(hello.vocab_size);
        try {
            if (load.model.empty()) {
                throw Error(ExitCode::failure, fmt::format("{} was not hashed", model.id));
            }
            model.load = ledger_->model_loaded(load);
            ledger::keep_sandbox(options_.ledger, model.load, hello.sandbox);
            return true;
        } catch (const Error& error) {
            hopeless_ = error;
            stop();
            return false;
        }
    }

    asio::awaitable<void> accept(tcp::acceptor* acceptor) {
        while (auto socket = co_await next_connection(*acceptor)) {
            if (context_.idlers.size() >= kConnectionsMax) continue;  // closes it
            error_code ignored;
            socket->set_option(tcp::no_delay(true), ignored);
            auto session = tls_ ? serve_tls(std::move(*socket), tls_, context_)
                                : serve_plain(std::move(*socket), context_);
            asio::co_spawn(io_, std::move(session), [this](const std::exception_ptr& fault) {
                report(fault);
                if (site_.draining && context_.idlers.empty()) drain_workers();
            });
        }
    }

    static void report(const std::exception_ptr& fault) {
        if (!fault) return;
        try {
            std::rethrow_exception(fault);
        } catch (const std::exception& error) {
            log_note(fmt::format("a session ended: {}", error.what()));
        }
    }

    void watch_signals() {
        for (const int signal : {SIGTERM, SIGINT, SIGHUP})
            signals_.add(signal);
        await_signal();
    }

    void await_signal() {
        signals_.async_wait([this](error_code error, int signal) {
            if (error) return;
            if (signal == SIGHUP) {
                reload_tls();
            } else if (site_.draining) {
                log_note("ending now");
                stop();
                return;
            } else {
                drain();
            }
            await_signal();
        });
    }

    void reload_tls() {
        if (!tls_) return;
        try {
            auto tls = load_tls(options_);
            if (ledger_) ledger_->record(configuration());
            tls_ = std::move(tls);
            log_note("the certificate was read again");
        } catch (const Error& error) {
            log_note(error.message());
        }
    }

    void drain() {
        log_note("ending; running answers are finished first, a second signal ends them");
        site_.draining = true;
        if (options_.on_draining) options_.on_draining();
        close_acceptors();
        for (Idler* idler : context_.idlers)
            idler->close_if_idle();
        drain_timer_.expires_after(kDrainTime);
        drain_timer_.async_wait([this](error_code error) {
            if (!error) stop();
        });
        if (context_.idlers.empty()) drain_workers();
    }

    void drain_workers() {
        if (std::exchange(workers_drained_, true)) return;
        if (dispatchers_.empty()) stop();
        for (const auto& dispatcher : dispatchers_)
            dispatcher->drain();
    }

    void close_acceptors() {
        error_code ignored;
        for (tcp::acceptor& acceptor : acceptors_)
            acceptor.close(ignored);
    }

    void stop() {
        close_acceptors();
        io_.stop();
    }

    /// Sessions refer to the dispatchers: each must have ended before those go.
    void end_sessions() {
        signals_.cancel();
        drain_timer_.cancel();
        workers_drained_ = true;
        io_.restart();
        for (Idler* idler : context_.idlers)
            idler->close_now();
        const auto end = std::chrono::steady_clock::now() + kCloseTime;
        while (!context_.idlers.empty() && std::chrono::steady_clock::now() < end)
            io_.run_one_for(kClosePause);
        ETALON_ASSERT(context_.idlers.empty());
    }

    const ServerOptions& options_;
    Accounts accounts_;
    Site site_;
    asio::io_context io_{1};
    std::unique_ptr<ledger::Ledger> ledger_;
    std::vector<std::unique_ptr<Dispatcher>> dispatchers_;
    SelfChecks checks_;
    SessionContext context_;
    std::shared_ptr<asio::ssl::context> tls_;
    std::vector<tcp::acceptor> acceptors_;
    std::vector<Listen> listens_;
    asio::signal_set signals_;
    asio::steady_timer drain_timer_;
    std::size_t n_left_ = 0;
    bool was_ready_ = false;
    bool workers_drained_ = false;
    std::optional<Error> hopeless_;
};

}  // namespace

Listen parse_listen(const std::string& text) {
    const auto wrong = [&] {
        return Error(ExitCode::usage, fmt::format("{} is not HOST:PORT", printable(text)),
                     "as in 127.0.0.1:8080 or [::1]:8080");
    };
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) throw wrong();
    Listen listen;
    listen.address = text.substr(0, colon);
    if (listen.address.front() == '[' && listen.address.back() == ']') {
        listen.address = listen.address.substr(1, listen.address.size() - 2);
    }
    if (listen.address == "localhost") listen.address = "127.0.0.1";
    const char* end = text.data() + text.size();
    const auto [parsed, error] = std::from_chars(text.data() + colon + 1, end, listen.port);
    if (error != std::errc() || parsed != end) throw wrong();
    error_code bad_address;
    asio::ip::make_address(listen.address, bad_address);
    if (bad_address) throw wrong();
    return listen;
}

std::string listen_text(const Listen& listen) {
    const bool v6 = listen.address.find(':') != std::string::npos;
    return v6 ? fmt::format("[{}]:{}", listen.address, listen.port)
              : fmt::format("{}:{}", listen.address, listen.port);
}

std::string model_id(const std::filesystem::path& model) {
    std::string stem =
        model.has_filename() ? model.stem().string() : model.parent_path().filename().string();
    // A name goes into answers and messages: what is no text becomes visible.
    return printable(stem);
}

void run_server(const ServerOptions& options) {
    Server server(options);
    server.run();
}

}  // namespace etalon::serve
