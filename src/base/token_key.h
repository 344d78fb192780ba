// SPDX-License-Identifier: Apache-2.0
// Private keys that stay in a token (a card, an HSM), by OpenSSL's engine "pkcs11".
//   if (is_token_key(name)) key = open_token_key(name);   // "pkcs11:token=release;object=signer"
#pragma once

#include <memory>
#include <string>
#include <string_view>

namespace etalon {

/// Longest name: RFC 7512 has a dozen attributes.
inline constexpr std::size_t kTokenNameBytesMax = 4096;

/// A name of RFC 7512 and no path.
bool is_token_key(std::string_view name);
/// The PIN itself is in the name.
bool has_pin(std::string_view name);

/// An EVP_PKEY whose private operations the token computes. The PIN is in the name
/// (pin-source=FILE, or pin-value); nobody is asked. Errors: usage (too long), unavailable (no
/// engine, no such token or key, a wrong PIN), without the PIN.
std::shared_ptr<void> open_token_key(const std::string& name);

/// The name as messages show it: cut before its PIN, safe for a terminal.
std::string token_key_text(std::string_view name);

}  // namespace etalon
