// SPDX-License-Identifier: Apache-2.0
// One function a route. Pure but for random ids: no sockets, no clock, no files but the database.
#pragma once

#include "serve/site.h"

namespace etalon::serve {

/// Errors of all: ApiError.
Outcome handle_live(const Site& site, const Call& call);
Outcome handle_ready(const Site& site, const Call& call);
Outcome handle_version(const Site& site, const Call& call);
Outcome handle_status(const Site& site, const Call& call);
Outcome handle_models(const Site& site, const Call& call);
Outcome handle_model(const Site& site, const Call& call);
Outcome handle_chat(const Site& site, const Call& call);
Outcome handle_completions(const Site& site, const Call& call);
Outcome handle_responses(const Site& site, const Call& call);
Outcome handle_stored(const Site& site, const Call& call);
Outcome handle_stored_items(const Site& site, const Call& call);
Outcome handle_stored_delete(const Site& site, const Call& call);
Outcome handle_content(const Site& site, const Call& call);
Outcome handle_fim(const Site& site, const Call& call);
Outcome handle_embeddings(const Site& site, const Call& call);
Outcome handle_tokenize(const Site& site, const Call& call);
Outcome handle_detokenize(const Site& site, const Call& call);
Outcome handle_live_digest(const Site& site, const Call& call);
Outcome handle_receipt(const Site& site, const Call& call);
Outcome handle_log_file(const Site& site, const Call& call);
Outcome handle_openapi(const Site& site, const Call& call);
Outcome handle_metrics(const Site& site, const Call& call);

}  // namespace etalon::serve
