// SPDX-License-Identifier: Apache-2.0
// tokenizer.json and tokenizer_config.json of Hugging Face. What would change the tokens and is not
// supported is refused, never ignored.
#include <algorithm>
#include <optional>
#include <unordered_map>

#include "base/error.h"
#include "text/internal/json_fields.h"
#include "text/internal/limits.h"
#include "text/internal/vocabulary.h"
#include "text/tokenizer_file.h"

namespace etalon::text {
namespace {

constexpr std::int64_t kIdMax = static_cast<std::int64_t>(kVocabularyMax) - 1;

/// Score of a piece that no merge makes: below that of every merge.
constexpr float kScoreUnmerged = -1e9F;

struct KnownPattern {
    std::string_view regex;
    Pretokenizer pretokenizer;
};

constexpr KnownPattern kKnownPatterns[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
     Pretokenizer::gpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pretokenizer::llama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pretokenizer::qwen2},
    {R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
     R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}|)"
     R"( ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     Pretokenizer::tekken},
};

/// The members of a "Sequence", or the one member that the field is; none when it is null.
std::vector<JsonField> sequence(const JsonField& field, const char* members) {
    std::vector<JsonField> out;
    if (field.is_null()) return out;
    if (field["type"].string() != "Sequence") {
        out.push_back(field);
        return out;
    }
    const auto list = field[members];
    for (std::size_t i = 0; i < list.size(); ++i)
        out.push_back(list.at(i));
    return out;
}

class TokenizerJsonReader {
  public:
    TokenizerJsonReader(const JsonField& root, TokenizerData& data) : root_(root), data_(data) {}

    void read() {
        const auto type = root_["model"]["type"].string_or("BPE");
        if (type != "BPE")
            root_["model"]["type"].refuse("'" + printable(type, 40) +
                                          "' is not supported, only BPE is");
        read_kind();
        read_vocabulary();
        read_added_tokens();
        read_normalizer();
        read_merges();
        read_post_processor();
    }

  private:
    void read_kind();
    void read_byte_level(const std::vector<JsonField>& steps);
    void read_metaspace(const JsonField& step);
    void read_vocabulary();
    void read_added_tokens();
    void read_added_token(const JsonField& token);
    void read_normalizer();
    void read_merges();
    std::pair<std::string, std::string> merge_at(const JsonField& merges, std::size_t rank);
    void read_post_processor();
    void put(std::size_t id, const std::string& token, TokenType type);

    JsonField root_;
    TokenizerData& data_;
};

void TokenizerJsonReader::read_kind() {
    const auto steps = sequence(root_["pre_tokenizer"], "pretokenizers");
    const bool byte_level = std::any_of(steps.begin(), steps.end(), [](const JsonField& step) {
        return step["type"].string() == "ByteLevel";
    });
    data_.kind = byte_level ? TokenizerKind::byte_bpe : TokenizerKind::sentencepiece;
    if (byte_level) return read_byte_level(steps);
    for (const auto& step : steps)
        read_metaspace(step);
    if (!root_["model"]["byte_fallback"].boolean_or(false)) {
        root_["model"]["byte_fallback"].refuse(
            "must be true for a tokenizer without the pre-tokenizer ByteLevel");
    }
}

void TokenizerJsonReader::read_byte_level(const std::vector<JsonField>& steps) {
    const auto& last = steps.back();
    if (steps.size() > 2 || last["type"].string() != "ByteLevel") {
        root_["pre_tokenizer"].refuse("this sequence is not supported");
    }
    if (last["add_prefix_space"].boolean_or(true)) {
        last["add_prefix_space"].refuse("true is not supported");
    }
    const bool own_regex = last["use_regex"].boolean_or(true);
    if (steps.size() == 1) {
        if (!own_regex) last["use_regex"].refuse("false needs a Split before it");
        data_.pretokenizer = Pretokenizer::gpt2;
        return;
    }
    const auto& first = steps.front();
    const auto type = first["type"].string();
    if (type == "Digits" && own_regex && first["individual_digits"].boolean_or(false)) {
        data_.pretokenizer = Pretokenizer::smollm;
        return;
    }
    if (type != "Split" || own_regex || first["behavior"].string() != "Isolated" ||
        first["invert"].boolean_or(false)) {
        first.refuse("this pre-tokenizer is not supported");
    }
    const auto regex = first["pattern"]["Regex"].string();
    const auto* known =
        std::find_if(std::begin(kKnownPatterns), std::end(kKnownPatterns),
                     [&](const KnownPattern& pattern) { return pattern.regex == regex; });
    if (known == std::end(kKnownPatterns)) {
        first["pattern"].refuse("this expression is not known: " + printable(regex, 80));
    }
    data_.pretokenizer = known->pretokenizer;
}

