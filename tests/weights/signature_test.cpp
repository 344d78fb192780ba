// SPDX-License-Identifier: Apache-2.0
// Signatures: every bit of a bundle and of a model counts, every file is accounted for, and a
// statement that says something odd is refused by name.
#include "weights/signature.h"

#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <sys/stat.h>
#include <unistd.h>

#include "small_models.h"
#include "weights/internal/oms_bundle.h"
#include "weights/internal/oms_statement.h"

namespace etalon::weights {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr std::uint64_t kShard = 64;

const PrivateKey& key() {
    static const PrivateKey made = PrivateKey::generate();
    return made;
}

SignatureOptions options(std::uint64_t shard_bytes = kShard) {
    SignatureOptions out;
    out.n_threads = 2;
    out.shard_bytes = shard_bytes;
    return out;
}

/// A folder of three files, one of them below a folder; sizes off and on the end of a shard.
class SignedFolder {
  public:
    explicit SignedFolder(std::uint64_t shard_bytes = kShard) {
        fs::create_directory(path() / "sub");
        folder_.write("config.json", R"({"dim": 64})");
        folder_.write("model.safetensors", std::string(200, 'w'));
        folder_.write("sub/tokenizer.json", std::string(128, 't'));
        sign_model(path(), signature(), key(), options(shard_bytes));
    }
    const fs::path& path() const { return folder_.path(); }
    fs::path signature() const { return path() / "model.sig"; }
    void write(const std::string& name, std::string_view content) const {
        folder_.write(name, content);
    }
    Verification verify() const {
        return verify_model(path(), signature(), key().public_key(), options());
    }
    /// "changed config.json"
    std::vector<std::string> problems() const {
        std::vector<std::string> out;
        for (const Problem& problem : verify().problems)
            out.push_back(std::string(problem_name(problem.kind)) + " " + problem.file);
        return out;
    }

  private:
    TemporaryFolder folder_;
};

using Texts = std::vector<std::string>;

TEST(Keys, a_pair_of_files_that_openssl_reads) {
    const TemporaryFolder folder;
    const fs::path path = folder.path() / "k.pem";
    key().write(path);
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    EXPECT_EQ(content_of(folder.path() / "k.pem.pub"), key().public_key().pem());
    EXPECT_EQ(PrivateKey::read(path).public_key().hint(), key().public_key().hint());
    EXPECT_EQ(PublicKey::read(folder.path() / "k.pem.pub").hint(), key().public_key().hint());
    EXPECT_THROW(key().write(path), Error);  // never over another key
    const std::string signature = key().sign("a message");
    EXPECT_TRUE(key().public_key().verifies("a message", signature));
    EXPECT_FALSE(key().public_key().verifies("a Message", signature));
    EXPECT_FALSE(key().public_key().verifies("a message", signature + "x"));
    EXPECT_FALSE(key().public_key().verifies("a message", ""));
    EXPECT_FALSE(PrivateKey::generate().public_key().verifies("a message", signature));
}

TEST(Keys, what_is_no_key_is_refused) {
    const TemporaryFolder folder;
    const auto read = [&](const std::string& pem) {
        const fs::path path = folder.write("key", pem);
        fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
        return PrivateKey::read(path);
    };
    expect_refused([&] { return read("no key"); }, {"holds no private key"});
    expect_refused([&] { return read(key().public_key().pem()); }, {"holds no private key"});
    expect_refused([&] { return PublicKey::parse("no key", "k"); }, {"k", "no public key"});
    // An Ed25519 key, which OMS v1.0 does not know.
    expect_refused(
        [&] {
            return PublicKey::parse(
                "-----BEGIN PUBLIC KEY-----\n"
                "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                "-----END PUBLIC KEY-----\n",
                "k");
        },
        {"P-256"});
    key().write(folder.path() / "mine");
    fs::permissions(folder.path() / "mine", fs::perms::group_read, fs::perm_options::add);
    try {
        (void)PrivateKey::read(folder.path() / "mine");
        FAIL() << "a key that others read";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::refused);
        EXPECT_NE(error.hint().find("chmod 600"), std::string::npos);
    }
}

TEST(Signature, a_signed_model_verifies_in_both_forms) {
    for (const std::uint64_t shard_bytes : {kShard, std::uint64_t{0}, kSignedShardBytes}) {
        const SignedFolder folder(shard_bytes);
        const Verification found = folder.verify();
        EXPECT_TRUE(found.problems.empty()) << problems_text(found.problems);
        EXPECT_EQ(found.model.file_count, 3U);
        EXPECT_EQ(found.model.bytes, 11U + 200 + 128);
        EXPECT_EQ(found.model.shard_bytes, shard_bytes);
        EXPECT_EQ(found.model.key_hint, key().public_key().hint());
    }
}

