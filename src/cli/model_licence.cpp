// SPDX-License-Identifier: Apache-2.0
#include "cli/model_licence.h"

namespace etalon::cli {

std::string licence_of(const weights::ModelFile& file) {
    for (const char* key : {"general.license", "license", "licence"}) {
        const auto found = file.metadata().find(key);
        if (found != file.metadata().end()) return found->second;
    }
    return "";
}

}  // namespace etalon::cli
