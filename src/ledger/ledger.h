// SPDX-License-Identifier: Apache-2.0
// The ledger of one program: records go in, and are on disk when the caller is told. One thread
// writes; what comes together shares one fsync.
//
//   Ledger ledger({.folder = "/var/lib/etalon/ledger", .program = "etalon 0.1.0"});
//   const std::uint64_t load = ledger.model_loaded(model);
//   ledger.begin(request, [](Began began) { ... });       // an Error: no ledger, no answer
//   ledger.complete(completion, [](const Error* error) { ... });
//
// Files in the folder: log/ (src/tlog), keys/ (the log's key; subjects), auditors/*.pem,
// payloads/, responses/ (response_store.h). docs/ledger.md is the format of all that leaves it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "ledger/record.h"
#include "ledger/response_store.h"
#include "tlog/policy.h"
#include "tlog/tile_reader.h"

namespace etalon::ledger {

struct LedgerOptions {
    std::filesystem::path folder;
    std::string program;                        ///< name and version
    std::string origin_start = "etalon.local";  ///< a new log's origin is this, "/" and 16 digits
    StoredLimits stored;
    /// Other processes write the log too, each for a moment; so does this one, and it makes no
    /// receipts.
    bool shared = false;
    /// How long to wait for another process that writes the log.
    std::chrono::milliseconds wait{0};
    /// Called by the ledger's thread with what went wrong beside requests.
    std::function<void(const Error& error)> on_trouble;
    /// Likewise: subjects were erased, and the records are on disk.
    std::function<void()> on_erased;
};

/// One request as it is about to be computed. Contents are committed to and not kept.
struct RequestIntent {
    struct Part {
        std::string prompt;    ///< the payload's member, as its bytes stand there
        std::string sampling;  ///< likewise
        std::uint64_t prompt_tokens = 0;
        std::uint64_t answers = 1;
        std::uint64_t max_tokens = 0;
    };
    std::string tenant;                 ///< name
    std::vector<std::string> subjects;  ///< names; none: the tenant
    /// Ids of those whose stored words are in the prompt: none of them was erased meanwhile.
    std::vector<std::string> spoken_of;
    bool names_account = false;  ///< the tenant is a subject beside them
    std::uint64_t load = 0;      ///< of model_loaded()
    std::string body;
    std::vector<Part> parts;  ///< [1, kPartsMax]
};
/// The intents are on disk.
struct Ticket {
    std::uint64_t intent = 0;  ///< index of part 0's; the others follow
    std::string receipt;       ///< id
};
using Began = std::variant<Ticket, Error>;

/// One part as it was computed.
struct Completion {
    struct Answer {
        std::string finish;  ///< as Complete::Answer
        std::uint64_t tokens = 0;
        std::string digest;   ///< DIG-3, 64 hex digits
        std::string payload;  ///< of docs/replay.md, without a line end
        std::string text;     ///< UTF-8, as it was sent
    };
    /// What the tenant may open again: in place when the record is on disk, unless a subject was
    /// erased meanwhile.
    struct Store {
        std::string id;  ///< as is_response_id()
        std::string content;
    };
    std::uint64_t intent = 0;  ///< index
    std::vector<Answer> answers;
    std::optional<Store> store = std::nullopt;
};

/// A stored response is about to be read, and the record that says so is on disk.
struct StoredReading {
    std::uint64_t record = 0;  ///< index
    std::string id;            ///< of the response
};

struct ReceiptResult {
    enum class State : std::uint8_t {
        unknown,  ///< no such receipt of this tenant
        pending,  ///< the answer or its checkpoint is still to come
        cut_off,  ///< the program ended before the answer did: it will never come
        erased,   ///< a subject was erased, and the commit key with it
        ready,
    };
    State state = State::unknown;
    std::string json;  ///< where it is ready
};

class Ledger {
  public:
    /// Opens the ledger or begins one, and writes a boot record. Errors: unavailable (another
    /// process writes it), refused (a key may be read by others), invalid, failure.
    explicit Ledger(LedgerOptions options);
    /// Writes what waits and a shutdown record.
    ~Ledger();
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;

