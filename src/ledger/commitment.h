// SPDX-License-Identifier: Apache-2.0
// Commitments (docs/ledger.md section 3): who has the commit key and the content makes the
// commitment again; who has only the record cannot try a guess.
#pragma once

#include <string>
#include <string_view>

#include "ledger/internal/crypto.h"

namespace etalon::ledger {

namespace label {
inline constexpr std::string_view kBody = "body";
inline constexpr std::string_view kPrompt = "prompt";
inline constexpr std::string_view kSampling = "sampling";
inline constexpr std::string_view kDigest = "digest";
inline constexpr std::string_view kPayload = "payload";
inline constexpr std::string_view kText = "text";
inline constexpr std::string_view kNote = "note";
}  // namespace label

/// HMAC(commit key, label || "\n" || content), as hex.
std::string commitment(const Key& commit_key, std::string_view label, std::string_view content);

}  // namespace etalon::ledger