void TokenizerJsonReader::read_metaspace(const JsonField& step) {
    if (step["type"].string() != "Metaspace") step.refuse("this pre-tokenizer is not supported");
    if (step["replacement"].string() != kSpaceSymbol) step["replacement"].refuse("must be U+2581");
    if (step["split"].boolean_or(true)) step["split"].refuse("true is not supported");
    const auto scheme = step["prepend_scheme"].string_or("always");
    data_.add_space_prefix = step["add_prefix_space"].boolean_or(scheme != "never");
}

void TokenizerJsonReader::put(std::size_t id, const std::string& token, TokenType type) {
    // Ids that no token has are left unused; their text cannot come from a real vocabulary.
    while (data_.tokens.size() <= id) {
        data_.tokens.push_back("<unused id " + std::to_string(data_.tokens.size()) + ">");
        data_.types.push_back(TokenType::unused);
    }
    data_.tokens[id] = token;
    data_.types[id] = type;
}

void TokenizerJsonReader::read_vocabulary() {
    const auto model = root_["model"];
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
        if (!model[affix].string_or("").empty()) model[affix].refuse("is not supported");
    }
    const auto vocab = model["vocab"];
    if (!vocab.is_object()) vocab.refuse("must be an object");
    const bool pieces = data_.kind == TokenizerKind::sentencepiece;
    for (const auto& [token, value] : vocab.raw().items()) {
        const auto field = vocab[token];
        const auto id = static_cast<std::size_t>(field.integer(0, kIdMax));
        if (id < data_.types.size() && data_.types[id] != TokenType::unused) {
            field.refuse("id " + std::to_string(id) + " has two tokens");
        }
        const bool byte = pieces && byte_of_token(token) >= 0;
        put(id, token, byte ? TokenType::byte : TokenType::normal);
    }
    data_.ignore_merges = model["ignore_merges"].boolean_or(false);
}

void TokenizerJsonReader::read_added_tokens() {
    const auto added = root_["added_tokens"];
    if (!added.is_null()) {
        for (std::size_t i = 0; i < added.size(); ++i)
            read_added_token(added.at(i));
    }
    const auto unknown = root_["model"]["unk_token"];
    if (unknown.is_null()) return;
    const auto found = std::find(data_.tokens.begin(), data_.tokens.end(), unknown.string());
    if (found == data_.tokens.end()) unknown.refuse("is no token");
    data_.unknown = static_cast<std::int32_t>(found - data_.tokens.begin());
    if (data_.kind == TokenizerKind::sentencepiece) {
        data_.types[static_cast<std::size_t>(data_.unknown)] = TokenType::unknown;
    }
}

void TokenizerJsonReader::read_added_token(const JsonField& token) {
    const auto id = static_cast<std::size_t>(token["id"].integer(0, kIdMax));
    auto content = token["content"].string();
    const bool special = token["special"].boolean_or(false);
    const bool strips = token["lstrip"].boolean_or(false) || token["rstrip"].boolean_or(false) ||
                        token["single_word"].boolean_or(false);
    if (strips && !special) token.refuse("lstrip, rstrip and single_word are not supported");
    if (data_.kind == TokenizerKind::sentencepiece && !special) {
        for (std::size_t at = 0; (at = content.find(' ', at)) != std::string::npos;) {
            content.replace(at, 1, kSpaceSymbol);
        }
    }
    const bool taken = id < data_.types.size() && data_.types[id] != TokenType::unused;
    if (taken && data_.tokens[id] != content) {
        token.refuse("id " + std::to_string(id) + " already is '" +
                     printable(data_.tokens[id], 40) + "'");
    }
    put(id, content, special ? TokenType::control : TokenType::user_defined);
}

void TokenizerJsonReader::read_normalizer() {
    const bool pieces = data_.kind == TokenizerKind::sentencepiece;
    for (const auto& step : sequence(root_["normalizer"], "normalizers")) {
        const auto type = step["type"].string();
        if (type == "NFC" && !pieces) {
            data_.normalize_nfc = true;
        } else if (type == "Prepend" && pieces && step["prepend"].string() == kSpaceSymbol) {
            data_.add_space_prefix = true;
        } else if (type == "Replace" && pieces && step["content"].string() == kSpaceSymbol &&
                   step["pattern"]["String"].string_or("") == " ") {
            continue;  // what every SentencePiece tokenizer does
        } else {
            step.refuse("this normalizer is not supported");
        }
    }
}

