// SPDX-License-Identifier: Apache-2.0
// Records to canonical JSON and back.
#include "ledger/record.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "ledger/json.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

constexpr std::uint64_t kRecordVersion = 1;
/// In the order of Body.
constexpr std::array<std::string_view, 15> kKinds = {
    "boot",  "shutdown", "model_load",   "intent",        "complete",
    "erase", "log_read", "content_read", "erase_refused", "configuration",
    "key",   "licence",  "replay",       "review",        "live"};
static_assert(std::variant_size_v<Body> == kKinds.size() + 1);
constexpr std::array<std::string_view, 4> kFinishes = {"stop", "length", "cancelled", "error"};
constexpr std::array<std::string_view, 2> kBases = {"request", "retention"};
constexpr std::array<std::string_view, 2> kRefusals = {"hold", "minimum"};
constexpr std::array<std::string_view, 3> kUses = {"open", "replay", "stored"};
constexpr std::array<std::string_view, 2> kSandboxes = {"best-effort", "strict"};
constexpr std::array<std::string_view, 3> kSignatures = {"always", "changed", "none"};
constexpr std::array<std::string_view, 3> kKeyActions = {"changed", "created", "revoked"};
constexpr std::array<std::string_view, 6> kReplayVerdicts = {"both",   "checksum", "end",
                                                             "failed", "match",    "token"};
constexpr std::array<std::string_view, 3> kLiveVerdicts = {"changed", "first", "same"};
constexpr std::array<std::string_view, 2> kReviewVerdicts = {"objection", "ok"};

/// --- writing ---

void put(Members& out, const Boot& boot) {
    out.add("auditors", boot.auditors).add("program", boot.program);
}

void put(Members& /*out*/, const Shutdown& /*shutdown*/) {}

void put(Members& out, const ModelLoad& load) {
    out.add("architecture", load.architecture)
        .add("arithmetic", load.arithmetic)
        .add("backend", load.backend)
        .add("context_tokens", load.context_tokens)
        .add("model", load.model)
        .add("name", load.name)
        .add("vocab_size", load.vocab_size);
}

void put(Members& out, const Intent& intent) {
    out.add("answers", intent.answers)
        .add("body", intent.body)
        .add("load", intent.load)
        .add("max_tokens", intent.max_tokens)
        .add("model", intent.model)
        .add("part", intent.part)
        .add("parts", intent.parts)
        .add("prompt", intent.prompt)
        .add("prompt_tokens", intent.prompt_tokens)
        .add("request", intent.request)
        .add("sampling", intent.sampling)
        .add("subjects", intent.subjects)
        .add("tenant", intent.tenant);
}

void put(Members& out, const Complete& complete) {
    std::vector<std::string> answers;
    for (const Complete::Answer& answer : complete.answers) {
        answers.push_back(Members()
                              .add("digest", answer.digest)
                              .add("finish", answer.finish)
                              .add("payload", answer.payload)
                              .add("text", answer.text)
                              .add("tokens", answer.tokens)
                              .text());
    }
    out.add_json("answers", json_array(answers))
        .add("intent", complete.intent)
        .add_json("payload", Members()
                                 .add("bytes", complete.payload_bytes)
                                 .add("ciphertext", complete.payload_ciphertext)
                                 .add("envelope", complete.payload_envelope)
                                 .text())
        .add("request", complete.request);
}

void put(Members& out, const Erase& erase) {
    out.add("basis", erase.basis).add("subject", erase.subject);
}

void put(Members& out, const LogRead& read) {
    out.add("end", read.end).add("first", read.first).add("what", read.what);
}

void put(Members& out, const ContentRead& read) {
    out.add("intent", read.intent).add("reason", read.reason).add("what", read.what);
}

void put(Members& out, const EraseRefused& refused) {
    out.add("basis", refused.basis).add("subjects", refused.subjects);
}

void put(Members& out, const Configuration& configuration) {
    std::vector<std::string> rules;
    for (const Configuration::Rule& rule : configuration.retention) {
        rules.push_back(Members()
                            .add("max_days", rule.max_days)
                            .add("min_days", rule.min_days)
                            .add("tenant", rule.tenant)
                            .text());
    }
    out.add("certificate", configuration.certificate)
        .add("hash", configuration.hash)
        .add("listen", configuration.listen)
        .add_json("retention", json_array(rules))
        .add("sandbox", configuration.sandbox)
        .add("signatures", configuration.signatures);
}

