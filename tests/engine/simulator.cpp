// SPDX-License-Identifier: Apache-2.0
// The catalogue and the schedules.
#include "engine/simulator.h"

#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <set>

#include "engine/limits.h"
#include "engine/tiny_model.h"

namespace etalon::engine {

namespace {

using Random = std::mt19937_64;

constexpr int kFamilies = 5;
constexpr int kFamilyTokens = 200;
constexpr int kStepsMax = 20000;  // a schedule that is not done by then never will be

int between(Random& random, int low, int high) {
    return low + static_cast<int>(random() % static_cast<std::uint64_t>(high - low + 1));
}

bool chance(Random& random, int percent) {
    return between(random, 1, 100) <= percent;
}

template <typename T>
T one_of(Random& random, std::initializer_list<T> values) {
    return *(values.begin() + between(random, 0, static_cast<int>(values.size()) - 1));
}

std::int32_t letter(Random& random) {
    return tiny_byte(static_cast<char>(between(random, 'a', 'p')));
}

exact::SamplingParameters make_sampling(Random& random) {
    exact::SamplingParameters p;
    p.temperature = one_of(random, {0.0F, 0.0F, 0.5F, 1.0F, 1.5F});
    p.top_k = one_of(random, {0, 0, 1, 5, 40});
    p.top_p = one_of(random, {1.0F, 1.0F, 0.9F, 0.3F});
    p.min_p = one_of(random, {0.0F, 0.0F, 0.05F, 0.3F});
    if (chance(random, 20)) p.repetition_penalty = one_of(random, {0.8F, 1.3F});
    if (chance(random, 2)) p.repetition_penalty = 0x1p-126F;  // overflows: ERR-3
    if (chance(random, 20)) p.presence_penalty = one_of(random, {-0.5F, 0.7F});
    if (chance(random, 20)) p.frequency_penalty = one_of(random, {-0.2F, 0.4F});
    const int n_bias = chance(random, 20) ? between(random, 1, 5) : 0;
    for (int i = 0; i < n_bias; ++i) {
        const std::int32_t id = 10 * i + between(random, 0, 9);
        p.logit_bias.emplace_back(id, one_of(random, {-100.0F, -2.0F, 3.0F}));
    }
    return p;
}

/// A piece of `text` of one to three characters, or something that hardly comes.
std::string make_stop(Random& random, const std::string& text) {
    if (text.empty() || chance(random, 20)) return "STOP and go";
    auto begin = static_cast<std::size_t>(between(random, 0, static_cast<int>(text.size()) - 1));
    const auto inside = [&](std::size_t i) {
        return i < text.size() && (static_cast<unsigned char>(text[i]) & 0xC0) == 0x80;
    };
    while (inside(begin))
        --begin;
    std::size_t end = begin;
    for (int n = between(random, 1, 3); n > 0 && end < text.size(); --n) {
        ++end;
        while (inside(end))
            ++end;
    }
    return text.substr(begin, end - begin);
}

}  // namespace

Request Catalogue::make_request(Random& random) const {
    Request request;
    request.tenant = "unset";
    const auto& family = families_[static_cast<std::size_t>(between(random, 0, kFamilies - 1))];
    const int n_common = chance(random, 60) ? between(random, 60, 200) : between(random, 0, 30);
    request.prompt.assign(family.begin(), family.begin() + n_common);
    for (int n = between(random, n_common == 0 ? 1 : 0, 12); n > 0; --n)
        request.prompt.push_back(letter(random));
    if (chance(random, 2)) {
        const int place = between(random, 0, static_cast<int>(request.prompt.size()) - 1);
        request.prompt[static_cast<std::size_t>(place)] = kTinyPoison;
    }
    request.sampling = make_sampling(random);
    request.seed = random();
    request.n = chance(random, 80) ? 1 : between(random, 2, 4);
    request.max_tokens = chance(random, 70) ? between(random, 1, 12) : between(random, 13, 70);
    if (chance(random, 15)) request.min_tokens = between(random, 1, *request.max_tokens);
    request.ignore_eos = chance(random, 20);
    if (chance(random, 20)) request.stop_tokens = {letter(random), kTinyPoison};
    if (chance(random, 30)) request.top_logprobs = between(random, 0, 3);
    return request;
}

Catalogue::Catalogue(std::uint64_t seed, int n_requests) {
    Random random(seed);
    for (int i = 0; i < kFamilies; ++i) {
        std::vector<std::int32_t> tokens;
        // The odd ones repeat themselves, which speculation likes.
        const int period = i % 2 == 0 ? kFamilyTokens : 9;
        for (int k = 0; k < kFamilyTokens; ++k)
            tokens.push_back(k < period ? letter(random) : tokens[tokens.size() - 9]);
        families_.push_back(std::move(tokens));
    }
    for (int i = 0; i < n_requests; ++i) {
        Known known{make_request(random), {}};
        Request& request = known.request;
        if (chance(random, 35)) {
            const std::string text = run_alone(request, *request.seed, 0).text;
            for (int n = between(random, 1, 3); n > 0; --n)
                request.stop_strings.push_back(make_stop(random, text));
        }
        for (int choice = 0; choice < request.n; ++choice)
            known.answers.push_back(run_alone(request, *request.seed, choice));
        known_.push_back(std::move(known));
    }
}

namespace {

/// A request under way and what came of it.
struct Flight {
    const Known* known = nullptr;
    struct Choice {
        std::size_t n_tokens = 0;
        std::string text;
        bool is_finished = false;
    };
    std::vector<Choice> choices;
    bool is_cancelled = false;
};

class Schedule {
  public:
    Schedule(const Catalogue& catalogue, std::uint64_t seed, TinyModel& model, bool overlap)
        : catalogue_(&catalogue),
          random_(seed),
          options_(make_options(random_, overlap)),
          engine_(model.transformer, tiny_tokenizer(), options_) {}

