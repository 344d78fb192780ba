// SPDX-License-Identifier: Apache-2.0
// HMAC-SHA-256, AES-256-GCM and random bytes, computed by OpenSSL.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/sha256.h"

namespace etalon::ledger {

/// 256 bits of a key; wiped when it goes.
struct Key {
    std::array<std::uint8_t, 32> bytes{};

    Key() = default;
    Key(const Key&) = default;
    Key(Key&&) noexcept = default;
    Key& operator=(const Key&) = default;
    Key& operator=(Key&&) noexcept = default;
    ~Key();
    std::string_view view() const {
        return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    }
};

Key random_key();
/// 32 hexadecimal digits.
std::string random_id();

Sha256Digest hmac_sha256(const Key& key, std::string_view message);
std::string sha256_hex(std::string_view bytes);
/// Errors: invalid (not exactly 64 digits).
Key key_of_hex(std::string_view hex);

inline constexpr std::size_t kGcmNonceBytes = 12;
inline constexpr std::size_t kGcmTagBytes = 16;

/// Nonce (random), ciphertext, tag.
std::string gcm_seal(const Key& key, std::string_view additional, std::string_view plain);
/// Errors: invalid (another key, other additional data, or changed bytes).
std::string gcm_open(const Key& key, std::string_view additional, std::string_view sealed);

}  // namespace etalon::ledger
