// SPDX-License-Identifier: Apache-2.0
// Messages to a service manager: by path, by abstract name, to nobody.
#include "serve/service_manager.h"

#include <array>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::serve {
namespace {

namespace fs = std::filesystem;

/// A socket as a manager has it; '@' stands for the zero of an abstract name.
class Manager {
  public:
    explicit Manager(const std::string& name) : fd_(::socket(AF_UNIX, SOCK_DGRAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, name.data(), name.size());
        if (name.front() == '@') address.sun_path[0] = '\0';
        const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
        EXPECT_EQ(::bind(fd_, reinterpret_cast<const sockaddr*>(&address), size), 0);
        ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    }
    ~Manager() {
        ::close(fd_);
        ::unsetenv("NOTIFY_SOCKET");
    }
    std::string hear() const {
        std::array<char, 256> buffer{};
        const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
        return n < 0 ? "" : std::string(buffer.data(), static_cast<std::size_t>(n));
    }

  private:
    int fd_;
};

TEST(ServiceManager, HearsByPathAndByAbstractName) {
    const std::string unique = "etalon-notify-" + std::to_string(::getpid());
    for (const std::string& name : {(fs::temp_directory_path() / unique).string(), "@" + unique}) {
        const Manager manager(name);
        const ServiceManager told;
        EXPECT_EQ(manager.hear(), "");
        told.say("READY=1\nSTATUS=serving m");
        EXPECT_EQ(manager.hear(), "READY=1\nSTATUS=serving m");
        fs::remove(fs::temp_directory_path() / unique);
    }
}

TEST(ServiceManager, NobodyIsToldWithoutTheVariable) {
    ::unsetenv("NOTIFY_SOCKET");
    const ServiceManager nobody;
    nobody.say("READY=1");
}

TEST(ServiceManager, AnAddressThatIsNoneIsAnError) {
    for (const std::string& name :
         {std::string("relative"), std::string("/none/of/these"), "/" + std::string(200, 'x')}) {
        ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
        EXPECT_THROW(ServiceManager(), Error) << name;
    }
    ::unsetenv("NOTIFY_SOCKET");
}

}  // namespace
}  // namespace etalon::serve
