// SPDX-License-Identifier: Apache-2.0
// What a worker may ask of the kernel.
#include "worker/internal/seccomp_filter.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <seccomp.h>
#include <string_view>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

namespace etalon::worker {

namespace {

/// Calls without conditions: memory, threads that exist, time, the socket and files that are open,
/// what a file is. `seccomp` can only take more away.
constexpr std::array kAllowed{"brk",
                              "munmap",
                              "mremap",
                              "madvise",
                              "membarrier",
                              "futex",
                              "futex_time64",
                              "set_robust_list",
                              "rseq",
                              "rt_sigaction",
                              "rt_sigprocmask",
                              "rt_sigreturn",
                              "sigaltstack",
                              "restart_syscall",
                              "exit",
                              "exit_group",
                              "sched_yield",
                              "sched_getaffinity",
                              "clock_gettime",
                              "clock_getres",
                              "clock_nanosleep",
                              "nanosleep",
                              "gettimeofday",
                              "getrandom",
                              "getpid",
                              "gettid",
                              "getppid",
                              "getuid",
                              "geteuid",
                              "getgid",
                              "getegid",
                              "uname",
                              "sysinfo",
                              "getrusage",
                              "read",
                              "readv",
                              "pread64",
                              "write",
                              "writev",
                              "lseek",
                              "close",
                              "poll",
                              "ppoll",
                              "recvfrom",
                              "recvmsg",
                              "fstat",
                              "newfstatat",
                              "fstatat64",
                              "stat",
                              "lstat",
                              "statx",
                              "getdents64",
                              "seccomp"};

/// Calls that are answered with EPERM: the canaries try them, or a library tries them and lives
/// without. Everything that is in no list kills the process.
constexpr std::array kRefused{
    // networks and other processes
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendmsg", "sendmmsg",
    "recvmmsg", "setsockopt", "getsockopt", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "ptrace", "process_vm_readv", "process_vm_writev", "kill", "tkill", "pidfd_open", "pidfd_getfd",
    "execve", "execveat", "fork", "vfork", "unshare", "setns", "mount", "bpf", "perf_event_open",
    "userfaultfd", "keyctl", "shmget", "memfd_create", "pipe2", "eventfd2",
    // files
    "open", "openat2", "creat", "mkdir", "mkdirat", "unlink", "unlinkat", "rename", "renameat",
    "renameat2", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod", "fchmodat", "chown",
    "truncate", "ftruncate", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getcwd", "statfs", "ioctl", "dup", "dup2", "dup3",
    // settings of the process
    "setrlimit", "sched_setaffinity", "sched_setscheduler", "setpriority", "setuid", "setgid",
    "setresuid", "capset", "personality"};

/// What the driver of a card asks for while it computes: everything goes through ioctl on its own
/// descriptors; memory of the host is bound to the card's node.
constexpr std::array kOfCards{"ioctl",         "mbind", "get_mempolicy",
                              "set_mempolicy", "mlock", "munlock"};

/// Calls that the seal takes away.
constexpr std::array kSealed{"openat", "clone", "getdents64"};

constexpr unsigned long kTmpfileBit = O_TMPFILE & ~O_DIRECTORY;
constexpr unsigned long kSetVma = 0x53564d41;  // PR_SET_VMA: glibc names its memory

/// A filter under construction; the first error stays.
class Filter {
  public:
    explicit Filter(std::uint32_t default_action) : context_(seccomp_init(default_action)) {
        if (context_ == nullptr) why_ = "seccomp_init";
    }
    ~Filter() {
        if (context_ != nullptr) seccomp_release(context_);
    }
    Filter(const Filter&) = delete;
    Filter& operator=(const Filter&) = delete;