std::pair<std::string, std::string> TokenizerJsonReader::merge_at(const JsonField& merges,
                                                                  std::size_t rank) {
    const auto field = merges.at(rank);
    if (field.is_array()) {
        if (field.size() != 2) field.refuse("must have two tokens");
        return {field.at(0).string(), field.at(1).string()};
    }
    const auto both = field.string();
    const auto space = both.find(' ');
    if (space == std::string::npos || both.find(' ', space + 1) != std::string::npos) {
        field.refuse("must be two tokens with one space between");
    }
    return {both.substr(0, space), both.substr(space + 1)};
}

/// SentencePiece merges by score; a converter has written the merges by falling score, so the rank
/// of the first merge that makes a piece stands for its score.
void TokenizerJsonReader::read_merges() {
    const auto merges = root_["model"]["merges"];
    if (merges.size() > kMergesMax) {
        merges.refuse("more than " + std::to_string(kMergesMax) + " merges");
    }
    const bool pieces = data_.kind == TokenizerKind::sentencepiece;
    std::unordered_map<std::string_view, std::size_t> ids;
    if (pieces) {
        data_.scores.assign(data_.tokens.size(), kScoreUnmerged);
        for (std::size_t i = 0; i < data_.tokens.size(); ++i)
            ids.emplace(data_.tokens[i], i);
    }
    for (std::size_t rank = 0; rank < merges.size(); ++rank) {
        auto merge = merge_at(merges, rank);
        if (!pieces) {
            data_.merges.push_back(std::move(merge));
            continue;
        }
        const auto found = ids.find(merge.first + merge.second);
        if (found == ids.end()) merges.at(rank).refuse("makes what is no token");
        auto& score = data_.scores[found->second];
        if (score == kScoreUnmerged) score = -static_cast<float>(rank);
    }
}

std::int32_t id_of(const TokenizerData& data, const JsonField& name) {
    const auto found = std::find(data.tokens.begin(), data.tokens.end(), name.string());
    if (found == data.tokens.end()) name.refuse("is no token");
    return static_cast<std::int32_t>(found - data.tokens.begin());
}

/// A template "first token, text, last token" says which tokens surround a text.
void TokenizerJsonReader::read_post_processor() {
    for (const auto& step : sequence(root_["post_processor"], "processors")) {
        if (step["type"].string() != "TemplateProcessing") continue;
        const auto single = step["single"];
        if (single.size() == 0) continue;
        const auto first = single.at(0)["SpecialToken"];
        if (!first.is_null()) {
            data_.bos = id_of(data_, first["id"]);
            data_.add_bos = true;
        }
        const auto last = single.at(single.size() - 1)["SpecialToken"];
        if (!last.is_null() && single.size() > 1) {
            data_.eos = id_of(data_, last["id"]);
            data_.add_eos = true;
        }
    }
}

/// "bos_token": "<s>" or {"content": "<s>", ...}; `otherwise` when the field is null.
std::int32_t config_token(const TokenizerData& data, const JsonField& field,
                          std::int32_t otherwise) {
    if (field.is_null()) return otherwise;
    return id_of(data, field.is_object() ? field["content"] : field);
}

std::string config_template(const JsonField& field) {
    if (!field.is_array()) return field.string_or("");
    for (std::size_t i = 0; i < field.size(); ++i) {
        if (field.at(i)["name"].string() == "default") return field.at(i)["template"].string();
    }
    return "";
}

void read_config(const JsonField& config, TokenizerData& data) {
    data.bos = config_token(data, config["bos_token"], data.bos);
    data.eos = config_token(data, config["eos_token"], data.eos);
    data.unknown = config_token(data, config["unk_token"], data.unknown);
    data.padding = config_token(data, config["pad_token"], data.padding);
    data.add_bos = config["add_bos_token"].boolean_or(data.add_bos);
    data.add_eos = config["add_eos_token"].boolean_or(data.add_eos);
    data.chat_template = config_template(config["chat_template"]);
}

}  // namespace

TokenizerData read_tokenizer_json(std::string_view json, const std::string& file,
                                  std::string_view config) {
    TokenizerData data;
    const Json document = parse_json(json, file);
    TokenizerJsonReader(JsonField(document, file, ""), data).read();
    data.end_of_turn = known_end_of_turn(data);
    check_tokenizer_data(data, file);
    if (!config.empty()) {
        apply_tokenizer_config(config, "tokenizer_config.json beside " + file, data);
    }
    return data;
}

void apply_tokenizer_config(std::string_view config, const std::string& file, TokenizerData& data) {
    const Json document = parse_json(config, file);
    read_config(JsonField(document, file, ""), data);
    check_tokenizer_data(data, file);
}

}  // namespace etalon::text
