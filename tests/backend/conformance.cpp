// SPDX-License-Identifier: Apache-2.0
// Registration of conformance tests, their inputs, and the comparison of bits.
#include "backend/conformance.h"

#include <array>
#include <bit>
#include <cmath>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

#include "backend/cuda/cuda.h"

namespace etalon::backend::conformance {

namespace {

/// Sanitizers look at one case of so many, chosen by its seed.
#ifdef __SANITIZE_THREAD__
constexpr std::uint64_t kCasesOfOneRun = 20;  // threads meet in the same few loops in all of them
#else
constexpr std::uint64_t kCasesOfOneRun = kSanitized ? 5 : 1;
#endif

/// 1 thread, and 2 or 3 as the seed says. Sanitizers have more to see with several.
std::vector<int> thread_counts(std::uint64_t seed) {
    const int several = seed % 2 == 0 ? 2 : 3;
    return kSanitized ? std::vector{several} : std::vector{1, several};
}

/// What is compared with the reference: an instruction set, or a card with some of its kernels.
struct Target {
    std::string name;
    std::optional<Isa> isa;
    CudaKernels kernels = CudaKernels::best;

    std::unique_ptr<Backend> make(int n_threads) const {
        return isa ? make_cpu_backend(*isa, n_threads) : make_cuda_backend(0, kernels);
    }
};

/// Backends live as long as the process, so that one test meets what others left in their buffers.
Backend& backend_of(const Target& target, int n_threads) {
    static std::map<std::pair<std::string, int>, std::unique_ptr<Backend>> backends;
    auto& backend = backends[{target.name, n_threads}];
    if (!backend) backend = target.make(n_threads);
    return *backend;
}

Backend& reference() {
    static const std::unique_ptr<Backend> backend = make_exact_backend(1);
    return *backend;
}

const std::vector<Target>& available_targets() {
    static const std::vector<Target> targets = [] {
        std::vector<Target> found;
        for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512}) {
            if (isa_is_available(isa)) found.push_back({std::string(isa_name(isa)), isa});
        }
        if (why_no_card().empty()) {
            found.push_back({"cuda", std::nullopt, CudaKernels::untried});
            found.push_back({"cuda_sm80", std::nullopt, CudaKernels::sm80});
        }
        return found;
    }();
    return targets;
}

/// FNV-1a, so that a case keeps its inputs when others come and go.
std::uint64_t seed_of(std::string_view text) {
    std::uint64_t hash = 0xCBF29CE484222325U;
    for (const char letter : text) {
        hash = (hash ^ static_cast<unsigned char>(letter)) * 0x100000001B3U;
    }
    return hash;
}

/// One case, shared by the instruction sets: the reference computes it once.
struct Case {
    std::string name;
    Body body;
    std::uint64_t seed = 0;
    std::optional<Outcome> expected{};
    std::size_t uses = 0;

    Outcome run(Backend& backend) const {
        Random random(seed);
        Outcome outcome;
        body(backend, random, outcome);
        return outcome;
    }
};

class ConformanceTest : public testing::Test {
  public:
    ConformanceTest(const Target& target, std::shared_ptr<Case> the_case)
        : target_(&target), case_(std::move(the_case)) {}

    void TestBody() override {
        if (!case_->expected) case_->expected = case_->run(reference());
        const auto counts = target_->isa ? thread_counts(case_->seed) : std::vector{1};
        for (const int n_threads : counts) {
            Backend& tested = backend_of(*target_, n_threads);
            const std::string found = difference(*case_->expected, case_->run(tested));
            if (found.empty()) continue;
            ADD_FAILURE() << fmt::format("{}, {} threads, {}, seed {:#x}: {}", tested.name(),
                                         n_threads, case_->name, case_->seed, found);
            break;
        }
        if (++case_->uses < available_targets().size()) return;
        case_->expected.reset();
        case_->uses = 0;
    }

  private:
    const Target* target_;
    std::shared_ptr<Case> case_;
};

