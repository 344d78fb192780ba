// SPDX-License-Identifier: Apache-2.0
// The in-toto statement of a model signature.
#include "weights/internal/oms_statement.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <optional>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/json_text.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

using nlohmann::json;

namespace {

constexpr std::string_view kStatementType = "https://in-toto.io/Statement/v1";
constexpr std::string_view kPredicateType = "https://model_signing/signature/v1.0";
constexpr std::string_view kHash = "sha256";
/// Sizes above this are no whole numbers in every reader of JSON.
constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 53;

Sha256Digest root_of(const std::vector<Sha256Digest>& digests) {
    Sha256 hash;
    for (const Sha256Digest& digest : digests)
        hash.update(std::as_bytes(std::span(digest)));
    return hash.finish();
}

std::string shard_algorithm(std::uint64_t shard_bytes) {
    return fmt::format("{}-sharded-{}", kHash, shard_bytes);
}

Sha256Digest digest_of(const JsonFields& fields, const char* key) {
    const auto digest = digest_from_hex(fields.text(key));
    if (!digest) fields.fail(key, "is no SHA-256 in lower-case hexadecimal");
    return *digest;
}

/// A whole number without sign and leading zero.
std::optional<std::uint64_t> size_from(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value > kSizeMax ||
        fmt::format("{}", value) != text) {
        return std::nullopt;
    }
    return value;
}

/// "NAME:BEGIN:END" as name and range.
std::optional<std::pair<std::string, SignedRange>> shard_from(const std::string& text) {
    const std::size_t second = text.rfind(':');
    const std::size_t first = second == std::string::npos || second == 0
                                  ? std::string::npos
                                  : text.rfind(':', second - 1);
    if (first == std::string::npos) return std::nullopt;
    const auto begin = size_from(std::string_view(text).substr(first + 1, second - first - 1));
    const auto end = size_from(std::string_view(text).substr(second + 1));
    std::string name = text.substr(0, first);
    if (!begin || !end || name.find(':') != std::string::npos) return std::nullopt;
    return std::pair{std::move(name), SignedRange{*begin, *end, {}}};
}

/// shard_size; model_signing 1.1.1 writes it as 1000000000.0.
std::uint64_t shard_bytes_of(const JsonFields& serialization) {
    const json& value = serialization.at("shard_size");
    const double size = value.is_number() ? value.get<double>() : 0.0;
    if (!(size >= 1.0 && size <= static_cast<double>(kSizeMax)) || std::floor(size) != size) {
        serialization.fail("shard_size", "is no number of bytes");
    }
    return static_cast<std::uint64_t>(size);
}

class Reader {
  public:
    explicit Reader(const std::string& file) : file_(file) {}

    Statement read(std::string_view text) {
        const json document = parse_json_text(text, "statement", file_);
        const JsonFields statement(document, "statement", file_);
        require(statement, "_type", kStatementType);
        require(statement, "predicateType", kPredicateType);
        const JsonFields predicate = statement.object("predicate");
        read_serialization(predicate.object("serialization"));
        read_resources(predicate);
        read_subject(statement);
        for (auto& [name, ranges] : files_) {
            check_ranges(name, ranges);
            out_.files.push_back({name, std::move(ranges)});
        }
        return std::move(out_);
    }

  private:
    static void require(const JsonFields& fields, const char* key, std::string_view value) {
        if (fields.text(key) != value) fields.fail(key, fmt::format("is not {}", value));
    }

    void read_serialization(const JsonFields& serialization) {
        const std::string method = serialization.text("method");
        if (method != "files" && method != "shards") {
            serialization.fail("method", "is neither files nor shards");
        }
        require(serialization, "hash_type", kHash);
        if (method == "shards") out_.shard_bytes = shard_bytes_of(serialization);
        if (!serialization.has("ignore_paths")) return;
        const json& names = serialization.at("ignore_paths");
        if (!names.is_array() || names.size() > kIgnoredNamesMax) {
            serialization.fail("ignore_paths", "is no list of names");
        }
        for (const json& name : names) {
            if (!name.is_string() || !is_plain_name(name.get_ref<const std::string&>())) {
                serialization.fail("ignore_paths", "holds what is no name below the model");
            }
            out_.ignore_names.push_back(name.get<std::string>());
        }
    }

    void read_resources(const JsonFields& predicate) {
        const json& resources = predicate.at("resources");
        if (!resources.is_array() || resources.empty()) {
            predicate.fail("resources", "is no list of files");
        }
        if (resources.size() > kSignedRangesMax) {
            predicate.fail("resources", fmt::format("has {} entries, at most {} are read",
                                                    resources.size(), kSignedRangesMax));
        }
        std::vector<Sha256Digest> digests;
        for (const json& resource : resources) {
            const JsonFields fields(resource, "resources", file_);
            digests.push_back(digest_of(fields, "digest"));
            read_resource(fields, digests.back());
        }
        out_.root = root_of(digests);
    }

