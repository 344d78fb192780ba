// SPDX-License-Identifier: Apache-2.0
// What a server tells the service manager that started it (systemd, Type=notify).
//   ServiceManager manager;          // before the front gives up connecting
//   manager.say("READY=1");          // any time later
#pragma once

#include <string_view>

namespace etalon::serve {

class ServiceManager {
  public:
    /// Opens the socket that $NOTIFY_SOCKET names; without the variable every say() does nothing.
    /// Errors: failure (there is no such socket: the manager would wait in vain).
    ServiceManager();
    ~ServiceManager();
    ServiceManager(const ServiceManager&) = delete;
    ServiceManager& operator=(const ServiceManager&) = delete;

    /// "READY=1", "RELOADING=1", "STOPPING=1", lines of sd_notify(3). A manager that is gone hears
    /// nothing.
    void say(std::string_view lines) const;

  private:
    int fd_ = -1;
};

}  // namespace etalon::serve
