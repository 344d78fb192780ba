// SPDX-License-Identifier: Apache-2.0
// A folder that goes with the test, and the requests that tests write.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>

#include "base/error.h"
#include "ledger/bundle.h"
#include "ledger/ledger.h"
#include "ledger/stamps.h"

namespace etalon::ledger {

inline constexpr std::size_t kBytesMax = 64 << 20;  // no file of a test is larger

class Folder {
  public:
    Folder();
    ~Folder();
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

/// The code of the Error that `act` throws, else ok.
ExitCode code_of(const std::function<void()>& act);

LedgerOptions options_in(const Folder& folder);
ModelLoad some_model();
RequestIntent some_request(std::uint64_t load, std::size_t n_parts = 1, std::uint64_t n = 1);
/// What a bundle needs beside the log, and a signature of each model.
EvidenceSource some_evidence();
/// A stamp that nobody signed: it names the digest of the note, which is what bundles look at.
Stamp some_stamp(std::uint64_t size, const std::string& note);
/// Text of answer k is "answer K of INDEX".
Completion some_completion(std::uint64_t intent, std::uint64_t n = 1);

}  // namespace etalon::ledger