    /// A call that this architecture or this library does not know needs no rule.
    template <typename... Comparisons>
    void rule(std::uint32_t action, const char* call, Comparisons... comparisons) {
        if (!why_.empty()) return;
        const int number = seccomp_syscall_resolve_name(call);
        if (number == __NR_SCMP_ERROR) return;
        const int error =
            seccomp_rule_add(context_, action, number, sizeof...(comparisons), comparisons...);
        if (error != 0) why_ = fmt::format("{}: {}", call, std::strerror(-error));
    }
    /// The call passes where all bits of `mask` in its argument are 0; EPERM where one is not.
    void allow_without_bits(const char* call, unsigned argument,
                            std::initializer_list<unsigned long> bits) {
        unsigned long mask = 0;
        for (const unsigned long bit : bits) {
            mask |= bit;
            rule(SCMP_ACT_ERRNO(EPERM), call, compare(argument, SCMP_CMP_MASKED_EQ, bit, bit));
        }
        rule(SCMP_ACT_ALLOW, call, compare(argument, SCMP_CMP_MASKED_EQ, mask, 0));
    }
    /// The call passes where its argument is `value`; EPERM elsewhere.
    void allow_equal(const char* call, unsigned argument, unsigned long value) {
        rule(SCMP_ACT_ALLOW, call, compare(argument, SCMP_CMP_EQ, value, 0));
        rule(SCMP_ACT_ERRNO(EPERM), call, compare(argument, SCMP_CMP_NE, value, 0));
    }
    static scmp_arg_cmp compare(unsigned argument, scmp_compare how, unsigned long a,
                                unsigned long b) {
        return {argument, how, a, b};
    }

    /// For all threads of the process, so that none is left without.
    std::string load() {
        if (!why_.empty()) return why_;
        int error = seccomp_attr_set(context_, SCMP_FLTATR_CTL_TSYNC, 1);
        if (error == 0) error = seccomp_load(context_);
        return error == 0 ? "" : fmt::format("seccomp_load: {}", std::strerror(-error));
    }

  private:
    scmp_filter_ctx context_;
    std::string why_;
};

void add_conditions(Filter& filter) {
    filter.allow_without_bits("openat", 2, {O_WRONLY, O_RDWR, O_CREAT, O_TRUNC, kTmpfileBit});
    filter.allow_without_bits("mmap", 2, {PROT_EXEC});
    filter.allow_without_bits("mprotect", 2, {PROT_EXEC});
    filter.allow_equal("sendto", 4, 0);     // no address: what the socket pair needs
    filter.allow_equal("prlimit64", 2, 0);  // asks, sets nothing
    filter.allow_equal("tgkill", 0, static_cast<unsigned long>(::getpid()));  // abort()
    constexpr unsigned long kThread = CLONE_THREAD;
    filter.rule(SCMP_ACT_ALLOW, "clone", Filter::compare(0, SCMP_CMP_MASKED_EQ, kThread, kThread));
    filter.rule(SCMP_ACT_ERRNO(EPERM), "clone", Filter::compare(0, SCMP_CMP_MASKED_EQ, kThread, 0));
    filter.rule(SCMP_ACT_ERRNO(ENOSYS), "clone3");
    for (const unsigned long what : {static_cast<unsigned long>(PR_SET_NAME), kSetVma,
                                     static_cast<unsigned long>(PR_GET_SECCOMP),
                                     static_cast<unsigned long>(PR_SET_NO_NEW_PRIVS)}) {
        filter.rule(SCMP_ACT_ALLOW, "prctl", Filter::compare(0, SCMP_CMP_EQ, what, 0));
    }
    for (const unsigned long what : {F_GETFD, F_SETFD, F_GETFL, F_SETFL}) {
        filter.rule(SCMP_ACT_ALLOW, "fcntl", Filter::compare(1, SCMP_CMP_EQ, what, 0));
    }
}

}  // namespace

std::string load_worker_filter(bool has_card) {
    Filter filter(SCMP_ACT_KILL_PROCESS);
    const auto is_cards = [&](std::string_view call) {
        return has_card && std::find(kOfCards.begin(), kOfCards.end(), call) != kOfCards.end();
    };
    for (const char* call : kAllowed)
        filter.rule(SCMP_ACT_ALLOW, call);
    for (const char* call : kRefused)
        if (!is_cards(call)) filter.rule(SCMP_ACT_ERRNO(EPERM), call);
    if (has_card) {
        for (const char* call : kOfCards)
            filter.rule(SCMP_ACT_ALLOW, call);
    }
    add_conditions(filter);
    return filter.load();
}

std::string load_seal_filter() {
    Filter filter(SCMP_ACT_ALLOW);
    for (const char* call : kSealed)
        filter.rule(SCMP_ACT_ERRNO(EPERM), call);
    return filter.load();
}

}  // namespace etalon::worker
