// SPDX-License-Identifier: Apache-2.0
// The session, written once for plain sockets and TLS: read a head, admit it, read its body, ask
// its handler, send what that returns; again until one side is done. Included by session_plain.cpp
// and session_tls.cpp alone: nothing else should pay for compiling it.
#pragma once

#include <chrono>
#include <fmt/format.h>

#include "base/clock.h"
#include "serve/boost.h"
#include "serve/client_watch.h"
#include "serve/errands.h"
#include "serve/handle_stored.h"
#include "serve/limits.h"
#include "serve/log.h"
#include "serve/request_head.h"
#include "serve/routes.h"
#include "serve/session.h"

namespace etalon::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
using boost::system::error_code;
using Parser = beast::http::request_parser<beast::http::string_body>;

inline constexpr const char* kReceiptHeader = "x-etalon-receipt";
/// What is read and dropped of a body that was refused, in kLingerTime at most; then the connection
/// ends.
inline constexpr std::size_t kLingerBytes = 64 << 20;
inline constexpr std::chrono::seconds kLingerTime{2};

template <class Stream>
class Session : public Idler {
  public:
    template <class... Arguments>
    explicit Session(SessionContext& context, Arguments&&... arguments)
        : context_(context),
          stream_(std::forward<Arguments>(arguments)...),
          buffer_(kReadAheadBytes) {
        context_.idlers.insert(this);
        context_.site.metrics.connection_opened();
    }
    ~Session() override {
        context_.idlers.erase(this);
        context_.site.metrics.connection_closed();
    }
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    Stream& stream() { return stream_; }

    void close_if_idle() override {
        if (is_idle_) beast::get_lowest_layer(stream_).cancel();
    }
    void close_now() override { beast::get_lowest_layer(stream_).close(); }

    /// Requests until the connection is done.
    asio::awaitable<void> serve() {
        for (int i = 0; i < kRequestsPerConnectionMax; ++i) {
            requests_left_ = i + 1 < kRequestsPerConnectionMax;
            const bool again = co_await serve_request();
            if (!again) break;
        }
    }

  private:
    using Clock = std::chrono::steady_clock;

    /// What is known of one request while it is served.
    struct Exchange {
        HttpRequest request;
        Admitted admitted;
        AccessLine line;
        Clock::time_point start;
        bool keep_alive = true;
        bool is_http_1_0 = false;
        std::uint64_t reserved_bytes = 0;
    };

    void set_time(std::chrono::seconds time) {
        beast::get_lowest_layer(stream_).expires_after(time);
    }

    /// The first bytes of a request; false: none came.
    asio::awaitable<bool> await_request() {
        if (buffer_.size() > 0) co_return true;
        set_time(kIdleTime);
        is_idle_ = true;
        error_code error;
        const auto room = buffer_.prepare(4096);
        const std::size_t n = co_await stream_.async_read_some(
            room, asio::redirect_error(asio::use_awaitable, error));
        is_idle_ = false;
        buffer_.commit(n);
        co_return !error && n > 0;
    }

    /// True: another request may follow on this connection.
    asio::awaitable<bool> serve_request() {
        const bool came = co_await await_request();
        if (!came) co_return false;
        Parser parser;
        parser.header_limit(kHeaderBytesMax);
        parser.body_limit(kBodyBytesMax);
        Exchange exchange;
        exchange.start = Clock::now();
        exchange.line.request_id = random_id("req_");
        set_time(kHeaderTime);
        error_code error;
        co_await beast::http::async_read_header(stream_, buffer_, parser,
                                                asio::redirect_error(asio::use_awaitable, error));
        if (error) {
            const std::optional<ApiError> told = head_error(error);
            if (told) co_await refuse_and_close(exchange, *told);
            co_return false;
        }
        exchange.request = request_of(parser.get());
        exchange.line.method = printable(exchange.request.method, 16);
        exchange.is_http_1_0 = parser.get().version() < 11;
        exchange.keep_alive = parser.keep_alive() && requests_left_ && !context_.site.draining;
        const bool again = co_await serve_head(exchange, parser);
        context_.body_bytes -= exchange.reserved_bytes;
        co_return again&& exchange.keep_alive;
    }

