// SPDX-License-Identifier: Apache-2.0
// The routes about the server itself: health, version, models, metrics.
#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "serve/handlers.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

HttpResponse json_response(const ordered_json& json, int status = 200) {
    return {status, "application/json", {}, json_text(json)};
}

/// What both SDK families read of a model.
ordered_json model_json(const ServedModel& model) {
    const bool chat = model.hello && !model.hello->layout.empty();
    const bool fim = model.hello && model.hello->has_fim;
    ordered_json json{{"id", model.id},
                      {"object", "model"},
                      {"created", model.created},
                      {"owned_by", "etalon"},
                      {"type", "base"},
                      {"name", model.hello ? model.hello->model : model.id},
                      {"description", nullptr},
                      {"max_context_length", model.hello ? model.hello->context_tokens : 0},
                      {"aliases", model.aliases},
                      {"deprecation", nullptr},
                      {"default_model_temperature", 1.0}};
    json["capabilities"] = {{"completion_chat", chat},   {"completion_fim", fim},
                            {"function_calling", false}, {"fine_tuning", false},
                            {"vision", false},           {"classification", false},
                            {"reasoning", false}};
    if (model.hello) {
        json["etalon"] = {{"sha256", model.hello->file_sha256},
                          {"size_bytes", model.hello->weights_bytes},
                          {"backend", model.hello->backend},
                          {"state", "ready"}};
    } else {
        json["etalon"] = {{"state", "loading"}};
    }
    return json;
}

/// What the workers that answered count, by model.
using Counted = std::vector<std::pair<std::string, Metrics::WorkerCounters>>;

constexpr const char* kPrometheusText = "text/plain; version=0.0.4; charset=utf-8";

std::string metrics_text(const Site& site, std::int64_t /*now*/, const Counted& counted) {
    return site.metrics.text(site.version, counted);
}

/// The engine's view of one model: what a person asks a server for.
ordered_json status_json(const ServedModel& model, const Metrics::WorkerCounters& counters) {
    ordered_json json{{"id", model.id}, {"aliases", model.aliases}};
    json["state"] = model.hello ? "ready" : "loading";
    if (!model.hello) return json;
    json["backend"] = model.hello->backend;
    json["context_tokens"] = model.hello->context_tokens;
    json["cache_tokens"] = model.hello->cache_tokens;
    json["weights_bytes"] = model.hello->weights_bytes;
    json["cache_bytes"] = model.hello->cache_bytes;
    for (const auto& [name, value] : counters) {
        const bool wanted = name == "requests" || name == "running" || name == "waiting" ||
                            name == "pages_free" || name == "pages_total";
        if (wanted) json[name] = static_cast<std::int64_t>(value);
    }
    return json;
}

std::string status_text(const Site& site, std::int64_t now, const Counted& counted) {
    ordered_json models = ordered_json::array();
    for (const ServedModel& model : site.models) {
        const auto found = std::find_if(counted.begin(), counted.end(),
                                        [&](const auto& one) { return one.first == model.id; });
        models.push_back(
            status_json(model, found == counted.end() ? Metrics::WorkerCounters() : found->second));
    }
    return json_text({{"version", site.version},
                      {"started", site.started},
                      {"uptime_seconds", std::max<std::int64_t>(now - site.started, 0)},
                      {"draining", site.draining},
                      {"connections", site.metrics.n_connections()},
                      {"models", models}});
}

/// A text about the server and the counters of its workers.
using CountedText = std::string (*)(const Site& site, std::int64_t now, const Counted& counted);

class CountedAnswer : public Answer {
  public:
    CountedAnswer(const Site& site, std::int64_t now, CountedText write,
                  std::vector<std::string> models)
        : site_(site), now_(now), write_(write), models_(std::move(models)) {}

    void take(std::size_t part, const wire::ToFront& message) override {
        const auto* counters = std::get_if<wire::Counters>(&message);
        if (counters == nullptr) return;
        counted_.emplace_back(models_.at(part), counters->values);
        if (counted_.size() == models_.size()) text_ = write_(site_, now_, counted_);
    }

  private:
    const Site& site_;
    std::int64_t now_;
    CountedText write_;
    std::vector<std::string> models_;
    Counted counted_;
};

/// Asks every worker that is ready for its counters.
Outcome counted_outcome(const Site& site, const Call& call, CountedText write,
                        const char* content_type) {
    Job job;
    std::vector<std::string> models;
    for (std::size_t i = 0; i < site.models.size(); ++i) {
        if (!site.models[i].hello) continue;
        job.asks.push_back({i, wire::AskCounters{}});
        models.push_back(site.models[i].id);
    }
    if (models.empty()) return HttpResponse{200, content_type, {}, write(site, call.now, {})};
    job.content_type = content_type;
    job.answer = std::make_unique<CountedAnswer>(site, call.now, write, std::move(models));
    return job;
}

}  // namespace

Outcome handle_live(const Site& /*site*/, const Call& /*call*/) {
    return json_response({{"status", "ok"}});
}

Outcome handle_ready(const Site& site, const Call& /*call*/) {
    const bool loaded = std::all_of(site.models.begin(), site.models.end(),
                                    [](const ServedModel& model) { return model.hello; });
    if (site.draining || !loaded) {
        HttpResponse response =
            json_response({{"status", site.draining ? "draining" : "loading"}}, 503);
        response.headers.emplace_back("retry-after", "2");
        return response;
    }
    return json_response({{"status", "ok"}});
}

Outcome handle_version(const Site& site, const Call& /*call*/) {
    return json_response({{"version", site.version}});
}

Outcome handle_models(const Site& site, const Call& /*call*/) {
    ordered_json data = ordered_json::array();
    for (const ServedModel& model : site.models)
        data.push_back(model_json(model));
    return json_response({{"object", "list"}, {"data", data}});
}

Outcome handle_model(const Site& site, const Call& call) {
    const std::string& path = call.target.path;
    const std::string name =
        percent_decoded(std::string_view(path).substr(path.rfind("models/") + 7));
    for (const ServedModel& model : site.models) {
        const auto& aliases = model.aliases;
        if (model.id == name || std::find(aliases.begin(), aliases.end(), name) != aliases.end()) {
            return json_response(model_json(model));
        }
    }
    find_model(site, name);  // throws: no model has that name
    return HttpResponse{};
}

Outcome handle_metrics(const Site& site, const Call& call) {
    return counted_outcome(site, call, metrics_text, kPrometheusText);
}

Outcome handle_status(const Site& site, const Call& call) {
    return counted_outcome(site, call, status_text, "application/json");
}

}  // namespace etalon::serve
