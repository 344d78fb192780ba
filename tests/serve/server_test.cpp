// SPDX-License-Identifier: Apache-2.0
// The whole server over real sockets, with a worker by script.
#include "serve/server.h"

#include <csignal>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <future>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <thread>
#include <unistd.h>

#include "base/error.h"
#include "ledger/receipt.h"
#include "serve/fake_worker.h"
#include "serve/http_client.h"

namespace etalon::serve {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class ServerTest : public ::testing::Test {
  protected:
    explicit ServerTest(std::chrono::milliseconds live_check_time = kLiveCheckTime,
                        std::int64_t self_check = 0) {
        options_.live_check_time = live_check_time;
        options_.self_check = self_check;
        std::string pattern = (fs::temp_directory_path() / "etalon-server-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        options_.listens = {{"127.0.0.1", 0}};
        options_.models.emplace_back().model = "fake.gguf";
        options_.database = folder_ / "etalon.db";
        options_.ledger = folder_ / "ledger";
        options_.start_worker = fake_workers(log_);
        NewKey wanted;
        wanted.scopes = kScopeInfer | kScopeMetrics;
        key_ = Accounts(options_.database).create_key(wanted, 1).key;
        std::promise<std::uint16_t> port;
        options_.configuration = {std::string(64, 'c'), {}, "", "best-effort", "none", {}};
        std::promise<void> ready;
        options_.on_listening = [&](const auto& listens) { port.set_value(listens[0].port); };
        options_.on_ready = [&](const Site& /*site*/) { ready.set_value(); };
        thread_ = std::thread([this] { run_server(options_); });
        port_ = port.get_future().get();
        ready.get_future().get();
    }
    ~ServerTest() override {
        if (thread_.joinable()) {
            ::kill(::getpid(), SIGTERM);
            thread_.join();
        }
        fs::remove_all(folder_);
    }

    std::string post(const std::string& path, const std::string& body,
                     const std::string& more = "connection: close\r\n") const {
        return fmt::format(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\n"
            "content-type: application/json\r\ncontent-length: {}\r\n{}\r\n{}",
            path, port_, key_, body.size(), more, body);
    }
    std::string get(const std::string& path, const std::string& more = "connection: close\r\n") {
        return fmt::format(
            "GET {} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\n{}"
            "\r\n",
            path, port_, key_, more);
    }
    std::string remove(const std::string& path) const {
        return fmt::format(
            "DELETE {} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nauthorization: Bearer {}\r\n"
            "connection: close\r\n\r\n",
            path, port_, key_);
    }
    std::string other_key(const std::string& tenant, unsigned scopes) const {
        NewKey wanted;
        wanted.tenant = tenant;
        wanted.scopes = scopes;
        return Accounts(options_.database).create_key(wanted, 1).key;
    }
    /// A body of /v1/responses that stores.
    static std::string turn(const std::string& input, const std::string& more = "") {
        return fmt::format(R"({{"model":"fake","input":"{}","store":true{}}})", input, more);
    }
    static std::string chat(const std::string& content, const std::string& more = "") {
        return fmt::format(R"({{"model":"fake","messages":[{{"role":"user","content":"{}"}}]{}}})",
                           content, more);
    }
    /// Sends one request and reads until the server closes.
    std::string ask(const std::string& request) const {
        RawClient client(port_);
        client.send(request);
        return client.read_all();
    }
    static int status_of(const std::string& response) {
        return response.size() < 12 ? 0 : std::stoi(response.substr(9, 3));
    }
    static json body_of(const std::string& response) {
        return json::parse(response.substr(response.find("\r\n\r\n") + 4));
    }
    /// Bodies of the records of one kind, in order.
    template <typename Kind>
    std::vector<Kind> records() const {
        std::vector<Kind> found;
        const auto files = ledger::log_files(options_.ledger);
        const auto note = tlog::parse_note(*files("checkpoint"));
        const auto size = tlog::parse_checkpoint(note.text).size;
        tlog::read_entries(files, 0, size, size, [&](std::uint64_t, std::string_view entry) {
            const ledger::Record record = ledger::parse_record(entry);
            if (const auto* one = std::get_if<Kind>(&record.body)) found.push_back(*one);
        });
        return found;
    }
    /// Waits until `done`, five seconds at most.
    static bool soon(const std::function<bool()>& done) {
        for (int i = 0; i < 500 && !done(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        return done();
    }

    fs::path folder_;
    std::shared_ptr<FakeLog> log_ = std::make_shared<FakeLog>();
    ServerOptions options_;
    std::string key_;
    std::uint16_t port_ = 0;
    std::thread thread_;
};

TEST_F(ServerTest, ChatWhole) {
    const std::string response = ask(post("/v1/chat/completions", chat("a b", R"(,"seed":5)")));
    EXPECT_EQ(status_of(response), 200) << response;
    EXPECT_NE(response.find("x-request-id: req_"), std::string::npos);
    EXPECT_NE(response.find("x-etalon-ai: generated"), std::string::npos);
    const json body = body_of(response);
    EXPECT_EQ(body["choices"][0]["message"]["content"], "a b ");
    EXPECT_EQ(body["etalon"]["seed"], 5);
    const std::int64_t key = Accounts(options_.database).find(key_)->id;
    EXPECT_EQ(Accounts(options_.database).day_usage(key, std::time(nullptr)).answer_tokens, 3);
}

TEST_F(ServerTest, StatusIsWhatTheEngineHas) {
    const std::string response = ask(get("/status"));
    EXPECT_EQ(status_of(response), 200) << response;
    const json body = body_of(response);
    EXPECT_EQ(body["draining"], false);
    EXPECT_GE(body["uptime_seconds"], 0);
    EXPECT_EQ(body["connections"], 1);
    ASSERT_EQ(body["models"].size(), 1);
    EXPECT_EQ(body["models"][0]["id"], "fake");
    EXPECT_EQ(body["models"][0]["state"], "ready");
}

TEST_F(ServerTest, ChatStream) {
    const std::string response =
        ask(post("/v1/chat/completions", chat("a b", R"(,"stream":true)")));
    EXPECT_NE(response.find("content-type: text/event-stream"), std::string::npos) << response;
    EXPECT_NE(response.find("x-accel-buffering: no"), std::string::npos);
    EXPECT_NE(response.find("data: [DONE]\n\n\r\n0\r\n\r\n"), std::string::npos);
}

TEST_F(ServerTest, AnAnswerHasAReceiptThatItsHolderVerifies) {
    const std::string body = chat("a b", R"(,"n":2,"seed":5)");
    const std::string response = ask(post("/v1/chat/completions", body));
    const std::string id = body_of(response)["etalon"]["receipt"];
    EXPECT_NE(response.find("x-etalon-receipt: " + id), std::string::npos) << response;
    std::string receipt;
    EXPECT_TRUE(soon([&] {
        receipt = ask(get("/v1/receipts/" + id));
        return status_of(receipt) == 200;
    })) << receipt;
    receipt = receipt.substr(receipt.find("\r\n\r\n") + 4);
    const json told = json::parse(receipt);
    const auto policy = tlog::parse_policy(
        fmt::format("log {}\nquorum none\n", told["log_key"].get<std::string>()));
    ledger::Held held;
    held.body = body;
    held.parts = {{{"a b ", "a b "}, {}}};
    const auto verified = ledger::verify_receipt(receipt, policy, held);
    EXPECT_EQ(std::get<ledger::Complete>(verified.parts.at(0).complete.body).answers.size(), 2U);
    held.body = chat("a b", R"(,"n":2,"seed":6)");
    EXPECT_THROW((void)ledger::verify_receipt(receipt, policy, held), Error);
    EXPECT_EQ(status_of(ask(get("/v1/receipts/" + id.substr(0, id.size() - 1)))), 404);
}

TEST_F(ServerTest, AStreamNamesItsReceiptInItsHeadAndItsLastEvent) {
    const std::string response =
        ask(post("/v1/chat/completions", chat("a b", R"(,"stream":true)")));
    const std::size_t at = response.find("x-etalon-receipt: ");
    ASSERT_NE(at, std::string::npos) << response;
    const std::string id = response.substr(at + 18, response.find("\r\n", at) - at - 18);
    EXPECT_NE(response.find("\"receipt\":\"" + id + "\""), std::string::npos) << response;
}

/// What left without its end, and what failed, has a complete record too.
TEST_F(ServerTest, EveryIntentIsCompletedWhoeverLeaves) {
    {
        RawClient client(port_);
        client.send(post("/v1/chat/completions", chat("forever", R"(,"stream":true)")));
        EXPECT_FALSE(client.read_until("more ").empty());
    }
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("fail")))), 500);
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("a")))), 200);
    EXPECT_TRUE(soon([&] { return log_->n_cancels == 1; }));
    ::kill(::getpid(), SIGTERM);
    thread_.join();
    std::map<std::string, int> kinds;
    std::vector<std::string> finishes;
    const auto files = ledger::log_files(options_.ledger);
    const auto size = tlog::parse_checkpoint(tlog::parse_note(*files("checkpoint")).text).size;
    tlog::read_entries(files, 0, size, size, [&](std::uint64_t, std::string_view entry) {
        const ledger::Record record = ledger::parse_record(entry);
        ++kinds[std::string(ledger::kind_of(record))];
        if (const auto* complete = std::get_if<ledger::Complete>(&record.body)) {
            finishes.push_back(complete->answers.at(0).finish);
        }
    });
    std::sort(finishes.begin(), finishes.end());
    EXPECT_EQ(kinds["intent"], 3);
    EXPECT_EQ(kinds["shutdown"], 1);
    EXPECT_EQ(finishes, (std::vector<std::string>{"cancelled", "error", "stop"}));
}

