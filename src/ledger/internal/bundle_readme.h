// SPDX-License-Identifier: Apache-2.0
// README.md of an audit bundle: for a person, the command that checks each part of it.
#pragma once

#include <string_view>

namespace etalon::ledger {

std::string_view bundle_readme() noexcept;

}  // namespace etalon::ledger