    /// Behind the head: admission, body, answer.
    asio::awaitable<bool> serve_head(Exchange& exchange, Parser& parser) {
        std::optional<ApiError> refused;
        std::optional<HttpResponse> early = preflight(context_.site, exchange.request);
        if (!early) refused = try_admit(exchange, parser);
        const bool body_follows = !parser.is_done();
        if (early || refused) {
            if (body_follows) exchange.keep_alive = false;
            HttpResponse response =
                early ? std::move(*early) : refused->response(exchange.line.request_id);
            const bool sent = co_await send_whole(exchange, std::move(response));
            if (sent && body_follows) co_await linger();
            co_return sent;
        }
        if (body_follows) {
            const std::optional<ApiError> fault = co_await read_body(exchange, parser);
            if (fault) {
                co_await refuse_and_close(exchange, *fault);
                co_return false;
            }
        }
        exchange.request.body = std::move(parser.get().body());
        co_return co_await answer(exchange);
    }

    std::optional<ApiError> try_admit(Exchange& exchange, const Parser& parser) {
        try {
            exchange.admitted = admit(context_.site, exchange.request, unix_time(),
                                      seconds_of(Clock::now().time_since_epoch()));
            exchange.line.route = exchange.admitted.route->path;
            exchange.line.key_id = exchange.admitted.key.id;
            exchange.line.tenant = exchange.admitted.key.tenant;
            check_body_head(exchange.request, parser.content_length());
            const std::uint64_t bytes =
                parser.is_done() ? 0 : parser.content_length().value_or(kBodyBytesMax);
            if (bytes > kBodiesBytesMax - context_.body_bytes) {
                throw unavailable("too many large requests at once");
            }
            context_.body_bytes += bytes;
            exchange.reserved_bytes = bytes;
            return std::nullopt;
        } catch (const ApiError& error) {
            return error;
        } catch (const Error& error) {  // the database
            log_note(error.message());
            return ApiError(500, "server_error", "internal_error", "the server has a fault");
        }
    }

    asio::awaitable<std::optional<ApiError>> read_body(Exchange& exchange, Parser& parser) {
        error_code error;
        set_time(kBodyTime);
        if (exchange.request.header("expect") != nullptr) {
            static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
            co_await asio::async_write(stream_, asio::buffer(kContinue),
                                       asio::redirect_error(asio::use_awaitable, error));
        }
        if (!error) {
            co_await beast::http::async_read(stream_, buffer_, parser,
                                             asio::redirect_error(asio::use_awaitable, error));
        }
        if (!error) co_return std::nullopt;
        const std::optional<ApiError> told = head_error(error);
        co_return told.value_or(field_error("", "the body did not arrive"));
    }

    asio::awaitable<bool> answer(Exchange& exchange) {
        std::optional<Outcome> outcome;
        std::optional<ApiError> refused;
        try {
            const Call call{exchange.request, exchange.admitted.target, exchange.admitted.key,
                            exchange.line.request_id, unix_time()};
            outcome.emplace(exchange.admitted.route->handle(context_.site, call));
        } catch (const ApiError& error) {
            refused = error;
        } catch (const std::bad_alloc&) {
            refused = unavailable("out of memory");
        } catch (const Error& error) {  // files of the ledger
            log_note(error.message());
            refused = ApiError(500, "server_error", "internal_error", "the server has a fault");
        }
        if (refused) {
            co_return co_await send_whole(exchange, refused->response(exchange.line.request_id));
        }
        // The text of the request is not needed any more; an idle stream should cost little.
        exchange.request.body = std::string();
        context_.body_bytes -= std::exchange(exchange.reserved_bytes, 0);
        if (auto* response = std::get_if<HttpResponse>(&*outcome)) {
            co_return co_await send_whole(exchange, std::move(*response));
        }
        if (auto* reading = std::get_if<Reading>(&*outcome)) {
            co_return co_await run_reading(exchange, *reading);
        }
        co_return co_await run_job(exchange, std::get<Job>(*outcome));
    }