TEST_F(ServerTest, WithoutALedgerThereIsNoAnswer) {
    const fs::path log = options_.ledger / "log";
    fs::rename(log, options_.ledger / "away");
    { std::ofstream(log) << "a file where the folder was"; }
    for (const char* more : {"", R"(,"stream":true)"}) {
        const std::string response = ask(post("/v1/chat/completions", chat("a b", more)));
        EXPECT_EQ(status_of(response), 503) << response;
        EXPECT_EQ(body_of(response)["code"], "ledger_unavailable");
    }
    EXPECT_EQ(log_->n_cancels, 2);  // the worker was never told to compute
    fs::remove(log);
    fs::rename(options_.ledger / "away", log);
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("a b")))), 200);
}

TEST_F(ServerTest, TheLogsFilesAreForAuditors) {
    EXPECT_EQ(status_of(ask(get("/ledger/checkpoint"))), 403);
    NewKey wanted;
    wanted.scopes = kScopeAudit;
    key_ = Accounts(options_.database).create_key(wanted, 1).key;
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("a")))), 403);
    const std::string checkpoint = ask(get("/ledger/checkpoint"));
    EXPECT_EQ(status_of(checkpoint), 200);
    const auto note = tlog::parse_note(checkpoint.substr(checkpoint.find("\r\n\r\n") + 4));
    const auto size = tlog::parse_checkpoint(note.text).size;
    EXPECT_EQ(status_of(ask(get("/ledger/" + tlog::entries_path(0, size)))), 200);
    for (const char* path : {"/ledger/journal/0", "/ledger/tile/../../keys/log.key",
                             "/ledger/../etalon.db", "/ledger/tile/%2e%2e/x", "/ledger/tile"})
        EXPECT_EQ(status_of(ask(get(path))), 404) << path;
}

