// SPDX-License-Identifier: Apache-2.0
// What is sealed opens with the auditor's key and every subject's, and with nothing less; the
// openssl program opens it too.
#include "ledger/seal.h"

#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/internal/files.h"
#include "ledger/payload_store.h"

namespace etalon::ledger {
namespace {

struct Pair {
    explicit Pair(const Folder& folder)
        : certificates(folder.path() / "auditors"), key_path(folder.path() / "auditor.key") {
        made = ensure_local_auditor(certificates, key_path);
        key = read_file(key_path, kBytesMax);
        certificate = read_file(certificates / "local.pem", kBytesMax);
    }
    std::filesystem::path certificates;
    std::filesystem::path key_path;
    bool made = false;
    std::string key;
    std::string certificate;
};

Key key_in(const std::string& content) {
    Key key;
    EXPECT_EQ(content.size(), key.bytes.size());
    std::copy(content.begin(), content.end(), key.bytes.begin());
    return key;
}

TEST(Seal, the_auditor_opens_a_payload) {
    const Folder folder;
    const Pair pair(folder);
    EXPECT_TRUE(pair.made);
    const SealContext context{"log.example", 7};
    const SealedPayload sealed = seal_payload("content", context, Auditors(pair.certificates));
    EXPECT_EQ(sealed.ciphertext.find("content"), std::string::npos);
    const Key key = key_in(open_envelope(sealed.envelope, pair.key, pair.certificate));
    EXPECT_EQ(open_payload(sealed.ciphertext, key, context), "content");
    EXPECT_THROW((void)open_payload(sealed.ciphertext, key, {"log.example", 8}), Error);
    EXPECT_THROW((void)open_payload(sealed.ciphertext, key, {"other.example", 7}), Error);
    EXPECT_THROW((void)open_payload(sealed.ciphertext, Key{}, context), Error);
}

TEST(Seal, a_changed_byte_of_the_ciphertext_is_noticed) {
    const Folder folder;
    const Pair pair(folder);
    const SealedPayload sealed = seal_payload("content", {"log", 1}, Auditors(pair.certificates));
    const Key key = key_in(open_envelope(sealed.envelope, pair.key, pair.certificate));
    for (std::size_t i = 0; i < sealed.ciphertext.size(); ++i) {
        std::string changed = sealed.ciphertext;
        changed[i] = static_cast<char>(changed[i] ^ 4);
        EXPECT_THROW((void)open_payload(changed, key, {"log", 1}), Error) << i;
    }
    for (std::size_t n = 0; n < sealed.ciphertext.size(); ++n)
        EXPECT_THROW((void)open_payload(sealed.ciphertext.substr(0, n), key, {"log", 1}), Error);
}

TEST(Seal, another_auditor_cannot_open) {
    const Folder folder;
    const Folder other_folder;
    const Pair pair(folder);
    const Pair other(other_folder);
    const std::string envelope = Auditors(pair.certificates).envelope("k");
    try {
        (void)open_envelope(envelope, other.key, other.certificate);
        FAIL() << "it opened";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::refused);
    }
}

TEST(Seal, each_of_two_auditors_opens) {
    const Folder folder;
    const Folder other_folder;
    const Pair pair(folder);
    const Pair other(other_folder);
    std::ofstream(pair.certificates / "second.pem") << other.certificate;
    const Auditors auditors(pair.certificates);
    EXPECT_EQ(auditors.hashes().size(), 2U);
    const std::string envelope = auditors.envelope("k");
    EXPECT_EQ(open_envelope(envelope, pair.key, pair.certificate), "k");
    EXPECT_EQ(open_envelope(envelope, other.key, other.certificate), "k");
}

TEST(Seal, the_openssl_program_opens_the_envelope) {
    if (std::system("openssl version >/dev/null 2>&1") != 0) GTEST_SKIP() << "no openssl program";
    const Folder folder;
    const Pair pair(folder);
    const std::string content = "0123456789abcdef0123456789\r\nabcd";
    const auto envelope = folder.path() / "envelope.cms";
    const auto opened = folder.path() / "content";
    std::ofstream(envelope, std::ios::binary) << Auditors(pair.certificates).envelope(content);
    const std::string command = fmt::format(
        "openssl cms -decrypt -binary -inform DER -in '{}' -inkey '{}' -recip '{}' -out '{}'",
        envelope.string(), pair.key_path.string(), (pair.certificates / "local.pem").string(),
        opened.string());
    ASSERT_EQ(std::system(command.c_str()), 0);
    EXPECT_EQ(read_file(opened, kBytesMax), content);
}

TEST(Seal, every_wrap_is_needed_in_its_order) {
    const Subject a{std::string(32, 'a'), random_key()};
    const Subject b{std::string(32, 'b'), random_key()};
    const std::string wrapped = wrap_envelope("envelope", {a, b});
    EXPECT_EQ(unwrap_envelope(wrapped, {a, b}), "envelope");
    EXPECT_THROW((void)unwrap_envelope(wrapped, {b, a}), Error);
    EXPECT_THROW((void)unwrap_envelope(wrapped, {a}), Error);
    EXPECT_NE(unwrap_envelope(wrapped, {b}), "envelope");
    const Subject renamed{std::string(32, 'c'), b.key};
    EXPECT_THROW((void)unwrap_envelope(wrapped, {a, renamed}), Error);
}

TEST(Seal, a_file_that_is_no_certificate_is_refused_by_name) {
    const Folder folder;
    std::ofstream(folder.path() / "wrong.pem") << "hello";
    try {
        const Auditors auditors(folder.path());
        FAIL() << "it was accepted";
    } catch (const Error& error) {
        EXPECT_NE(error.message().find("wrong.pem"), std::string::npos);
    }
}

TEST(Subjects, a_name_keeps_its_key_until_it_is_erased) {
    const Folder folder;
    Subjects subjects(folder.path() / "s");
    const Subject first = subjects.get("tenant:a");
    EXPECT_EQ(subjects.get("tenant:a").id, first.id);
    EXPECT_NE(subjects.get("tenant:b").id, first.id);
    EXPECT_EQ(Subjects(folder.path() / "s").get("tenant:a").key.bytes, first.key.bytes);

    EXPECT_EQ(subjects.begin_erase("tenant:a", "request"), first.id);
    EXPECT_FALSE(subjects.with_ids({first.id}).has_value());
    const auto begun = Subjects(folder.path() / "s").begun_erasures();  // after a crash, say
    ASSERT_EQ(begun.size(), 1U);
    EXPECT_EQ(begun[0].id, first.id);
    EXPECT_EQ(begun[0].basis, "request");
    subjects.end_erase(first.id);
    EXPECT_TRUE(subjects.begun_erasures().empty());
    EXPECT_NE(subjects.get("tenant:a").id, first.id);
    EXPECT_FALSE(subjects.begin_erase("tenant:unknown", "request").has_value());
}

TEST(Subjects, a_name_that_is_used_while_its_erasure_runs_gets_a_new_key) {
    const Folder folder;
    Subjects subjects(folder.path() / "s");
    const Subject first = subjects.get("x");
    (void)subjects.begin_erase("x", "request");
    const Subject second = subjects.get("x");
    EXPECT_NE(second.id, first.id);
    (void)subjects.begun_erasures();
    subjects.end_erase(first.id);
    EXPECT_EQ(subjects.get("x").id, second.id);
}

TEST(Subjects, a_secret_that_others_may_read_is_refused) {
    const Folder folder;
    { const Subjects subjects(folder.path() / "s"); }
    ::chmod((folder.path() / "s" / "secret").c_str(), 0644);
    try {
        const Subjects subjects(folder.path() / "s");
        FAIL() << "it was accepted";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::refused);
    }
}

TEST(PayloadStore, a_payload_comes_back_and_a_cut_one_is_refused) {
    const Folder folder;
    const PayloadStore store(folder.path());
    EXPECT_FALSE(store.get(1234).has_value());
    store.sync({store.write(1234, {"wrapped", std::string("cipher\0text", 11)}),
                store.write(1235, {"", ""})});
    EXPECT_TRUE(store.get(1235)->ciphertext.empty());
    EXPECT_EQ(store.get(1234)->wrapped, "wrapped");
    EXPECT_EQ(store.get(1234)->ciphertext, std::string("cipher\0text", 11));
    const auto path = folder.path() / "0000001" / "1234";
    std::filesystem::resize_file(path, 20);
    EXPECT_THROW((void)store.get(1234), Error);
}

}  // namespace
}  // namespace etalon::ledger