    /// Stored content is shown once the record that says so is on disk.
    asio::awaitable<bool> run_reading(Exchange& exchange, const Reading& reading) {
        const auto mailbox = std::make_shared<Mailbox>(context_.io);
        const auto watch =
            std::make_shared<ClientWatch>(beast::get_lowest_layer(stream_).socket(), mailbox);
        watch->start();
        context_.site.ledger->read_stored(
            reading.tenant, reading.intent, reading.reason,
            [mailbox](std::variant<ledger::StoredReading, Error> recorded) {
                Mailbox::post(mailbox, [mailbox, recorded] { mailbox->recorded = recorded; });
            });
        while (!mailbox->has_news())
            co_await mailbox->wait(kPingTime);
        watch->stop();
        HttpResponse response;
        try {
            if (!mailbox->recorded) throw unavailable("the client is gone");
            const Call call{exchange.request, exchange.admitted.target, exchange.admitted.key,
                            exchange.line.request_id, unix_time()};
            response = content_response(context_.site, call, reading, *mailbox->recorded);
        } catch (const ApiError& error) {
            response = error.response(exchange.line.request_id);
        }
        co_return co_await send_whole(exchange, std::move(response));
    }

    /// A job from its questions to its last byte.
    asio::awaitable<bool> run_job(Exchange& exchange, Job& job) {
        const auto mailbox = std::make_shared<Mailbox>(context_.io);
        Errands errands(context_, mailbox, job);
        const auto watch =
            std::make_shared<ClientWatch>(beast::get_lowest_layer(stream_).socket(), mailbox);
        watch->start();
        const bool computes = job.record.has_value();  // the others ask for counters or tokens
        if (computes) context_.site.metrics.answer_began();
        const bool sent = co_await run_errands(exchange, job, errands);
        if (computes) context_.site.metrics.answer_left();
        watch->stop();
        const Usage& usage = job.answer->usage();
        if (usage.prompt_tokens > 0) {
            context_.site.metrics.answer_ended(usage);
            count_usage(exchange, usage);
        }
        co_return sent;
    }

    asio::awaitable<bool> run_errands(Exchange& exchange, Job& job, Errands& errands) {
        bool streaming = false;
        errands.begin();
        while (errands.state() == Errands::State::running) {
            co_await errands.mailbox().wait(kPingTime);
            const bool silent = !errands.mailbox().has_news();
            errands.take_letters();
            if (errands.state() == Errands::State::gone) break;
            if (Clock::now() - exchange.start > kWorkerAnswerTime) errands.expect_accepted();
            if (errands.has_token() && exchange.line.first_token_seconds < 0.0) {
                exchange.line.first_token_seconds = seconds_of(Clock::now() - exchange.start);
                context_.site.metrics.first_token(exchange.line.first_token_seconds);
            }
            if (!job.stream || !errands.is_accepted()) continue;
            if (!streaming) {
                streaming = true;
                job.headers.emplace_back(kReceiptHeader, errands.receipt());
                const bool sent = co_await send_stream_head(exchange, job);
                if (!sent) co_return end_line(exchange, 499, job);
            }
            const std::string text = silent ? kPingEvent : job.answer->take_text();
            const bool sent = co_await send_piece(exchange, text);
            if (!sent) co_return end_line(exchange, 499, job);
        }
        if (errands.state() == Errands::State::gone) co_return end_line(exchange, 499, job);
        if (streaming) co_return co_await end_stream(exchange, job, errands);
        exchange.line.finish = job.answer->finish();
        exchange.line.prompt_tokens = job.answer->usage().prompt_tokens;
        exchange.line.answer_tokens = job.answer->usage().answer_tokens;
        if (!errands.receipt().empty()) {
            job.headers.emplace_back(kReceiptHeader, errands.receipt());
        }
        HttpResponse response{200, job.content_type, job.headers, ""};
        if (errands.error()) {
            response = errands.error()->response(exchange.line.request_id);
        } else {
            response.body = job.answer->take_text();
        }
        co_return co_await send_whole(exchange, std::move(response));
    }

    asio::awaitable<bool> send_stream_head(Exchange& exchange, const Job& job) {
        HttpResponse response{200, "text/event-stream; charset=utf-8", job.headers, ""};
        response.headers.emplace_back("cache-control", "no-cache");
        response.headers.emplace_back("x-accel-buffering", "no");
        add_common_headers(exchange, response);
        if (exchange.is_http_1_0) exchange.keep_alive = false;
        const Framing framing{exchange.keep_alive, !exchange.is_http_1_0, false, 0};
        co_return co_await write(head_text(response, framing));
    }