    /// The payloads' auditor is a key pair of this machine, made now because there was none.
    bool made_local_auditor() const;
    /// The one auditor that payloads are sealed to is a key pair of this machine.
    bool seals_to_local_auditor() const;
    std::filesystem::path local_auditor_key() const;
    const std::string& origin() const;
    std::string log_key() const;  ///< verifier key, as text

    /// The index of the record. Errors: failure.
    std::uint64_t model_loaded(const ModelLoad& load);
    /// A record of another kind, likewise; not of boots, answers or erasures. Errors: failure,
    /// invalid (a value that docs/ledger.md does not allow).
    std::uint64_t record(const Body& body);

    /// `done` is called once, by the ledger's thread or at once when the queue is full.
    void begin(RequestIntent request, std::function<void(Began)> done);
    /// As above; `error`: the record may be missing, and the answer must not be given as logged.
    void complete(Completion completion, std::function<void(const Error* error)> done);

    /// The same, waiting. Errors: failure.
    Ticket begin_now(RequestIntent request);
    void complete_now(Completion completion);
    /// Both records with one wait; `request` gets the index of the load.
    Ticket load_and_begin_now(const ModelLoad& load, RequestIntent& request);

    /// May be called by any thread; not of a shared ledger. Errors: failure, invalid (files of the
    /// log).
    ReceiptResult receipt(const std::string& id, const std::string& tenant) const;

    /// What is stored; may be used by any thread.
    ResponseStore& responses();
    /// Records that the stored response of an intent is read, and why: `reason` is for people.
    /// `done` as in begin(); its Error: not_found (the tenant has none of that intent), failure.
    void read_stored(std::string tenant, std::uint64_t intent, std::string reason,
                     std::function<void(std::variant<StoredReading, Error>)> done);

    /// Waits until a checkpoint covers all that was written before. Errors: failure.
    void publish_now();

  private:
    class Writer;
    std::unique_ptr<Writer> writer_;
};

/// Writes records of the kinds that other programs than the server write, whether or
/// not another process writes the ledger: they are on disk when this returns. Errors: unavailable
/// (the other process does not write them in time; it will), usage (too many), as Ledger.
void record_now(const LedgerOptions& options, const std::vector<Body>& records);
/// The same, for whoever opens the ledger next: nothing is waited for. Errors: usage, failure.
void record_next(const LedgerOptions& options, const std::vector<Body>& records);

/// The id that records give this name now (subjects.h: tenant_subject, named_subject); made where
/// it has none. Errors: failure, refused, invalid.
std::string subject_id(const std::filesystem::path& ledger_folder, std::string_view name);

/// The log's own key, no witness: what the machine itself needs. Errors: not_found, refused,
/// invalid (the key).
tlog::Policy own_policy(const std::filesystem::path& ledger_folder);
/// The policy of who runs the ledger, for others: policy.txt in the folder, else as above.
std::string own_policy_text(const std::filesystem::path& ledger_folder);

/// The files of the published log in a ledger's folder. Gives what auditors may have, nullopt for
/// any other path.
tlog::FileSource log_files(const std::filesystem::path& ledger_folder);

/// Erasures of these ids have begun (Subjects::begin_erase): destroys their keys, deletes stored
/// responses that nobody can open any more or that are too old, whether or not another process
/// writes the ledger, and returns when the records are on disk. Errors: unavailable
/// (the other process does not write the record in time; it will), as Ledger.
void record_erasures(const LedgerOptions& options, const std::vector<std::string>& ids);

/// The checkpoint that is given to others: the one that witnesses signed where it covers `size`
/// records, else the newest; a signed note. nullopt: there is none yet. Errors: invalid.
std::optional<std::string> published_checkpoint(const tlog::FileSource& files,
                                                const tlog::VerifierKey& log_key,
                                                std::uint64_t size);

/// Records that the witnesses' checkpoint covers; nullopt: there is none. Errors: invalid.
std::optional<std::uint64_t> witnessed_size(const tlog::FileSource& files);

/// Destroys the key of a subject, `name` as in subjects.h, whether or not another process writes
/// the ledger, and returns its id once the record is on disk. Errors: not_found (no such subject),
/// unavailable (the other process does not write the record in time; it will), as Ledger.
std::string erase_subject(const LedgerOptions& options, std::string_view name,
                          std::string_view basis);

}  // namespace etalon::ledger
