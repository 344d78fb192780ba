// SPDX-License-Identifier: Apache-2.0
// Sealed payloads, by OpenSSL's CMS.
#include "ledger/seal.h"

#include <algorithm>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/cms.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>

#include "base/error.h"
#include "base/file.h"
#include "base/token_key.h"
#include "ledger/internal/files.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

template <typename T, void (*Free)(T*)>
struct Freed {
    void operator()(T* pointer) const { Free(pointer); }
};
using Bio = std::unique_ptr<BIO, Freed<BIO, BIO_free_all>>;
using Certificate = std::unique_ptr<X509, Freed<X509, X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY, EVP_PKEY_free>>;
using Cms = std::unique_ptr<CMS_ContentInfo, Freed<CMS_ContentInfo, CMS_ContentInfo_free>>;

constexpr int kCertificateDays = 3650;
constexpr int kSerialBits = 127;

Bio bio_of(std::string_view bytes) {
    Bio bio(BIO_new_mem_buf(bytes.data(), static_cast<int>(bytes.size())));
    ETALON_ASSERT(bio);
    return bio;
}

Bio memory_bio() {
    Bio bio(BIO_new(BIO_s_mem()));
    ETALON_ASSERT(bio);
    return bio;
}

std::string text_of(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return {data, static_cast<std::size_t>(size)};
}

std::string der_of(X509* certificate) {
    unsigned char* data = nullptr;
    const int size = i2d_X509(certificate, &data);
    ETALON_ASSERT(size > 0);
    std::string der(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
    OPENSSL_free(data);
    return der;
}

std::string pem_of(X509* certificate) {
    const Bio bio = memory_bio();
    ETALON_ASSERT(PEM_write_bio_X509(bio.get(), certificate) == 1);
    return text_of(bio.get());
}

Certificate parse_certificate(std::string_view pem) {
    const Bio bio = bio_of(pem);
    Certificate certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr));
    ERR_clear_error();
    return certificate;
}

/// The key that this certificate is about, made new. Errors of OpenSSL are ours: asserted.
Certificate self_signed(EVP_PKEY* key) {
    Certificate certificate(X509_new());
    ETALON_ASSERT(certificate);
    X509* x509 = certificate.get();
    BIGNUM* serial = BN_new();
    bool good = X509_set_version(x509, X509_VERSION_3) == 1;
    good = good && BN_rand(serial, kSerialBits, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1;
    good = good && BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(x509)) != nullptr;
    BN_free(serial);
    good = good && X509_time_adj_ex(X509_getm_notBefore(x509), 0, 0, nullptr) != nullptr;
    good =
        good && X509_time_adj_ex(X509_getm_notAfter(x509), kCertificateDays, 0, nullptr) != nullptr;
    good = good && X509_set_pubkey(x509, key) == 1;
    X509_NAME* name = X509_get_subject_name(x509);
    const std::string text = "Etalon local auditor";
    good = good && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                              reinterpret_cast<const unsigned char*>(text.data()),
                                              static_cast<int>(text.size()), -1, 0) == 1;
    good = good && X509_set_issuer_name(x509, name) == 1;
    good = good && X509_sign(x509, key, EVP_sha256()) > 0;
    ETALON_ASSERT(good);
    return certificate;
}

std::string payload_context(const SealContext& context) {
    return fmt::format("etalon/payload/v1\n{}\n{}\n", context.origin, context.intent);
}

std::string wrap_context(const Subject& subject) {
    return fmt::format("etalon/wrap/v1\n{}\n", subject.id);
}

bool has_certificates(const std::filesystem::path& folder) {
    if (!std::filesystem::is_directory(folder)) return false;
    const std::filesystem::directory_iterator files(folder);
    return std::any_of(begin(files), end(files),
                       [](const auto& entry) { return entry.path().extension() == ".pem"; });
}

}  // namespace

struct Auditors::Stack {
    STACK_OF(X509) * certificates = sk_X509_new_null();
    Stack() { ETALON_ASSERT(certificates != nullptr); }
    ~Stack() { sk_X509_pop_free(certificates, X509_free); }
    Stack(const Stack&) = delete;
    Stack& operator=(const Stack&) = delete;
};

