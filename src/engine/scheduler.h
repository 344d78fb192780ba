// SPDX-License-Identifier: Apache-2.0
// Decides what each step computes: who starts, who gives way, and how the tokens of the step are
// divided.
//
// - Start: the tenant with the least virtual time, its oldest sequence; nobody overtakes that one.
// - A running sequence holds pages for all of its tokens. One that needs a page when there is none
//   takes those of the youngest running sequence, which waits and is recomputed later.
// - A tenant with nothing running takes a place from one with several.
// - Tokens of a step: one for each that decodes, then prompts in turns of a page by virtual time,
//   then proposals of speculation. Decoding takes at most half of a step, so neither starves.
//
// Why everything ends: the oldest running sequence is never preempted, alone it always fits, and a
// tenant that waits keeps its virtual time while those that compute pass it.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/fair_share.h"
#include "engine/kv_pages.h"
#include "engine/sequence.h"

namespace etalon::engine {

/// What one sequence computes in a step: tokens[n_computed .. n_computed + n_tokens), then
/// proposals behind the last token when those reach it.
struct Share {
    Sequence* sequence = nullptr;
    int n_tokens = 0;
    std::vector<std::int32_t> draft;
    /// Of a pass that follows another one: the only token is the one behind all `tokens`, which
    /// this row of the other pass draws.
    std::optional<std::size_t> row_before = std::nullopt;

    /// The next token can be drawn after the step.
    bool completes() const noexcept { return row_before || n_tokens == sequence->n_missing(); }
};

struct StepLimits {
    int batch_tokens = 0;      ///< tokens of a step, drafts too
    int sequences_max = 0;     ///< running at once; at most half of batch_tokens
    int draft_tokens_max = 0;  ///< drafts of a step; 0: no speculation
};

class Scheduler {
  public:
    /// `pages` outlive the scheduler.
    Scheduler(const StepLimits& limits, KvPages& pages);

    /// A sequence that is held or new; it waits from now on. It stays where it is until remove().
    void add(Sequence& sequence);
    /// A sequence that has ended; its pages are released.
    void remove(Sequence& sequence);

    /// The shares of the next step, oldest sequence first; every running sequence that decodes has
    /// one. Empty only when there is no sequence.
    std::vector<Share> plan();
    /// The shares of the step behind `under_way`, before the tokens of that one are known: a token
    /// for each sequence that does not end with it for certain. Share i of `under_way` has row i of
    /// its logits, and shares of sequences that have ended are passed over. Empty, with nothing
    /// changed, when plan() might say something else: somebody may start, prompts are not at their
    /// end, a draft is proposed, pages are missing, or a token has to be known first.
    std::vector<Share> plan_ahead(std::span<const Share> under_way);

    int n_running() const noexcept { return static_cast<int>(running_.size()); }
    int n_waiting() const noexcept { return n_waiting_; }
    std::uint64_t n_preemptions() const noexcept { return n_preemptions_; }
    std::uint64_t n_cached_tokens() const noexcept { return n_cached_tokens_; }

  private:
    using Queue = std::map<std::uint64_t, Sequence*>;  // by order

    void enqueue(Sequence& sequence);
    void dequeue(const Sequence& sequence);
    Sequence* first_waiting() const;
    void start_sequences();
    bool try_start(Sequence& sequence);
    bool give_way(const Sequence& next);
    void preempt(Sequence& sequence);
    void make_room();
    bool nobody_starts() const;

    void share_decodes(std::vector<Share>& shares, int& budget);
    void share_prompts(std::vector<Share>& shares, int& budget);
    void share_drafts(std::vector<Share>& shares, int budget);

    StepLimits limits_;
    KvPages* pages_;
    FairShare fair_share_;
    std::map<std::string, Queue> waiting_;  // by tenant; no queue is empty
    Queue running_;
    int n_waiting_ = 0;
    std::uint64_t n_preemptions_ = 0;
    std::uint64_t n_cached_tokens_ = 0;
};

}  // namespace etalon::engine
