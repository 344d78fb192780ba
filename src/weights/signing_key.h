// SPDX-License-Identifier: Apache-2.0
// Keys of model signatures: ECDSA on the curves that OMS v1.0 allows, in PEM files.
//   const PrivateKey mine = PrivateKey::read("release.pem");
//   const std::string signature = mine.sign(bytes);
//   PublicKey::read("release.pem.pub").verifies(bytes, signature);   // true
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace etalon::weights {

/// Bytes of a PEM file: a key of 521 bits has under 400.
inline constexpr std::size_t kKeyFileBytesMax = std::size_t{16} << 10;

/// P-256, P-384 or P-521. Copies share the key.
class PublicKey {
  public:
    /// PEM, SubjectPublicKeyInfo ("BEGIN PUBLIC KEY"). `file` stands in the messages. Errors:
    /// invalid (no public key in PEM, another kind of key).
    static PublicKey parse(std::string_view pem, const std::string& file);
    /// Errors: as parse(), and those of read_file().
    static PublicKey read(const std::filesystem::path& path);

    /// `signature` is the DER form; the hash goes with the curve (SHA-256, 384, 512).
    bool verifies(std::string_view message, std::string_view signature) const;
    /// SHA-256, hexadecimal, of pem(): what a bundle names the key by.
    const std::string& hint() const noexcept { return hint_; }
    /// In 64 columns with a line end, as every tool writes it.
    const std::string& pem() const noexcept { return pem_; }

  private:
    friend class PrivateKey;
    explicit PublicKey(std::shared_ptr<void> key);

    std::shared_ptr<void> key_;  // EVP_PKEY
    std::string pem_;
    std::string hint_;
};

/// P-256: the curve that every verifier of bundles knows.
class PrivateKey {
  public:
    /// PEM, PKCS#8 or SEC1, without a passphrase; or the name of a key in a token
    /// (base/token_key.h). Errors: not_found, refused (others may read the file), invalid (no such
    /// key, encrypted, another curve), those of open_token_key().
    static PrivateKey read(const std::filesystem::path& path);
    static PrivateKey generate();

    /// DER form of ECDSA with SHA-256; another one at every call. Errors: unavailable (a token is
    /// gone).
    std::string sign(std::string_view message) const;
    PublicKey public_key() const { return PublicKey(key_); }

    /// Writes the key (mode 0600) and `path`.pub (0644). Errors: failure (a file exists or cannot
    /// be written).
    void write(const std::filesystem::path& path) const;

  private:
    explicit PrivateKey(std::shared_ptr<void> key) : key_(std::move(key)) {}

    std::shared_ptr<void> key_;  // EVP_PKEY
};

}  // namespace etalon::weights