TEST_F(ServerTest, SubjectsAreNamedByAHeader) {
    const auto asks = [&](const std::string& header) {
        return status_of(
            ask(post("/v1/chat/completions", chat("a"), "connection: close\r\n" + header)));
    };
    EXPECT_EQ(asks("x-etalon-subject: patient-1, patient-2\r\n"), 200);
    EXPECT_EQ(asks("x-etalon-subject: \r\n"), 400);
    EXPECT_EQ(asks("x-etalon-subject: a,,b\r\n"), 400);
    EXPECT_EQ(asks("x-etalon-subject: a\r\nx-etalon-subject: b\r\n"), 400);
    EXPECT_EQ(asks("x-etalon-subject: " + std::string(300, 'a') + "\r\n"), 400);
}

TEST_F(ServerTest, AStoredResponseIsGivenToItsTenant) {
    const std::string mine = key_;
    const std::string theirs = other_key("other", kScopeInfer);
    for (const char* more : {"", R"(,"stream":true)"}) {
        key_ = mine;
        const std::string response = ask(post("/v1/responses", turn("a b", more)));
        EXPECT_EQ(status_of(response), 200) << response;
        const std::size_t at = response.rfind("\"id\":\"resp_") + 6;
        const std::string path = "/v1/responses/" + response.substr(at, 29);
        const json stored = body_of(ask(get(path)));
        EXPECT_EQ(stored["output"][0]["content"][0]["text"], "a b ");
        EXPECT_EQ(stored["usage"]["output_tokens"], 3);
        EXPECT_NE(response.find(stored["id"].get<std::string>()), std::string::npos);
        const json items = body_of(ask(get(path + "/input_items")));
        EXPECT_EQ(items["data"][0]["content"][0]["text"], "a b");
        key_ = theirs;
        EXPECT_EQ(status_of(ask(get(path))), 404);
        EXPECT_EQ(status_of(ask(get(path + "/input_items"))), 404);
        EXPECT_EQ(status_of(ask(remove(path))), 404);
        key_ = mine;
        EXPECT_EQ(body_of(ask(remove(path)))["deleted"], true);
        EXPECT_EQ(status_of(ask(get(path))), 404);
        EXPECT_EQ(status_of(ask(remove(path))), 404);
    }
    EXPECT_EQ(status_of(ask(remove("/v1/responses"))), 405);
    EXPECT_EQ(status_of(ask(get("/v1/responses/a/b"))), 404);
}

