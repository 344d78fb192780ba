// SPDX-License-Identifier: Apache-2.0
// The questions of one HTTP request to the workers, and how far they have come.
//   Errands errands(context, mailbox, job);
//   errands.begin();
//   while (errands.state() == running) { wait for news; errands.take_letters(); send text; }
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "serve/dispatcher.h"
#include "serve/session.h"
#include "serve/site.h"

namespace etalon::serve {

/// What is unfinished when the object goes is cancelled at the worker.
class Errands {
  public:
    enum class State : std::uint8_t {
        running,
        done,    ///< every part has ended
        failed,  ///< error() says why
        gone,    ///< the client is: nobody to tell
    };

    /// The arguments outlive the object.
    Errands(SessionContext& context, std::shared_ptr<Mailbox> mailbox, Job& job);
    ~Errands();
    Errands(const Errands&) = delete;
    Errands& operator=(const Errands&) = delete;

    void begin();
    /// Brings what has arrived to the job's answer. Once every part is prepared, so that a part
    /// that is refused costs the others nothing, the intents are recorded; once they are on disk,
    /// "go" is said. The end of a part reaches the answer behind its complete record.
    void take_letters();

    /// Fails what a worker has not even looked at by now.
    void expect_accepted();

    State state() const { return state_; }
    const std::optional<ApiError>& error() const { return error_; }
    Mailbox& mailbox() { return *mailbox_; }
    /// Nothing of the request can be refused any more: a stream may begin.
    bool is_accepted() const { return is_accepted_; }
    /// The id of the answer's receipt; "" before it is accepted.
    const std::string& receipt() const { return ticket_.receipt; }
    bool has_token() const { return has_token_; }

  private:
    struct Errand {
        Dispatcher* dispatcher = nullptr;
        wire::RequestId id = 0;
        bool ended = false;
        bool completed = false;               ///< its complete record was asked for
        std::vector<HeldAnswer> to_check;     ///< once that is on disk
        std::optional<wire::RequestEnd> end;  ///< waits for that
    };

    void take(const Mailbox::Letter& letter);
    void take_began();
    void take_completed(const Mailbox::Completed& completed);
    void bring(std::size_t part, const wire::ToFront& message);
    void end_part(std::size_t part);
    void record_intents();
    void record_complete(std::size_t part, bool is_awaited);
    void choose_checks(std::size_t part, const ledger::Completion& completion);
    void go();
    void fail(ApiError error);

    SessionContext& context_;
    std::optional<AnswerRecord> record_;
    ledger::Ticket ticket_;
    std::uint64_t checks_epoch_ = 0;  ///< when the intents were recorded
    std::shared_ptr<Mailbox> mailbox_;
    Job& job_;
    std::vector<Errand> errands_;
    std::size_t n_prepared_ = 0;
    std::size_t n_ended_ = 0;
    bool has_token_ = false;
    bool is_accepted_ = false;
    bool is_too_long_ = false;    ///< to be stored, as was asked for
    bool is_generation_ = false;  ///< its parts are prepared before they are computed
    State state_ = State::running;
    std::optional<ApiError> error_;
};

}  // namespace etalon::serve
