// SPDX-License-Identifier: Apache-2.0
// The key that signs a ledger's log.
#include "ledger/internal/log_key.h"

#include <algorithm>
#include <fmt/format.h>
#include <openssl/crypto.h>

#include "ledger/internal/crypto.h"
#include "ledger/internal/files.h"

namespace etalon::ledger {

namespace {

constexpr std::size_t kKeyFileBytesMax = 1024;
constexpr std::size_t kOriginDigits = 16;

std::filesystem::path path_of(const std::filesystem::path& ledger_folder) {
    return ledger_folder / "keys" / "log.key";
}

}  // namespace

tlog::SigningKey read_log_key(const std::filesystem::path& ledger_folder) {
    std::string text = read_private_file(path_of(ledger_folder), kKeyFileBytesMax);
    const std::size_t length = std::min(text.find('\n'), text.size());
    tlog::SigningKey key = tlog::SigningKey::parse(std::string_view(text).substr(0, length));
    OPENSSL_cleanse(text.data(), text.size());
    return key;
}

tlog::SigningKey read_or_make_log_key(const std::filesystem::path& ledger_folder,
                                      const std::string& origin_start) {
    const std::filesystem::path path = path_of(ledger_folder);
    make_private_folder(path.parent_path());
    if (!std::filesystem::exists(path)) {
        const std::string name =
            fmt::format("{}/{}", origin_start, random_id().substr(0, kOriginDigits));
        write_new_file(path, tlog::SigningKey::generate(name).text() + "\n");
    }
    return read_log_key(ledger_folder);
}

}  // namespace etalon::ledger
