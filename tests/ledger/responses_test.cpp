// SPDX-License-Identifier: Apache-2.0
// Stored responses: their tenant opens them and nobody else; too old, erased or deleted they are
// gone; a kill at any moment leaves a whole one or none.
#include <algorithm>
#include <chrono>
#include <csignal>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/folder.h"
#include "ledger/internal/files.h"
#include "ledger/limits.h"
#include "ledger/record.h"
#include "ledger/response_store.h"
#include "ledger/retention.h"
#include "tlog/checkpoint.h"
#include "tlog/tile_reader.h"

namespace etalon::ledger {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kDay = 86400;

std::uint64_t unix_time() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
}

std::string some_id(unsigned n) {
    return fmt::format("resp_{:024x}", n);
}

/// Response `n` of a tenant about these subjects, by a ledger; the index of its intent.
std::uint64_t store(Ledger& ledger, std::uint64_t load, const std::string& tenant, unsigned n,
                    const std::vector<std::string>& subjects = {}) {
    RequestIntent request = some_request(load);
    request.tenant = tenant;
    request.subjects = subjects;
    const Ticket ticket = ledger.begin_now(request);
    Completion completion = some_completion(ticket.intent);
    completion.store = {some_id(n), fmt::format("content {}", n)};
    ledger.complete_now(completion);
    ledger.publish_now();
    return ticket.intent;
}

std::string content(const ResponseStore& responses, const std::string& tenant, unsigned n,
                    std::uint64_t now = unix_time()) {
    const auto stored = responses.get(tenant, some_id(n), now);
    return stored ? stored->content : "";
}

std::vector<fs::path> files_in(const LedgerOptions& options) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(options.folder / "responses"))
        if (!entry.is_directory()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

fs::path file_of(const LedgerOptions& options, unsigned n) {
    for (const fs::path& path : files_in(options))
        if (path.filename() == some_id(n)) return path;
    return {};
}

TEST(Responses, their_tenant_opens_them_and_no_other) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    const std::uint64_t intent = store(ledger, load, "clinic", 1);
    store(ledger, load, "other", 2, {"anna"});
    ResponseStore& responses = ledger.responses();
    EXPECT_EQ(content(responses, "clinic", 1), "content 1");
    EXPECT_EQ(content(responses, "other", 2), "content 2");
    EXPECT_EQ(content(responses, "other", 1), "");
    EXPECT_EQ(content(responses, "clinic", 2), "");
    EXPECT_EQ(responses.find("clinic", intent, unix_time())->id, some_id(1));
    EXPECT_FALSE(responses.find("other", intent, unix_time()));
    EXPECT_FALSE(responses.remove("other", some_id(1), unix_time()));
    for (const char* id : {"", "resp_", "../other", "resp_00000000000000000000000/",
                           "resp_00000000000000000000000G", "resp_0000000000000000000000001"}) {
        EXPECT_FALSE(responses.get("clinic", id, unix_time())) << id;
        EXPECT_FALSE(responses.remove("clinic", id, unix_time())) << id;
    }
    EXPECT_TRUE(responses.remove("clinic", some_id(1), unix_time()));
    EXPECT_FALSE(responses.remove("clinic", some_id(1), unix_time()));
    EXPECT_FALSE(responses.find("clinic", intent, unix_time()));
    EXPECT_EQ(files_in(options).size(), 2U);  // the other's, and the link to it
}

TEST(Responses, files_are_private_and_say_neither_content_nor_tenant) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    store(ledger, ledger.model_loaded(some_model()), "clinic", 1, {"anna"});
    for (const fs::path& path : {file_of(options, 1), options.folder / "keys" / "responses"}) {
        struct stat status {};
        ASSERT_EQ(::stat(path.c_str(), &status), 0) << path;
        EXPECT_EQ(status.st_mode & 0777U, 0600U) << path;
    }
    const std::string bytes = read_file(file_of(options, 1), kBytesMax);
    for (const char* word : {"content", "clinic", "anna"})
        EXPECT_EQ(bytes.find(word), std::string::npos) << word;
    EXPECT_EQ(file_of(options, 1).string().find("clinic"), std::string::npos);
}

