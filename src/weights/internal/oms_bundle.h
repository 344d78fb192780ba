// SPDX-License-Identifier: Apache-2.0
// The file of a model signature: a sigstore bundle 0.3 with a DSSE envelope, signed with a bare key
// (OMS v1.0). The statement inside is oms_statement.h.
//   const std::string statement = open_bundle(text, key, "m.gguf.sig");
#pragma once

#include <string>
#include <string_view>

#include "weights/signing_key.h"

namespace etalon::weights {

/// The text of a bundle around `statement` (JSON), with a line end.
std::string make_bundle(std::string_view statement, const PrivateKey& key);

/// The statement, once its signature is checked; it is not read before. A bundle has one spelling
/// where that can be asked: unknown or repeated members and other forms of base64 are refused, so
/// that no bit of it can change unseen. Errors: invalid (no bundle, made with another key, another
/// kind of material, a signature that does not fit).
std::string open_bundle(std::string_view text, const PublicKey& key, const std::string& file);

/// What a DSSE signature covers: "DSSEv1 28 application/vnd.in-toto+json LENGTH PAYLOAD".
std::string dsse_message(std::string_view payload);

}  // namespace etalon::weights
