// SPDX-License-Identifier: Apache-2.0
// A worker by script, in the thread of the server.
#include "serve/fake_worker.h"

#include <map>
#include <sstream>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::serve {

namespace {

std::string text_of(const wire::Prompt& prompt) {
    if (const auto* chat = std::get_if<wire::ChatPrompt>(&prompt)) {
        return chat->messages.back().content;
    }
    const auto* text = std::get_if<wire::TextPrompt>(&prompt);
    return text == nullptr ? "" : text->text;
}

class FakeWorker : public Worker {
  public:
    explicit FakeWorker(std::shared_ptr<FakeLog> log)
        : log_(std::move(log)), fd_(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
        ++log_->n_starts;
        log_->weights_changed = false;
        wire::Hello hello;
        hello.model = "Fake";
        hello.layout = "chatml";
        hello.file_sha256 = std::string(64, 'a');
        hello.vocab_size = 100;
        hello.context_tokens = 64;
        hello.dim = 2;
        say(std::move(hello));
    }
    ~FakeWorker() override { ::close(fd_); }

    int fd() const override { return fd_; }
    bool wants_write() const override { return false; }
    void flush() override {}
    bool has_left() const override { return left_; }

    void send(const wire::ToWorker& message) override {
        if (const auto* prepare = std::get_if<wire::Prepare>(&message)) on_prepare(*prepare);
        if (const auto* go = std::get_if<wire::Go>(&message)) on_go(go->id);
        if (const auto* cancel = std::get_if<wire::Cancel>(&message)) on_cancel(cancel->id);
        if (const auto* ask = std::get_if<wire::Tokenize>(&message)) {
            say(wire::Tokenized{ask->id, {1, 2, 3}, ""});
        }
        if (const auto* ask = std::get_if<wire::Detokenize>(&message)) {
            say(wire::Tokenized{ask->id, {}, "text"});
        }
        if (const auto* ask = std::get_if<wire::Embed>(&message)) on_embed(*ask);
        if (const auto* ask = std::get_if<wire::AskCounters>(&message)) {
            say(wire::Counters{ask->id, {{"steps", 7.0}}});
        }
        if (const auto* ask = std::get_if<wire::AskLive>(&message)) {
            ++log_->n_live;
            say(wire::Live{ask->id, log_->weights_changed ? std::string(64, 'f') : ask->nonce});
        }
        if (const auto* ask = std::get_if<wire::AskReplay>(&message)) {
            const bool differs = ++log_->n_replays == 2;
            say(wire::Replayed{ask->id, differs ? "token" : "match", differs ? 1 : 0});
        }
        if (std::holds_alternative<wire::Drain>(message)) {
            left_ = true;
            wake();
        }
    }

    std::vector<wire::ToFront> receive() override {
        std::uint64_t count = 0;
        [[maybe_unused]] const ssize_t n = ::read(fd_, &count, sizeof count);
        if (dead_) throw Error(ExitCode::unavailable, "the worker was killed by signal 9");
        for (auto& [id, prepare] : endless_)
            say(wire::Token{id, 0, 1, 0, "more ", std::nullopt});
        return std::exchange(out_, {});
    }

  private:
    void wake() {
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t n = ::write(fd_, &one, sizeof one);
    }
    void say(wire::ToFront message) {
        out_.push_back(std::move(message));
        wake();
    }
    void on_prepare(const wire::Prepare& prepare) {
        const std::string text = text_of(prepare.prompt);
        if (text == "refuse") {
            say(wire::Refused{prepare.id, wire::RefusalKind::too_long, "prompt",
                              "the prompt has 99 tokens, the context holds 64"});
            return;
        }
        if (text == "die") {
            dead_ = true;
            wake();
            return;
        }
        open_[prepare.id] = prepare;
        say(wire::Prepared{prepare.id, {1, 2}, prepare.sampling.seed.value_or(0), 1000000});
    }
    void on_go(wire::RequestId id) {
        const wire::Prepare prepare = open_.at(id);
        const std::string text = text_of(prepare.prompt);
        if (text == "silent") return;
        if (text == "forever") {
            endless_[id] = prepare;
            wake();
            return;
        }
        for (int choice = 0; choice < prepare.sampling.n; ++choice) {
            std::istringstream words(text);
            std::string word;
            while (words >> word)
                say(wire::Token{id, choice, 1, 0, word + " ", std::nullopt});
            wire::ChoiceEnd end;
            end.id = id;
            end.choice = choice;
            if (text == "fail") {
                end.reason = wire::EndReason::error;
                end.error = "logits are not finite";
            }
            say(std::move(end));
        }
        finish(id);
    }
    void on_cancel(wire::RequestId id) {
        ++log_->n_cancels;
        endless_.erase(id);
        if (open_.find(id) != open_.end()) finish(id);
    }
    void on_embed(const wire::Embed& ask) {
        wire::Embedded embedded;
        embedded.id = ask.id;
        embedded.vectors.assign(ask.inputs.size(), {1.0F, -2.0F});
        embedded.prompt_tokens = 3;
        say(std::move(embedded));
    }
    void finish(wire::RequestId id) {
        open_.erase(id);
        ++log_->n_ended;
        wire::RequestEnd end;
        end.id = id;
        end.prompt_tokens = 2;
        end.answer_tokens = 3;
        say(std::move(end));
    }

    std::shared_ptr<FakeLog> log_;
    int fd_;
    bool dead_ = false;
    bool left_ = false;
    std::vector<wire::ToFront> out_;
    std::map<wire::RequestId, wire::Prepare> open_;
    std::map<wire::RequestId, wire::Prepare> endless_;
};

}  // namespace

StartWorker fake_workers(std::shared_ptr<FakeLog> log) {
    return [log](const wire::WorkerOptions&) { return std::make_unique<FakeWorker>(log); };
}

}  // namespace etalon::serve
