// SPDX-License-Identifier: Apache-2.0
// Reports of `etalon bench`.
#include "cli/bench_report.h"

#include <algorithm>
#include <fmt/format.h>
#include <iostream>
#include <nlohmann/json.hpp>

#include "cli/output.h"

namespace etalon::cli {

namespace {

void print_machine(const Report& report) {
    constexpr double kGiga = 1e9;
    constexpr double kTera = 1e12;
    print_field(
        "machine",
        fmt::format("reads {:.1f} GB/s, integer peak {}", report.read_speed / kGiga,
                    report.integer_peak ? fmt::format("{:.3f} TOPS", *report.integer_peak / kTera)
                                        : "unknown"));
}

void print_plain(const BenchOptions& options, const Report& report) {
    constexpr double kGiga = 1e9;
    constexpr double kTera = 1e12;
    constexpr double kPercent = 100.0;
    print_field("model", report.model);
    print_field("path", report.card.empty()
                            ? fmt::format("{}, {} threads", report.backend, report.threads)
                            : fmt::format("{}, {}", report.backend, report.card));
    const double operations = report.prompt.median * report.cost.prompt_operations;
    const double bytes = report.generate.median * report.cost.bytes_read;
    print_field("memory", report.memory);
    if (report.load_speed > 0.0) {
        const std::string of_file =
            report.file_speed > 0.0
                ? fmt::format(", {:.0f} % of {:.1f} GB/s that the file is read with",
                              kPercent * report.load_speed / report.file_speed,
                              report.file_speed / kGiga)
                : " from memory";
        print_field("loading", fmt::format("{:.1f} GB/s with the first token{}",
                                           report.load_speed / kGiga, of_file));
    }
    if (options.prompt > 0) {
        print_field("prompt", fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} tokens",
                                          report.prompt.median, report.prompt.least,
                                          report.prompt.most, options.repetitions, options.prompt));
        print_field(
            "  integer rate",
            fmt::format("{:.3f} TOPS, {} of the peak", operations / kTera,
                        report.integer_peak
                            ? fmt::format("{:.1f} %", kPercent * operations / *report.integer_peak)
                            : "unknown"));
    }
    if (options.generate > 0) {
        print_field(
            "generation",
            fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} streams of {} tokens "
                        "behind {}",
                        report.generate.median, report.generate.least, report.generate.most,
                        options.repetitions, options.streams, options.generate, options.context));
        print_field("  bytes a token",
                    count_text(static_cast<std::uint64_t>(report.cost.bytes_read)));
        print_field("  read rate",
                    fmt::format("{:.1f} GB/s, {:.1f} % of the read speed", bytes / kGiga,
                                kPercent * bytes / report.read_speed));
    }
    print_machine(report);
}

void print_report_json(const BenchOptions& options, const Report& report) {
    using nlohmann::ordered_json;
    const auto rates = [&](const Rates& r, int n_tokens) -> ordered_json {
        if (n_tokens == 0) return nullptr;
        return {{"tokens", n_tokens},
                {"tokens_per_second", r.median},
                {"least", r.least},
                {"most", r.most},
                {"repetitions", options.repetitions}};
    };
    const double operations = report.prompt.median * report.cost.prompt_operations;
    const double bytes = report.generate.median * report.cost.bytes_read;
    ordered_json peak = nullptr;
    ordered_json peak_share = nullptr;
    if (report.integer_peak) peak = *report.integer_peak;
    if (report.integer_peak && options.prompt > 0) peak_share = operations / *report.integer_peak;
    print_json({{"model", report.model},
                {"backend", report.backend},
                {"card", report.card.empty() ? ordered_json(nullptr) : ordered_json(report.card)},
                {"threads", report.threads},
                {"prompt", rates(report.prompt, options.prompt)},
                {"generation", rates(report.generate, options.generate)},
                {"streams", options.streams},
                {"context", options.context},
                {"bytes_per_token", report.cost.bytes_read},
                {"operations_per_prompt_token", report.cost.prompt_operations},
                {"load_bytes_per_second", report.load_speed},
                {"file_bytes_per_second", report.file_speed},
                {"read_bytes_per_second", report.read_speed},
                {"read_share", options.generate > 0 ? ordered_json(bytes / report.read_speed)
                                                    : ordered_json(nullptr)},
                {"integer_operations_per_second", peak},
                {"integer_share", peak_share}});
}

/// The median of what a replay reaches of the pass that ran just before it: a machine that is slow
/// for a while is slow for both.
double ratio_of(const AllLogitsRow& row) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < row.pass_seconds.size(); ++i)
        ratios.push_back(row.pass_seconds[i] / row.replay_seconds[i]);
    std::sort(ratios.begin(), ratios.end());
    return ratios[ratios.size() / 2];
}

/// What a value is of a limit.
std::string share_text(double value, double limit) {
    constexpr double kPercent = 100.0;
    return value > 0.0 && limit > 0.0 ? fmt::format("{:.0f} %", kPercent * value / limit) : "-";
}

