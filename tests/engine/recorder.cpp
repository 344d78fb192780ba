// SPDX-License-Identifier: Apache-2.0
// Runs the schedule and keeps what came of each choice.
#include "engine/recorder.h"

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <utility>

#include "engine/tiny_model.h"
#include "weights/model_hash.h"

namespace etalon::engine {

namespace {

using Random = std::mt19937_64;

int between(Random& random, int low, int high) {
    return low + static_cast<int>(random() % static_cast<std::uint64_t>(high - low + 1));
}

bool chance(Random& random, int percent) {
    return between(random, 1, 100) <= percent;
}

class Recorder {
  public:
    Recorder(const Catalogue& catalogue, std::uint64_t seed)
        : catalogue_(&catalogue),
          random_(seed),
          engine_(tiny_model().transformer, tiny_tokenizer(), make_options(random_)) {}

    Recording run();

  private:
    using Key = std::pair<RequestId, int>;  // request, choice

    static EngineOptions make_options(Random& random);
    void arrive();
    void take(const TokenEvent& event);
    void take(const ChoiceFinished& event);
    void take(const RequestFinished&) {}
    /// No request of the catalogue asks for these: they count as a mismatch.
    void take(const PromptLogprobs&) { recording_.n_other_digests += 1; }
    void take(const EmbeddingEvent&) { recording_.n_other_digests += 1; }

    const Catalogue* catalogue_;
    Random random_;
    Engine engine_;
    std::map<Key, Recorded> open_;
    Recording recording_;
};

EngineOptions Recorder::make_options(Random& random) {
    EngineOptions options;
    options.n_pages = between(random, 5, 14);
    options.sequences_max = between(random, 2, 6);
    options.batch_tokens = between(random, 2 * options.sequences_max, 80);
    options.draft_tokens_max = std::min(between(random, 0, 12), options.batch_tokens);
    options.entropy = random();
    options.overlap = options.entropy % 2 == 0;
    return options;
}

void Recorder::arrive() {
    const auto& all = catalogue_->all();
    const auto nth = between(random_, 0, static_cast<int>(all.size()) - 1);
    const Known& known = all[static_cast<std::size_t>(nth)];
    Request request = known.request;
    request.tenant = chance(random_, 70) ? "ann" : "bob";
    if (chance(random_, 20)) request.prediction = known.answers.front().tokens;
    if (chance(random_, 20)) request.seed.reset();  // the engine draws one and says which
    const int every = chance(random_, 20) ? between(random_, 2, 5) : 0;
    if (every > 0) request.mask = std::make_shared<EveryNthMask>(every);
    const auto submitted = engine_.submit(request, Time(0));
    const auto* accepted = std::get_if<Accepted>(&submitted);
    if (accepted == nullptr) return;  // it fits in no cache of this size
    for (int choice = 0; choice < request.n; ++choice) {
        Recorded recorded{payload_of(request, accepted->seed, accepted->max_tokens, choice),
                          request.mask};
        recorded.payload.model_name = "tiny";
        recorded.payload.model_sha256 = tiny_hash();
        if (every > 0) recorded.payload.mask = MaskSource{"every_nth", std::to_string(every)};
        open_.emplace(Key{accepted->id, choice}, std::move(recorded));
    }
    if (chance(random_, 5)) engine_.cancel(accepted->id, Time(0));
}

void Recorder::take(const TokenEvent& event) {
    Payload& payload = open_.at({event.request, event.choice}).payload;
    payload.answer.push_back(event.token);
    payload.checksums.push_back(event.checksum);
}

void Recorder::take(const ChoiceFinished& event) {
    const auto found = open_.find({event.request, event.choice});
    Payload& payload = found->second.payload;
    payload.finish = event.reason;
    recording_.n_other_digests += answer_digest(payload) == event.digest ? 0 : 1;
    recording_.answers.push_back(std::move(found->second));
    open_.erase(found);
}

Recording Recorder::run() {
    int n_arrivals = between(random_, 4, 9);
    while (n_arrivals > 0 || engine_.has_work()) {
        while (n_arrivals > 0 && (chance(random_, 30) || !engine_.has_work())) {
            arrive();
            --n_arrivals;
        }
        if (!open_.empty() && chance(random_, 2)) {
            engine_.cancel(open_.begin()->first.first, Time(0));
        }
        for (const Event& event : engine_.step(Time(0)))
            std::visit([&](const auto& e) { take(e); }, event);
    }
    recording_.counters = engine_.counters();
    return std::move(recording_);
}

}  // namespace

void EveryNthMask::restrict(std::span<const std::int32_t> answer, std::span<bool> allowed) const {
    for (std::size_t id = 0; id < allowed.size(); ++id) {
        if ((id + answer.size()) % static_cast<std::size_t>(n_) == 0) allowed[id] = false;
    }
}

const Sha256Digest& tiny_hash() {
    static const Sha256Digest hash = weights::model_hash(tiny_file());
    return hash;
}

Recording record_schedule(const Catalogue& catalogue, std::uint64_t seed) {
    return Recorder(catalogue, seed).run();
}

}  // namespace etalon::engine
