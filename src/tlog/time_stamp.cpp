// SPDX-License-Identifier: Apache-2.0
// Time stamps (RFC 3161) over OpenSSL's TS.
#include "tlog/time_stamp.h"

#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <memory>
#include <openssl/bn.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <utility>

#include "base/error.h"
#include "base/sha256.h"

namespace etalon::tlog {

namespace {

constexpr int kNonceBits = 64;
constexpr int kOidCharsMax = 256;

template <auto free>
struct Free {
    template <typename T>
    void operator()(T* object) const {
        free(object);
    }
};
using Request = std::unique_ptr<TS_REQ, Free<TS_REQ_free>>;
using Response = std::unique_ptr<TS_RESP, Free<TS_RESP_free>>;
using Imprint = std::unique_ptr<TS_MSG_IMPRINT, Free<TS_MSG_IMPRINT_free>>;
using Algorithm = std::unique_ptr<X509_ALGOR, Free<X509_ALGOR_free>>;
using Number = std::unique_ptr<BIGNUM, Free<BN_free>>;
using Integer = std::unique_ptr<ASN1_INTEGER, Free<ASN1_INTEGER_free>>;
using Object = std::unique_ptr<ASN1_OBJECT, Free<ASN1_OBJECT_free>>;
using Check = std::unique_ptr<TS_VERIFY_CTX, Free<TS_VERIFY_CTX_free>>;
using Store = std::unique_ptr<X509_STORE, Free<X509_STORE_free>>;
using Source = std::unique_ptr<BIO, Free<BIO_free>>;
using Certificate = std::unique_ptr<X509, Free<X509_free>>;

[[noreturn]] void refuse(std::string_view why) {
    throw Error(ExitCode::invalid, fmt::format("time stamp: {}", why));
}

/// What OpenSSL said first, which is the cause, with its detail; the queue is empty behind it.
std::string first_reason() {
    const char* data = nullptr;
    int flags = 0;
    const unsigned long code = ERR_get_error_all(nullptr, nullptr, nullptr, &data, &flags);
    const char* reason = ERR_reason_error_string(code);
    std::string text = reason == nullptr ? "it does not hold" : reason;
    if (data != nullptr && (flags & ERR_TXT_STRING) != 0 && *data != '\0') {
        text += fmt::format(" ({})", printable(data));  // parts of it are the authority's words
    }
    ERR_clear_error();
    return text;
}

Request make_request(std::string_view data) {
    Request request(TS_REQ_new());
    const Imprint imprint(TS_MSG_IMPRINT_new());
    const Algorithm algorithm(X509_ALGOR_new());
    ETALON_ASSERT(request && imprint && algorithm);
    Sha256Digest digest = sha256(std::as_bytes(std::span(data)));
    const bool good =
        X509_ALGOR_set0(algorithm.get(), OBJ_nid2obj(NID_sha256), V_ASN1_NULL, nullptr) == 1 &&
        TS_MSG_IMPRINT_set_algo(imprint.get(), algorithm.get()) == 1 &&
        TS_MSG_IMPRINT_set_msg(imprint.get(), digest.data(), static_cast<int>(digest.size())) ==
            1 &&
        TS_REQ_set_version(request.get(), 1) == 1 &&
        TS_REQ_set_msg_imprint(request.get(), imprint.get()) == 1;
    ETALON_ASSERT(good);
    return request;
}

struct Trust {
    Store store{X509_STORE_new()};
    STACK_OF(X509) * certificates = sk_X509_new_null();  // for a stamp that holds none

