// SPDX-License-Identifier: Apache-2.0
// What follows once the ledger has recorded that stored content is read.
#pragma once

#include <variant>

#include "serve/site.h"

namespace etalon::serve {

/// The answer to a Reading: the content, or why it is not given. Errors: ApiError 404, 500, 503.
HttpResponse content_response(const Site& site, const Call& call, const Reading& reading,
                              const std::variant<ledger::StoredReading, Error>& recorded);

}  // namespace etalon::serve
