// SPDX-License-Identifier: Apache-2.0
// What a worker gives up before it reads a model. The kernel keeps it then, whatever a model file
// or a prompt makes of the process.
//
//   const Sandbox sandbox = close_sandbox({.files = readable_files(model), .descriptors = {fd}});
//   ... open the model, start threads, ...
//   seal_sandbox(sandbox);      // nothing is opened and no thread starts from here on
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace etalon::worker {

/// One lock: closed, or why not.
struct Layer {
    std::string name;  ///< "seccomp"
    bool on = false;
    std::string detail;  ///< what it holds, or the reason why it is missing
};

struct SandboxOptions {
    std::vector<std::filesystem::path> files;  ///< may be opened for reading; nothing else
    std::vector<int> descriptors;              ///< stay open beside stderr
    /// Opens a card between the layers that need a process of one thread and those that close files
    /// and calls; true: one is open, and its driver is asked by ioctl from then on.
    std::function<bool()> open_card;
};

class Sandbox {
  public:
    explicit Sandbox(std::vector<Layer> layers) : layers_(std::move(layers)) {}

    const std::vector<Layer>& layers() const noexcept { return layers_; }
    bool is_on(const std::string& name) const noexcept;
    bool all_on() const noexcept;
    /// One line a layer: "seccomp: on (...)", "landlock: missing (...)".
    std::string text() const;

  private:
    std::vector<Layer> layers_;
};

/// Closes every layer that the kernel offers, in this order: descriptors, core dumps, network
/// namespace, capabilities, no new privileges, landlock, seccomp. The process has one thread; those
/// that it starts later inherit all of it. Called once.
///
/// With a card, the threads that its driver started are outside of landlock, and ioctl passes: what
/// is open then is the driver's, the socket and stderr, and the front gives the worker a session of
/// its own, so that no terminal takes commands from it. seccomp and its seal bind all threads.
///
/// seccomp answers EPERM to calls that the canaries try and that libraries try and live without
/// (sockets, exec, ptrace, io_uring, fork, opening for writing, ...), ENOSYS to clone3, whose flags
/// no filter can see, so that glibc falls back to clone; every other call that a worker does not
/// need kills the process.
Sandbox close_sandbox(const SandboxOptions& options);

/// A second filter over the first, in all threads: no file is opened and no thread is started any
/// more. Does nothing where seccomp is missing. Errors: failure (the kernel refuses).
void seal_sandbox(const Sandbox& sandbox);

/// The files behind a model's path: the file itself, or the folder's files where weights, index and
/// configuration lie side by side. Links are followed. Errors: not_found.
std::vector<std::filesystem::path> readable_files(const std::filesystem::path& model);

}  // namespace etalon::worker
