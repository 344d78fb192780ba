// SPDX-License-Identifier: Apache-2.0
// What a policy lets in: a model that is signed, that nobody else may change, and of which only the
// verified files are opened; and what is hashed again at the next start.
#include "weights/admission.h"

#include <chrono>
#include <filesystem>
#include <thread>
#include <unistd.h>

#include "base/sha256.h"
#include "small_models.h"
#include "weights/internal/verified_record.h"
#include "weights/model_file.h"
#include "weights/signature.h"

namespace etalon::weights {
namespace {

namespace fs = std::filesystem;

constexpr auto kOthersWrite = fs::perms::group_write;

/// A signed GGUF file and a signed folder of Hugging Face, with the key beside.
class SignedModels {
  public:
    SignedModels() {
        const PrivateKey key = PrivateKey::generate();
        key.write(folder_.path() / "k");
        file = folder_.write("m.gguf", small_gguf().build());
        write_hf_texts(hf_folder_);
        write_shards(hf_folder_, "F32");
        hf = hf_folder_.path();
        for (const fs::path& model : {file, hf})
            sign_model(model, signature_path(model), key, {});
    }
    AdmissionOptions options() const {
        AdmissionOptions out;
        out.required = true;
        out.public_key = folder_.path() / "k.pub";
        out.record = folder_.path() / "data" / "verified";
        return out;
    }
    const fs::path& path() const { return folder_.path(); }

    fs::path file;
    fs::path hf;

  private:
    TemporaryFolder folder_;
    TemporaryFolder hf_folder_;
};

/// The model is refused by the policy, and message and hint together hold every part.
template <typename Call>
void expect_kept_out(const Call& call, const std::vector<std::string>& parts) {
    try {
        (void)call();
        FAIL() << "let in: " << parts.front();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::refused) << error.message();
        for (const auto& part : parts)
            EXPECT_NE((error.message() + "\n" + error.hint()).find(part), std::string::npos)
                << part << " is not in: " << error.message() << "\n"
                << error.hint();
    }
}

ModelFile open(const fs::path& model, const AdmissionOptions& options) {
    Admission admission(model, options);
    return ModelFile::open(model, admission.verify(2));
}

std::uint64_t hashed_bytes(const fs::path& model, const AdmissionOptions& options) {
    Admission admission(model, options);
    (void)admission.verify(2);
    return admission.admitted().hashed_bytes;
}

/// Longer than a file must be left alone before it is recorded.
void let_settle() {
    std::this_thread::sleep_for(std::chrono::milliseconds(1000 * kSettledSeconds + 1100));
}

TEST(Admission, signed_models_are_let_in) {
    const SignedModels models;
    EXPECT_EQ(open(models.file, models.options()).kind(), FileKind::gguf);
    EXPECT_EQ(open(models.hf, models.options()).kind(), FileKind::safetensors);
    Admission admission(models.hf, models.options());
    EXPECT_EQ(admission.readable().size(), 1U + 6U);
    (void)admission.verify(1);
    EXPECT_EQ(admission.admitted().root.size(), 64U);
}

TEST(Admission, nothing_is_asked_where_nothing_is_required) {
    const SignedModels models;
    fs::remove(signature_path(models.file));
    fs::permissions(models.file, kOthersWrite, fs::perm_options::add);
    EXPECT_EQ(open(models.file, {}).kind(), FileKind::gguf);
}

TEST(Admission, unsigned_and_changed_models_are_kept_out) {
    const SignedModels models;
    std::string content = content_of(models.file);
    content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
    std::ofstream(models.file, std::ios::binary) << content;
    expect_kept_out([&] { return open(models.file, models.options()); }, {"not those", "bytes 0"});
    std::ofstream(models.hf / "extra.json") << "{}";
    expect_kept_out([&] { return open(models.hf, models.options()); }, {"extra.json"});
    std::ofstream(signature_path(models.file), std::ios::trunc) << "{}";
    expect_kept_out([&] { return open(models.file, models.options()); }, {"mediaType"});
    fs::remove(signature_path(models.file));
    expect_kept_out([&] { return open(models.file, models.options()); },
                    {"is not signed", "m.gguf.sig", "etalon sign"});
    AdmissionOptions other = models.options();
    PrivateKey::generate().write(models.path() / "other");
    other.public_key = models.path() / "other.pub";
    fs::remove(models.hf / "extra.json");
    expect_kept_out([&] { return open(models.hf, other); }, {"another key"});
    other.public_key = models.path() / "no_such_key";
    expect_kept_out([&] { return open(models.hf, other); }, {"no_such_key"});
    EXPECT_NO_THROW((void)open(models.hf, models.options()));
}

TEST(Admission, a_model_that_is_not_there_is_not_found) {
    const SignedModels models;
    try {
        (void)Admission(models.path() / "none.gguf", models.options());
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::not_found);
    }
}

