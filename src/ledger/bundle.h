// SPDX-License-Identifier: Apache-2.0
// Audit bundles (docs/ledger.md section 6): a folder that anybody checks without this program.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/record.h"
#include "ledger/seal.h"
#include "ledger/stamps.h"
#include "tlog/policy.h"

namespace etalon::ledger {

/// Records [first, end) of a ledger.
struct BundleRange {
    std::uint64_t first = 0;
    std::uint64_t end = 0;
};

/// The records of a published log from `from_us` to before `to_us`, microseconds since 1970.
/// Errors: not_found (there is no log), invalid.
BundleRange range_of_times(const std::filesystem::path& ledger_folder, std::uint64_t from_us,
                           std::uint64_t to_us);

struct BundleReport {
    tlog::Checkpoint checkpoint;
    BundleRange range;
    std::map<std::string, std::uint64_t> kinds;  ///< records of each kind
    std::uint64_t n_unfinished = 0;              ///< intents without their complete in the bundle
    std::uint64_t n_payloads = 0;
};

/// What a bundle holds beside the log, as bytes by path: kSandboxPath, bom_path() of every model in
/// `loads`, and signature_path() where there is one. `loads`: the model_load records of the range
/// and those that its intents name, by index.
using EvidenceSource = std::function<std::map<std::string, std::string>(
    const std::map<std::uint64_t, ModelLoad>& loads)>;
inline constexpr const char* kSandboxPath = "sandbox.json";
/// "models/HASH/bom.cdx.json"; `model` is its hash as records have it.
std::string bom_path(std::string_view model);
/// "models/HASH/model.sig".
std::string signature_path(std::string_view model);

/// Writes the bundle into `out`, which must not exist yet. The ledger may be in use. The reading
/// itself is not recorded here (record_now). Errors: usage (`out` is there, the range is not
/// in the log), refused (the log's key may be read by others), invalid, failure, those of
/// `evidence`.
BundleReport export_bundle(const std::filesystem::path& ledger_folder, const BundleRange& range,
                           const std::filesystem::path& out, const EvidenceSource& evidence);

/// All steps of section 6; `held`: a signed checkpoint that the auditor kept. The folder may be
/// hostile. Errors: invalid ("step N: ...").
BundleReport verify_bundle(const std::filesystem::path& folder, const tlog::Policy& policy,
                           const std::optional<std::string>& held = std::nullopt);

/// The time stamps in a bundle that verify_bundle() accepted, by size. Errors: invalid.
std::vector<Stamp> bundle_stamps(const std::filesystem::path& folder);

/// The policy in the bundle: it says nothing about whose log this is.
tlog::Policy bundle_policy(const std::filesystem::path& folder);

/// The plaintext of a payload in the bundle, by an auditor's key and certificate (PEM), compared
/// with its commitments. Errors: not_found, refused (another auditor's), invalid.
std::string open_bundle_payload(const std::filesystem::path& folder, std::uint64_t intent,
                                const AuditorKey& key);

}  // namespace etalon::ledger
