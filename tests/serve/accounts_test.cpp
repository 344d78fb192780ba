// SPDX-License-Identifier: Apache-2.0
// Keys, their limits, and the checks before a body is read.
#include "serve/accounts.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "serve/local_key.h"
#include "serve/pace.h"
#include "serve/routes.h"

namespace etalon::serve {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kNow = 1'800'000'000;

class AccountsTest : public ::testing::Test {
  protected:
    AccountsTest() {
        std::string pattern = (fs::temp_directory_path() / "etalon-accounts-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        accounts_ = std::make_unique<Accounts>(database());
        site_.accounts = accounts_.get();
        site_.version = "1";
        site_.hosts = {"127.0.0.1:8080"};
    }
    ~AccountsTest() override { fs::remove_all(folder_); }

    fs::path database() const { return folder_ / "data" / "etalon.db"; }

    HttpRequest request(const std::string& path, const std::string& key,
                        const std::string& method = "GET") {
        HttpRequest head;
        head.method = method;
        head.path = path;
        head.headers = {{"host", "127.0.0.1:8080"}, {"content-type", "application/json"}};
        if (!key.empty()) head.headers.emplace_back("authorization", "Bearer " + key);
        return head;
    }
    /// 200, or the status of the refusal.
    int status(const HttpRequest& head, std::int64_t now = kNow, double steady = 0.0) {
        try {
            admit(site_, head, now, steady);
            return 200;
        } catch (const ApiError& error) {
            refused_ = error.response("r");
            return error.status();
        }
    }
    std::string refused_header(const std::string& name) const {
        for (const auto& [key, value] : refused_.headers) {
            if (key == name) return value;
        }
        return "";
    }

    fs::path folder_;
    std::unique_ptr<Accounts> accounts_;
    Site site_;
    HttpResponse refused_;
};

TEST_F(AccountsTest, OnlyTheHashIsStored) {
    const auto created = accounts_->create_key({}, kNow);
    EXPECT_EQ(created.key.size(), 68U);
    EXPECT_EQ(created.key.rfind("etk-", 0), 0U);
    const auto found = accounts_->find(created.key);
    ASSERT_TRUE(found.has_value());
    EXPECT_EQ(found->id, created.id);
    EXPECT_EQ(found->tenant, "default");
    EXPECT_EQ(found->prefix, created.key.substr(0, 10));
    const std::string secret = created.key.substr(10);
    accounts_.reset();
    for (const auto& file : fs::directory_iterator(database().parent_path())) {
        EXPECT_EQ(read_file(file.path(), 1 << 24).find(secret), std::string::npos);
        struct stat status {};
        ASSERT_EQ(::stat(file.path().c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777U, 0600U) << file.path();
    }
}

TEST_F(AccountsTest, UnknownAndAlmostKnownKeys) {
    std::string key = accounts_->create_key({}, kNow).key;
    EXPECT_FALSE(accounts_->find("").has_value());
    EXPECT_FALSE(accounts_->find(key + "0").has_value());
    key.back() = key.back() == '0' ? '1' : '0';
    EXPECT_FALSE(accounts_->find(key).has_value());
}

TEST_F(AccountsTest, RangesOfNewKeys) {
    const auto refuses = [&](const NewKey& key) {
        EXPECT_THROW(accounts_->create_key(key, kNow), Error);
    };
    NewKey key;
    key.tenant = "a b";
    refuses(key);
    key.tenant = "";
    refuses(key);
    key = {};
    key.tokens_per_day = 0;
    refuses(key);
    key = {};
    key.requests_per_minute = -1;
    refuses(key);
    key = {};
    key.expires = kNow;
    refuses(key);
    key = {};
    key.scopes = 0;
    refuses(key);
    EXPECT_THROW(scopes_of("infer,root"), Error);
    EXPECT_EQ(scope_names(scopes_of("metrics,infer")), "infer,metrics");
    EXPECT_EQ(scope_names(scopes_of("content:read,audit")), "audit,content:read");
    EXPECT_THROW(scopes_of("content"), Error);
}

TEST_F(AccountsTest, TheDatabaseIsOpenedAgainAndLaterOnesAreNot) {
    const std::string key = accounts_->create_key({}, kNow).key;
    EXPECT_TRUE(Accounts(database()).find(key).has_value());
    {
        Database raw(database());
        raw.run("PRAGMA user_version = 99");
    }
    EXPECT_THROW(Accounts{database()}, Error);
}

TEST_F(AccountsTest, UsageIsCountedByDay) {
    const std::int64_t id = accounts_->create_key({}, kNow).id;
    accounts_->add_usage(id, kNow, {1, 10, 5});
    accounts_->add_usage(id, kNow + 1, {1, 1, 1});
    EXPECT_EQ(accounts_->day_usage(id, kNow).prompt_tokens, 11);
    EXPECT_EQ(accounts_->day_usage(id, kNow).requests, 2);
    EXPECT_EQ(accounts_->day_usage(id, kNow + 86400).requests, 0);
}

TEST_F(AccountsTest, EveryRouteIsClosedButHealth) {
    for (const Route& route : all_routes()) {
        std::string path = route.path;
        if (path.back() == '/') path += "x";
        const bool open = path == "/livez" || path == "/readyz" || path == "/health";
        EXPECT_EQ(status(request(path, "", route.method)), open ? 200 : 401) << path;
    }
    EXPECT_EQ(status(request("/nothing", "")), 401);
    EXPECT_EQ(status(request("/v1/models", "etk-wrong")), 401);
    EXPECT_EQ(refused_header("www-authenticate"), "Bearer");
    HttpRequest basic = request("/v1/models", "");
    basic.headers.emplace_back("authorization", "Basic eDp5");
    EXPECT_EQ(status(basic), 401);
}

TEST_F(AccountsTest, ScopesExpiryAndRevocation) {
    NewKey wanted;
    wanted.expires = kNow + 10;
    const auto created = accounts_->create_key(wanted, kNow);
    const HttpRequest models = request("/v1/models", created.key);
    EXPECT_EQ(status(models), 200);
    EXPECT_EQ(status(request("/metrics", created.key)), 403);
    EXPECT_EQ(status(request("/nothing", created.key)), 404);
    EXPECT_EQ(status(request("/v1/models", created.key, "POST")), 405);
    EXPECT_EQ(refused_header("allow"), "GET");
    EXPECT_EQ(status(models, kNow + 10), 401);
    EXPECT_TRUE(accounts_->revoke_key(created.id, kNow));
    EXPECT_FALSE(accounts_->revoke_key(999, kNow));
    EXPECT_EQ(status(models), 401);
    wanted = {};
    wanted.scopes = kScopeMetrics;
    const std::string metrics = accounts_->create_key(wanted, kNow).key;
    EXPECT_EQ(status(request("/metrics", metrics)), 200);
    EXPECT_EQ(status(request("/v1/models", metrics)), 403);
}

TEST_F(AccountsTest, HostAndContentTypeAreChecked) {
    const std::string key = accounts_->create_key({}, kNow).key;
    HttpRequest head = request("/v1/chat/completions", key, "POST");
    EXPECT_EQ(status(head), 200);
    head.headers[1].second = "text/plain";
    EXPECT_EQ(status(head), 415);
    head.headers[1].second = "application/json; charset=utf-8";
    EXPECT_EQ(status(head), 200);
    head.headers[0].second = "evil.example:8080";
    EXPECT_EQ(status(head), 421);
    head.headers[0].first = "x-host";
    EXPECT_EQ(status(head), 400);
    head = request("/v1/models", key);
    head.headers.emplace_back("host", "127.0.0.1:8080");
    EXPECT_EQ(status(head), 400);
    EXPECT_EQ(status(request("*", key, "OPTIONS")), 400);
}

TEST_F(AccountsTest, LimitsOfAKey) {
    NewKey wanted;
    wanted.requests_per_minute = 2;
    wanted.tokens_per_day = 100;
    const auto created = accounts_->create_key(wanted, kNow);
    const HttpRequest chat = request("/v1/chat/completions", created.key, "POST");
    EXPECT_EQ(status(chat), 200);
    EXPECT_EQ(status(chat), 200);
    EXPECT_EQ(status(chat), 429);
    EXPECT_EQ(refused_header("retry-after"), "30");
    EXPECT_EQ(refused_header("x-ratelimit-limit-requests"), "2");
    EXPECT_EQ(refused_header("x-ratelimit-remaining-requests"), "0");
    EXPECT_EQ(status(request("/v1/models", created.key)), 200);
    EXPECT_EQ(status(chat, kNow, 31.0), 200);
    accounts_->add_usage(created.id, kNow, {1, 60, 40});
    EXPECT_EQ(status(chat, kNow, 100.0), 429);
    EXPECT_EQ(refused_header("retry-after"), std::to_string(seconds_left_of_day(kNow)));
    EXPECT_EQ(status(chat, kNow + 86400, 200.0), 200);
}

TEST_F(AccountsTest, NoPageMayCallUnlessListed) {
    HttpRequest ask = request("/v1/models", "", "OPTIONS");
    ask.headers.emplace_back("origin", "https://chat.example.org");
    ask.headers.emplace_back("access-control-request-method", "POST");
    EXPECT_FALSE(preflight(site_, ask).has_value());
    EXPECT_TRUE(cors_headers(site_, ask).empty());
    site_.cors_origins = {"https://chat.example.org"};
    const auto response = preflight(site_, ask);
    ASSERT_TRUE(response.has_value());
    EXPECT_EQ(response->status, 204);
    EXPECT_EQ(cors_headers(site_, ask)[0].second, "https://chat.example.org");
}

TEST_F(AccountsTest, LocalKeyIsMadeOnceAndIsPrivate) {
    const fs::path path = folder_ / "config" / "local.key";
    ensure_local_key(*accounts_, path, kNow);
    const std::string key = read_local_key(path);
    ASSERT_TRUE(accounts_->find(key).has_value());
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
    ensure_local_key(*accounts_, path, kNow);
    EXPECT_EQ(read_local_key(path), key);
    accounts_->revoke_key(accounts_->find(key)->id, kNow);
    ensure_local_key(*accounts_, path, kNow);
    EXPECT_NE(read_local_key(path), key);
}

TEST_F(AccountsTest, AForgottenTenantIsInNoPageOfTheDatabase) {
    const auto bytes_hold = [&](const std::string& text) {
        for (const auto& entry : fs::directory_iterator(database().parent_path())) {
            if (read_file(entry.path(), 1 << 24).find(text) != std::string::npos) return true;
        }
        return false;
    };
    NewKey key;
    for (const char* tenant : {"canary-of-anna", "bert"}) {
        key.tenant = tenant;
        accounts_->add_usage(accounts_->create_key(key, kNow).id, kNow, {1, 2, 3});
    }
    EXPECT_TRUE(bytes_hold("canary-of-anna"));
    EXPECT_EQ(accounts_->list_tenants().size(), 2U);
    EXPECT_TRUE(accounts_->forget_tenant("canary-of-anna"));
    EXPECT_FALSE(accounts_->forget_tenant("canary-of-anna"));
    accounts_->scrub();
    EXPECT_FALSE(bytes_hold("canary-of-anna"));
    EXPECT_TRUE(bytes_hold("bert"));
    ASSERT_EQ(accounts_->list_keys().size(), 1U);
    EXPECT_EQ(accounts_->list_keys()[0].tenant, "bert");
    EXPECT_EQ(accounts_->day_usage(accounts_->list_keys()[0].id, kNow).answer_tokens, 3);
}

TEST_F(AccountsTest, ACopyOfTheDatabaseIsWholeAndPrivate) {
    const std::string key = accounts_->create_key({}, kNow).key;
    const fs::path copy = fs::path(folder_) / "copy.db";
    Database(database()).copy_to(copy);
    EXPECT_TRUE(Accounts(copy).find(key).has_value());
    struct stat status {};
    ASSERT_EQ(::stat(copy.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U);
}

TEST(Pace, RefillsEvenly) {
    Paces paces;
    for (int i = 0; i < 60; ++i)
        EXPECT_TRUE(paces.take(1, 60, 0.0).accepted);
    const auto refused = paces.take(1, 60, 0.5);
    EXPECT_FALSE(refused.accepted);
    EXPECT_DOUBLE_EQ(refused.seconds_to_next, 0.5);
    EXPECT_TRUE(paces.take(2, 60, 0.5).accepted);
    EXPECT_TRUE(paces.take(1, 60, 1.0).accepted);
    EXPECT_FALSE(paces.take(1, 60, 1.0).accepted);
}

}  // namespace
}  // namespace etalon::serve