TEST(Admission, what_others_may_write_is_kept_out) {
    const SignedModels models;
    for (const fs::path& path : {models.hf / "config.json", models.hf}) {
        for (const auto who : {fs::perms::group_write, fs::perms::others_write}) {
            fs::permissions(path, who, fs::perm_options::add);
            expect_kept_out([&] { return open(models.hf, models.options()); },
                            {path.string(), "may be written by others", "chmod go-w"});
            fs::permissions(path, who, fs::perm_options::remove);
        }
    }
    EXPECT_NO_THROW((void)open(models.hf, models.options()));
    fs::permissions(models.path() / "k.pub", kOthersWrite, fs::perm_options::add);
    expect_kept_out([&] { return open(models.hf, models.options()); }, {"public key", "chmod"});
}

TEST(Admission, a_model_of_another_user_is_kept_out) {
    if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file away";
    const SignedModels models;
    ASSERT_EQ(::chown(models.file.c_str(), 12345, 0), 0);
    expect_kept_out([&] { return open(models.file, models.options()); },
                    {"m.gguf", "belongs to user 12345"});
}

TEST(Admission, only_the_verified_files_are_opened) {
    const SignedModels models;
    Admission admission(models.hf, models.options());
    const FileCheck check = admission.verify(2);
    EXPECT_NO_THROW((void)ModelFile::open(models.hf, check));
    // The same content in another file, under the same name.
    const fs::path config = models.hf / "config.json";
    fs::copy_file(config, models.path() / "copy");
    fs::rename(models.path() / "copy", config);
    expect_kept_out([&] { return ModelFile::open(models.hf, check); },
                    {"config.json", "changed after it was verified"});
}

TEST(Admission, a_file_beside_that_is_not_signed_is_not_read) {
    const SignedModels models;
    // Of a safetensors file alone nothing tells what config.json beside it says.
    const fs::path weights = models.hf / "model.safetensors";
    std::ofstream(weights, std::ios::binary) << safetensors_of(small_hf_tensors("F32"));
    sign_model(weights, models.path() / "alone.sig", PrivateKey::read(models.path() / "k"), {});
    AdmissionOptions options = models.options();
    options.signature = models.path() / "alone.sig";
    expect_kept_out([&] { return open(weights, options); },
                    {"config.json", "read and not signed", "folder"});
}

TEST(Admission, the_next_start_hashes_what_has_changed) {
    const SignedModels models;
    const AdmissionOptions options = models.options();
    const std::uint64_t size = fs::file_size(models.file);
    // A file that was just written may be written again without a new change time.
    EXPECT_EQ(hashed_bytes(models.file, options), size);
    EXPECT_EQ(hashed_bytes(models.file, options), size);
    let_settle();
    EXPECT_EQ(hashed_bytes(models.file, options), size);
    EXPECT_EQ(hashed_bytes(models.file, options), 0U);
    EXPECT_NO_THROW((void)open(models.file, options));
    AdmissionOptions always = options;
    always.record.clear();
    EXPECT_EQ(hashed_bytes(models.file, always), size);
    // The signature counts even then: another model's does not fit what is known.
    fs::copy_file(models.file, models.path() / "copy.gguf");
    std::string content = content_of(models.file);
    content.back() = static_cast<char>(content.back() ^ 1);
    const fs::path changed = models.path() / "changed.gguf";
    std::ofstream(changed, std::ios::binary) << content;
    sign_model(changed, signature_path(changed), PrivateKey::read(models.path() / "k"), {});
    AdmissionOptions swapped = options;
    swapped.signature = signature_path(changed);
    expect_kept_out([&] { return open(models.file, swapped); }, {"not those that were signed"});
    // Written anew with the very same bytes: the change time has moved.
    std::ofstream(models.file, std::ios::binary) << content_of(models.path() / "copy.gguf");
    EXPECT_EQ(hashed_bytes(models.file, options), size);
}

