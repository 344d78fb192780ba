// SPDX-License-Identifier: Apache-2.0
// Signed notes over OpenSSL's Ed25519.
#include "tlog/note.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <memory>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "base/base64.h"
#include "base/error.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

constexpr std::string_view kDash = "\u2014 ";  // before each signature
constexpr std::string_view kPrivate = "PRIVATE+KEY+";
constexpr std::size_t kIdBytes = 4;
constexpr std::size_t kTimeBytes = 8;
constexpr std::size_t kSignatureBytes = 64;

using KeyBytes = std::array<std::uint8_t, 32>;
using Pkey = std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)>;
using Context = std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)>;

[[noreturn]] void invalid_note(const std::string& message) {
    throw Error(ExitCode::invalid, message);
}

bool is_name(std::string_view name) {
    if (name.empty() || name.size() > kKeyNameBytesMax || !is_utf8(name)) return false;
    // Unicode spaces are left out by refusing everything that is not ASCII.
    return std::all_of(name.begin(), name.end(),
                       [](unsigned char c) { return c > ' ' && c < 0x7f && c != '+'; });
}

std::string bytes_of(const KeyBytes& key) {
    return {reinterpret_cast<const char*>(key.data()), key.size()};
}

std::uint32_t id_of(std::string_view name, KeyKind kind, const KeyBytes& key) {
    const std::string message = fmt::format("{}\n", name) + static_cast<char>(kind) + bytes_of(key);
    const Sha256Digest digest = sha256(std::as_bytes(std::span(message)));
    return static_cast<std::uint32_t>(
        from_big_endian({reinterpret_cast<const char*>(digest.data()), kIdBytes}));
}

/// What a cosigner signs.
std::string cosigned_message(std::string_view text, std::int64_t time) {
    return fmt::format("cosignature/v1\ntime {}\n{}", time, text);
}

bool is_valid(const KeyBytes& key, std::string_view message, std::string_view signature) {
    if (signature.size() != kSignatureBytes) return false;
    const Pkey pkey(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key.data(), key.size()),
                    EVP_PKEY_free);
    const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    ETALON_ASSERT(context);
    if (!pkey) return false;
    if (EVP_DigestVerifyInit(context.get(), nullptr, nullptr, nullptr, pkey.get()) != 1) {
        return false;
    }
    return EVP_DigestVerify(context.get(), reinterpret_cast<const std::uint8_t*>(signature.data()),
                            signature.size(), reinterpret_cast<const std::uint8_t*>(message.data()),
                            message.size()) == 1;
}

/// "name+1f2e3d4c+base64" in its three parts; the bytes are kind and key.
struct KeyText {
    std::string_view name;
    std::uint32_t id;
    KeyKind kind;
    KeyBytes key;
};

KeyText split_key(std::string_view text) {
    constexpr std::size_t kIdDigits = 2 * kIdBytes;
    const std::size_t first = text.find('+');
    const std::size_t second = first == text.npos ? first : text.find('+', first + 1);
    if (second == text.npos || second - first - 1 != kIdDigits)
        invalid_note("a key has not its form");
    KeyText parts{text.substr(0, first), 0, KeyKind::ed25519, {}};
    if (!is_name(parts.name)) invalid_note("a key's name cannot stand in a note");
    const char* end = text.data() + second;
    const auto [parsed, error] = std::from_chars(text.data() + first + 1, end, parts.id, 16);
    if (error != std::errc() || parsed != end) invalid_note("a key's id is not hexadecimal");
    std::optional<std::string> bytes = from_base64(text.substr(second + 1));
    if (!bytes || bytes->size() != 1 + parts.key.size()) invalid_note("a key has not 33 bytes");
    parts.kind = static_cast<KeyKind>(bytes->front());
    if (parts.kind != KeyKind::ed25519 && parts.kind != KeyKind::cosignature) {
        invalid_note("a key is not of a kind that is known");
    }
    std::copy(bytes->begin() + 1, bytes->end(), parts.key.begin());
    OPENSSL_cleanse(bytes->data(), bytes->size());
    return parts;
}

