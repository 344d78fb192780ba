// SPDX-License-Identifier: Apache-2.0
// A ledger that keeps nothing, linked in place of the real one: what `etalon serve` would cost
// without it. The product has no such setting.
#include <fmt/format.h>
#include <mutex>
#include <utility>

#include "ledger/ledger.h"

namespace etalon::ledger {

class Ledger::Writer {
  public:
    explicit Writer(std::string origin_start) : origin(std::move(origin_start)) {}
    std::uint64_t next(std::uint64_t n) {
        const std::lock_guard lock(mutex_);
        return std::exchange(size_, size_ + n);
    }

    const std::string origin;

  private:
    std::mutex mutex_;
    std::uint64_t size_ = 0;
};

Ledger::Ledger(LedgerOptions options)
    : writer_(std::make_unique<Writer>(std::move(options.origin_start))) {}
Ledger::~Ledger() = default;

bool Ledger::made_local_auditor() const {
    return false;
}
std::filesystem::path Ledger::local_auditor_key() const {
    return {};
}
const std::string& Ledger::origin() const {
    return writer_->origin;
}
std::string Ledger::log_key() const {
    return {};
}
std::uint64_t Ledger::model_loaded(const ModelLoad& /*load*/) {
    return writer_->next(1);
}

Ticket Ledger::begin_now(RequestIntent request) {
    const std::uint64_t intent = writer_->next(request.parts.size());
    return {intent, fmt::format("rcp-{}-none", intent)};
}
void Ledger::begin(RequestIntent request, std::function<void(Began)> done) {
    done(begin_now(std::move(request)));
}
void Ledger::complete_now(Completion /*completion*/) {}
void Ledger::complete(Completion /*completion*/, std::function<void(const Error* error)> done) {
    done(nullptr);
}

ReceiptResult Ledger::receipt(const std::string& /*id*/, const std::string& /*tenant*/) const {
    return {};
}
void Ledger::publish_now() {}

}  // namespace etalon::ledger