TEST(Admission, a_record_that_others_may_write_is_refused) {
    const SignedModels models;
    const AdmissionOptions options = models.options();
    EXPECT_NO_THROW((void)open(models.file, options));
    fs::permissions(options.record, fs::perms::others_read, fs::perm_options::add);
    expect_kept_out([&] { return open(models.file, options); }, {"record", "open to others"});
    fs::permissions(options.record, fs::perms::others_read, fs::perm_options::remove);
    fs::create_hard_link(options.record, models.path() / "second");
    expect_kept_out([&] { return open(models.file, options); }, {"record", "second name"});
    fs::remove(options.record);
    fs::create_symlink(models.path() / "second", options.record);
    expect_kept_out([&] { return open(models.file, options); }, {"record", "symbolic link"});
}

TEST(Admission, the_hash_of_the_file_is_remembered_too) {
    const SignedModels models;
    AdmissionOptions options = models.options();
    options.file_sha256 = true;
    const std::string content = content_of(models.file);
    const std::string expected = to_hex(sha256(std::as_bytes(std::span(content))));
    let_settle();
    for (int start = 0; start < 2; ++start) {
        Admission admission(models.file, options);
        (void)admission.verify(1);
        EXPECT_EQ(admission.admitted().file_sha256, expected);
        EXPECT_NE(content_of(options.record).find(" file:" + expected), std::string::npos);
    }
    Admission folder(models.hf, options);
    (void)folder.verify(1);
    EXPECT_EQ(folder.admitted().file_sha256, "");
}

TEST(VerifiedRecord, torn_and_foreign_lines_know_nothing) {
    const TemporaryFolder folder;
    const fs::path path = folder.path() / "record";
    const FileIdentity identity{1, 2, 3, 4, 5};
    {
        VerifiedRecord record(path);
        EXPECT_FALSE(record.knows(identity, "aa"));
        record.learn(identity, "aa");
        EXPECT_TRUE(record.knows(identity, "aa"));
    }
    EXPECT_EQ(content_of(path), "\n1 1 2 3 4 5 aa\n");
    std::ofstream(path, std::ios::app) << "garbage\n1 1 2 3 4 6 a";  // cut off by a crash
    {
        VerifiedRecord record(path);
        EXPECT_TRUE(record.knows(identity, "aa"));
        EXPECT_FALSE(record.knows({1, 2, 3, 4, 6}, "a"));
        for (const FileIdentity& other :
             {FileIdentity{9, 2, 3, 4, 5}, FileIdentity{1, 9, 3, 4, 5}, FileIdentity{1, 2, 9, 4, 5},
              FileIdentity{1, 2, 3, 9, 5}, FileIdentity{1, 2, 3, 4, 9}})
            EXPECT_FALSE(record.knows(other, "aa"));
        EXPECT_FALSE(record.knows(identity, "ab"));
        record.learn({1, 2, 3, 4, 7}, "bb");
        record.close();
        record.learn({1, 2, 3, 4, 8}, "cc");
    }
    VerifiedRecord record(path);
    EXPECT_TRUE(record.knows({1, 2, 3, 4, 7}, "bb"));
    EXPECT_FALSE(record.knows({1, 2, 3, 4, 8}, "cc"));
    // A whole hash is of its file, and looks like one.
    const std::string sha256(64, 'a');
    record.learn_whole(identity, sha256);
    EXPECT_EQ(record.whole_sha256(identity), sha256);
    EXPECT_EQ(record.whole_sha256({1, 2, 3, 4, 6}), "");
    record.learn_whole({1, 2, 3, 4, 6}, "../" + sha256);
    EXPECT_EQ(record.whole_sha256({1, 2, 3, 4, 6}), "");
}

TEST(VerifiedRecord, a_large_file_is_begun_anew) {
    const TemporaryFolder folder;
    const fs::path path = folder.write("record", std::string(kRecordBytesMax + 1, '\n'));
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    VerifiedRecord record(path);
    EXPECT_EQ(fs::file_size(path), 0U);
}

}  // namespace
}  // namespace etalon::weights
