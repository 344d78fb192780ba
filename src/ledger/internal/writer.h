// SPDX-License-Identifier: Apache-2.0
// The thread that writes the ledger. What comes together becomes one group: records are made, one
// commit makes them safe, then every caller is told.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "ledger/internal/asked_records.h"
#include "ledger/internal/completions.h"
#include "ledger/internal/files.h"
#include "ledger/ledger.h"
#include "ledger/limits.h"
#include "ledger/payload_store.h"
#include "ledger/seal.h"
#include "ledger/subjects.h"
#include "tlog/log_writer.h"

namespace etalon::ledger {

class Ledger::Writer {
  public:
    explicit Writer(LedgerOptions options);
    ~Writer();
    Writer(const Writer&) = delete;
    Writer& operator=(const Writer&) = delete;

    /// Told when the group is safe (nullptr), or when that is not known.
    using Told = std::function<void(const Error* error)>;
    /// Makes the records of one caller; runs in the thread. Errors of it go to its own `Told`.
    struct Task {
        std::function<void()> make;
        Told told;
    };

    void push(Task task);
    /// Waits for it. Errors: failure.
    void run_now(const std::function<void()>& make);

    /// For tasks, in the thread: the index of the record.
    std::uint64_t add(Body body);
    Ticket add_intents(RequestIntent& request);
    void add_complete(const Completion& completion);
    std::uint64_t add_load(const ModelLoad& load);
    StoredReading add_stored_reading(const std::string& tenant, std::uint64_t intent,
                                     const std::string& reason);
    void publish();

    ReceiptResult receipt(const std::string& id, const std::string& tenant) const;

    const LedgerOptions& options() const { return options_; }
    ResponseStore& responses() { return responses_; }
    bool made_local_auditor() const { return made_local_auditor_; }
    bool seals_to_local_auditor() const;
    std::filesystem::path local_auditor_key() const { return options_.folder / kLocalAuditorKey; }
    const tlog::SigningKey& key() const { return key_; }

  private:
    /// What a complete record needs of its intent.
    struct Open {
        std::string request;
        std::vector<std::string> subjects;  // ids
        Key commit_key;
        std::uint64_t n_answers = 0;
        std::string tenant;  // name
        std::string tenant_id;
    };

    void open_log();
    void take_disk();
    void leave_log();
    void work();
    bool take(std::vector<Task>& tasks);
    void write_group(std::vector<Task>& tasks);
    void write_erasures();
    void write_asked();
    void write_stored(const Completion& completion, const Open& open);
    void publish_if_due();
    void report(const Error& error) const;
    std::uint64_t load_time() const;
    static std::string plaintext_of(const Completion& completion, const Key& commit_key,
                                    const std::string& origin);

    LedgerOptions options_;
    std::unique_ptr<FolderLock> beginning_;  // until there are keys: two programs may begin
    tlog::SigningKey key_;
    Subjects subjects_;
    AskedRecords asked_;
    bool made_local_auditor_;
    Auditors auditors_;
    PayloadStore payloads_;
    ResponseStore responses_;
    tlog::FileSource files_;
    std::unique_ptr<tlog::FolderDisk> disk_;
    std::unique_ptr<tlog::LogWriter> log_;
    std::unique_ptr<Completions> completions_;
    std::uint64_t boot_ = 0;
    std::uint64_t time_us_ = 0;  // of the last record
    std::map<std::uint64_t, std::string> loads_;
    std::map<std::uint64_t, Open> open_;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> completed_;  // of this group
    std::vector<std::pair<std::uint64_t, Open>> opened_;              // of this group
    std::vector<std::filesystem::path> written_;                      // payloads of this group
    std::vector<std::filesystem::path> drafts_;                       // responses, among those
    std::chrono::steady_clock::time_point published_;

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Task> queue_;
    bool stop_ = false;
    std::thread thread_;
};

}  // namespace etalon::ledger