std::string key_text(std::string_view name, std::uint32_t id, KeyKind kind, const KeyBytes& key) {
    return fmt::format("{}+{:08x}+{}", name, id,
                       to_base64(static_cast<char>(kind) + bytes_of(key)));
}

KeyBytes public_of(const KeyBytes& seed) {
    const Pkey pkey(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed.data(), seed.size()),
        EVP_PKEY_free);
    KeyBytes key{};
    std::size_t size = key.size();
    ETALON_ASSERT(pkey && EVP_PKEY_get_raw_public_key(pkey.get(), key.data(), &size) == 1);
    return key;
}

bool is_note_text(std::string_view text) {
    if (text.empty() || text.back() != '\n' || !is_utf8(text)) return false;
    return std::none_of(text.begin(), text.end(),
                        [](unsigned char c) { return (c < ' ' && c != '\n') || c == 0x7f; });
}

}  // namespace

std::string VerifierKey::text() const {
    return key_text(name, id, kind, key);
}

VerifierKey parse_verifier_key(std::string_view text) {
    const KeyText parts = split_key(text);
    if (parts.id != id_of(parts.name, parts.kind, parts.key))
        invalid_note("a key has another key's id");
    return {std::string(parts.name), parts.id, parts.kind, parts.key};
}

NoteSignature parse_signature_line(std::string_view line) {
    if (line.substr(0, kDash.size()) != kDash || line.back() != '\n') {
        invalid_note("a line of the note is no signature");
    }
    line.remove_prefix(kDash.size());
    line.remove_suffix(1);
    const std::size_t space = line.find(' ');
    if (space == line.npos || !is_name(line.substr(0, space))) {
        invalid_note("a signature of the note has no name");
    }
    const std::optional<std::string> bytes = from_base64(line.substr(space + 1));
    if (!bytes || bytes->size() <= kIdBytes) invalid_note("a signature of the note is no base64");
    return {std::string(line.substr(0, space)),
            static_cast<std::uint32_t>(from_big_endian(bytes->substr(0, kIdBytes))),
            bytes->substr(kIdBytes)};
}

std::string signature_line(const NoteSignature& signature) {
    return fmt::format("{}{} {}\n", kDash, signature.name,
                       to_base64(big_endian(signature.id, kIdBytes) + signature.bytes));
}

Note parse_note(std::string_view bytes, std::size_t bytes_max) {
    if (bytes.size() > bytes_max) invalid_note("the note is too long");
    const std::size_t blank = bytes.rfind("\n\n");
    if (blank == bytes.npos) invalid_note("the note has no signatures");
    Note note;
    note.text = bytes.substr(0, blank + 1);
    if (!is_note_text(note.text)) invalid_note("the note's text has characters that no note has");
    std::string_view rest = bytes.substr(blank + 2);
    while (!rest.empty()) {
        const std::size_t end = rest.find('\n');
        if (end == rest.npos) invalid_note("the note's last line does not end");
        if (note.signatures.size() == kNoteSignaturesMax)
            invalid_note("the note has many signatures");
        NoteSignature signature = parse_signature_line(rest.substr(0, end + 1));
        // Readers differ in which of two counts: what one accepts another would refuse.
        for (const NoteSignature& other : note.signatures) {
            if (other.name == signature.name && other.id == signature.id) {
                invalid_note("the note has two signatures of one key");
            }
        }
        note.signatures.push_back(std::move(signature));
        rest.remove_prefix(end + 1);
    }
    if (note.signatures.empty()) invalid_note("the note has no signatures");
    return note;
}

std::string note_text(const Note& note) {
    ETALON_ASSERT(is_note_text(note.text));
    std::string out = note.text + "\n";
    for (const NoteSignature& signature : note.signatures)
        out += signature_line(signature);
    return out;
}

bool names_signer(const Note& note, const VerifierKey& key) {
    return std::any_of(note.signatures.begin(), note.signatures.end(),
                       [&](const NoteSignature& signature) {
                           return signature.name == key.name && signature.id == key.id;
                       });
}

