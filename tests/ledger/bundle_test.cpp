// SPDX-License-Identifier: Apache-2.0
// A bundle is accepted as it was written, and refused once anything in it was changed, whoever
// repairs the hashes behind it.
#include "ledger/bundle.h"

#include <algorithm>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <random>

#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/internal/manifest.h"
#include "ledger/limits.h"
#include "ledger/stamps.h"
#include "ledger/subjects.h"
#include "tlog/tile.h"

namespace etalon::ledger {
namespace {

namespace fs = std::filesystem;

std::string get(const fs::path& path) {
    return read_file(path, kBytesMax);
}
/// In place of the file: copies of a bundle share files by hard links.
void put(const fs::path& path, std::string_view bytes) {
    fs::remove(path);
    std::ofstream stream(path, std::ios::binary);
    stream.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// A ledger with some answers, its bundle, and an earlier checkpoint that an auditor kept.
class Bundle : public ::testing::Test {
  protected:
    void SetUp() override {
        {
            Ledger ledger(options_in(folder_));
            policy_ = tlog::parse_policy(fmt::format("log {}\nquorum none\n", ledger.log_key()));
            const std::uint64_t load = ledger.model_loaded(some_model());
            add_answers(ledger, load, 3);
            ledger.publish_now();
            held_ = get(options_in(folder_).folder / "log" / "checkpoint");
            held_size_ = tlog::parse_checkpoint(tlog::parse_note(held_).text).size;
            keep_stamp(options_in(folder_).folder, some_stamp(held_size_, held_));
            add_answers(ledger, load, 12);
            first_ = ledger.begin_now(some_request(load)).intent;  // is never answered
        }
        bundle_ = folder_.path() / "bundle";
        size_ = export_bundle(options_in(folder_).folder, {3, first_}, bundle_, some_evidence())
                    .checkpoint.size;
        copy_ = folder_.path() / "copy";
    }

    /// First the intents, then the complete records.
    static void add_answers(Ledger& ledger, std::uint64_t load, int n) {
        std::vector<std::uint64_t> intents;
        std::promise<void> begun;
        for (int i = 0; i < n; ++i) {
            RequestIntent request = some_request(load, 1, 2);
            request.subjects = {i % 2 == 0 ? "even" : "odd"};
            ledger.begin(request, [&, n](const Began& began) {
                intents.push_back(std::get<Ticket>(began).intent);
                if (intents.size() == static_cast<std::size_t>(n)) begun.set_value();
            });
        }
        begun.get_future().get();
        std::promise<void> completed;
        std::size_t n_completed = 0;
        for (const std::uint64_t intent : intents) {
            ledger.complete(some_completion(intent, 2), [&](const Error* error) {
                EXPECT_EQ(error, nullptr);
                if (++n_completed == intents.size()) completed.set_value();
            });
        }
        completed.get_future().get();
    }

    /// Changes a copy and returns why it is refused; "" when it is not.
    std::string verdict(const std::function<void()>& change) {
        fs::remove_all(copy_);
        fs::copy(bundle_, copy_, fs::copy_options::recursive | fs::copy_options::create_hard_links);
        change();
        try {
            (void)verify_bundle(copy_, policy_, held_);
            return "";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid) << error.message();
            return error.message();
        }
    }

    /// The manifest is written anew and signed by the log's own key: what an operator can do.
    void sign_again(const std::function<void(Manifest&)>& change = {}) const {
        Manifest manifest = parse_manifest(tlog::parse_note(get(copy_ / "MANIFEST")).text);
        manifest.files = hash_folder(copy_);
        if (change) change(manifest);
        const std::string text = manifest_text(manifest);
        put(copy_ / "MANIFEST", tlog::note_text({text, {key().sign(text)}}));
    }
    tlog::SigningKey key() const {
        std::string text = get(options_in(folder_).folder / "keys" / "log.key");
        text.pop_back();
        return tlog::SigningKey::parse(text);
    }

    std::vector<std::string> files() const {
        std::vector<std::string> found;
        for (const auto& [path, file] : hash_folder(bundle_))
            found.push_back(path);
        return found;
    }

    Folder folder_;
    tlog::Policy policy_;
    std::string held_;
    std::uint64_t held_size_ = 0;
    std::uint64_t first_ = 0;
    std::uint64_t size_ = 0;
    fs::path bundle_;
    fs::path copy_;
};

TEST_F(Bundle, it_is_accepted_as_it_was_written) {
    EXPECT_EQ(verdict([] {}), "");
    const BundleReport report = verify_bundle(bundle_, policy_, held_);
    EXPECT_EQ(report.checkpoint.size, size_);
    EXPECT_EQ(report.kinds.at("intent"), 16U);  // the bundle of entries begins at record 0
    EXPECT_EQ(report.kinds.at("complete"), 15U);
    EXPECT_EQ(report.n_unfinished, 1U);
    EXPECT_EQ(report.n_payloads, 14U);  // of intents from 3 on
    EXPECT_EQ(verify_bundle(bundle_, bundle_policy(bundle_)).n_payloads, 14U);
}

TEST_F(Bundle, any_changed_byte_is_noticed) {
    std::mt19937_64 random(1);
    std::vector<std::string> all = files();
    all.emplace_back("MANIFEST");
    for (int i = 0; i < 300; ++i) {
        const std::string& path = all[random() % all.size()];
        const std::string what = verdict([&] {
            std::string bytes = get(copy_ / path);
            bytes[random() % bytes.size()] ^= static_cast<char>(1U << random() % 8);
            put(copy_ / path, bytes);
        });
        EXPECT_NE(what, "") << path;
    }
}

TEST_F(Bundle, a_missing_an_added_and_a_cut_file_are_noticed) {
    for (const std::string& path : files()) {
        EXPECT_NE(verdict([&] { fs::remove(copy_ / path); }), "") << path;
        EXPECT_NE(verdict([&] {
                      const std::string bytes = get(copy_ / path);
                      put(copy_ / path, bytes.substr(0, bytes.size() - 1));
                  }),
                  "")
            << path;
    }
    EXPECT_NE(verdict([&] { put(copy_ / "extra", "x"); }), "");
    EXPECT_NE(verdict([&] { fs::create_symlink("README.md", copy_ / "link"); }), "");
    EXPECT_NE(verdict([&] { fs::remove(copy_ / "MANIFEST"); }), "");
}

/// All hashes of the manifest are right again and the log's key has signed it.
TEST_F(Bundle, a_change_is_noticed_behind_a_manifest_that_was_signed_again) {
    EXPECT_EQ(verdict([&] { sign_again(); }), "");
    std::mt19937_64 random(2);
    for (const std::string& path : files()) {
        // These are the exporter's word and nothing more; a stamp is its authority's.
        if (path == "README.md" || path == "policy.txt" || path == kSandboxPath) continue;
        if (path.rfind("models/", 0) == 0 || path.find(".tsr") != path.npos) continue;
        const std::string changed = verdict([&] {
            std::string bytes = get(copy_ / path);
            bytes[random() % bytes.size()] ^= static_cast<char>(1U << random() % 8);
            put(copy_ / path, bytes);
            sign_again();
        });
        EXPECT_NE(changed, "") << path;
        // May be left out: it could be erased; another certificate could be sealed to now.
        if (path.rfind("payloads/", 0) == 0 || path.rfind("auditors/", 0) == 0) continue;
        EXPECT_NE(verdict([&] {
                      fs::remove(copy_ / path);
                      sign_again();
                  }),
                  "")
            << path;
    }
    EXPECT_NE(verdict([&] {
                  put(copy_ / "payloads" / "1.bin", "x");
                  put(copy_ / "payloads" / "1.cms", "x");
                  sign_again();
              }),
              "");
    EXPECT_NE(verdict([&] {
                  put(copy_ / "notes.txt", "x");
                  sign_again();
              }),
              "");
    EXPECT_NE(verdict([&] { sign_again([](Manifest& m) { m.origin += "x"; }); }), "");
    EXPECT_NE(verdict([&] { sign_again([](Manifest& m) { m.size -= 1; }); }), "");
    EXPECT_NE(verdict([&] { sign_again([](Manifest& m) { m.files.erase("README.md"); }); }), "");
}

TEST_F(Bundle, it_holds_evidence_of_each_model_that_its_records_name) {
    const std::string model = some_model().model;
    EXPECT_NE(get(bundle_ / bom_path(model)).find(model), std::string::npos);
    EXPECT_EQ(verdict([&] {  // a signature is what an operator has, or has not
                  fs::remove(copy_ / signature_path(model));
                  sign_again();
              }),
              "");
    const auto refused = [&](int step, const std::function<void()>& change) {
        const std::string what = verdict([&] {
            change();
            sign_again();
        });
        EXPECT_EQ(what.rfind(fmt::format("step {}:", step), 0), 0U) << what;
    };
    refused(10, [&] { fs::remove(copy_ / kSandboxPath); });
    refused(10, [&] { fs::remove(copy_ / bom_path(model)); });
    refused(10, [&] { put(copy_ / bom_path(model), std::string(64, 'b')); });
    const std::string other = bom_path(std::string(64, 'b'));
    refused(10, [&] {
        fs::create_directories((copy_ / other).parent_path());
        put(copy_ / other, std::string(64, 'b'));
    });
    refused(10, [&] { put(copy_ / "models" / model / "notes", "x"); });
}

TEST_F(Bundle, a_stamp_is_of_a_checkpoint_of_its_log) {
    ASSERT_EQ(bundle_stamps(bundle_).size(), 1U);
    EXPECT_EQ(bundle_stamps(bundle_).front().size, held_size_);
    EXPECT_EQ(bundle_stamps(bundle_).front().checkpoint, held_);
    const std::string name = fmt::format("stamps/{}", held_size_);
    const auto refused = [&](const std::function<void()>& change) {
        const std::string what = verdict([&] {
            change();
            sign_again();
        });
        EXPECT_EQ(what.rfind("step 11:", 0), 0U) << what;
    };
    refused([&] { fs::remove(copy_ / (name + ".tsr")); });
    refused([&] { fs::remove(copy_ / (name + ".checkpoint")); });
    refused([&] { put(copy_ / (name + ".tsr"), "another stamp"); });
    const auto add = [&](const std::string& digits, const Stamp& stamp) {
        put(copy_ / fmt::format("stamps/{}.checkpoint", digits), stamp.checkpoint);
        put(copy_ / fmt::format("stamps/{}.tsr", digits), stamp.response);
    };
    // Its digest is right and its text is of other records, of more of them, of another log.
    refused([&] { add(fmt::format("{}", held_size_ - 1), some_stamp(held_size_ - 1, held_)); });
    refused([&] { add(fmt::format("{}", size_ + 1), some_stamp(size_ + 1, held_)); });
    refused([&] { add(fmt::format("0{}", held_size_), some_stamp(held_size_, held_)); });
    refused([&] {
        const std::string note = "other" + held_;
        put(copy_ / (name + ".checkpoint"), note);
        put(copy_ / (name + ".tsr"), some_stamp(held_size_, note).response);
    });
    EXPECT_EQ(verdict([&] {
                  const tlog::Checkpoint empty{key().verifier().name, 0, tlog::Frontier().root()};
                  add("0", some_stamp(0, tlog::note_text({empty.text(), {}}) + "\n"));
                  sign_again();
              }),
              "");
}

TEST(Stamps, those_that_say_most_of_a_range_are_taken) {
    const std::vector<std::uint64_t> sizes{10, 20, 30, 40};
    using Sizes = std::vector<std::uint64_t>;
    EXPECT_EQ(stamps_for(sizes, 0, 5), Sizes{10});
    EXPECT_EQ(stamps_for(sizes, 0, 10), Sizes{10});
    EXPECT_EQ(stamps_for(sizes, 10, 30), (Sizes{20, 30}));  // 10 says nothing of record 10
    EXPECT_EQ(stamps_for(sizes, 15, 31), (Sizes{20, 30, 40}));
    EXPECT_EQ(stamps_for(sizes, 40, 50), Sizes{});
    EXPECT_EQ(stamps_for({}, 0, 5), Sizes{});
    Sizes many(1000);
    for (std::size_t i = 0; i < many.size(); ++i)
        many[i] = 10 * (i + 1);
    const Sizes chosen = stamps_for(many, 0, 10'000);
    EXPECT_LE(chosen.size(), kBundleStampsMax);
    EXPECT_GE(chosen.size(), kBundleStampsMax / 2);
    EXPECT_EQ(chosen.back(), 10'000U);
}

/// 1 MiB is what a checkpoint may have; a bundle of some thousand payloads lists more.
TEST_F(Bundle, a_manifest_may_be_longer_than_other_notes) {
    const std::string what = verdict([&] {
        sign_again([](Manifest& manifest) {
            for (int i = 0; i < 12'000; ++i)
                manifest.files[fmt::format("payloads/{}.bin", i)] = {std::string(64, '0'), 1};
        });
    });
    EXPECT_EQ(what.rfind("step 2", 0), 0U) << what;  // it was read
    const std::string late =
        verdict([&] { sign_again([](Manifest& m) { m.made_us = std::uint64_t{1} << 60; }); });
    EXPECT_EQ(late.rfind("step 1", 0), 0U) << late;
}

TEST_F(Bundle, another_key_is_not_the_log) {
    const std::string what = verdict([&] {
        const tlog::Note note = tlog::parse_note(get(copy_ / "MANIFEST"));
        const auto other = tlog::SigningKey::generate(key().verifier().name);
        put(copy_ / "MANIFEST", tlog::note_text({note.text, {other.sign(note.text)}}));
    });
    EXPECT_EQ(what.rfind("step 1", 0), 0U) << what;
}

/// A fork: the same entries but one, tiles, checkpoint and manifest made anew with the log's key.
TEST_F(Bundle, a_fork_signed_with_the_logs_key_contradicts_the_held_checkpoint) {
    const auto fork = [&](std::uint64_t changed) {
        const std::string path = "log/" + tlog::entries_path(0, size_);
        const std::string bundle = get(copy_ / path);
        std::string entries;
        std::string tile;
        tlog::Frontier tree;
        std::uint64_t index = 0;
        for (const std::string_view entry : tlog::parse_entries(bundle, size_)) {
            std::string text(entry);
            if (index == changed) {
                const std::size_t at = text.find("\"max_tokens\":16");
                ASSERT_NE(at, std::string::npos);
                text.replace(at, 15, "\"max_tokens\":17");
            }
            const tlog::Hash hash = tlog::leaf_hash(text);
            tile.append(reinterpret_cast<const char*>(hash.data()), hash.size());
            tree.append(hash);
            tlog::append_entry(text, entries);
            ++index;
        }
        put(copy_ / path, entries);
        put(copy_ / ("log/" + tlog::tile_path(0, 0, size_)), tile);
        const std::string text = tlog::Checkpoint{key().verifier().name, size_, tree.root()}.text();
        put(copy_ / "log/checkpoint", tlog::note_text({text, {key().sign(text)}}));
        sign_again();
    };
    const std::string early = verdict([&] { fork(2); });  // before the held checkpoint
    EXPECT_EQ(early.rfind("step 5", 0), 0U) << early;
    // Behind it the log's key may write what it wants: what shows it is a later checkpoint.
    EXPECT_EQ(verdict([&] { fork(first_ - 13); }), "");
}

TEST_F(Bundle, an_old_checkpoint_is_a_rollback) {
    const auto log = options_in(folder_).folder;
    const fs::path old_bundle = folder_.path() / "old";
    (void)export_bundle(log, {0, 2}, old_bundle, some_evidence());
    const std::string newest = get(log / "log" / "checkpoint");
    {
        Ledger ledger(options_in(folder_));
        (void)ledger.model_loaded(some_model());
    }
    const std::string newer = get(log / "log" / "checkpoint");
    EXPECT_NE(newest, newer);
    EXPECT_NO_THROW((void)verify_bundle(old_bundle, policy_, newest));
    EXPECT_THROW((void)verify_bundle(old_bundle, policy_, newer), Error);
}

TEST_F(Bundle, the_auditor_opens_a_payload_of_it) {
    const auto folder = options_in(folder_).folder;
    const std::string key_text = get(folder / "local-auditor.key");
    const std::string certificate = get(folder / "auditors" / "local.pem");
    std::uint64_t n = 0;
    for (std::uint64_t i = 3; i < first_; ++i) {
        if (!fs::exists(bundle_ / "payloads" / fmt::format("{}.bin", i))) continue;
        const std::string plaintext = open_bundle_payload(bundle_, i, {key_text, certificate});
        EXPECT_NE(plaintext.find(fmt::format("answer 1 of {}", i)), std::string::npos);
        EXPECT_NE(plaintext.find("\n{\"choice\":0}\n{\"choice\":1}\n"), std::string::npos);
        ++n;
    }
    EXPECT_EQ(n, 14U);
    EXPECT_THROW((void)open_bundle_payload(bundle_, first_, {key_text, certificate}), Error);
}

TEST_F(Bundle, payloads_of_an_erased_subject_are_gone_from_the_next_one) {
    (void)erase_subject(options_in(folder_), named_subject("default", "odd"), "request");
    const fs::path later = folder_.path() / "later";
    const BundleReport report =
        export_bundle(options_in(folder_).folder, {3, first_}, later, some_evidence());
    EXPECT_EQ(report.n_payloads, 7U);
    EXPECT_EQ(verify_bundle(later, policy_, held_).n_payloads, 7U);
}

TEST_F(Bundle, a_range_of_times_holds_what_was_written_in_it) {
    const auto folder = options_in(folder_).folder;
    const BundleRange all = range_of_times(folder, 0, UINT64_MAX);
    EXPECT_EQ(all.first, 0U);
    EXPECT_EQ(all.end, size_);
    std::vector<std::uint64_t> times;
    tlog::read_entries(log_files(folder), 0, size_, size_,
                       [&](std::uint64_t, std::string_view entry) {
                           times.push_back(parse_record(entry).time_us);
                       });
    const BundleRange some = range_of_times(folder, times[10], times[20]);
    for (std::uint64_t i = 0; i < size_; ++i) {
        const bool inside = times[i] >= times[10] && times[i] < times[20];
        EXPECT_EQ(inside, i >= some.first && i < some.end) << i;
    }
}

TEST_F(Bundle, an_empty_range_is_a_bundle_too) {
    const fs::path empty = folder_.path() / "empty";
    (void)export_bundle(options_in(folder_).folder, {5, 5}, empty, some_evidence());
    EXPECT_TRUE(verify_bundle(empty, policy_, held_).kinds.empty());
    EXPECT_THROW((void)export_bundle(options_in(folder_).folder, {5, 5}, empty, some_evidence()),
                 Error);
    EXPECT_THROW((void)export_bundle(options_in(folder_).folder, {0, size_ + 1},
                                     folder_.path() / "more", some_evidence()),
                 Error);
}

}  // namespace
}  // namespace etalon::ledger