    explicit Trust(std::string_view pem) {
        ETALON_ASSERT(store && certificates != nullptr);
        if (pem.size() > kCertificatesBytesMax) {
            throw Error(ExitCode::usage,
                        "the certificates of the time stamping authority are "
                        "larger than any are");
        }
        const Source source(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
        while (X509* read = PEM_read_bio_X509(source.get(), nullptr, nullptr, nullptr)) {
            const Certificate certificate(read);
            (void)X509_STORE_add_cert(store.get(), read);
            if (X509_up_ref(read) == 1) sk_X509_push(certificates, read);
        }
        ERR_clear_error();  // the end of the file is one
        if (sk_X509_num(certificates) > 0) return;
        sk_X509_free(certificates);
        throw Error(ExitCode::usage,
                    "there is no certificate of a time stamping authority (PEM) in it");
    }
    ~Trust() {
        if (certificates != nullptr) sk_X509_pop_free(certificates, X509_free);
    }
    Trust(const Trust&) = delete;
    Trust& operator=(const Trust&) = delete;
};

std::int64_t time_of(const TS_TST_INFO* info) {
    std::tm time{};
    const ASN1_GENERALIZEDTIME* stamped = TS_TST_INFO_get_time(info);
    if (stamped == nullptr || ASN1_TIME_to_tm(stamped, &time) != 1) refuse("its time is none");
    return static_cast<std::int64_t>(::timegm(&time));
}

std::string policy_of(TS_TST_INFO* info) {
    char text[kOidCharsMax] = "";
    (void)OBJ_obj2txt(text, sizeof text, TS_TST_INFO_get_policy_id(info), 1);
    return text;
}

TimeStamp check(TS_REQ* request, std::string_view response, std::string_view certificates) {
    ERR_clear_error();
    if (response.size() > kTimeStampBytesMax) {
        refuse(fmt::format("the answer has {} bytes, more than {}", response.size(),
                           kTimeStampBytesMax));
    }
    const auto* begin = reinterpret_cast<const unsigned char*>(response.data());
    const auto* next = begin;
    const Response parsed(d2i_TS_RESP(nullptr, &next, static_cast<long>(response.size())));
    const bool is_whole = parsed && next == begin + response.size();
    if (!is_whole) refuse("the answer is no DER of a time stamp");
    Trust trust(certificates);
    const Check context(TS_REQ_to_TS_VERIFY_CTX(request, nullptr));
    ETALON_ASSERT(context);
    (void)TS_VERIFY_CTX_add_flags(context.get(), TS_VFY_SIGNATURE);
    // A certificate that was given is trusted as it is, with or without who signed it.
    (void)X509_STORE_set_flags(trust.store.get(), X509_V_FLAG_PARTIAL_CHAIN);
    TS_TST_INFO* info = TS_RESP_get_tst_info(parsed.get());
    if (info != nullptr) {
        X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(trust.store.get()), time_of(info));
    }
    // Both are the context's from here on.
    (void)TS_VERIFY_CTX_set_store(context.get(), trust.store.release());
    (void)TS_VERIFY_CTX_set_certs(context.get(), std::exchange(trust.certificates, nullptr));
    if (TS_RESP_verify_response(context.get(), parsed.get()) != 1) refuse(first_reason());
    ERR_clear_error();
    return {time_of(info), policy_of(info)};
}

}  // namespace

std::string time_stamp_request(std::string_view data, const std::string& policy) {
    const Request request = make_request(data);
    const Number number(BN_new());
    ETALON_ASSERT(number && BN_rand(number.get(), kNonceBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY));
    const Integer nonce(BN_to_ASN1_INTEGER(number.get(), nullptr));
    ETALON_ASSERT(nonce && TS_REQ_set_nonce(request.get(), nonce.get()) == 1);
    ETALON_ASSERT(TS_REQ_set_cert_req(request.get(), 1) == 1);
    if (!policy.empty()) {
        const Object object(OBJ_txt2obj(policy.c_str(), 1));
        ERR_clear_error();
        if (!object) {
            throw Error(ExitCode::usage,
                        fmt::format("{} is no object identifier", printable(policy)),
                        "as in 1.2.3.4");
        }
        ETALON_ASSERT(TS_REQ_set_policy_id(request.get(), object.get()) == 1);
    }
    unsigned char* der = nullptr;
    const int size = i2d_TS_REQ(request.get(), &der);
    ETALON_ASSERT(size > 0);
    std::string bytes(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
    OPENSSL_free(der);
    return bytes;
}

TimeStamp open_time_stamp(std::string_view request, std::string_view response,
                          std::string_view certificates) {
    const auto* next = reinterpret_cast<const unsigned char*>(request.data());
    const Request parsed(d2i_TS_REQ(nullptr, &next, static_cast<long>(request.size())));
    ETALON_ASSERT(parsed);  // it is our own
    return check(parsed.get(), response, certificates);
}

void check_time_stamp_certificates(std::string_view certificates) {
    const Trust trust(certificates);
}

TimeStamp verify_time_stamp(std::string_view data, std::string_view response,
                            std::string_view certificates) {
    return check(make_request(data).get(), response, certificates);
}

std::string time_stamp_text(const TimeStamp& stamp) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(static_cast<std::time_t>(stamp.time)));
}

}  // namespace etalon::tlog
