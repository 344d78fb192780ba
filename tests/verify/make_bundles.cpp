// SPDX-License-Identifier: Apache-2.0
// make_bundles FOLDER: a ledger with some hundreds of records by the code that the server uses, and
// what an auditor has of it, for mutations.py: bundle/ (its checkpoint seen by two witnesses of
// three), held (an earlier checkpoint), old/ (a bundle from before that), policy, receipt.json with
// its body; and the private keys of all, which an attacker may have.
#include <fmt/format.h>
#include <fstream>
#include <future>
#include <iostream>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "ledger/bundle.h"
#include "ledger/internal/manifest.h"
#include "ledger/ledger.h"
#include "ledger/stamps.h"
#include "ledger/subjects.h"
#include "tlog/note.h"

namespace etalon::ledger {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kBytesMax = 1 << 20;
constexpr std::int64_t kTime = 1'790'000'000;
constexpr const char* kBody = "{\"prompt\":\"Hello\"}";

std::string get(const fs::path& path) {
    return read_file(path, kBytesMax);
}
void put(const fs::path& path, std::string_view bytes) {
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::string text_of(std::uint64_t intent, int k) {
    return fmt::format("answer {} of {}\n\u00e9", k, intent);
}

/// One request of `n_parts` prompts with two answers each; returns the id of its receipt.
std::string answer(Ledger& ledger, std::uint64_t load, std::size_t n_parts,
                   const std::string& subject) {
    RequestIntent request;
    request.tenant = "default";
    request.subjects = {subject};
    request.load = load;
    request.body = kBody;
    for (std::size_t i = 0; i < n_parts; ++i)
        request.parts.push_back({fmt::format("[1,{}]", i), "{\"n\":2}", 2, 2, 16});
    const Ticket ticket = ledger.begin_now(std::move(request));
    for (std::uint64_t intent = ticket.intent; intent < ticket.intent + n_parts; ++intent) {
        Completion completion{intent, {}};
        for (int k = 0; k < 2; ++k) {
            completion.answers.push_back({"stop", 3, std::string(64, 'd'),
                                          fmt::format("{{\"choice\":{}}}", k), text_of(intent, k)});
        }
        ledger.complete_now(std::move(completion));
    }
    return ticket.receipt;
}

LedgerOptions options_in(const fs::path& folder) {
    LedgerOptions options;
    options.folder = folder / "ledger";
    options.program = "make_bundles 1";
    options.origin_start = "test.example";
    return options;
}

/// A run of the program: it starts, loads a model, answers `n` requests and one of three prompts,
/// begins one that it never answers. Returns the receipt of the three prompts.
std::string run(const fs::path& folder, int n) {
    Ledger ledger(options_in(folder));
    const std::uint64_t load =
        ledger.model_loaded({std::string(64, 'a'), "tiny", "llama", "cpu/generic", 2, 128, 300});
    for (int i = 0; i < n; ++i)
        (void)answer(ledger, load, 1, i % 4 == 0 ? "erased" : "kept");
    const std::string id = answer(ledger, load, 3, "kept");
    RequestIntent unanswered;
    unanswered.tenant = "default";
    unanswered.load = load;
    unanswered.parts.push_back({"[1]", "{}", 1, 1, 1});
    (void)ledger.begin_now(std::move(unanswered));
    ledger.publish_now();
    return ledger.receipt(id, "default").json;
}

/// Of each model a bill of materials that names it, and a signature.
std::map<std::string, std::string> evidence(const std::map<std::uint64_t, ModelLoad>& loads) {
    std::map<std::string, std::string> files{{kSandboxPath, "{\"runs\":[]}\n"}};
    for (const auto& [index, load] : loads) {
        files[bom_path(load.model)] = fmt::format("{{\"sha256\":\"{}\"}}\n", load.model);
        files[signature_path(load.model)] = "{\"mediaType\":\"none\"}\n";
    }
    return files;
}

/// The newest checkpoint is stamped by nobody: the digest is what the verifiers look at.
void stamp(const fs::path& ledger) {
    const std::string note = get(ledger / "log" / "checkpoint");
    const Sha256Digest digest = sha256(std::as_bytes(std::span(note)));
    keep_stamp(ledger, {tlog::parse_checkpoint(tlog::parse_note(note).text).size, note,
                        "stamp" + std::string(reinterpret_cast<const char*>(digest.data()),
                                              digest.size())});
}

/// The witnesses see a bundle's checkpoint and the log signs its manifest for it.
void witness(const fs::path& bundle, const tlog::SigningKey& log,
             const std::vector<tlog::SigningKey>& witnesses) {
    tlog::Note note = tlog::parse_note(get(bundle / "log" / "checkpoint"));
    for (const tlog::SigningKey& key : witnesses)
        note.signatures.push_back(key.cosign(note.text, kTime));
    put(bundle / "log" / "checkpoint", tlog::note_text(note));
    Manifest manifest = parse_manifest(tlog::parse_note(get(bundle / "MANIFEST")).text);
    manifest.files = hash_folder(bundle);
    const std::string text = manifest_text(manifest);
    put(bundle / "MANIFEST", tlog::note_text({text, {log.sign(text)}}));
}

void make(const fs::path& folder, int n_requests) {
    const fs::path ledger = options_in(folder).folder;
    (void)run(folder, 3 * n_requests);
    const std::uint64_t old_size =
        export_bundle(ledger, {0, 0}, folder / "none", evidence).checkpoint.size;
    (void)export_bundle(ledger, {0, old_size}, folder / "old", evidence);
    (void)erase_subject(options_in(folder), named_subject("default", "erased"), "request");
    (void)run(folder, n_requests);
    (void)export_bundle(ledger, {0, 0}, folder / "middle", evidence);
    const std::string receipt = run(folder, n_requests);
    const std::uint64_t answered = std::stoull(receipt.substr(receipt.find("rcp-") + 4));
    const std::string id(kIdDigits, 'b');
    const std::string hash(kHashDigits, 'c');
    record_now(
        options_in(folder),
        {ContentRead{answered, "complaint 17", "replay"},
         ContentRead{answered, "complaint 18", "stored"},
         EraseRefused{"hold", {std::string(kIdDigits, 'a')}},
         ApiKey{"revoked", 3, "infer,audit", id}, Licence{id, "apache-2.0", hash, hash},
         Replay{answered, 0, "both", 5, "cpu/avx2"}, Review{answered, id, "objection", hash}});
    {
        Ledger server(options_in(folder));
        server.record(
            Configuration{hash, {"127.0.0.1:8080"}, hash, "strict", "none", {{id, 1, 2}}});
        server.record(LiveCheck{hash, answered, hash, "same"});
        server.record(Configuration{hash, {}, "", "best-effort", "always", {}});
    }
    std::string text = get(ledger / "keys" / "log.key");
    text.pop_back();
    const tlog::SigningKey log = tlog::SigningKey::parse(text);
    std::vector<tlog::SigningKey> witnesses;
    std::string policy = fmt::format("log {}\n", log.verifier().text());
    std::string keys = log.text() + "\n";
    for (const char* name : {"court", "audit", "press"}) {
        witnesses.push_back(tlog::SigningKey::generate(std::string(name) + ".example/w",
                                                       tlog::KeyKind::cosignature));
        policy += fmt::format("witness {} {}\n", name, witnesses.back().verifier().text());
        keys += witnesses.back().text() + "\n";
    }
    put(folder / "policy", policy + "group two 2 court audit press\nquorum two\n");
    put(folder / "keys", keys);
    // The range begins inside a bundle of entries.
    const std::uint64_t size =
        export_bundle(ledger, {0, 0}, folder / "none2", evidence).checkpoint.size;
    stamp(ledger);
    (void)export_bundle(ledger, {size - 130, size}, folder / "bundle", evidence);
    witnesses.pop_back();  // two of three see it
    witness(folder / "bundle", log, witnesses);
    witness(folder / "old", log, witnesses);
    witness(folder / "middle", log, witnesses);
    put(folder / "held", get(folder / "middle" / "log" / "checkpoint"));
    put(folder / "receipt.json", receipt);
    put(folder / "receipt.policy", fmt::format("log {}\nquorum none\n", log.verifier().text()));
    put(folder / "body", kBody);
    std::cout << old_size << " " << size << "\n";
}

}  // namespace
}  // namespace etalon::ledger

int main(int argc, char** argv) {
    try {
        etalon::ledger::make(argc > 1 ? argv[1] : ".", 55);
    } catch (const etalon::Error& error) {
        std::cerr << error.message() << "\n";
        return 1;
    }
    return 0;
}
