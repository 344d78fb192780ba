// SPDX-License-Identifier: Apache-2.0
// The thread that writes the ledger.
#include "ledger/internal/writer.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <future>
#include <utility>

#include "base/clock.h"
#include "base/utf8.h"
#include "ledger/commitment.h"
#include "ledger/internal/log_key.h"
#include "ledger/internal/receipt_source.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/receipt.h"

namespace etalon::ledger {

namespace {

void check(const RequestIntent& request) {
    if (request.parts.empty() || request.parts.size() > kPartsMax) {
        throw Error(ExitCode::usage, fmt::format("a request of {} prompts, accepted are 1 to {}",
                                                 request.parts.size(), kPartsMax));
    }
    if (request.subjects.size() + (request.names_account ? 1 : 0) > kSubjectsMax) {
        throw Error(ExitCode::usage, fmt::format("{} subjects, at most {} are accepted",
                                                 request.subjects.size(), kSubjectsMax));
    }
    for (const RequestIntent::Part& part : request.parts) {
        if (part.answers >= 1 && part.answers <= kAnswersMax) continue;
        throw Error(ExitCode::usage, fmt::format("{} answers of one prompt, accepted are 1 to {}",
                                                 part.answers, kAnswersMax));
    }
}

std::unique_ptr<FolderLock> locked(const std::filesystem::path& folder) {
    make_private_folder(folder);
    return std::make_unique<FolderLock>(folder);
}

std::vector<std::string> ids_of(const std::vector<Subject>& subjects) {
    std::vector<std::string> ids;
    for (const Subject& subject : subjects)
        ids.push_back(subject.id);
    return ids;
}

}  // namespace

Ledger::Writer::Writer(LedgerOptions options)
    : options_(std::move(options)),
      beginning_(locked(options_.folder)),
      key_(read_or_make_log_key(options_.folder, options_.origin_start)),
      subjects_(options_.folder / "keys" / "subjects"),
      asked_(options_.folder / kAskedFolder),
      made_local_auditor_(
          ensure_local_auditor(options_.folder / "auditors", options_.folder / kLocalAuditorKey)),
      auditors_(options_.folder / "auditors"),
      payloads_(options_.folder / "payloads"),
      responses_(options_.folder, options_.stored),
      files_(log_files(options_.folder)) {
    beginning_.reset();
    open_log();
    boot_ = log_->size();
    add(Boot{auditors_.hashes(), plain(options_.program)});
    write_asked();  // a refusal was asked for before the erasure that came after all
    write_erasures();
    if (options_.shared) {
        log_->commit();  // what comes later names the boot record
    } else {
        publish();
        completions_ = std::make_unique<Completions>(options_.folder / "completions.index", files_,
                                                     log_->checkpoint().size);
    }
    thread_ = std::thread([this] { work(); });
}

Ledger::Writer::~Writer() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
    options_.wait = std::min(options_.wait, kEndTime);
    try {
        open_log();
        add(Shutdown{});
        publish();
    } catch (const Error& error) {
        report(error);
    }
}

/// Opens what is not open; after an error that is everything, for what the disk holds is unknown.
void Ledger::Writer::open_log() {
    if (log_) return;
    disk_.reset();
    take_disk();
    log_ = std::make_unique<tlog::LogWriter>(*disk_, key_);
    log_->publish();
    published_ = std::chrono::steady_clock::now();
    const std::uint64_t size = log_->checkpoint().size;
    if (size == 0) return;
    tlog::read_entries(files_, size - 1, size, size, [&](std::uint64_t, std::string_view entry) {
        time_us_ = std::max(time_us_, parse_record(entry).time_us);
    });
}

void Ledger::Writer::take_disk() {
    const auto end = std::chrono::steady_clock::now() + options_.wait;
    while (!disk_) {
        try {
            disk_ = std::make_unique<tlog::FolderDisk>(options_.folder / "log");
        } catch (const Error& error) {
            const bool is_busy = error.code() == ExitCode::unavailable;
            if (!is_busy || std::chrono::steady_clock::now() >= end) throw;
            std::this_thread::sleep_for(kBusyPause);
        }
    }
}

/// For the next process that wants it.
void Ledger::Writer::leave_log() {
    publish();
    log_.reset();
    disk_.reset();
}

void Ledger::Writer::report(const Error& error) const {
    if (options_.on_trouble) options_.on_trouble(error);
}

bool Ledger::Writer::seals_to_local_auditor() const {
    return auditors_.hashes().size() == 1 &&
           std::filesystem::exists(options_.folder / kLocalAuditor) &&
           std::filesystem::exists(local_auditor_key());
}

std::uint64_t Ledger::Writer::add(Body body) {
    time_us_ = std::max(time_us_, unix_time_us());
    const Record record{log_->size(), boot_, time_us_, std::move(body)};
    return log_->add(write_record(record));
}

std::uint64_t Ledger::Writer::add_load(const ModelLoad& load) {
    ModelLoad written = load;
    written.name = plain(load.name);
    written.architecture = plain(load.architecture);
    written.backend = plain(load.backend);
    const std::uint64_t index = add(written);
    loads_[index] = written.model;
    return index;
}

