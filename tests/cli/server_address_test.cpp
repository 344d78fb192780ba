// SPDX-License-Identifier: Apache-2.0
// URLs of servers.
#include "cli/server_address.h"

#include <gtest/gtest.h>
#include <string>

#include "base/error.h"

namespace etalon::cli {
namespace {

TEST(ServerUrl, IsReadAndWrittenAlike) {
    for (const char* url : {"http://127.0.0.1:8080", "https://chat.example.org",
                            "https://chat.example.org:8443", "http://[::1]:8080", "http://[::1]"}) {
        EXPECT_EQ(parse_server_url(url).url(), url);
        EXPECT_EQ(parse_server_url(std::string(url) + "/v1").url(), url);
        EXPECT_EQ(parse_server_url(std::string(url) + "/").url(), url);
    }
    EXPECT_EQ(parse_server_url("http://[::1]:8080").host, "::1");
    EXPECT_TRUE(parse_server_url("https://a").tls);
    EXPECT_EQ(parse_server_url("https://a").port, 443);
}

TEST(ServerUrl, RefusesWhatIsNone) {
    for (const char* url :
         {"", "127.0.0.1:8080", "ftp://a", "http://", "http://a:", "http://a:0", "http://a:65536",
          "http://a:x", "http://a/v2", "http://u@a", "http://a b", "http://a\r\nx"})
        EXPECT_THROW(parse_server_url(url), Error) << url;
}

}  // namespace
}  // namespace etalon::cli
