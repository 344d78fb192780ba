// SPDX-License-Identifier: Apache-2.0
// Replays of answers that an engine gave under random schedules: they match on other instruction
// sets and on the reference, and what was changed is found where a session on the reference, which
// knows nothing of the replay, first differs.
#include "engine/replay.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "engine/recorder.h"
#include "engine/tiny_model.h"
#include "exact/digest.h"
#include "exact/sampler.h"
#include "model/session.h"
#include "weights/model_hash.h"

namespace etalon::engine {
namespace {

constexpr std::size_t kAnswers = 400;
constexpr int kThreads = 3;
#ifdef __SANITIZE_ADDRESS__
constexpr int kChangesMax = 40;  // each takes seven times as long
#else
constexpr int kChangesMax = 100;  // of one kind
#endif

/// All answers of the tests: of as many schedules as it takes.
struct Answers {
    std::vector<Recorded> all;
    Counters counters;
    int n_other_digests = 0;

    Answers() {
        const Catalogue catalogue(11, 150);
        for (std::uint64_t seed = 1; all.size() < kAnswers; ++seed) {
            Recording recording = record_schedule(catalogue, seed);
            std::move(recording.answers.begin(), recording.answers.end(), std::back_inserter(all));
            counters.cached_tokens += recording.counters.cached_tokens;
            counters.accepted_tokens += recording.counters.accepted_tokens;
            counters.preemptions += recording.counters.preemptions;
            n_other_digests += recording.n_other_digests;
        }
    }
};

const Answers& answers() {
    static const Answers made;
    return made;
}

TinyModel& tiny_on(backend::Isa isa) {
    static TinyModel generic(backend::make_cpu_backend(backend::Isa::generic, 1));
    static std::map<backend::Isa, std::unique_ptr<TinyModel>> others;
    if (isa == backend::Isa::generic) return generic;
    std::unique_ptr<TinyModel>& model = others[isa];
    if (!model) model = std::make_unique<TinyModel>(backend::make_cpu_backend(isa, 2));
    return *model;
}

Replayer replayer_on(TinyModel& model) {
    return Replayer(model.transformer, tiny_tokenizer(), tiny_hash(), kThreads);
}

/// Where a session on the reference and exact::sample first differ from the payload.
struct Place {
    Difference difference = Difference::none;
    int position = 0;
    bool operator==(const Place&) const = default;
};
void PrintTo(const Place& place, std::ostream* out) {
    *out << "difference " << static_cast<int>(place.difference) << " at " << place.position;
}

Place place_of(const Verdict& verdict) {
    return {verdict.difference, verdict.match() ? 0 : verdict.position};
}

/// Tokens and checksums alone: for answers that neither failed nor end otherwise.
Place first_difference(const Payload& payload, const TokenMask* mask,
                       model::Transformer& transformer) {
    model::Session session(transformer, kTinyContext);
    Place place;
    session.on_logits = [&](int position, std::span<const float> logits) {
        const int i = position + 1 - static_cast<int>(payload.prompt.size());
        if (i < 0 || place.difference != Difference::none) return;
        const auto nth = static_cast<std::size_t>(i);
        std::vector<float> copy(logits.begin(), logits.end());
        const auto allowed = std::make_unique<bool[]>(logits.size());
        const std::span<bool> flags(allowed.get(), logits.size());
        std::fill(flags.begin(), flags.end(), true);
        const auto before = std::span(payload.answer).first(nth);
        if (mask != nullptr) mask->restrict(before, flags);
        for (const std::int32_t id : payload.stop_tokens)
            flags[static_cast<std::size_t>(id)] &= i >= payload.min_tokens;
        if (i < payload.min_tokens && !payload.ignore_eos) flags[kTinyEnd] = false;
        const auto token = exact::sample(payload.sampling, payload.prompt, before, flags,
                                         static_cast<std::uint64_t>(position) + 1,
                                         static_cast<std::uint32_t>(payload.choice), copy);
        const bool token_differs = token != payload.answer[nth];
        const bool sum_differs = exact::logits_checksum(logits) != payload.checksums[nth];
        if (token_differs) place = {Difference::token, i};
        if (sum_differs) place = {Difference::checksum, i};
        if (token_differs && sum_differs) place = {Difference::token_and_checksum, i};
    };
    std::vector<std::int32_t> tokens = payload.prompt;
    tokens.insert(tokens.end(), payload.answer.begin(), payload.answer.end() - 1);
    session.append(tokens, 0, model::LogitsWanted::all);
    return place;
}

/// Answers of some tokens that ended well.
std::vector<Recorded> whole_answers(std::size_t n_tokens_min) {
    std::vector<Recorded> whole;
    for (const Recorded& recorded : answers().all) {
        const Payload& payload = recorded.payload;
        const bool ended =
            payload.finish == FinishReason::stop || payload.finish == FinishReason::length;
        if (ended && payload.answer.size() >= n_tokens_min) whole.push_back(recorded);
    }
    return whole;
}

TEST(Replay, the_answers_have_met_everything) {
    const Answers& made = answers();
    EXPECT_GE(made.all.size(), kAnswers);
    EXPECT_GT(made.counters.cached_tokens, 0U);
    EXPECT_GT(made.counters.accepted_tokens, 0U);
    EXPECT_GT(made.counters.preemptions, 0U);
    std::map<std::string, int> met;
    for (const Recorded& recorded : made.all) {
        const Payload& p = recorded.payload;
        const exact::SamplingParameters& s = p.sampling;
        met[std::string(finish_name(p.finish))] += 1;
        met["temperature"] += s.temperature > 0.0F;
        met["top_k"] += s.top_k > 1;
        met["top_p"] += s.top_p < 1.0F;
        met["min_p"] += s.min_p > 0.0F;
        met["repetition_penalty"] += s.repetition_penalty != 1.0F;
        met["presence_penalty"] += s.presence_penalty != 0.0F;
        met["frequency_penalty"] += s.frequency_penalty != 0.0F;
        met["logit_bias"] += !s.logit_bias.empty();
        met["choice"] += p.choice > 0;
        met["min_tokens"] += p.min_tokens > 0;
        met["ignore_eos"] += p.ignore_eos;
        met["stop_tokens"] += !p.stop_tokens.empty();
        met["stop_strings"] += !p.stop_strings.empty();
        met["mask"] += p.mask.has_value();
        const bool by_token =
            !p.answer.empty() &&
            (p.answer.back() == kTinyEnd ||
             std::count(p.stop_tokens.begin(), p.stop_tokens.end(), p.answer.back()) > 0);
        met["ends at a stop string"] += p.finish == FinishReason::stop && !by_token;
        met["ends at a token"] += p.finish == FinishReason::stop && by_token;
    }
    EXPECT_EQ(met.size(), 20U);
    for (const auto& [what, count] : met)
        EXPECT_GT(count, 0) << what;
}

TEST(Replay, matches_on_every_other_instruction_set) {
    const backend::Isa best = backend::choose_isa(nullptr);
    for (const backend::Isa isa :
         {backend::Isa::generic, backend::Isa::avx2, backend::Isa::avx512}) {
        if (!backend::isa_is_available(isa)) continue;
        if (isa == best && isa != backend::Isa::generic) continue;
        Replayer replayer = replayer_on(tiny_on(isa));
        std::size_t n_matches = 0;
        for (const Recorded& recorded : answers().all) {
            // Through the bytes, as an auditor has it.
            const Payload payload = read_payload(write_payload(recorded.payload));
            const Verdict verdict = replayer.replay(payload, recorded.mask.get());
            EXPECT_TRUE(verdict.match()) << write_payload(payload) << '\n' << verdict.text();
            n_matches += verdict.match();
            EXPECT_EQ(verdict.n_checked, static_cast<int>(payload.answer.size()));
        }
        EXPECT_EQ(n_matches, answers().all.size());
        fmt::print("{}: {}/{} match\n", backend::isa_name(isa), n_matches, answers().all.size());
    }
}

TEST(Replay, ten_match_on_the_reference_alone) {
    Replayer replayer = replayer_on(tiny_reference());
    const auto whole = whole_answers(5);
    ASSERT_GE(whole.size(), 10U);
    for (std::size_t i = 0; i < 10; ++i) {
        const Recorded& recorded = whole[i * whole.size() / 10];
        EXPECT_EQ(replayer.replay(recorded.payload, recorded.mask.get()).text(), "match");
    }
}

TEST(Replay, the_records_commit_to_the_same_digest) {  // DIG-3
    EXPECT_EQ(answers().n_other_digests, 0);
}

TEST(Replay, does_not_depend_on_chunks_threads_or_what_was_replayed_before) {
    for (const int batch : {1, 7, 64}) {
        model::Transformer transformer(tiny_file(), *tiny_model().device, batch);
        Replayer kept(transformer, tiny_tokenizer(), tiny_hash(), batch % 4 + 1);
        for (std::size_t i = 0; i < answers().all.size(); i += 5) {
            Recorded recorded = answers().all[i];
            Payload& payload = recorded.payload;
            EXPECT_EQ(kept.replay(payload, recorded.mask.get()).text(), "match");
            if (payload.answer.size() < 2) continue;
            payload.checksums[payload.checksums.size() / 2] ^= 1;
            Replayer fresh(transformer, tiny_tokenizer(), tiny_hash(), 1);
            const Verdict verdict = kept.replay(payload, recorded.mask.get());
            EXPECT_EQ(verdict.text(), fresh.replay(payload, recorded.mask.get()).text());
            EXPECT_EQ(verdict.position, static_cast<int>(payload.checksums.size() / 2));
        }
    }
}

TEST(Replay, finds_each_changed_checksum_bit) {
    Replayer replayer = replayer_on(tiny_model());
    std::mt19937_64 random(3);
    for (const Recorded& recorded : answers().all) {
        if (recorded.payload.answer.empty()) continue;
        Payload payload = recorded.payload;
        const std::size_t i = random() % payload.answer.size();
        payload.checksums[i] ^= std::uint64_t{1} << (random() % 64);
        const Verdict verdict = replayer.replay(payload, recorded.mask.get());
        EXPECT_EQ(place_of(verdict), (Place{Difference::checksum, static_cast<int>(i)}));
        EXPECT_EQ(verdict.checksum, payload.checksums[i]);
        EXPECT_EQ(verdict.derived.checksum, recorded.payload.checksums[i]);
    }
}

TEST(Replay, finds_each_changed_token_of_the_answer) {
    Replayer replayer = replayer_on(tiny_model());
    std::mt19937_64 random(4);
    for (const Recorded& recorded : answers().all) {
        if (recorded.payload.answer.empty()) continue;
        Payload payload = recorded.payload;
        const std::size_t i = random() % payload.answer.size();
        std::int32_t& token = payload.answer[i];
        token = static_cast<std::int32_t>((static_cast<std::uint64_t>(token) + 1 + random() % 200) %
                                          kTinyPoison);
        const Verdict verdict = replayer.replay(payload, recorded.mask.get());
        if (token == recorded.payload.answer[i]) continue;
        EXPECT_EQ(place_of(verdict), (Place{Difference::token, static_cast<int>(i)}));
        EXPECT_EQ(verdict.token, token);
        EXPECT_EQ(verdict.derived.token, recorded.payload.answer[i]);
    }
}

/// Replays `change`d payloads of whole answers and compares with the session on the reference.
/// Returns how many differ, of how many.
std::pair<int, int> check_changes(const std::function<bool(Payload&, std::mt19937_64&)>& change) {
    Replayer replayer = replayer_on(tiny_model());
    std::mt19937_64 random(5);
    std::pair<int, int> found{0, 0};
    for (const Recorded& recorded : whole_answers(4)) {
        Payload payload = recorded.payload;
        if (!change(payload, random)) continue;
        if (found.second == kChangesMax) break;
        const Verdict verdict = replayer.replay(payload, recorded.mask.get());
        const Place wanted =
            first_difference(payload, recorded.mask.get(), tiny_reference().transformer);
        ++found.second;
        found.first += !verdict.match();
        // An end that the change moved is found behind the tokens; the next test is about ends.
        if (wanted.difference == Difference::none && verdict.difference == Difference::finish) {
            continue;
        }
        EXPECT_EQ(place_of(verdict), wanted) << write_payload(payload);
    }
    return found;
}

TEST(Replay, locates_a_changed_token_of_the_prompt) {
    const auto [n_found, n_changed] = check_changes([](Payload& payload, std::mt19937_64& random) {
        std::int32_t& token = payload.prompt[random() % payload.prompt.size()];
        token = token % 200 + 1;
        return true;
    });
    EXPECT_GT(n_changed, 30);
    EXPECT_EQ(n_found, n_changed);
}

TEST(Replay, locates_a_changed_seed) {
    const auto [n_found, n_changed] = check_changes([](Payload& payload, std::mt19937_64& random) {
        payload.sampling.seed ^= std::uint64_t{1} << (random() % 64);
        const exact::SamplingParameters& s = payload.sampling;
        return s.temperature >= 1.0F && s.top_k == 0 && s.top_p == 1.0F && s.min_p == 0.0F;
    });
    EXPECT_GE(n_changed, 10);
    EXPECT_EQ(n_found, n_changed);
}

TEST(Replay, locates_a_changed_parameter) {
    using Change = std::function<bool(Payload&, std::mt19937_64&)>;
    const std::pair<const char*, Change> changes[] = {
        {"temperature", [](Payload& p, auto&) { return (p.sampling.temperature += 1.5F) > 0.0F; }},
        {"top_k", [](Payload& p, auto&) { return (p.sampling.top_k = 1) > 0; }},
        {"top_p", [](Payload& p, auto&) { return (p.sampling.top_p = 0.05F) > 0.0F; }},
        {"min_p", [](Payload& p, auto&) { return (p.sampling.min_p = 0.9F) > 0.0F; }},
        {"repetition_penalty",
         [](Payload& p, auto&) { return (p.sampling.repetition_penalty *= 3.0F) > 1e-3F; }},
        {"presence_penalty",
         [](Payload& p, auto&) { return (p.sampling.presence_penalty += 9.0F) > 0.0F; }},
        {"frequency_penalty",
         [](Payload& p, auto&) { return (p.sampling.frequency_penalty += 9.0F) > 0.0F; }},
        {"logit_bias",
         [](Payload& p, auto&) {
             p.sampling.logit_bias = {{p.answer[1], -50.0F}};
             return true;
         }},
        {"choice", [](Payload& p, auto&) { return (p.n = ++p.choice + 1) > 0; }},
        {"min_tokens",
         [](Payload& p, auto&) { return (p.min_tokens = p.max_tokens) > 0 && !p.ignore_eos; }}};
    for (const auto& [name, change] : changes) {
        const auto [n_found, n_changed] = check_changes(change);
        EXPECT_GT(n_changed, 20) << name;
        EXPECT_GT(n_found, 0) << name;
        fmt::print("{}: {} of {} changes are seen in the answer\n", name, n_found, n_changed);
    }
}

TEST(Replay, says_where_the_end_is_another) {
    Replayer replayer = replayer_on(tiny_model());
    int n_longer = 0;
    for (const Recorded& recorded : whole_answers(3)) {
        const auto verdict_of = [&](const std::function<void(Payload&)>& change) {
            Payload payload = recorded.payload;
            change(payload);
            return replayer.replay(payload, recorded.mask.get());
        };
        const int last = static_cast<int>(recorded.payload.answer.size()) - 1;
        for (const FinishReason reason : {FinishReason::stop, FinishReason::length,
                                          FinishReason::cancelled, FinishReason::error}) {
            const Verdict verdict = verdict_of([&](Payload& p) { p.finish = reason; });
            EXPECT_EQ(verdict.match(), reason == recorded.payload.finish);
            if (!verdict.match()) {
                EXPECT_EQ(place_of(verdict), (Place{Difference::finish, last}));
                EXPECT_EQ(verdict.derived_finish, recorded.payload.finish);
            }
        }
        const Verdict shorter = verdict_of([](Payload& p) {
            p.answer.pop_back();
            p.checksums.pop_back();
        });
        EXPECT_EQ(place_of(shorter), (Place{Difference::finish, last - 1}));
        EXPECT_EQ(shorter.derived_finish, std::nullopt);
        EXPECT_EQ(verdict_of([](Payload& p) {
                      p.answer.pop_back();
                      p.checksums.pop_back();
                      p.finish = FinishReason::cancelled;
                  }).text(),
                  "match");
        const Verdict early =
            verdict_of([](Payload& p) { p.stop_tokens.push_back(p.answer.front()); });
        if (recorded.payload.min_tokens == 0) {
            EXPECT_EQ(place_of(early), (Place{Difference::finish, 0}));
            EXPECT_EQ(early.derived_finish, FinishReason::stop);
        }
        if (recorded.payload.finish != FinishReason::length) continue;
        const Verdict longer = verdict_of([](Payload& p) { ++p.max_tokens; });
        EXPECT_EQ(place_of(longer), (Place{Difference::finish, last}));
        ++n_longer;
    }
    EXPECT_GT(n_longer, 0);
}

/// A copy of the tiny model with one bit of a tensor's bytes flipped.
weights::ModelFile flipped(const weights::Tensor& tensor, std::size_t byte, int bit) {
    const auto whole = tiny_file().files().front().bytes();
    std::string bytes(reinterpret_cast<const char*>(whole.data()), whole.size());
    const auto place = static_cast<std::size_t>(tensor.data.data() - whole.data()) + byte;
    bytes[place] = static_cast<char>(static_cast<unsigned char>(bytes[place]) ^ (1U << bit));
    const auto path = std::filesystem::temp_directory_path() /
                      fmt::format("etalon-flipped-{}.safetensors", ::getpid());
    std::ofstream(path, std::ios::binary) << bytes;
    weights::ModelFile file = weights::ModelFile::open(path);
    std::filesystem::remove(path);  // stays mapped
    return file;
}

TEST(Replay, locates_a_changed_bit_of_a_weight) {
    std::mt19937_64 random(6);
    const auto device = backend::make_cpu_backend(backend::choose_isa(nullptr), 1);
    const auto reference = backend::make_exact_backend(1);
    const auto whole = whole_answers(6);
    int n_found = 0;
    int n_flipped = 0;
    for (const weights::Tensor& tensor : tiny_file().tensors()) {
        const bool is_matrix = tensor.n_rows > 1;
        if (!is_matrix) continue;
        // -128 is no int8 of the format, and the highest bit of a value may make it.
        const weights::ModelFile file =
            flipped(tensor, random() % tensor.data.size(), static_cast<int>(random() % 7));
        const Recorded& recorded = whole[random() % whole.size()];
        model::Transformer transformer(file, *device, 256);
        Replayer replayer(transformer, tiny_tokenizer(), weights::model_hash(file), 2);
        Payload payload = recorded.payload;
        EXPECT_THROW((void)replayer.replay(payload, recorded.mask.get()), Error);
        payload.model_sha256 = weights::model_hash(file);
        const Verdict verdict = replayer.replay(payload, recorded.mask.get());
        model::Transformer again(file, *reference, 256);
        EXPECT_EQ(place_of(verdict), first_difference(payload, recorded.mask.get(), again))
            << tensor.name;
        ++n_flipped;
        n_found += !verdict.match();
    }
    fmt::print("{} of {} flipped bits are seen in an answer\n", n_found, n_flipped);
    EXPECT_GT(n_found, n_flipped / 2);
}

TEST(Replay, refuses_by_name_what_is_not_of_this_model) {
    Replayer replayer = replayer_on(tiny_model());
    const Recorded recorded = whole_answers(3).front();
    const auto message_of = [&](const std::function<void(Payload&)>& change) {
        Payload payload = recorded.payload;
        payload.mask.reset();
        change(payload);
        try {
            (void)replayer.replay(payload);
        } catch (const Error& error) {
            return fmt::format("{}: {}", static_cast<int>(error.code()), error.message());
        }
        return std::string("replayed");
    };
    EXPECT_NE(message_of([](Payload& p) {
                  p.model_sha256[0] ^= 1;
              }).find("4: the answer is of model tiny with SHA-256 "),
              std::string::npos);
    EXPECT_EQ(message_of([](Payload& p) { p.arithmetic = 1; }),
              "4: the answer is of arithmetic 1, this program computes 2");
    EXPECT_EQ(message_of([](Payload& p) {
                  p.mask = MaskSource{"json", "{}"};
              }),
              "5: the mask of the payload is missing");
    EXPECT_EQ(message_of([](Payload& p) { p.prompt[0] = kTinyVocab; }),
              "5: payload: prompt: token 288 is outside the vocabulary of 288");
    EXPECT_EQ(message_of([](Payload& p) { p.answer[0] = kTinyVocab; }),
              "5: payload: token 288 of the answer is outside the vocabulary of 288");
    EXPECT_EQ(message_of([](Payload& p) { p.sampling.temperature = 101.0F; }),
              "5: payload: temperature is 101, accepted are 0 to 100");
    EXPECT_NE(message_of([](Payload& p) {
                  p.max_tokens = kTinyContext + 1;
              }).find("5: payload: a prompt of "),
              std::string::npos);
}

}  // namespace
}  // namespace etalon::engine
