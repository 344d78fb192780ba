// SPDX-License-Identifier: Apache-2.0
// HMAC-SHA-256, AES-256-GCM and random bytes, computed by OpenSSL.
#include "ledger/internal/crypto.h"

#include <memory>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "base/error.h"
#include "ledger/json.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

using Cipher = std::unique_ptr<EVP_CIPHER_CTX, decltype(&EVP_CIPHER_CTX_free)>;

unsigned char* bytes_of(std::string& text) {
    return reinterpret_cast<unsigned char*>(text.data());
}
const unsigned char* bytes_of(std::string_view text) {
    return reinterpret_cast<const unsigned char*>(text.data());
}

Cipher make_cipher() {
    Cipher cipher(EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_free);
    ETALON_ASSERT(cipher);
    return cipher;
}

}  // namespace

Key::~Key() {
    OPENSSL_cleanse(bytes.data(), bytes.size());
}

Key random_key() {
    Key key;
    ETALON_ASSERT(RAND_bytes(key.bytes.data(), static_cast<int>(key.bytes.size())) == 1);
    return key;
}

std::string random_id() {
    std::array<std::uint8_t, 16> bytes{};
    ETALON_ASSERT(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
    return to_hex(bytes);
}

Sha256Digest hmac_sha256(const Key& key, std::string_view message) {
    Sha256Digest digest{};
    unsigned int length = 0;
    const auto* done = HMAC(EVP_sha256(), key.bytes.data(), static_cast<int>(key.bytes.size()),
                            bytes_of(message), message.size(), digest.data(), &length);
    ETALON_ASSERT(done != nullptr && length == digest.size());
    return digest;
}

std::string sha256_hex(std::string_view bytes) {
    return to_hex(sha256(std::as_bytes(std::span(bytes))));
}

Key key_of_hex(std::string_view hex) {
    std::optional<Sha256Digest> bytes = digest_from_hex(hex);  // as long as a key
    if (!bytes) throw Error(ExitCode::invalid, "a key is not 64 hexadecimal digits");
    Key key;
    key.bytes = *bytes;
    OPENSSL_cleanse(bytes->data(), bytes->size());
    return key;
}

std::string gcm_seal(const Key& key, std::string_view additional, std::string_view plain) {
    ETALON_ASSERT(plain.size() <= kPayloadBytesMax && additional.size() <= kPayloadBytesMax);
    std::string out(kGcmNonceBytes + plain.size() + kGcmTagBytes, '\0');
    unsigned char* nonce = bytes_of(out);
    ETALON_ASSERT(RAND_bytes(nonce, static_cast<int>(kGcmNonceBytes)) == 1);
    const Cipher cipher = make_cipher();
    int n = 0;
    bool good =
        EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.bytes.data(), nonce) == 1;
    good = good && EVP_EncryptUpdate(cipher.get(), nullptr, &n, bytes_of(additional),
                                     static_cast<int>(additional.size())) == 1;
    good = good && EVP_EncryptUpdate(cipher.get(), nonce + kGcmNonceBytes, &n, bytes_of(plain),
                                     static_cast<int>(plain.size())) == 1;
    unsigned char* tag = nonce + kGcmNonceBytes + plain.size();
    good = good && EVP_EncryptFinal_ex(cipher.get(), tag, &n) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG,
                                       static_cast<int>(kGcmTagBytes), tag) == 1;
    ETALON_ASSERT(good);
    return out;
}

std::string gcm_open(const Key& key, std::string_view additional, std::string_view sealed) {
    const Error wrong(ExitCode::invalid, "sealed bytes do not open with this key");
    if (sealed.size() < kGcmNonceBytes + kGcmTagBytes || sealed.size() > kPayloadBytesMax) {
        throw Error(wrong);
    }
    const std::size_t n_plain = sealed.size() - kGcmNonceBytes - kGcmTagBytes;
    std::string plain(n_plain, '\0');
    std::string tag(sealed.substr(kGcmNonceBytes + n_plain));
    const Cipher cipher = make_cipher();
    int n = 0;
    bool good = EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, key.bytes.data(),
                                   bytes_of(sealed)) == 1;
    good = good && EVP_DecryptUpdate(cipher.get(), nullptr, &n, bytes_of(additional),
                                     static_cast<int>(additional.size())) == 1;
    good = good &&
           EVP_DecryptUpdate(cipher.get(), bytes_of(plain), &n, bytes_of(sealed) + kGcmNonceBytes,
                             static_cast<int>(n_plain)) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG,
                                       static_cast<int>(kGcmTagBytes), tag.data()) == 1;
    std::array<unsigned char, kGcmTagBytes> rest{};
    good = good && EVP_DecryptFinal_ex(cipher.get(), rest.data(), &n) == 1;
    if (!good) throw Error(wrong);
    return plain;
}

}  // namespace etalon::ledger