Ticket Ledger::Writer::add_intents(RequestIntent& request) {
    check(request);
    const auto load = loads_.find(request.load);
    ETALON_ASSERT(load != loads_.end());
    if (!subjects_.with_ids(request.spoken_of)) {
        throw Error(ExitCode::not_found, "a subject of the conversation before was erased");
    }
    std::vector<Subject> subjects;
    for (const std::string& name : request.subjects)
        subjects.push_back(subjects_.get(named_subject(request.tenant, name)));
    const Subject account = subjects_.get(tenant_subject(request.tenant));
    if (subjects.empty() || request.names_account) subjects.push_back(account);

    Intent intent;
    intent.request = random_id();
    intent.parts = request.parts.size();
    intent.tenant = account.id;
    intent.subjects = ids_of(subjects);
    intent.load = request.load;
    intent.model = load->second;
    Ticket ticket;
    for (const RequestIntent::Part& part : request.parts) {
        const Key commit_key = derive_commit_key(subjects, intent.request, intent.part);
        intent.answers = part.answers;
        intent.max_tokens = part.max_tokens;
        intent.prompt_tokens = part.prompt_tokens;
        intent.body = commitment(commit_key, label::kBody, request.body);
        intent.prompt = commitment(commit_key, label::kPrompt, part.prompt);
        intent.sampling = commitment(commit_key, label::kSampling, part.sampling);
        const std::uint64_t index = add(intent);
        if (intent.part == 0) ticket.intent = index;
        opened_.emplace_back(index, Open{intent.request, intent.subjects, commit_key, part.answers,
                                         request.tenant, account.id});
        ++intent.part;
    }
    ticket.receipt = receipt_id(subjects_, ticket.intent, request.tenant);
    return ticket;
}

std::string Ledger::Writer::plaintext_of(const Completion& completion, const Key& commit_key,
                                         const std::string& origin) {
    std::vector<std::string> texts;
    for (const Completion::Answer& answer : completion.answers)
        texts.push_back(json_string(answer.text));
    std::string out = Members()
                          .add("commit_key", to_hex(commit_key.bytes))
                          .add("intent", completion.intent)
                          .add("origin", origin)
                          .add_json("texts", json_array(texts))
                          .text();
    out += '\n';
    for (const Completion::Answer& answer : completion.answers) {
        out += answer.payload;
        out += '\n';
    }
    return out;
}

void Ledger::Writer::add_complete(const Completion& completion) {
    const auto found = open_.find(completion.intent);
    ETALON_ASSERT(found != open_.end());
    const Open& open = found->second;
    ETALON_ASSERT(completion.answers.size() == open.n_answers);
    const std::string& origin = key_.verifier().name;
    const SealedPayload sealed = seal_payload(plaintext_of(completion, open.commit_key, origin),
                                              {origin, completion.intent}, auditors_);
    // A subject that was erased since has no key: what was sealed can never be opened, and goes.
    const auto subjects = subjects_.with_ids(open.subjects);
    if (subjects) {
        const std::string wrapped = wrap_envelope(sealed.envelope, *subjects);
        written_.push_back(payloads_.write(completion.intent, {wrapped, sealed.ciphertext}));
        write_stored(completion, open);
    }
    Complete complete;
    complete.intent = completion.intent;
    complete.request = open.request;
    complete.payload_bytes = sealed.ciphertext.size();
    complete.payload_ciphertext = sha256_hex(sealed.ciphertext);
    complete.payload_envelope = sha256_hex(sealed.envelope);
    for (const Completion::Answer& answer : completion.answers) {
        ETALON_ASSERT(is_utf8(answer.text));
        complete.answers.push_back({answer.finish, answer.tokens,
                                    commitment(open.commit_key, label::kDigest, answer.digest),
                                    commitment(open.commit_key, label::kPayload, answer.payload),
                                    commitment(open.commit_key, label::kText, answer.text)});
    }
    completed_.emplace_back(completion.intent, add(complete));
}

/// The account closes what its tenant stored whoever it is about: a later tenant of the same name
/// is another one.
void Ledger::Writer::write_stored(const Completion& completion, const Open& open) {
    if (!completion.store) return;
    ResponseHead head{completion.store->id, completion.intent, unix_time_us() / kSecondUs,
                      open.subjects};
    if (std::find(head.subjects.begin(), head.subjects.end(), open.tenant_id) ==
        head.subjects.end()) {
        head.subjects.push_back(open.tenant_id);
    }
    const auto subjects = subjects_.with_ids(head.subjects);
    if (!subjects) return;
    drafts_.push_back(responses_.write(open.tenant, head, *subjects, completion.store->content));
    written_.push_back(drafts_.back());
}

StoredReading Ledger::Writer::add_stored_reading(const std::string& tenant, std::uint64_t intent,
                                                 const std::string& reason) {
    const auto head = responses_.find(tenant, intent, unix_time_us() / kSecondUs);
    if (!head) {
        throw Error(ExitCode::not_found, fmt::format("no response of record {} is stored", intent));
    }
    return {add(ContentRead{intent, plain(reason), "stored"}), head->id};
}