bool is_signed_by(const Note& note, const VerifierKey& key) {
    if (key.kind != KeyKind::ed25519) return false;
    bool found = false;
    for (const NoteSignature& signature : note.signatures) {
        if (signature.name != key.name || signature.id != key.id) continue;
        if (!is_valid(key.key, note.text, signature.bytes)) return false;
        found = true;
    }
    return found;
}

std::optional<std::int64_t> cosigned_at(const Note& note, const VerifierKey& key) {
    if (key.kind != KeyKind::cosignature) return std::nullopt;
    std::optional<std::int64_t> seen;
    for (const NoteSignature& signature : note.signatures) {
        if (signature.name != key.name || signature.id != key.id) continue;
        if (signature.bytes.size() != kTimeBytes + kSignatureBytes) return std::nullopt;
        const std::uint64_t time = from_big_endian(signature.bytes.substr(0, kTimeBytes));
        if (time > static_cast<std::uint64_t>(INT64_MAX)) return std::nullopt;
        const std::string message = cosigned_message(note.text, static_cast<std::int64_t>(time));
        if (!is_valid(key.key, message, signature.bytes.substr(kTimeBytes))) return std::nullopt;
        seen = static_cast<std::int64_t>(time);
    }
    return seen;
}

SigningKey::SigningKey(std::string_view name, KeyKind kind, const KeyBytes& seed) : seed_(seed) {
    verifier_.name = name;
    verifier_.kind = kind;
    verifier_.key = public_of(seed);
    verifier_.id = id_of(name, kind, verifier_.key);
}

SigningKey::~SigningKey() {
    OPENSSL_cleanse(seed_.data(), seed_.size());
}

SigningKey SigningKey::generate(std::string_view name, KeyKind kind) {
    if (!is_name(name)) {
        throw Error(ExitCode::usage,
                    fmt::format("{} cannot be a key's name", printable(std::string(name))),
                    "names are printable ASCII without spaces and without +");
    }
    KeyBytes seed{};
    ETALON_ASSERT(RAND_priv_bytes(seed.data(), static_cast<int>(seed.size())) == 1);
    SigningKey key(name, kind, seed);
    OPENSSL_cleanse(seed.data(), seed.size());
    return key;
}

SigningKey SigningKey::parse(std::string_view text) {
    if (text.substr(0, kPrivate.size()) != kPrivate) invalid_note("this is no private key");
    KeyText parts = split_key(text.substr(kPrivate.size()));
    SigningKey key(parts.name, parts.kind, parts.key);
    OPENSSL_cleanse(parts.key.data(), parts.key.size());
    if (key.verifier_.id != parts.id) invalid_note("the private key has another key's id");
    return key;
}

std::string SigningKey::text() const {
    return std::string(kPrivate) + key_text(verifier_.name, verifier_.id, verifier_.kind, seed_);
}

std::string SigningKey::signature_of(std::string_view message) const {
    const Pkey pkey(
        EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, seed_.data(), seed_.size()),
        EVP_PKEY_free);
    const Context context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::string signature(kSignatureBytes, '\0');
    std::size_t size = signature.size();
    ETALON_ASSERT(pkey && context);
    ETALON_ASSERT(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, pkey.get()) == 1);
    ETALON_ASSERT(EVP_DigestSign(context.get(), reinterpret_cast<std::uint8_t*>(signature.data()),
                                 &size, reinterpret_cast<const std::uint8_t*>(message.data()),
                                 message.size()) == 1);
    ETALON_ASSERT(size == kSignatureBytes);
    return signature;
}

NoteSignature SigningKey::sign(std::string_view text) const {
    ETALON_ASSERT(verifier_.kind == KeyKind::ed25519 && is_note_text(text));
    return {verifier_.name, verifier_.id, signature_of(text)};
}

NoteSignature SigningKey::cosign(std::string_view text, std::int64_t time) const {
    ETALON_ASSERT(verifier_.kind == KeyKind::cosignature && is_note_text(text) && time >= 0);
    return {verifier_.name, verifier_.id,
            big_endian(static_cast<std::uint64_t>(time), kTimeBytes) +
                signature_of(cosigned_message(text, time))};
}

}  // namespace etalon::tlog
