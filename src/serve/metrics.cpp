// SPDX-License-Identifier: Apache-2.0
// Prometheus text: names end in units, counters in _total.
#include "serve/metrics.h"

#include <algorithm>
#include <fmt/format.h>

namespace etalon::serve {

namespace {

constexpr double kFirstBucket = 0.001;

void describe(std::string_view name, std::string_view help, std::string_view type,
              std::string& out) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void print_number(std::string_view name, std::string_view help, std::string_view type, double value,
                  std::string& out) {
    describe(name, help, type, out);
    out += fmt::format("{} {}\n", name, value);
}

/// A label's value: backslash, quote and line end are escaped.
std::string label(std::string_view text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n') {
            out += "\\n";
        } else {
            out += c;
        }
    }
    return out;
}

/// Names of the worker become names of metrics: other characters are not allowed in them.
std::string metric_name(std::string_view name) {
    std::string out = "etalon_engine_";
    for (const char c : name) {
        const bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
        out += good ? c : '_';
    }
    return out;
}

using Workers = std::vector<std::pair<std::string, Metrics::WorkerCounters>>;

double value_of(const Metrics::WorkerCounters& counters, std::string_view name) {
    const auto found = std::find_if(counters.begin(), counters.end(),
                                    [&](const auto& counter) { return counter.first == name; });
    return found == counters.end() ? 0.0 : found->second;
}

/// What dashboards look for first, then every counter of the engine by its own name.
void print_workers(const Workers& workers, std::string& out) {
    std::map<std::string, std::string> lines;
    for (const auto& [model, counters] : workers) {
        const auto add = [&, name = model](const std::string& metric, double value) {
            lines[metric] += fmt::format("{}{{model=\"{}\"}} {}\n", metric, label(name), value);
        };
        const double total = value_of(counters, "pages_total");
        const double used = total - value_of(counters, "pages_free");
        add("etalon_requests_waiting", value_of(counters, "waiting"));
        add("etalon_kv_cache_usage_ratio", total > 0.0 ? used / total : 0.0);
        for (const auto& [name, value] : counters)
            add(metric_name(name), value);
    }
    for (const auto& [metric, text] : lines) {
        describe(metric, "Of the workers.", "untyped", out);
        out += text;
    }
}

}  // namespace

void Histogram::add(double seconds) {
    double limit = kFirstBucket;
    std::size_t bucket = 0;
    while (bucket < kBuckets && seconds > limit) {
        limit *= 2.0;
        ++bucket;
    }
    ++counts_[bucket];
    sum_ += seconds;
}

void Histogram::print(std::string_view name, std::string_view help, std::string& out) const {
    describe(name, help, "histogram", out);
    double limit = kFirstBucket;
    std::uint64_t below = 0;
    for (std::size_t i = 0; i < kBuckets; ++i) {
        below += counts_[i];
        out += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, limit, below);
        limit *= 2.0;
    }
    below += counts_[kBuckets];
    out += fmt::format("{}_bucket{{le=\"+Inf\"}} {}\n{}_sum {}\n{}_count {}\n", name, below, name,
                       sum_, name, below);
}

void Metrics::request_ended(int status, const std::string& finish, double seconds) {
    ++requests_[{status, finish}];
    whole_.add(seconds);
}

void Metrics::answer_ended(const Usage& usage) {
    usage_.prompt_tokens += usage.prompt_tokens;
    usage_.cached_tokens += usage.cached_tokens;
    usage_.answer_tokens += usage.answer_tokens;
    usage_.drafted_tokens += usage.drafted_tokens;
    usage_.accepted_tokens += usage.accepted_tokens;
    queued_.add(usage.queued_seconds);
}

std::string Metrics::text(
    std::string_view version,
    const std::vector<std::pair<std::string, WorkerCounters>>& workers) const {
    std::string out;
    describe("etalon_build_info", "Version of the program.", "gauge", out);
    out += fmt::format("etalon_build_info{{version=\"{}\"}} 1\n", label(version));
    describe("etalon_requests_total", "Requests by status and finish reason.", "counter", out);
    for (const auto& [key, count] : requests_) {
        out += fmt::format("etalon_requests_total{{code=\"{}\",finish_reason=\"{}\"}} {}\n",
                           key.first, label(key.second), count);
    }
    const auto counter = [&](const char* name, const char* help, std::int64_t value) {
        print_number(name, help, "counter", static_cast<double>(value), out);
    };
    counter("etalon_prompt_tokens_total", "Tokens of prompts.", usage_.prompt_tokens);
    counter("etalon_generation_tokens_total", "Tokens of answers.", usage_.answer_tokens);
    counter("etalon_prefix_cache_hit_tokens_total", "Tokens of prompts that were not computed.",
            usage_.cached_tokens);
    counter("etalon_spec_draft_tokens_total", "Tokens that were proposed.", usage_.drafted_tokens);
    counter("etalon_spec_accepted_tokens_total", "Proposed tokens that were accepted.",
            usage_.accepted_tokens);
    counter("etalon_worker_restarts_total", "Workers started again.",
            static_cast<std::int64_t>(n_restarts_));
    describe("etalon_self_checks_total", "Answers that were derived again, by verdict.", "counter",
             out);
    for (const auto& [verdict, count] : self_checks_)
        out +=
            fmt::format("etalon_self_checks_total{{verdict=\"{}\"}} {}\n", label(verdict), count);
    print_number("etalon_requests_running", "Answers that are not finished.", "gauge",
                 static_cast<double>(n_running_), out);
    print_number("etalon_connections", "Open connections.", "gauge",
                 static_cast<double>(n_connections_), out);
    first_token_.print("etalon_time_to_first_token_seconds", "From request to first token.", out);
    queued_.print("etalon_request_queue_time_seconds", "From request to first step.", out);
    whole_.print("etalon_e2e_request_latency_seconds", "From request to its end.", out);
    print_workers(workers, out);
    return out;
}

}  // namespace etalon::serve