TEST(Signature, names_of_the_default_places) {
    const SignedFolder folder;
    EXPECT_EQ(signature_path(folder.path()), folder.signature());
    EXPECT_EQ(signature_path("models/m.gguf"), "models/m.gguf.sig");
}

TEST(Signature, one_file_may_be_renamed) {
    const TemporaryFolder folder;
    const fs::path model = folder.write("a.gguf", std::string(300, 'g'));
    const fs::path signature = folder.path() / "a.gguf.sig";
    sign_model(model, signature, key(), options());
    fs::rename(model, folder.path() / "b.gguf");
    const Verification found =
        verify_model(folder.path() / "b.gguf", signature, key().public_key(), options());
    EXPECT_TRUE(found.problems.empty());
    EXPECT_EQ(found.model.model_name, "a.gguf");
}

TEST(Signature, a_signature_is_never_overwritten) {
    const SignedFolder folder;
    const std::string before = content_of(folder.signature());
    EXPECT_THROW(sign_model(folder.path(), folder.signature(), key(), options()), Error);
    EXPECT_EQ(content_of(folder.signature()), before);
}

TEST(Signature, every_byte_of_the_model_counts) {
    for (const std::uint64_t shard_bytes : {kShard, std::uint64_t{0}}) {
        const SignedFolder folder(shard_bytes);
        int found = 0;
        for (const char* name : {"config.json", "model.safetensors", "sub/tokenizer.json"}) {
            const std::string content = content_of(folder.path() / name);
            for (std::size_t i = 0; i < content.size(); ++i) {
                std::string changed = content;
                changed[i] = static_cast<char>(changed[i] ^ (1 << i % 8));
                folder.write(name, changed);
                found += folder.problems() == Texts{std::string("changed ") + name};
            }
            folder.write(name, content);
        }
        EXPECT_EQ(found, 11 + 200 + 128);
        EXPECT_TRUE(folder.problems().empty());
    }
}

TEST(Signature, every_bit_of_the_bundle_counts) {
    const SignedFolder folder;
    const std::string bundle = content_of(folder.signature());
    const PublicKey public_key = key().public_key();
    ASSERT_NO_THROW((void)open_bundle(bundle, public_key, "m.sig"));
    std::vector<std::size_t> unseen;
    for (std::size_t i = 0; i < bundle.size() * 8; ++i) {
        std::string changed = bundle;
        changed[i / 8] = static_cast<char>(changed[i / 8] ^ (1 << i % 8));
        try {
            (void)open_bundle(changed, public_key, "m.sig");
            unseen.push_back(i / 8);
        } catch (const Error& error) {
            if (error.code() != ExitCode::invalid) unseen.push_back(i / 8);
        }
    }
    EXPECT_EQ(unseen, std::vector<std::size_t>{}) << bundle;
    for (std::size_t size = 0; size < bundle.size() - 1; ++size)
        EXPECT_THROW((void)open_bundle(bundle.substr(0, size), public_key, "m.sig"), Error);
}

TEST(Signature, files_that_are_missing_or_extra_are_named) {
    const SignedFolder folder;
    folder.write("extra.bin", "x");
    folder.write("sub/empty", "");
    fs::remove(folder.path() / "config.json");
    EXPECT_EQ(folder.problems(),
              (Texts{"missing config.json", "extra extra.bin", "extra sub/empty"}));
    const std::string text = problems_text(folder.verify().problems);
    EXPECT_EQ(text, "file config.json is signed and not there, and 2 more");
}

TEST(Signature, sizes_and_names_count) {
    const SignedFolder folder;
    folder.write("model.safetensors", std::string(201, 'w'));
    EXPECT_EQ(problems_text(folder.verify().problems),
              "file model.safetensors has 201 bytes, 200 were signed");
    folder.write("model.safetensors", "");
    EXPECT_EQ(folder.problems(), Texts{"changed model.safetensors"});
    folder.write("model.safetensors", std::string(200, 'w'));
    EXPECT_TRUE(folder.problems().empty());
    fs::rename(folder.path() / "config.json", folder.path() / "Config.json");
    EXPECT_EQ(folder.problems(), (Texts{"extra Config.json", "missing config.json"}));
}

