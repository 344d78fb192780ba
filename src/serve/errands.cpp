// SPDX-License-Identifier: Apache-2.0
// From a job to messages and back.
#include "serve/errands.h"

namespace etalon::serve {

Errands::Errands(std::vector<std::unique_ptr<Dispatcher>>& dispatchers,
                 std::shared_ptr<Mailbox> mailbox, Job& job)
    : dispatchers_(dispatchers), mailbox_(std::move(mailbox)), job_(job) {}

Errands::~Errands() {
    for (const Errand& errand : errands_) {
        if (!errand.ended) errand.dispatcher->abandon(errand.id);
    }
}

void Errands::begin() {
    ETALON_ASSERT(errands_.empty());
    try {
        for (std::size_t part = 0; part < job_.asks.size(); ++part) {
            Ask& ask = job_.asks[part];
            Dispatcher& dispatcher = *dispatchers_.at(ask.model);
            is_generation_ = std::holds_alternative<wire::Prepare>(ask.message);
            const wire::RequestId id = dispatcher.ask(std::move(ask.message), mailbox_, part);
            errands_.push_back({&dispatcher, id, false});
        }
    } catch (const ApiError& error) {
        fail(error);
    }
}

void Errands::take_letters() {
    while (state_ == State::running && !mailbox_->letters.empty()) {
        const Mailbox::Letter letter = std::move(mailbox_->letters.front());
        mailbox_->letters.pop_front();
        take(letter);
    }
    if (mailbox_->client_gone) {
        state_ = State::gone;
    } else if (state_ == State::running && mailbox_->worker_lost) {
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
    try {
        job_.answer->take(letter.part, letter.message);
    } catch (const ApiError& error) {
        fail(error);
        return;
    }
    if (std::holds_alternative<wire::Prepared>(letter.message)) {
        if (++n_prepared_ < errands_.size()) return;
        go();
        return;
    }
    const bool ends = !std::holds_alternative<wire::Token>(letter.message) &&
                      !std::holds_alternative<wire::ChoiceEnd>(letter.message);
    if (!ends) return;
    errands_[letter.part].ended = true;
    if (++n_ended_ == errands_.size()) state_ = State::done;
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
