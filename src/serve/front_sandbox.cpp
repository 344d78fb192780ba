// SPDX-License-Identifier: Apache-2.0
// The front accepts connections and makes none: a prompt cannot leave by a connection that our
// own code opens, whatever is wrong with that code.
#include "serve/front_sandbox.h"

#include <cerrno>
#include <memory>
#include <seccomp.h>
#include <sys/socket.h>

#include "serve/log.h"

namespace etalon::serve {

namespace {

constexpr auto kRefused = SCMP_ACT_ERRNO(EPERM);

/// A filter cannot read the address behind a pointer, so connect() is refused for every family: the
/// front needs it for none. Without a socket of an internet family there is nothing to send from.
bool add_rules(scmp_filter_ctx filter) {
    bool good = true;
    const auto refuse = [&](int call) {
        good = good && seccomp_rule_add(filter, kRefused, call, 0) == 0;
    };
    refuse(SCMP_SYS(connect));
    refuse(SCMP_SYS(io_uring_setup));
    refuse(SCMP_SYS(ptrace));
    for (const int family : {AF_INET, AF_INET6, AF_PACKET, AF_VSOCK}) {
        const scmp_arg_cmp is_family{0, SCMP_CMP_EQ, static_cast<scmp_datum_t>(family), 0};
        good = good && seccomp_rule_add(filter, kRefused, SCMP_SYS(socket), 1, is_family) == 0;
    }
    constexpr scmp_arg_cmp has_address{4, SCMP_CMP_NE, 0, 0};
    return good && seccomp_rule_add(filter, kRefused, SCMP_SYS(sendto), 1, has_address) == 0;
}

}  // namespace

void refuse_connections() {
    const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(seccomp_init(SCMP_ACT_ALLOW),
                                                                  seccomp_release);
    const bool loaded = filter && add_rules(filter.get()) && seccomp_load(filter.get()) == 0;
    if (!loaded) log_note("the kernel does not refuse connections of the front (no seccomp)");
}

}  // namespace etalon::serve
