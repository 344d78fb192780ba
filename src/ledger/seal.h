// SPDX-License-Identifier: Apache-2.0
// Sealed payloads (docs/ledger.md section 4): a fresh key encrypts the content, the auditors'
// certificates seal that key, the subjects' keys wrap the envelope. Whoever seals cannot open.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/subjects.h"

namespace etalon::ledger {

/// The certificates that payloads are sealed to.
class Auditors {
  public:
    /// Every *.pem of the folder, each one certificate. Errors: usage (one is no certificate, or
    /// its key cannot be sealed to), not_found (there is none), those of read_file.
    explicit Auditors(const std::filesystem::path& folder);
    ~Auditors();
    Auditors(Auditors&&) noexcept;
    Auditors& operator=(Auditors&&) noexcept;

    /// SHA-256 of the DER form of each, ascending.
    const std::vector<std::string>& hashes() const { return hashes_; }
    /// PEM, in the same order.
    const std::vector<std::string>& certificates() const { return certificates_; }

    /// CMS EnvelopedData in DER to all of them.
    std::string envelope(std::string_view content) const;

  private:
    struct Stack;
    std::unique_ptr<Stack> stack_;
    std::vector<std::string> hashes_;
    std::vector<std::string> certificates_;
};

/// Makes a P-256 key and a certificate for it, for machines without an auditor of their own:
/// FOLDER/local.pem, and the key at `key_path`. Nothing where FOLDER has a *.pem already.
/// True when a pair was made. Errors: failure.
bool ensure_local_auditor(const std::filesystem::path& folder,
                          const std::filesystem::path& key_path);

/// Who may open.
struct AuditorKey {
    std::string key;          ///< PEM, or the name of a key in a token (base/token_key.h)
    std::string certificate;  ///< PEM
};

/// The content of an envelope. `key` and `certificate` as above. Errors: refused (it is sealed to
/// others), invalid, those of open_token_key().
std::string open_envelope(std::string_view envelope, std::string_view key,
                          std::string_view certificate);

/// What a sealed payload is bound to.
struct SealContext {
    std::string origin;
    std::uint64_t intent = 0;  ///< index
};

struct SealedPayload {
    std::string ciphertext;
    std::string envelope;  ///< without wraps
};
SealedPayload seal_payload(std::string_view plaintext, const SealContext& context,
                           const Auditors& auditors);
/// Errors: invalid.
std::string open_payload(std::string_view ciphertext, const Key& content_key,
                         const SealContext& context);

/// Wraps in the order of `subjects`. Errors of unwrap: invalid.
std::string wrap_envelope(std::string envelope, const std::vector<Subject>& subjects);
std::string unwrap_envelope(std::string wrapped, const std::vector<Subject>& subjects);

}  // namespace etalon::ledger