    ScheduleResult run();
    DayResult run_day(int n_requests);

  private:
    static EngineOptions make_options(Random& random, bool overlap);
    void arrive();
    void cancel_one();
    /// No request of the catalogue asks for these.
    void take(const PromptLogprobs&) { result_.mismatches += "log-probabilities of a prompt"; }
    void take(const EmbeddingEvent&) { result_.mismatches += "a vector"; }
    void take(const TokenEvent& event);
    void take(const ChoiceFinished& event);
    void take(const RequestFinished& event);
    void check_end();
    void fail(RequestId id, const std::string& what) {
        result_.mismatches += fmt::format("request {}: {}\n", id, what);
    }

    const Catalogue* catalogue_;
    Random random_;
    EngineOptions options_;
    Engine engine_;
    Time now_{};
    std::map<RequestId, Flight> flights_;
    ScheduleResult result_;
};

EngineOptions Schedule::make_options(Random& random, bool overlap) {
    EngineOptions options;
    options.n_pages = between(random, 3, 14);
    options.sequences_max = between(random, 1, 6);
    options.batch_tokens = between(random, 2 * options.sequences_max, 80);
    options.draft_tokens_max = chance(random, 15) ? 0 : between(random, 1, 12);
    options.draft_tokens_max = std::min(options.draft_tokens_max, options.batch_tokens);
    options.entropy = random();
    options.overlap = overlap;
    return options;
}

void Schedule::arrive() {
    const auto& all = catalogue_->all();
    const Known& known =
        all[static_cast<std::size_t>(between(random_, 0, static_cast<int>(all.size()) - 1))];
    Request request = known.request;
    request.tenant = one_of<const char*>(random_, {"ann", "ann", "bob", "eve"});
    request.cache_key = chance(random_, 10) ? "key" : "";
    request.weight = between(random_, 1, 3);
    request.speculate = !chance(random_, 10);
    if (chance(random_, 20)) request.prediction = known.answers.front().tokens;
    const bool fits = static_cast<int>(request.prompt.size()) + *request.max_tokens - 1 <=
                      options_.n_pages * exact::kPageTokens;
    const auto submitted = engine_.submit(request, now_);
    const auto* accepted = std::get_if<Accepted>(&submitted);
    if ((accepted != nullptr) != fits) fail(0, "accepted although it does not fit, or refused");
    if (accepted == nullptr) {
        ++result_.n_refused;
        return;
    }
    if (accepted->seed != *request.seed) fail(accepted->id, "another seed");
    Flight& flight = flights_[accepted->id];
    flight.known = &known;
    flight.choices.resize(static_cast<std::size_t>(request.n));
}

void Schedule::cancel_one() {
    if (flights_.empty()) return;
    const auto place = between(random_, 0, static_cast<int>(flights_.size()) - 1);
    auto flight = std::next(flights_.begin(), place);
    flight->second.is_cancelled = engine_.cancel(flight->first, now_);
}

void Schedule::take(const TokenEvent& event) {
    Flight& flight = flights_.at(event.request);
    const auto nth = static_cast<std::size_t>(event.choice);
    Flight::Choice& choice = flight.choices[nth];
    const AloneChoice& alone = flight.known->answers[nth];
    const std::size_t i = choice.n_tokens++;
    choice.text += event.text;
    if (i >= alone.tokens.size()) return fail(event.request, "more tokens than alone");
    if (event.token != alone.tokens[i]) {
        return fail(event.request, fmt::format("choice {} token {}: {} instead of {}", nth, i,
                                               event.token, alone.tokens[i]));
    }
    if (event.checksum != alone.checksums[i]) fail(event.request, "another checksum");
    if (!alone.text.starts_with(choice.text)) fail(event.request, "text that is not of the answer");
    if (event.logprobs.has_value() != !alone.logprobs.empty()) {
        return fail(event.request, "logprobs that were not asked for, or none");
    }
    if (!event.logprobs) return;
    if (event.logprobs->logprob != alone.logprobs[i].logprob ||
        event.logprobs->top != alone.logprobs[i].top) {
        fail(event.request, "other logprobs");
    }
}

void Schedule::take(const ChoiceFinished& event) {
    Flight& flight = flights_.at(event.request);
    const auto nth = static_cast<std::size_t>(event.choice);
    Flight::Choice& choice = flight.choices[nth];
    const AloneChoice& alone = flight.known->answers[nth];
    if (choice.is_finished) fail(event.request, "finished twice");
    choice.is_finished = true;
    choice.text += event.text;
    if (event.n_tokens != static_cast<int>(choice.n_tokens)) fail(event.request, "another count");
    if (event.digest != alone.digest(choice.n_tokens)) fail(event.request, "another digest");
    if (event.reason == FinishReason::cancelled) {
        if (!flight.is_cancelled) fail(event.request, "cancelled by nobody");
        return;
    }
    ++result_.n_answers;
    result_.n_errors += event.reason == FinishReason::error ? 1 : 0;
    if (choice.n_tokens != alone.tokens.size()) fail(event.request, "fewer tokens than alone");
    if (event.reason != alone.reason) fail(event.request, "another reason");
    if (event.stop_string != alone.stop_string) fail(event.request, "another stop string");
    if (choice.text != alone.text) {
        fail(event.request, fmt::format("text '{}' instead of '{}'", choice.text, alone.text));
    }
}

void Schedule::take(const RequestFinished& event) {
    const Flight& flight = flights_.at(event.request);
    const Usage& usage = event.usage;
    std::size_t n_tokens = 0;
    for (const Flight::Choice& choice : flight.choices) {
        if (!choice.is_finished) fail(event.request, "ended before its choices");
        n_tokens += choice.n_tokens;
    }
    if (usage.answer_tokens != static_cast<int>(n_tokens)) fail(event.request, "another usage");
    if (usage.cached_tokens >= usage.prompt_tokens) fail(event.request, "nothing was computed");
    flights_.erase(event.request);
}

void Schedule::check_end() {
    const Counters& now = result_.counters = engine_.counters();
    if (!flights_.empty()) fail(flights_.begin()->first, "never ended");
    if (now.requests != 0 || now.running != 0 || now.waiting != 0) fail(0, "something is left");
    if (now.pages_free + now.pages_cached != now.pages_total) fail(0, "a page is lost");
}

ScheduleResult Schedule::run() {
    int n_arrivals = between(random_, 3, 8);
    const int cancel_percent = one_of(random_, {0, 0, 1, 3});
    for (int i = 0; i < kStepsMax && (n_arrivals > 0 || engine_.has_work()); ++i) {
        now_ += Time(between(random_, 1, 1000));
        while (n_arrivals > 0 && (chance(random_, 30) || !engine_.has_work())) {
            arrive();
            --n_arrivals;
        }
        if (chance(random_, cancel_percent)) cancel_one();
        for (const Event& event : engine_.step(now_))
            std::visit([&](const auto& e) { take(e); }, event);
        if (!result_.mismatches.empty()) break;
    }
    if (result_.mismatches.empty()) check_end();
    return result_;
}

/// Hours as an office has them, in parts of the whole day.
constexpr double kHourShares[] = {0.5, 0.5, 0.5, 0.5, 0.5, 1, 2, 4,   8, 10,  10,  9,
                                  6,   8,   10,  10,  8,   5, 2, 1.5, 1, 0.5, 0.5, 0.5};

DayResult Schedule::run_day(int n_requests) {
    constexpr Time kHour = std::chrono::hours(1);
    // So slow that the busy hours fill the engine and the night empties it, however many come.
    const int step_ms = 2800000 / n_requests;
    double shares = 0;
    for (const double share : kHourShares)
        shares += share;
    DayResult day;
    const auto next_arrival = [&](Time from) {  // a Poisson process whose rate is the hour's
        const auto hour = static_cast<std::size_t>(from / kHour) % std::size(kHourShares);
        const double a_second = n_requests * kHourShares[hour] / shares / 3600;
        const double seconds = std::exponential_distribution<double>(a_second)(random_);
        return from + std::chrono::duration_cast<Time>(std::chrono::duration<double>(seconds));
    };
    Time arrival = next_arrival(Time{});
    while (result_.mismatches.empty() && (arrival < 24 * kHour || engine_.has_work())) {
        if (!engine_.has_work()) {
            check_end();
            ++day.n_quiet;
            if (arrival > now_) now_ = arrival;
        }
        for (; arrival <= now_ && arrival < 24 * kHour; arrival = next_arrival(arrival)) {
            arrive();
            ++day.n_arrivals;
        }
        day.most_open = std::max(day.most_open, flights_.size());
        if (chance(random_, 1)) cancel_one();
        for (const Event& event : engine_.step(now_))
            std::visit([&](const auto& e) { take(e); }, event);
        now_ += std::chrono::milliseconds(between(random_, 1, 2 * step_ms));
        ++day.n_steps;
    }
    if (result_.mismatches.empty()) check_end();
    day.sum = result_;
    return day;
}

}  // namespace

ScheduleResult run_schedule(const Catalogue& catalogue, std::uint64_t seed) {
    return run_schedule(catalogue, seed, tiny_model(), false);
}

ScheduleResult run_schedule(const Catalogue& catalogue, std::uint64_t seed, TinyModel& model,
                            bool overlap) {
    return Schedule(catalogue, seed, model, overlap).run();
}

DayResult run_day(const Catalogue& catalogue, std::uint64_t seed, int n_requests) {
    return Schedule(catalogue, seed, tiny_model(), false).run_day(n_requests);
}

}  // namespace etalon::engine
