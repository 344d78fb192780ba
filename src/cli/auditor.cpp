// SPDX-License-Identifier: Apache-2.0
#include "cli/auditor.h"

#include "cli/ledger_place.h"

#include "base/error.h"
#include "base/file.h"
#include "base/token_key.h"
#include "ledger/json.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"

namespace etalon::cli {

void add_auditor_options(CLI::App& command, AuditorOptions& options) {
    command.add_option("--ledger", options.ledger, "folder of the ledger; absent: the server's");
    command.add_option("--key", options.key,
                       "auditor's key, PEM or pkcs11:...; absent: the local auditor's");
    command.add_option("--certificate", options.certificate, "PEM, of that key");
    command.add_option("--reason", options.reason, "why payloads are opened, for the record");
}

ledger::AuditorKey read_auditor_key(const std::string& key, const std::string& certificate) {
    const std::string pem = read_file(certificate, ledger::kPemBytesMax);
    if (is_token_key(key)) return {key, pem};
    return {read_file(key, ledger::kPemBytesMax), pem};
}

ledger::AuditorKey read_auditor_key(const AuditorOptions& options) {
    if (options.key.empty() != options.certificate.empty()) {
        throw Error(ExitCode::usage, "--key and --certificate belong together");
    }
    if (!options.key.empty()) return read_auditor_key(options.key, options.certificate);
    const std::filesystem::path folder = ledger_folder(options.ledger);
    if (!std::filesystem::exists(folder / ledger::kLocalAuditorKey)) {
        throw Error(ExitCode::not_found, "this machine has no auditor's key",
                    "--key KEY.pem --certificate CERTIFICATE.pem");
    }
    return {read_file(folder / ledger::kLocalAuditorKey, ledger::kPemBytesMax),
            read_file(folder / "auditors" / "local.pem", ledger::kPemBytesMax)};
}

void record_reading(const AuditorOptions& options, const std::vector<std::uint64_t>& intents,
                    const std::string& what) {
    std::vector<ledger::Body> records;
    for (const std::uint64_t intent : intents)
        records.emplace_back(ledger::ContentRead{intent, ledger::plain(options.reason), what});
    if (!records.empty()) ledger::record_now(ledger_options(options.ledger), records);
}

}  // namespace etalon::cli
