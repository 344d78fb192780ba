// SPDX-License-Identifier: Apache-2.0
// Fair shares, who starts, who gives way, and that nobody starves: sequences without a model.
#include "engine/scheduler.h"

#include <deque>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <random>

#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

TEST(FairShare, times_follow_weights) {
    FairShare shares;
    shares.join("ann", 1);
    shares.join("bob", 3);
    shares.charge("ann", 10);
    shares.charge("bob", 30);
    EXPECT_EQ(shares.time("ann"), shares.time("bob"));
}

TEST(FairShare, idling_saves_nothing_and_forgets_nothing) {
    FairShare shares;
    shares.join("ann", 1);
    shares.join("bob", 1);
    shares.charge("ann", 100);
    shares.charge("bob", 40);
    shares.join("new", 1);
    EXPECT_EQ(shares.time("new"), shares.time("bob"));  // the least of those that are there
    shares.leave("ann");
    shares.join("ann", 1);
    EXPECT_GT(shares.time("ann"), shares.time("bob"));  // its debt is still there
    shares.leave("bob");
    shares.charge("new", 100);
    shares.join("bob", 1);
    EXPECT_EQ(shares.time("bob"), shares.time("ann"));  // waiting outside saved nothing
}

/// A scheduler over a cache without a model; answers are zeros and never end by themselves.
class House {
  public:
    House(const StepLimits& limits, int n_pages)
        : device_(backend::make_exact_backend(1)),
          pages_(*device_, device_->make_kv_cache({1, 1, 2, n_pages})),
          scheduler_(limits, pages_) {}
    ~House() {
        for (auto& guest : guests_)
            scheduler_.remove(*guest.sequence);
    }
    House(const House&) = delete;
    House& operator=(const House&) = delete;

    Sequence& add(const std::string& tenant, int n_prompt, int n_answer, int weight = 1) {
        Guest& guest = guests_.emplace_back();
        guest.request.tenant = tenant;
        guest.request.weight = weight;
        guest.request.prompt.assign(static_cast<std::size_t>(n_prompt),
                                    static_cast<std::int32_t>(guests_.size()));
        guest.request.speculate = false;
        guest.sequence = std::make_unique<Sequence>(guest.request, guests_.size(), guest.usage, 0,
                                                    guests_.size(), n_answer, tiny_tokenizer());
        scheduler_.add(*guest.sequence);
        return *guest.sequence;
    }

    /// One step; returns the tokens that each tenant got.
    std::map<std::string, int> step() {
        std::map<std::string, int> got;
        n_tokens_last_ = 0;
        for (const Share& share : scheduler_.plan()) {
            Sequence& sequence = *share.sequence;
            const bool completes = share.completes();
            got[sequence.request->tenant] += share.n_tokens;
            n_tokens_last_ += share.n_tokens;
            sequence.n_computed += share.n_tokens;
            pages_.publish(
                sequence.partition(),
                std::span(sequence.tokens).first(static_cast<std::size_t>(sequence.n_computed)),
                sequence.table);
            if (completes) sequence.tokens.push_back(0);
            if (sequence.n_tokens() == sequence.n_tokens_max) scheduler_.remove(sequence);
        }
        return got;
    }

    Scheduler& scheduler() { return scheduler_; }
    KvPages& pages() { return pages_; }
    int n_tokens_last() const { return n_tokens_last_; }

  private:
    struct Guest {
        Request request;
        Usage usage;
        std::unique_ptr<Sequence> sequence;
    };
    std::unique_ptr<backend::Backend> device_;
    KvPages pages_;
    std::deque<Guest> guests_;
    Scheduler scheduler_;
    int n_tokens_last_ = 0;
};

TEST(Scheduler, decoding_goes_on_beside_prompts) {
    House house({.batch_tokens = 32, .sequences_max = 4, .draft_tokens_max = 0}, 200);
    Sequence& first = house.add("ann", 1, 100);
    house.step();
    house.add("bob", 3000, 10);
    house.add("eve", 3000, 10);
    for (int i = 0; i < 50; ++i) {
        const int before = first.n_tokens();
        house.step();
        ASSERT_EQ(first.n_tokens(), before + 1);
        ASSERT_EQ(house.n_tokens_last(), 32);  // and the step is full
    }
}