void print_table(const OperationsTable& table, const Report& report) {
    constexpr double kMicro = 1e6;
    constexpr double kMega = 1e6;
    constexpr double kGiga = 1e9;
    std::cout << fmt::format("\na layer, {}\n{:<14} {:>9} {:>10} {:>8} {:>10} {:>8}\n", table.batch,
                             "operation", "us", "MB", "of read", "Gop", "of int8");
    double seconds = 0.0;
    for (const OperationTime& row : table.rows) {
        seconds += row.seconds;
        std::cout << fmt::format(
            "{:<14} {:>9.1f} {:>10.1f} {:>8} {:>10.1f} {:>8}\n", row.name, row.seconds * kMicro,
            row.bytes / kMega, share_text(row.bytes / row.seconds, report.read_speed),
            row.operations / kGiga,
            share_text(row.operations / row.seconds, report.integer_peak.value_or(0.0)));
    }
    std::cout << fmt::format("{:<14} {:>9.1f}\n", "all", seconds * kMicro);
}

}  // namespace

Rates rates_of(std::vector<double> seconds, int n_tokens) {
    std::sort(seconds.begin(), seconds.end());
    const std::size_t middle = seconds.size() / 2;
    const double median =
        seconds.size() % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2.0;
    return {n_tokens / median, n_tokens / seconds.back(), n_tokens / seconds.front()};
}

void print_report(const BenchOptions& options, const Report& report) {
    options.json ? print_report_json(options, report) : print_plain(options, report);
}

void print_all_logits(const BenchOptions& options, const std::string& model,
                      const std::string& backend, const std::vector<AllLogitsRow>& rows,
                      int threads) {
    using nlohmann::ordered_json;
    const auto rate_json = [](const Rates& r) -> ordered_json {
        return {{"tokens_per_second", r.median}, {"least", r.least}, {"most", r.most}};
    };
    ordered_json json{{"model", model},
                      {"backend", backend},
                      {"threads", threads},
                      {"prompt", options.prompt},
                      {"answer", options.generate},
                      {"repetitions", options.repetitions},
                      {"rows", ordered_json::array()}};
    if (!options.json) {
        print_field("model", model);
        print_field("path", fmt::format("{}, {} threads", backend, threads));
        print_field("tokens",
                    fmt::format("prompt {}, answer {}", options.prompt, options.generate));
    }
    for (const AllLogitsRow& row : rows) {
        const Rates pass = rates_of(row.pass_seconds, row.n_tokens);
        const Rates replay = rates_of(row.replay_seconds, row.n_tokens);
        const double ratio = ratio_of(row);
        json["rows"].push_back({{"sampling", row.sampling},
                                {"pass", rate_json(pass)},
                                {"replay", rate_json(replay)},
                                {"ratio", ratio}});
        if (options.json) continue;
        const auto text = [&](const Rates& r) {
            return fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={})", r.median, r.least, r.most,
                               options.repetitions);
        };
        print_field(row.sampling, "");
        print_field("  pass", text(pass));
        print_field("  replay",
                    fmt::format("{}, {:.1f} % of the pass", text(replay), 100.0 * ratio));
    }
    if (options.json) print_json(json);
}

void print_requests(const BenchOptions& options, const std::string& model,
                    const std::string& backend, const ManyRequestsTime& time) {
    const Rates answer = rates_of(time.seconds, options.requests * options.generate);
    if (options.json) {
        print_json({{"model", model},
                    {"backend", backend},
                    {"requests", options.requests},
                    {"prompt", options.prompt},
                    {"answer", options.generate},
                    {"streams", time.n_streams},
                    {"batch", time.n_batch},
                    {"steps", time.n_steps},
                    {"answer_tokens_per_second", answer.median},
                    {"least", answer.least},
                    {"most", answer.most},
                    {"repetitions", options.repetitions}});
        return;
    }
    print_field("model", model);
    print_field("path", backend);
    print_field("requests", fmt::format("{}, prompt {}, answer {}; {} at once, {} tokens a step",
                                        options.requests, options.prompt, options.generate,
                                        time.n_streams, time.n_batch));
    print_field("answers",
                fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} steps", answer.median,
                            answer.least, answer.most, options.repetitions, time.n_steps));
}

void print_operations(const BenchOptions& options, const std::vector<OperationsTable>& tables,
                      const Report& report) {
    using nlohmann::ordered_json;
    if (!options.json) {
        print_field("model", report.model);
        print_field("path", report.backend);
        print_machine(report);
        for (const OperationsTable& table : tables)
            print_table(table, report);
        return;
    }
    ordered_json json{
        {"model", report.model},
        {"backend", report.backend},
        {"read_bytes_per_second", report.read_speed},
        {"integer_operations_per_second",
         report.integer_peak ? ordered_json(*report.integer_peak) : ordered_json(nullptr)},
        {"tables", ordered_json::array()}};
    for (const OperationsTable& table : tables) {
        ordered_json rows = ordered_json::array();
        for (const OperationTime& row : table.rows) {
            rows.push_back({{"operation", row.name},
                            {"seconds", row.seconds},
                            {"bytes", row.bytes},
                            {"operations", row.operations}});
        }
        json["tables"].push_back(
            {{"batch", table.batch}, {"tokens", table.n_tokens}, {"layer", std::move(rows)}});
    }
    print_json(json);
}

}  // namespace etalon::cli
