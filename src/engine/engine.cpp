// SPDX-License-Identifier: Apache-2.0
// From requests to steps of the model and from logits to events.
#include "engine/engine.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "engine/limits.h"

namespace etalon::engine {

namespace {

std::uint64_t kv_token_bytes(const weights::ModelConfig& config) noexcept {
    const auto heads =
        static_cast<std::uint64_t>(config.n_layers) * static_cast<std::uint64_t>(config.n_kv_heads);
    return 2 * heads * (static_cast<std::uint64_t>(config.head_dim) + sizeof(float));
}

/// The options, when they agree with each other and the transformer.
const EngineOptions& checked(const EngineOptions& options, int batch_tokens_max) {
    const auto refuse = [](const char* what, int value, const char* relation, int bound) {
        throw Error(ExitCode::usage, fmt::format("engine: {} is {}, it must be {} {}", what, value,
                                                 relation, bound));
    };
    if (options.n_pages < 1) refuse("n_pages", options.n_pages, "at least", 1);
    if (options.sequences_max < 1) refuse("sequences_max", options.sequences_max, "at least", 1);
    if (options.batch_tokens > batch_tokens_max) {
        refuse("batch_tokens", options.batch_tokens, "at most", batch_tokens_max);
    }
    if (options.sequences_max > options.batch_tokens / 2) {
        refuse("sequences_max", options.sequences_max, "at most", options.batch_tokens / 2);
    }
    if (options.draft_tokens_max < 0 || options.draft_tokens_max > options.batch_tokens) {
        refuse("draft_tokens_max", options.draft_tokens_max, "0 to", options.batch_tokens);
    }
    return options;
}

}  // namespace

std::uint64_t kv_page_bytes(const weights::ModelConfig& config) noexcept {
    return kv_token_bytes(config) * exact::kPageTokens;
}

Engine::Engine(model::Transformer& transformer, const text::Tokenizer& tokenizer,
               const EngineOptions& options)
    : transformer_(&transformer),
      tokenizer_(&tokenizer),
      options_(checked(options, transformer.n_tokens_max())),
      room_{transformer.config().vocab_size, transformer.config().context_length,
            options.n_pages * exact::kPageTokens, kv_token_bytes(transformer.config())},
      pages_(transformer.device(), transformer.make_kv_cache(options.n_pages)),
      scheduler_({options.batch_tokens, options.sequences_max, options.draft_tokens_max}, pages_),
      sampler_(tokenizer, room_.vocab_size, transformer.device()),
      prompt_reader_(transformer),
      row_(static_cast<std::size_t>(room_.vocab_size)) {
    ETALON_ASSERT(tokenizer.vocab_size() >= room_.vocab_size);
    const int n_rows = options.sequences_max + options.draft_tokens_max;
    logits_ = transformer.device().make_floats(static_cast<std::size_t>(n_rows) * row_.size());
}

Engine::~Engine() {
    try {
        if (pass_) transformer_->finish(pass_->batch.view());
    } catch (const Error&) {  // the device is lost, and with it the pass
        pass_.reset();
    }
    for (const auto& [id, active] : requests_) {
        for (const auto& sequence : active->choices)
            scheduler_.remove(*sequence);
    }
}

std::variant<Accepted, Refusal> Engine::submit(Request request, Time now) {
    if (auto refusal = check_request(request, room_)) return *std::move(refusal);
    if (requests_.size() >= kRequestsMax) {
        return Refusal{
            "", Error(ExitCode::try_later, fmt::format("{} requests wait or run, at most {} may",
                                                       requests_.size(), kRequestsMax))};
    }
    if (held_tokens_ + held_tokens(request) > kHeldTokensMax) {
        return Refusal{"prompt",
                       Error(ExitCode::try_later,
                             fmt::format("{} tokens of prompts wait or run, {} more are over {}",
                                         held_tokens_, held_tokens(request), kHeldTokensMax))};
    }
    const RequestId id = next_id_++;
    request.sampling.seed = request.seed.value_or(exact::draw_bits(options_.entropy, id, 0));
    const int answer_max = answer_tokens_max(request, room_);
    held_tokens_ += held_tokens(request);
    auto active = std::make_unique<ActiveRequest>();
    active->request = std::move(request);
    active->submitted = now;
    active->usage.prompt_tokens = static_cast<int>(active->request.prompt.size());
    active->n_unfinished = active->request.n;
    for (int choice = 0; choice < active->request.n; ++choice) {
        active->choices.push_back(std::make_unique<Sequence>(
            active->request, id, active->usage, choice, next_order_++, answer_max, *tokenizer_));
        active->choices.back()->epoch = pages_.epoch();
    }
    scheduler_.add(*active->choices.front());
    release_choices(*active);
    const std::uint64_t seed = active->request.sampling.seed;
    requests_.emplace(id, std::move(active));
    return Accepted{id, seed, answer_max};
}

bool Engine::cancel(RequestId id, Time now) {
    rest();
    const auto found = requests_.find(id);
    if (found == requests_.end()) return false;
    std::vector<Decided> decided;
    for (const auto& sequence : found->second->choices) {
        if (sequence->phase == Phase::finished) continue;
        ChoiceFinished end;
        end.reason = FinishReason::cancelled;
        finish(*sequence, std::move(end), decided);
    }
    ++totals_.cancelled;
    tell(std::move(decided), now, pending_);
    return true;
}

void Engine::rest() {
    if (!pass_) return;
    const std::unique_ptr<Pass> pass = std::exchange(pass_, nullptr);
    tell(finish_pass(*pass), started_, pending_);
}

std::vector<Event> Engine::step(Time now) {
    std::vector<Event> events = std::exchange(pending_, {});
    if (!pass_) pass_ = start_next(now);
    if (!pass_) return events;
    std::unique_ptr<Pass> next = start_ahead(now);
    const std::unique_ptr<Pass> pass = std::exchange(pass_, std::move(next));
    std::vector<Decided> decided = finish_pass(*pass);
    if (options_.overlap && !pass_) pass_ = start_next(now);
    tell(std::move(decided), now, events);
    return events;
}

/// The pass of the next step, when something is unfinished.
std::unique_ptr<Engine::Pass> Engine::start_next(Time now) {
    std::vector<Share> shares = scheduler_.plan();
    if (!shares.empty()) return start(std::move(shares), now);
    ETALON_ASSERT(requests_.size() == ended_.size());
    return nullptr;
}

/// The pass behind the one that is under way, where that one's tokens need not be known for it.
std::unique_ptr<Engine::Pass> Engine::start_ahead(Time now) {
    if (!options_.overlap || !transformer_->device().can_follow()) return nullptr;
    if (!pass_->draws.all_are_drawn()) return nullptr;
    std::vector<Share> shares = scheduler_.plan_ahead(pass_->shares);
    if (shares.empty()) return nullptr;
    ETALON_ASSERT(pass_->batch.rows().size() == pass_->shares.size());
    return start(std::move(shares), now);
}

std::unique_ptr<Engine::Pass> Engine::start(std::vector<Share> shares, Time now) {
    start_clock(shares, now);
    auto pass = std::make_unique<Pass>(std::move(shares), sampler_,
                                       transformer_->device().can_draw(room_.vocab_size));
    ETALON_ASSERT(pass->batch.rows().size() * row_.size() <= logits_->size());
    transformer_->start(pass->batch.view(), pass->batch.rows(), pages_.cache(), *logits_,
                        pass->draws.draws(), pass->draws.tokens());
    started_ = now;
    return pass;  // only what has started has to be finished
}

/// Waits for the pass and decides what follows from it, as much as the next one needs to know.
std::vector<Engine::Decided> Engine::finish_pass(Pass& pass) {
    transformer_->finish(pass.batch.view());
    ++totals_.steps;
    prompt_reader_.forget();
    std::vector<Decided> decided;
    for (std::size_t i = 0; i < pass.shares.size(); ++i)
        advance(pass, i, decided);
    for (const auto& [id, active] : requests_)
        release_choices(*active);
    return decided;
}

void Engine::start_clock(const std::vector<Share>& shares, Time now) {
    for (const Share& share : shares) {
        ActiveRequest& active = *requests_.at(share.sequence->request_id);
        if (!active.was_started) active.usage.queued = now - active.submitted;
        active.was_started = true;
    }
}

void Engine::advance(const Pass& pass, std::size_t index, std::vector<Decided>& decided) {
    const Share& share = pass.shares[index];
    const StepBatch& batch = pass.batch;
    Sequence& sequence = *share.sequence;
    // The pass before ended the answer while this one was under way, for nobody.
    if (sequence.phase == Phase::finished) return;
    const int n_run = share.n_tokens + static_cast<int>(share.draft.size());
    sequence.usage->computed_tokens += n_run;
    totals_.computed_tokens += static_cast<std::uint64_t>(n_run);
    for (int k = 0; k < share.n_tokens; ++k) {
        if (!batch.failed(index, k)) continue;
        return finish_failed(sequence, sequence.n_computed + k, "ERR-1 or ERR-2", decided);
    }
    if (!read_prompt(share, index, batch, decided)) return;
    const bool completes = share.completes();
    sequence.n_computed += share.n_tokens;
    if (completes && sequence.request->embed) {
        finish_vector(sequence, decided);
    } else if (completes) {
        draw_tokens(pass, index, decided);
    }
    if (sequence.phase == Phase::running) publish(sequence);
}

/// What a request wants to know of the prompt tokens of this step; false when one has failed.
bool Engine::read_prompt(const Share& share, std::size_t index, const StepBatch& batch,
                         std::vector<Decided>& decided) {
    Sequence& sequence = *share.sequence;
    if (!sequence.reads_prompt()) return true;
    if (sequence.request->embed) {
        const auto failed = prompt_reader_.add_to_pool(share, batch.first_token(index), batch);
        if (failed) finish_failed(sequence, *failed, "ERR-1", decided);
        return !failed;
    }
    PromptLogprobs told;
    told.request = sequence.request_id;
    const auto failed = prompt_reader_.logprobs(share, batch.first_token(index), batch, told);
    sequence.n_prompt_told += static_cast<int>(told.tokens.size());
    if (!told.tokens.empty()) decided.emplace_back().event = std::move(told);
    if (failed) finish_failed(sequence, *failed, "ERR-1 or ERR-3", decided);
    return !failed;
}

void Engine::finish_vector(Sequence& sequence, std::vector<Decided>& decided) {
    auto vector = sequence.pool.value().finish(sequence.request->normalize);
    if (!vector) return finish_failed(sequence, sequence.n_prompt() - 1, "ERR-1", decided);
    decided.emplace_back().event = EmbeddingEvent{sequence.request_id, *std::move(vector)};
    finish(sequence, {}, decided);
}

/// The next token, and as long as the draft said the same one, the token behind it.
void Engine::draw_tokens(const Pass& pass, std::size_t index, std::vector<Decided>& decided) {
    const Share& share = pass.shares[index];
    Sequence& sequence = *share.sequence;
    const std::size_t first_row = pass.batch.first_row(index);
    std::size_t n_accepted = 0;
    while (draw_token(sequence, first_row + n_accepted, pass.draws, decided)) {
        if (n_accepted == share.draft.size()) break;
        if (sequence.tokens.back() != share.draft[n_accepted]) break;
        ++n_accepted;
        const int k = share.n_tokens - 1 + static_cast<int>(n_accepted);
        if (pass.batch.failed(index, k)) {
            finish_failed(sequence, sequence.n_computed, "ERR-1 or ERR-2", decided);
            break;
        }
        ++sequence.n_computed;
    }
    const auto n_drafted = static_cast<int>(share.draft.size());
    sequence.drafter.observe(n_drafted, static_cast<int>(n_accepted));
    sequence.usage->drafted_tokens += n_drafted;
    sequence.usage->accepted_tokens += static_cast<int>(n_accepted);
    totals_.drafted_tokens += share.draft.size();
    totals_.accepted_tokens += n_accepted;
}

/// Draws one token from a row of logits; false when it was the last one of its answer.
bool Engine::draw_token(Sequence& sequence, std::size_t row, const StepDraws& draws,
                        std::vector<Decided>& decided) {
    const Request& request = *sequence.request;
    backend::Backend& device = transformer_->device();
    const bool drawn = draws.is_drawn(row);
    if (!drawn) device.download(*logits_, row * row_.size(), row_);
    const std::vector<float> raw = !drawn && request.top_logprobs ? row_ : std::vector<float>();
    const auto token = drawn ? draws.token(row)
                             : sampler_.next(request, sequence.choice, sequence.tokens,
                                             static_cast<std::size_t>(sequence.n_prompt()), row_);
    if (!token) {
        finish_failed(sequence, sequence.n_tokens(), "ERR-3", decided);
        return false;
    }
    Decided& here = decided.emplace_back();
    here.sequence = &sequence;
    TokenEvent& event = here.token.emplace();
    event.request = sequence.request_id;
    event.choice = sequence.choice;
    event.token = *token;
    event.checksum = device.checksum(*logits_, row, room_.vocab_size);
    if (request.top_logprobs) {
        event.logprobs = drawn ? Sampler::logprobs(draws.logprobs(row))
                               : Sampler::logprobs(raw, *token, *request.top_logprobs);
    }
    sequence.tokens.push_back(*token);
    ++sequence.usage->answer_tokens;
    ++totals_.sampled_tokens;
    auto end = end_of(sequence, here);
    if (!end) return true;
    finish(sequence, *std::move(end), decided);
    return false;
}

/// Says how the answer ends when this token ends it. The text is made only where it decides.
std::optional<ChoiceFinished> Engine::end_of(Sequence& sequence, Decided& decided) {
    ChoiceFinished end;
    TokenEvent& event = decided.token.value();
    if (sampler_.ends_answer(*sequence.request, event.token)) {
        decided.has_text = true;  // none
        end.stop_token = event.token;
        return end;
    }
    if (!sequence.request->stop_strings.empty()) {
        StopMatcher::Result shown = sequence.text.push(event.token);
        decided.has_text = true;
        event.text = std::move(shown.text);
        end.stop_string = shown.stop;
        if (shown.stop) return end;
    }
    end.reason = FinishReason::length;
    if (sequence.n_tokens() == sequence.n_tokens_max) return end;
    return std::nullopt;
}

void Engine::publish(Sequence& sequence) {
    if (sequence.n_computed / exact::kPageTokens == sequence.table.n_shared) return;
    const auto n = static_cast<std::size_t>(sequence.n_computed);
    pages_.publish(sequence.partition(), std::span(sequence.tokens).first(n), sequence.table);
}

void Engine::finish_failed(Sequence& sequence, int position, const char* rule,
                           std::vector<Decided>& decided) {
    ChoiceFinished end;
    end.reason = FinishReason::error;
    end.error = fmt::format("token {}: a value is not finite ({})", position, rule);
    finish(sequence, std::move(end), decided);
}

void Engine::finish(Sequence& sequence, ChoiceFinished end, std::vector<Decided>& decided) {
    ETALON_ASSERT(sequence.phase != Phase::finished);
    // A page with a failed token is nobody's prefix; the others serve the next turn of a talk.
    if (sequence.phase == Phase::running && end.reason != FinishReason::error) publish(sequence);
    scheduler_.remove(sequence);
    end.request = sequence.request_id;
    end.choice = sequence.choice;
    end.n_tokens = sequence.n_answer();
    Decided& here = decided.emplace_back();
    here.sequence = &sequence;
    here.end = std::move(end);
    ActiveRequest& active = *requests_.at(sequence.request_id);
    if (--active.n_unfinished == 0) ended_.push_back(sequence.request_id);
}

/// Makes the events, and forgets the requests that have ended.
void Engine::tell(std::vector<Decided> decided, Time now, std::vector<Event>& events) {
    events.reserve(events.size() + decided.size());
    for (Decided& one : decided) {
        if (one.event) events.push_back(*std::move(one.event));
        if (one.token) tell_token(one, events);
        if (one.end) tell_end(one, events);
    }
    for (const RequestId id : std::exchange(ended_, {}))
        end_request(id, now, events);
}

void Engine::tell_token(Decided& decided, std::vector<Event>& events) {
    Sequence& sequence = *decided.sequence;
    TokenEvent& event = *decided.token;
    sequence.digest.add(static_cast<std::uint32_t>(event.token), event.checksum);  // DIG-3
    if (!decided.has_text) event.text = sequence.text.push(event.token).text;
    events.emplace_back(std::move(event));
}

void Engine::tell_end(Decided& decided, std::vector<Event>& events) {
    Sequence& sequence = *decided.sequence;
    ChoiceFinished& end = *decided.end;
    if (end.reason != FinishReason::cancelled) end.text = sequence.text.finish();
    end.digest = sequence.digest.finish();
    events.emplace_back(std::move(end));
}

/// Lets the other choices of a request wait for their turn once the first has put the pages of the
/// prompt into the prefix cache, or has ended without.
void Engine::release_choices(ActiveRequest& active) {
    const Sequence& first = *active.choices.front();
    // All of a prompt whose log-probabilities are told: they come before every token.
    const int n_sharable = active.request.prompt_logprobs
                               ? first.n_prompt()
                               : (first.n_prompt() - 1) / exact::kPageTokens * exact::kPageTokens;
    if (first.phase != Phase::finished && first.n_computed < n_sharable) return;
    for (const auto& sequence : active.choices) {
        if (sequence->phase == Phase::held) scheduler_.add(*sequence);
    }
}

void Engine::end_request(RequestId id, Time now, std::vector<Event>& events) {
    const auto found = requests_.find(id);
    ETALON_ASSERT(found != requests_.end() && found->second->n_unfinished == 0);
    ActiveRequest& active = *found->second;
    if (!active.was_started) active.usage.queued = now - active.submitted;
    held_tokens_ -= held_tokens(active.request);
    events.emplace_back(RequestFinished{id, active.usage});
    if (pass_) pass_->ended.push_back(std::move(found->second));
    requests_.erase(found);
}

Counters Engine::counters() const {
    Counters now = totals_;
    now.cached_tokens = scheduler_.n_cached_tokens();
    now.shared_pages = pages_.n_shared();
    now.evicted_pages = pages_.n_evicted();
    now.preemptions = scheduler_.n_preemptions();
    now.requests = static_cast<int>(requests_.size());
    now.running = scheduler_.n_running();
    now.waiting = scheduler_.n_waiting();
    now.pages_free = pages_.n_free();
    now.pages_cached = pages_.n_cached();
    now.pages_total = pages_.n_pages();
    return now;
}

}  // namespace etalon::engine
