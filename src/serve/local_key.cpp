// SPDX-License-Identifier: Apache-2.0
// The local key and its file.
#include "serve/local_key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "serve/config.h"

namespace etalon::serve {

namespace {

constexpr std::size_t kKeyFileBytesMax = 1024;

[[noreturn]] void cannot_write(const std::filesystem::path& path) {
    throw Error(ExitCode::failure, fmt::format("cannot write {}", printable(path.string())),
                "XDG_CONFIG_HOME names another folder for configuration");
}

/// The whole file appears at once, and never with more permissions than 0600.
void write_private(const std::filesystem::path& path, const std::string& text) {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    const std::filesystem::path fresh = path.string() + ".new";
    std::filesystem::remove(fresh, error);
    const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                          S_IRUSR | S_IWUSR);
    if (fd < 0) cannot_write(path);
    const bool written = write_all(fd, text);
    const bool closed = ::close(fd) == 0;
    if (!written || !closed) cannot_write(path);
    std::filesystem::rename(fresh, path, error);
    if (error) cannot_write(path);
}

}  // namespace

std::filesystem::path local_key_path() {
    return config_folder() / "local.key";
}

std::string read_local_key(const std::filesystem::path& path) {
    std::string key = read_file(path, kKeyFileBytesMax);
    while (!key.empty() && (key.back() == '\n' || key.back() == '\r'))
        key.pop_back();
    return key;
}

std::optional<KeyInfo> ensure_local_key(Accounts& accounts, const std::filesystem::path& path,
                                        std::int64_t now) {
    std::error_code error;
    if (std::filesystem::exists(path, error)) {
        const auto known = accounts.find(read_local_key(path));
        if (known && !known->revoked && (!known->expires || *known->expires > now)) {
            return std::nullopt;
        }
    }
    NewKey key;
    key.tenant = "local";
    key.scopes = kScopeInfer | kScopeMetrics;
    const Accounts::Created created = accounts.create_key(key, now);
    write_private(path, created.key + "\n");
    return accounts.find(created.key);
}

}  // namespace etalon::serve