TEST(Signature, shards_of_equal_files_cannot_change_places) {
    const TemporaryFolder folder;
    const std::string a(64, 'a');
    const std::string b(64, 'b');
    const fs::path model = folder.write("m", a + b);
    sign_model(model, folder.path() / "m.sig", key(), options());
    folder.write("m", b + a);
    EXPECT_EQ(
        verify_model(model, folder.path() / "m.sig", key().public_key(), options()).problems.size(),
        2U);
}

TEST(Signature, the_files_of_git_do_not_count_and_only_at_the_top) {
    const SignedFolder folder;
    fs::create_directory(folder.path() / ".git");
    folder.write(".git/config", "x");
    folder.write(".gitattributes", "x");
    EXPECT_TRUE(folder.problems().empty());
    folder.write("sub/.gitattributes", "x");
    EXPECT_EQ(folder.problems(), Texts{"extra sub/.gitattributes"});
}

TEST(Signature, links_and_pipes_are_refused) {
    const SignedFolder folder;
    const fs::path file = folder.path() / "config.json";
    fs::rename(file, folder.path() / ".gitignore");
    fs::create_symlink(".gitignore", file);
    expect_refused([&] { return folder.verify(); }, {"config.json", "symbolic link"});
    fs::remove(file);
    ASSERT_EQ(::mkfifo(file.c_str(), 0600), 0);
    expect_refused([&] { return folder.verify(); }, {"config.json", "no regular file"});
    fs::remove(file);
    fs::create_directory_symlink("sub", folder.path() / "linked");
    expect_refused([&] { return folder.verify(); }, {"linked", "symbolic link"});
}

TEST(Signature, a_link_to_the_model_is_no_model) {
    const SignedFolder folder;
    const TemporaryFolder other;
    fs::create_directory_symlink(folder.path(), other.path() / "linked");
    expect_refused(
        [&] {
            return verify_model(other.path() / "linked", folder.signature(), key().public_key(),
                                options());
        },
        {"linked", "symbolic link"});
}

TEST(Signature, what_shards_cannot_express_is_hashed_whole) {
    for (const char* name : {"empty", "with:colon"}) {
        const TemporaryFolder folder;
        folder.write("model", "weights");
        folder.write(name, name == std::string("empty") ? "" : "x");
        const fs::path signature = folder.path() / "model.sig";
        EXPECT_EQ(sign_model(folder.path(), signature, key(), options()).shard_bytes, 0U);
        const auto verify = [&] {
            return verify_model(folder.path(), signature, key().public_key(), options());
        };
        EXPECT_TRUE(verify().problems.empty());
        folder.write(name, "y");
        EXPECT_EQ(verify().problems.size(), 1U);
    }
}

TEST(Signature, another_key_is_named) {
    const SignedFolder folder;
    const PublicKey other = PrivateKey::generate().public_key();
    expect_refused(
        [&] { return verify_model(folder.path(), folder.signature(), other, options()); },
        {"another key", other.hint(), key().public_key().hint()});
    // The same without the hint, which is not signed.
    json bundle = json::parse(content_of(folder.signature()));
    bundle["verificationMaterial"]["publicKey"] = json::object();
    EXPECT_NO_THROW((void)open_bundle(bundle.dump(), key().public_key(), "m.sig"));
    expect_refused([&] { return open_bundle(bundle.dump(), other, "m.sig"); },
                   {"does not fit", "another key"});
}

TEST(Signature, malformed_bundles_are_refused_by_name) {
    const SignedFolder folder;
    const json good = json::parse(content_of(folder.signature()));
    const auto refused = [&](const std::function<void(json&)>& change, const Texts& parts) {
        json bundle = good;
        change(bundle);
        expect_refused([&] { return open_bundle(bundle.dump(), key().public_key(), "m.sig"); },
                       parts);
    };
    refused([](json& b) { b["mediaType"] = "application/json"; }, {"mediaType"});
    refused([](json& b) { b.erase("dsseEnvelope"); }, {"dsseEnvelope", "missing"});
    refused([](json& b) { b["messageSignature"] = json::object(); },
            {"messageSignature", "not known"});
    refused([](json& b) { b["dsseEnvelope"]["payloadType"] = "text/plain"; }, {"payloadType"});
    refused([](json& b) { b["dsseEnvelope"]["signatures"] = json::array(); }, {"signatures"});
    refused(
        [](json& b) {
            auto& list = b["dsseEnvelope"]["signatures"];
            list.push_back(list[0]);
        },
        {"signatures", "one"});
    refused([](json& b) { b["dsseEnvelope"]["signatures"][0]["keyid"] = "x"; }, {"keyid"});
    refused([](json& b) { b["dsseEnvelope"]["payload"] = "e30"; }, {"payload", "base64"});
    refused([](json& b) { b["dsseEnvelope"]["payload"] = "e30="; }, {"does not fit"});
    refused(
        [](json& b) {
            b["verificationMaterial"].erase("publicKey");
            b["verificationMaterial"]["x509CertificateChain"]["certificates"] = json::array();
        },
        {"certificate", "bare key"});
    expect_refused([&] { return open_bundle("[]", key().public_key(), "m.sig"); }, {"no JSON obj"});
    expect_refused([&] { return open_bundle("", key().public_key(), "m.sig"); }, {"no JSON"});
    const std::string twice = R"({"mediaType": "a", "mediaType": "a"})";
    expect_refused([&] { return open_bundle(twice, key().public_key(), "m.sig"); }, {"twice"});
    const std::string deep = std::string(100, '[') + std::string(100, ']');
    expect_refused([&] { return open_bundle(deep, key().public_key(), "m.sig"); }, {"deep"});
}

