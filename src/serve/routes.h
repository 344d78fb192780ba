// SPDX-License-Identifier: Apache-2.0
// Which function answers which path, and who may ask.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "serve/handlers.h"

namespace etalon::serve {

struct Route {
    const char* method;
    const char* path;  ///< as target_of() gives it; one that ends in '/' takes one more segment,
                       ///< in "/*" one or more; "{id}" inside is one segment
    unsigned scope;    ///< of the key; 0: answers without a key
    Outcome (*handle)(const Site& site, const Call& call);
};

/// Every route of the server.
const std::vector<Route>& all_routes();

/// Errors: ApiError 404, 405 with Allow.
const Route& find_route(const std::string& method, const std::string& path);

/// What is known of a request before its body is read.
struct Admitted {
    const Route* route = nullptr;
    Target target;
    KeyInfo key;         ///< empty for routes without a key
    HeaderList headers;  ///< for the response: limits of the key, CORS
};

/// Checks, in this order: the shape of the target, Host, route, key, scope, pace. A route that is
/// not in the table, or that asks for a scope, is closed: there is no way around the key.
/// `steady`: seconds of a clock that never jumps. Errors: ApiError 400, 401, 403, 404, 405, 415,
/// 421, 429.
Admitted admit(Site& site, const HttpRequest& head, std::int64_t now, double steady);

/// The answer to a CORS preflight from a page of a listed origin; nullopt: it is none.
std::optional<HttpResponse> preflight(const Site& site, const HttpRequest& head);
/// Headers that let a page of a listed origin read the answer.
HeaderList cors_headers(const Site& site, const HttpRequest& head);

}  // namespace etalon::serve
