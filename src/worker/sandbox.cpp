// SPDX-License-Identifier: Apache-2.0
// The layers, each tried on its own: one that the system lacks leaves the others.
#include "worker/sandbox.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "worker/internal/landlock.h"
#include "worker/internal/seccomp_filter.h"
#include "worker/limits.h"

namespace etalon::worker {

namespace {

std::string error_text(const char* what) {
    return fmt::format("{}: {}", what, std::strerror(errno));
}

Layer closed(const char* name, std::string detail) {
    return {name, true, std::move(detail)};
}

Layer missing(const char* name, std::string why) {
    return {name, false, std::move(why)};
}

bool close_between(int first, int last) {
    // The call by number: Debian 12's libc has the function, its older kin do not.
    return first > last || ::syscall(SYS_close_range, first, last, 0) == 0;
}

/// Leaves stderr and `keep`; stdin and stdout lead to nothing, so that their numbers stay taken.
Layer close_descriptors(std::vector<int> keep) {
    constexpr const char* kName = "descriptors";
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return missing(kName, error_text("/dev/null"));
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    std::sort(keep.begin(), keep.end());
    int first = STDERR_FILENO + 1;
    bool done = true;
    for (const int fd : keep) {
        if (fd < first) continue;
        done = close_between(first, fd - 1) && done;
        first = fd + 1;
    }
    done = close_between(first, INT32_MAX) && done;
    if (!done) return missing(kName, error_text("close_range"));
    return closed(kName, "the socket pair and stderr");
}

Layer forbid_core_dumps() {
    constexpr const char* kName = "core dumps";
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_CORE, &none) != 0) return missing(kName, error_text("setrlimit"));
    // A process that is not dumpable cannot be traced by its own user either.
    if (::prctl(PR_SET_DUMPABLE, 0) != 0) return missing(kName, error_text("PR_SET_DUMPABLE"));
    return closed(kName, "none, and no tracing by its own user");
}

ino_t network_inode() {
    struct stat status {};
    return ::stat("/proc/self/ns/net", &status) == 0 ? status.st_ino : 0;
}

Layer leave_network() {
    constexpr const char* kName = "network namespace";
    const ino_t before = network_inode();
    // With a user namespace of its own nobody needs to be root; root without one can do as well.
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWNET) != 0) {
        return missing(kName, error_text("unshare"));
    }
    if (before != 0 && network_inode() == before) return missing(kName, "it did not change");
    return closed(kName, "empty, of its own");
}

Layer drop_capabilities() {
    constexpr const char* kName = "capabilities";
    // The bounding set first, which needs one of them. Without any it cannot be lowered, and need
    // not: no new privileges keeps exec from giving one.
    for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability) >= 0; ++capability)
        (void)::prctl(PR_CAPBSET_DROP, capability);
    (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
    if (::syscall(SYS_capset, &header, none) != 0) return missing(kName, error_text("capset"));
    return closed(kName, "none");
}

Layer forbid_new_privileges() {
    constexpr const char* kName = "no new privileges";
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return missing(kName, error_text("prctl"));
    return closed(kName, "exec gives none");
}

Layer restrict_to(const std::vector<std::filesystem::path>& files, bool has_card) {
    constexpr const char* kName = "landlock";
    const std::string why = restrict_files(files);
    if (!why.empty()) return missing(kName, why);
    return closed(
        kName, fmt::format("version {}, {} paths may be read{}", landlock_version(), files.size(),
                           has_card ? "; not the threads of the card's driver" : ""));
}

Layer filter_calls(bool has_card) {
    constexpr const char* kName = "seccomp";
    const std::string why = load_worker_filter(has_card);
    if (!why.empty()) return missing(kName, why);
    constexpr int kFilterMode = 2;  // SECCOMP_MODE_FILTER
    if (::prctl(PR_GET_SECCOMP) != kFilterMode) return missing(kName, "it is not in force");
    return closed(kName, has_card ? "allow-list of system calls and a card's, all threads"
                                  : "allow-list of system calls, all threads");
}

}  // namespace

bool Sandbox::is_on(const std::string& name) const noexcept {
    return std::any_of(layers_.begin(), layers_.end(),
                       [&](const Layer& layer) { return layer.name == name && layer.on; });
}

bool Sandbox::all_on() const noexcept {
    return std::all_of(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.on; });
}

std::string Sandbox::text() const {
    std::string out;
    for (const Layer& layer : layers_) {
        if (!out.empty()) out += "\n";
        out += fmt::format("{}: {} ({})", layer.name, layer.on ? "on" : "missing", layer.detail);
    }
    return out;
}

Sandbox close_sandbox(const SandboxOptions& options) {
    std::vector<Layer> layers;
    layers.push_back(close_descriptors(options.descriptors));
    layers.push_back(forbid_core_dumps());
    layers.push_back(leave_network());
    layers.push_back(drop_capabilities());
    layers.push_back(forbid_new_privileges());
    const bool has_card = options.open_card && options.open_card();
    layers.push_back(restrict_to(options.files, has_card));
    layers.push_back(filter_calls(has_card));
    return Sandbox(std::move(layers));
}

void seal_sandbox(const Sandbox& sandbox) {
    if (!sandbox.is_on("seccomp")) return;
    const std::string why = load_seal_filter();
    if (!why.empty()) throw Error(ExitCode::failure, "sandbox: " + why);
}

std::vector<std::filesystem::path> readable_files(const std::filesystem::path& model) {
    namespace fs = std::filesystem;
    std::error_code error;
    if (!fs::exists(model, error)) {
        throw Error(ExitCode::not_found, fmt::format("cannot open {}: No such file or directory",
                                                     printable(model.string())));
    }
    const bool is_folder = fs::is_directory(model, error);
    const std::string extension = model.extension().string();
    std::vector<fs::path> files{model};
    if (!is_folder && extension != ".safetensors" && extension != ".json") return files;
    const fs::path folder = is_folder ? model : model.parent_path();
    for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, error)) {
        if (files.size() >= kModelFilesMax) break;
        if (entry.is_regular_file(error)) files.push_back(entry.path());
    }
    return files;
}

}  // namespace etalon::worker