/// Says in every program whether a card was tested.
class CardTest : public testing::Test {
  public:
    void TestBody() override {
        const std::string why = why_no_card();
        if (!why.empty()) GTEST_SKIP() << "no CUDA card is tested: " << why;
        EXPECT_EQ(make_cuda_backend(0)->name(), "cuda:0");
    }
};

void register_card_test() {
    static const auto* registered =
        testing::RegisterTest("Cuda", "a_card_is_tested", nullptr, nullptr, __FILE__, __LINE__,
                              []() -> CardTest* { return new CardTest; });
    (void)registered;
}

}  // namespace

std::string why_no_card() {
    const CudaState state = cuda_state();
    return state.devices.empty() ? state.problem : state.devices.front().problem;
}

std::uint64_t Random::next() noexcept {
    state_ += 0x9E3779B97F4A7C15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

int Random::below(int n) noexcept {
    return static_cast<int>(next() % static_cast<std::uint64_t>(n));
}

float Random::unit() noexcept {
    return static_cast<float>(static_cast<std::int64_t>(next() >> 40) - (1 << 23)) * 0x1p-23F;
}

std::string_view fill_name(Fill fill) noexcept {
    switch (fill) {
        case Fill::usual:
            return "usual";
        case Fill::bits:
            return "bits";
        case Fill::subnormal:
            return "subnormal";
        case Fill::huge:
            return "huge";
        case Fill::equal:
            return "equal";
        case Fill::same:
            return "same";
        case Fill::zero:
            return "zero";
        case Fill::bad:
            break;
    }
    return "bad";
}

namespace {

constexpr std::uint32_t kSign = 0x80000000U;

/// A float with a random sign and fraction and a biased exponent in [low, high].
float with_exponent(Random& random, int low, int high) {
    const auto exponent = static_cast<std::uint32_t>(low + random.below(high - low + 1));
    const auto word = static_cast<std::uint32_t>(random.next());
    return std::bit_cast<float>((word & 0x807FFFFFU) | exponent << 23);
}

void fill_row(Random& random, Fill fill, std::span<float> row) {
    const float size = std::ldexp(1.0F, random.below(13) - 6);
    const bool small = random.below(2) == 0;
    for (float& value : row) {
        const auto word = static_cast<std::uint32_t>(random.next());
        switch (fill) {
            case Fill::usual:
            case Fill::bad:
                value = random.unit() * size;
                break;
            case Fill::bits:
                value = with_exponent(random, 0, small ? 150 : 254);
                break;
            case Fill::subnormal:
                value = with_exponent(random, 0, 0);
                break;
            case Fill::huge:
                value = with_exponent(random, 191, 254);
                break;
            case Fill::equal:
                value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(size) | (word & kSign));
                break;
            case Fill::same:
                value = small ? size : -size;
                break;
            case Fill::zero:
                value = std::bit_cast<float>(word & kSign);
                break;
        }
    }
}

constexpr std::array kBad = {
    std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
    std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::quiet_NaN()};

}  // namespace

std::vector<float> random_floats(Random& random, int n_rows, int n_cols, Fill fill) {
    const auto n = static_cast<std::size_t>(n_cols);
    std::vector<float> floats(static_cast<std::size_t>(n_rows) * n);
    for (std::size_t row = 0; row < floats.size(); row += n) {
        fill_row(random, fill, std::span(floats).subspan(row, n));
        if (fill != Fill::bad || random.below(2) == 0) continue;
        floats[row + static_cast<std::size_t>(random.below(n_cols))] =
            kBad[static_cast<std::size_t>(random.below(static_cast<int>(kBad.size())))];
    }
    return floats;
}

void Outcome::add(std::string name, std::span<const float> floats) {
    Array array{std::move(name), {}};
    array.words.reserve(floats.size());
    for (const float value : floats) {
        constexpr std::uint32_t kNan = 0x7FC00000U;
        array.words.push_back(std::isnan(value) ? kNan : std::bit_cast<std::uint32_t>(value));
    }
    arrays_.push_back(std::move(array));
}

