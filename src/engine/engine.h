// SPDX-License-Identifier: Apache-2.0
// Many requests through one model, each with the bits that it has alone.
//
//   Engine engine(transformer, tokenizer, {.n_pages = 512, .batch_tokens = 256});
//   auto submitted = engine.submit(request, now);        // an id, or why not
//   while (engine.has_work())
//       for (const Event& event : engine.step(now)) ...  // tokens, ends
//
// Values go in and events come out. One thread calls; nothing here waits, reads a clock or keeps
// anything outside the object, so the same calls give the same events.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "engine/event.h"
#include "engine/kv_pages.h"
#include "engine/prompt_reader.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/sequence.h"
#include "engine/step_batch.h"
#include "engine/step_draws.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace etalon::engine {

struct EngineOptions {
    int n_pages = 0;         ///< of the KV cache, 64 tokens each, >= 1
    int batch_tokens = 256;  ///< of a step; at most the transformer's, at least 2 sequences_max
    int sequences_max = 32;  ///< answers that are computed at once
    /// Proposals of speculation in a step, all sequences together; 0: none. They pay while a batch
    /// still waits for memory: on a CPU tens of tokens, on a GPU hundreds.
    int draft_tokens_max = 32;
    std::uint64_t entropy = 0;  ///< seeds of requests without one are derived from it
    /// A step starts the pass of the next one before it makes texts and hashes of its own: for
    /// devices that work beside the host. One on which passes can follow each other
    /// (Backend::can_follow) gets it even before the step's own pass has ended, while all that runs
    /// generates tokens which the device draws: it then never waits for the host. Requests that
    /// come meanwhile wait for one pass more; no answer changes.
    bool overlap = false;
};

/// Bytes of a page of 64 tokens for a model, to turn memory into EngineOptions::n_pages.
std::uint64_t kv_page_bytes(const weights::ModelConfig& config) noexcept;

struct Accepted {
    RequestId id = 0;
    std::uint64_t seed = 0;  ///< the request's, or the one drawn for it
    int max_tokens = 0;      ///< of each answer
};

class Engine {
  public:
    /// Transformer and tokenizer outlive the engine. Errors: usage (options that contradict each
    /// other or the transformer, with both numbers).
    Engine(model::Transformer& transformer, const text::Tokenizer& tokenizer,
           const EngineOptions& options);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    /// Every accepted request ends with its RequestFinished, whatever else runs.
    std::variant<Accepted, Refusal> submit(Request request, Time now);

    /// The request computes no more and holds no page from here on; its last events come with the
    /// next step. False: there is no such request.
    bool cancel(RequestId id, Time now);

    /// Nothing that was computed until now serves a later request: prefixes in the cache are
    /// zeroed, those of running requests when they end. No answer changes.
    void forget_prefixes() { pages_.forget(); }

    /// One pass of the model, or none when nothing is unfinished. Events of a choice are in order.
    std::vector<Event> step(Time now);

    /// Ends the pass that is under way, if one is, also when nothing is unfinished any more; its
    /// events come with the next step. Until then others may use the transformer.
    void rest();

    /// Something is unfinished, or events wait for the next step.
    bool has_work() const noexcept { return !requests_.empty() || !pending_.empty(); }

    Counters counters() const;
    const Room& room() const noexcept { return room_; }
    const KvPages& pages() const noexcept { return pages_; }

  private:
    struct ActiveRequest {
        Request request;
        Time submitted{};
        bool was_started = false;
        Usage usage;
        std::vector<std::unique_ptr<Sequence>> choices;
        int n_unfinished = 0;
    };

    /// A pass and what it is for.
    struct Pass {
        std::vector<Share> shares;
        StepBatch batch;
        StepDraws draws;
        /// Requests that ended meanwhile: shares and draws point to them.
        std::vector<std::unique_ptr<ActiveRequest>> ended;

        Pass(std::vector<Share> its_shares, Sampler& sampler, bool device_draws)
            : shares(std::move(its_shares)),
              batch(shares),
              draws(shares, batch, sampler, device_draws) {}
    };

    /// What a pass has decided, whose text and hash are not made yet. In the order of the events.
    struct Decided {
        Sequence* sequence = nullptr;  ///< of token and end
        std::optional<Event> event;    ///< one that needs neither
        std::optional<TokenEvent> token;
        bool has_text = false;  ///< of the token: made, or it shows none
        std::optional<ChoiceFinished> end;
    };

    std::unique_ptr<Pass> start_next(Time now);
    std::unique_ptr<Pass> start_ahead(Time now);
    std::unique_ptr<Pass> start(std::vector<Share> shares, Time now);
    void start_clock(const std::vector<Share>& shares, Time now);
    std::vector<Decided> finish_pass(Pass& pass);
    void advance(const Pass& pass, std::size_t index, std::vector<Decided>& decided);
    bool read_prompt(const Share& share, std::size_t index, const StepBatch& batch,
                     std::vector<Decided>& decided);
    void finish_vector(Sequence& sequence, std::vector<Decided>& decided);
    void draw_tokens(const Pass& pass, std::size_t index, std::vector<Decided>& decided);
    bool draw_token(Sequence& sequence, std::size_t row, const StepDraws& draws,
                    std::vector<Decided>& decided);
    std::optional<ChoiceFinished> end_of(Sequence& sequence, Decided& token);
    void publish(Sequence& sequence);
    void finish(Sequence& sequence, ChoiceFinished end, std::vector<Decided>& decided);
    void finish_failed(Sequence& sequence, int position, const char* rule,
                       std::vector<Decided>& decided);
    void tell(std::vector<Decided> decided, Time now, std::vector<Event>& events);
    void tell_token(Decided& decided, std::vector<Event>& events);
    void tell_end(Decided& decided, std::vector<Event>& events);
    void release_choices(ActiveRequest& active);
    void end_request(RequestId id, Time now, std::vector<Event>& events);

    model::Transformer* transformer_;
    const text::Tokenizer* tokenizer_;
    EngineOptions options_;
    Room room_;
    KvPages pages_;
    Scheduler scheduler_;
    Sampler sampler_;
    PromptReader prompt_reader_;
    std::unique_ptr<backend::FloatBuffer> logits_;  // [sequences_max + draft_tokens_max, vocab]
    std::vector<float> row_;                        // [vocab] a copy that the sampler changes

    std::map<RequestId, std::unique_ptr<ActiveRequest>> requests_;
    std::unique_ptr<Pass> pass_;    // under way; only step() has a second one
    Time started_{};                // its step
    std::vector<RequestId> ended_;  // in this step; erased at its end
    std::vector<Event> pending_;
    RequestId next_id_ = 1;
    std::uint64_t next_order_ = 1;
    std::int64_t held_tokens_ = 0;
    Counters totals_;  // what only grows; the rest is asked when wanted
};

}  // namespace etalon::engine
