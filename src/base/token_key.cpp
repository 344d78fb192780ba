// SPDX-License-Identifier: Apache-2.0
// By an engine: OpenSSL's provider for PKCS#11 is in no Debian before 13.
#include "base/token_key.h"

#include <algorithm>
#include <cctype>
#include <fmt/format.h>
#include <openssl/engine.h>
#include <openssl/err.h>
#include <openssl/ui.h>

#include "base/error.h"

namespace etalon {

namespace {

constexpr std::string_view kScheme = "pkcs11:";
constexpr std::string_view kPin = "pin-value=";
constexpr const char* kHint =
    "install OpenSSL's engine pkcs11 (libengine-pkcs11-openssl) and the token's module; "
    "docs/keys.md";

std::string lower_case(std::string_view text) {
    std::string lower(text);
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return lower;
}

[[noreturn]] void refuse_token(const std::string& name, const std::string& why) {
    // The reasons of OpenSSL may quote the name.
    ERR_clear_error();
    throw Error(ExitCode::unavailable, fmt::format("{}: {}", token_key_text(name), why), kHint);
}

/// For the engine, which asks at the terminal for a PIN that is not named. UI_null() would answer
/// with an empty one, which a token counts as a wrong one.
int refuse_to_answer(UI* ui, UI_STRING*) {
    if (auto* was_asked = static_cast<bool*>(UI_get0_user_data(ui))) *was_asked = true;
    return 0;
}

}  // namespace

bool is_token_key(std::string_view name) {
    return lower_case(name.substr(0, kScheme.size())) == kScheme;
}

bool has_pin(std::string_view name) {
    return lower_case(name).find(kPin) != std::string::npos;
}

std::string token_key_text(std::string_view name) {
    // All behind it: a PIN that was not escaped may hold what ends an attribute.
    const std::size_t pin = lower_case(name).find(kPin);
    if (pin == name.npos) return printable(name);
    return printable(name.substr(0, pin + kPin.size())) + "...";
}

#ifndef OPENSSL_NO_ENGINE

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // of all engines, since OpenSSL 3

std::shared_ptr<void> open_token_key(const std::string& name) {
    if (name.size() > kTokenNameBytesMax) {
        throw Error(ExitCode::usage, fmt::format("the name of a key in a token has {} bytes, at "
                                                 "most {} are accepted",
                                                 name.size(), kTokenNameBytesMax));
    }
    const std::unique_ptr<ENGINE, decltype(&ENGINE_free)> engine(ENGINE_by_id("pkcs11"),
                                                                 &ENGINE_free);
    if (engine == nullptr) refuse_token(name, "OpenSSL has no engine pkcs11");
    // NOTE: it would print the name with the PIN when it finds no key.
    if (ENGINE_ctrl_cmd_string(engine.get(), "QUIET", nullptr, 0) != 1) {
        refuse_token(name, "the engine pkcs11 cannot be kept from printing PINs");
    }
    if (ENGINE_init(engine.get()) != 1) refuse_token(name, "the engine pkcs11 does not start");
    const std::unique_ptr<UI_METHOD, decltype(&UI_destroy_method)> nobody(
        UI_create_method("nobody"), &UI_destroy_method);
    ETALON_ASSERT(nobody != nullptr && UI_method_set_reader(nobody.get(), refuse_to_answer) == 0);
    bool was_asked = false;
    EVP_PKEY* key = ENGINE_load_private_key(engine.get(), name.c_str(), nobody.get(), &was_asked);
    ENGINE_finish(engine.get());
    if (key == nullptr) {
        refuse_token(name, was_asked ? "the name has no PIN" : "no such key, or another PIN");
    }
    return {key, [](void* one) { EVP_PKEY_free(static_cast<EVP_PKEY*>(one)); }};
}

#pragma GCC diagnostic pop

#else

std::shared_ptr<void> open_token_key(const std::string& name) {
    refuse_token(name, "this OpenSSL has no engines");
}

#endif

}  // namespace etalon