/// Erasing a subject, the account, or destroying the server's key: each closes a kept copy too.
TEST(Responses, each_of_their_keys_closes_them_for_ever) {
    for (const char* name : {"anna", "bert", "", "server"}) {
        const std::string erased = name;
        const Folder folder;
        const LedgerOptions options = options_in(folder);
        {
            Ledger ledger(options);
            const std::uint64_t load = ledger.model_loaded(some_model());
            store(ledger, load, "clinic", 1, {"anna", "bert"});
            store(ledger, load, "clinic", 2, {"carl"});
        }
        const fs::path file = file_of(options, 1);
        const fs::path copy = folder.path() / "copy";
        fs::copy(file, copy);
        if (erased == "server") {
            EXPECT_TRUE(destroy_file(options.folder / "keys" / "responses"));
        } else {
            (void)erase_on_request(options, {"clinic", erased, "letter 17"}, {},
                                   unix_time() * 1000000);
            EXPECT_FALSE(fs::exists(file)) << erased;
            fs::copy(copy, file, fs::copy_options::overwrite_existing);
        }
        const ResponseStore responses(options.folder, {});
        if (erased == "server") {
            EXPECT_THROW((void)content(responses, "clinic", 1), Error);
            continue;
        }
        EXPECT_EQ(content(responses, "clinic", 1), "") << erased;
        EXPECT_EQ(content(responses, "clinic", 2), erased.empty() ? "" : "content 2") << erased;
        // What an attacker with all remaining keys and the copy can do.
        const SealedResponse sealed = parse_sealed_response(read_file(copy, kBytesMax));
        const Subjects subjects(options.folder / "keys" / "subjects");
        EXPECT_FALSE(subjects.with_ids(sealed.head.subjects)) << erased;
    }
}

TEST(Responses, a_copy_under_another_name_or_tenant_does_not_open) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    store(ledger, load, "clinic", 1);
    store(ledger, load, "other", 2);
    const fs::path one = file_of(options, 1);
    const fs::path two = file_of(options, 2);
    fs::copy(one, one.parent_path() / some_id(3));
    EXPECT_THROW((void)content(ledger.responses(), "clinic", 3), Error);
    fs::copy(one, two.parent_path() / some_id(1));
    EXPECT_THROW((void)content(ledger.responses(), "other", 1), Error);
}

TEST(Responses, any_changed_byte_is_noticed) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    store(ledger, ledger.model_loaded(some_model()), "clinic", 1);
    const fs::path path = file_of(options, 1);
    const std::string whole = read_file(path, kBytesMax);
    const auto is_given = [&](const std::string& bytes) {
        std::ofstream(path, std::ios::trunc | std::ios::binary) << bytes;
        try {
            return content(ledger.responses(), "clinic", 1) != "";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
            return false;
        }
    };
    for (std::size_t i = 0; i < whole.size(); ++i) {
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ 1);
        EXPECT_FALSE(is_given(changed)) << i;
        EXPECT_FALSE(is_given(whole.substr(0, i))) << i;
    }
    EXPECT_TRUE(is_given(whole));
}

TEST(Responses, end_by_age_and_are_swept) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    const std::uint64_t now = unix_time();
    store(ledger, load, "clinic", 1);
    EXPECT_EQ(content(ledger.responses(), "clinic", 1, now + 30 * kDay - 1), "content 1");
    EXPECT_EQ(content(ledger.responses(), "clinic", 1, now + 30 * kDay + 60), "");
    EXPECT_EQ(sweep_responses(options.folder, {30, 10}, now + 29 * kDay), 0U);
    EXPECT_EQ(sweep_responses(options.folder, {30, 10}, now + 31 * kDay), 1U);
    EXPECT_TRUE(files_in(options).empty());
    store(ledger, load, "clinic", 2);
    // None may be stored any more.
    EXPECT_EQ(sweep_responses(options.folder, {0, 10}, unix_time()), 1U);
}