    asio::awaitable<bool> send_piece(const Exchange& exchange, std::string text) {
        if (text.empty()) co_return true;
        // NOTE: apart from the co_await: GCC 12 destroys what a conditional in it makes twice.
        if (!exchange.is_http_1_0) text = chunk_text(text);
        co_return co_await write(std::move(text));
    }

    asio::awaitable<bool> end_stream(Exchange& exchange, Job& job, Errands& errands) {
        std::string text;
        if (errands.error()) text = errands.error()->event(exchange.line.request_id);
        if (!exchange.is_http_1_0) text = chunk_text(text) + std::string(kLastChunk);
        const bool sent = co_await write(std::move(text));
        end_line(exchange, errands.error() ? errands.error()->status() : 200, job);
        co_return sent;
    }

    /// Writes the line of the log; returns false, for a client that is gone.
    bool end_line(Exchange& exchange, int status, const Job& job) {
        exchange.line.finish = status == 499 ? "cancelled" : job.answer->finish();
        exchange.line.prompt_tokens = job.answer->usage().prompt_tokens;
        exchange.line.answer_tokens = job.answer->usage().answer_tokens;
        end_line(exchange, status);
        return false;
    }

    void end_line(Exchange& exchange, int status) {
        exchange.line.status = status;
        exchange.line.seconds = seconds_of(Clock::now() - exchange.start);
        context_.site.metrics.request_ended(status, exchange.line.finish, exchange.line.seconds);
        // Health is asked for every few seconds: a line for each would hide the others.
        if (exchange.admitted.route == nullptr || exchange.admitted.route->scope != 0) {
            log_access(exchange.line);
        }
    }

    void count_usage(const Exchange& exchange, const Usage& usage) {
        if (exchange.admitted.key.id == 0) return;
        try {
            context_.site.accounts->add_usage(exchange.admitted.key.id, unix_time(),
                                              {1, usage.prompt_tokens, usage.answer_tokens});
        } catch (const Error& error) {
            log_note(error.message());
        }
    }

    void add_common_headers(const Exchange& exchange, HttpResponse& response) {
        response.headers.emplace_back("x-request-id", exchange.line.request_id);
        if (response.status < 400) {
            const HeaderList& limits = exchange.admitted.headers;
            response.headers.insert(response.headers.end(), limits.begin(), limits.end());
        }
        for (auto& header : cors_headers(context_.site, exchange.request))
            response.headers.push_back(std::move(header));
    }

    asio::awaitable<bool> send_whole(Exchange& exchange, HttpResponse response) {
        add_common_headers(exchange, response);
        const Framing framing{exchange.keep_alive, false, true, response.body.size()};
        std::string text = head_text(response, framing);
        if (exchange.request.method != "HEAD") text += response.body;
        const bool sent = co_await write(std::move(text));
        end_line(exchange, response.status);
        co_return sent;
    }

    asio::awaitable<void> refuse_and_close(Exchange& exchange, ApiError error) {
        exchange.keep_alive = false;
        const bool sent = co_await send_whole(exchange, error.response(exchange.line.request_id));
        if (sent) co_await linger();
    }

    asio::awaitable<bool> write(std::string text) {
        set_time(kWriteTime);
        error_code error;
        co_await asio::async_write(stream_, asio::buffer(text),
                                   asio::redirect_error(asio::use_awaitable, error));
        co_return !error;
    }

    /// Reads and drops what still comes: closing at once would take the answer from a client that
    /// is still sending.
    asio::awaitable<void> linger() {
        set_time(kLingerTime);
        error_code error;
        if constexpr (std::is_same_v<Stream, beast::tcp_stream>) {
            stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, error);
        }
        std::size_t n_read = 0;
        while (!error && n_read < kLingerBytes) {
            buffer_.clear();
            const auto room = buffer_.prepare(4096);
            n_read += co_await stream_.async_read_some(
                room, asio::redirect_error(asio::use_awaitable, error));
        }
    }

    static double seconds_of(Clock::duration time) {
        return std::chrono::duration<double>(time).count();
    }

    SessionContext& context_;
    Stream stream_;
    beast::flat_buffer buffer_;
    bool is_idle_ = false;
    bool requests_left_ = true;
};

}  // namespace etalon::serve