/// What failed, or whose client left, is not there.
TEST_F(ServerTest, OnlyWholeAnswersAreStored) {
    EXPECT_EQ(status_of(ask(post("/v1/responses", turn("fail")))), 500);
    {
        RawClient client(port_);
        client.send(post("/v1/responses", turn("forever", R"(,"stream":true)")));
        EXPECT_FALSE(client.read_until("more ").empty());
    }
    EXPECT_TRUE(soon([&] { return log_->n_cancels == 1; }));
    for (const auto& entry : fs::recursive_directory_iterator(options_.ledger / "responses"))
        EXPECT_TRUE(entry.is_directory()) << entry.path();
}

TEST_F(ServerTest, WhoGoesOnIsAboutThoseOfBeforeToo) {
    const auto with = [](const char* subject) {
        return fmt::format("connection: close\r\nx-etalon-subject: {}\r\n", subject);
    };
    const auto id_of = [&](const std::string& response) {
        return body_of(response)["id"].get<std::string>();
    };
    const auto after = [](const std::string& id) {
        return fmt::format(R"(,"previous_response_id":"{}")", id);
    };
    const std::string first = id_of(ask(post("/v1/responses", turn("a"), with("anna"))));
    const std::string second =
        id_of(ask(post("/v1/responses", turn("b", after(first)), with("bert"))));
    (void)id_of(ask(post("/v1/responses", turn("c", after(second)))));
    EXPECT_EQ(status_of(ask(post("/v1/responses", turn("d", after("resp_x"))))), 404);
    ::kill(::getpid(), SIGTERM);
    thread_.join();
    std::vector<std::size_t> counts;
    bool is_account_last = false;
    const auto files = ledger::log_files(options_.ledger);
    const auto size = tlog::parse_checkpoint(tlog::parse_note(*files("checkpoint")).text).size;
    tlog::read_entries(files, 0, size, size, [&](std::uint64_t, std::string_view entry) {
        const ledger::Record record = ledger::parse_record(entry);
        const auto* intent = std::get_if<ledger::Intent>(&record.body);
        if (intent == nullptr) return;
        counts.push_back(intent->subjects.size());
        is_account_last = intent->subjects.back() == intent->tenant;
    });
    EXPECT_EQ(counts, (std::vector<std::size_t>{1, 2, 3}));
    EXPECT_TRUE(is_account_last);
}

TEST_F(ServerTest, ContentIsReadForAReasonThatIsRecorded) {
    const json stored = body_of(ask(post("/v1/responses", turn("a b"))));
    const std::string receipt = stored["etalon"]["receipt"];
    const std::string path = "/ledger/content/" + receipt.substr(4, receipt.rfind('-') - 4);
    const std::string body = R"({"reason":"complaint 17"})";
    EXPECT_EQ(status_of(ask(post(path, body))), 403);
    key_ = other_key("other", kScopeContentRead);
    EXPECT_EQ(status_of(ask(post(path, body))), 404);
    key_ = other_key("default", kScopeContentRead);
    EXPECT_EQ(status_of(ask(post(path, "{}"))), 400);
    EXPECT_EQ(status_of(ask(post(path + "0", body))), 404);
    const json content = body_of(ask(post(path, body)));
    EXPECT_EQ(content["input"][0]["content"][0]["text"], "a b");
    EXPECT_EQ(content["response"], stored);
    EXPECT_GT(content["record"], content["intent"]);
    fs::rename(options_.ledger / "log", options_.ledger / "away");
    { std::ofstream(options_.ledger / "log") << "a file where the folder was"; }
    EXPECT_TRUE(soon([&] { return status_of(ask(post(path, body))) == 503; }));
    fs::remove(options_.ledger / "log");
    fs::rename(options_.ledger / "away", options_.ledger / "log");
}

