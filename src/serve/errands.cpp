// SPDX-License-Identifier: Apache-2.0
// From a job to messages and back.
#include "serve/errands.h"

#include <algorithm>
#include <utility>

#include "ledger/limits.h"
#include "serve/log.h"

namespace etalon::serve {

namespace {

/// No ledger, no answer.
ApiError unrecorded() {
    return {503, "server_error", "ledger_unavailable",
            "the answer cannot be recorded, and is not given without that"};
}

ApiError not_there_now() {
    return {404, "invalid_request_error", "previous_response_not_found",
            "the conversation before was erased meanwhile", "previous_response_id"};
}

}  // namespace

Errands::Errands(SessionContext& context, std::shared_ptr<Mailbox> mailbox, Job& job)
    : context_(context), mailbox_(std::move(mailbox)), job_(job) {}

Errands::~Errands() {
    for (const Errand& errand : errands_) {
        if (!errand.ended) errand.dispatcher->abandon(errand.id);
    }
    // What was begun and has no end for the client has one in the ledger.
    if (!record_ || !is_accepted_) return;
    for (std::size_t part = 0; part < errands_.size(); ++part) {
        if (!errands_[part].completed) record_complete(part, false);
    }
}

void Errands::begin() {
    ETALON_ASSERT(errands_.empty());
    try {
        if (job_.record) record_.emplace(std::move(*job_.record));
        for (std::size_t part = 0; part < job_.asks.size(); ++part) {
            Ask& ask = job_.asks[part];
            Dispatcher& dispatcher = *context_.dispatchers.at(ask.model);
            if (const auto* prepare = std::get_if<wire::Prepare>(&ask.message)) {
                ETALON_ASSERT(record_);  // no ledger, no answer
                is_generation_ = true;
                record_->add_part(prepare->sampling);
            }
            const wire::RequestId id = dispatcher.ask(std::move(ask.message), mailbox_, part);
            errands_.push_back({&dispatcher, id, false, false, {}, std::nullopt});
        }
    } catch (const ApiError& error) {
        fail(error);
    }
}

void Errands::take_letters() {
    if (mailbox_->began && state_ == State::running) take_began();
    while (state_ == State::running && !mailbox_->completed.empty()) {
        const Mailbox::Completed completed = std::move(mailbox_->completed.front());
        mailbox_->completed.pop_front();
        take_completed(completed);
    }
    while (state_ == State::running && !mailbox_->letters.empty()) {
        const Mailbox::Letter letter = std::move(mailbox_->letters.front());
        mailbox_->letters.pop_front();
        take(letter);
    }
    const bool awaits_worker = std::any_of(errands_.begin(), errands_.end(),
                                           [](const Errand& errand) { return !errand.ended; });
    if (mailbox_->client_gone) {
        state_ = State::gone;
    } else if (state_ == State::running && mailbox_->worker_lost && awaits_worker) {
        fail(unavailable("the worker was lost, it is started again"));
    }
}

void Errands::take(const Mailbox::Letter& letter) {
    if (const auto* refused = std::get_if<wire::Refused>(&letter.message)) {
        errands_[letter.part].ended = true;
        wire::Refused told = *refused;
        // The worker's names are those of the sampling parameters, but for these.
        if (told.field == "prompt") told.field = job_.prompt_field;
        if (told.field == "cache_key") told.field = "prompt_cache_key";
        fail(refusal_error(told));
        return;
    }
    has_token_ = has_token_ || std::holds_alternative<wire::Token>(letter.message);
    if (is_generation_) record_->take(letter.part, letter.message);
    if (const auto* end = std::get_if<wire::RequestEnd>(&letter.message)) {
        errands_[letter.part].ended = true;
        errands_[letter.part].end = *end;
        record_complete(letter.part, true);
        return;
    }
    bring(letter.part, letter.message);
    if (state_ != State::running) return;
    if (std::holds_alternative<wire::Prepared>(letter.message)) {
        if (++n_prepared_ == errands_.size()) record_intents();
    } else if (!is_generation_) {
        errands_[letter.part].ended = true;
        end_part(letter.part);
    }
}

void Errands::bring(std::size_t part, const wire::ToFront& message) {
    try {
        job_.answer->take(part, message);
    } catch (const ApiError& error) {
        fail(error);
    }
}

void Errands::end_part(std::size_t part) {
    ETALON_ASSERT(errands_[part].ended);
    if (++n_ended_ == errands_.size()) state_ = State::done;
}

void Errands::record_intents() {
    checks_epoch_ = context_.checks.epoch();
    try {
        const auto on_begun = [mailbox = mailbox_](ledger::Began began) {
            Mailbox::post(mailbox, [mailbox, began = std::move(began)] { mailbox->began = began; });
        };
        context_.site.ledger->begin(record_->take_intent(), on_begun);
    } catch (const Error& error) {  // what the worker said fits no record
        log_note(error.message());
        fail(unavailable("the worker's answer cannot be recorded"));
    }
}

void Errands::take_began() {
    const ledger::Began began = *std::exchange(mailbox_->began, std::nullopt);
    if (const auto* error = std::get_if<Error>(&began)) {
        log_note(error->message());
        fail(error->code() == ExitCode::not_found ? not_there_now() : unrecorded());
        return;
    }
    ticket_ = std::get<ledger::Ticket>(began);
    is_accepted_ = true;
    job_.answer->set_receipt(ticket_.receipt);
    go();
}

void Errands::record_complete(std::size_t part, bool is_awaited) {
    errands_[part].completed = true;
    try {
        ledger::Completion completion = record_->completion(part, ticket_.intent + part);
        if (job_.store && is_awaited) {
            completion.store = {job_.store->id, job_.answer->stored_text(*errands_[part].end)};
            is_too_long_ = completion.store->content.size() > ledger::kStoredContentBytesMax;
            if (is_too_long_) completion.store.reset();
        }
        if (is_awaited) choose_checks(part, completion);
        const auto on_written = [mailbox = mailbox_, part, is_awaited](const Error* error) {
            std::optional<Error> why;
            if (error != nullptr) why = *error;
            Mailbox::post(mailbox, [mailbox, part, is_awaited, why] {
                if (why) log_note(why->message());
                if (is_awaited) mailbox->completed.push_back({part, why});
            });
        };
        context_.site.ledger->complete(std::move(completion), on_written);
    } catch (const Error& error) {  // what the worker said fits no payload
        log_note(error.message());
        if (is_awaited) fail(unrecorded());
    }
}

/// What was cut short is left alone: its end depends on when, and tells little.
void Errands::choose_checks(std::size_t part, const ledger::Completion& completion) {
    for (std::size_t choice = 0; choice < completion.answers.size(); ++choice) {
        if (!context_.checks.is_due()) continue;
        errands_[part].to_check.push_back(
            {completion.intent, choice, completion.answers[choice].payload});
    }
}

void Errands::take_completed(const Mailbox::Completed& completed) {
    if (completed.error) {
        fail(unrecorded());
        return;
    }
    if (is_too_long_) {
        fail(field_error("store", "store: the answer is too long to be stored"));
        return;
    }
    Errand& errand = errands_[completed.part];
    for (HeldAnswer& answer : std::exchange(errand.to_check, {}))
        context_.checks.hold(*errand.dispatcher, std::move(answer), checks_epoch_);
    bring(completed.part, *errand.end);
    if (state_ == State::running) end_part(completed.part);
}

void Errands::go() {
    try {
        for (const Errand& errand : errands_)
            errand.dispatcher->go(errand.id);
    } catch (const Error& error) {
        fail(unavailable(error.message()));
    }
}

void Errands::expect_accepted() {
    if (state_ != State::running || !is_generation_ || is_accepted()) return;
    fail(unavailable("the worker does not answer"));
}

void Errands::fail(ApiError error) {
    error_ = std::move(error);
    state_ = State::failed;
}

}  // namespace etalon::serve
