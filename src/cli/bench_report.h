// SPDX-License-Identifier: Apache-2.0
// What `etalon bench` was asked and what it found, and how that is printed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/all_logits.h"
#include "cli/load.h"
#include "cli/many_requests.h"
#include "cli/operations_bench.h"

namespace etalon::cli {

struct BenchOptions {
    std::string model;
    std::string synthetic;
    std::string format = "e8";
    std::string keep;
    int layers = 0;
    int prompt = 512;
    int generate = 128;
    int streams = 0;
    int context = 0;
    int repetitions = 5;
    DeviceOptions device;
    bool all_logits = false;
    int requests = 0;
    bool operations = false;
    bool json = false;
};

struct Rates {
    double median = 0.0;  ///< tokens a second
    double least = 0.0;
    double most = 0.0;
};

/// What a token costs, from the shapes alone.
struct TokenCost {
    double bytes_read = 0.0;         ///< a generated token: weights, and keys and values so far
    double prompt_operations = 0.0;  ///< a prompt token: multiplications and additions
};

struct Report {
    std::string model;
    std::string backend;
    std::string card;    ///< its name; empty: the processor
    std::string memory;  ///< what is planned
    int threads = 0;
    Rates prompt;
    Rates generate;
    TokenCost cost;
    double read_speed = 0.0;  ///< bytes a second
    double load_speed = 0.0;  ///< bytes of the weights a second, to a card; 0: used in place
    double file_speed = 0.0;  ///< what the same threads read of the file; 0: there is none
    std::optional<double> integer_peak;  ///< operations a second
};

/// Of runs that took so many seconds for as many tokens each.
Rates rates_of(std::vector<double> seconds, int n_tokens);

/// All of them as people read them, or as JSON.
void print_report(const BenchOptions& options, const Report& report);
void print_all_logits(const BenchOptions& options, const std::string& model,
                      const std::string& backend, const std::vector<AllLogitsRow>& rows,
                      int threads);
void print_requests(const BenchOptions& options, const std::string& model,
                    const std::string& backend, const ManyRequestsTime& time);
void print_operations(const BenchOptions& options, const std::vector<OperationsTable>& tables,
                      const Report& report);

}  // namespace etalon::cli