/// A statement of two shards of "a" and one of "b/c", as JSON to be spoiled.
json good_statement() {
    Statement statement;
    statement.model_name = "m";
    statement.shard_bytes = 100;
    Sha256Digest one{};
    one[0] = 1;
    statement.files = {{"a", {{0, 100, one}, {100, 150, one}}}, {"b/c", {{0, 7, one}}}};
    statement.ignore_names = {".git"};
    return json::parse(format_statement(statement));
}

/// The root is made good again: only the change itself is what is refused.
std::string with_root(json statement) {
    Sha256 hash;
    for (const json& resource : statement["predicate"]["resources"]) {
        const std::string hex = resource.value("digest", "");
        for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
            const auto byte = static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16));
            hash.update(std::span(&byte, 1));
        }
    }
    statement["subject"][0]["digest"]["sha256"] = to_hex(hash.finish());
    return statement.dump();
}

void expect_statement_refused(const std::function<void(json&)>& change, const Texts& parts) {
    json statement = good_statement();
    change(statement);
    expect_refused([&] { return parse_statement(with_root(statement), "m.sig"); }, parts);
}

json& resource(json& statement, std::size_t i) {
    return statement["predicate"]["resources"][i];
}

TEST(Statement, comes_back_as_it_was_written) {
    const Statement back = parse_statement(good_statement().dump(), "m.sig");
    EXPECT_EQ(back.model_name, "m");
    EXPECT_EQ(back.shard_bytes, 100U);
    ASSERT_EQ(back.files.size(), 2U);
    EXPECT_EQ(back.files[0].ranges.size(), 2U);
    EXPECT_EQ(back.files[0].ranges[1].end, 150U);
    EXPECT_EQ(back.files[1].name, "b/c");
    EXPECT_EQ(back.ignore_names, Texts{".git"});
    // As model_signing writes a size: with a point, and files in any order.
    json other = good_statement();
    other["predicate"]["serialization"]["shard_size"] = 100.0;
    std::swap(resource(other, 0), resource(other, 2));
    EXPECT_EQ(parse_statement(with_root(other), "m.sig").files[0].ranges.size(), 2U);
}

TEST(Statement, names_that_lead_elsewhere_are_refused) {
    for (const char* name : {"../a:0:7", "b/../../c:0:7", "/etc/passwd:0:7", "b//c:0:7", "./c:0:7",
                             "b/:0:7", ":0:7", "b/.:0:7", "..:0:7", "b/..:0:7"}) {
        expect_statement_refused([&](json& s) { resource(s, 2)["name"] = name; },
                                 {"is no name below the model"});
    }
    using namespace std::string_literals;
    expect_statement_refused([&](json& s) { resource(s, 2)["name"] = "b\0c:0:7"s; },
                             {"is no name below the model"});
    expect_statement_refused(
        [&](json& s) { resource(s, 2)["name"] = std::string(5000, 'n') + ":0:7"; },
        {"is no name below the model"});
    expect_statement_refused(
        [](json& s) { s["predicate"]["serialization"]["ignore_paths"][0] = "../x"; },
        {"ignore_paths"});
    expect_statement_refused([](json& s) { resource(s, 2)["name"] = ".:0:7"; },
                             {"a file and a folder"});
    EXPECT_TRUE(is_plain_name("a"));
    EXPECT_TRUE(is_plain_name("a/.hidden/..c"));
}

