// SPDX-License-Identifier: Apache-2.0
// A whole log, computed again from its entries.
#pragma once

#include <cstdint>
#include <optional>

#include "tlog/policy.h"
#include "tlog/tile_reader.h"

namespace etalon::tlog {

struct LogReport {
    Checkpoint checkpoint;
    std::uint64_t n_tiles = 0;
};

/// Reads "checkpoint", every bundle of entries and every tile from `files`: the policy is met, the
/// tree over the entries has the checkpoint's root, each tile holds its hashes, and, with `held`,
/// an earlier checkpoint that the verifier kept, the log continues that one.
/// Errors: invalid, with what does not fit.
LogReport verify_log(const FileSource& files, const Policy& policy,
                     const std::optional<Checkpoint>& held = std::nullopt,
                     const std::function<void(std::uint64_t, std::string_view)>& take = {});

}  // namespace etalon::tlog
