// SPDX-License-Identifier: Apache-2.0
// The routes that answer with generated text.
#include <algorithm>
#include <fmt/format.h>

#include "serve/chat_request.h"
#include "serve/completion_request.h"
#include "serve/generated.h"
#include "serve/handlers.h"
#include "serve/limits.h"
#include "serve/responses_answer.h"
#include "serve/responses_request.h"
#include "serve/stored_turn.h"

namespace etalon::serve {

namespace {

/// Names the program, its version and the weights: equal fingerprints give equal answers.
std::string fingerprint(const Site& site, const wire::Hello& hello) {
    constexpr std::size_t kDigits = 12;
    const std::string file = hello.file_sha256.substr(0, kDigits);
    return fmt::format("etalon-{}{}{}", site.version, file.empty() ? "" : "-", file);
}

struct Parts {
    std::size_t model = 0;
    std::vector<wire::Prompt> prompts;
};

AnswerPlan plan_of(const Site& site, const Call& call, const AnswerRequest& request,
                   const Parts& parts, const char* id_start) {
    const ServedModel& model = site.models[parts.model];
    AnswerPlan plan;
    plan.id = random_id(id_start);
    plan.created = call.now;
    plan.model = model.id;
    plan.fingerprint = fingerprint(site, *model.hello);
    plan.dialect = call.target.dialect;
    plan.stream = request.stream;
    plan.include_usage = request.include_usage;
    plan.has_logprobs = request.sampling.top_logprobs.has_value();
    plan.has_max_tokens = request.sampling.max_tokens.has_value();
    plan.n_parts = parts.prompts.size();
    plan.n = request.sampling.n;
    return plan;
}

Job job_of(const Site& site, const Call& call, const AnswerRequest& request, Parts parts) {
    Job job;
    job.stream = request.stream;
    job.headers.emplace_back("x-etalon-ai", "generated");
    add_ignored(request.ignored, job.headers);
    const ServedModel& model = site.models[parts.model];
    RecordPlan& record = job.record.emplace();
    record.model = model.id;
    record.model_sha256 = model.hello->file_sha256;
    record.intent.tenant = call.key.tenant;
    record.intent.subjects = subjects_of(call.request);
    record.intent.load = model.load;
    record.intent.body = call.request.body;
    for (wire::Prompt& prompt : parts.prompts) {
        wire::Prepare prepare;
        prepare.tenant = call.key.tenant;
        prepare.cache_key = request.cache_key;
        prepare.prompt = std::move(prompt);
        prepare.sampling = request.sampling;
        job.asks.push_back({parts.model, std::move(prepare)});
    }
    return job;
}

/// Whom a request names. Without a name it is about the account.
struct Subjects {
    std::vector<std::string> names;
    bool has_account = false;  ///< beside names
    std::vector<std::string> spoken_of{};
};

/// The conversation before goes between instructions and input. Who is named there is named here
/// too: the prompt has what was said about them.
void go_on_from_previous(const Site& site, const Call& call, ResponsesRequest& request,
                         Subjects& subjects) {
    std::vector<StoredTurn> turns;
    try {
        const StoredTurn last = find_turn(site, call, request.previous);
        turns = turns_before(site, call, last, true);
        turns.push_back(last);
    } catch (const ApiError& error) {
        if (error.status() != 404) throw;
        throw ApiError(404, "invalid_request_error", "previous_response_not_found", error.message(),
                       "previous_response_id");
    }
    std::vector<wire::ChatMessage> before;
    for (const StoredTurn& turn : turns) {
        for (const InputItem& item : turn.input)
            before.push_back(item.message());
        subjects.spoken_of.insert(subjects.spoken_of.end(), turn.ids.begin(), turn.ids.end());
        before.push_back({wire::Role::assistant, turn.answer()});
    }
    auto& messages = request.prompt.messages;
    messages.insert(messages.begin() + static_cast<std::ptrdiff_t>(request.n_instructions),
                    before.begin(), before.end());
    const StoredTurn& last = turns.back();
    const bool about_account = last.names_account || last.subjects.empty();
    subjects.has_account = about_account || subjects.names.empty();
    for (const std::string& name : last.subjects) {
        if (std::find(subjects.names.begin(), subjects.names.end(), name) == subjects.names.end()) {
            subjects.names.push_back(name);
        }
    }
    if (subjects.names.size() + (subjects.has_account ? 1 : 0) <= kSubjectsMax) return;
    throw field_error("x-etalon-subject",
                      fmt::format("x-etalon-subject: with those of the conversation before, more "
                                  "than {} names",
                                  kSubjectsMax));
}

ledger::ResponseStore::Place place_of(const Site& site, const Call& call) {
    ledger::ResponseStore& responses = site.ledger->responses();
    if (responses.limits().days == 0) {
        throw unsupported("store", "store: this server stores no responses (stored_days is 0)");
    }
    auto place = responses.reserve(call.key.tenant, static_cast<std::uint64_t>(call.now));
    if (place) return place;
    throw ApiError(429, "rate_limit_error", "stored_responses_full",
                   fmt::format("the tenant has stored {} responses, as many as it may: DELETE "
                               "/v1/responses/ID makes room",
                               responses.limits().responses),
                   "store");
}

}  // namespace

Outcome handle_chat(const Site& site, const Call& call) {
    ChatRequest request = parse_chat_request(call.request.body, call.target.dialect);
    Parts parts{find_model(site, request.model), {std::move(request.prompt)}};
    if (site.models[parts.model].hello->layout.empty()) {
        throw unsupported("model", "the model has no chat layout; use /v1/completions");
    }
    AnswerPlan plan = plan_of(site, call, request, parts, "chatcmpl-");
    Job job = job_of(site, call, request, std::move(parts));
    job.prompt_field = "messages";
    job.answer = make_chat_answer(std::move(plan));
    return job;
}

Outcome handle_completions(const Site& site, const Call& call) {
    CompletionRequest request = parse_completion_request(call.request.body);
    Parts parts{find_model(site, request.model), std::move(request.prompts)};
    const bool has_gap = std::holds_alternative<wire::FimPrompt>(parts.prompts.front());
    if (has_gap && !site.models[parts.model].hello->has_fim) {
        throw unsupported("suffix", "suffix: the model has no tokens for a gap in a text");
    }
    AnswerPlan plan = plan_of(site, call, request, parts, "cmpl-");
    plan.only_prefix = request.only_echo;
    plan.prompt_logprobs = request.prompt_logprobs;
    for (const wire::Prompt& prompt : parts.prompts) {
        if (!request.echo) break;
        const auto* text = std::get_if<wire::TextPrompt>(&prompt);
        plan.prefixes.push_back(text == nullptr ? std::nullopt : std::optional(text->text));
    }
    Job job = job_of(site, call, request, std::move(parts));
    for (Ask& ask : job.asks)
        std::get<wire::Prepare>(ask.message).prompt_logprobs = request.prompt_logprobs;
    job.answer = make_completion_answer(std::move(plan));
    return job;
}

Outcome handle_responses(const Site& site, const Call& call) {
    ResponsesRequest request = parse_responses_request(call.request.body);
    Subjects subjects{subjects_of(call.request)};
    if (!request.previous.empty()) go_on_from_previous(site, call, request, subjects);
    Parts parts{find_model(site, request.model), {std::move(request.prompt)}};
    if (site.models[parts.model].hello->layout.empty()) {
        throw unsupported("model", "the model has no chat layout; use /v1/completions");
    }
    AnswerPlan plan = plan_of(site, call, request, parts, "resp_");
    Job job = job_of(site, call, request, std::move(parts));
    job.prompt_field = "input";
    job.record->intent.subjects = subjects.names;
    job.record->intent.names_account = subjects.has_account;
    job.record->intent.spoken_of = std::move(subjects.spoken_of);
    if (request.store) job.store = {plan.id, place_of(site, call)};
    job.answer = make_responses_answer(std::move(plan), std::move(request),
                                       std::move(subjects.names), subjects.has_account);
    return job;
}

Outcome handle_fim(const Site& site, const Call& call) {
    CompletionRequest request = parse_fim_request(call.request.body);
    Parts parts{find_model(site, request.model), std::move(request.prompts)};
    if (!site.models[parts.model].hello->has_fim) {
        throw unsupported("model", "the model has no tokens for a gap in a text");
    }
    AnswerPlan plan = plan_of(site, call, request, parts, "fim-");
    Job job = job_of(site, call, request, std::move(parts));
    job.answer = make_chat_answer(std::move(plan));
    return job;
}

}  // namespace etalon::serve
