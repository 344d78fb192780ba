// SPDX-License-Identifier: Apache-2.0
// Who opens payloads of this machine's ledger: folder, key and reason, as flags.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "ledger/seal.h"

namespace etalon::cli {

struct AuditorOptions {
    std::string ledger;
    std::string key;
    std::string certificate;
    std::string reason;
};

/// --ledger, --key, --certificate, --reason.
void add_auditor_options(CLI::App& command, AuditorOptions& options);

/// A PEM file, or the name of a key in a token (base/token_key.h); and a PEM file. Errors: those
/// of read_file().
ledger::AuditorKey read_auditor_key(const std::string& key, const std::string& certificate);

/// What the flags name; without them the local auditor's, where the server made one.
/// Errors: usage (one flag without the other), not_found, refused (others may read the key).
ledger::AuditorKey read_auditor_key(const AuditorOptions& options);

/// The record that these payloads are opened, on disk when this returns; `what`: "open", "replay".
void record_reading(const AuditorOptions& options, const std::vector<std::uint64_t>& intents,
                    const std::string& what);

}  // namespace etalon::cli
