// SPDX-License-Identifier: Apache-2.0
// Keys of model signatures, by OpenSSL.
#include "weights/signing_key.h"

#include <array>
#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <sys/stat.h>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/token_key.h"

namespace etalon::weights {

namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

EVP_PKEY* raw(const std::shared_ptr<void>& key) {
    return static_cast<EVP_PKEY*>(key.get());
}

std::shared_ptr<void> owned(EVP_PKEY* key) {
    return {key, [](void* one) { EVP_PKEY_free(static_cast<EVP_PKEY*>(one)); }};
}

Bio reader(std::string_view text) {
    Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
    ETALON_ASSERT(bio != nullptr);
    return bio;
}

Bio writer() {
    Bio bio(BIO_new(BIO_s_mem()), &BIO_free);
    ETALON_ASSERT(bio != nullptr);
    return bio;
}

std::string text_of(const Bio& bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &data);
    return {data, static_cast<std::size_t>(size)};
}

/// No passphrase is asked for: a program that waits at a terminal signs nothing at night.
int no_passphrase(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

/// OpenSSL's name of the curve; empty for a key of another kind.
std::string curve_of(EVP_PKEY* key) {
    std::array<char, 64> name{};
    std::size_t length = 0;
    if (EVP_PKEY_is_a(key, "EC") != 1 ||
        EVP_PKEY_get_group_name(key, name.data(), name.size(), &length) != 1) {
        return "";
    }
    return {name.data(), length};
}

const EVP_MD* digest_of(const std::string& curve) {
    if (curve == "prime256v1") return EVP_sha256();
    if (curve == "secp384r1") return EVP_sha384();
    if (curve == "secp521r1") return EVP_sha512();
    return nullptr;
}

[[noreturn]] void refuse_key(const std::string& file, const std::string& why) {
    throw Error(ExitCode::invalid, fmt::format("{}: {}", file, why),
                "etalon sign --new-key FILE makes a pair of keys");
}

void require_private(const std::filesystem::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return;  // reading it says why
    constexpr mode_t kOthers = S_IRWXG | S_IRWXO;
    if ((status.st_mode & kOthers) == 0) return;
    const std::string name = printable(path.string());
    throw Error(ExitCode::refused, fmt::format("{}: others may use this private key", name),
                "chmod 600 " + name);
}

}  // namespace

PublicKey::PublicKey(std::shared_ptr<void> key) : key_(std::move(key)) {
    const Bio bio = writer();
    ETALON_ASSERT(PEM_write_bio_PUBKEY(bio.get(), raw(key_)) == 1);
    pem_ = text_of(bio);
    hint_ = to_hex(sha256(std::as_bytes(std::span(pem_))));
}

PublicKey PublicKey::parse(std::string_view pem, const std::string& file) {
    const std::shared_ptr<void> key =
        owned(PEM_read_bio_PUBKEY(reader(pem).get(), nullptr, nullptr, nullptr));
    if (key == nullptr) refuse_key(file, "holds no public key in PEM");
    if (digest_of(curve_of(raw(key))) == nullptr) {
        refuse_key(file, "is no key on P-256, P-384 or P-521");
    }
    return PublicKey(key);
}

PublicKey PublicKey::read(const std::filesystem::path& path) {
    return parse(read_file(path, kKeyFileBytesMax), printable(path.string()));
}

bool PublicKey::verifies(std::string_view message, std::string_view signature) const {
    const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    const EVP_MD* digest = digest_of(curve_of(raw(key_)));
    ETALON_ASSERT(context != nullptr && digest != nullptr);
    ETALON_ASSERT(EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, raw(key_)) == 1);
    return EVP_DigestVerify(context.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                            signature.size(),
                            reinterpret_cast<const unsigned char*>(message.data()),
                            message.size()) == 1;
}

PrivateKey PrivateKey::read(const std::filesystem::path& path) {
    if (is_token_key(path.string())) {
        const std::shared_ptr<void> key = open_token_key(path.string());
        if (curve_of(raw(key)) != "prime256v1") {
            refuse_key(token_key_text(path.string()), "is no key on P-256");
        }
        return PrivateKey(key);
    }
    require_private(path);
    const std::string pem = read_file(path, kKeyFileBytesMax);
    const std::string name = printable(path.string());
    bool encrypted = false;
    const std::shared_ptr<void> key =
        owned(PEM_read_bio_PrivateKey(reader(pem).get(), nullptr, no_passphrase, &encrypted));
    if (encrypted) refuse_key(name, "is encrypted; a key without a passphrase is needed");
    if (key == nullptr) refuse_key(name, "holds no private key in PEM");
    if (curve_of(raw(key)) != "prime256v1") refuse_key(name, "is no key on P-256");
    return PrivateKey(key);
}

PrivateKey PrivateKey::generate() {
    const std::shared_ptr<void> key = owned(EVP_EC_gen("P-256"));
    ETALON_ASSERT(key != nullptr);
    return PrivateKey(key);
}

std::string PrivateKey::sign(std::string_view message) const {
    const DigestContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
    const auto* bytes = reinterpret_cast<const unsigned char*>(message.data());
    ETALON_ASSERT(context != nullptr);
    std::size_t size = 0;
    std::vector<unsigned char> signature;
    const bool is_ready =
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, raw(key_)) == 1 &&
        EVP_DigestSign(context.get(), nullptr, &size, bytes, message.size()) == 1;
    signature.resize(size);
    if (!is_ready ||
        EVP_DigestSign(context.get(), signature.data(), &size, bytes, message.size()) != 1) {
        throw Error(ExitCode::unavailable, "the key signs nothing any more");
    }
    return {signature.begin(), signature.begin() + static_cast<std::ptrdiff_t>(size)};
}

void PrivateKey::write(const std::filesystem::path& path) const {
    const Bio bio = writer();
    ETALON_ASSERT(PEM_write_bio_PKCS8PrivateKey(bio.get(), raw(key_), nullptr, nullptr, 0, nullptr,
                                                nullptr) == 1);
    constexpr unsigned kMine = S_IRUSR | S_IWUSR;
    std::filesystem::path public_path = path;
    public_path += ".pub";
    write_new_file(path, text_of(bio), kMine);
    write_new_file(public_path, public_key().pem(), kMine | S_IRGRP | S_IROTH);
}

}  // namespace etalon::weights
