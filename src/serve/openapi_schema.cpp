// SPDX-License-Identifier: Apache-2.0
// From the questions of a parser to a JSON schema.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "serve/limits.h"
#include "serve/openapi.h"

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;
using Type = FieldNote::Type;

/// null is as good as absent, everywhere.
ordered_json nullable(const char* type) {
    return {{"type", ordered_json::array({type, "null"})}};
}

ordered_json array_of(const ordered_json& items, std::size_t size_max) {
    return {{"type", "array"}, {"items", items}, {"maxItems", size_max}};
}

const ordered_json kText{{"type", "string"}};
const ordered_json kId{{"type", "integer"}, {"minimum", 0}, {"maximum", kTopKMax}};

ordered_json any_of(std::initializer_list<ordered_json> schemas) {
    ordered_json all = ordered_json::array();
    for (const ordered_json& schema : schemas)
        all.push_back(schema);
    return {{"anyOf", all}};
}

/// A text, or parts that have one.
ordered_json content_schema() {
    const ordered_json part{{"type", "object"},
                            {"required", {"type", "text"}},
                            {"properties", {{"type", kText}, {"text", kText}}}};
    return any_of({kText, array_of(part, kPartsMax), {{"type", "null"}}});
}

ordered_json texts_or_ids(std::size_t size_max) {
    const ordered_json ids = array_of(kId, static_cast<std::size_t>(kTokensMax));
    return any_of({kText, ids, array_of(any_of({kText, ids}), size_max)});
}

ordered_json seed_schema() {
    return {{"type", {"integer", "null"}},
            {"minimum", std::numeric_limits<std::int64_t>::min()},
            {"maximum", std::numeric_limits<std::uint64_t>::max()}};
}

/// Fields that a parser looks at without saying a type; the others among those are refused unless
/// they ask for nothing. `has_items`: it asks their elements for fields.
ordered_json untyped_schema(const std::string& path, bool has_items) {
    const std::string name =
        path.substr(path.rfind('.') == std::string::npos ? 0 : path.rfind('.') + 1);
    if (name == "content") return content_schema();
    if (path == "prompt") return texts_or_ids(kPromptsMax);
    if (path == "inputs") return texts_or_ids(kInputsMax);
    if (path == "input") {
        if (!has_items) return texts_or_ids(kInputsMax);
        return any_of({kText, array_of({{"type", "object"}}, kMessagesMax)});
    }
    if (path == "seed" || path == "random_seed") return seed_schema();
    if (path == "stop") {
        return any_of({kText, array_of(kText, kStopStringsMax), {{"type", "null"}}});
    }
    if (path == "logprobs") {
        return any_of({{{"type", "integer"}, {"minimum", 0}, {"maximum", kTopLogprobsMax}},
                       {{"type", {"boolean", "null"}}}});
    }
    return {{"description", "accepted only where it asks for what is done anyway"}};
}

ordered_json schema_of(const FieldNote& note, bool has_items) {
    switch (note.type) {
        case Type::any:
            return untyped_schema(note.path, has_items);
        case Type::ignored:
            return {{"description", "known, without effect"}};
        case Type::boolean:
            return nullable("boolean");
        case Type::number:
        case Type::integer: {
            ordered_json schema = nullable(note.type == Type::number ? "number" : "integer");
            schema["minimum"] = note.low;
            schema["maximum"] = note.high;
            if (note.type == Type::integer) {
                schema["minimum"] = static_cast<std::int64_t>(note.low);
                schema["maximum"] = static_cast<std::int64_t>(note.high);
            }
            return schema;
        }
        case Type::text: {
            ordered_json schema = nullable("string");
            schema["maxLength"] = static_cast<std::int64_t>(note.high);
            return schema;
        }
        case Type::array: {
            ordered_json schema = nullable("array");
            schema["items"] = ordered_json::object();
            schema["maxItems"] = static_cast<std::int64_t>(note.high);
            return schema;
        }
        case Type::object:
            break;
    }
    return nullable("object");
}

/// Where the schema of a path belongs, below `root`; nullptr below what takes more than one shape.
ordered_json* place_of(ordered_json& root, const std::string& path) {
    ordered_json* object = &root;
    for (std::size_t start = 0;;) {
        const std::size_t dot = path.find('.', start);
        std::string name = path.substr(start, dot - start);
        const std::size_t bracket = name.find('[');
        const bool is_element = bracket != std::string::npos;
        name.resize(std::min(bracket, name.size()));
        ordered_json& schema = (*object)["properties"][name];
        if (dot == std::string::npos) return &schema;
        if (schema.is_null() || schema.contains("anyOf")) return nullptr;
        object = is_element ? &schema["items"] : &schema;
        if (is_element) (*object)["type"] = "object";
        start = dot + 1;
    }
}

}  // namespace

ordered_json schema_of(std::span<const FieldNote> notes, std::span<const char* const> required) {
    ordered_json root{{"type", "object"}, {"properties", ordered_json::object()}};
    for (const FieldNote& note : notes) {
        ordered_json* place = place_of(root, note.path);
        if (place == nullptr || !place->is_null()) continue;
        const std::string element = note.path + "[";
        const bool has_items = std::any_of(notes.begin(), notes.end(), [&](const FieldNote& one) {
            return one.path.compare(0, element.size(), element) == 0;
        });
        *place = schema_of(note, has_items);
    }
    root["required"] = ordered_json::array();
    for (const char* name : required) {
        root["required"].push_back(name);
        // What must be there cannot be null.
        ordered_json& schema = root["properties"][name];
        if (schema.contains("type") && schema["type"].is_array())
            schema["type"] = schema["type"][0];
    }
    return root;
}

}  // namespace etalon::serve
