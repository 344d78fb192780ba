// SPDX-License-Identifier: Apache-2.0
// How fast a log takes records and is verified, on one thread and a real folder:
//   cmake --preset release -DETALON_BENCH=ON && cmake --build build/release --target tlog_bench
//   build/release/bench/tlog_bench [FOLDER]
// 200,000 records of 700 bytes, committed in groups of 1 to 1,000, published once a second of
// records at the goal; then the whole log is verified. The limit beside it is the time of the
// hashes alone.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>

#include "tlog/log_writer.h"
#include "tlog/verify.h"

namespace {

namespace tlog = etalon::tlog;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRecords = 200000;
constexpr std::size_t kRecordBytes = 700;
constexpr std::uint64_t kGoalPerSecond = 20000;

double seconds_since(Clock::time_point start) {
    return std::chrono::duration<double>(Clock::now() - start).count();
}

/// A log of its own for each size of group.
void bench_group(const std::filesystem::path& folder, std::uint64_t n_group) {
    std::filesystem::remove_all(folder);
    const tlog::SigningKey key = tlog::SigningKey::generate("bench.example");
    const std::uint64_t n_records = n_group == 1 ? kRecords / 100 : kRecords;
    std::string record(kRecordBytes, 'r');
    tlog::FolderDisk disk(folder);
    tlog::LogWriter log(disk, key);
    Clock::time_point start = Clock::now();
    for (std::uint64_t i = 0; i < n_records; ++i) {
        record.replace(0, 8, std::to_string(10000000 + i));
        log.add(record);
        if ((i + 1) % n_group == 0) log.commit();
        if ((i + 1) % kGoalPerSecond == 0) log.publish();
    }
    log.publish();
    const double write_seconds = seconds_since(start);

    start = Clock::now();
    const auto policy = tlog::parse_policy("log " + key.verifier().text() + "\nquorum none\n");
    tlog::verify_log(log.files(), policy);
    const double verify_seconds = seconds_since(start);

    start = Clock::now();
    tlog::Frontier frontier;
    for (std::uint64_t i = 0; i < n_records; ++i)
        frontier.append(tlog::leaf_hash(record));
    const double hash_seconds = seconds_since(start);

    const auto n = static_cast<double>(n_records);
    std::printf(
        "groups of %4llu  written %9.0f records/s  verified %9.0f records/s  (hashes alone "
        "%9.0f)\n",
        static_cast<unsigned long long>(n_group), n / write_seconds, n / verify_seconds,
        n / hash_seconds);
    std::filesystem::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
    const std::filesystem::path folder = argc > 1 ? argv[1] : "tlog_bench.log";
    for (const std::uint64_t n_group : {1U, 10U, 100U, 1000U})
        bench_group(folder, n_group);
    return 0;
}
