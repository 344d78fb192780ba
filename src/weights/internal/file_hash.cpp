// SPDX-License-Identifier: Apache-2.0
// Hashing on all cores. Each task opens its file itself: a model may have more files than a process
// may hold open, and opening costs nothing beside 16 MiB of SHA-256.
#include "weights/internal/file_hash.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::weights {

namespace {

/// Bytes of one read: they stay in the second cache until they are hashed.
constexpr std::size_t kReadBytes = std::size_t{256} << 10;
/// Tasks of a thread between two reports of progress: a quarter of a second of our shards.
constexpr std::size_t kTasksThread = 32;

struct Task {
    const TreeFile* file = nullptr;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    Sha256Digest digest{};
    int error = 0;         // errno of a call that failed
    bool changed = false;  // the file is not the one that was listed
};

/// Tasks must not throw: what goes wrong stays in the task.
void hash_range(Task& task, std::vector<std::byte>& buffer) {
    const int fd = ::open(task.file->path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
        task.error = errno;
        return;
    }
    const auto is_same = [&] {
        struct stat status {};
        return ::fstat(fd, &status) == 0 && identity_from(status) == task.file->identity;
    };
    task.changed = !is_same();
    Sha256 hash;
    for (std::uint64_t at = task.begin; at < task.end && !task.changed && task.error == 0;) {
        const auto wanted = std::min<std::uint64_t>(buffer.size(), task.end - at);
        const ssize_t n = ::pread(fd, buffer.data(), wanted, static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) task.error = errno;
        if (n == 0) task.changed = true;  // it became shorter
        if (n <= 0) break;
        hash.update(std::span(buffer).first(static_cast<std::size_t>(n)));
        at += static_cast<std::uint64_t>(n);
    }
    task.digest = hash.finish();
    // A write during the reading has moved the change time.
    task.changed = task.changed || !is_same();
    ::close(fd);
}

std::vector<Task> tasks_of(const std::vector<const TreeFile*>& files, std::uint64_t shard_bytes) {
    std::vector<Task> tasks;
    for (const TreeFile* file : files) {
        const std::uint64_t size = file->identity.size;
        if (shard_bytes == 0) {
            tasks.push_back({file, 0, size});
            continue;
        }
        for (std::uint64_t begin = 0; begin < size; begin += shard_bytes)
            tasks.push_back({file, begin, std::min(size, begin + shard_bytes)});
    }
    return tasks;
}

void check(const Task& task) {
    const std::string name = printable(task.file->path.string());
    if (task.error != 0) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot read {}: {}", name, std::strerror(task.error)));
    }
    if (task.changed) {
        throw Error(ExitCode::invalid, fmt::format("{} was changed while it was read", name));
    }
}

}  // namespace

std::vector<std::vector<Sha256Digest>> hash_files(const std::vector<const TreeFile*>& files,
                                                  const HashOptions& options) {
    std::vector<Task> tasks = tasks_of(files, options.shard_bytes);
    std::uint64_t total_bytes = 0;
    for (const Task& task : tasks)
        total_bytes += task.end - task.begin;
    // Small models need no more threads than tasks.
    const auto n_threads = static_cast<std::size_t>(options.n_threads);
    ThreadPool pool(static_cast<int>(std::clamp<std::size_t>(tasks.size(), 1, n_threads)));
    std::vector<std::vector<std::byte>> buffers(n_threads);
    for (auto& buffer : buffers)
        buffer.resize(kReadBytes);
    std::uint64_t done_bytes = 0;
    const std::size_t wave = kTasksThread * n_threads;
    for (std::size_t first = 0; first < tasks.size(); first += wave) {
        const std::size_t n = std::min(wave, tasks.size() - first);
        pool.run(static_cast<int>(n), [&](int task, int thread) {
            hash_range(tasks[first + static_cast<std::size_t>(task)],
                       buffers[static_cast<std::size_t>(thread)]);
        });
        for (std::size_t i = first; i < first + n; ++i) {
            check(tasks[i]);
            done_bytes += tasks[i].end - tasks[i].begin;
        }
        if (options.progress) options.progress(done_bytes, total_bytes);
    }
    std::vector<std::vector<Sha256Digest>> digests(files.size());
    std::size_t next = 0;
    for (std::size_t i = 0; i < files.size(); ++i) {
        for (; next < tasks.size() && tasks[next].file == files[i]; ++next)
            digests[i].push_back(tasks[next].digest);
    }
    return digests;
}

}  // namespace etalon::weights
