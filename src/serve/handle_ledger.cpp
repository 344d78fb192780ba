// SPDX-License-Identifier: Apache-2.0
// The routes about proofs: a receipt for who asked; the log's files and a hash of the weights in
// memory for auditors.
#include <nlohmann/json.hpp>

#include "base/sha256.h"
#include "serve/fields.h"
#include "serve/handlers.h"
#include "serve/limits.h"
#include "serve/log.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

ApiError gone(const char* code, std::string message) {
    return {410, "invalid_request_error", code, std::move(message)};
}

[[noreturn]] void fail(const Error& error) {
    log_note(error.message());
    throw ApiError(500, "server_error", "ledger_unreadable", "the ledger cannot be read");
}

class LiveAnswer : public Answer {
  public:
    LiveAnswer(const ServedModel& model, std::string nonce)
        : model_(model.id), hello_(*model.hello), nonce_(std::move(nonce)) {}

    void take(std::size_t /*part*/, const wire::ToFront& message) override {
        const auto* live = std::get_if<wire::Live>(&message);
        if (live == nullptr) return;
        text_ = json_text({{"object", "etalon.live"},
                           {"model", model_},
                           {"model_sha256", hello_.file_sha256},
                           {"backend", hello_.backend},
                           {"nonce", nonce_},
                           {"digest", live->digest}});
    }

  private:
    std::string model_;
    wire::Hello hello_;
    std::string nonce_;
};

}  // namespace

Outcome handle_live_digest(const Site& site, const Call& call) {
    const JsonBody json(call.request.body);
    Fields fields(json.object(), "");
    const auto name = fields.text("model", kModelBytesMax);
    const std::size_t model =
        find_model(site, name ? *name : std::string_view(site.models.front().id));
    const auto nonce = fields.text("nonce", 2 * sizeof(Sha256Digest));
    if (!nonce) throw field_error("nonce", "nonce is missing");
    if (!digest_from_hex(*nonce)) {
        throw field_error("nonce", "nonce is not 64 lower-case hexadecimal digits");
    }
    Job job;
    add_ignored(fields.unread(), job.headers);
    job.asks.push_back({model, wire::AskLive{0, std::string(*nonce)}});
    job.answer = std::make_unique<LiveAnswer>(site.models[model], std::string(*nonce));
    return job;
}

Outcome handle_receipt(const Site& site, const Call& call) {
    using State = ledger::ReceiptResult::State;
    const std::string& path = call.target.path;
    const std::string id = path.substr(path.rfind('/') + 1);
    ledger::ReceiptResult result;
    try {
        result = site.ledger->receipt(id, call.key.tenant);
    } catch (const Error& error) {
        fail(error);
    }
    switch (result.state) {
        case State::unknown:
            break;
        case State::pending: {
            const ordered_json json{{"object", "etalon.receipt"}, {"id", id}, {"state", "pending"}};
            return HttpResponse{202, "application/json", {{"retry-after", "1"}}, json.dump()};
        }
        case State::cut_off:
            throw gone("answer_cut_off", "the server ended before the answer did");
        case State::erased:
            throw gone("subject_erased",
                       "a subject of the request was erased, and the key of its "
                       "commitments with it");
        case State::ready:
            return HttpResponse{200, "application/json", {}, result.json};
    }
    throw not_found("there is no such receipt");
}

Outcome handle_log_file(const Site& site, const Call& call) {
    constexpr std::string_view kStart = "/ledger/";
    const std::string path = call.target.path.substr(kStart.size());
    std::optional<std::string> bytes;
    try {
        bytes = site.log_files(path);
    } catch (const Error& error) {
        fail(error);
    }
    if (!bytes) throw not_found("the log has no such file");
    return HttpResponse{
        200,
        path == "checkpoint" ? "text/plain; charset=utf-8" : "application/octet-stream",
        {},
        std::move(*bytes)};
}

}  // namespace etalon::serve