TEST_F(ServerTest, RefusalsOfTheWorkerAreAnswersAlsoOfStreams) {
    for (const char* more : {"", R"(,"stream":true)"}) {
        const std::string response = ask(post("/v1/chat/completions", chat("refuse", more)));
        EXPECT_EQ(status_of(response), 400) << response;
        const json body = body_of(response);
        EXPECT_EQ(body["code"], "context_length_exceeded");
        EXPECT_EQ(body["param"], "messages");
    }
}

TEST_F(ServerTest, AnswersThatFail) {
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("fail")))), 500);
    const std::string stream = ask(post("/v1/chat/completions", chat("fail", R"(,"stream":true)")));
    EXPECT_EQ(status_of(stream), 200);
    EXPECT_NE(stream.find("\"error\":{\"message\":\"logits are not finite\""), std::string::npos)
        << stream;
    EXPECT_EQ(stream.find("[DONE]"), std::string::npos);
}

TEST_F(ServerTest, AClientThatLeavesCancels) {
    for (const char* text : {"forever", "silent"}) {
        for (const char* more : {"", R"(,"stream":true)"}) {
            const int before = log_->n_cancels;
            {
                RawClient client(port_);
                client.send(post("/v1/chat/completions", chat(text, more)));
                std::this_thread::sleep_for(std::chrono::milliseconds(100));
            }
            EXPECT_TRUE(soon([&] { return log_->n_cancels == before + 1; })) << text << more;
        }
    }
}

TEST_F(ServerTest, ALostWorkerIsAnErrorAndIsStartedAgain) {
    RawClient waiting(port_);
    waiting.send(post("/v1/chat/completions", chat("silent", R"(,"stream":true)")));
    waiting.read_until("assistant");
    const std::string response = ask(post("/v1/chat/completions", chat("die")));
    EXPECT_EQ(status_of(response), 503) << response;
    EXPECT_NE(response.find("retry-after: 2"), std::string::npos);
    EXPECT_NE(waiting.read_all().find("data: {\"object\":\"error\""), std::string::npos);
    EXPECT_TRUE(soon([&] { return log_->n_starts == 2; }));
    EXPECT_TRUE(soon([&] { return status_of(ask(get("/readyz"))) == 200; }));
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("a")))), 200);
}

TEST_F(ServerTest, ManyPromptsAndTheirIndices) {
    const std::string response = ask(
        post("/v1/completions", R"({"model":"devstral","prompt":["a","b c"],"n":2,"echo":true})"));
    const json body = body_of(response);
    ASSERT_EQ(body["choices"].size(), 4U) << response;
    EXPECT_EQ(body["choices"][3]["text"], "b cb c ");
    EXPECT_EQ(body["usage"]["prompt_tokens"], 4);
}

TEST_F(ServerTest, OtherRoutes) {
    EXPECT_EQ(body_of(ask(get("/v1/models")))["data"][0]["id"], "fake");
    EXPECT_EQ(body_of(ask(get("/v1/models/devstral")))["name"], "Fake");
    EXPECT_EQ(status_of(ask(get("/v1/models/none"))), 404);
    EXPECT_EQ(body_of(ask(post("/tokenize", R"({"prompt":"a"})")))["count"], 3);
    EXPECT_EQ(body_of(ask(post("/detokenize", R"({"tokens":[1]})")))["prompt"], "text");
    EXPECT_EQ(status_of(ask(post("/detokenize", R"({"tokens":[100]})"))), 400);
    EXPECT_NE(ask(get("/metrics")).find("etalon_engine_steps{model=\"fake\"} 7"),
              std::string::npos);
    const std::string embeddings = ask(
        post("/v1/embeddings", R"({"model":"fake","input":["a","b"],"encoding_format":"base64"})"));
    EXPECT_EQ(body_of(embeddings)["data"][1]["embedding"], "AACAPwAAAMA=") << embeddings;
    EXPECT_EQ(status_of(ask(post("/v1/fim/completions", R"({"model":"fake","prompt":"a"})"))), 400);
    EXPECT_EQ(
        status_of(ask(post("/v1/chat/completions",
                           R"({"model":"other","messages":[{"role":"user","content":"x"}]})"))),
        404);
}

