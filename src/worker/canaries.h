// SPDX-License-Identifier: Apache-2.0
// Attempts at what a worker must not be able to do, made from inside.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace etalon::worker {

struct Canary {
    std::string name;      ///< "connect"
    std::string layer;     ///< that refuses it: "seccomp", "landlock"
    bool expected = true;  ///< to be refused; false: a control that must work
    bool refused = false;  ///< EPERM or EACCES came back; anything else is no refusal
    std::string result;    ///< "EPERM", "it worked", "EBADF"

    bool as_expected() const noexcept { return refused == expected; }
};

/// `readable` is a file that the sandbox allows to read: the control. Call it behind
/// close_sandbox(); it leaves nothing behind, whatever works.
std::vector<Canary> try_canaries(const std::filesystem::path& readable);

/// Behind seal_sandbox(): what is refused from then on.
std::vector<Canary> try_sealed_canaries(const std::filesystem::path& readable);

}  // namespace etalon::worker
