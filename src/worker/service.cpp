// SPDX-License-Identifier: Apache-2.0
// Between the messages and the engine.
#include "worker/service.h"

#include <fmt/format.h>
#include <new>
#include <utility>

#include "base/error.h"
#include "base/sha256.h"
#include "engine/kv_pages.h"
#include "engine/limits.h"
#include "wire/limits.h"
#include "worker/limits.h"

namespace etalon::worker {

namespace {

constexpr const char* kNoMemory = "there is no memory for it";

[[noreturn]] void break_off(const std::string& why) {
    throw Error(ExitCode::invalid, "the front broke the protocol: " + why);
}

engine::Request engine_request(wire::Prepare& prepare, std::vector<std::int32_t> prompt,
                               const text::Tokenizer& tokenizer) {
    wire::Sampling& asked = prepare.sampling;
    engine::Request request;
    request.tenant = std::move(prepare.tenant);
    request.cache_key = std::move(prepare.cache_key);
    request.weight = prepare.weight;
    request.prompt = std::move(prompt);
    if (!asked.prediction.empty()) {
        request.prediction = tokenizer.encode(
            asked.prediction, {.special = false, .add_bos = false, .add_prefix_space = false});
    }
    request.sampling.temperature = asked.temperature;
    request.sampling.top_k = asked.top_k;
    request.sampling.top_p = asked.top_p;
    request.sampling.min_p = asked.min_p;
    request.sampling.repetition_penalty = asked.repetition_penalty;
    request.sampling.presence_penalty = asked.presence_penalty;
    request.sampling.frequency_penalty = asked.frequency_penalty;
    request.sampling.logit_bias = std::move(asked.logit_bias);
    request.seed = asked.seed;
    request.n = asked.n;
    request.max_tokens = asked.max_tokens;
    request.min_tokens = asked.min_tokens;
    request.ignore_eos = asked.ignore_eos;
    request.stop_tokens = std::move(asked.stop_tokens);
    request.stop_strings = std::move(asked.stop_strings);
    request.top_logprobs = asked.top_logprobs;
    request.prompt_logprobs = prepare.prompt_logprobs;
    return request;
}

PromptRefusal refusal_of(const engine::Refusal& refusal, const engine::Request& request,
                         const engine::Room& room) {
    wire::RefusalKind kind = wire::RefusalKind::invalid;
    const auto n_max = static_cast<std::size_t>(std::min(room.context_tokens, room.cache_tokens));
    if (refusal.field == "prompt" && request.prompt.size() >= n_max) {
        kind = wire::RefusalKind::too_long;
    }
    if (refusal.error.code() == ExitCode::try_later) kind = wire::RefusalKind::try_later;
    // The engine's name of a field, as messages.h has it.
    const std::string field = refusal.field == "stop" ? "stop_strings" : refusal.field;
    return {kind, field, refusal.error.message()};
}

wire::EndReason reason_of(engine::FinishReason reason) {
    switch (reason) {
        case engine::FinishReason::stop:
            return wire::EndReason::stop;
        case engine::FinishReason::length:
            return wire::EndReason::length;
        case engine::FinishReason::cancelled:
            return wire::EndReason::cancelled;
        case engine::FinishReason::error:
            break;
    }
    return wire::EndReason::error;
}

}  // namespace

Service::Service(LoadedModel& model, std::function<std::uint64_t()> draw_seed)
    : model_(&model), draw_seed_(std::move(draw_seed)) {}

void Service::handle(wire::ToWorker message, engine::Time now) {
    std::visit([&](auto& content) { take(std::move(content), now); }, message);
}

void Service::step(engine::Time now) {
    if (!model_->engine().has_work()) {
        // A pass whose answers have all ended may still be under way, and hold their words.
        model_->engine().rest();
        if (replay_) advance_replay();
        return;
    }
    if (replay_ && now - replay_->asked > kReplayWait) give_up_replay("others never paused");
    for (const engine::Event& event : model_->engine().step(now))
        std::visit([this](const auto& what) { tell(what); }, event);
}

void Service::check_id(wire::RequestId id) {
    if (draining_) break_off(fmt::format("request {} behind Drain", id));
    if (id <= last_id_) break_off(fmt::format("request {} behind request {}", id, last_id_));
    last_id_ = id;
}

void Service::refuse(wire::RequestId id, PromptRefusal why) {
    replies_.emplace_back(
        wire::Refused{id, why.kind, std::move(why.field), std::move(why.message)});
}

/// What the engine would refuse later is refused now, so that Go cannot fail.
bool Service::has_place(wire::RequestId id, std::size_t n_requests, std::int64_t more) {
    const std::size_t n_open = prepared_.size() + running_.size() + inputs_.size();
    if (n_open + n_requests > engine::kRequestsMax) {
        refuse(id, {wire::RefusalKind::try_later, "",
                    fmt::format("{} requests wait or run, at most {} may", n_open,
                                engine::kRequestsMax)});
        return false;
    }
    if (held_tokens_ + more > engine::kHeldTokensMax) {
        refuse(id, {wire::RefusalKind::try_later, "prompt",
                    fmt::format("{} tokens of prompts wait or run, {} more are over {}",
                                held_tokens_, more, engine::kHeldTokensMax)});
        return false;
    }
    return true;
}

void Service::take(wire::Prepare prepare, engine::Time) {
    check_id(prepare.id);
    PromptTokens prompt = encode_prompt(*model_, prepare.prompt);
    if (auto* why = std::get_if<PromptRefusal>(&prompt)) {
        return refuse(prepare.id, std::move(*why));
    }
    engine::Request request = engine_request(
        prepare, std::move(std::get<std::vector<std::int32_t>>(prompt)), model_->tokenizer());
    if (const auto why = engine::check_request(request, model_->room())) {
        return refuse(prepare.id, refusal_of(*why, request, model_->room()));
    }
    if (!has_place(prepare.id, 1, engine::held_tokens(request))) return;
    if (!request.seed) request.seed = draw_seed_();
    request.max_tokens = engine::answer_tokens_max(request, model_->room());
    held_tokens_ += engine::held_tokens(request);
    replies_.emplace_back(
        wire::Prepared{prepare.id, request.prompt, *request.seed, *request.max_tokens});
    prepared_.emplace(prepare.id, std::move(request));
}

void Service::take(const wire::Go& go, engine::Time now) {
    auto found = prepared_.extract(go.id);
    if (found.empty()) break_off(fmt::format("Go for request {}, which is not prepared", go.id));
    engine::Request& request = found.mapped();
    Running running{go.id, request.stop_strings, engine::held_tokens(request)};
    const auto answer = model_->engine().submit(std::move(request), now);
    const auto* accepted = std::get_if<engine::Accepted>(&answer);
    ETALON_ASSERT(accepted != nullptr);  // has_place() and check_request() said so
    engine_ids_.emplace(go.id, accepted->id);
    running_.emplace(accepted->id, std::move(running));
}

void Service::take(const wire::Cancel& cancel, engine::Time now) {
    if (const auto running = engine_ids_.find(cancel.id); running != engine_ids_.end()) {
        (void)model_->engine().cancel(running->second, now);
        return;
    }
    if (const auto embed = embeds_.find(cancel.id); embed != embeds_.end()) {
        embed->second.cancelled = true;
        for (const engine::RequestId input : embed->second.inputs)
            (void)model_->engine().cancel(input, now);
        return;
    }
    const auto prepared = prepared_.extract(cancel.id);
    if (prepared.empty()) return;  // it has ended: the messages crossed
    held_tokens_ -= engine::held_tokens(prepared.mapped());
    wire::RequestEnd end;
    end.id = cancel.id;
    end.prompt_tokens = static_cast<int>(prepared.mapped().prompt.size());
    replies_.emplace_back(end);
}

void Service::take(const wire::Tokenize& tokenize, engine::Time) {
    check_id(tokenize.id);
    PromptTokens tokens = encode_prompt(*model_, tokenize.prompt);
    if (auto* why = std::get_if<PromptRefusal>(&tokens)) {
        return refuse(tokenize.id, std::move(*why));
    }
    replies_.emplace_back(
        wire::Tokenized{tokenize.id, std::move(std::get<std::vector<std::int32_t>>(tokens)), ""});
}

void Service::take(const wire::Detokenize& detokenize, engine::Time) {
    check_id(detokenize.id);
    // The ids of a prompt of tokens are checked alike.
    PromptTokens tokens = encode_prompt(*model_, wire::TokenPrompt{detokenize.tokens});
    if (auto* why = std::get_if<PromptRefusal>(&tokens)) {
        why->field = "tokens";
        return refuse(detokenize.id, std::move(*why));
    }
    text::StreamDecoder decoder(model_->tokenizer());
    std::string text;
    for (const std::int32_t id : detokenize.tokens) {
        text += decoder.push(id);
        if (text.size() > wire::kTextBytesMax) break;
    }
    text += decoder.finish();
    if (text.size() > wire::kTextBytesMax) {
        return refuse(detokenize.id,
                      {wire::RefusalKind::too_long, "tokens",
                       fmt::format("the text is over {} bytes", wire::kTextBytesMax)});
    }
    replies_.emplace_back(wire::Tokenized{detokenize.id, {}, std::move(text)});
}

void Service::take(const wire::Embed& embed, engine::Time now) {
    check_id(embed.id);
    const std::uint64_t vector_bytes =
        sizeof(float) * static_cast<std::uint64_t>(model_->config().dim);
    if (embed.inputs.empty() || embed.inputs.size() * vector_bytes > kVectorsBytesMax) {
        return refuse(embed.id, {wire::RefusalKind::invalid, "prompt",
                                 fmt::format("{} texts, accepted are 1 to {}", embed.inputs.size(),
                                             kVectorsBytesMax / vector_bytes)});
    }
    std::vector<engine::Request> requests;
    std::int64_t held = 0;
    for (const wire::Prompt& input : embed.inputs) {
        PromptTokens prompt = encode_prompt(*model_, input);
        if (auto* why = std::get_if<PromptRefusal>(&prompt)) {
            return refuse(embed.id, std::move(*why));
        }
        engine::Request& request = requests.emplace_back();
        request.tenant = embed.tenant;
        request.prompt = std::move(std::get<std::vector<std::int32_t>>(prompt));
        request.embed = true;
        request.normalize = embed.normalize;
        if (const auto bad = engine::check_request(request, model_->room())) {
            PromptRefusal why = refusal_of(*bad, request, model_->room());
            why.message = fmt::format("text {}: {}", requests.size() - 1, why.message);
            return refuse(embed.id, std::move(why));
        }
        held += engine::held_tokens(request);
    }
    if (!has_place(embed.id, requests.size(), held)) return;
    held_tokens_ += held;
    Embedding& open = embeds_[embed.id];
    open.n_left = requests.size();
    open.answer.id = embed.id;
    open.answer.vectors.resize(requests.size());
    for (engine::Request& request : requests) {
        Input input{embed.id, open.inputs.size(), engine::held_tokens(request)};
        open.answer.prompt_tokens += static_cast<int>(request.prompt.size());
        const auto answer = model_->engine().submit(std::move(request), now);
        const auto* accepted = std::get_if<engine::Accepted>(&answer);
        ETALON_ASSERT(accepted != nullptr);  // has_place() and check_request() said so
        open.inputs.push_back(accepted->id);
        inputs_.emplace(accepted->id, input);
    }
}

void Service::take(const wire::AskCounters& ask, engine::Time) {
    check_id(ask.id);
    const engine::Counters now = model_->engine().counters();
    const auto n = [](auto count) { return static_cast<double>(count); };
    replies_.emplace_back(wire::Counters{ask.id,
                                         {{"steps", n(now.steps)},
                                          {"computed_tokens", n(now.computed_tokens)},
                                          {"sampled_tokens", n(now.sampled_tokens)},
                                          {"cached_tokens", n(now.cached_tokens)},
                                          {"shared_pages", n(now.shared_pages)},
                                          {"evicted_pages", n(now.evicted_pages)},
                                          {"preemptions", n(now.preemptions)},
                                          {"cancelled", n(now.cancelled)},
                                          {"drafted_tokens", n(now.drafted_tokens)},
                                          {"accepted_tokens", n(now.accepted_tokens)},
                                          {"requests", n(now.requests)},
                                          {"running", n(now.running)},
                                          {"waiting", n(now.waiting)},
                                          {"pages_free", n(now.pages_free)},
                                          {"pages_cached", n(now.pages_cached)},
                                          {"pages_total", n(now.pages_total)}}});
}

void Service::take(const wire::AskLive& ask, engine::Time) {
    check_id(ask.id);
    const auto nonce = digest_from_hex(ask.nonce);
    if (!nonce) break_off("a nonce that is no 64 hex digits");
    model_->engine().rest();
    replies_.emplace_back(wire::Live{ask.id, to_hex(model_->transformer().live_digest(*nonce))});
}

void Service::take(const wire::AskReplay& ask, engine::Time now) {
    check_id(ask.id);
    if (replay_) break_off("two answers to derive again at once");
    const auto model = digest_from_hex(model_->hello().file_sha256);
    try {
        if (!model) throw Error(ExitCode::refused, "the model was not hashed");
        engine::Payload payload = engine::read_payload(ask.payload);
        const auto n_tokens =
            static_cast<std::int64_t>(payload.prompt.size() + payload.answer.size());
        const int n_pages_max = model_->engine().pages().n_pages() / kReplayCacheShare;
        if (engine::pages_for(n_tokens) > n_pages_max) {
            throw Error(ExitCode::refused, fmt::format("{} tokens, at most {} pages of keys and "
                                                       "values may be used",
                                                       n_tokens, n_pages_max));
        }
        auto replayer = std::make_unique<engine::Replayer>(model_->transformer(),
                                                           model_->tokenizer(), *model, 1);
        replayer->begin(std::move(payload));
        replay_ = Replay{ask.id, now, std::move(replayer)};
    } catch (const Error& error) {
        refuse(ask.id, {wire::RefusalKind::failed, "payload", error.message()});
    } catch (const std::bad_alloc&) {
        refuse(ask.id, {wire::RefusalKind::failed, "payload", kNoMemory});
    }
}

void Service::advance_replay() {
    try {
        const auto verdict = replay_->replayer->advance();
        if (!verdict) return;
        replay_->replayer->clear();
        replies_.emplace_back(
            wire::Replayed{replay_->id, std::string(engine::difference_name(verdict->difference)),
                           verdict->match() ? 0 : verdict->position});
        replay_.reset();
    } catch (const Error& error) {
        give_up_replay(error.message());
    } catch (const std::bad_alloc&) {
        give_up_replay(kNoMemory);
    }
}

void Service::give_up_replay(const std::string& why) {
    replay_->replayer->clear();
    refuse(replay_->id, {wire::RefusalKind::failed, "payload", why});
    replay_.reset();
}

void Service::take(const wire::Forget&, engine::Time) {
    if (replay_) give_up_replay("its words may be of who was erased");
    model_->engine().forget_prefixes();
}

void Service::take(const wire::Drain&, engine::Time) {
    if (replay_) give_up_replay("the worker leaves");
    draining_ = true;
}

void Service::tell(const engine::TokenEvent& event) {
    wire::Token token;
    token.id = running_.at(event.request).id;
    token.choice = event.choice;
    token.token = event.token;
    token.checksum = event.checksum;
    token.text = event.text;
    if (event.logprobs) token.logprobs = logprobs_of(event.token, *event.logprobs);
    replies_.emplace_back(std::move(token));
}

wire::Logprobs Service::logprobs_of(std::int32_t token,
                                    const engine::TokenLogprobs& logprobs) const {
    const auto with_bytes = [&](std::int32_t id, float logprob) {
        return wire::TokenLogprob{id, logprob, model_->tokenizer().token_bytes(id, true)};
    };
    wire::Logprobs told;
    told.chosen = with_bytes(token, logprobs.logprob);
    for (const auto& [id, logprob] : logprobs.top)
        told.top.push_back(with_bytes(id, logprob));
    return told;
}

void Service::tell(const engine::PromptLogprobs& event) {
    wire::PromptLogprobs told;
    told.id = running_.at(event.request).id;
    for (std::size_t i = 0; i < event.tokens.size(); ++i)
        told.tokens.push_back(logprobs_of(event.tokens[i], event.logprobs[i]));
    replies_.emplace_back(std::move(told));
}

void Service::tell(const engine::EmbeddingEvent& event) {
    const Input& input = inputs_.at(event.request);
    embeds_.at(input.embed).answer.vectors[input.index] = event.vector;
}

/// One text less; the last one answers for all.
void Service::tell_input(Input input) {
    held_tokens_ -= input.held_tokens;
    const auto found = embeds_.find(input.embed);
    ETALON_ASSERT(found != embeds_.end());
    Embedding& embed = found->second;
    if (--embed.n_left > 0) return;
    if (embed.cancelled) {
        refuse(input.embed, {wire::RefusalKind::invalid, "", "cancelled"});
    } else if (!embed.error.empty()) {
        refuse(input.embed, {wire::RefusalKind::failed, "prompt", embed.error});
    } else {
        replies_.emplace_back(std::move(embed.answer));
    }
    embeds_.erase(found);
}

void Service::tell(const engine::ChoiceFinished& event) {
    if (const auto input = inputs_.find(event.request); input != inputs_.end()) {
        if (event.error.empty()) return;
        embeds_.at(input->second.embed).error =
            fmt::format("text {}: {}", input->second.index, event.error);
        return;
    }
    const Running& running = running_.at(event.request);
    wire::ChoiceEnd end;
    end.id = running.id;
    end.choice = event.choice;
    end.reason = reason_of(event.reason);
    end.text = event.text;
    if (event.stop_string) end.stop_string = running.stop_strings.at(*event.stop_string);
    end.error = event.error;
    end.digest = to_hex(event.digest);
    replies_.emplace_back(std::move(end));
}

void Service::tell(const engine::RequestFinished& event) {
    if (auto input = inputs_.extract(event.request)) return tell_input(input.mapped());
    const auto found = running_.find(event.request);
    ETALON_ASSERT(found != running_.end());
    wire::RequestEnd end;
    end.id = found->second.id;
    end.prompt_tokens = event.usage.prompt_tokens;
    end.cached_tokens = event.usage.cached_tokens;
    end.answer_tokens = event.usage.answer_tokens;
    end.drafted_tokens = event.usage.drafted_tokens;
    end.accepted_tokens = event.usage.accepted_tokens;
    end.queued_seconds = std::chrono::duration<double>(event.usage.queued).count();
    held_tokens_ -= found->second.held_tokens;
    engine_ids_.erase(found->second.id);
    running_.erase(found);
    replies_.emplace_back(end);
}

}  // namespace etalon::worker