void put(Members& out, const ApiKey& key) {
    out.add("action", key.action)
        .add("key", key.key)
        .add("scopes", key.scopes)
        .add("tenant", key.tenant);
}

void put(Members& out, const Licence& licence) {
    out.add("by", licence.by)
        .add("licence", licence.licence)
        .add("model", licence.model)
        .add("text", licence.text);
}

void put(Members& out, const Replay& replay) {
    out.add("answer", replay.answer)
        .add("backend", replay.backend)
        .add("intent", replay.intent)
        .add("position", replay.position)
        .add("verdict", replay.verdict);
}

void put(Members& out, const Review& review) {
    out.add("by", review.by)
        .add("intent", review.intent)
        .add("note", review.note)
        .add("verdict", review.verdict);
}

void put(Members& out, const LiveCheck& live) {
    out.add("digest", live.digest)
        .add("load", live.load)
        .add("nonce", live.nonce)
        .add("verdict", live.verdict);
}

void put(Members& /*out*/, const Unknown& /*unknown*/) {
    ETALON_ASSERT(false);  // this program writes what it knows
}

/// --- reading ---

/// A text out of `accepted`.
template <std::size_t N>
std::string one_of(Taker& taker, std::string_view name,
                   const std::array<std::string_view, N>& accepted) {
    const std::string& text = taker.text(name);
    if (std::find(accepted.begin(), accepted.end(), text) == accepted.end()) {
        taker.refuse(name, "is not one of the known words");
    }
    return text;
}

std::vector<std::string> hex_list(Taker& taker, std::string_view name, std::size_t n_digits,
                                  std::size_t size_max) {
    std::vector<std::string> list;
    for (const Value& value : taker.array(name)) {
        const auto* text = std::get_if<std::string>(&value.content);
        if (text == nullptr || !is_hex(*text, n_digits)) taker.refuse(name, "holds no hex digits");
        list.push_back(*text);
    }
    if (list.empty() || list.size() > size_max) taker.refuse(name, "has too few or too many");
    return list;
}

Body read_boot(Taker& taker) {
    Boot boot;
    boot.auditors = hex_list(taker, "auditors", kHashDigits, kAuditorsMax);
    const auto& hashes = boot.auditors;
    if (std::adjacent_find(hashes.begin(), hashes.end(), std::greater_equal<>()) != hashes.end()) {
        taker.refuse("auditors", "is not ascending");
    }
    boot.program = taker.text("program");
    return boot;
}

Body read_model_load(Taker& taker) {
    ModelLoad load;
    load.architecture = taker.text("architecture");
    load.arithmetic = taker.integer("arithmetic");
    load.backend = taker.text("backend");
    load.context_tokens = taker.integer("context_tokens");
    load.model = taker.hex("model", kHashDigits);
    load.name = taker.text("name");
    load.vocab_size = taker.integer("vocab_size");
    return load;
}

Body read_intent(Taker& taker) {
    Intent intent;
    intent.answers = taker.integer("answers", 1, kAnswersMax);
    intent.body = taker.hex("body", kHashDigits);
    intent.load = taker.integer("load");
    intent.max_tokens = taker.integer("max_tokens");
    intent.model = taker.hex("model", kHashDigits);
    intent.parts = taker.integer("parts", 1, kPartsMax);
    intent.part = taker.integer("part", 0, intent.parts - 1);
    intent.prompt = taker.hex("prompt", kHashDigits);
    intent.prompt_tokens = taker.integer("prompt_tokens");
    intent.request = taker.hex("request", kIdDigits);
    intent.sampling = taker.hex("sampling", kHashDigits);
    intent.subjects = hex_list(taker, "subjects", kIdDigits, kSubjectsMax);
    intent.tenant = taker.hex("tenant", kIdDigits);
    return intent;
}

