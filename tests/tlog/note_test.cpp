// SPDX-License-Identifier: Apache-2.0
// Notes and keys: the example of golang.org/x/mod/sumdb/note, and what is no note.
#include "tlog/note.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "base/error.h"

namespace etalon::tlog {
namespace {

constexpr const char* kPrivate =
    "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
constexpr const char* kPublic =
    "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
constexpr const char* kText =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n";
constexpr const char* kSigned =
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
    "\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdng"
    "otpRZb6KE6RyyBwJnAM=\n";

Note signed_note(const SigningKey& key, const std::string& text) {
    return {text, {key.sign(text)}};
}

TEST(Note, the_example_of_another_implementation) {
    const SigningKey key = SigningKey::parse(kPrivate);
    EXPECT_EQ(key.text(), kPrivate);
    EXPECT_EQ(key.verifier().text(), kPublic);
    EXPECT_EQ(parse_verifier_key(kPublic), key.verifier());
    EXPECT_EQ(note_text(signed_note(key, kText)), kSigned);
    const Note note = parse_note(kSigned);
    EXPECT_EQ(note.text, kText);
    EXPECT_TRUE(is_signed_by(note, key.verifier()));
}

TEST(Note, every_changed_byte_is_found) {
    const VerifierKey key = parse_verifier_key(kPublic);
    const std::string bytes = kSigned;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        for (const int bit : {0, 3, 5}) {
            std::string changed = bytes;
            changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
            bool valid = false;
            try {
                valid = is_signed_by(parse_note(changed), key);
            } catch (const Error&) {
                // no note at all
            }
            EXPECT_FALSE(valid) << "byte " << i << ", bit " << bit;
        }
    }
}

TEST(Note, a_wrong_signature_beside_a_right_one_is_wrong) {
    const SigningKey key = SigningKey::parse(kPrivate);
    Note note = signed_note(key, kText);
    note.signatures.push_back(note.signatures.front());
    EXPECT_TRUE(is_signed_by(note, key.verifier()));
    note.signatures.back().bytes[0] ^= 1;
    EXPECT_FALSE(is_signed_by(note, key.verifier()));
}

TEST(Note, signatures_of_others_do_not_count) {
    const SigningKey key = SigningKey::generate("log.example/a");
    const SigningKey other = SigningKey::generate("log.example/a");
    EXPECT_NE(key.verifier().id, other.verifier().id);
    const Note note = signed_note(key, kText);
    EXPECT_TRUE(is_signed_by(note, key.verifier()));
    EXPECT_FALSE(is_signed_by(note, other.verifier()));
}

TEST(Note, cosignatures_carry_a_time) {
    const SigningKey witness = SigningKey::generate("witness.example/w", KeyKind::cosignature);
    Note note{kText, {witness.cosign(kText, 1234567890)}};
    EXPECT_EQ(cosigned_at(note, witness.verifier()), 1234567890);
    EXPECT_FALSE(is_signed_by(note, witness.verifier()));
    note = parse_note(note_text(note));
    EXPECT_EQ(cosigned_at(note, witness.verifier()), 1234567890);
    note.signatures[0].bytes[7] ^= 1;  // the time
    EXPECT_EQ(cosigned_at(note, witness.verifier()), std::nullopt);
}

TEST(Note, keys_come_back_from_their_text) {
    for (const KeyKind kind : {KeyKind::ed25519, KeyKind::cosignature}) {
        const SigningKey key = SigningKey::generate("etalon.example/x", kind);
        EXPECT_EQ(SigningKey::parse(key.text()).verifier(), key.verifier());
        EXPECT_EQ(parse_verifier_key(key.verifier().text()), key.verifier());
    }
}

TEST(Note, names_that_notes_cannot_carry) {
    for (const char* name : {"", "a b", "a+b", "a\nb", "\u2003", "caf\u00e9"})
        EXPECT_THROW(SigningKey::generate(name), Error) << name;
}

TEST(Note, what_is_no_key) {
    for (const char* text :
         {"", "a", "a+b", "a+00000000+",
          "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/"
          "LDE4izWy10TW",
          "PeterNeuman+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
          "PeterNeumann+c74f20a3+Ahpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
          "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10T="}) {
        EXPECT_THROW(parse_verifier_key(text), Error) << text;
        EXPECT_THROW(SigningKey::parse(std::string("PRIVATE+KEY+") + text), Error) << text;
    }
    EXPECT_THROW(SigningKey::parse(kPublic), Error);
}

TEST(Note, what_is_no_note) {
    const std::string line = "\u2014 a AAAAAAE=\n";
    EXPECT_NO_THROW(parse_note("text\n\n" + line));
    for (const std::string& bytes :
         {std::string(), std::string("text\n"), std::string("text\n\n"), "text\n" + line,
          "te\txt\n\n" + line, "te\xffxt\n\n" + line, "text\n\n" + line + "x",
          std::string("text\n\n\u2014 a AAAAAA==\n"), std::string("text\n\n- a AAAAAAE=\n"),
          std::string("text\n\n\u2014  AAAAAAE=\n"), std::string("text\n\n\u2014 a\n"),
          "text\n\n" + line + "\u2014 a AAAAAAI=\n"}) {  // the same name and id
        EXPECT_THROW(parse_note(bytes), Error) << bytes;
    }
    std::string many = "text\n\n";
    for (std::size_t i = 0; i < kNoteSignaturesMax; ++i)
        many += fmt::format("\u2014 a{} AAAAAAE=\n", i);
    EXPECT_NO_THROW(parse_note(many));
    EXPECT_THROW(parse_note(many + line), Error);
    EXPECT_NO_THROW(parse_note("text\n\n" + line, 5 + 1 + line.size()));
    EXPECT_THROW(parse_note("text\n\n" + line, 5 + line.size()), Error);
}

TEST(Note, texts_of_all_kinds_are_signed) {
    const SigningKey key = SigningKey::generate("k");
    rc::check([&](const std::vector<std::uint8_t>& bytes) {
        std::string text;
        for (const std::uint8_t byte : bytes)
            text += static_cast<char>(byte % 8 == 0 ? '\n' : ' ' + byte % 95);
        text += "\n";
        const Note note = parse_note(note_text(signed_note(key, text)));
        RC_ASSERT(note.text == text);
        RC_ASSERT(is_signed_by(note, key.verifier()));
    });
}

}  // namespace
}  // namespace etalon::tlog
