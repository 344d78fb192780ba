// SPDX-License-Identifier: Apache-2.0
// Files of payloads: the prompt and the answer are in them, so only their owner reads them.
//   NewPayloadFile file("answer.json");   // fails before anything is computed
//   file.write(payload);
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "base/sha256.h"
#include "engine/payload.h"

namespace etalon::cli {

/// A file of mode 0600 that was not there before; removed again unless a payload was written.
class NewPayloadFile {
  public:
    /// Errors: usage (there is something of this name), failure (it cannot be made).
    explicit NewPayloadFile(std::filesystem::path path);
    ~NewPayloadFile();
    NewPayloadFile(const NewPayloadFile&) = delete;
    NewPayloadFile& operator=(const NewPayloadFile&) = delete;

    /// Once. The bytes are on the disk when it returns. Errors: failure.
    void write(const engine::Payload& payload);

  private:
    std::filesystem::path path_;
    int fd_;
    bool written_ = false;
};

/// The payload in these bytes and their SHA-256. Errors: invalid (the message names the source).
std::pair<engine::Payload, Sha256Digest> read_payload_bytes(std::string_view bytes,
                                                            const std::string& source);
/// The payload of a file and the SHA-256 of its bytes. Errors: not_found, invalid (the message
/// names the file), failure.
std::pair<engine::Payload, Sha256Digest> read_payload_file(const std::filesystem::path& path);

}  // namespace etalon::cli
