// SPDX-License-Identifier: Apache-2.0
// Asks a time stamping authority (RFC 3161) about checkpoints and keeps what it answers, for
// `etalon courier --tsa`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace CLI {
class App;
}

namespace etalon::cli {

struct StamperOptions {
    std::string url;             ///< empty: nothing is stamped
    std::string certificates;    ///< PEM file: who may sign stamps
    std::string policy;          ///< object identifier; empty: the authority's own
    std::string ca_file;         ///< PEM file: who may sign its TLS certificate
    std::uint64_t every = 3600;  ///< seconds between two stamps
};
/// --tsa, --tsa-certificate, --tsa-policy, --tsa-every.
void add_stamper_options(CLI::App& command, StamperOptions& options);

class Stamper {
  public:
    /// Errors: usage (the URL, the policy), those of read_file.
    explicit Stamper(StamperOptions options);

    /// A stamp over `note`, a checkpoint of `size` records, beside the log, unless there is one.
    /// Errors: unavailable (the authority does not answer, or with an error of HTTP), invalid (its
    /// stamp does not hold), failure.
    void stamp(const std::filesystem::path& ledger_folder, std::uint64_t size,
               const std::string& note) const;

    const StamperOptions& options() const noexcept { return options_; }

  private:
    StamperOptions options_;
    std::string base_;  // "https://tsa.example"
    std::string path_;
    std::string pem_;
};

/// "https://witness.example/ghent" without its path, and the path without "/" at its end.
std::pair<std::string, std::string> split_url(const std::string& url);

}  // namespace etalon::cli
