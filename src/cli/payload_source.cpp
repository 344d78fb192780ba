// SPDX-License-Identifier: Apache-2.0
#include "cli/payload_source.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fmt/format.h>
#include <memory>
#include <random>
#include <system_error>

#include "cli/ledger_place.h"
#include "cli/payload_file.h"

#include "base/error.h"
#include "base/file.h"
#include "exact/sampler.h"
#include "ledger/limits.h"
#include "ledger/own_payloads.h"
#include "ledger/receipt.h"
#include "tlog/checkpoint.h"

namespace etalon::cli {

namespace {

namespace fs = std::filesystem;

constexpr double kPercentMax = 100.0;
constexpr std::string_view kReceiptMark = "\"etalon.receipt\"";

/// "1%" as 1.
double percent_of(const std::string& text) {
    double percent = 0.0;
    const char* const end = text.data() + text.size();
    const auto [next, error] = std::from_chars(text.data(), end, percent);
    if (error == std::errc() && next + 1 == end && *next == '%' && percent > 0.0 &&
        percent <= kPercentMax) {
        return percent;
    }
    throw Error(ExitCode::usage, fmt::format("--sample: {} is no share", printable(text)),
                "as in 1% or 0.5%, at most 100%");
}

/// One that is not read yet: of a file, or of an intent of the ledger.
struct Candidate {
    std::string file;
    std::uint64_t intent = 0;
};

/// So many percent of them, at least one, each set of that size equally likely.
std::vector<Candidate> sample_of(std::vector<Candidate> all, double percent, std::uint64_t seed) {
    const auto wanted = std::ceil(static_cast<double>(all.size()) * percent / kPercentMax);
    const std::size_t n =
        std::min(std::max<std::size_t>(static_cast<std::size_t>(wanted), 1), all.size());
    __extension__ using u128 = unsigned __int128;
    for (std::size_t i = 0; i < n; ++i) {
        const u128 bits = exact::draw_bits(seed, i, 0);
        std::swap(all[i], all[i + static_cast<std::size_t>((bits * (all.size() - i)) >> 64)]);
    }
    all.resize(n);
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
        return std::tie(a.file, a.intent) < std::tie(b.file, b.intent);
    });
    return all;
}

/// Payloads begin otherwise, and can be long: only the start of a file is looked at.
bool is_receipt(const std::string& text) {
    constexpr std::size_t kLooked = 4096;
    return text.rfind("{\"answer\"", 0) != 0 &&
           text.substr(0, kLooked).find(kReceiptMark) != std::string::npos;
}

class Chooser {
  public:
    explicit Chooser(const PayloadChoice& choice) : choice_(choice) {}

    std::vector<PayloadSource> run() {
        for (const std::string& name : choice_.names)
            take(name);
        if (choice_.names.empty()) take_ledger();
        if (!choice_.sample.empty()) draw();
        return sources();
    }

  private:
    void take(const std::string& name) {
        std::uint64_t intent = 0;
        std::error_code error;
        if (tlog::parse_decimal(name, intent)) {
            all_.push_back({"", intent});
        } else if (fs::is_directory(name, error)) {
            take_folder(name);
        } else if (fs::is_regular_file(name, error) &&
                   fs::file_size(name, error) <= ledger::kReceiptBytesMax &&
                   is_receipt(read_file(name, ledger::kReceiptBytesMax))) {
            take_receipt(name);
        } else {
            all_.push_back({name, 0});
        }
    }

    void take_folder(const std::string& folder) {
        const std::size_t n_before = all_.size();
        std::vector<std::string> files;
        for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
            if (entry.path().extension() == ".json") files.push_back(entry.path().string());
        }
        std::sort(files.begin(), files.end());
        for (const std::string& file : files)
            all_.push_back({file, 0});
        if (all_.size() > n_before) return;
        throw Error(ExitCode::not_found,
                    fmt::format("{} holds no payload (*.json)", printable(folder)));
    }

    /// Proved with the log's own key: an index means nothing in another log.
    void take_receipt(const std::string& file) {
        const auto verified =
            ledger::verify_receipt(read_file(file, ledger::kReceiptBytesMax),
                                   ledger::own_policy(ledger_folder(choice_.auditor.ledger)), {});
        for (const auto& part : verified.parts)
            all_.push_back({"", part.intent.seq});
    }

    void take_ledger() {
        open_ledger(0);
        for (const std::uint64_t intent : ledger_->intents())
            all_.push_back({"", intent});
        if (!all_.empty()) return;
        throw Error(ExitCode::not_found, "the ledger has no answer that can be opened");
    }

    void draw() {
        const double percent = percent_of(choice_.sample);
        std::random_device device;
        const std::uint64_t seed =
            choice_.has_seed ? choice_.seed : (std::uint64_t{device()} << 32) | device();
        const std::size_t n_all = all_.size();
        all_ = sample_of(std::move(all_), percent, seed);
        std::fprintf(stderr, "etalon: %zu of %zu payloads; --seed %llu takes the same ones\n",
                     all_.size(), n_all, static_cast<unsigned long long>(seed));
    }

    void open_ledger(std::uint64_t first) {
        ledger_ =
            std::make_shared<ledger::OwnPayloads>(ledger_folder(choice_.auditor.ledger), first);
    }

    std::vector<PayloadSource> sources() {
        std::vector<std::uint64_t> intents;
        for (const Candidate& one : all_)
            if (one.file.empty()) intents.push_back(one.intent);
        std::shared_ptr<const ledger::AuditorKey> key;
        if (!intents.empty()) {
            if (!ledger_) open_ledger(*std::min_element(intents.begin(), intents.end()));
            for (const std::uint64_t intent : intents) {
                if (ledger_->n_answers(intent) > 0) continue;
                throw Error(ExitCode::not_found,
                            fmt::format("record {} is no answered intent", intent),
                            "etalon ledger tail --kind intent");
            }
            key = std::make_shared<ledger::AuditorKey>(read_auditor_key(choice_.auditor));
            record_reading(choice_.auditor, intents, "replay");
        }
        std::vector<PayloadSource> sources;
        for (const Candidate& one : all_) {
            if (one.file.empty()) {
                add_answers(one.intent, key, sources);
            } else {
                const auto read = [file = one.file] { return read_payload_file(file); };
                sources.push_back({one.file, std::nullopt, read});
            }
        }
        return sources;
    }

    void add_answers(std::uint64_t intent, const std::shared_ptr<const ledger::AuditorKey>& key,
                     std::vector<PayloadSource>& sources) const {
        const std::uint64_t n = ledger_->n_answers(intent);
        for (std::uint64_t i = 0; i < n; ++i) {
            const std::string label = n == 1 ? fmt::format("record {}", intent)
                                             : fmt::format("record {} answer {}", intent, i);
            const auto read = [ledger = ledger_, key, intent, i, label] {
                const auto payloads = ledger::payloads_in(ledger->open(intent, *key));
                return read_payload_bytes(payloads.at(i), label);
            };
            sources.push_back({label, RecordedAnswer{intent, i}, read});
        }
    }

    const PayloadChoice& choice_;
    std::vector<Candidate> all_;
    std::shared_ptr<const ledger::OwnPayloads> ledger_;
};

}  // namespace

std::vector<PayloadSource> choose_payloads(const PayloadChoice& choice) {
    return Chooser(choice).run();
}

}  // namespace etalon::cli
