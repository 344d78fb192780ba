// SPDX-License-Identifier: Apache-2.0
// Signed notes (C2SP signed-note) with Ed25519 keys: the log's own signatures (type 1) and
// cosignatures of witnesses (type 4, C2SP tlog-cosignature). Text forms of keys are those of
// golang.org/x/mod/sumdb/note.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::tlog {

inline constexpr std::size_t kKeyNameBytesMax = 256;
inline constexpr std::size_t kNoteBytesMax = 1 << 20;
inline constexpr std::size_t kNoteSignaturesMax = 100;

enum class KeyKind : std::uint8_t {
    ed25519 = 1,      ///< signs the note's text
    cosignature = 4,  ///< signs a time and the note's text
};

/// A public key: "name+1f2e3d4c+base64".
struct VerifierKey {
    std::string name;
    std::uint32_t id = 0;  ///< of name, kind and key: computed, never trusted
    KeyKind kind = KeyKind::ed25519;
    std::array<std::uint8_t, 32> key{};

    std::string text() const;
    bool operator==(const VerifierKey&) const = default;
};

/// Errors: invalid (the form, a name with spaces or "+", an id that is not the key's, another
/// kind).
VerifierKey parse_verifier_key(std::string_view text);

struct NoteSignature {
    std::string name;
    std::uint32_t id = 0;
    std::string bytes;  ///< after the key's id
};

/// A text that ends with a line end, and signatures over it.
struct Note {
    std::string text;
    std::vector<NoteSignature> signatures;
};

/// Reads the form only; nothing is verified. Errors: invalid (the form, two signatures of one key).
Note parse_note(std::string_view bytes, std::size_t bytes_max = kNoteBytesMax);
std::string note_text(const Note& note);

/// One line of signature: "— name base64" and a line end. Errors: invalid.
NoteSignature parse_signature_line(std::string_view line);
std::string signature_line(const NoteSignature& signature);

/// Whether the note carries a signature that names this key; it may be wrong.
bool names_signer(const Note& note, const VerifierKey& key);

/// Whether the note carries a signature of this key, and it is right. A wrong one beside a right
/// one is wrong: the answer is false.
bool is_signed_by(const Note& note, const VerifierKey& key);

/// When a cosigner says that it saw the note, in seconds since 1970; nullopt: no valid cosignature
/// of this key.
std::optional<std::int64_t> cosigned_at(const Note& note, const VerifierKey& key);

/// A private key. The bytes are wiped when it goes.
class SigningKey {
  public:
    /// Errors: usage (a name that notes cannot carry).
    static SigningKey generate(std::string_view name, KeyKind kind = KeyKind::ed25519);
    /// Reads text(). Errors: invalid; the message never holds the key.
    static SigningKey parse(std::string_view text);

    ~SigningKey();
    SigningKey(SigningKey&&) noexcept = default;
    SigningKey& operator=(SigningKey&&) noexcept = default;
    SigningKey(const SigningKey&) = delete;
    SigningKey& operator=(const SigningKey&) = delete;

    /// "PRIVATE+KEY+name+1f2e3d4c+base64".
    std::string text() const;
    const VerifierKey& verifier() const noexcept { return verifier_; }

    /// A signature of kind ed25519 over `text`.
    NoteSignature sign(std::string_view text) const;
    /// A signature of kind cosignature: `time` is in seconds since 1970.
    NoteSignature cosign(std::string_view text, std::int64_t time) const;

  private:
    SigningKey(std::string_view name, KeyKind kind, const std::array<std::uint8_t, 32>& seed);
    std::string signature_of(std::string_view message) const;

    std::array<std::uint8_t, 32> seed_{};
    VerifierKey verifier_;
};

}  // namespace etalon::tlog
