// SPDX-License-Identifier: Apache-2.0
// What the handlers know: the models that are served, the accounts, the counters; and what they
// return: a response, a job for the workers, or a reading that is recorded first.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "ledger/ledger.h"
#include "serve/accounts.h"
#include "serve/answer.h"
#include "serve/answer_record.h"
#include "serve/dialect.h"
#include "serve/http.h"
#include "serve/metrics.h"
#include "serve/pace.h"
#include "wire/messages.h"

namespace etalon::serve {

struct ServedModel {
    std::string id;                    ///< the file's stem; unique
    std::vector<std::string> aliases;  ///< other names that requests may use
    std::int64_t created = 0;
    std::optional<wire::Hello> hello;  ///< of the worker that runs now; absent while none is ready
    std::uint64_t load = 0;            ///< index of its model_load record
};

struct Site {
    Accounts* accounts = nullptr;      ///< not owned
    ledger::Ledger* ledger = nullptr;  ///< not owned
    tlog::FileSource log_files;        ///< of the published log
    std::vector<ServedModel> models;
    Paces paces;
    Metrics metrics;
    std::string version;
    std::int64_t started = 0;               ///< seconds since 1970
    std::vector<std::string> hosts;         ///< values of Host that are answered, lower case
    std::vector<std::string> cors_origins;  ///< origins whose pages may call
    bool draining = false;
};

/// One request on its way through a handler.
struct Call {
    const HttpRequest& request;
    Target target;
    KeyInfo key;
    std::string request_id;
    std::int64_t now = 0;  ///< seconds since 1970
};

/// A message to the worker of one model. Its id is filled in by who sends it.
struct Ask {
    std::size_t model = 0;
    wire::ToWorker message;
};
struct Job {
    std::vector<Ask> asks;  ///< part i of the answer
    std::unique_ptr<Answer> answer;
    bool stream = false;
    std::string content_type = "application/json";  ///< where it is no stream
    HeaderList headers;
    std::optional<RecordPlan> record;     ///< of what is computed; absent: nothing is recorded
    std::string prompt_field = "prompt";  ///< the API's name for what the worker calls prompt
    /// The answer is stored under this id once it is whole; `place` keeps room for it.
    struct Store {
        std::string id;
        ledger::ResponseStore::Place place;
    };
    std::optional<Store> store;
};
/// Stored content is asked for: the ledger records that it is read, and why, before it is shown.
struct Reading {
    std::string tenant;
    std::uint64_t intent = 0;  ///< index
    std::string reason;
};
using Outcome = std::variant<HttpResponse, Job, Reading>;

/// The model of that name or alias whose worker is ready. Errors: ApiError 404 model_not_found with
/// the names that are served, 503 while it loads.
std::size_t find_model(const Site& site, std::string_view name);

/// "chatcmpl-" and 24 random hexadecimal digits.
std::string random_id(std::string_view start);

/// x-etalon-ignored-params; no header where nothing was ignored.
void add_ignored(const std::vector<std::string>& ignored, HeaderList& headers);

}  // namespace etalon::serve