TEST(Responses, a_tenant_has_as_many_as_it_may) {
    const Folder folder;
    LedgerOptions options = options_in(folder);
    options.stored.responses = 3;
    Ledger ledger(options);
    const std::uint64_t load = ledger.model_loaded(some_model());
    const std::uint64_t now = unix_time();
    ResponseStore& responses = ledger.responses();
    store(ledger, load, "clinic", 1);
    auto second = responses.reserve("clinic", now);
    const auto third = responses.reserve("clinic", now);
    EXPECT_TRUE(second && third);
    EXPECT_FALSE(responses.reserve("clinic", now));
    EXPECT_TRUE(responses.reserve("other", now));
    second.reset();
    EXPECT_TRUE(responses.reserve("clinic", now));
    store(ledger, load, "clinic", 2);
    EXPECT_FALSE(responses.reserve("clinic", now));
    EXPECT_TRUE(responses.remove("clinic", some_id(1), now));
    EXPECT_TRUE(responses.reserve("clinic", now));
    // What another process has swept meanwhile is seen after a minute.
    store(ledger, load, "clinic", 3);
    EXPECT_FALSE(responses.reserve("clinic", now));
    EXPECT_EQ(sweep_responses(options.folder, {0, 3}, unix_time()), 2U);
    EXPECT_FALSE(responses.reserve("clinic", now));
    EXPECT_TRUE(responses.reserve("clinic", now + 60));
}

TEST(Responses, what_is_too_large_is_refused) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    RequestIntent request = some_request(ledger.model_loaded(some_model()));
    const Ticket ticket = ledger.begin_now(request);
    Completion completion = some_completion(ticket.intent);
    completion.store = {some_id(1), std::string(kStoredContentBytesMax + 1, 'x')};
    EXPECT_THROW(ledger.complete_now(completion), Error);
    completion.store->content.pop_back();
    ledger.complete_now(completion);
    EXPECT_EQ(content(ledger.responses(), "default", 1).size(), kStoredContentBytesMax);
}

/// A subject that was erased while the answer was computed: nothing about it is stored.
TEST(Responses, an_erasure_meanwhile_leaves_none) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    RequestIntent request = some_request(ledger.model_loaded(some_model()));
    request.subjects = {"anna"};
    const Ticket ticket = ledger.begin_now(request);
    (void)erase_on_request(options, {"default", "anna", ""}, {}, unix_time() * 1000000);
    Completion completion = some_completion(ticket.intent);
    completion.store = {some_id(1), "about anna"};
    ledger.complete_now(completion);
    EXPECT_TRUE(files_in(options).empty());
}

TEST(Responses, the_account_is_named_beside_subjects) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    RequestIntent request = some_request(ledger.model_loaded(some_model()));
    request.subjects = {"anna"};
    request.names_account = true;
    const Ticket ticket = ledger.begin_now(request);
    ledger.publish_now();
    const auto files = log_files(options.folder);
    const auto size = tlog::parse_checkpoint(tlog::parse_note(*files("checkpoint")).text).size;
    tlog::read_entries(files, ticket.intent, ticket.intent + 1, size,
                       [](std::uint64_t, std::string_view entry) {
                           const auto intent = std::get<Intent>(parse_record(entry).body);
                           ASSERT_EQ(intent.subjects.size(), 2U);
                           EXPECT_EQ(intent.subjects[1], intent.tenant);
                       });
}