    void read_resource(const JsonFields& fields, const Sha256Digest& digest) {
        std::string name = fields.text("name");
        const std::string algorithm = fields.text("algorithm");
        SignedRange range;
        bool known = algorithm == kHash;
        if (out_.has_shards()) {
            auto shard = shard_from(name);
            if (!shard) fields.fail("name", fmt::format("{} is no shard", printable(name)));
            name = std::move(shard->first);
            range = shard->second;
            known = known || algorithm == shard_algorithm(out_.shard_bytes);
        }
        if (!known) fields.fail("algorithm", "is not SHA-256");
        if (name != kOnlyFile && !is_plain_name(name)) {
            fields.fail("name", fmt::format("{} is no name below the model", printable(name)));
        }
        range.digest = digest;
        files_[name].push_back(range);
    }

    void read_subject(const JsonFields& statement) {
        const json& subjects = statement.at("subject");
        if (!subjects.is_array() || subjects.size() != 1) {
            statement.fail("subject", "is no list of one model");
        }
        const JsonFields subject(subjects[0], "subject", file_);
        out_.model_name = subject.text("name");
        if (digest_of(subject.object("digest"), "sha256") != out_.root) {
            subject.fail("digest", "is not that of the files listed");
        }
        if (files_.count(kOnlyFile) != 0 && files_.size() != 1) {
            refuse(file_, "resources", "name a file and a folder at once");
        }
    }

    void check_ranges(const std::string& name, std::vector<SignedRange>& ranges) const {
        const std::string field = fmt::format("file {}", printable(name));
        if (!out_.has_shards()) {
            if (ranges.size() != 1) refuse(file_, field, "stands twice in the signature");
            return;
        }
        std::sort(ranges.begin(), ranges.end(),
                  [](const SignedRange& a, const SignedRange& b) { return a.begin < b.begin; });
        std::uint64_t next = 0;
        for (const SignedRange& range : ranges) {
            if (range.begin < next) refuse(file_, field, "stands twice in the signature");
            if (range.begin > next) {
                refuse(file_, field,
                       fmt::format("bytes {} to {} are not signed", next, range.begin));
            }
            const bool last = &range == &ranges.back();
            const std::uint64_t size = range.end > range.begin ? range.end - range.begin : 0;
            if (size == 0 || size > out_.shard_bytes || (!last && size != out_.shard_bytes)) {
                refuse(file_, field,
                       fmt::format("{}:{} is no shard of {} bytes", range.begin, range.end,
                                   out_.shard_bytes));
            }
            next = range.end;
        }
    }

    const std::string& file_;
    Statement out_;
    std::map<std::string, std::vector<SignedRange>> files_;
};

}  // namespace

Statement parse_statement(std::string_view text, const std::string& file) {
    return Reader(file).read(text);
}

bool is_plain_name(std::string_view name) noexcept {
    if (name.empty() || name.size() > kSignedNameBytesMax) return false;
    if (name.find('\0') != std::string_view::npos) return false;
    std::size_t begin = 0;
    for (;;) {
        const std::size_t end = std::min(name.find('/', begin), name.size());
        const std::string_view part = name.substr(begin, end - begin);
        if (part.empty() || part == "." || part == "..") return false;
        if (end == name.size()) return true;
        begin = end + 1;
    }
}

std::string format_statement(Statement& statement) {
    std::vector<Sha256Digest> digests;
    nlohmann::ordered_json resources = json::array();
    const std::string algorithm =
        statement.has_shards() ? shard_algorithm(statement.shard_bytes) : std::string(kHash);
    for (const SignedFile& file : statement.files) {
        for (const SignedRange& range : file.ranges) {
            ETALON_ASSERT(!statement.has_shards() || range.end > range.begin);
            const std::string name =
                statement.has_shards() ? fmt::format("{}:{}:{}", file.name, range.begin, range.end)
                                       : file.name;
            resources.push_back(
                {{"name", name}, {"digest", to_hex(range.digest)}, {"algorithm", algorithm}});
            digests.push_back(range.digest);
        }
    }
    statement.root = root_of(digests);
    nlohmann::ordered_json serialization;
    serialization["method"] = statement.has_shards() ? "shards" : "files";
    serialization["hash_type"] = kHash;
    // A whole number: readers that take a number with a point do not find the shards (1.1.1).
    if (statement.has_shards()) serialization["shard_size"] = statement.shard_bytes;
    serialization["allow_symlinks"] = false;
    if (!statement.ignore_names.empty()) serialization["ignore_paths"] = statement.ignore_names;
    nlohmann::ordered_json out;
    out["_type"] = kStatementType;
    nlohmann::ordered_json subject;
    subject["name"] = statement.model_name;
    subject["digest"]["sha256"] = to_hex(statement.root);
    out["subject"] = json::array();
    out["subject"].push_back(std::move(subject));
    out["predicateType"] = kPredicateType;
    out["predicate"]["resources"] = std::move(resources);
    out["predicate"]["serialization"] = std::move(serialization);
    return out.dump();
}

}  // namespace etalon::weights
