// SPDX-License-Identifier: Apache-2.0
// The one signal that every client can set is the path; the next best is its name.
#include "serve/dialect.h"

#include <string_view>

namespace etalon::serve {

namespace {

constexpr std::string_view kOpenAiBase = "/openai";
constexpr std::string_view kMistralBase = "/mistral";

bool under(const std::string& path, std::string_view base) {
    return path.compare(0, base.size(), base) == 0 && path.compare(base.size(), 4, "/v1/") == 0;
}

bool names_mistral(const HttpRequest& request, std::string_view header) {
    const std::string* name = request.header(header);
    return name != nullptr && (name->rfind("mistral-client-python/", 0) == 0 ||
                               name->rfind("mistral-client-typescript/", 0) == 0);
}

}  // namespace

Target target_of(const HttpRequest& request) {
    if (under(request.path, kOpenAiBase)) {
        return {Dialect::openai, request.path.substr(kOpenAiBase.size())};
    }
    if (under(request.path, kMistralBase)) {
        return {Dialect::mistral, request.path.substr(kMistralBase.size())};
    }
    const bool mistral =
        names_mistral(request, "user-agent") || names_mistral(request, "x-mistral-user-agent");
    return {mistral ? Dialect::mistral : Dialect::openai, request.path};
}

}  // namespace etalon::serve