/// The record of a reading comes first, and there is none where there is nothing to read.
TEST(Responses, a_reading_is_recorded) {
    const Folder folder;
    const LedgerOptions options = options_in(folder);
    Ledger ledger(options);
    const std::uint64_t intent = store(ledger, ledger.model_loaded(some_model()), "clinic", 1);
    const auto read = [&](const std::string& tenant, std::uint64_t index) {
        std::promise<std::variant<StoredReading, Error>> told;
        ledger.read_stored(tenant, index, "complaint \"17\"",
                           [&](auto result) { told.set_value(std::move(result)); });
        return told.get_future().get();
    };
    const auto found = read("clinic", intent);
    const auto& reading = std::get<StoredReading>(found);
    EXPECT_EQ(reading.id, some_id(1));
    for (const auto& none : {read("other", intent), read("clinic", intent + 1)})
        EXPECT_EQ(std::get<Error>(none).code(), ExitCode::not_found);
    ledger.publish_now();
    const auto files = log_files(options.folder);
    const auto size = tlog::parse_checkpoint(tlog::parse_note(*files("checkpoint")).text).size;
    std::vector<std::uint64_t> readings;
    tlog::read_entries(files, 0, size, size, [&](std::uint64_t index, std::string_view entry) {
        const Record record = parse_record(entry);
        const auto* content_read = std::get_if<ContentRead>(&record.body);
        if (content_read == nullptr) return;
        readings.push_back(index);
        EXPECT_EQ(*content_read, (ContentRead{intent, "complaint ?17?", "stored"}));
    });
    EXPECT_EQ(readings, std::vector<std::uint64_t>{reading.record});
}

TEST(Responses, hostile_files_are_refused) {
    const std::string head =
        R"({"id":"resp_000000000000000000000001","intent":1,"made":2,"subjects":[")" +
        std::string(32, 'a') + R"("],"v":1})";
    const std::string rest(88, 'x');
    EXPECT_EQ(parse_sealed_response(head + "\n" + rest + "y").ciphertext, "y");
    EXPECT_EQ(sealed_response_text(parse_sealed_response(head + "\n" + rest + "y")),
              head + "\n" + rest + "y");
    std::string many = head;
    many.insert(many.find("]"), "," + std::string(3000, ' '));
    for (const std::string& text :
         {std::string(), std::string("\n"), head, head + "\n", head + "\n" + rest.substr(1),
          many + "\n" + rest, "{}\n" + rest, std::string(5000, 'x') + "\n" + rest}) {
        try {
            (void)parse_sealed_response(text);
            FAIL() << text;
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
        }
    }
}

/// A child stores one response after another and is killed; the ids that it was told are whole.
TEST(Responses, killed_at_any_moment_they_are_whole_or_not_there) {
    std::size_t n_whole = 0;
    for (int i = 0; i < 30; ++i) {
        const Folder folder;
        const LedgerOptions options = options_in(folder);
        int told[2];
        ASSERT_EQ(::pipe(told), 0);
        const pid_t child = ::fork();
        if (child == 0) {
            Ledger ledger(options);
            const std::uint64_t load = ledger.model_loaded(some_model());
            for (unsigned n = 0; n < 1000; ++n) {
                store(ledger, load, "clinic", n);
                const char one = 1;
                if (::write(told[1], &one, 1) != 1) break;
            }
            ::_exit(0);
        }
        ::close(told[1]);
        char one = 0;
        ASSERT_EQ(::read(told[0], &one, 1), 1);
        std::this_thread::sleep_for(std::chrono::microseconds(i * 200));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        unsigned n_told = 1;
        while (::read(told[0], &one, 1) == 1)
            ++n_told;
        ::close(told[0]);
        const ResponseStore responses(options.folder, {});
        for (unsigned n = 0; n < n_told; ++n)
            EXPECT_EQ(content(responses, "clinic", n), fmt::format("content {}", n));
        for (const fs::path& path : files_in(options)) {
            const std::string name = path.filename().string();
            if (!is_response_id(name)) continue;
            ++n_whole;
            EXPECT_TRUE(responses.get("clinic", name, unix_time())) << name;
        }
        // What the crash left goes once it is old.
        sweep_responses(options.folder, {3650, 10}, unix_time() + 3601);
        for (const fs::path& path : files_in(options))
            EXPECT_TRUE(fs::exists(path) && path.extension() != ".new") << path;
    }
    EXPECT_GE(n_whole, 30U);
}

}  // namespace
}  // namespace etalon::ledger
