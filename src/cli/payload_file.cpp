// SPDX-License-Identifier: Apache-2.0
// Files of payloads.
#include "cli/payload_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <string_view>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "engine/limits.h"

namespace etalon::cli {

namespace {

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
    throw Error(ExitCode::failure, fmt::format("cannot {} {}: {}", what, printable(path.string()),
                                               std::strerror(errno)));
}

}  // namespace

NewPayloadFile::NewPayloadFile(std::filesystem::path path)
    : path_(std::move(path)),
      fd_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) {
    if (fd_ >= 0) return;
    if (errno != EEXIST) fail("make", path_);
    throw Error(ExitCode::usage, fmt::format("{} exists", printable(path_.string())),
                "a payload is written to a new file");
}

NewPayloadFile::~NewPayloadFile() {
    ::close(fd_);
    if (!written_) ::unlink(path_.c_str());
}

void NewPayloadFile::write(const engine::Payload& payload) {
    ETALON_ASSERT(!written_);
    const std::string bytes = engine::write_payload(payload);
    if (!write_all(fd_, bytes) || ::fsync(fd_) != 0) fail("write", path_);
    written_ = true;
}

std::pair<engine::Payload, Sha256Digest> read_payload_bytes(std::string_view bytes,
                                                            const std::string& source) {
    try {
        return {engine::read_payload(bytes), sha256(std::as_bytes(std::span(bytes)))};
    } catch (const Error& error) {
        throw Error(error.code(), fmt::format("{} ({})", error.message(), printable(source)),
                    error.hint());
    }
}

std::pair<engine::Payload, Sha256Digest> read_payload_file(const std::filesystem::path& path) {
    return read_payload_bytes(read_file(path, engine::kPayloadBytesMax), path.string());
}

}  // namespace etalon::cli
