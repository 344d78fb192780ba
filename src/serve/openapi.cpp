// SPDX-License-Identifier: Apache-2.0
// The document: routes, what is said of them, and the fields of their bodies.
#include "serve/openapi.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/routes.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

constexpr const char* kSampleModel = "sample";

/// A site whose one model can do everything: parsers look at the model only for what it can do.
Site sample_site() {
    Site site;
    ServedModel model;
    model.id = kSampleModel;
    model.hello.emplace();
    model.hello->layout = "chatml";
    model.hello->has_fim = true;
    model.hello->vocab_size = 2;
    model.hello->context_tokens = 2;
    model.hello->dim = 1;
    site.models.push_back(std::move(model));
    return site;
}

const RouteNote& note_of(const Route& route) {
    const auto& notes = route_notes();
    const auto found = std::find_if(notes.begin(), notes.end(), [&](const RouteNote& note) {
        const std::string_view method = *note.sample == '\0' ? note.method : "POST";
        return std::string_view(route.path) == note.path && method == route.method;
    });
    ETALON_ASSERT(found != notes.end());
    return *found;
}

ordered_json error_schema() {
    const ordered_json text{{"type", {"string", "null"}}};
    const ordered_json error{{"type", "object"},
                             {"required", {"message", "type"}},
                             {"properties",
                              {{"message", {{"type", "string"}}},
                               {"type", {{"type", "string"}}},
                               {"param", text},
                               {"code", text}}}};
    ordered_json whole = error;
    whole["required"].push_back("error");
    whole["properties"]["error"] = error;
    whole["properties"]["request_id"] = {{"type", "string"}};
    return whole;
}

ordered_json content_of(const RouteNote& note) {
    const bool is_json = note.content_type == std::string_view("application/json");
    const char* type = is_json ? "object" : "string";
    ordered_json content{{note.content_type, {{"schema", {{"type", type}}}}}};
    // OpenAPI 3.1 has no schema for the events of a stream, and readers differ on what one means.
    if (note.streams) content["text/event-stream"] = ordered_json::object();
    return content;
}

ordered_json parameters_of(const std::string& path, const RouteNote& note) {
    ordered_json parameters = ordered_json::array();
    if (const std::size_t brace = path.find('{'); brace != std::string::npos) {
        const std::size_t end = path.find('}', brace);
        parameters.push_back({{"name", path.substr(brace + 1, end - brace - 1)},
                              {"in", "path"},
                              {"required", true},
                              {"schema", {{"type", "string"}}}});
    }
    for (const QueryNote& query : note.query) {
        ordered_json schema{{"type", query.high == 0 ? "string" : "integer"}};
        if (!query.choices.empty()) schema["enum"] = query.choices;
        if (query.high != 0) schema["minimum"] = query.low;
        if (query.high != 0) schema["maximum"] = query.high;
        parameters.push_back(
            {{"name", query.name}, {"in", "query"}, {"required", false}, {"schema", schema}});
    }
    return parameters;
}

ordered_json operation_of(const Route& route) {
    const RouteNote& note = note_of(route);
    ordered_json operation{{"summary", note.summary}};
    if (route.scope == 0) operation["security"] = ordered_json::array();
    const ordered_json parameters = parameters_of(path_template(route.path), note);
    if (!parameters.empty()) operation["parameters"] = parameters;
    if (*note.sample != '\0') {
        const std::vector<FieldNote> fields = fields_of(route.path, note.sample);
        operation["requestBody"] = {
            {"required", true},
            {"content", {{"application/json", {{"schema", schema_of(fields, note.required)}}}}}};
    }
    const ordered_json error{{"$ref", "#/components/schemas/Error"}};
    operation["responses"] = {
        {"200", {{"description", "the answer"}, {"content", content_of(note)}}},
        {"default",
         {{"description", "what is wrong; param names the field"},
          {"content", {{"application/json", {{"schema", error}}}}}}}};
    return operation;
}