TEST(Statement, entries_that_repeat_or_leave_a_gap_are_refused) {
    expect_statement_refused([](json& s) { resource(s, 2) = resource(s, 0); }, {"file a", "twice"});
    expect_statement_refused([](json& s) { resource(s, 0)["name"] = "a:50:150"; },
                             {"file a", "bytes 0 to 50 are not signed"});
    expect_statement_refused([](json& s) { resource(s, 1)["name"] = "a:101:150"; },
                             {"file a", "bytes 100 to 101 are not signed"});
    expect_statement_refused([](json& s) { resource(s, 1)["name"] = "a:99:150"; },
                             {"file a", "twice"});
    expect_statement_refused([](json& s) { resource(s, 0)["name"] = "a:0:99"; },
                             {"file a", "0:99 is no shard of 100 bytes"});
    expect_statement_refused([](json& s) { resource(s, 1)["name"] = "a:100:201"; },
                             {"file a", "no shard"});
    expect_statement_refused([](json& s) { resource(s, 1)["name"] = "a:100:100"; },
                             {"file a", "no shard"});
    expect_statement_refused([](json& s) { resource(s, 1)["name"] = "a:100:50"; },
                             {"file a", "no shard"});
    json files = good_statement();
    files["predicate"]["serialization"] = {{"method", "files"}, {"hash_type", "sha256"}};
    for (json& one : files["predicate"]["resources"]) {
        one["name"] = "a";
        one["algorithm"] = "sha256";
    }
    expect_refused([&] { return parse_statement(with_root(files), "m.sig"); }, {"file a", "twice"});
}

TEST(Statement, numbers_out_of_range_are_refused) {
    json good = good_statement();
    for (const char* range : {"0:18446744073709551616", "0:18446744073709551615",
                              "0:9007199254740993", "0:-7", "-0:7", "+0:7", "00:7", "0:07", "0:7.0",
                              "0x0:7", "0:", ":7", "0", "", "0:7:0:7", " 0:7", "0:7 "}) {
        expect_statement_refused(
            [&](json& s) { resource(s, 2)["name"] = std::string("c:") + range; }, {"is no shard"});
    }
    for (const json& size : {json(0), json(-1), json(0.5), json(1e300), json("100"), json(nullptr),
                             json(std::uint64_t{1} << 63), json::array(), json(true)}) {
        expect_statement_refused(
            [&](json& s) { s["predicate"]["serialization"]["shard_size"] = size; }, {"shard_size"});
    }
    json many = good_statement();
    many["predicate"].erase("resources");
    std::string text = many.dump();
    const std::string one = resource(good, 0).dump();
    std::string list = one;
    for (int i = 0; i < (1 << 17); ++i)
        list += "," + one;
    const std::string head = "\"predicate\":{";
    text.insert(text.find(head) + head.size(), "\"resources\":[" + list + "],");
    expect_refused([&] { return parse_statement(text, "m.sig"); }, {"resources", "131073 entries"});
}

TEST(Statement, other_versions_and_hashes_are_refused) {
    expect_statement_refused([](json& s) { s["_type"] = "https://in-toto.io/Statement/v0.1"; },
                             {"_type"});
    expect_statement_refused(
        [](json& s) { s["predicateType"] = "https://model_signing/Digests/v0.1"; },
        {"predicateType"});
    expect_statement_refused([](json& s) { s["predicate"]["serialization"]["method"] = "tree"; },
                             {"method"});
    for (const char* hash : {"blake2b", "blake3", "SHA256"}) {
        expect_statement_refused(
            [&](json& s) { s["predicate"]["serialization"]["hash_type"] = hash; }, {"hash_type"});
        expect_statement_refused([&](json& s) { resource(s, 0)["algorithm"] = hash; },
                                 {"algorithm"});
    }
    expect_statement_refused([](json& s) { resource(s, 0)["algorithm"] = "sha256-sharded-99"; },
                             {"algorithm"});
    for (const std::string& digest :
         {std::string(), std::string(62, '0'), std::string(66, '0'), std::string(64, 'A'),
          std::string(63, '0') + "g", "+1" + std::string(62, '0')}) {
        json statement = good_statement();
        resource(statement, 0)["digest"] = digest;
        expect_refused([&] { return parse_statement(statement.dump(), "m.sig"); }, {"digest"});
    }
    expect_statement_refused([](json& s) { s["predicate"]["resources"] = json::array(); },
                             {"resources"});
    expect_statement_refused([](json& s) { s["subject"].push_back(s["subject"][0]); }, {"subject"});
    json statement = good_statement();
    statement["subject"][0]["digest"]["sha256"] = std::string(64, '0');
    expect_refused([&] { return parse_statement(statement.dump(), "m.sig"); },
                   {"digest", "not that of the files"});
}

}  // namespace
}  // namespace etalon::weights
