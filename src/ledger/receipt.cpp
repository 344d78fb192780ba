// SPDX-License-Identifier: Apache-2.0
// Receipts: their ids, how they are made, how their holder verifies them.
#include "ledger/receipt.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/crypto.h>

#include "base/base64.h"
#include "base/error.h"
#include "ledger/commitment.h"
#include "ledger/internal/receipt_source.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/stamps.h"
#include "tlog/proof_file.h"

namespace etalon::ledger {

namespace {

using nlohmann::ordered_json;
using State = ReceiptResult::State;

constexpr std::string_view kReceiptIdStart = "rcp-";
constexpr const char* kObject = "etalon.receipt";

/// A published tree.
struct Tree {
    std::string note;
    std::uint64_t size = 0;
    std::string stamp;  // DER; empty: the note has none
};

/// The one that witnesses signed where that covers `size` records.
Tree read_tree(const ReceiptSource& source, std::uint64_t size) {
    auto note = published_checkpoint(source.files, source.log_key, size);
    if (!note) return {};
    const auto checkpoint = tlog::open_checkpoint(tlog::parse_note(*note), source.log_key);
    return {std::move(*note), checkpoint.size, ""};
}

/// The first stamped one that covers `size` records, unless more witnesses sign today than signed
/// it: the holder's policy may ask for them. nullopt: there is none.
std::optional<Tree> stamped_tree(const ReceiptSource& source, std::uint64_t size) {
    const std::vector<std::uint64_t> sizes = stamped_sizes(source.folder);
    const auto found = std::lower_bound(sizes.begin(), sizes.end(), size);
    if (found == sizes.end()) return std::nullopt;
    Stamp stamp = read_stamp(source.folder, *found);
    const tlog::Note note = tlog::parse_note(stamp.checkpoint);
    if (tlog::open_checkpoint(note, source.log_key).size != *found) {
        throw Error(ExitCode::invalid, fmt::format("stamp {} is of another checkpoint", *found));
    }
    const auto cosigned = source.files(kCosigned);
    if (cosigned && tlog::parse_note(*cosigned).signatures.size() > note.signatures.size()) {
        return std::nullopt;
    }
    return Tree{std::move(stamp.checkpoint), *found, std::move(stamp.response)};
}

std::string read_entry(const ReceiptSource& source, const Tree& tree, std::uint64_t index) {
    std::string found;
    tlog::read_entries(source.files, index, index + 1, tree.size,
                       [&](std::uint64_t, std::string_view entry) { found = entry; });
    return found;
}

std::string proof_of(const ReceiptSource& source, const Tree& tree, std::uint64_t index) {
    tlog::TileReader nodes(source.files, tree.size);
    return tlog::proof_file_text(
        {"", index, tlog::inclusion_proof(nodes, index, tree.size), tree.note});
}

/// One part; `state` becomes what keeps it from being there.
ordered_json part_json(const ReceiptSource& source, const Tree& tree, std::uint64_t index,
                       State& state) {
    const std::string intent_entry = read_entry(source, tree, index);
    const Record record = parse_record(intent_entry);
    const auto* intent = std::get_if<Intent>(&record.body);
    if (intent == nullptr) throw Error(ExitCode::invalid, "the receipt's record is no intent");
    const auto complete = source.completions.get(index);
    if (!complete) {
        state = record.boot == source.boot ? State::pending : State::cut_off;
        return nullptr;
    }
    if (*complete >= tree.size) {
        state = State::pending;
        return nullptr;
    }
    const auto subjects = source.subjects.with_ids(intent->subjects);
    if (!subjects) {
        state = State::erased;
        return nullptr;
    }
    const Key commit_key = derive_commit_key(*subjects, intent->request, intent->part);
    return {{"commit_key", to_hex(commit_key.bytes)},
            {"intent", intent_entry},
            {"intent_proof", proof_of(source, tree, index)},
            {"complete", read_entry(source, tree, *complete)},
            {"complete_proof", proof_of(source, tree, *complete)}};
}

/// A string member of an object. Errors: invalid.
const std::string& text_of(const ordered_json& object, const char* name) {
    const auto found = object.is_object() ? object.find(name) : object.end();
    if (!object.is_object() || found == object.end() || !found->is_string()) {
        throw Error(ExitCode::invalid, fmt::format("receipt: {} is missing or no string", name));
    }
    return found->get_ref<const std::string&>();
}

[[noreturn]] void refuse_part(std::size_t part, std::string_view why) {
    throw Error(ExitCode::invalid, fmt::format("receipt: part {}: {}", part, why));
}

Record verified_record(const ordered_json& part, const char* name, const char* proof_name,
                       const tlog::Policy& policy, VerifiedReceipt& verified) {
    const std::string& entry = text_of(part, name);
    Record record = parse_record(entry);
    const tlog::ProofFile proof = tlog::parse_proof_file(text_of(part, proof_name));
    const tlog::Checkpoint checkpoint = tlog::verify_proof_file(proof, entry, policy);
    if (proof.index != record.seq) {
        throw Error(ExitCode::invalid,
                    fmt::format("receipt: {}: the proof is of record {}, the record says {}", name,
                                proof.index, record.seq));
    }
    if (checkpoint.size > kIntegerMax)
        throw Error(ExitCode::invalid, "receipt: the log is too long");
    if (checkpoint.size >= verified.checkpoint.size) verified.checkpoint = checkpoint;
    verified.notes.insert(proof.checkpoint);
    return record;
}

void check_pair(std::size_t i, std::size_t n_parts, std::uint64_t first,
                const VerifiedReceipt::Part& part) {
    const auto* intent = std::get_if<Intent>(&part.intent.body);
    const auto* complete = std::get_if<Complete>(&part.complete.body);
    if (intent == nullptr || complete == nullptr) refuse_part(i, "it is no intent and complete");
    if (complete->intent != part.intent.seq) refuse_part(i, "complete is of another intent");
    if (complete->request != intent->request) refuse_part(i, "the requests differ");
    if (intent->parts != n_parts) refuse_part(i, "the receipt lacks parts");
    if (intent->part != i || part.intent.seq != first + i)
        refuse_part(i, "the parts are out of order");
    if (complete->answers.size() != intent->answers) refuse_part(i, "answers are missing");
}

void check_held(std::size_t i, const Key& key, const VerifiedReceipt::Part& part,
                const Held& held) {
    const auto& intent = std::get<Intent>(part.intent.body);
    const auto& complete = std::get<Complete>(part.complete.body);
    if (held.body && commitment(key, label::kBody, *held.body) != intent.body) {
        refuse_part(i, "the body of the request is another one");
    }
    if (i >= held.parts.size()) return;
    const HeldPart& content = held.parts[i];
    if (content.texts.size() > complete.answers.size() ||
        content.payloads.size() > complete.answers.size()) {
        refuse_part(i, "it has fewer answers");
    }
    for (std::size_t k = 0; k < content.texts.size(); ++k) {
        if (commitment(key, label::kText, content.texts[k]) != complete.answers[k].text) {
            refuse_part(i, fmt::format("the text of answer {} is another one", k));
        }
    }
    for (std::size_t k = 0; k < content.payloads.size(); ++k) {
        if (commitment(key, label::kPayload, content.payloads[k]) != complete.answers[k].payload) {
            refuse_part(i, fmt::format("the payload of answer {} is another one", k));
        }
    }
}

}  // namespace

std::string receipt_id(const Subjects& subjects, std::uint64_t intent, std::string_view tenant) {
    const Sha256Digest mac = subjects.mac(fmt::format("receipt\n{}\n{}", tenant, intent));
    return fmt::format("{}{}-{}", kReceiptIdStart, intent, to_hex(mac).substr(0, kIdDigits));
}

std::optional<std::uint64_t> intent_of_receipt(const Subjects& subjects, const std::string& id,
                                               std::string_view tenant) {
    if (id.size() > kReceiptIdStart.size() + kIdDigits + 24) return std::nullopt;
    if (id.compare(0, kReceiptIdStart.size(), kReceiptIdStart) != 0) return std::nullopt;
    std::uint64_t intent = 0;
    const char* end = id.data() + id.size();
    const auto error = std::from_chars(id.data() + kReceiptIdStart.size(), end, intent).ec;
    if (error != std::errc() || intent > kIntegerMax) return std::nullopt;
    const std::string expected = receipt_id(subjects, intent, tenant);
    const bool same =
        expected.size() == id.size() && CRYPTO_memcmp(expected.data(), id.data(), id.size()) == 0;
    if (!same) return std::nullopt;
    return intent;
}

Key derive_commit_key(const std::vector<Subject>& subjects, std::string_view request,
                      std::uint64_t part) {
    ETALON_ASSERT(!subjects.empty());
    std::string message = fmt::format("etalon/commit/v1\n{}\n{}\n", request, part);
    Key key;
    for (const Subject& subject : subjects) {
        key.bytes = hmac_sha256(subject.key, message);
        message = key.view();
    }
    return key;
}

ReceiptResult make_receipt(const ReceiptSource& source, const std::string& id,
                           std::uint64_t first) {
    const Tree newest = read_tree(source, UINT64_MAX);
    if (first >= newest.size) return {State::pending, ""};
    const Record record = parse_record(read_entry(source, newest, first));
    const auto* intent = std::get_if<Intent>(&record.body);
    if (intent == nullptr || intent->part != 0) {
        throw Error(ExitCode::invalid, "the receipt's record is no intent");
    }
    if (first + intent->parts > newest.size) return {State::pending, ""};
    std::uint64_t end = first + intent->parts;
    for (std::uint64_t i = 0; i < intent->parts; ++i)
        end = std::max(end, source.completions.get(first + i).value_or(0) + 1);
    const auto stamped = stamped_tree(source, end);
    const Tree tree = stamped ? *stamped : read_tree(source, end);
    ordered_json parts = ordered_json::array();
    for (std::uint64_t i = 0; i < intent->parts; ++i) {
        State state = State::ready;
        parts.push_back(part_json(source, tree, first + i, state));
        if (state != State::ready) return {state, ""};
    }
    ordered_json receipt{{"object", kObject},
                         {"id", id},
                         {"origin", source.log_key.name},
                         {"log_key", source.log_key.text()},
                         {"parts", std::move(parts)}};
    if (!tree.stamp.empty()) receipt["stamp"] = to_base64(tree.stamp);
    return {State::ready, receipt.dump()};
}

VerifiedReceipt verify_receipt(std::string_view json, const tlog::Policy& policy,
                               const Held& held) {
    if (json.size() > kReceiptBytesMax) throw Error(ExitCode::invalid, "receipt: it is too large");
    const ordered_json receipt = ordered_json::parse(json, nullptr, false);
    const bool has_mark = json.substr(0, 1) == "\xEF";  // of a byte order, which the parser skips
    if (has_mark || receipt.is_discarded() || !receipt.is_object()) {
        throw Error(ExitCode::invalid, "receipt: it is no JSON object");
    }
    if (text_of(receipt, "object") != kObject) {
        throw Error(ExitCode::invalid, "receipt: object is not etalon.receipt");
    }
    const auto parts = receipt.find("parts");
    if (parts == receipt.end() && receipt.contains("state")) {  // what is given before the end
        throw Error(ExitCode::invalid,
                    fmt::format("receipt: it was {} when it was fetched",
                                printable(text_of(receipt, "state"))),
                    "fetch it again once the answer has ended");
    }
    if (parts == receipt.end() || !parts->is_array() || parts->empty() ||
        parts->size() > kPartsMax) {
        throw Error(ExitCode::invalid, "receipt: parts is no array with parts");
    }
    if (held.parts.size() > parts->size()) {
        throw Error(ExitCode::invalid, "receipt: it has fewer parts");
    }
    VerifiedReceipt verified;
    const auto stamp = receipt.find("stamp");
    if (stamp != receipt.end() && stamp->is_string()) {
        verified.stamp = from_base64(stamp->get_ref<const std::string&>()).value_or("");
    }
    for (std::size_t i = 0; i < parts->size(); ++i) {
        const ordered_json& part = parts->at(i);
        verified.parts.push_back(
            {verified_record(part, "intent", "intent_proof", policy, verified),
             verified_record(part, "complete", "complete_proof", policy, verified)});
        check_pair(i, parts->size(), verified.parts.front().intent.seq, verified.parts.back());
        check_held(i, key_of_hex(text_of(part, "commit_key")), verified.parts.back(), held);
    }
    return verified;
}

}  // namespace etalon::ledger