void Outcome::add(std::string name, std::span<const std::int8_t> codes) {
    Array array{std::move(name), {}};
    for (const std::int8_t code : codes) {
        array.words.push_back(static_cast<std::uint32_t>(std::int32_t{code}));
    }
    arrays_.push_back(std::move(array));
}

void Outcome::add(std::string name, std::span<const std::uint8_t> flags) {
    arrays_.push_back({std::move(name), {flags.begin(), flags.end()}});
}

void Outcome::add(std::string name, std::uint64_t number) {
    arrays_.push_back(
        {std::move(name),
         {static_cast<std::uint32_t>(number >> 32), static_cast<std::uint32_t>(number)}});
}

void Outcome::add(const std::string& name, const HostVector& vector) {
    add(name, std::span(vector.q));
    add(name + " scale", std::span(&vector.scale, 1));
}

void Outcome::add(const std::string& name, const HostActivations& x) {
    add(name + " row codes", std::span(x.row_q));
    add(name + " row scales", std::span(x.row_scales));
    add(name + " block codes", std::span(x.block_q));
    add(name + " block scales", std::span(x.block_scales));
    add(name + " floats", std::span(x.floats));
}

std::string difference(const Outcome& reference, const Outcome& tested) {
    if (reference.arrays().size() != tested.arrays().size()) return "another number of arrays";
    for (std::size_t a = 0; a < reference.arrays().size(); ++a) {
        const Outcome::Array& want = reference.arrays()[a];
        const Outcome::Array& got = tested.arrays()[a];
        if (want.name != got.name || want.words.size() != got.words.size()) {
            return fmt::format("{} of {} words, the reference has {} of {}", got.name,
                               got.words.size(), want.name, want.words.size());
        }
        for (std::size_t i = 0; i < want.words.size(); ++i) {
            if (want.words[i] == got.words[i]) continue;
            return fmt::format("{}[{}] is {:08x}, the reference has {:08x}", want.name, i,
                               got.words[i], want.words[i]);
        }
    }
    return "";
}

namespace {

void register_case(const std::string& subject, const std::string& name, Body body,
                   bool cards_only) {
    const std::string full_name = subject + "/" + name;
    const std::uint64_t seed = seed_of(full_name);
    if (seed % kCasesOfOneRun != 0) return;
    const auto shared = std::make_shared<Case>(Case{full_name, std::move(body), seed});
    register_card_test();
    for (const Target& target : available_targets()) {
        if (cards_only && target.isa) continue;
        const std::string suite = fmt::format("{}/{}", subject, target.name);
        testing::RegisterTest(suite.c_str(), name.c_str(), nullptr, nullptr, __FILE__, __LINE__,
                              [&target, shared]() -> ConformanceTest* {
                                  return new ConformanceTest(target, shared);
                              });
    }
}

}  // namespace

void add_test(const std::string& subject, const std::string& name, Body body) {
    register_case(subject, name, std::move(body), false);
}

void add_card_test(const std::string& subject, const std::string& name, Body body) {
    register_case(subject, name, std::move(body), true);
}

OwnedBatch::OwnedBatch(int n_tokens) {
    add_sequence(0, n_tokens, {});
}

void OwnedBatch::add_sequence(int first, int n, std::vector<std::int32_t> page_table) {
    const auto sequence = static_cast<std::int32_t>(page_tables.size());
    page_tables.push_back(std::move(page_table));
    for (int i = 0; i < n; ++i) {
        tokens.push_back(0);
        positions.push_back(first + i);
        sequence_of.push_back(sequence);
        failed.push_back(0);
    }
}

Batch OwnedBatch::view() {
    return {tokens, positions, sequence_of, page_tables, failed};
}

std::unique_ptr<FloatBuffer> uploaded(Backend& backend, std::span<const float> floats) {
    auto buffer = backend.make_floats(floats.size());
    backend.upload(floats, *buffer);
    return buffer;
}

std::vector<float> downloaded(Backend& backend, const FloatBuffer& buffer) {
    std::vector<float> floats(buffer.size());
    backend.download(buffer, 0, floats);
    return floats;
}

}  // namespace etalon::backend::conformance