Auditors::Auditors(const std::filesystem::path& folder) : stack_(std::make_unique<Stack>()) {
    std::vector<std::pair<std::string, Certificate>> found;
    if (!has_certificates(folder)) {
        throw Error(ExitCode::not_found,
                    fmt::format("{} has no certificate of an auditor", printable(folder.string())),
                    "put the certificate of each auditor there, as NAME.pem");
    }
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        if (entry.path().extension() != ".pem") continue;
        Certificate certificate = parse_certificate(read_file(entry.path(), kPemBytesMax));
        if (!certificate) {
            throw Error(ExitCode::usage,
                        fmt::format("{} is no certificate", printable(entry.path().string())),
                        "a PEM file that begins with -----BEGIN CERTIFICATE-----");
        }
        found.emplace_back(sha256_hex(der_of(certificate.get())), std::move(certificate));
    }
    if (found.size() > kAuditorsMax) {
        throw Error(ExitCode::usage, fmt::format("{} auditors, at most {} are sealed to",
                                                 found.size(), kAuditorsMax));
    }
    std::sort(found.begin(), found.end(),
              [](const auto& a, const auto& b) { return a.first < b.first; });
    for (auto& [hash, certificate] : found) {
        if (!hashes_.empty() && hashes_.back() == hash) continue;  // the same one twice
        hashes_.push_back(hash);
        certificates_.push_back(pem_of(certificate.get()));
        ETALON_ASSERT(sk_X509_push(stack_->certificates, certificate.get()) > 0);
        (void)certificate.release();
    }
    try {
        (void)envelope("trial");
    } catch (const Error&) {
        throw Error(ExitCode::usage, "an auditor's certificate has a key that cannot be sealed to",
                    "keys of RSA and of elliptic curves as P-256 can");
    }
}

Auditors::~Auditors() = default;
Auditors::Auditors(Auditors&&) noexcept = default;
Auditors& Auditors::operator=(Auditors&&) noexcept = default;

std::string Auditors::envelope(std::string_view content) const {
    const Bio in = bio_of(content);
    const Cms cms(CMS_encrypt(stack_->certificates, in.get(), EVP_aes_256_cbc(), CMS_BINARY));
    const Bio out = memory_bio();
    if (!cms || i2d_CMS_bio(out.get(), cms.get()) != 1) {
        ERR_clear_error();
        throw Error(ExitCode::failure, "the key of a payload cannot be sealed");
    }
    return text_of(out.get());
}

bool ensure_local_auditor(const std::filesystem::path& folder,
                          const std::filesystem::path& key_path) {
    make_private_folder(folder);
    if (has_certificates(folder)) return false;
    const PrivateKey key(EVP_EC_gen("P-256"));
    ETALON_ASSERT(key);
    const Bio pem = memory_bio();
    ETALON_ASSERT(
        PEM_write_bio_PrivateKey(pem.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) == 1);
    // The key comes first: a certificate whose key was lost would close every payload for ever.
    if (!write_new_file(key_path, text_of(pem.get()))) {
        throw Error(ExitCode::failure,
                    fmt::format("{} is there, but no certificate of an auditor",
                                printable(key_path.string())),
                    "put the certificate back, or move the key away");
    }
    write_new_file(folder / "local.pem", pem_of(self_signed(key.get()).get()));
    return true;
}

namespace {

/// Null where the PEM is none.
std::shared_ptr<void> open_private_key(std::string_view key) {
    if (is_token_key(key)) return open_token_key(std::string(key));
    const Bio bio = bio_of(key);
    return {PEM_read_bio_PrivateKey(bio.get(), nullptr, nullptr, nullptr),
            [](void* one) { EVP_PKEY_free(static_cast<EVP_PKEY*>(one)); }};
}

}  // namespace

std::string open_envelope(std::string_view envelope, std::string_view key,
                          std::string_view certificate) {
    if (envelope.size() > kEnvelopeBytesMax) {
        throw Error(ExitCode::invalid, "the envelope is too large");
    }
    const std::shared_ptr<void> private_key = open_private_key(key);
    const Certificate x509 = parse_certificate(certificate);
    const Bio in = bio_of(envelope);
    const Cms cms(d2i_CMS_bio(in.get(), nullptr));
    const Bio out = memory_bio();
    ERR_clear_error();
    if (!private_key || !x509) {
        throw Error(ExitCode::usage, "the auditor's key or certificate is not PEM");
    }
    if (!cms) throw Error(ExitCode::invalid, "the envelope is no CMS");
    const int opened = CMS_decrypt(cms.get(), static_cast<EVP_PKEY*>(private_key.get()), x509.get(),
                                   nullptr, out.get(), CMS_BINARY);
    ERR_clear_error();
    if (opened != 1) {
        throw Error(ExitCode::refused, "the envelope does not open with this key");
    }
    return text_of(out.get());
}

SealedPayload seal_payload(std::string_view plaintext, const SealContext& context,
                           const Auditors& auditors) {
    const Key content_key = random_key();
    return {gcm_seal(content_key, payload_context(context), plaintext),
            auditors.envelope(content_key.view())};
}

std::string open_payload(std::string_view ciphertext, const Key& content_key,
                         const SealContext& context) {
    return gcm_open(content_key, payload_context(context), ciphertext);
}

std::string wrap_envelope(std::string envelope, const std::vector<Subject>& subjects) {
    for (const Subject& subject : subjects)
        envelope = gcm_seal(subject.key, wrap_context(subject), envelope);
    return envelope;
}

std::string unwrap_envelope(std::string wrapped, const std::vector<Subject>& subjects) {
    for (auto subject = subjects.rbegin(); subject != subjects.rend(); ++subject)
        wrapped = gcm_open(subject->key, wrap_context(*subject), wrapped);
    return wrapped;
}

}  // namespace etalon::ledger
