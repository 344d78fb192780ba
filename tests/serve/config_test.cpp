// SPDX-License-Identifier: Apache-2.0
// Keys, types and ranges of etalon.toml and of its variables, and where each value came from.
#include "serve/config.h"

#include <array>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <set>

#include "base/error.h"

namespace etalon::serve {
namespace {

namespace fs = std::filesystem;

class ConfigTest : public ::testing::Test {
  protected:
    ConfigTest() {
        std::string pattern = (fs::temp_directory_path() / "etalon-config-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        system_ = folder_ / "system.toml";
        user_ = folder_ / "user.toml";
    }
    ~ConfigTest() override {
        for (const ConfigKey& key : config_keys())
            ::unsetenv(config_variable(key).c_str());
        fs::remove_all(folder_);
    }

    static void write(const fs::path& path, const std::string& text) {
        std::ofstream(path) << text;
    }
    Config read() const {
        Config config = read_config(std::array<fs::path, 2>{system_, user_});
        read_variables(config);
        return config;
    }
    /// The message of what is wrong; "" when nothing is.
    std::string complaint() const {
        try {
            read();
            return "";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::usage);
            return error.message();
        }
    }

    fs::path folder_;
    fs::path system_;
    fs::path user_;
};

TEST_F(ConfigTest, WithoutFilesThereAreDefaults) {
    const Config config = read();
    EXPECT_EQ(config.listen, Texts{"127.0.0.1:8080"});
    EXPECT_TRUE(config.models.empty());
    EXPECT_EQ(config.sandbox, "best-effort");
    EXPECT_TRUE(config.origins.empty());
}

TEST_F(ConfigTest, TheUserStandsAboveTheSystemAndVariablesAboveBothKeyByKey) {
    write(system_, "listen = \"127.0.0.1:1\"\nmodels = [\"a\", \"b\"]\nthreads = 3\n");
    write(user_, "\nthreads = 4\nsandbox = \"strict\"\n");
    ::setenv("ETALON_HOSTS", "a.example,b.example", 1);
    ::setenv("ETALON_CACHE_BYTES", "1000", 1);
    const Config config = read();
    EXPECT_EQ(config.listen, Texts{"127.0.0.1:1"});
    EXPECT_EQ(config.models, (Texts{"a", "b"}));
    EXPECT_EQ(config.threads, 4);
    EXPECT_EQ(config.sandbox, "strict");
    EXPECT_EQ(config.hosts, (Texts{"a.example", "b.example"}));
    EXPECT_EQ(config.cache_bytes, 1000);
    const std::map<std::string, std::string> origins{
        {"listen", system_.string() + ":1"}, {"models", system_.string() + ":2"},
        {"threads", user_.string() + ":2"},  {"sandbox", user_.string() + ":3"},
        {"hosts", "ETALON_HOSTS"},           {"cache_bytes", "ETALON_CACHE_BYTES"}};
    EXPECT_EQ(config.origins, origins);
    ::setenv("ETALON_THREADS", "5", 1);
    EXPECT_EQ(read().threads, 5);
    ::setenv("ETALON_THREADS", "", 1);
    EXPECT_EQ(read().threads, 4);
}

TEST_F(ConfigTest, SignaturesOfModels) {
    EXPECT_FALSE(read().require_signature);
    EXPECT_EQ(read().verify, "changed");
    write(user_,
          "require_signature = true\npublic_key = \"a.pub\"\nsigning_key = \"a\"\n"
          "verify = \"always\"\n");
    const Config config = read();
    EXPECT_TRUE(config.require_signature);
    EXPECT_EQ(config.public_key, "a.pub");
    EXPECT_EQ(config.signing_key, "a");
    EXPECT_EQ(config.verify, "always");
    ::setenv("ETALON_REQUIRE_SIGNATURE", "false", 1);
    EXPECT_FALSE(read().require_signature);
}

TEST_F(ConfigTest, WhatIsWrongHasItsFileAndLine) {
    for (const char* wrong : {"colour = 1",
                              "listen = 1",
                              "models = [1]",
                              "models = {}",
                              "sandbox = \"x\"",
                              "sandbox = true",
                              "threads = -1",
                              "threads = 4097",
                              "threads = \"4\"",
                              "threads = 1.5",
                              "cache_bytes = 9223372036854775807",
                              "stored_days = 3651",
                              "stored_responses = -1",
                              "self_check = -1",
                              "require_signature = \"yes\"",
                              "verify = \"never\"",
                              "public_key = true",
                              "certificate = [\"a\"]",
                              "a =",
                              "listen = \"a\"\nlisten = \"b\"",
                              "[listen]"}) {
        write(user_, std::string("\n") + wrong + "\n");
        const std::string message = complaint();
        const int line = std::string(wrong).find('\n') == std::string::npos ? 2 : 3;
        const std::string where = fmt::format("({}, line {})", user_.string(), line);
        EXPECT_NE(message.find(where), std::string::npos) << wrong << ": " << message;
    }
}

TEST_F(ConfigTest, WhatIsWrongInAVariableHasItsName) {
    const std::pair<const char*, const char*> wrong[] = {
        {"ETALON_THREADS", "many"}, {"ETALON_THREADS", "4 "},         {"ETALON_CONTEXT", "-1"},
        {"ETALON_SANDBOX", "x"},    {"ETALON_LISTEN", "a,,b"},        {"ETALON_MODELS", "a,"},
        {"ETALON_VERIFY", "never"}, {"ETALON_REQUIRE_SIGNATURE", "1"}};
    for (const auto& [variable, text] : wrong) {
        ::setenv(variable, text, 1);
        const std::string message = complaint();
        EXPECT_NE(message.find(fmt::format("({})", variable)), std::string::npos)
            << variable << "=" << text << ": " << message;
        ::unsetenv(variable);
    }
}

TEST_F(ConfigTest, EveryKeyHasAVariableOfItsOwn) {
    std::set<std::string> variables;
    for (const ConfigKey& key : config_keys())
        EXPECT_TRUE(variables.insert(config_variable(key)).second) << key.name;
    EXPECT_TRUE(variables.contains("ETALON_CORS_ORIGINS"));
    EXPECT_FALSE(variables.contains("ETALON_MODEL")) << "names the default model already";
}

}  // namespace
}  // namespace etalon::serve
