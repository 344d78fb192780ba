// SPDX-License-Identifier: Apache-2.0
// The description of the API is true: its routes are the table's, its fields are read with the
// types and ranges that it gives, and what it does not have is reported as ignored.
#include "serve/openapi.h"

#include <cctype>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <set>

#include "serve/routes.h"

namespace etalon::serve {
namespace {

using nlohmann::ordered_json;

/// The field that a body is refused for; "" where it is accepted.
std::string refused_field(const std::string& path, const ordered_json& body) {
    try {
        (void)fields_of(path, body.dump());
        return "";
    } catch (const ApiError& error) {
        EXPECT_EQ(error.status(), 400) << error.what();
        const auto param = ordered_json::parse(error.body(""))["param"];
        return param.is_string() ? param.get<std::string>() : "null";
    }
}

ordered_json schema_of_route(const std::string& path) {
    static const ordered_json document = openapi_json("1");
    return document["paths"][path_template(path)]["post"]["requestBody"]["content"]
                   ["application/json"]["schema"];
}

std::vector<RouteNote> routes_with_bodies() {
    std::vector<RouteNote> found;
    for (const RouteNote& note : route_notes()) {
        if (*note.sample != '\0') found.push_back(note);
    }
    return found;
}

TEST(OpenApi, HasTheRoutesOfTheTableAndNoOthers) {
    const ordered_json document = openapi_json("1.2.3");
    EXPECT_EQ(document["info"]["version"], "1.2.3");
    std::set<std::string> described;
    for (const auto& [path, methods] : document["paths"].items()) {
        for (const auto& [method, operation] : methods.items()) {
            described.insert(method + " " + path);
            EXPECT_TRUE(operation.contains("responses"));
            EXPECT_EQ(operation.contains("requestBody"), method == "post") << path;
        }
    }
    std::set<std::string> table;
    for (const Route& route : all_routes()) {
        const std::string path = path_template(route.path);
        std::string method = route.method;
        for (char& c : method)
            c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        table.insert(method + " " + path);
        const ordered_json& operation = document["paths"][path][method];
        EXPECT_EQ(operation.contains("security"), route.scope == 0) << "open routes alone";
    }
    EXPECT_EQ(described, table);
    EXPECT_EQ(route_notes().size(), all_routes().size());
    EXPECT_EQ(path_template("/v1/models/"), "/v1/models/{id}");
    EXPECT_EQ(path_template("/ledger/*"), "/ledger/{path}");
    EXPECT_EQ(path_template("/livez"), "/livez");
    const ordered_json items = document["paths"]["/v1/responses/{id}/input_items"]["get"];
    ASSERT_EQ(items["parameters"].size(), 4U);
    EXPECT_EQ(items["parameters"][0]["name"], "id");
    EXPECT_EQ(items["parameters"][1]["schema"]["maximum"], 100);
    EXPECT_EQ(document["paths"]["/v1/responses/{id}"].size(), 2U);
}

TEST(OpenApi, EveryFieldIsKnownToItsParser) {
    for (const RouteNote& note : routes_with_bodies()) {
        const ordered_json schema = schema_of_route(note.path);
        EXPECT_GE(schema["properties"].size(), 1U) << note.path;
        const ordered_json sample = ordered_json::parse(note.sample);
        for (const auto& [name, property] : schema["properties"].items()) {
            if (sample.contains(name)) continue;
            ordered_json body = sample;
            body[name] = nullptr;
            EXPECT_EQ(refused_field(note.path, body), "") << note.path << ' ' << name;
            std::set<std::string> asked;
            for (const FieldNote& field : fields_of(note.path, body.dump()))
                asked.insert(field.path);
            EXPECT_TRUE(asked.contains(name)) << note.path << ' ' << name;
        }
    }
}

TEST(OpenApi, TypesAndRangesAreThoseOfTheParser) {
    std::size_t n_checked = 0;
    for (const RouteNote& note : routes_with_bodies()) {
        const ordered_json sample = ordered_json::parse(note.sample);
        const ordered_json schema = schema_of_route(note.path);
        for (const auto& [name, property] : schema["properties"].items()) {
            if (!property.contains("type") || !property["type"].is_array()) continue;
            const std::string type = property["type"][0];
            ordered_json body = sample;
            body[name] = type == "string" ? ordered_json(7) : ordered_json("text");
            EXPECT_EQ(refused_field(note.path, body), name) << note.path;
            ++n_checked;
            if (!property.contains("maximum")) continue;
            if (name == "seed" || name == "random_seed") continue;  // all of 64 bits
            for (const char* limit : {"minimum", "maximum"}) {
                const double step = limit == std::string("minimum") ? -1.0 : 1.0;
                body[name] = property[limit].get<double>() + step;
                EXPECT_EQ(refused_field(note.path, body), name) << note.path << ' ' << limit;
            }
        }
    }
    EXPECT_GT(n_checked, 40U);
}

TEST(OpenApi, WhatIsRequiredCannotBeLeftOut) {
    for (const RouteNote& note : routes_with_bodies()) {
        const ordered_json schema = schema_of_route(note.path);
        for (const auto& name : schema["required"]) {
            ordered_json body = ordered_json::parse(note.sample);
            body.erase(name.get<std::string>());
            EXPECT_EQ(refused_field(note.path, body), name) << note.path;
        }
    }
}

TEST(OpenApi, KnowsFieldsInsideFields) {
    const ordered_json chat = schema_of_route("/v1/chat/completions");
    const ordered_json& message = chat["properties"]["messages"]["items"]["properties"];
    for (const char* name : {"role", "content", "prefix"})
        EXPECT_TRUE(message.contains(name)) << name;
    EXPECT_TRUE(chat["properties"]["stream_options"]["properties"].contains("include_usage"));
    EXPECT_EQ(chat["properties"]["top_logprobs"]["maximum"], 20);
    EXPECT_FALSE(chat["properties"].contains("colour"));
    const ordered_json object{{"type", "object"}};
    const ordered_json items = schema_of_route("/v1/responses")["properties"]["input"]["anyOf"];
    EXPECT_EQ(items[1]["items"], object);
    const ordered_json texts = schema_of_route("/v1/embeddings")["properties"]["input"]["anyOf"];
    for (const ordered_json& shape : texts)
        EXPECT_NE(shape.value("items", ordered_json()), object);
}

}  // namespace
}  // namespace etalon::serve