TEST(Scheduler, prompts_share_by_weight) {
    House house({.batch_tokens = 64, .sequences_max = 8, .draft_tokens_max = 0}, 400);
    for (int i = 0; i < 2; ++i) {
        house.add("ann", 6000, 1, 1);
        house.add("bob", 6000, 1, 3);
    }
    std::map<std::string, int> sum;
    for (int i = 0; i < 80; ++i) {
        for (const auto& [tenant, n] : house.step())
            sum[tenant] += n;
    }
    EXPECT_NEAR(static_cast<double>(sum["bob"]) / sum["ann"], 3.0, 0.2);
}

TEST(Scheduler, the_lighter_tenant_starts_first) {
    House house({.batch_tokens = 64, .sequences_max = 1, .draft_tokens_max = 0}, 20);
    house.add("ann", 64, 4);
    house.step();
    for (int i = 0; i < 5; ++i)
        house.add("ann", 64, 4);
    Sequence& other = house.add("bob", 64, 4);
    int n_steps = 0;
    while (other.phase != Phase::running) {
        house.step();
        ASSERT_LT(++n_steps, 6);  // one answer, not six
    }
}

TEST(Scheduler, a_tenant_with_nothing_takes_a_place_from_one_with_several) {
    House house({.batch_tokens = 64, .sequences_max = 3, .draft_tokens_max = 0}, 40);
    for (int i = 0; i < 3; ++i)
        house.add("ann", 10, 1000);
    house.step();
    Sequence& other = house.add("bob", 10, 1000);
    house.step();
    EXPECT_EQ(other.phase, Phase::running);
    EXPECT_EQ(house.scheduler().n_preemptions(), 1U);
    house.add("bob", 10, 1000);
    house.step();
    EXPECT_EQ(house.scheduler().n_preemptions(), 1U);  // bob has one already
}

TEST(Scheduler, nobody_gives_way_in_vain) {
    House house({.batch_tokens = 64, .sequences_max = 3, .draft_tokens_max = 0}, 10);
    Sequence& first = house.add("ann", 250, 200);
    Sequence& second = house.add("ann", 100, 200);
    while (first.n_computed < 250 || second.n_computed < 100)
        house.step();
    house.add("bob", 500, 10);  // eight pages: more than the first of ann leaves
    for (int i = 0; i < 20; ++i)
        house.step();
    EXPECT_EQ(house.scheduler().n_preemptions(), 0U);
}

TEST(Scheduler, room_is_made_by_the_youngest) {
    House house({.batch_tokens = 64, .sequences_max = 2, .draft_tokens_max = 0}, 4);
    Sequence& old = house.add("ann", 60, 190);
    Sequence& young = house.add("ann", 60, 190);
    while (old.phase != Phase::finished) {
        const int before = old.n_tokens();
        const bool decodes = old.decodes();
        house.step();
        if (decodes) {
            ASSERT_EQ(old.n_tokens(), before + 1);
        }
    }
    EXPECT_GT(house.scheduler().n_preemptions(), 0U);
    for (int i = 0; i < 1000 && young.phase != Phase::finished; ++i)
        house.step();
    EXPECT_EQ(young.phase, Phase::finished);
    EXPECT_EQ(house.pages().n_available(), 4);
}

TEST(Scheduler, everybody_ends_in_a_crowd) {
    House house({.batch_tokens = 16, .sequences_max = 4, .draft_tokens_max = 0}, 6);
    std::mt19937 random(7);
    std::vector<Sequence*> all;
    for (int i = 0; i < 60; ++i) {
        const std::string tenant(1, static_cast<char>('a' + random() % 5));
        const int n_prompt = 1 + static_cast<int>(random() % 200);
        const int n_answer = 1 + static_cast<int>(random() % 180);
        all.push_back(&house.add(tenant, n_prompt, n_answer, 1 + static_cast<int>(random() % 9)));
    }
    int n_steps = 0;
    while (house.scheduler().n_running() + house.scheduler().n_waiting() > 0) {
        house.step();
        ASSERT_LT(++n_steps, 100000);
    }
    for (const Sequence* sequence : all)
        EXPECT_EQ(sequence->n_tokens(), sequence->n_tokens_max);
    EXPECT_EQ(house.pages().n_available(), 6);
}

}  // namespace
}  // namespace etalon::engine
