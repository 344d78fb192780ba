// SPDX-License-Identifier: Apache-2.0
#include "ledger/commitment.h"

namespace etalon::ledger {

std::string commitment(const Key& commit_key, std::string_view label, std::string_view content) {
    std::string message;
    message.reserve(label.size() + 1 + content.size());
    message += label;
    message += '\n';
    message += content;
    return to_hex(hmac_sha256(commit_key, message));
}

}  // namespace etalon::ledger