/// The key goes before the record is written; the journal of the key folder remembers what is
/// still to be written, so that a crash between the two loses neither.
void Ledger::Writer::write_erasures() {
    const std::vector<Subjects::Erasure> erasures = subjects_.begun_erasures();
    if (erasures.empty()) return;
    for (const Subjects::Erasure& erasure : erasures)
        add(Erase{erasure.id, erasure.basis});
    log_->commit();
    if (options_.on_erased) options_.on_erased();
    for (const Subjects::Erasure& erasure : erasures)
        subjects_.end_erase(erasure.id);
}

void Ledger::Writer::write_asked() {
    const std::vector<AskedRecords::Asked> all = asked_.waiting();
    if (all.empty()) return;
    for (const AskedRecords::Asked& asked : all) {
        if (asked.records.empty()) {
            report(Error(ExitCode::invalid, fmt::format("{} asks for no records: it is removed",
                                                        printable(asked.file.string()))));
        }
        for (const Body& body : asked.records)
            add(body);
    }
    log_->commit();
    for (const AskedRecords::Asked& asked : all)
        std::filesystem::remove(asked.file);
}

void Ledger::Writer::publish() {
    log_->publish();
    published_ = std::chrono::steady_clock::now();
}

void Ledger::Writer::publish_if_due() {
    if (log_->size() == log_->checkpoint().size) return;
    if (std::chrono::steady_clock::now() - published_ >= kPublishTime) publish();
}

void Ledger::Writer::push(Task task) {
    bool is_full = false;
    {
        const std::lock_guard lock(mutex_);
        is_full = queue_.size() >= kQueueMax;
        if (!is_full) queue_.push_back(std::move(task));
    }
    if (!is_full) {
        wake_.notify_one();
        return;
    }
    const Error full(ExitCode::unavailable, "the ledger cannot keep up with the requests");
    task.told(&full);  // NOLINT(bugprone-use-after-move): it was moved only into the queue
}

void Ledger::Writer::run_now(const std::function<void()>& make) {
    std::promise<void> promise;
    push({make, [&](const Error* error) {
              if (error == nullptr) {
                  promise.set_value();
              } else {
                  promise.set_exception(std::make_exception_ptr(*error));
              }
          }});
    promise.get_future().get();
}

/// False: the end.
bool Ledger::Writer::take(std::vector<Task>& tasks) {
    std::unique_lock lock(mutex_);
    const bool is_leaving = options_.shared && log_;
    wake_.wait_for(lock, is_leaving ? kHeldTime : kPublishTime,
                   [&] { return stop_ || !queue_.empty(); });
    tasks.assign(std::make_move_iterator(queue_.begin()), std::make_move_iterator(queue_.end()));
    queue_.clear();
    return !stop_ || !tasks.empty();
}

void Ledger::Writer::work() {
    std::vector<Task> tasks;
    while (take(tasks)) {
        try {
            if (options_.shared && tasks.empty()) {
                if (log_) leave_log();
                continue;
            }
            open_log();
            write_group(tasks);
            write_asked();
            write_erasures();
            publish_if_due();
        } catch (const Error& error) {
            // The group is not known to be safe: nobody is told that it is.
            log_.reset();
            if (options_.shared) disk_.reset();
            opened_.clear();
            completed_.clear();
            written_.clear();
            drafts_.clear();
            for (const Task& task : tasks)
                if (task.told) task.told(&error);
            report(error);
        }
    }
}

void Ledger::Writer::write_group(std::vector<Task>& tasks) {
    for (Task& task : tasks) {
        const std::size_t n_opened = opened_.size();
        const std::size_t n_drafts = drafts_.size();
        try {
            task.make();
        } catch (const Error& error) {
            // What it has added stays in the log, as an intent without an answer.
            opened_.resize(n_opened, {0, Open{}});
            drafts_.resize(n_drafts);
            std::exchange(task.told, nullptr)(&error);
        }
    }
    // A complete record says that its payload is there, and what was to be stored.
    PayloadStore::sync(std::exchange(written_, {}));
    responses_.publish(std::exchange(drafts_, {}));
    log_->commit();
    for (auto& [intent, open] : opened_)
        open_.insert_or_assign(intent, std::move(open));
    opened_.clear();
    for (const auto& [intent, complete] : completed_) {
        open_.erase(intent);
        if (completions_) completions_->put(intent, complete);
    }
    completed_.clear();
    for (Task& task : tasks)
        if (auto told = std::exchange(task.told, nullptr)) told(nullptr);
}

ReceiptResult Ledger::Writer::receipt(const std::string& id, const std::string& tenant) const {
    using State = ReceiptResult::State;
    ETALON_ASSERT(completions_);
    const auto first = intent_of_receipt(subjects_, id, tenant);
    if (!first) return {State::unknown, ""};
    const ReceiptSource source{options_.folder, files_,        key_.verifier(),
                               subjects_,       *completions_, boot_};
    return make_receipt(source, id, *first);
}

}  // namespace etalon::ledger
