// SPDX-License-Identifier: Apache-2.0
// The description of the API at /openapi.json (OpenAPI 3.1): the routes are those of all_routes(),
// the fields of bodies what the parsers ask for while they read a sample.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "serve/fields.h"

namespace etalon::serve {

/// What is said of one route that its table does not know.
struct QueryNote {
    const char* name;
    std::vector<const char*> choices;  ///< of a text; empty: any
    std::int64_t low = 0;              ///< of an integer, where `high` is not 0
    std::int64_t high = 0;
};
struct RouteNote {
    const char* path;  ///< as in all_routes()
    const char* summary;
    const char* sample;                 ///< a body that is accepted; "" where there is none
    std::vector<const char*> required;  ///< its fields that cannot be left out
    bool streams = false;
    const char* content_type = "application/json";
    const char* method = "GET";  ///< where there is no sample; with one it is POST
    std::vector<QueryNote> query = {};
};
const std::vector<RouteNote>& route_notes();

/// The schema of a body from what its parser asked for.
nlohmann::ordered_json schema_of(std::span<const FieldNote> notes,
                                 std::span<const char* const> required);

/// What the parser of a route asks for while it reads `body`. Errors: ApiError, where the body is
/// refused.
std::vector<FieldNote> fields_of(std::string_view path, const std::string& body);

/// The path as the document has it: "/v1/models/{id}", "/ledger/{path}".
std::string path_template(std::string_view path);

/// The whole document.
nlohmann::ordered_json openapi_json(std::string_view version);

}  // namespace etalon::serve