Complete::Answer read_answer(const Value& value) {
    const auto* object = std::get_if<Object>(&value.content);
    if (object == nullptr) throw Error(ExitCode::invalid, "complete: answers holds no object");
    Taker taker(*object, "answer");
    Complete::Answer answer;
    answer.digest = taker.hex("digest", kHashDigits);
    answer.finish = one_of(taker, "finish", kFinishes);
    answer.payload = taker.hex("payload", kHashDigits);
    answer.text = taker.hex("text", kHashDigits);
    answer.tokens = taker.integer("tokens");
    taker.end();
    return answer;
}

Body read_complete(Taker& taker) {
    Complete complete;
    for (const Value& value : taker.array("answers"))
        complete.answers.push_back(read_answer(value));
    if (complete.answers.empty() || complete.answers.size() > kAnswersMax) {
        taker.refuse("answers", "has too few or too many");
    }
    complete.intent = taker.integer("intent");
    Taker payload(taker.object("payload"), "payload");
    complete.payload_bytes = payload.integer("bytes");
    complete.payload_ciphertext = payload.hex("ciphertext", kHashDigits);
    complete.payload_envelope = payload.hex("envelope", kHashDigits);
    payload.end();
    complete.request = taker.hex("request", kIdDigits);
    return complete;
}

Body read_erase(Taker& taker) {
    Erase erase;
    erase.basis = one_of(taker, "basis", kBases);
    erase.subject = taker.hex("subject", kIdDigits);
    return erase;
}

Body read_log_read(Taker& taker) {
    LogRead read;
    read.end = taker.integer("end");
    read.first = taker.integer("first", 0, read.end);
    read.what = taker.text("what");
    return read;
}

Body read_content_read(Taker& taker) {
    ContentRead read;
    read.intent = taker.integer("intent");
    read.reason = taker.text("reason");
    read.what = one_of(taker, "what", kUses);
    return read;
}

Body read_erase_refused(Taker& taker) {
    EraseRefused refused;
    refused.basis = one_of(taker, "basis", kRefusals);
    refused.subjects = hex_list(taker, "subjects", kIdDigits, kRefusedSubjectsMax);
    return refused;
}

Body read_configuration(Taker& taker) {
    Configuration configuration;
    configuration.certificate = taker.text("certificate");
    const std::string& certificate = configuration.certificate;
    if (!certificate.empty() && !is_hex(certificate, kHashDigits)) {
        taker.refuse("certificate", "is neither empty nor a hash");
    }
    configuration.hash = taker.hex("hash", kHashDigits);
    for (const Value& value : taker.array("listen")) {
        const auto* text = std::get_if<std::string>(&value.content);
        if (text == nullptr) taker.refuse("listen", "holds no string");
        configuration.listen.push_back(*text);
    }
    for (const Value& value : taker.array("retention")) {
        const auto* object = std::get_if<Object>(&value.content);
        if (object == nullptr) taker.refuse("retention", "holds no object");
        Taker rule(*object, "retention");
        const std::uint64_t max_days = rule.integer("max_days");
        const std::uint64_t min_days = rule.integer("min_days");
        configuration.retention.push_back({rule.hex("tenant", kIdDigits), min_days, max_days});
        rule.end();
    }
    configuration.sandbox = one_of(taker, "sandbox", kSandboxes);
    configuration.signatures = one_of(taker, "signatures", kSignatures);
    return configuration;
}

Body read_key(Taker& taker) {
    ApiKey key;
    key.action = one_of(taker, "action", kKeyActions);
    key.key = taker.integer("key");
    key.scopes = taker.text("scopes");
    key.tenant = taker.hex("tenant", kIdDigits);
    return key;
}

Body read_licence(Taker& taker) {
    Licence licence;
    licence.by = taker.hex("by", kIdDigits);
    licence.licence = taker.text("licence");
    licence.model = taker.hex("model", kHashDigits);
    licence.text = taker.hex("text", kHashDigits);
    return licence;
}

Body read_replay(Taker& taker) {
    Replay replay;
    replay.answer = taker.integer("answer");
    replay.backend = taker.text("backend");
    replay.intent = taker.integer("intent");
    replay.position = taker.integer("position");
    replay.verdict = one_of(taker, "verdict", kReplayVerdicts);
    return replay;
}

