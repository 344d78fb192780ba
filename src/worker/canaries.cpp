// SPDX-License-Identifier: Apache-2.0
// Each attempt is one system call whose arguments let it fail otherwise than by a refusal: a kernel
// that lets connect(-1) through says EBADF, a filter says EPERM. So nothing happens when a lock is
// open.
#include "worker/canaries.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace etalon::worker {

namespace {

constexpr long kIoUringSetup = 425;  // one number on every architecture
constexpr const char* kSeccomp = "seccomp";
constexpr const char* kLandlock = "landlock";

Canary judge(const char* name, const char* layer, long returned) {
    const int error = errno;
    Canary canary{name, layer, true, false, "it worked"};
    if (returned >= 0) return canary;
    canary.refused = error == EPERM || error == EACCES;
    const char* text = ::strerrorname_np(error);
    canary.result = text == nullptr ? fmt::format("error {}", error) : text;
    return canary;
}

/// Judges an attempt that may have opened something, and closes it.
Canary judge_open(const char* name, const char* layer, long fd) {
    Canary canary = judge(name, layer, fd);
    if (fd >= 0) ::close(static_cast<int>(fd));
    return canary;
}

Canary write_file() {
    const std::string path = fmt::format("/tmp/etalon-canary-{}", ::getpid());
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    Canary canary = judge_open("write a file", kSeccomp, fd);
    if (fd >= 0) ::unlink(path.c_str());
    return canary;
}

Canary fork_process() {
    const long pid = ::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr);
    if (pid == 0) ::_exit(0);
    return judge("fork", kSeccomp, pid);
}

Canary map_code() {
    constexpr std::size_t kBytes = 4096;
    void* page = ::mmap(nullptr, kBytes, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    Canary canary = judge("map code", kSeccomp, page == MAP_FAILED ? -1 : 0);
    if (page != MAP_FAILED) ::munmap(page, kBytes);
    return canary;
}

}  // namespace

std::vector<Canary> try_canaries(const std::filesystem::path& readable) {
    std::vector<Canary> canaries;
    const auto add = [&](Canary canary) { canaries.push_back(std::move(canary)); };
    add(judge_open("socket, internet", kSeccomp, ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    add(judge_open("socket, unix", kSeccomp, ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    add(judge("connect", kSeccomp, ::connect(-1, to, sizeof(address))));
    add(judge("send to an address", kSeccomp, ::sendto(-1, "", 0, 0, to, sizeof(address))));
    msghdr message{};
    add(judge("send a descriptor", kSeccomp, ::sendmsg(-1, &message, 0)));
    add(judge("exec", kSeccomp, ::syscall(SYS_execve, nullptr, nullptr, nullptr)));
    add(fork_process());
    add(judge("ptrace", kSeccomp, ::ptrace(PTRACE_PEEKUSER, ::getppid(), nullptr, nullptr)));
    add(judge("io_uring", kSeccomp, ::syscall(kIoUringSetup, 1, nullptr)));
    add(judge("signal the parent", kSeccomp, ::kill(::getppid(), 0)));
    add(map_code());
    add(write_file());
    add(judge_open("read /etc/passwd", kLandlock, ::open("/etc/passwd", O_RDONLY | O_CLOEXEC)));
    Canary control =
        judge_open("read the model", kLandlock, ::open(readable.c_str(), O_RDONLY | O_CLOEXEC));
    control.expected = false;
    add(std::move(control));
    return canaries;
}

std::vector<Canary> try_sealed_canaries(const std::filesystem::path& readable) {
    return {judge_open("read the model, sealed", kSeccomp,
                       ::open(readable.c_str(), O_RDONLY | O_CLOEXEC))};
}

}  // namespace etalon::worker
