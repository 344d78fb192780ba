// SPDX-License-Identifier: Apache-2.0
// The public face: hands tasks to the writer's thread.
#include "ledger/ledger.h"

#include <fmt/format.h>

#include "ledger/internal/writer.h"
#include "ledger/limits.h"

namespace etalon::ledger {

Ledger::Ledger(LedgerOptions options) : writer_(std::make_unique<Writer>(std::move(options))) {}

Ledger::~Ledger() = default;

bool Ledger::made_local_auditor() const {
    return writer_->made_local_auditor();
}

bool Ledger::seals_to_local_auditor() const {
    return writer_->seals_to_local_auditor();
}

std::filesystem::path Ledger::local_auditor_key() const {
    return writer_->local_auditor_key();
}

const std::string& Ledger::origin() const {
    return writer_->key().verifier().name;
}

std::string Ledger::log_key() const {
    return writer_->key().verifier().text();
}

std::uint64_t Ledger::model_loaded(const ModelLoad& load) {
    std::uint64_t index = 0;
    writer_->run_now([&] { index = writer_->add_load(load); });
    return index;
}

std::uint64_t Ledger::record(const Body& body) {
    (void)parse_record(write_record({kIntegerMax, 0, 0, body}));  // a log keeps what it gets
    std::uint64_t index = 0;
    writer_->run_now([&] { index = writer_->add(body); });
    return index;
}

void Ledger::begin(RequestIntent request, std::function<void(Began)> done) {
    // Both halves of the task share what the first makes.
    const auto shared =
        std::make_shared<std::pair<RequestIntent, Ticket>>(std::move(request), Ticket{});
    writer_->push({[this, shared] { shared->second = writer_->add_intents(shared->first); },
                   [shared, done = std::move(done)](const Error* error) {
                       done(error == nullptr ? Began(std::move(shared->second)) : Began(*error));
                   }});
}

void Ledger::complete(Completion completion, std::function<void(const Error* error)> done) {
    const auto shared = std::make_shared<Completion>(std::move(completion));
    writer_->push({[this, shared] { writer_->add_complete(*shared); }, std::move(done)});
}

Ticket Ledger::begin_now(RequestIntent request) {
    Ticket ticket;
    writer_->run_now([&] { ticket = writer_->add_intents(request); });
    return ticket;
}

Ticket Ledger::load_and_begin_now(const ModelLoad& load, RequestIntent& request) {
    Ticket ticket;
    writer_->run_now([&] {
        request.load = writer_->add_load(load);
        ticket = writer_->add_intents(request);
    });
    return ticket;
}

void Ledger::complete_now(Completion completion) {
    writer_->run_now([&] { writer_->add_complete(completion); });
}

ReceiptResult Ledger::receipt(const std::string& id, const std::string& tenant) const {
    return writer_->receipt(id, tenant);
}

ResponseStore& Ledger::responses() {
    return writer_->responses();
}

void Ledger::read_stored(std::string tenant, std::uint64_t intent, std::string reason,
                         std::function<void(std::variant<StoredReading, Error>)> done) {
    const auto shared = std::make_shared<StoredReading>();
    const auto make = [this, shared, intent, tenant = std::move(tenant),
                       reason = std::move(reason)] {
        *shared = writer_->add_stored_reading(tenant, intent, reason);
    };
    writer_->push({make, [shared, done = std::move(done)](const Error* error) {
                       if (error != nullptr) {
                           done(*error);
                       } else {
                           done(std::move(*shared));
                       }
                   }});
}

void Ledger::publish_now() {
    writer_->run_now([&] { writer_->publish(); });
}

}  // namespace etalon::ledger
