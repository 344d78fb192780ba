// SPDX-License-Identifier: Apache-2.0
#include "cli/stamper.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fmt/format.h>
#include <utility>

#include "cli/api_client.h"

#include "base/error.h"
#include "base/file.h"
#include "ledger/stamps.h"
#include "tlog/time_stamp.h"

namespace etalon::cli {

namespace {

constexpr std::chrono::seconds kAnswerTime{30};
constexpr std::uint64_t kStampSecondsMax = 30 * 86400;

}  // namespace

std::pair<std::string, std::string> split_url(const std::string& url) {
    const std::size_t scheme = url.find("://");
    const std::size_t slash = scheme == std::string::npos ? url.npos : url.find('/', scheme + 3);
    std::string path = slash == url.npos ? "" : url.substr(slash);
    while (!path.empty() && path.back() == '/')
        path.pop_back();
    return {url.substr(0, slash), path};
}

void add_stamper_options(CLI::App& command, StamperOptions& options) {
    CLI::Option* url = command.add_option(
        "--tsa", options.url, "URL of a time stamping authority (RFC 3161) for checkpoints");
    CLI::Option* certificates = command.add_option("--tsa-certificate", options.certificates,
                                                   "PEM file: who may sign its stamps");
    url->needs(certificates);
    certificates->needs(url);
    command
        .add_option("--tsa-policy", options.policy, "object identifier that it must stamp under")
        ->needs(url);
    command.add_option("--tsa-every", options.every, "seconds between two stamps")
        ->check(CLI::Range(std::uint64_t{1}, kStampSecondsMax))
        ->capture_default_str();
}

Stamper::Stamper(StamperOptions options) : options_(std::move(options)) {
    std::tie(base_, path_) = split_url(options_.url);
    if (path_.empty()) path_ = "/";
    (void)parse_server_url(base_);
    pem_ = read_file(options_.certificates, tlog::kCertificatesBytesMax);
    tlog::check_time_stamp_certificates(pem_);
    (void)tlog::time_stamp_request("", options_.policy);
}

void Stamper::stamp(const std::filesystem::path& ledger_folder, std::uint64_t size,
                    const std::string& note) const {
    const auto sizes = ledger::stamped_sizes(ledger_folder);
    if (std::binary_search(sizes.begin(), sizes.end(), size)) return;
    ServerAddress address = parse_server_url(base_);
    address.ca_file = options_.ca_file;
    address.time_max = kAnswerTime;
    const std::string request = tlog::time_stamp_request(note, options_.policy);
    const ApiResponse response =
        ApiClient(address).post(path_, request, {}, "application/timestamp-query");
    if (response.status != 200) {
        throw Error(ExitCode::unavailable, fmt::format("{} says {}", base_, response.status));
    }
    const tlog::TimeStamp stamp = tlog::open_time_stamp(request, response.body, pem_);
    ledger::keep_stamp(ledger_folder, {size, note, response.body});
    std::fprintf(stderr, "etalon: %llu records were stamped at %s\n",
                 static_cast<unsigned long long>(size), tlog::time_stamp_text(stamp).c_str());
}

}  // namespace etalon::cli
