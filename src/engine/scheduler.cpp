// SPDX-License-Identifier: Apache-2.0
// Starting, giving way and dividing a step.
#include "engine/scheduler.h"

#include <algorithm>
#include <tuple>

#include "base/error.h"
#include "engine/limits.h"
#include "engine/look_ahead.h"

namespace etalon::engine {

Scheduler::Scheduler(const StepLimits& limits, KvPages& pages) : limits_(limits), pages_(&pages) {
    ETALON_ASSERT(limits.sequences_max >= 1);
    ETALON_ASSERT(limits.batch_tokens >= 2 * limits.sequences_max);
    ETALON_ASSERT(limits.draft_tokens_max >= 0);
}

void Scheduler::add(Sequence& sequence) {
    ETALON_ASSERT(sequence.phase == Phase::held);
    fair_share_.join(sequence.request->tenant, sequence.request->weight);
    enqueue(sequence);
}

void Scheduler::remove(Sequence& sequence) {
    if (sequence.phase == Phase::waiting) dequeue(sequence);
    if (sequence.phase == Phase::running) running_.erase(sequence.order);
    if (sequence.phase == Phase::waiting || sequence.phase == Phase::running) {
        fair_share_.leave(sequence.request->tenant);
    }
    pages_->release(sequence.table);
    sequence.phase = Phase::finished;
}

void Scheduler::enqueue(Sequence& sequence) {
    sequence.phase = Phase::waiting;
    waiting_[sequence.request->tenant].emplace(sequence.order, &sequence);
    ++n_waiting_;
}

void Scheduler::dequeue(const Sequence& sequence) {
    const auto queue = waiting_.find(sequence.request->tenant);
    ETALON_ASSERT(queue != waiting_.end());
    const std::size_t n_erased = queue->second.erase(sequence.order);
    ETALON_ASSERT(n_erased == 1);
    if (queue->second.empty()) waiting_.erase(queue);
    --n_waiting_;
}

/// The oldest sequence of the tenant with the least virtual time; of equal ones the older sequence.
Sequence* Scheduler::first_waiting() const {
    Sequence* first = nullptr;
    std::uint64_t least = 0;
    for (const auto& [tenant, queue] : waiting_) {
        Sequence* oldest = queue.begin()->second;
        const std::uint64_t time = fair_share_.time(tenant);
        if (first == nullptr || std::tie(time, oldest->order) < std::tie(least, first->order)) {
            first = oldest;
            least = time;
        }
    }
    return first;
}

void Scheduler::start_sequences() {
    while (Sequence* next = first_waiting()) {
        if (try_start(*next)) continue;
        if (!give_way(*next)) return;
        // At once: the tenants of those that gave way may come before this one again.
        const bool started = try_start(*next);
        ETALON_ASSERT(started);
    }
}

bool Scheduler::try_start(Sequence& sequence) {
    if (n_running() >= limits_.sequences_max) return false;
    // Each running sequence soon grows by a page; starting without that room would only preempt.
    const auto n_cached = pages_->begin(sequence.partition(), sequence.tokens, n_running(),
                                        sequence.table, !sequence.reads_prompt());
    if (!n_cached) return false;
    dequeue(sequence);
    running_.emplace(sequence.order, &sequence);
    sequence.phase = Phase::running;
    sequence.n_computed = *n_cached;
    n_cached_tokens_ += static_cast<std::uint64_t>(*n_cached);
    if (!sequence.was_started && sequence.choice == 0) {
        sequence.usage->cached_tokens = *n_cached;
    }
    sequence.was_started = true;
    return true;
}

/// When the tenant of `next` has nothing running, preempts the youngest sequences of tenants with
/// several, those with the most first, as many as `next` needs to start; none when that is not
/// enough.
bool Scheduler::give_way(const Sequence& next) {
    std::map<std::string_view, std::vector<Sequence*>> by_tenant;  // oldest first
    for (const auto& [order, sequence] : running_)
        by_tenant[sequence->request->tenant].push_back(sequence);
    if (by_tenant.contains(next.request->tenant)) return false;
    std::vector<Sequence*> victims;
    int n_pages = pages_->n_available();
    int n_left = n_running();
    while (n_left >= limits_.sequences_max || n_pages < pages_for(next.n_tokens()) + n_left) {
        const auto most = std::max_element(
            by_tenant.begin(), by_tenant.end(),
            [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
        if (most == by_tenant.end() || most->second.size() < 2) return false;
        victims.push_back(most->second.back());
        most->second.pop_back();
        n_pages += pages_->n_releasable(victims.back()->table);
        --n_left;
    }
    for (Sequence* victim : victims)
        preempt(*victim);
    return true;
}

void Scheduler::preempt(Sequence& sequence) {
    running_.erase(sequence.order);
    pages_->release(sequence.table);
    sequence.n_computed = 0;
    ++sequence.usage->preemptions;
    ++n_preemptions_;
    enqueue(sequence);
}

/// Every running sequence gets pages for all of its tokens, the oldest first; where there are none
/// the youngest gives its own.
void Scheduler::make_room() {
    for (auto next = running_.begin(); next != running_.end();) {
        Sequence& sequence = *next->second;
        if (pages_->grow(sequence.table, sequence.n_tokens())) {
            ++next;
            continue;
        }
        Sequence& youngest = *running_.rbegin()->second;
        ETALON_ASSERT(running_.size() > 1);  // alone an accepted request fits
        const bool is_itself = &youngest == &sequence;
        preempt(youngest);
        if (is_itself) return;
    }
}

std::vector<Share> Scheduler::plan() {
    // Growth first: who runs already must not lose the room to who starts.
    make_room();
    start_sequences();
    ETALON_ASSERT(!running_.empty() || waiting_.empty());
    std::vector<Share> shares;
    for (const auto& [order, sequence] : running_)
        shares.push_back({sequence, 0, {}});
    int budget = limits_.batch_tokens;
    share_decodes(shares, budget);
    share_prompts(shares, budget);
    share_drafts(shares, budget);
    std::erase_if(shares, [](const Share& share) { return share.n_tokens == 0; });
    return shares;
}

/// Whether start_sequences() would start nobody: all places are taken, and nobody gives way.
bool Scheduler::nobody_starts() const {
    const Sequence* next = first_waiting();
    if (next == nullptr) return true;
    if (n_running() < limits_.sequences_max) return false;
    return std::any_of(running_.begin(), running_.end(), [&](const auto& entry) {
        return entry.second->request->tenant == next->request->tenant;
    });
}

std::vector<Share> Scheduler::plan_ahead(std::span<const Share> under_way) {
    std::vector<Share> shares;
    int n_unfinished = 0;
    int n_pages = 0;
    for (std::size_t row = 0; row < under_way.size(); ++row) {
        Sequence& sequence = *under_way[row].sequence;
        if (sequence.phase == Phase::finished) continue;
        if (!can_look_ahead(under_way[row])) return {};
        ++n_unfinished;
        const int n_tokens = sequence.n_tokens() + 1;
        if (n_tokens == sequence.n_tokens_max) continue;
        n_pages += std::max(pages_for(n_tokens) - static_cast<int>(sequence.table.pages.size()), 0);
        shares.push_back({&sequence, 1, {}, row});
    }
    const bool some_end = shares.size() < static_cast<std::size_t>(n_unfinished);
    if (n_unfinished < n_running() || !nobody_starts() || (n_waiting() > 0 && some_end)) return {};
    if (n_pages > pages_->n_available()) return {};
    for (const Share& share : shares) {
        if (would_draft(*share.sequence, limits_.draft_tokens_max)) return {};
    }
    for (const Share& share : shares) {
        const bool grown = pages_->grow(share.sequence->table, share.sequence->n_tokens() + 1);
        ETALON_ASSERT(grown);
        fair_share_.charge(share.sequence->request->tenant, share.n_tokens);
    }
    return shares;
}

void Scheduler::share_decodes(std::vector<Share>& shares, int& budget) {
    for (Share& share : shares) {
        if (!share.sequence->decodes()) continue;
        share.n_tokens = 1;
        fair_share_.charge(share.sequence->request->tenant, 1);
        --budget;
    }
    ETALON_ASSERT(budget >= limits_.sequences_max);
}

void Scheduler::share_prompts(std::vector<Share>& shares, int& budget) {
    const auto left = [](const Share& share) {
        return share.sequence->n_missing() - share.n_tokens;
    };
    while (budget > 0) {
        Share* next = nullptr;
        std::uint64_t least = 0;
        for (Share& share : shares) {
            if (left(share) == 0) continue;
            const std::uint64_t time = fair_share_.time(share.sequence->request->tenant);
            if (next != nullptr && time >= least) continue;
            next = &share;
            least = time;
        }
        if (next == nullptr) return;
        const int n = std::min({left(*next), budget, kPrefillQuantum});
        next->n_tokens += n;
        budget -= n;
        fair_share_.charge(next->sequence->request->tenant, n);
    }
}

void Scheduler::share_drafts(std::vector<Share>& shares, int budget) {
    budget = std::min(budget, limits_.draft_tokens_max);
    for (Share& share : shares) {
        Sequence& sequence = *share.sequence;
        if (budget <= 0) return;
        if (!share.completes() || !sequence.request->speculate || sequence.request->embed) {
            continue;
        }
        // Drafts lie behind the last token: on pages that are there, before the end of the answer.
        const int n_slots = static_cast<int>(sequence.table.pages.size()) * exact::kPageTokens -
                            sequence.n_tokens();
        const int n_wanted = sequence.n_tokens_max - sequence.n_tokens() - 1;
        share.draft = sequence.drafter.propose(
            sequence.tokens, static_cast<std::size_t>(sequence.n_prompt()),
            sequence.request->prediction, std::min({budget, n_slots, n_wanted}));
        budget -= static_cast<int>(share.draft.size());
        fair_share_.charge(sequence.request->tenant, static_cast<int>(share.draft.size()));
    }
}

}  // namespace etalon::engine