/// Routes whose answers a model computes, and what is kept of them.
std::vector<RouteNote> answer_notes() {
    return {
        {"/v1/chat/completions",
         "the next message of a conversation",
         R"({"model":"sample","messages":[{"role":"user","content":"a"},
             {"role":"assistant","content":"b","prefix":true}],"stream_options":{},
             "logit_bias":{},"response_format":{"type":"text"},
             "prediction":{"type":"content","content":"a"}})",
         {"model", "messages"},
         true},
        {"/v1/completions",
         "the continuation of texts",
         R"({"model":"sample","prompt":"a","stream_options":{},"logit_bias":{},
             "response_format":{"type":"text"}})",
         {"model", "prompt"},
         true},
        {"/v1/responses",
         "an answer to items; store: true keeps it, previous_response_id goes on from one",
         R"({"model":"sample","input":[{"role":"user","content":"a"}],"stream_options":{},
             "logit_bias":{},"text":{"format":{"type":"text"}},"reasoning":{},"metadata":{},
             "response_format":{"type":"text"}})",
         {"model", "input"},
         true},
        {"/v1/responses/", "a stored response of the key's tenant", "", {}},
        {"/v1/responses/",
         "deletes a stored response",
         "",
         {},
         false,
         "application/json",
         "DELETE"},
        {"/v1/responses/{id}/input_items",
         "what the model was given, a page of it",
         "",
         {},
         false,
         "application/json",
         "GET",
         {{"limit", {}, 1, 100}, {"order", {"asc", "desc"}}, {"after", {}}}},
        {"/v1/fim/completions",
         "the text of a gap",
         R"({"model":"sample","prompt":"a","stream_options":{},"logit_bias":{},
             "response_format":{"type":"text"}})",
         {"model", "prompt"},
         true},
        {"/v1/embeddings",
         "a vector for each text",
         R"({"model":"sample","input":"a"})",
         {"model", "input"}},
    };
}

std::vector<RouteNote> other_notes() {
    return {
        {"/livez", "the process runs", "", {}},
        {"/readyz", "every model is loaded; 503 until then", "", {}},
        {"/health", "as /readyz", "", {}},
        {"/version", "of the program", "", {}},
        {"/openapi.json", "this document", "", {}},
        {"/metrics", "counters in the text format of Prometheus", "", {}, false, "text/plain"},
        {"/status", "models, requests, uptime", "", {}},
        {"/v1/models", "the models that are served", "", {}},
        {"/v1/models/", "one model, by its name or an alias", "", {}},
        {"/v1/receipts/", "the receipt of an answer; 202 until it is there", "", {}},
        {"/v1/live",
         "a hash over the weights in memory, keyed by 64 hex digits",
         R"({"model":"sample","nonce":
             "0000000000000000000000000000000000000000000000000000000000000000"})",
         {"nonce"}},
        {"/ledger/*", "a file of the log", "", {}, false, "application/octet-stream"},
        {"/ledger/content/",
         "what the tenant stored with the record of that index; the reading is a record first",
         R"({"reason":"complaint 17"})",
         {"reason"}},
        {"/tokenize", "the tokens of a text or of messages", R"({"prompt":"a"})", {}},
        {"/detokenize", "the text of tokens", R"({"tokens":[1]})", {"tokens"}},
    };
}

}  // namespace

const std::vector<RouteNote>& route_notes() {
    static const std::vector<RouteNote> notes = [] {
        std::vector<RouteNote> all = answer_notes();
        const std::vector<RouteNote> others = other_notes();
        all.insert(all.end(), others.begin(), others.end());
        return all;
    }();
    return notes;
}

std::string path_template(std::string_view path) {
    if (path.find('{') != std::string_view::npos) return std::string(path);
    if (path.back() == '/') return std::string(path) + "{id}";
    if (path.back() == '*') return std::string(path.substr(0, path.size() - 1)) + "{path}";
    return std::string(path);
}

std::vector<FieldNote> fields_of(std::string_view path, const std::string& body) {
    const auto& routes = all_routes();
    const auto route = std::find_if(routes.begin(), routes.end(), [&](const Route& one) {
        return path == one.path && std::string_view(one.method) == "POST";
    });
    ETALON_ASSERT(route != routes.end());
    const Site site = sample_site();
    const std::string target = std::string(path) + (path.back() == '/' ? "0" : "");
    const HttpRequest request{"POST", target, "", {}, body};
    const KeyInfo nobody;  // named: GCC 12 warns of a temporary
    const Call call{request, target_of(request), nobody, "", 0};
    FieldRecorder recorder;
    (void)route->handle(site, call);
    return std::move(recorder.notes);
}

ordered_json openapi_json(std::string_view version) {
    ordered_json paths = ordered_json::object();
    for (const Route& route : all_routes()) {
        const std::string path = path_template(route.path);
        std::string method = route.method;
        for (char& c : method)
            c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        paths[path][method] = operation_of(route);
    }
    return {{"openapi", "3.1.0"},
            {"info",
             {{"title", "Etalon"},
              {"version", version},
              {"description",
               "Routes below /v1 are answered below /openai/v1 and /mistral/v1 too, in the shapes "
               "of that dialect. Fields that are not listed are ignored and named in "
               "x-etalon-ignored-params."}}},
            {"security", {{{"key", ordered_json::array()}}}},
            {"paths", paths},
            {"components",
             {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}},
              {"schemas", {{"Error", error_schema()}}}}}};
}

Outcome handle_openapi(const Site& site, const Call& /*call*/) {
    return HttpResponse{200, "application/json", {}, json_text(openapi_json(site.version))};
}

}  // namespace etalon::serve
