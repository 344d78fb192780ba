// SPDX-License-Identifier: Apache-2.0
// What several handlers need.
#include "serve/site.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <openssl/rand.h>

#include "base/error.h"
#include "base/sha256.h"
#include "serve/limits.h"

namespace etalon::serve {

std::size_t find_model(const Site& site, std::string_view name) {
    std::string names;
    for (std::size_t i = 0; i < site.models.size(); ++i) {
        const ServedModel& model = site.models[i];
        const auto& aliases = model.aliases;
        if (model.id == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
            if (!model.hello) throw unavailable(fmt::format("model {} is loading", model.id));
            return i;
        }
        names += names.empty() ? model.id : ", " + model.id;
    }
    throw ApiError(404, "invalid_request_error", "model_not_found",
                   fmt::format("model {} is not served here, {} is", printable(name, 100), names),
                   "model");
}

std::string random_id(std::string_view start) {
    std::array<std::uint8_t, 12> bytes{};
    ETALON_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
    return std::string(start) + to_hex(bytes);
}

void add_ignored(const std::vector<std::string>& ignored, HeaderList& headers) {
    if (ignored.empty()) return;
    std::string names;
    for (std::size_t i = 0; i < std::min(ignored.size(), kIgnoredMax); ++i) {
        if (i > 0) names += ", ";
        // The client chose the name: only what cannot end or confuse a header goes back.
        for (const char c : std::string_view(ignored[i]).substr(0, 64)) {
            const bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-' ||
                              c == '[' || c == ']';
            names += good ? c : '?';
        }
    }
    if (ignored.size() > kIgnoredMax) names += ", ...";
    headers.emplace_back("x-etalon-ignored-params", names);
}

}  // namespace etalon::serve
