// SPDX-License-Identifier: Apache-2.0
// Stored payloads of any content, subjects and auditors: they open as they were sealed; changed or
// cut off at any byte, they do not open. An erasure that is killed at any moment ends in order.
#include <chrono>
#include <csignal>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <rapidcheck/gtest.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/payload_store.h"
#include "ledger/retention.h"
#include "ledger/seal.h"
#include "ledger/subjects.h"

namespace etalon::ledger {
namespace {

/// An auditor with a key of RSA or of an elliptic curve; the pair's PEM files in the folder.
struct Auditor {
    std::string key;
    std::string certificate;

    Auditor(const std::filesystem::path& folder, const std::string& name, EVP_PKEY* pair) {
        X509* x509 = X509_new();
        X509_set_version(x509, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
        X509_gmtime_adj(X509_getm_notBefore(x509), 0);
        X509_gmtime_adj(X509_getm_notAfter(x509), 1000);
        X509_set_pubkey(x509, pair);
        X509_NAME_add_entry_by_txt(X509_get_subject_name(x509), "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        X509_set_issuer_name(x509, X509_get_subject_name(x509));
        X509_sign(x509, pair, EVP_sha256());
        certificate = text_of([&](BIO* bio) { PEM_write_bio_X509(bio, x509); });
        key = text_of([&](BIO* bio) {
            PEM_write_bio_PrivateKey(bio, pair, nullptr, nullptr, 0, nullptr, nullptr);
        });
        X509_free(x509);
        EVP_PKEY_free(pair);
        std::ofstream(folder / (name + ".pem")) << certificate;
    }
    template <typename Write>
    static std::string text_of(Write write) {
        BIO* bio = BIO_new(BIO_s_mem());
        write(bio);
        char* data = nullptr;
        const long size = BIO_get_mem_data(bio, &data);
        std::string text(data, static_cast<std::size_t>(size));
        BIO_free(bio);
        return text;
    }
};

/// RSA, P-256 and P-384: made once, for making takes long.
struct Panel {
    Panel() {
        std::filesystem::create_directory(folder.path() / "auditors");
        const auto place = folder.path() / "auditors";
        auditors.emplace_back(place, "rsa", EVP_RSA_gen(2048));
        auditors.emplace_back(place, "p256", EVP_EC_gen("P-256"));
        auditors.emplace_back(place, "p384", EVP_EC_gen("P-384"));
    }
    Folder folder;
    std::vector<Auditor> auditors;
    std::string file = (folder.path() / "stored").string();
};
const Panel& panel() {
    static const Panel all;
    return all;
}

/// The plaintext in a stored file. Errors: whatever keeps it closed.
std::string open_stored(std::string_view file, const std::vector<Subject>& subjects,
                        const Auditor& auditor, const SealContext& context) {
    const StoredPayload stored = parse_stored_payload(file);
    const std::string envelope = unwrap_envelope(stored.wrapped, subjects);
    const std::string content_key = open_envelope(envelope, auditor.key, auditor.certificate);
    Key key;
    if (content_key.size() != key.bytes.size()) throw Error(ExitCode::invalid, "no content key");
    std::copy(content_key.begin(), content_key.end(), key.bytes.begin());
    return open_payload(stored.ciphertext, key, context);
}

/// The file that the store writes for it.
std::string stored_file(const std::string& content, const std::vector<Subject>& subjects,
                        const SealContext& context) {
    const Folder folder;
    const SealedPayload sealed =
        seal_payload(content, context, Auditors(panel().folder.path() / "auditors"));
    const auto path =
        PayloadStore(folder.path())
            .write(context.intent, {wrap_envelope(sealed.envelope, subjects), sealed.ciphertext});
    return read_file(path, kBytesMax);
}

std::vector<Subject> some_subjects(std::size_t n) {
    std::vector<Subject> subjects;
    for (std::size_t i = 0; i < n; ++i)
        subjects.push_back({random_id(), random_key()});
    return subjects;
}

bool is_refused(std::string_view file, const std::vector<Subject>& subjects,
                const SealContext& context) {
    try {
        (void)open_stored(file, subjects, panel().auditors[1], context);
    } catch (const Error&) {
        return true;
    }
    return false;
}

RC_GTEST_PROP(Sealed, opens_as_it_was_sealed_for_each_auditor_and_lacks_no_subject,
              (const std::string& content)) {
    const auto subjects = some_subjects(*rc::gen::inRange<std::size_t>(1, 6));
    const SealContext context{"log.example/" + random_id(),
                              *rc::gen::inRange<std::uint64_t>(0, 99)};
    const std::string file = stored_file(content, subjects, context);
    for (const Auditor& auditor : panel().auditors)
        RC_ASSERT(open_stored(file, subjects, auditor, context) == content);
    for (std::size_t missing = 0; missing < subjects.size(); ++missing) {
        auto others = subjects;
        others.erase(others.begin() + static_cast<std::ptrdiff_t>(missing));
        RC_ASSERT(is_refused(file, others, context));
        others = subjects;
        others[missing].key = random_key();
        RC_ASSERT(is_refused(file, others, context));
    }
}

TEST(Sealed, any_changed_byte_is_refused) {
    const auto subjects = some_subjects(2);
    const SealContext context{"log.example", 7};
    const std::string file = stored_file("what the patient said", subjects, context);
    ASSERT_FALSE(is_refused(file, subjects, context));
    for (std::size_t i = 0; i < file.size(); ++i) {
        std::string changed = file;
        changed[i] = static_cast<char>(changed[i] ^ (1 << (i % 8)));
        EXPECT_TRUE(is_refused(changed, subjects, context)) << "byte " << i;
    }
}

TEST(Sealed, a_file_that_a_crash_cut_off_at_any_byte_is_refused) {
    const auto subjects = some_subjects(1);
    const SealContext context{"log.example", 7};
    const std::string file = stored_file("what the patient said", subjects, context);
    for (std::size_t n = 0; n < file.size(); ++n) {
        EXPECT_TRUE(is_refused(std::string_view(file).substr(0, n), subjects, context)) << n;
        // A file system may give the size first and the content later: zeros.
        const std::string zeros = file.substr(0, n) + std::string(file.size() - n, '\0');
        EXPECT_TRUE(zeros == file || is_refused(zeros, subjects, context)) << n;
    }
}

TEST(Sealed, hostile_files_are_refused) {
    for (const char* text :
         {"", "\n", "etalon-sealed/v1 \n", "etalon-sealed/v1 1\n", "etalon-sealed/v1 -1\nx",
          "etalon-sealed/v1 18446744073709551615\nx", "etalon-sealed/v1 18446744073709551616\nx",
          "etalon-sealed/v1 1x\nx", "etalon-sealed/v2 1\nx", "etalon-sealed/v1 0x1\nx"}) {
        try {
            (void)parse_stored_payload(text);
            FAIL() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
        }
    }
}

/// A child erases anna and is killed after `delay`; true when it had ended before.
bool erase_and_kill(const LedgerOptions& options, std::chrono::microseconds delay) {
    const pid_t child = ::fork();
    if (child == 0) {
        try {
            (void)erase_on_request(options, {"default", "anna", "killed"}, {}, 1);
        } catch (const Error&) {
            ::_exit(1);
        }
        ::_exit(0);
    }
    std::this_thread::sleep_for(delay);
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status);
}

TEST(Erasure, killed_at_any_moment_ends_in_order) {
    int n_killed = 0;
    int n_kept = 0;
    for (int i = 0; i < 60; ++i) {
        const Folder folder;
        const LedgerOptions options = options_in(folder);
        const std::string anna = named_subject("default", "anna");
        std::string id;
        {
            Ledger ledger(options);
            RequestIntent request = some_request(ledger.model_loaded(some_model()));
            request.subjects = {"anna"};
            (void)ledger.begin_now(request);
            id = Subjects(options.folder / "keys" / "subjects").find(anna)->id;
        }
        if (!erase_and_kill(options, std::chrono::microseconds(i * 150))) ++n_killed;
        { const Ledger ledger(options); }  // what was begun is ended as it opens
        Subjects subjects(options.folder / "keys" / "subjects");
        const auto journal = subjects.journal().read();
        const auto key = options.folder / "keys" / "subjects" / "ids" / id;
        if (subjects.find(anna).has_value()) {
            ++n_kept;
            EXPECT_EQ(subjects.find(anna)->id, id);
            EXPECT_TRUE(journal.empty());
            continue;
        }
        EXPECT_FALSE(std::filesystem::exists(key));
        ASSERT_EQ(journal.size(), 1U);
        EXPECT_EQ(journal[0].id, id);
        EXPECT_EQ(journal[0].reason, "killed");
        EXPECT_TRUE(subjects.begun_erasures().empty());
        EXPECT_NE(subjects.get(anna).id, id);
    }
    // On any machine the first is killed before it could begin.
    EXPECT_GE(n_killed, 1);
    EXPECT_GE(n_kept, 1);
}

}  // namespace
}  // namespace etalon::ledger