TEST_F(ServerTest, ConnectionsAreKeptAndPipelined) {
    RawClient client(port_);
    const std::string request = get("/v1/models", "");
    client.send(request + request + request);
    std::size_t n = 0;
    std::string all;
    while (n < 3 && !client.at_end()) {
        all += client.read_until("}]}");
        n = 0;
        for (std::size_t at = 0; (at = all.find("HTTP/1.1 200", at)) != std::string::npos; ++at)
            ++n;
    }
    EXPECT_EQ(n, 3U) << all;
}

TEST_F(ServerTest, HostileHttp) {
    const std::string host = fmt::format("host: 127.0.0.1:{}\r\n", port_);
    const auto status = [&](const std::string& bytes) { return status_of(ask(bytes)); };
    EXPECT_EQ(status("nonsense\r\n\r\n"), 400);
    EXPECT_EQ(
        status("GET /livez HTTP/1.1\r\n" + host + "a: " + std::string(20000, 'x') + "\r\n\r\n"),
        431);
    EXPECT_EQ(status("GET /livez HTTP/1.1\r\nconnection: close\r\n\r\n"), 400);
    EXPECT_EQ(status("GET /livez HTTP/1.1\r\nhost: evil\r\nconnection: close\r\n\r\n"), 421);
    EXPECT_EQ(status("GET http://x/livez HTTP/1.1\r\n" + host + "connection: close\r\n\r\n"), 400);
    // Two ways to say where a body ends are how requests are smuggled.
    const std::string head = "POST /tokenize HTTP/1.1\r\n" + host;
    EXPECT_EQ(status(head + "content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
              400);
    EXPECT_EQ(status(head + "content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"), 400);
    EXPECT_EQ(status(head + "content-length: -1\r\n\r\n"), 400);
    EXPECT_EQ(status(post("/tokenize", "{}", "content-length: 99999999999\r\n")), 400);
    EXPECT_EQ(status(fmt::format("POST /tokenize HTTP/1.1\r\n{}authorization: Bearer {}\r\n"
                                 "content-type: application/json\r\ncontent-length: 99999999\r\n"
                                 "\r\n",
                                 host, key_)),
              413);
    EXPECT_EQ(status_of(ask(get("/livez"))), 200);
}

TEST_F(ServerTest, ABodyIsNotReadWithoutAKey) {
    const std::string response = ask(fmt::format(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{}\r\ncontent-length: 1000000\r\n"
        "expect: 100-continue\r\n\r\n",
        port_));
    EXPECT_EQ(status_of(response), 401) << response;
    EXPECT_EQ(response.find("100 Continue"), std::string::npos);
}

TEST_F(ServerTest, ContinueIsSaidWhereTheBodyIsWanted) {
    RawClient client(port_);
    const std::string whole =
        post("/tokenize", R"({"prompt":"a"})", "expect: 100-continue\r\nconnection: close\r\n");
    const std::size_t body = whole.find("\r\n\r\n") + 4;
    client.send(std::string_view(whole).substr(0, body));
    EXPECT_NE(client.read_until("Continue\r\n\r\n").find("100 Continue"), std::string::npos);
    client.send(std::string_view(whole).substr(body));
    EXPECT_EQ(status_of(client.read_all()), 200);
}

class WatchedServerTest : public ServerTest {
  protected:
    WatchedServerTest() : ServerTest(std::chrono::milliseconds(20)) {}
};

TEST_F(WatchedServerTest, AWorkerWhoseWeightsChangeIsReplaced) {
    EXPECT_TRUE(soon([&] { return log_->n_live >= 3; }));
    EXPECT_EQ(log_->n_starts, 1);
    log_->weights_changed = true;
    EXPECT_TRUE(soon([&] { return log_->n_starts == 2; }));
    EXPECT_TRUE(
        soon([&] { return status_of(ask(post("/v1/chat/completions", chat("a b")))) == 200; }));
    ::kill(::getpid(), SIGTERM);
    thread_.join();
    const auto checks = records<ledger::LiveCheck>();
    const auto n = [&](const char* verdict) {
        return std::count_if(checks.begin(), checks.end(),
                             [&](const auto& check) { return check.verdict == verdict; });
    };
    EXPECT_EQ(n("changed"), 1);
    EXPECT_EQ(n("first"), 2);
    EXPECT_GE(n("same"), 2);
}

class CheckedServerTest : public ServerTest {
  protected:
    CheckedServerTest() : ServerTest(kLiveCheckTime, 2) {}
};

TEST_F(CheckedServerTest, EverySecondAnswerIsDerivedAgain) {
    for (int i = 0; i < 5; ++i)
        EXPECT_EQ(status_of(ask(post("/v1/chat/completions", chat("a b")))), 200);
    EXPECT_TRUE(soon([&] { return log_->n_replays == 2; }));
    EXPECT_TRUE(soon([&] {
        const std::string metrics = ask(get("/metrics"));
        return metrics.find("self_checks_total{verdict=\"match\"} 1") != std::string::npos &&
               metrics.find("self_checks_total{verdict=\"token\"} 1") != std::string::npos;
    }));
    ::kill(::getpid(), SIGTERM);
    thread_.join();
    const auto intents = records<ledger::Intent>();
    const auto replays = records<ledger::Replay>();
    ASSERT_EQ(intents.size(), 5U);
    ASSERT_EQ(replays.size(), 2U);
    EXPECT_EQ(replays[0].verdict, "match");
    EXPECT_EQ(replays[1].verdict, "token");
    EXPECT_EQ(replays[1].position, 1U);
    EXPECT_LT(replays[0].intent, replays[1].intent);
}

TEST_F(ServerTest, ALiveDigestIsForAuditors) {
    const std::string body = R"({"nonce":")" + std::string(64, 'a') + R"("})";
    EXPECT_EQ(status_of(ask(post("/v1/live", body))), 403);
    NewKey wanted;
    wanted.scopes = kScopeAudit;
    key_ = Accounts(options_.database).create_key(wanted, 1).key;
    const std::string answer = ask(post("/v1/live", body));
    ASSERT_EQ(status_of(answer), 200);
    EXPECT_EQ(body_of(answer)["digest"], std::string(64, 'a'));
    EXPECT_EQ(status_of(ask(post("/v1/live", "{}"))), 400);
    EXPECT_EQ(status_of(ask(post("/v1/live", R"({"nonce":"A"})"))), 400);
}

TEST_F(ServerTest, TheFirstSignalLetsAnswersEnd) {
    RawClient client(port_);
    client.send(post("/v1/chat/completions", chat("forever", R"(,"stream":true)")));
    client.read_until("more");
    ::kill(::getpid(), SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    EXPECT_NE(client.read_until("more").find("more"), std::string::npos);
    ::kill(::getpid(), SIGTERM);  // the second one does not
    thread_.join();
    client.read_all();
    EXPECT_TRUE(client.at_end());
}

TEST(ServerOptions, ListenersInClearAreForThisMachineOnly) {
    ServerOptions options;
    options.listens = {{"0.0.0.0", 0}};
    const fs::path file = fs::temp_directory_path() / fmt::format("etalon-{}.db", ::getpid());
    options.database = file;
    try {
        run_server(options);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::usage);
    }
    for (const char* end : {"", "-wal", "-shm"})
        fs::remove(file.string() + end);
}

TEST(ServerOptions, Addresses) {
    EXPECT_EQ(listen_text(parse_listen("127.0.0.1:80")), "127.0.0.1:80");
    EXPECT_EQ(listen_text(parse_listen("[::1]:80")), "[::1]:80");
    EXPECT_EQ(parse_listen("localhost:1").address, "127.0.0.1");
    for (const char* wrong : {"", ":80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "a.b:80"})
        EXPECT_THROW(parse_listen(wrong), Error) << wrong;
    EXPECT_EQ(model_id("/a/b.Q4_1.gguf"), "b.Q4_1");
    EXPECT_EQ(model_id("/a/folder/"), "folder");
}

}  // namespace
}  // namespace etalon::serve