Body read_review(Taker& taker) {
    Review review;
    review.by = taker.hex("by", kIdDigits);
    review.intent = taker.integer("intent");
    review.note = taker.hex("note", kHashDigits);
    review.verdict = one_of(taker, "verdict", kReviewVerdicts);
    return review;
}

Body read_live(Taker& taker) {
    LiveCheck live;
    live.digest = taker.hex("digest", kHashDigits);
    live.load = taker.integer("load");
    live.nonce = taker.hex("nonce", kHashDigits);
    live.verdict = one_of(taker, "verdict", kLiveVerdicts);
    return live;
}

Body read_body(const std::string& kind, Taker& taker) {
    if (kind == "boot") return read_boot(taker);
    if (kind == "shutdown") return Shutdown{};
    if (kind == "model_load") return read_model_load(taker);
    if (kind == "intent") return read_intent(taker);
    if (kind == "complete") return read_complete(taker);
    if (kind == "erase") return read_erase(taker);
    if (kind == "log_read") return read_log_read(taker);
    if (kind == "content_read") return read_content_read(taker);
    if (kind == "erase_refused") return read_erase_refused(taker);
    if (kind == "configuration") return read_configuration(taker);
    if (kind == "key") return read_key(taker);
    if (kind == "licence") return read_licence(taker);
    if (kind == "replay") return read_replay(taker);
    if (kind == "review") return read_review(taker);
    if (kind == "live") return read_live(taker);
    return Unknown{kind};
}

/// What holds between members of one record.
void check_record(const Record& record) {
    const auto earlier = [&](const char* name, std::uint64_t index) {
        if (index < record.seq) return;
        throw Error(ExitCode::invalid, std::string(kind_of(record)) + ": " + name +
                                           ": names a record that is not before it");
    };
    if (std::holds_alternative<Boot>(record.body)) {
        if (record.boot != record.seq) throw Error(ExitCode::invalid, "boot: boot is not its seq");
    } else {
        earlier("boot", record.boot);
    }
    if (const auto* intent = std::get_if<Intent>(&record.body)) earlier("load", intent->load);
    if (const auto about = intent_of(record.body)) earlier("intent", *about);
}

}  // namespace

std::string_view kind_of(const Record& record) noexcept {
    if (const auto* unknown = std::get_if<Unknown>(&record.body)) return unknown->kind;
    return kKinds[record.body.index()];
}

std::optional<std::uint64_t> intent_of(const Body& body) noexcept {
    if (const auto* complete = std::get_if<Complete>(&body)) return complete->intent;
    if (const auto* read = std::get_if<ContentRead>(&body)) return read->intent;
    if (const auto* replay = std::get_if<Replay>(&body)) return replay->intent;
    if (const auto* review = std::get_if<Review>(&body)) return review->intent;
    return std::nullopt;
}

std::string write_record(const Record& record) {
    Members out;
    out.add("boot", record.boot)
        .add("kind", kind_of(record))
        .add("seq", record.seq)
        .add("time_us", record.time_us)
        .add("v", kRecordVersion);
    std::visit([&](const auto& body) { put(out, body); }, record.body);
    std::string bytes = out.text();
    ETALON_ASSERT(bytes.size() <= kRecordBytesMax);
    return bytes;
}

Record parse_record(std::string_view bytes) {
    if (bytes.size() > kRecordBytesMax) throw Error(ExitCode::invalid, "record: it is too long");
    const Object object = parse_object(bytes);
    const auto kind = object.find("kind");
    const bool named =
        kind != object.end() && std::holds_alternative<std::string>(kind->second.content);
    Taker taker(object, named ? std::get<std::string>(kind->second.content) : "record");
    taker.integer("v", kRecordVersion, kRecordVersion);
    Record record;
    record.seq = taker.integer("seq");
    record.boot = taker.integer("boot");
    record.time_us = taker.integer("time_us");
    record.body = read_body(taker.text("kind"), taker);
    if (!std::holds_alternative<Unknown>(record.body)) taker.end();
    check_record(record);
    return record;
}

}  // namespace etalon::ledger
