// SPDX-License-Identifier: Apache-2.0
// Records of the ledger for people.
#include "cli/record_text.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <variant>

namespace etalon::cli {

namespace {

constexpr std::uint64_t kMicroseconds = 1'000'000;

/// Ids and hashes are told apart by their first digits.
std::string start_of(const std::string& hex) {
    constexpr std::size_t kShown = 12;
    return hex.substr(0, kShown);
}

std::string text_of(const ledger::Boot& boot) {
    return boot.program;
}

std::string text_of(const ledger::Shutdown& /*shutdown*/) {
    return "";
}

std::string text_of(const ledger::ModelLoad& load) {
    return fmt::format("{} {} {}", load.name, start_of(load.model), load.backend);
}

std::string text_of(const ledger::Intent& intent) {
    return fmt::format("request {} model {} prompt {} tokens, {} answers", start_of(intent.request),
                       start_of(intent.model), intent.prompt_tokens, intent.answers);
}

std::string text_of(const ledger::Complete& complete) {
    std::string text = fmt::format("intent {}:", complete.intent);
    for (const auto& answer : complete.answers)
        text += fmt::format(" {} ({} tokens)", answer.finish, answer.tokens);
    return text;
}

std::string text_of(const ledger::Erase& erase) {
    return fmt::format("subject {} ({})", start_of(erase.subject), erase.basis);
}

std::string text_of(const ledger::LogRead& read) {
    return fmt::format("{} of {} to {}", read.what, read.first, read.end);
}

std::string text_of(const ledger::ContentRead& read) {
    return fmt::format("{} of intent {}: {}", read.what, read.intent, read.reason);
}

std::string text_of(const ledger::EraseRefused& refused) {
    return fmt::format("subject {} ({})", start_of(refused.subjects.back()), refused.basis);
}

std::string text_of(const ledger::Configuration& configuration) {
    return fmt::format("{} on {}, {}, sandbox {}, signatures {}, {} rules of retention",
                       start_of(configuration.hash), fmt::join(configuration.listen, " "),
                       configuration.certificate.empty() ? "no TLS" : "TLS", configuration.sandbox,
                       configuration.signatures, configuration.retention.size());
}

std::string text_of(const ledger::ApiKey& key) {
    return fmt::format("{} key {} of tenant {}: {}", key.action, key.key, start_of(key.tenant),
                       key.scopes);
}

std::string text_of(const ledger::Licence& licence) {
    return fmt::format("{} of model {} accepted by {}",
                       licence.licence.empty() ? "licence" : licence.licence,
                       start_of(licence.model), start_of(licence.by));
}

std::string text_of(const ledger::Replay& replay) {
    const std::string verdict = replay.verdict == "both" ? "token and checksum" : replay.verdict;
    std::string text =
        fmt::format("intent {} answer {}: {}", replay.intent, replay.answer, verdict);
    if (replay.verdict != "match" && replay.verdict != "failed") {
        text += fmt::format(" at token {}", replay.position);
    }
    if (!replay.backend.empty()) text += fmt::format(" ({})", replay.backend);
    return text;
}

std::string text_of(const ledger::Review& review) {
    return fmt::format("intent {}: {}, by {}", review.intent, review.verdict, start_of(review.by));
}

std::string text_of(const ledger::LiveCheck& live) {
    return fmt::format("weights of load {}: {}, {}", live.load, live.verdict,
                       start_of(live.digest));
}

std::string text_of(const ledger::Unknown& /*unknown*/) {
    return "";
}

}  // namespace

std::string record_summary(const ledger::Record& record) {
    return std::visit([](const auto& body) { return text_of(body); }, record.body);
}

std::string time_text(std::uint64_t time_us) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}Z",
                       fmt::gmtime(static_cast<std::time_t>(time_us / kMicroseconds)));
}

}  // namespace etalon::cli
