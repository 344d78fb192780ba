// SPDX-License-Identifier: Apache-2.0
// Speed of hashing a model: shards on all threads, beside SHA-256 of one core from its cache.
//   hash_bench [--threads N] [--mib N] [--repetitions N] [--folder F] [--json]
// The file is written first and lies in the page cache: disks are not what is measured. Rows are
// run in turn; the last column compares every digest with one thread's. "a core" is bytes for each
// second of processor time: what is left of it on a machine that others use, too.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

#include "CLI/CLI.hpp"

#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "weights/internal/file_hash.h"
#include "weights/signature.h"

namespace {

namespace fs = std::filesystem;
namespace weights = etalon::weights;

using Digests = std::vector<std::vector<etalon::Sha256Digest>>;

constexpr std::size_t kMiB = std::size_t{1} << 20;

struct Options {
    int threads = etalon::usable_processors();
    int mib = 1024;
    int repetitions = 9;
    std::string folder = fs::temp_directory_path().string();
    bool json = false;
};

/// One way to hash, and how long each run took.
struct Row {
    std::string name;
    int n_threads = 1;
    std::uint64_t bytes = 0;
    std::function<bool()> run;  // true: the digests are right
    std::vector<double> seconds{};
    std::vector<double> core_seconds{};  // processor time of all threads
    bool good = true;
};

/// A file of numbers that no two shards share; removed at the end.
class TemporaryModel {
  public:
    TemporaryModel(const std::string& folder, int mib)
        : path_(fs::path(folder) / fmt::format("etalon-bench-hash-{}", ::getpid())) {
        std::ofstream out(path_, std::ios::binary);
        std::vector<std::uint64_t> block(kMiB / sizeof(std::uint64_t));
        std::uint64_t state = 1;
        for (int i = 0; i < mib && out; ++i) {
            for (std::uint64_t& value : block)
                value = state = state * 6364136223846793005U + 1442695040888963407U;
            out.write(reinterpret_cast<const char*>(block.data()), kMiB);
        }
        out.flush();
        if (!out) {
            throw etalon::Error(etalon::ExitCode::failure,
                                fmt::format("cannot write {}", path_.string()),
                                "--folder F, --mib N");
        }
    }
    ~TemporaryModel() {
        std::error_code ignored;
        fs::remove(path_, ignored);
    }
    TemporaryModel(const TemporaryModel&) = delete;
    TemporaryModel& operator=(const TemporaryModel&) = delete;
    const fs::path& path() const { return path_; }

  private:
    fs::path path_;
};

Digests hash(const weights::ModelTree& tree, int n_threads) {
    return weights::hash_files({tree.files.data()}, {n_threads, weights::kSignedShardBytes, {}});
}

/// Processor time of all threads of this process so far.
double core_seconds() {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

void time(Row& row) {
    const auto start = std::chrono::steady_clock::now();
    const double core_start = core_seconds();
    row.good = row.run() && row.good;
    row.seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    row.core_seconds.push_back(core_seconds() - core_start);
}

double quantile(std::vector<double> values, double share) {
    std::sort(values.begin(), values.end());
    return values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))];
}

double gigabytes_per_second(const Row& row) {
    return static_cast<double>(row.bytes) / quantile(row.seconds, 0.5) / 1e9;
}

double gigabytes_per_core_second(const Row& row) {
    return static_cast<double>(row.bytes) / quantile(row.core_seconds, 0.5) / 1e9;
}

void print(const std::vector<Row>& rows, bool as_json) {
    const double core = gigabytes_per_second(rows.front());
    nlohmann::ordered_json all = nlohmann::ordered_json::array();
    for (const Row& row : rows) {
        const double speed = gigabytes_per_second(row);
        const double share = 100.0 * speed / (core * row.n_threads);
        if (as_json) {
            all.push_back({{"row", row.name},
                           {"threads", row.n_threads},
                           {"bytes", row.bytes},
                           {"seconds", row.seconds},
                           {"gb_per_s", speed},
                           {"gb_per_core_s", gigabytes_per_core_second(row)},
                           {"share_of_cores", share / 100.0},
                           {"bits_ok", row.good}});
            continue;
        }
        std::printf(
            "%s",
            fmt::format("{:<28} {:>3} threads | {:>9.0f} us ({:.0f}..{:.0f}, n={}) | "
                        "{:>6.2f} GB/s | {:>4.0f} % of the cores | {:.2f} GB/s a core | bits {}\n",
                        row.name, row.n_threads, 1e6 * quantile(row.seconds, 0.5),
                        1e6 * quantile(row.seconds, 0.1), 1e6 * quantile(row.seconds, 0.9),
                        row.seconds.size(), speed, share, gigabytes_per_core_second(row),
                        row.good ? "ok" : "WRONG")
                .c_str());
    }
    if (as_json) std::printf("%s\n", all.dump(2).c_str());
}

int bench(const Options& options) {
    const TemporaryModel model(options.folder, options.mib);
    const weights::ModelTree tree = weights::list_model(model.path(), model.path() / "none");
    const Digests expected = hash(tree, 1);
    const std::vector<std::byte> hot(kMiB / 4, std::byte{42});
    const int n_hot = options.mib * 4;
    const auto hash_hot = [&] {
        etalon::Sha256 one;
        for (int i = 0; i < n_hot; ++i)
            one.update(hot);
        return one.finish();
    };
    const etalon::Sha256Digest hot_digest = hash_hot();
    const std::uint64_t bytes = tree.files.front().identity.size;
    std::vector<Row> rows{
        {"sha256 of one core, cached", 1, bytes, [&] { return hash_hot() == hot_digest; }},
        {"shards of a file", 1, bytes, [&] { return hash(tree, 1) == expected; }}};
    if (options.threads > 1) {
        rows.push_back({"shards of a file", options.threads, bytes,
                        [&] { return hash(tree, options.threads) == expected; }});
    }
    for (int i = 0; i < options.repetitions; ++i) {
        for (Row& row : rows)
            time(row);
    }
    print(rows, options.json);
    return std::all_of(rows.begin(), rows.end(), [](const Row& row) { return row.good; }) ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("speed of hashing a model");
    Options options;
    app.add_option("--threads", options.threads, "of the last row; one a processor if absent")
        ->check(CLI::Range(1, etalon::kThreadsMax));
    app.add_option("--mib", options.mib, "size of the file")->check(CLI::Range(1, 1 << 20));
    app.add_option("--repetitions", options.repetitions)->check(CLI::Range(1, 1000));
    app.add_option("--folder", options.folder, "where the file is written, for as long as it runs");
    app.add_flag("--json", options.json, "print JSON");
    CLI11_PARSE(app, argc, argv);
    try {
        return bench(options);
    } catch (const etalon::Error& error) {
        std::fprintf(stderr, "hash_bench: error: %s\n", error.message().c_str());
        return static_cast<int>(error.code());
    }
}
